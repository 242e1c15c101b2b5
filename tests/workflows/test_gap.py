"""The main job on a few real flakes."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.structures import FlakeParameters, StructureSet, generate_flakes

GapWorkChain = WorkflowFactory('nanoml.gap')
FLAKES = {'family': 'z', 'size': 2, 'count': 10, 'seed': 1}
OVERRIDES = {
    'n_unseen': 2,
    'kind': 'ridge',
    'hyperparameters': {},
    'label': {'batch_size': 20},
    'descriptor': {'params': {'unknown': 'overflow'}},
}


def make_builder(code: orm.InstalledCode, **inputs):
    """A builder for a quick run: a linear model in place of the network."""
    return GapWorkChain.get_builder_from_protocol(code, protocol='fast', overrides=OVERRIDES, **inputs)


def test_from_flakes_to_validated_predictions(code: orm.InstalledCode) -> None:
    outputs, node = run_get_node(make_builder(code, flakes={'z': FLAKES}))
    assert node.is_finished_ok, node.exit_message
    whole = generate_flakes(FlakeParameters.from_dict(FLAKES | {'count': 12}))
    assert outputs['structures'].structures == whole.select(slice(10))
    assert outputs['dataset'].base.attributes.get('split') == {'test': 2, 'train': 6, 'validation': 2}
    np.testing.assert_array_equal(outputs['dataset'].dataset.y, outputs['labels'].labels.energies['gap_ev'])
    predictions = outputs['predictions']
    assert predictions.get_array('hashes').tolist() == whole.select(slice(10, None)).hashes.tolist()
    table = outputs['validation']['table']
    error = np.abs(table.get_array('predicted') - table.get_array('labelled')).mean()
    assert outputs['validation']['metrics'].get_dict()['all']['mae'] == pytest.approx(error)
    assert outputs['validation']['metrics'].get_dict()['all']['n'] == 2
    ancestors = orm.QueryBuilder().append(orm.Data, filters={'uuid': predictions.uuid}, tag='end')
    ancestors.append(orm.CalcJobNode, with_descendants='end', project='process_type')
    tasks = sorted(kind.rpartition('.')[2] for (kind,) in ancestors.all())
    assert tasks == ['label', 'predict', 'train']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'flakes': {'z': FLAKES | {'seed': '1'}}}, "flakes.z: parameter seed='1' of FlakeParameters"),
        ({'flakes': {'z': FLAKES | {'sise': 2}}}, 'sise'),
        ({}, 'either flakes to generate or structures'),
    ],
)
def test_inputs_that_cannot_work_are_refused(code, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_get_node(make_builder(code, **change))


def test_flakes_and_structures_exclude_each_other(code, structures_node: StructureSetData) -> None:
    builder = make_builder(code, flakes={'z': FLAKES}, structures=structures_node)
    with pytest.raises(ValueError, match='either flakes to generate or structures'):
        run_get_node(builder)


def test_a_step_that_refuses_its_input_ends_the_work_with_520(code, flakes: StructureSet) -> None:
    """Three flakes cannot be divided in three parts of these shares."""
    builder = make_builder(code, structures=StructureSetData(flakes.select([0, 1])))
    outputs, node = run_get_node(builder)
    assert node.exit_status == GapWorkChain.exit_codes.ERROR_STEP_REFUSED.status
    assert 'assemble_dataset' in node.exit_message
    assert 'too few' in node.exit_message
    assert 'labels' in outputs, 'what was computed is handed out'


def test_a_baseline_is_labelled_corrected_and_costed(code, flakes: StructureSet, flake_labels: LabelSet) -> None:
    """The protocols fast and balanced of one engine differ little: a correction to the other one is nearly nothing."""
    builder = make_builder(
        code,
        structures=StructureSetData(flakes.select(slice(9))),
        unseen=StructureSetData(flakes.select(slice(9, None))),
        baseline='xtb',
        baseline_protocol='balanced',
    )
    builder.label.known = {'labels': LabelSetData(flake_labels)}
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    source = outputs['dataset'].baseline_source
    assert (source['engine'], source['protocol']) == ('xtb', 'balanced')
    assert outputs['model'].base.attributes.get('baseline') == outputs['predictions'].base.attributes.get('baseline')
    baseline = outputs['baseline']['labels']
    np.testing.assert_array_equal(outputs['dataset'].dataset.baseline, baseline.labels.energies['gap_ev'])
    assert outputs['validation']['baseline'].base.attributes.get('n_rows') == 3
    metrics = outputs['validation']['metrics'].get_dict()
    assert metrics['all']['n'] == metrics['baseline/all']['n'] == 3
    assert metrics['all']['mae'] < 0.02
    cheap = outputs['validation']['baseline'].labels.wall_s.mean()
    assert metrics['prediction_s_each'] > cheap, 'a correction costs the label that it corrects'
    protocols = sorted(job.inputs.protocol.value for job in node.called_descendants if 'engine' in job.inputs
                       and isinstance(job, orm.CalcJobNode))  # fmt: skip
    assert protocols == ['balanced', 'balanced'], 'the labels of the protocol fast were known'
