"""Alloys on the command line, from cells to figures."""

from __future__ import annotations

import pytest

from aiida_nanoml.actions.alloy_generate import format_fractions, parse_fractions
from aiida_nanoml.actions.registry import action_class

PNG = b'\x89PNG'


@pytest.fixture
def cells(cli_json, code) -> str:
    """Cells of six alloys, named as in the documentation."""
    made = cli_json(
        'alloys', 'generate', '--elements', 'Al,Cu,Ni', '--count', 6, '--seed', 1, '--name', 'cells'
    )  # fmt: skip
    assert made['n_structures'] == 12
    assert made['families'] == ['bcc', 'fcc']
    return 'cells'


def test_scan_model_phases_and_figures(cli, cli_json, cells, tmp_path) -> None:
    scan = cli_json('alloys', 'scan', cells, '--engine', 'ase', '--protocol', 'fast', '--name', 'scan')
    assert scan['curves'] == {'ok': 12}
    assert sum(scan['phases'].values()) == 6
    assert scan['labels']['title'] == 'EMT (ASE)'
    row = scan['table'][0]
    assert row['phase'] == ('fcc' if row['energy_difference_ev'] < 0 else 'bcc')
    assert row['fcc']['cohesive_energy_ev'] > 2

    estimate = action_class('alloy_scan')(cells='scan-cells', protocol='fast').estimate()
    assert (estimate.jobs, estimate.seconds > 0) == (1, True), 'sixty points, as they were computed just now'
    elements = {'elements': ('Al', 'Cu', 'Ni'), 'protocol': 'fast', 'seed': 1}
    study = action_class('alloy_study')(count=60, **elements).estimate()
    assert study.jobs == 6 + 2, 'six hundred points, a training and a prediction'
    assert study.seconds == pytest.approx(10 * estimate.seconds)

    shown = cli('alloys', 'phase', 'scan').stdout
    assert 'EMT (ASE)' in shown
    assert row['formula'] in shown
    build = ('--atoms', 'scan-atoms', '--target', 'cohesive_energy', '--descriptor', 'alloy', '--group', 'alloy')
    elements = ('--set', 'elements=[Al,Cu,Ni]', '--set', 'volume_order=3')
    cli('dataset', 'build', 'scan-structures', '--labels', 'scan-labels', *build, *elements, '--name', 'energies')
    cli('train', 'energies', '--model', 'ridge', '--name', 'model')

    phases = cli_json('alloys', 'phase', 'scan', '--model', 'model', '--points', 9, '--name', 'found')
    assert phases['predicted'] is True
    assert phases['metrics']['n_alloys'] + phases['metrics']['n_undecided'] == 6
    assert (
        sum(sum(found.values()) for found in phases['metrics']['confusion'].values()) == phases['metrics']['n_alloys']
    )
    assert phases['metrics']['accuracy'] > 0.5
    unseen = cli_json('alloys', 'phase', 'scan', '--model', 'model', '--points', 9, '--unseen')
    assert 0 < unseen['metrics']['n_alloys'] < 6

    figures = {
        'curves.png': ('scan', '--alloy', row['alloy']),
        'both.png': ('scan', '--alloy', row['alloy'], '--predicted', 'found-curves'),
        'stress.png': ('scan', '--figure', 'stress', '--predicted', 'found-curves'),
        'parity.png': ('scan', '--figure', 'parity', '--predicted', 'found-phases'),
        'map.png': ('found-phases', '--figure', 'map', '--x', 'Al', '--y', 'Cu'),
    }
    for name, arguments in figures.items():
        cli('alloys', 'plot', *arguments, '-o', tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(PNG)
    assert 'exists already' in cli('alloys', 'plot', 'scan', '-o', tmp_path / 'curves.png', status=1).stderr
    assert 'alloy-9999' in cli(
        'alloys', 'plot', 'scan', '--alloy', 'alloy-9999', '-o', tmp_path / 'none.png', status=1
    ).stderr  # fmt: skip

    section = ('--elements', 'Al,Cu,Ni', '--x', 'Al', '--y', 'Cu', '--steps', 3, '--atoms', 8, '--seed', 1)
    cli('alloys', 'section', *section, '--name', 'section')
    mapped = cli_json('alloys', 'phase', 'section', '--model', 'model', '--points', 9, '--name', 'map')
    assert mapped['metrics'] is None
    assert mapped['n_points'] == 10 * 2 * 9
    far = cli_json('alloys', 'phase', 'section', '--model', 'model', '--points', 9, '--range', 1.3, 1.6)
    assert far['n_outside'] == far['n_points'], 'it is told when a model extrapolates'
    assert 'what a model predicted' in cli('alloys', 'phase', 'map-phases', '--model', 'model', status=1).stderr
    cli('alloys', 'plot', 'map-phases', '--figure', 'map', '--x', 'Al', '--y', 'Cu', '-o', tmp_path / 'section.png')


def test_the_whole_study_is_one_command(cli, cli_json, code) -> None:
    command = ('alloys', 'study', '--elements', 'Cu,Ni', '--count', 16, '--seed', 1, '--engine', 'ase')
    quick = ('--protocol', 'fast', '--epochs', 150, '--validation', 0.2, '--test', 0.2, '--no-cohesive')
    made = cli_json(*command, *quick, '--target', 'energy_per_atom', '--name', 'study')
    unseen = made['predicted']['n_alloys'] + made['predicted']['n_undecided']
    assert made['metrics']['test']['n'] >= unseen * 2 * 5 > 0, 'both phases, five lattice constants or more'
    assert made['summary']['n_alloys'] == 16
    shown = cli('alloys', 'phase', 'study', '--rows', 1).stdout
    assert 'a model that learnt' in shown


def test_bad_input_is_one_line(cli, cells) -> None:
    generate = ('alloys', 'generate', '--count', 2, '--seed', 1)
    assert 'hcp' in cli(*generate, '--phases', 'fcc,hcp', status=1).stderr
    assert '8 atoms' in cli(*generate, '--composition', 'Co=0.3,Cr=0.7', status=1).stderr
    assert 'EL=X' in cli('alloys', 'generate', '--help').stdout
    assert 'no scan of alloys' in cli('alloys', 'phase', cells, status=1).stderr
    assert 'goes with --model' in cli('alloys', 'phase', cells, '--unseen', status=2).stderr
    study = ('alloys', 'study', '--count', 4, '--seed', 1)
    assert 'name it by --engine-code' in cli(*study, '--engine', 'siesta', status=2).stderr
    assert 'no protocol' in cli(*study, '--protocol', 'exact', status=1).stderr


def test_fractions_are_read_as_they_are_written() -> None:
    fractions = {'Co': 0.25, 'Ni': 0.75}
    assert parse_fractions(format_fractions(fractions)) == fractions
    with pytest.raises(ValueError, match='is not a list of fractions'):
        parse_fractions('Co=0.25,Ni')
