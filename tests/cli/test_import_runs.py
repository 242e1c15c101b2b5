"""``aiida-nanoml import runs``: outputs of any known program, recognised by what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiida import orm
from aiida_pseudo.data.pseudo import UpfData

from aiida_nanoml.calculations.importers import runs as importers
from aiida_nanoml.calculations.pseudopotentials import install_family
from aiida_nanoml.engines.pseudopotentials import bundled, digest
from aiida_nanoml.provenance.lineage import trace
from tests.stand_in.fixtures import recorded_runs

pytestmark = pytest.mark.usefixtures('third_party_path')


def jot(folder: Path, name: str = 'out.log', bond: float = 0.74, **lines: object) -> Path:
    """Write an output of a hydrogen molecule; lines that are None are left out."""
    values = {'energy_ev': -31.5, 'levels_ev': '-10.0 0.5 2.0', 'vacuum_ang': 9.0, 'END': ''} | lines
    rows = [f'{word} {value}' for word, value in values.items() if value is not None]
    folder.mkdir(parents=True, exist_ok=True)
    text = '\n'.join([f'JOTTED {values.pop("version", "2.0")}', 'atom 1 0 0 0', f'atom 1 0 0 {bond}', *rows])
    (folder / name).write_text(text + '\n', encoding='utf-8')
    return folder


@pytest.fixture
def runs(aiida_profile_clean, tmp_path: Path) -> Path:
    """Runs of two programs, one without levels, one cut, an unknown output and an empty one."""
    root = tmp_path / 'runs'
    recorded_runs('flake')['z-bare'].unpack(root)
    jot(root / 'whole', 'job.txt', md5=f'H {digest(bundled("upf")["H"])}')
    jot(root / 'whole' / 'x.scratch')
    jot(root / 'two', 'a.out', 0.76, vacuum_ang=9.5)
    jot(root / 'two', 'b.out', 0.78, levels_ev=None)
    jot(root / 'two', 'b.out~', 0.79)
    jot(root / 'cut', END=None)
    (root / 'other').mkdir()
    (root / 'other' / 'slurm-12.out').write_text('hello\n')
    (root / 'empty').mkdir()
    (root / 'empty' / 'pw.out').touch()
    return root


def by_name(answer: dict, root: Path) -> dict[str, dict]:
    return {str(Path(run['folder'], run['input'] or '').relative_to(root)): run for run in answer['runs']}


def test_runs_of_all_programs_are_imported_once(runs, cli_json):
    install_family('upf')
    first = cli_json('import', 'runs', runs, '--name', 'all')
    assert first['counts'] == {'imported': 4, 'present': 0, 'skipped': 3}
    found = by_name(first, runs)
    assert {name: run['engine'] for name, run in found.items() if run['status'] == 'imported'} == {
        'z-bare': 'siesta',
        'whole/job.txt': 'jotted',
        'two/a.out': 'jotted',
        'two/b.out': 'jotted',
    }
    assert found['whole/job.txt']['gap_ev'] == pytest.approx(10.5)
    assert (found['two/b.out']['gap_ev'], found['two/b.out']['reason']) == (
        None,
        'no levels were jotted down: the gap is unknown',
    )
    assert {name: run['reason'] for name, run in found.items() if run['status'] == 'skipped'} == {
        'cut/out.log': 'out.log ends before its END',
        'other/slurm-12.out': 'slurm-12.out is no output of a program that is known here',
        'empty/pw.out': 'pw.out is empty',
    }
    assert len(first['sets']) == 3, 'SIESTA, and two vacua of the other program'
    number = orm.QueryBuilder().append(orm.ProcessNode).count()
    second = cli_json('import', 'runs', runs)
    assert second['counts'] == {'imported': 0, 'present': 4, 'skipped': 3}
    assert orm.QueryBuilder().append(orm.ProcessNode).count() == number
    assert {run['uuid'] for run in second['runs']} == {run['uuid'] for run in first['runs']}


def test_a_common_vacuum_puts_runs_together_and_they_lead_back(runs, cli_json):
    family, _ = install_family('upf')
    answer = cli_json('import', 'runs', runs / 'whole', runs / 'two', '--vacuum', 10)
    labels = orm.load_node(answer['labels'])
    assert labels.label_source.to_dict() == {
        'engine': 'jotted',
        'version': '2.0',
        'title': 'Jotted',
        'protocol': 'fast',
        'parameters': {'vacuum_ang': 10.0, 'functional': 'LDA-CA'},
        'pseudopotentials': {'H': digest(bundled('upf')['H'])},
    }
    assert labels.labels.energies['energy_ev'].tolist() == [-31.5] * 3
    lineage = trace(labels)
    assert [(origin.engine, origin.n_structures) for origin in lineage.labelling] == [('jotted', 3)]
    process = orm.load_node(answer['runs'][0]['uuid'])
    used = process.base.links.get_incoming(UpfData).one()
    assert (used.link_label, used.node.uuid) == ('pseudo_H', family.pseudos['H'].uuid)


def test_a_run_that_changes_while_it_is_imported_is_not_taken(runs, cli_json, monkeypatch):
    kept = importers.keep

    def keep_and_change(run, folder, name):
        kept(run, folder, name)
        if name == 'a.out':
            jot(folder, name, energy_ev=-99.0)

    monkeypatch.setattr(importers, 'keep', keep_and_change)
    found = by_name(cli_json('import', 'runs', runs / 'two', '--vacuum', 10), runs)
    assert found['two/a.out']['status'] == 'skipped'
    assert 'a.out is not what it was when the import began' in found['two/a.out']['reason']
    assert found['two/b.out']['status'] == 'imported'


def test_nothing_imported_is_no_success(runs, cli, cli_json, tmp_path):
    assert cli_json('import', 'runs', runs / 'cut', status=1)['counts'] == {'imported': 0, 'present': 0, 'skipped': 1}
    (tmp_path / 'void').mkdir()
    assert 'no output of a known program' in cli('import', 'runs', tmp_path / 'void', status=1).output
