"""Densities of a labelling in batches: one node in the end, and none of them computed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.workflows.builders import label_inputs

LabelWorkChain = WorkflowFactory('nanoml.label')


@pytest.fixture
def label(paced_code: orm.InstalledCode) -> Any:
    def run(structures: StructureSet, **inputs: Any) -> Any:
        given = {'engine': 'paced', 'protocol': 'quick', 'densities': True} | inputs
        return run_get_node(LabelWorkChain, code=paced_code, structures=StructureSetData(structures), **given)

    return run


def rows_of_jobs(node: orm.WorkChainNode) -> list[list[int]]:
    jobs = [job for job in node.called if isinstance(job, orm.CalcJobNode)]
    return [job.inputs.rows.get_list() for job in sorted(jobs, key=lambda job: job.pk)]


def test_densities_of_all_batches_are_one_node(label, make_chains) -> None:
    chains = make_chains(2, 3, 4, 5)
    outputs, node = label(chains, parameters={'fail': [3]}, batch_size=2)
    assert node.is_finished_ok, node.exit_message
    densities = outputs['densities']
    assert densities.hashes.tolist() == chains.hashes[[0, 2, 3]].tolist()
    assert densities.electrons == pytest.approx([2, 4, 5], rel=1e-6)
    assert densities.creator.process_label == 'merge_densities'


def test_one_batch_needs_no_merging(label, make_chains) -> None:
    outputs, _ = label(make_chains(2, 3))
    assert outputs['densities'].creator.process_type == 'aiida.calculations:nanoml.label'
    assert 'densities' not in label(make_chains(2, 3), densities=False)[0]


def test_known_labels_without_densities_are_computed_again(label, make_chains) -> None:
    chains = make_chains(2, 3, 4)
    labels = label(chains, densities=False, parameters={'fail': [4]})[0]['labels']
    densities = label(chains.select([1]), parameters={'fail': [4]})[0]['densities']
    known = {'known': {'labels': labels}, 'known_densities': {'densities': densities}}
    outputs, node = label(chains, parameters={'fail': [4]}, **known)
    assert rows_of_jobs(node) == [[0]], 'row 1 has a density, row 2 cannot be labelled'
    assert sorted(outputs['densities'].electrons.round().tolist()) == [2, 3]


def test_a_workflow_goes_on_with_the_densities_that_it_has(label, make_chains, tmp_path: Path) -> None:
    parameters = {'kill_worker': [6], 'killed_marker': str(tmp_path / 'killed')}
    _, node = label(make_chains(2, 4, 6, 8), parameters=parameters, max_rounds=1, batch_size=2)
    outputs, second = run_get_node(LabelWorkChain.get_builder_to_resume(node))
    assert second.is_finished_ok, second.exit_message
    assert rows_of_jobs(second) == [[2, 3]]
    assert sorted(outputs['densities'].electrons.round().tolist()) == [2, 4, 6, 8]


def test_a_protocol_asks_for_densities_on_request_only(aiida_profile) -> None:
    assert label_inputs('pyscf', 'fast').keys().isdisjoint({'densities', 'mesh_spacing_ang'})
    inputs = label_inputs('pyscf', 'fast', {'densities': True, 'mesh_spacing_ang': 0.2})
    assert (inputs['densities'].value, inputs['mesh_spacing_ang'].value) == (True, 0.2)
