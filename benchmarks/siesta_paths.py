"""One set of flakes through SIESTA on four ways: a bare shell loop, a batch, single runs, and imports of the loop.

Prints one JSON line: wall time of the batch against the loop, nodes of each way, rates of the imports, milliseconds to
read a finished run, and the largest difference between the gaps. One run at a time on every way. Usage:
``python benchmarks/siesta_paths.py SIESTA [COUNT]``, with the serial executable of SIESTA (default: 20 flakes).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROTOCOL = 'paper'


def main(executable: Path, count: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix='nanoml-') as folder:
        os.environ['AIIDA_PATH'] = folder
        os.environ['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
        os.environ.update(dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'), '1'))
        from aiida_nanoml.structures import FlakeParameters, generate_flakes

        structures = generate_flakes(FlakeParameters(family='z', size=2, count=count, seed=1))
        runs = Path(folder) / 'runs'
        loop_s = shell_loop(executable, structures, runs)
        result = {'read_ms': round(read_ms(runs), 1), **aiida_ways(executable, structures, runs)}
    print(
        json.dumps(
            {
                'benchmark': 'siesta_paths',
                'protocol': PROTOCOL,
                'structures': count,
                'loop_s': round(loop_s, 1),
                'batch_over_loop': round(result['batch_s'] / loop_s, 3),
                **result,
            }
        )
    )


def shell_loop(executable: Path, structures: Any, runs: Path) -> float:
    """Run SIESTA for one structure after the other, and return the seconds."""
    from aiida_nanoml.engines.pseudopotentials import bundled
    from aiida_nanoml.engines.siesta.engine import SiestaEngine
    from aiida_nanoml.engines.siesta.fdf_writing import write_fdf

    parameters = SiestaEngine.parameters(PROTOCOL)
    for structure, name in zip(structures, structures.names, strict=True):
        run = runs / str(name)
        run.mkdir(parents=True)
        (run / 'aiida.fdf').write_text(write_fdf(structure, parameters), encoding='ascii')
        for element in 'HBCN':
            shutil.copy(bundled()[element], run)
    script = 'for run in "$1"/*/; do (cd "$run" && "$2" < aiida.fdf > aiida.out); done'
    start = time.perf_counter()
    subprocess.run(['sh', '-c', script, 'sh', runs, executable], check=True)  # noqa: S603, S607
    return time.perf_counter() - start


def read_ms(runs: Path) -> float:
    """Read every finished run, and return the mean milliseconds of one."""
    from aiida_nanoml.engines.siesta.output import read_run

    folders = list(runs.iterdir())
    start = time.process_time()
    for folder in folders:
        read_run(lambda name, folder=folder: (folder / name).read_text() if (folder / name).is_file() else None)
    return 1e3 * (time.process_time() - start) / len(folders)


def aiida_ways(executable: Path, structures: Any, runs: Path) -> dict[str, Any]:
    """Label the same structures in a batch and in single runs, import the loop, and compare."""
    import numpy as np
    from aiida import load_profile, orm

    from aiida_nanoml.actions.installation import make_profile, start_daemon, stop_daemon
    from aiida_nanoml.calculations.local_worker import make_code, make_localhost
    from aiida_nanoml.calculations.pseudopotentials import install_family
    from aiida_nanoml.data.structures import StructureSetData

    profile = load_profile(make_profile('benchmark').name)
    code = make_code(make_localhost())
    siesta = orm.InstalledCode(
        label='siesta', computer=code.computer, filepath_executable=str(executable), with_mpi=False
    ).store()
    install_family()
    node = StructureSetData(structures).store()
    start_daemon(profile)
    gaps, result = {}, {}
    try:
        for mode in ('batch', 'single'):
            before = orm.QueryBuilder().append(orm.Node).count()
            start = time.perf_counter()
            labels = label(code, siesta, node, mode)
            result[f'{mode}_s'] = round(time.perf_counter() - start, 1)
            n_nodes = orm.QueryBuilder().append(orm.Node).count() - before
            result[f'{mode}_nodes_per_1000'] = round(1000 * n_nodes / len(structures))
            gaps[mode] = gaps_by_hash(labels)
    finally:
        stop_daemon(profile)
    for mode, way in (('import_batch', ('--batch-size', '100')), ('import_single', ('--single',))):
        for run in runs.iterdir():  # what was imported is recognised by its content
            with (run / 'aiida.fdf').open('a', encoding='ascii') as handle:
                handle.write(f'# {mode}\n')
        start = time.perf_counter()
        labels = import_runs(runs, way)
        result[f'{mode}_per_s'] = round(len(structures) / (time.perf_counter() - start), 2)
        gaps[mode] = gaps_by_hash(labels)
    table = np.array([[gaps[way][digest] for digest in structures.hashes.tolist()] for way in gaps])
    return result | {'largest_difference_ev': float(np.ptp(table, axis=0).max())}


def label(code: Any, siesta: Any, node: Any, mode: str) -> Any:
    """Submit the labelling of all structures, wait for it, and return the labels."""
    from aiida.engine import submit

    from aiida_nanoml.workflows.label import LabelWorkChain

    overrides = {'mode': mode, 'max_concurrent': 1}
    process = submit(
        LabelWorkChain.get_builder_from_protocol(code, node, 'siesta', PROTOCOL, overrides, engine_code=siesta)
    )
    while not process.is_terminated:
        time.sleep(0.2)
    if not process.is_finished_ok:
        raise SystemExit(f'labelling failed: {process.exit_message}')
    return process.outputs.labels


def import_runs(folder: Path, way: tuple[str, ...]) -> Any:
    """Import finished runs with the command line, and return the labels."""
    from aiida import orm
    from click.testing import CliRunner

    from aiida_nanoml.cli import root

    done = CliRunner().invoke(root, ['siesta', 'import', str(folder), *way, '--json'])
    if done.exit_code:
        raise SystemExit(f'the import failed: {done.output}')
    return orm.load_node(json.loads(done.stdout)['labels'])


def gaps_by_hash(labels: Any) -> dict[str, float]:
    """Give the gaps in eV by the hash of the structure."""
    found = labels.labels
    return dict(zip(found.hashes.tolist(), found.energies['gap_ev'].tolist(), strict=True))


if __name__ == '__main__':
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
