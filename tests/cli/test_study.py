"""Studies on the command line: tables on the screen, files in a folder."""

from __future__ import annotations

import csv

import pytest

from aiida_nanoml.learning.studies import STUDIES

PNG = b'\x89PNG'
CURVE = ('study', 'learning-curve', 'flakes', '--labels', 'labels', '--kind', 'linear', '--seeds', 2)


@pytest.fixture
def labelled(structures_node, labels_node, code):
    """Nodes with the labels that the documentation gives them."""
    structures_node.label, labels_node.label = 'flakes', 'labels'
    yield
    structures_node.label = labels_node.label = ''


def test_every_study_is_a_command_with_its_settings(cli) -> None:
    listed = cli('study', '--help').stdout
    for name in STUDIES.names():
        command = name.replace('_', '-')
        assert command in listed
        page = cli('study', command, '--help').stdout
        assert 'Settings (--set)' in page
        assert f'aiida-nanoml study {command}' in page


def test_a_curve_is_printed_and_written(cli, cli_json, labelled, tmp_path) -> None:
    folder = tmp_path / 'curve'
    made = cli_json(*CURVE, '--set', 'rows=[4,6]', '-o', folder, '--name', 'curve')
    assert (made['study'], made['n_seeds'], made['n_failed'], made['label']) == ('learning_curve', 2, 0, 'curve')
    assert [row['n_rows'] for row in made['summary']] == [4, 6]
    assert made['labels']['title'] == 'GFN1-xTB (tblite)'
    assert (folder / 'learning_curve.png').read_bytes().startswith(PNG)
    with (folder / 'learning_curve_curve.csv').open(encoding='utf-8') as handle:
        lines = list(csv.reader(handle))
    assert [line[:-1] for line in lines] == made['tables']['curve']
    assert all('GFN1-xTB' in line[-1] for line in lines[1:])

    shown = cli('study', 'show', 'curve').stdout.splitlines()
    assert 'linear, 2 seeds' in shown[0]
    assert 'GFN1-xTB (tblite) 0.8.0, protocol fast' in shown[1]
    assert shown[-1] == 'next: aiida-nanoml study show curve -o learning_curve'
    assert 'exists already' in cli('study', 'show', 'curve', '-o', folder, status=1).stderr
    again = cli('study', 'show', 'curve', '-o', folder, '--force').stdout
    assert again.splitlines()[-1] == 'next: aiida-nanoml trace curve'
    drawn = cli_json('study', 'show', 'curve', '-o', tmp_path / 'journal', '--format', 'svg', '--width', 'double')
    assert sorted(path.name for path in (tmp_path / 'journal').iterdir()) == sorted(
        path.rpartition('/')[2] for path in drawn['files']
    )
    assert 'width="504pt"' in (tmp_path / 'journal' / 'learning_curve.svg').read_text(encoding='utf-8')
    assert not (tmp_path / 'journal' / 'learning_curve.png').exists()
    assert 'name its folder with --output' in cli('study', 'show', 'curve', '--format', 'pdf', status=2).stderr
    assert cli_json('study', 'show', made['process'])['uuid'] == made['uuid']
    lineage = cli_json('trace', 'curve')
    assert lineage['uuid'] == made['uuid']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--set', 'row=[4]'), "no setting 'row'; it has: rows, halvings"),
        (('--set', 'rows=[400]'), 'needs 400 training rows, there are 7'),
        (('--kind', 'oracle'), "'oracle'"),
        (('--model-set', 'depth=2'), 'depth'),
        (('--descriptor', 'runes'), 'runes'),
    ],
)
def test_what_cannot_be_studied_is_told_in_one_line(cli, labelled, arguments: tuple, message: str) -> None:
    error = cli(*CURVE, *arguments, status=1).stderr
    assert message in error
    assert error.strip().splitlines()[-1].startswith('Error: ')


def test_nodes_that_are_no_tables_are_refused(cli, labelled) -> None:
    assert 'neither a study nor its table' in cli('study', 'show', 'flakes', status=1).stderr
    assert '--descriptor-set goes with' in cli(*CURVE, '--descriptor-set', 'classes=22', status=2).stderr


def test_a_study_of_another_package_is_a_command(cli, tmp_path, monkeypatch) -> None:
    (tmp_path / 'short_study.py').write_text(
        'from aiida_nanoml.learning.studies.learning_curve import LearningCurveStudy\n\n\n'
        'class ShortCurve(LearningCurveStudy):\n'
        '    """A curve of two points."""\n\n'
        "    name = 'short_curve'\n"
    )
    info = tmp_path / 'short_study-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: short-study\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[aiida_nanoml.studies]\nshort_curve = short_study:ShortCurve\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert 'short-curve' in cli('study', '--help').stdout
    page = cli('study', 'short-curve', '--help').stdout
    assert 'A curve of two points.' in page
    assert 'halvings=5' in page
    assert 'aiida-nanoml study short-curve flakes' in page
