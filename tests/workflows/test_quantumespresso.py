"""Single runs of pw.x through aiida-quantumespresso: with the plugin and the real program, and without them."""

from __future__ import annotations

import importlib
import shutil
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.exceptions import EntryPointError
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.calculations.functions.siesta import node_of_structure
from aiida_nanoml.calculations.pseudopotentials import NODE_TYPES
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.pseudopotentials import bundled
from aiida_nanoml.engines.quantumespresso.engine import QuantumEspressoEngine
from aiida_nanoml.errors import EngineError
from aiida_nanoml.provenance.lineage import trace
from aiida_nanoml.structures import Structure, StructureSet, place
from aiida_nanoml.worker.label import label_structures

MISSING = QuantumEspressoEngine.missing()
needs_plugin = pytest.mark.skipif(
    find_spec('aiida_quantumespresso') is None, reason="pip install 'aiida-nanoml[quantumespresso]'"
)
needs_program = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

HYDROGEN = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]]))
SMALL = {'cutoff_ry': 25.0, 'vacuum_ang': 5.0}
NAME = 'nanoml.quantumespresso'


@pytest.fixture
def pseudos(aiida_profile) -> dict[str, orm.SinglefileData]:
    return {'H': NODE_TYPES['upf'].get_or_create(bundled('upf')['H'])}


@pytest.fixture
def pw_code(code_factory) -> orm.InstalledCode:
    return code_factory(shutil.which('pw.x') or '/missing/pw.x', 'pw', default_calc_job_plugin='quantumespresso.pw')


@pytest.fixture
def start(pw_code, pseudos):
    """Make a builder for hydrogen in its box."""

    def make(structure: Structure | None = None, **overrides: Any):
        placed = place(HYDROGEN, SMALL['vacuum_ang']) if structure is None else structure
        return WorkflowFactory(NAME).get_builder_from_protocol(
            pw_code, node_of_structure(placed), pseudos=pseudos, protocol='fast', overrides=SMALL | overrides
        )

    return make


def test_without_the_plugin_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, pw_code, pseudos) -> None:
    monkeypatch.setitem(sys.modules, 'aiida_quantumespresso', None)
    monkeypatch.delitem(sys.modules, 'aiida_quantumespresso.workflows.pw.base', raising=False)
    monkeypatch.delitem(sys.modules, 'aiida_nanoml.workflows.quantumespresso', raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aiida-nanoml\[quantumespresso\]'"):
        importlib.import_module('aiida_nanoml.workflows.quantumespresso')
    with pytest.raises(EntryPointError):
        WorkflowFactory(NAME)
    with pytest.raises(ValueError, match=r"pip install 'aiida-nanoml\[quantumespresso\]'"):
        run_get_node(
            WorkflowFactory('nanoml.label'),
            structures=StructureSetData(StructureSet.from_structures([HYDROGEN])),
            engine='quantumespresso',
            protocol='fast',
            engine_code=pw_code,
            pseudos=pseudos,
            mode='single',
            single_run=NAME,
        )


@needs_plugin
def test_the_input_is_that_of_the_engine(start) -> None:
    builder = start(spin='polarized', extra={'system.tot_charge': '0.0'})
    parameters = builder.pw.parameters.get_dict()
    assert parameters['CONTROL'] == {'calculation': 'scf', 'disk_io': 'low', 'tprnfor': True, 'tstress': True}
    assert parameters['ELECTRONS'] == {'conv_thr': 1e-8, 'electron_maxstep': 200, 'mixing_beta': 0.5}
    assert parameters['SYSTEM'] == {
        'ecutwfc': 25,
        'ecutrho': 100,
        'nbnd': 5,
        'occupations': 'smearing',
        'smearing': 'fermi-dirac',
        'degauss': pytest.approx(0.0019000869),
        'nspin': 2,
        'starting_magnetization': {'H': 0.5},
        'tot_charge': 0.0,
    }
    assert builder.pw.settings.get_dict() == {'GAMMA_ONLY': True}


@needs_plugin
def test_what_would_be_another_label_is_refused(start) -> None:
    with pytest.raises(EngineError, match='not in a box with a vacuum of 5 Å'):
        start(place(HYDROGEN, 6.0))
    with pytest.raises(EngineError, match='takes no card k_points in extra'):
        start(extra={'k_points': 'K_POINTS automatic\n2 2 2 0 0 0'})


@needs_plugin
@needs_program
def test_the_label_is_that_of_a_batch(pw_code, pseudos, tmp_path) -> None:
    structures = StructureSet.from_structures([HYDROGEN])
    expected = label_structures(structures, 'quantumespresso', 'fast', SMALL, runtime={'folder': str(tmp_path)})
    outputs, node = run_get_node(
        WorkflowFactory('nanoml.label'),
        structures=StructureSetData(structures),
        engine='quantumespresso',
        protocol='fast',
        parameters=SMALL,
        engine_code=pw_code,
        pseudos=pseudos,
        mode='single',
        single_run=NAME,
    )
    assert node.is_finished_ok, node.exit_message
    found = outputs['labels'].labels
    assert found.source.joined(expected.source)
    assert found.hashes.tolist() == expected.hashes.tolist()
    assert found.messages.tolist() == ['']
    for name, column in expected.energies.items():
        np.testing.assert_allclose(found.energies[name], column, atol=1e-5)
    np.testing.assert_allclose(
        found.vectors['forces_ev_per_ang'][0], expected.vectors['forces_ev_per_ang'][0], atol=1e-4
    )
    [origin] = trace(outputs['labels']).labelling
    assert origin.pseudopotentials == {'H': pseudos['H'].md5}
    assert 'PwCalculation' in {called.process_label for called in node.called_descendants}


@needs_plugin
@needs_program
def test_a_failure_is_cured_and_the_label_says_how(start) -> None:
    node = run_get_node(start(max_scf_iterations=4)).node
    assert node.is_finished_ok, node.exit_message
    found = node.outputs.labels.labels
    assert found.finished.all()
    assert found.messages.tolist() == ['recovered: mixing_beta 0.4, run again by aiida-quantumespresso']
    assert found.source.parameters['max_scf_iterations'] == 4


@needs_plugin
@needs_program
def test_a_failure_without_a_cure_has_its_reason(start) -> None:
    builder = start(max_scf_iterations=1)
    builder.max_iterations = orm.Int(2)
    node = run_get_node(builder).node
    assert node.is_failed
    found = node.outputs.labels.labels
    assert found.status.tolist() == ['not_converged']
    assert found.messages.tolist() == [
        'no self-consistency after 1 iterations (after: mixing_beta 0.4, run again by aiida-quantumespresso)'
    ]
