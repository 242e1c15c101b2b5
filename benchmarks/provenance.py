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
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PROFILE = 'questions'
PART = 50
N_ROUNDS = 18


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

        from aiida_nanoml.actions.installation import make_profile

        load_profile(make_profile(PROFILE).name)
        make_graph(options.runs)
        answers = ask('sqlite', options.runs)
        commands(options.runs, folder)
        ways(options.runs)
        if options.postgres:
            from aiida.tools.archive import create_archive

            archive = folder / 'everything.aiida'
            if not archive.exists():
                create_archive(None, filename=archive)
            load_profile(postgres_profile(archive), allow_switch=True)
            same = {name: answer == answers[name] for name, answer in ask('postgres', options.runs).items()}
            tell('answers of both databases are equal', options.runs, **same)


def tell(figure: str, runs: int, **values: Any) -> None:
    """Print a line."""
    print(json.dumps({'benchmark': 'provenance', 'figure': figure, 'runs': runs} | values), flush=True)


def best(function: Callable[[], Any], repeat: int = 3) -> tuple[float, Any]:
    """Call a function once, and then some times: the shortest of these, and what it gave."""
    result, walls = function(), []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        walls.append(time.perf_counter() - start)
    return round(min(walls), 3), result


def ask(database: str, runs: int) -> dict[str, Any]:
    """Time each question as a function; give the answers without PKs, which differ between profiles."""
    from aiida_nanoml.provenance.audit import audit
    from aiida_nanoml.provenance.lineage import lineage_table, trace
    from aiida_nanoml.provenance.taint import taint, taint_version

    predicted, model, carbon, code = labelled('predicted'), labelled('model'), pseudopotential(), labelled('siesta')
    questions: dict[str, Callable[[], Any]] = {
        'trace prediction': lambda: trace(predicted).to_dict(),
        'trace model': lambda: trace(model).to_dict(),
        'table of prediction': lambda: lineage_table(predicted),
        'taint pseudopotential': lambda: taint(carbon).to_dict(),
        'taint code': lambda: taint(code).to_dict(),
        'taint run': lambda: taint(first_run()).to_dict(),
        'taint version': lambda: taint_version('siesta', '4.1-b4-133').to_dict(),
        'audit prediction': lambda: audit(predicted).to_dict(),
    }
    answers = {}
    for name, question in questions.items():
        seconds, answer = best(question)
        tell(name, runs, database=database, s=seconds)
        answers[name] = without_pks(json.loads(json.dumps(answer)))
    return answers


def without_pks(answer: Any) -> Any:
    """Leave out the PKs of an answer."""
    if isinstance(answer, dict):
        return {key: without_pks(value) for key, value in answer.items() if key != 'pk'}
    if isinstance(answer, list):
        return [without_pks(value) for value in answer]
    return re.sub(r'pk \d+', 'pk', answer) if isinstance(answer, str) else answer


def commands(runs: int, folder: Path) -> None:
    """Time whole commands, each a process of its own."""
    asked = {
        'trace': ('predicted',),
        'taint': (pseudopotential().uuid,),
        'audit': ('predicted',),
        'compare': ('--all',),
        'publish': ('predicted', '-o', str(folder / 'published')),
    }
    program = str(Path(sys.executable).with_name('aiida-nanoml'))
    for name, arguments in asked.items():
        walls = []
        for _ in range(1 if name == 'publish' else 3):
            shutil.rmtree(folder / 'published', ignore_errors=True)
            start = time.perf_counter()
            found = subprocess.run([program, name, *arguments], check=False, capture_output=True)  # noqa: S603
            walls.append(time.perf_counter() - start)
        tell(f'command {name}', runs, s=round(min(walls), 2), exit_status=found.returncode)


def ways(runs: int) -> None:
    """Time the ways from a prediction back to its runs, and from a pseudopotential on to the predictions."""
    from aiida import orm
    from aiida.common.links import LinkType
    from aiida.tools.graph.graph_traversers import traverse_graph

    from aiida_nanoml.provenance.graph import walk

    predicted, carbon = labelled('predicted'), pseudopotential()
    job, prediction = {'process_type': 'aiida.calculations:nanoml.siesta'}, 'data.nanoml.prediction.'
    this, that = {'id': predicted.pk}, {'id': carbon.pk}
    links = [LinkType.CREATE, LinkType.INPUT_CALC]

    def query(*parts: tuple[Any, dict[str, Any], str]) -> Any:
        built = orm.QueryBuilder()
        for number, (kind, filters, relation) in enumerate(parts):
            joined = {relation: f'part{number - 1}'} if relation else {}
            built.append(
                kind, filters=filters, tag=f'part{number}', project=None if 'id' in filters else 'id', **joined
            )
        return len(built.distinct().all())

    kind = {'node_type': {'like': f'{prediction}%'}}
    back = {
        'level by level': lambda: len({pk for link in walk([predicted.pk], forward=False) for pk in link[:2]}),
        'traverse_graph': lambda: len(
            traverse_graph([predicted.pk], links_backward=links, get_links=True)['nodes'] or ()
        ),
        'prediction first, with_descendants': lambda: query(
            (orm.Data, this, ''), (orm.CalcJobNode, job, 'with_descendants')
        ),
        'runs first, with_ancestors': lambda: query((orm.CalcJobNode, job, ''), (orm.Data, this, 'with_ancestors')),
    }
    on = {
        'level by level': lambda: len({pk for link in walk([carbon.pk], forward=True) for pk in link[:2]}),
        'traverse_graph': lambda: len(traverse_graph([carbon.pk], links_forward=links, get_links=True)['nodes'] or ()),
        'pseudopotential first, with_ancestors': lambda: query(
            (orm.Data, that, ''), (orm.Data, kind, 'with_ancestors')
        ),
        'predictions first, with_descendants': lambda: query(
            (orm.Data, kind, ''), (orm.Data, that, 'with_descendants')
        ),
    }
    last = rounds(N_ROUNDS)
    back_in_rounds = {
        'level by level': lambda: len({pk for link in walk([last], forward=False) for pk in link[:2]}),
        'with_descendants': lambda: query((orm.Data, {'id': last}, ''), (orm.CalcFunctionNode, {}, 'with_descendants')),
    }
    for question, found in (
        ('back to the runs', back),
        ('on to the predictions', on),
        (f'back through {N_ROUNDS} rounds', back_in_rounds),
    ):
        for way, function in found.items():
            seconds, number = best(function, repeat=1)
            tell(f'{question}: {way}', runs, s=seconds, rows=number)


def rounds(count: int) -> int:
    """Store rounds that use the results of the round before twice, as active learning does; give the last result."""
    from aiida import orm
    from aiida.common.links import LinkType

    last = orm.Int(0).store()
    for _ in range(count):
        process = orm.CalcFunctionNode()
        for label in ('structures', 'labels'):
            process.base.links.add_incoming(last, LinkType.INPUT_CALC, label)
        process.store()
        last = orm.Int(0)
        last.base.links.add_incoming(process, LinkType.CREATE, 'result')
        last.store()
    return int(last.pk)


def labelled(label: str) -> Any:
    """Give the first node of a label."""
    from aiida import orm

    return orm.QueryBuilder().append(orm.Node, filters={'label': label}).first(flat=True)


def pseudopotential() -> Any:
    """Give the pseudopotential of carbon."""
    from aiida import orm
    from aiida_pseudo.data.pseudo.psf import PsfData

    return orm.QueryBuilder().append(PsfData, filters={'attributes.element': 'C'}).first(flat=True)


def first_run() -> Any:
    """Give the run of the first flake."""
    from aiida import orm

    run = {'process_type': 'aiida.calculations:nanoml.siesta'}
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters=run, tag='run').order_by({'run': {'ctime': 'asc'}})
    return query.first(flat=True)


def postgres_profile(archive: Path) -> str:
    """Make a profile with PostgreSQL that holds the archive, unless it is there."""
    from aiida import load_profile
    from aiida.manage.configuration import create_profile, get_config
    from aiida.tools.archive import import_archive

    config, name = get_config(), f'{PROFILE}-postgres'
    if name in config.profile_names:
        return name
    server = {'host': os.environ.get('PGHOST', 'localhost'), 'port': os.environ.get('PGPORT', '5432')}
    database = f'nanoml_{os.getpid()}'
    create = [
        shutil.which('createdb') or 'createdb',
        '-h',
        server['host'],
        '-p',
        server['port'],
        '-U',
        'aiida',
        database,
    ]
    subprocess.run(create, check=True)  # noqa: S603
    storage = {
        'database_engine': 'postgresql_psycopg',
        'database_hostname': server['host'],
        'database_port': int(server['port']),
        'database_username': 'aiida',
        'database_password': os.environ.get('PGPASSWORD', ''),
        'database_name': database,
        'repository_uri': f'file://{config.dirpath}/{name}',
    }
    create_profile(config, name=name, email='aiida@localhost', storage_backend='core.psql_dos', storage_config=storage)
    load_profile(name, allow_switch=True)
    import_archive(archive)
    return name


def make_graph(count: int) -> None:
    """Make the runs and all that rests on them, unless it is there."""
    from aiida import orm
    from aiida.engine import run_get_node
    from aiida.plugins import CalculationFactory

    from aiida_nanoml.calculations.functions.datasets import assemble_dataset, split_dataset
    from aiida_nanoml.calculations.functions.structures import generate_flake_set
    from aiida_nanoml.calculations.importers.runs import FoundRun
    from aiida_nanoml.calculations.importers.sets import collect
    from aiida_nanoml.calculations.local_worker import make_code, make_localhost

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
    from aiida_nanoml.engines.siesta.fdf_writing import to_keywords
    from aiida_nanoml.worker.labelled_rows import LabelledRow, tabulate

    family, _ = install_family()
    structures = flakes.structures
    pseudos = family_pseudos(family.label, {'B', 'C', 'H', 'N'})
    settings = get_engine('siesta').parameters('paper')
    general, basis = to_keywords(settings)
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
            made = tabulate(source, structures.select(np.array([row])), {0: LabelledRow.from_label(label, 30.0)})
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
