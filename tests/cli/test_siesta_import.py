"""``aiida-nanoml siesta import``: recorded runs of SIESTA, as folders that were made without AiiDA."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_nanoml.actions.imported_runs import ImportedRuns
from aiida_nanoml.calculations.importers.sets import ImportedSet
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.provenance.lineage import trace
from aiida_nanoml.structures import StructureSet
from tests.engines.test_siesta_any_folder import relax, unpack
from tests.stand_in.fixtures import recorded_runs

FLAKES = recorded_runs('flake')
NAMES = ('h-0000', 's-0000', 'z-bare')
FAILED = ('atoms-too-close', 'scf-not-converged')


@pytest.fixture
def runs(aiida_profile_clean, tmp_path: Path) -> Path:
    """A tree with three finished runs and two failed ones."""
    root = tmp_path / 'runs'
    for name in NAMES:
        FLAKES[name].unpack(root / 'flakes')
    for name in FAILED:
        recorded_runs()[name].unpack(root / 'failed')
    return root


def processes() -> int:
    return orm.QueryBuilder().append(orm.ProcessNode).count()


def by_name(answer: dict) -> dict[str, dict]:
    return {Path(run['folder']).name: run for run in answer['runs']}


@pytest.mark.parametrize('mode', [['--single'], ['--batch-size', '2']], ids=['single', 'batch'])
def test_finished_runs_are_imported_once(runs, cli_json, mode):
    first = cli_json('siesta', 'import', runs, '--family-from-name', '--name', 'dft', *mode)
    assert first['counts'] == {'imported': 3, 'present': 0, 'skipped': 2}
    found = by_name(first)
    for name in NAMES:
        assert found[name]['status'] == 'imported'
        assert found[name]['gap_ev'] == pytest.approx(FLAKES[name].about['gap_ev'], abs=1e-6)
        assert found[name]['n_atoms'] == len(FLAKES[name].structure)
        assert orm.load_node(found[name]['uuid']).is_finished_ok
    assert len({found[name]['uuid'] for name in NAMES}) == (3 if mode == ['--single'] else 2)
    for name, word in zip(FAILED, ('Å apart', 'no self-consistency'), strict=True):
        assert found[name]['status'] == 'skipped'
        assert word in found[name]['reason']
        assert (found[name]['uuid'], found[name]['gap_ev']) == (None, None)
    structures, labels = orm.load_node(first['structures']), orm.load_node(first['labels'])
    assert (structures.label, labels.label) == ('dft-structures', 'dft-labels')
    assert structures.structures.names.tolist() == [f'flakes/{name}' for name in NAMES]
    assert structures.structures.families.tolist() == ['h', 's', 'z']
    assert structures.structures.hashes.tolist() == labels.labels.hashes.tolist()

    number = processes()
    second = cli_json('siesta', 'import', runs, '--family-from-name', *mode)
    assert second['counts'] == {'imported': 0, 'present': 3, 'skipped': 2}
    assert (second['structures'], second['labels']) == (first['structures'], first['labels'])
    again = by_name(second)
    assert {name: again[name]['uuid'] for name in NAMES} == {name: found[name]['uuid'] for name in NAMES}
    assert {name: again[name]['gap_ev'] for name in NAMES} == {name: found[name]['gap_ev'] for name in NAMES}
    assert processes() == number


def test_saved_densities_are_imported_once(aiida_profile_clean, cli, cli_json, tmp_path):
    recorded_runs()['methanimine'].unpack(tmp_path / 'runs')
    FLAKES['h-0000'].unpack(tmp_path / 'runs')
    labels = cli_json('siesta', 'import', tmp_path / 'runs')
    assert [made['densities'] for made in labels['sets']] == [None, None]
    first = cli_json('siesta', 'import', tmp_path / 'runs', '--densities', '--name', 'dft')
    [made] = [made for made in first['sets'] if made['densities']]
    densities = orm.load_node(made['densities']['uuid'])
    assert densities.label.startswith('dft-densities')
    assert densities.hashes.tolist() == orm.load_node(made['structures']['uuid']).structures.hashes.tolist()
    assert densities.label_source.compatible(orm.load_node(made['labels']['uuid']).label_source)
    assert densities.electrons == pytest.approx([12], rel=1e-3)
    [origin] = trace(densities).labelling
    assert [(job.type, job.imported) for job in origin.jobs] == [('import_siesta_densities', str(tmp_path / 'runs'))]
    number = processes()
    again = cli_json('siesta', 'import', tmp_path / 'runs', '--densities')
    assert {made['densities']['uuid'] for made in again['sets'] if made['densities']} == {densities.uuid}
    assert processes() == number
    refused = cli('siesta', 'import', tmp_path / 'runs' / 'h-0000', '--densities', status=1)
    assert 'SaveRho T and SaveDeltaRho T' in refused.stderr


def test_both_ways_give_the_same_labels(runs, cli_json):
    """Sets of both can be merged; a run that is there in one way is not imported in the other."""
    single = cli_json('siesta', 'import', runs / 'flakes' / 'h-0000', '--single')
    rest = cli_json('siesta', 'import', runs / 'flakes', '--batch-size', '10')
    assert rest['counts'] == {'imported': 2, 'present': 1, 'skipped': 0}
    assert by_name(rest)['h-0000']['uuid'] == single['runs'][0]['uuid']
    assert len(rest['sets']) == 1, 'one source'
    batch = orm.load_node(by_name(rest)['s-0000']['uuid'])
    alone, together = orm.load_node(single['labels']), batch.outputs.labels
    assert alone.label_source.compatible(together.label_source)
    assert set(alone.arrays) == set(together.arrays)
    merged = orm.load_node(rest['labels']).labels
    assert merged.finished.all()
    assert len(merged) == 3
    assert len(merged.vectors['levels_ev'][0]) > 60
    assert len(merged.vectors['forces_ev_per_ang'][0]) == 180


def test_sets_lead_back_to_every_run(runs, cli_json):
    answer = cli_json('siesta', 'import', runs / 'flakes', '--single')
    for kind in ('structures', 'labels'):
        lineage = trace(orm.load_node(answer[kind]))
        (origin,) = lineage.labelling
        assert {job.uuid for job in origin.jobs} == {run['uuid'] for run in answer['runs']}
        assert (origin.engine, origin.version, origin.protocol) == ('siesta', '4.1-b4-133', 'paper')
        assert origin.pseudopotentials.keys() == {'B', 'C', 'H', 'N'}
        assert Path(origin.jobs[0].imported).parent == runs / 'flakes'
    built = cli_json('dataset', 'build', answer['structures'], '--labels', answer['labels'], '--no-by-family')
    assert built['n_rows'] == 3
    kinds = Counter(type(node).__name__ for node in orm.QueryBuilder().append(orm.Node).all(flat=True))
    assert kinds['CalcJobNode'] == 3
    node = orm.load_node(answer['runs'][0]['uuid'])
    own = {link.node.pk for link in node.base.links.get_outgoing(link_type=LinkType.CREATE).all()}
    assert len(own) <= 5, 'each run costs few nodes'


def test_settings_that_differ_give_sets_of_their_own(runs, cli_json, cli):
    recorded_runs()['scf-oscillates-recovered'].unpack(runs / 'flakes')
    answer = cli_json('siesta', 'import', runs / 'flakes', '--batch-size', '10', '--name', 'x')
    assert [made['labels']['n_rows'] for made in answer['sets']] == [3, 1]
    assert [made['source']['protocol'] for made in answer['sets']] == ['paper', 'custom']
    assert [made['labels']['label'] for made in answer['sets']] == ['x-labels', 'x-labels-2']
    assert answer['labels'] == answer['sets'][0]['labels']['uuid']


def test_a_box_of_one_size_needs_a_common_vacuum(runs, cli, cli_json, tmp_path):
    """A box that does not follow the flake makes a vacuum of its own for each; the user can declare one."""
    for name, height in (('h-0000', '10.0000000000'), ('z-bare', '10.0000000000')):
        folder = runs / 'flakes' / name
        for file in ('aiida.fdf', 'aiida.out'):
            path = folder / file
            taller = height.replace('10.0', '12.0') if name == 'z-bare' else height
            lattice = f'{height}\n%endblock lattice-vectors'
            path.write_text(path.read_text(encoding='utf-8').replace(lattice, lattice.replace(height, taller)))
    for axis in (0, 1):
        widen(runs / 'flakes' / 'z-bare', axis)
    print_cell(runs / 'flakes' / 'z-bare')
    shutil.rmtree(runs / 'flakes' / 's-0000')
    text = cli('siesta', 'import', runs / 'flakes', '--batch-size', '5').stdout
    assert '--vacuum 10 puts them together' in text
    shutil.rmtree(runs / 'failed')
    fresh = tmp_path / 'fresh'
    shutil.copytree(runs, fresh)
    for path in fresh.rglob('MESSAGES'):
        path.write_text(path.read_text(encoding='utf-8') + 'INFO: a copy\n', encoding='utf-8')
    answer = cli_json('siesta', 'import', fresh, '--batch-size', '5', '--vacuum', '10')
    assert len(answer['sets']) == 1
    assert answer['sets'][0]['source']['protocol'] == 'paper'


def widen(folder: Path, axis: int) -> None:
    """Make the box of a run 2 Å longer, in its input and in the copy of it in its output."""
    for file in ('aiida.fdf', 'aiida.out'):
        lines = (folder / file).read_text(encoding='utf-8').splitlines()
        start = lines.index('%block lattice-vectors') + 1 + axis
        numbers = [float(word) for word in lines[start].split()]
        numbers[axis] += 2.0
        lines[start] = ' '.join(f'{number:18.10f}' for number in numbers)
        (folder / file).write_text('\n'.join(lines) + '\n', encoding='utf-8')


def print_cell(folder: Path) -> None:
    """Put the cell of the input where the output prints the one that was computed."""
    lines = (folder / 'aiida.fdf').read_text(encoding='utf-8').splitlines()
    start = lines.index('%block lattice-vectors') + 1
    cell = [[float(word) for word in line.split()] for line in lines[start : start + 3]]
    printed = (folder / 'aiida.out').read_text(encoding='utf-8').splitlines()
    start = printed.index('outcell: Unit cell vectors (Ang):') + 1
    printed[start : start + 3] = ['    ' + ''.join(f'{number:12.6f}' for number in row) for row in cell]
    (folder / 'aiida.out').write_text('\n'.join(printed) + '\n', encoding='utf-8')


def test_equal_folders_are_one_run(runs, cli_json):
    shutil.copytree(runs / 'flakes' / 'z-bare', runs / 'copy')
    answer = cli_json('siesta', 'import', runs / 'flakes' / 'z-bare', runs / 'copy')
    assert [run['status'] for run in answer['runs']] == ['imported', 'present']
    assert len({run['uuid'] for run in answer['runs']}) == 1
    assert answer['sets'][0]['structures']['n_structures'] == 1


def test_a_parser_that_fails_leaves_nothing(runs, cli_json):
    """A run that passes for finished, but whose XML is cut, is not imported by halves."""
    path = runs / 'flakes' / 'h-0000' / 'aiida.xml'
    path.write_text(path.read_text(encoding='utf-8')[:5000], encoding='utf-8')
    answer = cli_json('siesta', 'import', runs / 'flakes' / 'h-0000', '--single', status=1)
    (run,) = answer['runs']
    assert run['status'] == 'skipped'
    assert 'exit status' in run['reason']
    assert processes() == 0
    assert orm.QueryBuilder().append(orm.RemoteData).count() == 0
    assert cli_json('siesta', 'import', runs / 'flakes' / 'h-0000', '--batch-size', '1')['counts']['imported'] == 1


def test_no_runs_is_an_error_and_only_failed_ones_are_none(runs, cli, cli_json, tmp_path):
    (tmp_path / 'empty').mkdir()
    assert 'there is no run in' in cli('siesta', 'import', tmp_path / 'empty', status=1).output
    answer = cli_json('siesta', 'import', runs / 'failed', status=1)
    assert (answer['uuid'], answer['sets']) == (None, [])
    assert {run['status'] for run in answer['runs']} == {'skipped'}
    text = cli('siesta', 'import', runs / 'failed', status=1).stdout
    assert 'atoms-too-close' in text
    assert 'next:' not in text
    assert 'no family of pseudopotentials' in cli('siesta', 'import', runs, '--pseudo-family', 'x', status=1).output
    assert cli('siesta', 'import', runs, '--single', '--batch-size', '3', status=2)


def test_an_import_that_was_killed_goes_on(runs, cli_json, aiida_profile_clean):
    """Killed in the middle: what is there is whole, and the rest is imported by the next call."""
    program = [sys.executable, '-c', 'from aiida_nanoml.cli import main; main()']
    command = [*program, '-p', aiida_profile_clean.name, 'siesta', 'import', str(runs / 'flakes'), '--single']
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ.copy()) as process:
        for line in process.stderr:
            if 'importing 1/' in line:
                process.send_signal(signal.SIGKILL)
                break
    finished = orm.QueryBuilder().append(orm.CalcJobNode, filters={'attributes.exit_status': 0}).count()
    assert 1 <= finished < len(NAMES)
    answer = cli_json('siesta', 'import', runs / 'flakes', '--single')
    assert answer['counts'] == {'imported': 3 - finished, 'present': finished, 'skipped': 0}
    gaps = orm.load_node(answer['labels']).labels.energies['gap_ev']
    assert np.allclose(sorted(gaps), sorted(FLAKES[name].about['gap_ev'] for name in NAMES), atol=1e-6)


def test_json_is_one_object_under_verdi_too(runs, aiida_profile_clean):
    command = ['verdi', '-p', aiida_profile_clean.name, 'data', 'nanoml', 'siesta', 'import']
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:], str(runs / 'flakes' / 'z-bare'), '--json'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)['counts']['imported'] == 1


def test_the_usual_way_takes_everything_that_can_be_taken(runs, cli_json, cli, tmp_path):
    """A plain folder without XML, one without levels, and one with an unreadable force, which stops no other."""
    methane = unpack('ch4', runs / 'flakes' / 'ch4')
    assert 'leave out --single' in cli('siesta', 'import', methane, '--single', status=1).stdout
    (unpack('al', runs / 'flakes' / 'no-levels') / 'al.EIG').unlink()
    path = runs / 'flakes' / 'h-0000' / 'aiida.out'
    text = path.read_text(encoding='utf-8')
    row = text.rindex('siesta:     11 ')
    path.write_text(f'{text[: row + 15]}************{text[row + 27 :]}', encoding='utf-8')
    answer = cli_json('siesta', 'import', runs, '--name', 'all')
    assert answer['counts'] == {'imported': 4, 'present': 0, 'skipped': 3}
    found = by_name(answer)
    assert found['ch4']['gap_ev'] == pytest.approx(16.28794, abs=1e-5)
    assert (found['ch4']['n_atoms'], found['ch4']['reason']) == (5, None)
    assert found['no-levels']['status'] == 'imported'
    assert found['no-levels']['gap_ev'] is None
    assert 'the gap is not known' in found['no-levels']['reason']
    assert "'************'" in found['h-0000']['reason']
    assert [made['labels']['n_rows'] for made in answer['sets']] == [2, 1, 1]
    text = cli('siesta', 'import', methane, runs / 'flakes' / 'no-levels').stdout
    assert '1 gaps, 16.288 to 16.288 eV' in text
    assert '0 gaps, 1 unknown' in text
    again = by_name(cli_json('siesta', 'import', runs / 'flakes'))
    assert {name: again[name]['gap_ev'] for name in again} == {name: found[name]['gap_ev'] for name in again}


def test_every_step_of_a_relaxation_is_imported_where_it_is_wanted(aiida_profile_clean, cli, cli_json, tmp_path):
    relax(unpack('ch4', tmp_path / 'relaxed'), 'Relaxed')
    last = cli_json('siesta', 'import', tmp_path)
    assert (last['counts']['imported'], last['sets'][0]['labels']['n_rows']) == (1, 1)
    every = cli_json('siesta', 'import', tmp_path, '--every-step', '--name', 'md')
    assert (every['counts']['present'], len(every['runs'])) == (1, 1)
    structures, labels = orm.load_node(every['structures']).structures, orm.load_node(every['labels']).labels
    assert structures.names.tolist() == ['relaxed', 'relaxed/step-0']
    assert np.isnan(labels.energies['gap_ev']).tolist() == [False, True]
    number = processes()
    again = cli_json('siesta', 'import', tmp_path, '--every-step')
    assert (again['structures'], processes()) == (every['structures'], number)
    assert cli('siesta', 'import', tmp_path, '--every-step', '--single', status=2)


def raise_empty_levels(folder: Path, by: float) -> None:
    """Raise all levels above the Fermi level in the file of levels, and in the XML file."""
    head, numbers, levels = (folder / 'aiida.EIG').read_text().split('\n', 2)

    def raised(word: re.Match[str]) -> str:
        level = float(word[0])
        return f'{level + by * (level > float(head)):.9E}'

    number = r'[-+]?\d\.\d+E[-+]\d+'
    (folder / 'aiida.EIG').write_text(f'{head}\n{numbers}\n{re.sub(number, raised, levels)}')
    before, heading, after = (folder / 'aiida.xml').read_text().partition('siesta:eigenenergies')
    array, end, rest = after.partition('</array>')
    (folder / 'aiida.xml').write_text(f'{before}{heading}{re.sub(number, raised, array)}{end}{rest}')


@pytest.mark.parametrize('mode', [['--single'], []], ids=['single', 'batch'])
def test_runs_that_contradict_each_other_are_both_named_and_none_is_chosen(runs, cli, cli_json, mode):
    """The same input and settings, and levels above the Fermi level that lie 0.3 eV higher."""
    raise_empty_levels(FLAKES['h-0000'].unpack(runs / 'twin'), 0.3)
    answer = cli_json('siesta', 'import', runs, '--name', 'dft', *mode)
    assert answer['counts']['imported'] == 4
    folders = [str(runs / 'flakes' / 'h-0000'), str(runs / 'twin' / 'h-0000')]
    assert answer['contradictions'] == [folders]
    found = {run['folder']: run for run in answer['runs']}
    gap = FLAKES['h-0000'].about['gap_ev']
    for one, other in (folders, folders[::-1]):
        assert found[one]['status'] == 'imported'
        assert f'contradicts {other}: 2 runs of this structure contradict each other' in found[one]['reason']
        assert f'the gap {gap:.4f} eV' in found[one]['reason']
    assert found[folders[1]]['gap_ev'] == pytest.approx(gap + 0.3, abs=1e-5)
    labels = orm.load_node(answer['labels']).labels
    assert len(set(labels.hashes.tolist())) == len(labels) == 3
    [refused] = np.flatnonzero(labels.status == 'contradicted').tolist()
    assert f'the gap {gap:.4f} eV' in labels.messages[refused]
    assert np.isnan(labels.energies['gap_ev'][refused])
    names = orm.load_node(answer['structures']).structures.names.tolist()
    assert {'flakes/h-0000', 'twin/h-0000'} <= set(names)
    report = json.loads(cli('audit', 'dft-labels', '--json', status=1).stdout)
    [finding] = [one for one in report['findings'] if one['check'] == 'contradicting-labels']
    assert finding['severity'] == 'error'
    again = cli_json('siesta', 'import', runs, *mode)
    assert again['contradictions'] == [folders]
    assert again['labels'] == answer['labels']


def test_few_gaps_of_isolated_structures_ask_for_a_baseline(flakes: StructureSet, flake_labels: LabelSet) -> None:
    def command(structures: StructureSet, rows: int) -> str:
        labels = LabelSetData(flake_labels.select(slice(rows)), label='gaps').store()
        made = ImportedSet(flake_labels.source, StructureSetData(structures, label='own').store(), labels)
        return ImportedRuns([], [made]).next_step().command()

    assert command(flakes, len(flakes)) == 'label own --engine xtb'
    assert command(flakes, 9).startswith('dataset build'), 'too few for any model'
    box = {'pbc': np.full((len(flakes), 3), True), 'cells': np.tile(100 * np.eye(3), (len(flakes), 1, 1))}
    periodic = StructureSet.from_arrays(flakes.to_arrays() | box)
    assert command(periodic, len(flakes)).startswith('dataset build'), 'xTB takes isolated structures'
