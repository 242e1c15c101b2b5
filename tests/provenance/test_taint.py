"""What rests on something wrong, in graphs of known shape."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.orm.nodes.caching import NodeCaching
from aiida_pseudo.data.pseudo.psf import PsfData

from aiida_nanoml.calculations.functions.datasets import assemble_dataset, split_dataset
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.pseudopotentials import bundled
from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.taint import taint, taint_version
from tests.provenance.conftest import QUADRUPLETS


@pytest.fixture
def trained(dataset, record_process, model_folder):
    """A model that learnt from the data set."""
    model = ModelData(model_folder)
    record_process('nanoml.train', {'dataset': dataset}, {'model': model})
    return model


def test_one_wrong_run_touches_its_rows_only(dataset, trained):
    job, other = sorted(_jobs(dataset), key=lambda node: node.ctime)
    found = taint(job)
    assert (found.n_runs, found.n_labelled) == (1, 7)
    hashes = set(job.outputs.labels.labels.hashes.tolist())
    rows = dataset.dataset
    expected = {
        part: (
            int(sum(digest in hashes for digest in rows.hashes[rows.split == part])),
            int((rows.split == part).sum()),
        )
        for part in ('train', 'validation', 'test')
    }
    [touched] = found.datasets
    assert (touched.node.uuid, touched.whole, touched.rows) == (dataset.uuid, False, expected)
    [model] = found.models
    assert (model.node.uuid, model.whole, model.rows) == (trained.uuid, False, expected)
    assert [rerun.process for rerun in found.reruns] == [
        'LabelCalculation',
        'merge_labels',
        'assemble_dataset',
        'split_dataset',
        'TrainCalculation',
    ]
    assert found.reruns[0].uuids == (job.uuid,)
    assert other.uuid not in json.dumps(found.to_dict())
    both = taint(job, other)
    assert {part: touched == total for part, (touched, total) in both.datasets[0].rows.items()} == dict.fromkeys(
        expected, True
    )


def test_a_wrong_executable_touches_everything_it_ran(dataset, trained, code):
    found = taint(code)
    assert (found.n_runs, found.n_labelled) == (2, 12)
    assert found.computers == {'localhost': 2}
    assert found.models[0].whole, 'it trained the model as well'
    assert not found.datasets[0].whole, 'only its labels are wrong'
    twin = orm.InstalledCode(
        label='again', computer=code.computer, filepath_executable=str(code.filepath_executable)
    ).store()
    assert [step.uuid for step in taint(twin).alike] == [code.uuid]
    assert taint(twin).n_runs == 2
    other = orm.InstalledCode(label='other', computer=code.computer, filepath_executable='/opt/other').store()
    assert taint(other).n_nodes == 0
    assert taint(other).render().endswith('nothing rests on it')


def test_wrong_structures_and_wrong_choices_differ(generated, dataset, record_process, record_job, flake_labels):
    """A wrong label spoils the choice of further structures, but not the labels of these."""
    assert taint(generated).datasets[0].whole
    assert taint(generated).n_chosen == 0
    job = _jobs(dataset)[0]
    chosen = StructureSetData(generated.structures.select(np.arange(3)))
    record_process('nanoml.choose_structures', {'dataset': dataset}, {'structures': chosen}, 'choose_structures')
    more = record_job(chosen, flake_labels.select(np.arange(3)))
    found = taint(job)
    assert (found.n_runs, found.n_chosen) == (1, 1)
    assert more.creator.uuid not in [uuid for rerun in found.reruns for uuid in rerun.uuids]
    assert 'labels that stay valid' in found.render()
    assert taint(generated).n_chosen == 1, 'the choice among wrong structures stands beside what else is wrong'


def test_a_pseudopotential_is_known_by_its_content(generated, record_job, flake_labels):
    """The same file in another node, and labels that only name it, are found."""
    carbon = PsfData.get_or_create(bundled()['C']).store()
    other = PsfData.get_or_create(bundled()['N']).store()
    twin = carbon.clone().store()
    source = replace(flake_labels.source, engine='siesta', pseudopotentials={'C': carbon.md5})
    labels = replace(flake_labels, source=source)
    linked = record_job(generated, labels, pseudos__C=twin)
    named = record_job(generated, labels)
    found = taint(carbon)
    assert {step.uuid for step in found.alike} == {twin.uuid, named.uuid}
    assert found.n_runs == 1
    assert found.n_labelled == 24
    assert linked.creator.uuid in found.reruns[0].uuids
    assert taint(other).n_nodes == 0


def test_results_from_the_cache_are_followed(generated, record_job, flake_labels):
    first = record_job(generated, flake_labels)
    copy = record_job(generated, flake_labels)
    copy.creator.base.extras.set(NodeCaching.CACHED_FROM_KEY, first.creator.uuid)
    rows = split_dataset(assemble_dataset(generated, copy, orm.Dict(QUADRUPLETS)), orm.Dict({}))
    found = taint(first.creator)
    assert found.n_cached == 1
    assert [touched.node.uuid for touched in found.datasets] == [rows.uuid]
    assert all(touched == total for touched, total in found.datasets[0].rows.values())


def test_a_version_is_found_without_its_executable(generated, record_job, flake_labels):
    version = flake_labels.source.version
    record_job(generated, flake_labels)
    record_job(generated, replace(flake_labels, source=replace(flake_labels.source, version='0.0.1')))
    assert taint_version('xtb', '0.0.1').n_runs == 1
    with pytest.raises(ProvenanceError, match=rf'versions of xtb: 0\.0\.1, {version}'):
        taint_version('xtb', '9')
    with pytest.raises(ProvenanceError, match='versions of siesta: none'):
        taint_version('siesta', '9')


def test_the_workflow_that_would_do_it_again_is_named(generated, record_job, flake_labels):
    labels = record_job(generated, flake_labels)
    inner, outer = orm.WorkChainNode(), orm.WorkChainNode(label='campaign')
    outer.store()
    inner.base.links.add_incoming(outer, LinkType.CALL_WORK, 'inner')
    inner.store()
    job = orm.CalcFunctionNode()
    job.base.links.add_incoming(inner, LinkType.CALL_CALC, 'job')
    job.base.links.add_incoming(labels, LinkType.INPUT_CALC, 'labels')
    job.store()
    assert [caller.uuid for caller in taint(labels.creator).callers] == [outer.uuid]
    made = LabelSetData(flake_labels)
    made.base.links.add_incoming(job, LinkType.CREATE, 'result')
    made.store()
    assert made.uuid not in [step.uuid for step in taint(outer).wrong]
    assert taint(outer).n_label_sets == 1, 'what a workflow made is what its calculations made'


def test_what_is_not_stored_is_refused():
    with pytest.raises(ProvenanceError, match='stored'):
        taint(orm.Int(1))
    with pytest.raises(ProvenanceError, match='stored'):
        taint()


def _jobs(dataset):
    query = orm.QueryBuilder().append(orm.Node, filters={'uuid': dataset.uuid}, tag='dataset')
    query.append(orm.CalcJobNode, with_descendants='dataset').distinct()
    return query.all(flat=True)
