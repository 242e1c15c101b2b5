"""Cost of provenance: labelling through the daemon against the bare engine, same flakes, same cores.

Prints one JSON line. Usage: ``python benchmarks/labelling_overhead.py [COUNT]`` (flakes of each family, default 100).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CORES = len(os.sched_getaffinity(0))
PROTOCOL = 'balanced'


def main(count: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix='nanoml-') as folder:
        os.environ['AIIDA_PATH'] = folder
        os.environ['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
        os.environ['OMP_NUM_THREADS'] = '1'
        from aiida_nanoml.structures import FlakeParameters, StructureSet, generate_flakes

        structures = StructureSet.concatenate(
            [
                generate_flakes(FlakeParameters(family=family, size=size, count=count, seed=1))
                for family, size in (('h', 2), ('s', (9, 6)))
            ]
        )
        bare = bare_wall(structures)
        daemon, n_nodes = daemon_wall(structures)
    result = {
        'benchmark': 'labelling_overhead',
        'engine': 'xtb',
        'protocol': PROTOCOL,
        'structures': len(structures),
        'cores': CORES,
        'bare_s': round(bare, 2),
        'daemon_s': round(daemon, 2),
        'ratio': round(daemon / bare, 3),
        'nodes': n_nodes,
    }
    print(json.dumps(result))


def bare_wall(structures: Any) -> float:
    """Evaluate the structures in a plain pool of processes, and return the seconds."""
    start = time.perf_counter()
    with multiprocessing.Pool(CORES) as pool:
        pool.map(evaluate, list(structures), chunksize=1)
    return time.perf_counter() - start


def evaluate(structure: Any) -> float:
    """Evaluate one structure with the engine alone."""
    from aiida_nanoml.engines.registry import get_engine

    engine = get_engine('xtb')
    return engine(engine.parameters(PROTOCOL)).evaluate(structure).gap_ev


def daemon_wall(structures: Any) -> tuple[float, int]:
    """Submit the workflow, wait for it, and return the seconds and the nodes that it made."""
    from aiida import load_profile, orm
    from aiida.engine import submit

    from aiida_nanoml.actions.installation import make_profile, start_daemon, stop_daemon
    from aiida_nanoml.calculations.local_worker import make_code, make_localhost
    from aiida_nanoml.data.structures import StructureSetData
    from aiida_nanoml.workflows.label import LabelWorkChain

    profile = load_profile(make_profile('benchmark').name)
    code = make_code(make_localhost())
    start_daemon(profile)
    try:
        node = StructureSetData(structures).store()
        before = orm.QueryBuilder().append(orm.Node).count()
        jobs = {'batch_size': -(-len(structures) // (2 * CORES)), 'max_concurrent': 2 * CORES}
        builder = LabelWorkChain.get_builder_from_protocol(code, node, 'xtb', PROTOCOL, overrides=jobs)
        start = time.perf_counter()
        process = submit(builder)
        while not process.is_terminated:
            time.sleep(0.2)
        wall = time.perf_counter() - start
        if not process.is_finished_ok:
            raise SystemExit(f'labelling failed: {process.exit_message}')
        return wall, orm.QueryBuilder().append(orm.Node).count() - before
    finally:
        stop_daemon(profile)


if __name__ == '__main__':
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
