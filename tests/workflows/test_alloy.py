"""The whole study of alloys on an embedded potential: scans, a model, and its own phases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.alloys import compare_phases
from aiida_nanoml.calculations.functions.alloys import compare_scans, curves_of, predict_phases
from aiida_nanoml.calculations.functions.base import INPUT_REFUSED
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.provenance.lineage import trace

AlloyWorkChain = WorkflowFactory('nanoml.alloy')
ALLOYS = {'elements': ['Al', 'Cu', 'Ni'], 'n_atoms': 8, 'count': 16, 'seed': 1}
OVERRIDES = {
    'kind': 'ridge',
    'descriptor': {'params': {'elements': ['Al', 'Cu', 'Ni'], 'volume_order': 3}},
    'split': {'validation': 0.2, 'test': 0.25},
    'points': 15,
}


def make_builder(code: orm.InstalledCode, **overrides: Any) -> Any:
    """A builder for a quick run: a linear model of volume-dependent pair energies in place of the network."""
    return AlloyWorkChain.get_builder_from_protocol(
        code, alloys=ALLOYS, engine='ase', protocol='fast', overrides=OVERRIDES | overrides
    )


def test_from_alloys_to_phases_of_unseen_ones(code: orm.InstalledCode) -> None:
    outputs, node = run_get_node(make_builder(code))
    assert node.is_finished_ok, node.exit_message
    dataset = outputs['dataset'].dataset
    parts = {name: set(dataset.split[dataset.names == name].tolist()) for name in set(dataset.names.tolist())}
    assert all(len(found) == 1 for found in parts.values()), 'all points of an alloy are in one part'
    unseen = sorted(name for name, found in parts.items() if found == {'test'})
    predicted = outputs['predicted']
    assert sorted(predicted['phases'].get_array('names').tolist()) == unseen
    assert len(predicted['structures'].structures) == len(unseen) * 2 * 15

    metrics = predicted['metrics'].get_dict()
    assert metrics['n_alloys'] == len(unseen)
    assert metrics['accuracy'] > 0.5
    assert metrics['lattice_constant_mae_ang'] < 0.02
    again = compare_phases(curves_of(outputs['curves']), curves_of(predicted['curves']))
    assert metrics['confusion'] == again['confusion']
    assert metrics['pressure_mae_gpa'] == pytest.approx(again['pressure_mae_gpa'])

    assert outputs['model'].base.attributes.get('target') == 'cohesive_energy'
    assert outputs['metrics']['test']['mae'] < 0.05
    lineage = trace(predicted['predictions'])
    assert lineage is not None
    ancestors = orm.QueryBuilder().append(orm.Data, filters={'uuid': predicted['phases'].uuid}, tag='end')
    ancestors.append(orm.CalcJobNode, with_descendants='end', project='process_type')
    tasks = [kind.rpartition('.')[2] for (kind,) in ancestors.all()]
    assert tasks.count('predict') == tasks.count('train') == 1
    assert tasks.count('label') >= 2, 'of the points, and of the isolated atoms'


def test_a_target_that_is_no_energy_is_refused(code: orm.InstalledCode) -> None:
    with pytest.raises(ValueError, match=r'pressure.*curves E\(a\) need one of energy_per_atom, cohesive_energy'):
        run_get_node(make_builder(code, targets={'target': 'pressure', 'others': []}))


def test_phases_need_energies_and_curves_of_the_same_origin(structures_node, aiida_profile) -> None:
    n = len(structures_node.structures)
    columns = {
        'value': np.zeros(n), 'std': np.zeros(n), 'spread': np.zeros(n), 'distance': np.ones(n),
        'outside': np.zeros(n, dtype=bool), 'hashes': structures_node.structures.hashes,
        'names': structures_node.structures.names, 'families': structures_node.structures.families,
    }  # fmt: skip
    source = {'engine': 'xtb', 'version': '1.0', 'title': 'GFN1-xTB', 'protocol': 'fast', 'parameters': {}}
    gaps = PredictionData(
        columns, {'target': 'gap', 'unit': 'eV', 'kind': 'ridge', 'fingerprint': '0' * 12, 'labels': source}
    )
    _, node = predict_phases.run_get_node(predictions=gaps, structures=structures_node)
    assert node.exit_status == INPUT_REFUSED
    assert 'the model predicts gap' in node.exit_message
    one, two = orm.ArrayData(), orm.ArrayData()
    one.base.attributes.set('labels', source)
    two.base.attributes.set('labels', source | {'protocol': 'balanced'})
    _, node = compare_scans.run_get_node(curves=one, predicted=two)
    assert node.exit_status == INPUT_REFUSED
    assert 'cannot be compared' in node.exit_message
