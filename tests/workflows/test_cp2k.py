"""Single runs of CP2K through aiida-cp2k: with the plugin and the real program, and without them."""

from __future__ import annotations

import importlib
import shutil
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.calculations.functions.siesta import node_of_structure
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.cp2k.engine import Cp2kEngine
from aiida_nanoml.provenance.lineage import trace
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.testing.recordings import recordings_of
from aiida_nanoml.worker.label import label_structures

MISSING = Cp2kEngine.missing()
needs_plugin = pytest.mark.skipif(find_spec('aiida_cp2k') is None, reason="pip install 'aiida-nanoml[cp2k]'")
needs_program = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

HYDROGEN = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]]))
SMALL = {'cutoff_ry': 100.0, 'vacuum_ang': 5.0}
NAME = 'nanoml.cp2k'


@pytest.fixture
def cp2k_code(code_factory) -> orm.InstalledCode:
    return code_factory(shutil.which('cp2k') or '/missing/cp2k', 'cp2k-alone', default_calc_job_plugin='cp2k')


def test_without_the_plugin_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'aiida_cp2k', None)
    monkeypatch.delitem(sys.modules, 'aiida_cp2k.workchains.base', raising=False)
    monkeypatch.delitem(sys.modules, 'aiida_nanoml.workflows.cp2k', raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aiida-nanoml\[cp2k\]'"):
        importlib.import_module('aiida_nanoml.workflows.cp2k')


@needs_plugin
@needs_program
def test_the_label_is_that_of_a_batch(cp2k_code, tmp_path) -> None:
    structures = StructureSet.from_structures([HYDROGEN])
    expected = label_structures(structures, 'cp2k', 'fast', SMALL, runtime={'folder': str(tmp_path)})
    outputs, node = run_get_node(
        WorkflowFactory('nanoml.label'),
        structures=StructureSetData(structures),
        engine='cp2k',
        protocol='fast',
        parameters=SMALL,
        engine_code=cp2k_code,
        mode='single',
        single_run=NAME,
    )
    assert node.is_finished_ok, node.exit_message
    found = outputs['labels'].labels
    assert found.source == expected.source
    assert found.hashes.tolist() == expected.hashes.tolist()
    assert found.messages.tolist() == ['']
    for name, column in expected.energies.items():
        np.testing.assert_allclose(found.energies[name], column, atol=1e-5)
    np.testing.assert_allclose(
        found.vectors['forces_ev_per_ang'][0], expected.vectors['forces_ev_per_ang'][0], atol=1e-4
    )
    assert trace(outputs['labels']).labelling
    assert 'Cp2kCalculation' in {called.process_label for called in node.called_descendants}


def run(code: orm.InstalledCode, structure: Structure, **overrides: Any) -> orm.WorkChainNode:
    builder = WorkflowFactory(NAME).get_builder_from_protocol(
        code, node_of_structure(structure), protocol='fast', overrides=SMALL | overrides
    )
    return run_get_node(builder).node


@needs_plugin
@needs_program
def test_a_failure_is_cured_and_the_label_says_how(cp2k_code) -> None:
    node = run(cp2k_code, HYDROGEN, max_scf_iterations=5)
    assert node.is_finished_ok, node.exit_message
    found = node.outputs.labels.labels
    assert found.finished.all()
    assert found.messages.tolist() == ['recovered: MAX_SCF 10, run again by aiida-cp2k']
    assert found.source.parameters['max_scf_iterations'] == 5


@needs_plugin
@needs_program
def test_a_failure_without_a_cure_has_its_reason(cp2k_code) -> None:
    (oscillating,) = (one for one in recordings_of(Cp2kEngine) if one.folder.name == 'oscillates')
    cycle = {'mixing_weight': 1.0, 'max_scf_iterations': 3, 'poisson_solver': 'PERIODIC'}
    node = run(cp2k_code, oscillating.structure, **cycle)
    assert node.exit_status == WorkflowFactory(NAME).exit_codes.ERROR_SCF_NOT_CONVERGED.status
    found = node.outputs.labels.labels
    assert found.status.tolist() == ['not_converged']
    assert found.messages.tolist() == [
        'no self-consistency within the allowed iterations (12) (after: MAX_SCF 12, run again by aiida-cp2k)'
    ]
