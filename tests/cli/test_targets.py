"""Other targets than the gap on the command line: what is printed bears their names and units."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from aiida import orm

from aiida_nanoml.actions.common import TARGETS, Group, Target
from aiida_nanoml.actions.describe import metric_table
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.learning import splits, targets


@pytest.fixture
def alloys(aiida_profile, third_party_path, alloy_cells, alloy_labels, atom_labels):
    """Labelled cells of alloys, and the arguments of a data set of their cohesive energies."""
    cells, labels, atoms = (
        node.store() for node in (StructureSetData(alloy_cells), LabelSetData(alloy_labels), LabelSetData(atom_labels))
    )
    build = ('dataset', 'build', cells.pk, '--labels', labels.pk, '--descriptor', 'formulas')
    return cells, labels, atoms, (*build, '--target', 'cohesive_energy', '--atoms', atoms.pk)


def test_targets_and_groups_are_those_of_the_core():
    assert tuple(targets.TARGETS) == TARGETS == get_args(Target)
    assert tuple(splits.GROUPS) == get_args(Group)


def test_a_data_set_shows_its_targets_with_their_units(cli, cli_json, alloys):
    *_, build = alloys
    made = cli_json(*build, '--other', 'pressure', '--other', 'magnetic_moment', '--group', 'alloy')
    assert (made['target'], made['unit'], made['split_by']) == ('cohesive_energy', 'eV/atom', 'alloy')
    assert made['others'] == {'magnetic_moment': 'µB/atom', 'pressure': 'GPa'}
    rows = orm.load_node(made['uuid']).dataset
    assert made['cohesive_energy_mean_ev'] == pytest.approx(rows.y.mean())
    assert made['pressure_min_gpa'] == pytest.approx(rows.others['pressure'].min())
    assert made['magnetic_moment_max_bohr'] == pytest.approx(rows.others['magnetic_moment'].max())
    assert all(len(set(rows.split[rows.names == name].tolist())) == 1 for name in rows.names)
    shown = cli('dataset', 'show', made['uuid']).stdout
    assert ', split by alloy' in shown
    assert f'cohesive energy  {rows.y.min():.4f} to {rows.y.max():.4f} eV/atom, mean' in shown
    pressures = rows.others['pressure']
    assert f'{pressures.min():.2f} to {pressures.max():.2f} GPa' in shown


def test_what_cannot_be_learnt_is_told(cli, alloys):
    cells, labels, *_ = alloys
    build = ('dataset', 'build', cells.pk, '--labels', labels.pk, '--descriptor', 'formulas')
    assert 'computes no levels' in cli(*build, status=1).stderr
    assert 'lack a finished one of Al, Fe, Ni' in cli(*build, '--target', 'cohesive_energy', status=1).stderr
    twice = cli(*build, '--target', 'pressure', '--other', 'pressure', status=1).stderr
    assert 'each target is learnt once' in twice


@pytest.mark.timeout(300)
def test_from_labels_to_compared_predictions(cli, cli_json, code, alloys, tmp_path):
    """The descriptor is one that the worker does not have: rows are predicted by their features."""
    cells, labels, atoms, build = alloys
    data = cli_json(*build, '--other', 'pressure', '--group', 'alloy', '--name', 'energies')
    assert "'alloy'" in cli('train', 'energies', '--model', 'fast', status=1).stderr
    model = cli_json('train', 'energies', '--epochs', 3, '--set', 'members=2', '--hidden-layers', '8', '--name', 'm')
    assert (model['kind'], model['target'], model['others']) == ('alloy', 'cohesive_energy', ['pressure'])
    assert {'test', 'test/fcc', 'pressure/test', 'pressure/test/bcc'} <= set(model['metrics'])
    shown = cli('model', 'show', 'm').stdout
    assert 'cohesive_energy in eV/atom, pressure in GPa from' in shown
    assert 'MAE (eV/atom)' in shown
    assert 'MAE (GPa)' in shown
    figures = orm.load_node(model['process']).outputs.figures.base.repository.list_object_names()
    assert 'Cohesive_energy_prediction.png' in figures

    made = cli_json('predict', 'm', 'energies', '--name', 'predictions')
    node = orm.load_node(made['uuid'])
    np.testing.assert_allclose(made['value_ev'], node.get_array('value'))
    np.testing.assert_allclose(made['value_pressure_gpa'], node.get_array('value_pressure'))
    assert made['others'] == {'pressure': 'GPa'}
    again = cli('predict', 'm', 'energies').stdout
    assert 'cohesive energy (eV/atom)' in again
    assert 'pressure (GPa)' in again

    assert 'depends on the structures' in cli('validate', 'predictions', labels.pk, status=1).stderr
    compared = ('validate', 'predictions', labels.pk, '--structures', cells.pk, '--atoms', atoms.pk)
    metrics = cli_json(*compared)['metrics']
    error = np.abs(node.get_array('value') - orm.load_node(data['uuid']).dataset.y)
    assert metrics['all']['mae'] == pytest.approx(error.mean())
    assert 'MAE (eV/atom)' in cli(*compared).stdout

    assert cli_json('plot', 'predictions', '-o', tmp_path / 'parity.png')['n_rows'] == 72
    other = cli_json(*build[:-4], '--target', 'pressure', '--name', 'pressures')
    assert other['target'] == 'pressure'
    export = cli_json('model', 'export', 'm', '-o', tmp_path / 'network.keras')
    assert (export['unit'], export['others']) == ('eV/atom', {'pressure': 'GPa'})


def test_metrics_of_each_target_stand_below_its_name():
    found = {'r2': 0.5, 'mae': 0.0123456, 'rmse': 0.02, 'n': 7}
    metrics = {'test': found, 'baseline/test': found, 'pressure/test': found | {'mae': 1.5}}
    lines = metric_table(metrics, target='cohesive_energy', others=['pressure']).splitlines()
    assert lines[0].split() == ['rows', 'R2', 'MAE', '(eV/atom)', 'RMSE', '(eV/atom)', 'baseline', 'R2', 'baseline',
                                'MAE', '(eV/atom)', 'baseline', 'RMSE', '(eV/atom)']  # fmt: skip
    assert lines[1].split() == ['test', '7', '0.500', '0.0123', '0.0200', '0.500', '0.0123', '0.0200']
    assert lines[2] == 'pressure'
    assert lines[3].split() == ['rows', 'R2', 'MAE', '(GPa)', 'RMSE', '(GPa)']
    assert lines[4].split() == ['test', '7', '0.500', '1.50', '0.02']
