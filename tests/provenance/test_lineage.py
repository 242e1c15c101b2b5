"""Lineage of nodes in graphs of known shape."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.tools import delete_nodes

from aiida_nanoml.calculations.functions.datasets import assemble_dataset, import_dataset, split_dataset
from aiida_nanoml.calculations.functions.densities import merge_densities
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.provenance.lineage import trace
from tests.conftest import gaussian_density
from tests.provenance.conftest import PARAMETERS


def test_every_job_of_a_dataset_is_found(dataset, code, flake_labels):
    lineage = trace(dataset)
    [origin] = lineage.labelling
    assert (origin.engine, origin.protocol, origin.title) == ('xtb', 'fast', flake_labels.source.title)
    assert origin.parameters == dict(flake_labels.source.parameters)
    assert (origin.n_structures, origin.n_jobs) == (12, 2)
    assert [job.n_rows for job in origin.jobs] == [7, 5]
    for job in origin.jobs:
        node = orm.load_node(job.uuid)
        assert (job.pk, job.exit_status, job.cached_from) == (node.pk, 0, '')
        assert (job.computer, job.code) == ('localhost', 'nanoml-worker@localhost')
        assert job.executable == str(code.filepath_executable)
    assert lineage.users == (orm.User.collection.get_default().email,)
    assert lineage.statement == '12 structures were labelled in 2 jobs'
    assert lineage.claims == ()


def test_generator_and_its_seed_are_found(dataset, generated):
    [origin] = trace(dataset).structures
    assert origin.way == 'generated'
    assert origin.parameters == PARAMETERS
    assert origin.process.uuid == generated.creator.uuid
    assert [node.pk for node in origin.nodes] == [generated.pk]


def test_what_ran_where_with_which_seeds(dataset, code):
    lineage = trace(dataset)
    [executable] = lineage.executables
    assert (executable.uuid, executable.label, executable.n_jobs) == (code.uuid, 'nanoml-worker@localhost', 2)
    assert (executable.path, executable.hostname) == (str(code.filepath_executable), code.computer.hostname)
    assert lineage.computers == {'localhost': code.computer.hostname}
    assert [(seed.of, seed.value, seed.default) for seed in lineage.seeds] == [
        ('generate_flake_set', 7, False),
        ('split_dataset', 0, True),
    ]
    assert lineage.began < lineage.ended


def test_tight_binding_is_not_dft(dataset, flake_labels):
    lineage = trace(dataset)
    source = flake_labels.source
    assert not lineage.rests_on_dft
    assert lineage.dft == (
        f'this data set has no provenance to DFT, because {source.title} {source.version} / fast is tight binding'
    )


def test_runs_of_dft_are_counted_and_a_mixture_is_told(generated, record_job, flake_labels):
    siesta = replace(flake_labels, source=replace(flake_labels.source, engine='siesta', title='LDA (SIESTA)'))
    whole = record_job(generated, siesta)
    assert trace(whole).rests_on_dft
    assert trace(whole).dft == f'DFT: 12 structures of LDA (SIESTA) {flake_labels.source.version} / fast'
    process = orm.CalcFunctionNode()
    for name, part in {'one': whole, 'other': record_job(generated, flake_labels)}.items():
        process.base.links.add_incoming(part, LinkType.INPUT_CALC, name)
    process.store()
    assert not trace(process).rests_on_dft
    assert 'rests only in part on DFT (12 structures of LDA (SIESTA)' in trace(process).dft


def test_a_model_whose_training_is_gone_says_so(model_node):
    lineage = trace(model_node)
    assert [step.pk for step in lineage.orphans] == [model_node.pk]
    assert lineage.dft == (f'this model has no provenance to DFT, because no process made the model pk {model_node.pk}')
    assert 'its process was deleted or left out of an archive' in lineage.render()


def test_a_result_that_survived_its_process_is_named(dataset, record_process, model_folder):
    """AiiDA deletes what was made of a deleted node, unless it is told to keep it."""
    model = ModelData(model_folder)
    training = record_process('nanoml.train', {'dataset': dataset}, {'model': model})
    assert trace(model).orphans == ()
    delete_nodes([training.pk], dry_run=False, create_forward=False)
    lineage = trace(orm.load_node(model.uuid))
    assert [step.uuid for step in lineage.orphans] == [model.uuid]
    assert lineage.labelling == ()
    assert lineage.dft.endswith(f'because no process made the model pk {model.pk}')


def test_structures_rest_on_no_labels(generated):
    assert trace(generated).dft == 'this set of structures has no provenance to DFT, because it rests on no labels'


def test_only_the_final_dataset_is_listed(dataset):
    assert [step.pk for step in trace(dataset).datasets] == [dataset.pk]
    unsplit = dataset.creator.inputs.dataset
    assert [step.pk for step in trace(unsplit).datasets] == [unsplit.pk]


def test_labels_of_two_protocols_are_told_apart(aiida_profile, code, generated, record_job, flake_labels):
    from dataclasses import replace

    other = replace(flake_labels, source=replace(flake_labels.source, protocol='stringent'))
    parts = [record_job(generated, labels) for labels in (flake_labels, other)]
    process = orm.CalcFunctionNode()
    for number, part in enumerate(parts):
        process.base.links.add_incoming(part, LinkType.INPUT_CALC, f'labels_{number}')
    process.store()
    assert sorted(origin.protocol for origin in trace(process).labelling) == ['fast', 'stringent']


def test_labels_and_baseline_are_told_apart(generated, record_job, flake_labels, cheap_labels):
    labels, baseline = record_job(generated, flake_labels), record_job(generated, cheap_labels)
    rows = assemble_dataset(
        generated, labels, orm.Dict({'name': 'quadruplets', 'params': {'unknown': 'drop'}}), baseline=baseline
    )
    lineage = trace(split_dataset(rows, orm.Dict({})))
    assert {origin.role: origin.engine for origin in lineage.labelling} == {'labels': 'xtb', 'baseline': 'cheap'}
    assert lineage.statement == '12 structures were labelled in 1 job; 12 structures got their baseline in 1 job'
    assert '<- baseline Cheap 1.0 / fast: 12 structures in 1 job on localhost' in lineage.render()
    assert trace(baseline).statement == '12 structures were labelled in 1 job'


def test_a_baseline_without_a_process_is_named(labels_node, baseline_node, generated):
    rows = assemble_dataset(
        generated, labels_node, orm.Dict({'name': 'quadruplets', 'params': {'unknown': 'drop'}}), baseline=baseline_node
    )
    assert {claim.role: claim.node.pk for claim in trace(rows).claims} == {
        'labels': labels_node.pk,
        'baseline': baseline_node.pk,
    }
    assert f'(pk {baseline_node.pk}), baseline said to come from Cheap 1.0, protocol fast' in trace(rows).statement


def test_imported_dataset_says_so(aiida_profile, tmp_path, flake_dataset):
    from aiida_nanoml.learning.exchange import write_xy

    write_xy(tmp_path / 'x.dat', tmp_path / 'y.dat', flake_dataset.X, flake_dataset.y)
    source = {'engine': 'imported', 'version': '4.1', 'title': 'SIESTA', 'protocol': 'DZP', 'parameters': {}}
    node = import_dataset(
        x=orm.SinglefileData(tmp_path / 'x.dat'),
        y=orm.SinglefileData(tmp_path / 'y.dat'),
        parameters=orm.Dict({'labels': source, 'n_features': flake_dataset.X.shape[1]}),
    )
    lineage = trace(split_dataset(node, orm.Dict({})))
    assert lineage.labelling == ()
    [claim] = lineage.claims
    assert (claim.node.uuid, claim.way, claim.source) == (node.uuid, 'imported', 'SIESTA 4.1, protocol DZP')
    assert lineage.statement == f'imported data set (pk {node.pk}), labels said to come from SIESTA 4.1, protocol DZP'


def test_labels_without_a_process_are_named(labels_node):
    lineage = trace(labels_node)
    assert lineage.labelling == ()
    assert [claim.way for claim in lineage.claims] == ['stored without a process']
    assert 'protocol fast' in lineage.statement


def test_node_without_labels(generated):
    lineage = trace(generated)
    assert lineage.statement == 'it rests on no labels'
    assert lineage.node.type == 'nanoml.structures'


def test_unstored_node_is_refused():
    with pytest.raises(ValueError, match='not stored'):
        trace(orm.Int(1))


def test_cached_job_names_its_source(dataset, generated, record_job, flake_labels):
    source = trace(dataset).labelling[0].jobs[0].uuid
    labels = record_job(generated, flake_labels)
    labels.creator.base.extras.set('_aiida_cached_from', source)
    [origin] = trace(labels).labelling
    assert [job.cached_from for job in origin.jobs] == [source]
    assert f'cached from {source}' in trace(labels).render()


def test_workflow_is_followed_from_its_results(dataset):
    workflow = orm.WorkChainNode()
    workflow.store()
    dataset.base.links.add_incoming(workflow, LinkType.RETURN, 'dataset')
    lineage = trace(workflow)
    assert lineage.node.uuid == workflow.uuid
    assert lineage.labelling == trace(dataset).labelling


def test_lineage_is_plain_json(dataset):
    content = trace(dataset).to_dict()
    assert json.loads(json.dumps(content))['labelling'][0]['n_jobs'] == 2


def test_tree_leads_from_the_node_to_the_structures(dataset):
    lines = trace(dataset).render().splitlines()
    assert lines[0].startswith(f'nanoml.dataset (pk {dataset.pk}')
    assert '12 structures in 2 jobs on localhost' in lines[1]
    assert 'seed 7' in next(line for line in lines if 'structures generated' in line)
    assert 'seeds: generate_flake_set 7, split_dataset 0 (default)' in lines
    assert any(line.startswith('12 structures were labelled in 2 jobs; by ') for line in lines)


def test_rounds_that_build_on_each_other_stay_cheap(aiida_profile):
    """Each round uses the results of the one before twice: the ways double with every round, the nodes do not."""
    last = orm.Int(0).store()
    for _ in range(40):
        process = orm.CalcFunctionNode()
        process.base.links.add_incoming(last, LinkType.INPUT_CALC, 'structures')
        process.base.links.add_incoming(last, LinkType.INPUT_CALC, 'labels')
        process.store()
        last = orm.Int(0)
        last.base.links.add_incoming(process, LinkType.CREATE, 'result')
        last.store()
    assert trace(last).n_nodes == 81


def test_a_predicted_density_leads_to_its_model_and_to_every_labelling_job(
    generated, boxed_flakes, flake_labels, density_model, record_process
):
    source = replace(flake_labels.source, pseudopotentials={'C': 'c' * 32, 'H': '0' * 32})
    parts, jobs = {}, []
    for number, rows in enumerate(([0], [1, 2])):
        made = DensitySetData(boxed_flakes.select(rows), map(gaussian_density, boxed_flakes.select(rows)), source)
        asked = orm.List([*rows, 11]).store()
        jobs.append(record_process('nanoml.label', {'structures': generated, 'rows': asked}, {'densities': made}))
        parts[f'densities_{number}'] = made
    known = merge_densities(**parts)
    training = record_process('nanoml.density_train', {'densities': known}, {'model': density_model})
    predicted = DensitySetData(
        boxed_flakes.select([2]), map(gaussian_density, boxed_flakes.select([2])), source, density_model.fingerprint
    )
    prediction = record_process(
        'nanoml.density_predict',
        {'model': density_model, 'structures': generated},
        {'densities': predicted},
    )
    lineage = trace(predicted)
    assert [job.pk for job in lineage.prediction_jobs] == [prediction.pk]
    assert [job.pk for job in lineage.training_jobs] == [training.pk]
    assert [model.facts['fingerprint'] for model in lineage.models] == [density_model.fingerprint]
    assert [(node.pk, node.facts['n_densities']) for node in lineage.densities] == [(known.pk, 3)]
    [origin] = lineage.labelling
    assert (origin.engine, origin.role) == ('xtb', 'labels')
    assert [(job.pk, job.n_finished, job.n_rows) for job in origin.jobs] == [(jobs[0].pk, 1, 2), (jobs[1].pk, 2, 3)]
    assert lineage.statement == '3 structures were labelled in 2 jobs'
    assert lineage.claims == ()
    text = lineage.render()
    assert f'density network C4v pk {density_model.pk}, fingerprint {density_model.fingerprint[:12]}' in text
    assert f'densities pk {known.pk}: 3 structures, mesh spacing' in text
    assert 'pseudopotentials (MD5): C cccccccc, H 00000000' in text
    assert [origin.way for origin in lineage.structures] == ['generated']
    assert json.loads(json.dumps(lineage.to_dict()))['densities'][0]['facts']['kind'] == 'computed'
    assert trace(density_model).render().startswith(f'nanoml.density_model (pk {density_model.pk}')
    assert [node.pk for node in trace(known).densities] == [known.pk]


def test_densities_that_nobody_made_are_claims(densities_node, boxed_flakes, flake_labels):
    [claim] = trace(densities_node).claims
    assert (claim.way, claim.node.type) == ('stored without a process', 'nanoml.densities')
    assert claim.source.startswith(flake_labels.source.title)
    predicted = DensitySetData(boxed_flakes, map(gaussian_density, boxed_flakes), flake_labels.source, 'ab' * 32)
    lineage = trace(predicted.store())
    assert lineage.densities == ()
    assert 'said to come from the model abababababab, which learnt from' in lineage.statement
