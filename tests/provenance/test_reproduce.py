"""Computing results again in a fresh profile, by a real interpreter of its own."""

from __future__ import annotations

import json
from dataclasses import replace

import aiida
import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_nanoml import __version__
from aiida_nanoml.calculations.functions.datasets import assemble_dataset, split_dataset
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.differences import DIFFERS, IDENTICAL, WITHIN, compare_outputs
from aiida_nanoml.provenance.reproduce import Change, reproduce
from aiida_nanoml.provenance.rerun_plan import plan_rerun
from tests.provenance.conftest import QUADRUPLETS


@pytest.fixture
def rows(structures_node, labels_node):
    """A data set that a calculation function made, not split."""
    return assemble_dataset(structures_node, labels_node, orm.Dict(QUADRUPLETS))


@pytest.fixture
def code(code_factory, worker_command):
    """The plain executable: a rerun takes the one beside its interpreter, and would report another one as a change."""
    return code_factory(worker_command, 'nanoml-worker')


@pytest.fixture
def record():
    """Store a calculation with inputs and outputs without running it."""

    def make(name, inputs, outputs=(), exit_status=0, node_class=orm.CalcFunctionNode):
        process = node_class(process_type=name)
        process.set_process_label(name.rpartition('.')[2])
        process.base.attributes.set('version', {'core': '2.0.0', 'plugin': __version__})
        for label, node in inputs.items():
            process.base.links.add_incoming(node, LinkType.INPUT_CALC, label)
        process.store()
        for label, node in dict(outputs).items():
            node.base.links.add_incoming(process, LinkType.CREATE, label)
            node.store()
        process.set_process_state('finished')
        process.set_exit_status(exit_status)
        process.seal()
        return process

    return make


@pytest.fixture
def tampered(rows, record):
    """A split whose recorded gaps are not those of the data set that was split: one is 0.1 meV too high."""
    shifted = split_dataset.run_get_node(rows, orm.Dict({}))[0]
    wrong = shifted.dataset
    y = wrong.y + np.where(np.arange(len(wrong.y)) == 3, 1e-4, 0.0)
    attributes = shifted.base.attributes
    node = DatasetData(
        replace(wrong, y=y),
        attributes.get('descriptor'),
        attributes.get('labels'),
        excluded=attributes.get('excluded'),
        unknown_classes=attributes.get('unknown_classes'),
    )
    inputs = {'dataset': rows, 'parameters': shifted.creator.inputs.parameters}
    record('aiida.calculations:nanoml.split_dataset', inputs, {'result': node})
    return node


def test_a_prediction_comes_out_again_from_its_labels(rows, structures_node, labels_node, code):
    dataset = split_dataset(rows, orm.Dict({}))
    training = run_get_node(CalculationFactory('nanoml.train'), code=code, dataset=dataset, kind='ridge')[1]
    job = run_get_node(
        CalculationFactory('nanoml.predict'), code=code, model=training.outputs.model, structures=structures_node
    )[1]
    n_nodes, told = orm.QueryBuilder().append(orm.Node).count(), []

    reproduction = reproduce(job.outputs.predictions, 'labels', progress=told.append)

    names = ['assemble_dataset', 'split_dataset', 'TrainCalculation', 'PredictCalculation']
    assert [step.type for step in reproduction.steps] == names
    assert told == [f'{number} of 4: {name}' for number, name in enumerate(names, start=1)]
    assert reproduction.verdict == IDENTICAL
    for step in reproduction.steps:
        assert step.verdict == IDENTICAL
        assert step.changes == ()
    compared = {(one.output, one.name) for one in reproduction.steps[2].quantities}
    assert {('model', 'fingerprint'), ('model', 'metrics'), ('fitted', 'value'), ('metrics', 'test')} <= compared
    assert {one.name: one.n_values for one in reproduction.compared}['value'] == structures_node.n_structures
    assert {taken.uuid for taken in reproduction.taken} == {structures_node.uuid, labels_node.uuid}
    assert orm.QueryBuilder().append(orm.Node).count() == n_nodes
    content = json.loads(json.dumps(reproduction.to_dict(), allow_nan=False))
    assert content['verdict'] == content['steps'][0]['verdict'] == IDENTICAL
    assert 'were reproduced bit for bit' in reproduction.render().splitlines()[-1]


def test_a_changed_number_is_found_and_measured(tampered):
    reproduction = reproduce(tampered)
    [wrong] = [one for one in reproduction.compared if one.n_different]
    assert (reproduction.verdict, wrong.name, wrong.n_different) == (DIFFERS, 'y', 1)
    assert wrong.max_abs == pytest.approx(1e-4, rel=1e-9)
    assert reproduction.steps[0].changes == (Change('aiida-core', '2.0.0', aiida.__version__),)
    assert f'1 of {wrong.n_values} differ by 0.0001' in reproduction.render()


def test_a_tolerance_is_taken_into_account(rows, tampered):
    right, wrong = {'result': split_dataset(rows, orm.Dict({}))}, {'result': tampered}
    verdicts = {
        tolerance: {one.name: one.verdict for one in compare_outputs(wrong, right, tolerance)}
        for tolerance in (0.0, 0.99e-4, 1.01e-4)
    }
    assert [verdict['y'] for verdict in verdicts.values()] == [DIFFERS, DIFFERS, WITHIN]
    assert {verdict for name, verdict in verdicts[0.0].items() if name != 'y'} == {IDENTICAL}


def test_another_model_is_told_by_its_fingerprint_or_by_its_numbers(model_node, correction_node):
    recorded, again = {'model': model_node}, {'model': correction_node}
    found = {one.name: one for one in compare_outputs(recorded, again, 0.0)}
    fingerprints = [node.base.attributes.get('fingerprint')[:12] for node in (model_node, correction_node)]
    assert found['fingerprint'].verdict == DIFFERS
    assert found['fingerprint'].detail == ' became '.join(fingerprints)
    assert 'versions' not in found
    tolerant = {one.name: one.verdict for one in compare_outputs(recorded, again, 1e-3)}
    assert tolerant['fingerprint'] == WITHIN
    assert tolerant['baseline'] == DIFFERS


@pytest.mark.parametrize(
    ('old', 'new', 'verdict', 'max_abs'),
    [
        ({'mae': 0.5, 'n': 3}, {'mae': 0.5, 'n': 3}, IDENTICAL, None),
        ({'mae': 0.5, 'n': 3}, {'mae': 0.75, 'n': 3}, WITHIN, 0.25),
        ({'mae': 0.5, 'n': 3}, {'mae': 0.5, 'n': 4}, DIFFERS, 1.0),
        ({'mae': float('nan')}, {'mae': float('nan')}, IDENTICAL, None),
        ({'mae': float('nan')}, {'mae': 0.5}, DIFFERS, None),
        ({'mae': 0.5}, {'rmse': 0.5}, DIFFERS, None),
        ({'wall_s': 1.0, 'saved_s_each': 2.0}, {'wall_s': 9.0, 'saved_s_each': 3.0}, IDENTICAL, None),
        ({'version': '1'}, {'version': '2'}, IDENTICAL, None),
    ],
)
def test_numbers_are_compared_by_what_they_are(old, new, verdict, max_abs):
    quantities = compare_outputs({'metrics': orm.Dict({'test': old})}, {'metrics': orm.Dict({'test': new})}, 0.3)
    [found] = quantities
    assert (found.verdict, found.max_abs) == (verdict, max_abs)


def test_tables_are_compared_by_their_numbers():
    tables = [{'table': orm.SinglefileData.from_string(f'name,gap_ev\nh-1,{gap}\n', 't.csv')} for gap in (1.5, 1.75)]
    found = {one.name: one for one in compare_outputs(*tables, 0.3)}
    assert (found['t.csv'].verdict, found['t.csv'].max_abs) == (WITHIN, 0.25)


def test_labels_of_a_program_are_taken_and_the_result_says_so(
    record, structures_node, flake_labels, code_factory, code
):
    from aiida_nanoml.data.labels import LabelSetData

    siesta = code_factory(code.filepath_executable, 'siesta', default_calc_job_plugin='nanoml.siesta')
    labels = LabelSetData(flake_labels)
    inputs = {'structures': structures_node, 'code': code, 'engine_code': siesta}
    job = record('aiida.calculations:nanoml.label', inputs, {'labels': labels}, node_class=orm.CalcJobNode)
    dataset = assemble_dataset(structures_node, labels, orm.Dict(QUADRUPLETS))
    plan = plan_rerun(dataset, 'start')
    assert plan.steps == (dataset.creator.pk,)
    reasons = {taken.uuid: taken.reason for taken in plan.taken}
    assert reasons[labels.uuid].startswith('runs of programs such as SIESTA are never repeated')
    with pytest.raises(ProvenanceError, match='SIESTA are never repeated, and the labels come from the code siesta'):
        plan_rerun(job)


def test_what_cannot_be_run_again_is_told(record, rows, structures_node, labels_node):
    inputs = {'structures': structures_node, 'labels': labels_node, 'descriptor': orm.Dict(QUADRUPLETS).store()}
    name = 'aiida.calculations:nanoml.assemble_dataset'
    for process, message in (
        (record(name, inputs, exit_status=500), 'failed with exit status 500'),
        (record(name, {'structures': structures_node}), 'its input labels is missing, because it was deleted'),
        (record('aiida.calculations:nanoml.gone', inputs), 'has no calculation nanoml.gone'),
        (record('aiida.calculations:core.arithmetic.add', inputs), 'no calculation of aiida-nanoml'),
        (record('aiida.calculations:nanoml.siesta', inputs), 'runs of SIESTA are never repeated'),
        (record('aiida.calculations:nanoml.label', {**inputs, 'engine': orm.Str('abacus').store()}), 'code is missing'),
    ):
        with pytest.raises(ProvenanceError, match=message):
            reproduce(process)
    with pytest.raises(ProvenanceError, match='stored without a process: there is nothing to rerun'):
        reproduce(structures_node)
    with pytest.raises(ProvenanceError, match='choose one of inputs, dataset, labels, structures, start'):
        reproduce(rows, 'dft')
    with pytest.raises(ProvenanceError, match='0 or a positive number, got nan'):
        reproduce(rows, tolerance=float('nan'))


def test_an_engine_that_is_not_installed_is_named(record, structures_node, code):
    values = {'engine': orm.Str('abacus'), 'protocol': orm.Str('fast')}
    inputs = {'structures': structures_node, 'code': code} | {key: node.store() for key, node in values.items()}
    job = record('aiida.calculations:nanoml.label', inputs, node_class=orm.CalcJobNode)
    with pytest.raises(ProvenanceError, match="its engine cannot run here: there is no engine 'abacus'"):
        plan_rerun(job)


def test_a_workflow_stands_for_the_one_calculation_behind_its_results(rows, structures_node):
    from aiida_nanoml.provenance.rerun_plan import reproducible

    workflows = [orm.WorkChainNode().store() for _ in range(3)]
    rows.base.links.add_incoming(workflows[0], LinkType.RETURN, 'dataset')
    split = split_dataset(rows, orm.Dict({}))
    for label, node in (('rows', rows), ('split', split)):
        node.base.links.add_incoming(workflows[1], LinkType.RETURN, label)
    assert reproducible(workflows[0]).uuid == rows.creator.uuid
    with pytest.raises(ProvenanceError, match=f'results of 2 calculations: .*split {split.uuid}'):
        reproducible(workflows[1])
    with pytest.raises(ProvenanceError, match='returned nothing computed'):
        reproducible(workflows[2])
