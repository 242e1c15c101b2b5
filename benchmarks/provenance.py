"""Seconds that questions about provenance take in a profile with thousands of single runs; one JSON line a figure.

``python benchmarks/provenance.py [--runs 3000] [--folder DIR] [--postgres]`` makes a profile in DIR, or takes the one
that is there. Its labelled flakes are single runs as SIESTA's are: job, structure, parameters, pseudopotentials, code,
folder, files and label. Their numbers are made up, which no question looks at; what comes after them, the joined sets,
the data set, the training and the prediction, is made by the processes themselves. Each question is asked as a
function (best of three, after one call) and as a command (a process of its own, best of three). The ways to walk the
graph are measured beside each other: level by level, as a query with ``with_ancestors`` or ``with_descendants`` (for a
pseudopotential, from both ends), and as the traversal of aiida-core. With ``--postgres``, the archive of the
profile is imported into PostgreSQL (one user ``aiida`` with the right to make databases, host and port by
``PGHOST``, ``PGPORT``), and the answers must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PROFILE = 'questions'
PART = 50


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=3000)
    parser.add_argument('--folder', type=Path, help='of the profile; a temporary one if absent')
    parser.add_argument('--postgres', action='store_true', help='ask the same questions on PostgreSQL')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='nanoml-') as temporary:
        folder = options.folder or Path(temporary)
        (folder / '.aiida').mkdir(parents=True, exist_ok=True)
        os.environ['AIIDA_PATH'] = str(folder)
        os.environ['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
        os.environ['OMP_NUM_THREADS'] = '1'
        from aiida import load_profile

        from aiida_nanoml.cli.installation import make_profile

        load_profile(make_profile(PROFILE).name)
        make_graph(options.runs)


def make_graph(count: int) -> None:
    """Make the runs and all that rests on them, unless it is there."""
    from aiida import orm
    from aiida.engine import run_get_node
    from aiida.plugins import CalculationFactory

    from aiida_nanoml.calculations.functions.datasets import assemble_dataset, split_dataset
    from aiida_nanoml.calculations.functions.structures import generate_flake_set
    from aiida_nanoml.calculations.local_worker import make_code, make_localhost
    from aiida_nanoml.cli.import_runs import FoundRun, collect

    if orm.QueryBuilder().append(orm.Node, filters={'label': 'predicted'}).count():
        return
    computer = make_localhost()
    worker = make_code(computer)
    flakes = generate_flake_set(orm.Dict({'family': 'h', 'size': 2, 'count': count, 'seed': 1}))
    unseen = generate_flake_set(orm.Dict({'family': 's', 'size': [9, 6], 'count': 300, 'seed': 2}))
    flakes.label, unseen.label = 'flakes', 'unseen'
    start = time.perf_counter()
    parts = store_runs(flakes, computer)
    print(json.dumps({'figure': 'runs stored', 's': round(time.perf_counter() - start, 1)}), file=sys.stderr)
    runs = [
        FoundRun(Path(name), Path(), name, hash=digest, part=part)
        for name, digest, part in zip(flakes.structures.names, flakes.structures.hashes, parts, strict=True)
    ]
    [made] = collect(runs, 'runs')
    descriptor = orm.Dict({'name': 'quadruplets', 'params': {'unknown': 'drop'}})
    rows = assemble_dataset(made.structures, made.labels, descriptor)
    dataset = split_dataset(rows, orm.Dict({}))
    dataset.label = 'gaps'
    trained, _ = run_get_node(CalculationFactory('nanoml.train'), code=worker, dataset=dataset, kind=orm.Str('ridge'))
    trained['model'].label = 'model'
    predicted, _ = run_get_node(
        CalculationFactory('nanoml.predict'), code=worker, model=trained['model'], structures=unseen
    )
    predicted['predictions'].label = 'predicted'


def store_runs(flakes: Any, computer: Any) -> list[tuple[int, int]]:
    """Store a finished run for each flake, as SIESTA leaves them; give the nodes of its structure and label."""
    from aiida import orm
    from aiida.common.links import LinkType

    from aiida_nanoml.calculations.functions.siesta import place_structures
    from aiida_nanoml.calculations.pseudopotentials import family_pseudos, install_family
    from aiida_nanoml.data.labels import LabelSetData
    from aiida_nanoml.engines import get_engine
    from aiida_nanoml.engines.base import Label
    from aiida_nanoml.engines.label_set import LabelSource
    from aiida_nanoml.engines.siesta.fdf import keywords
    from aiida_nanoml.worker.label import entry_of_label, tabulate

    family, _ = install_family()
    structures = flakes.structures
    pseudos = family_pseudos(family.label, {'B', 'C', 'H', 'N'})
    settings = get_engine('siesta').parameters('paper')
    general, basis = keywords(settings)
    shared = {
        'parameters': orm.Dict(general).store(),
        'basis': orm.Dict(basis).store(),
        'source': orm.Dict({'protocol': 'paper', 'parameters': settings.model_dump()}).store(),
        'code': orm.InstalledCode(label='siesta', computer=computer, filepath_executable='/opt/siesta').store(),
        **{f'pseudos__{element}': node for element, node in pseudos.items()},
    }
    source = LabelSource(
        'siesta',
        '4.1-b4-133',
        'LDA-CA/DZP (SIESTA)',
        'paper',
        settings.model_dump(),
        {element: node.md5 for element, node in pseudos.items()},
    )
    rng = np.random.default_rng(0)
    found = []
    for begin in range(0, len(structures), 2 * PART):
        rows = list(range(begin, min(begin + 2 * PART, len(structures))))
        placed = place_structures(flakes, orm.List(rows), orm.Float(10.0))
        for row, structure in zip(rows, placed.values(), strict=True):
            job = orm.CalcJobNode(computer=computer, process_type='aiida.calculations:nanoml.siesta')
            job.label = str(structures.names[row])
            job.set_process_label('SiestaCalculation')
            job.set_option('resources', {'num_machines': 1, 'num_mpiprocs_per_machine': 1})
            for name, node in {'structure': structure, **shared}.items():
                job.base.links.add_incoming(node, LinkType.INPUT_CALC, name)
            job.store()
            levels = np.sort(rng.normal(-5.0, 3.0, 400))
            label = Label.from_levels(-8000.0 + rng.normal(), levels, 200)
            made = tabulate(source, structures.select(np.array([row])), {0: entry_of_label(label, 30.0)})
            retrieved = orm.FolderData()
            retrieved.base.repository.put_object_from_bytes(f'{row} {levels}'.encode(), 'aiida.out')
            outputs = {
                'remote_folder': orm.RemoteData(remote_path=f'/scratch/{job.uuid}', computer=computer),
                'retrieved': retrieved,
                'output_parameters': orm.Dict({'E_KS': label.energy_ev, 'siesta:Version': 'v4.1-b4-133'}),
                'labels': LabelSetData(made),
            }
            for name, node in outputs.items():
                node.base.links.add_incoming(job, LinkType.CREATE, name)
                node.store()
            job.set_process_state('finished')
            job.set_exit_status(0)
            job.seal()
            found.append((structure.pk, outputs['labels'].pk))
    return found


if __name__ == '__main__':
    main()
