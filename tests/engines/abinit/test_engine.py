"""Running ABINIT, where it is installed, and what the engine says of itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from aiida_nanoml.engines import get_engine
from aiida_nanoml.engines.abinit.engine import AbinitEngine
from aiida_nanoml.engines.program import bundled_files
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.structures import Structure

HYDROGEN = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [0.3, 0.2, 0.7]]))

needs_abinit = pytest.mark.skipif(shutil.which('abinit') is None, reason='ABINIT is not installed: apt install abinit')


def failure_of(engine: AbinitEngine, structure: Structure = HYDROGEN) -> EvaluationError:
    with pytest.raises(EvaluationError) as caught:
        engine.evaluate(structure)
    return caught.value


def test_it_is_registered() -> None:
    assert get_engine('abinit') is AbinitEngine
    assert AbinitEngine.read_version('9.6.2\n') == '9.6.2'
    assert AbinitEngine.read_version('abinit: command not found') is None
    engine = AbinitEngine(AbinitEngine.parameters('balanced'))
    assert engine.method == 'LDA-CA/plane waves 30 Ha (ABINIT)'
    assert engine.functional == ('LDA', 'CA')


def test_pseudopotentials_of_another_functional_are_refused() -> None:
    engine = AbinitEngine(AbinitEngine.parameters('fast', {'functional': 'GGA-PBE'}))
    failure = failure_of(engine)
    assert failure.code == FailureCode.WRONG_PSEUDOPOTENTIAL
    assert 'LDA-CA' in failure.message


def test_pseudopotentials_in_another_format_are_refused() -> None:
    files = bundled_files('upf')
    failure = failure_of(AbinitEngine(AbinitEngine.parameters('fast'), runtime={'pseudopotentials': files}))
    assert failure.code == FailureCode.WRONG_PSEUDOPOTENTIAL
    assert 'psp8, but upf' in failure.message


def test_parameters_of_a_run_with_unknown_pseudopotentials_do_not_run() -> None:
    parameters = AbinitEngine.parameters('fast', {'pseudopotential_names': {'H': 'H.psp8'}})
    assert failure_of(AbinitEngine(parameters)).code == FailureCode.MISSING_PSEUDOPOTENTIAL


@needs_abinit
def test_a_real_run(tmp_path: Path) -> None:
    overrides = {'vacuum_ang': 5.0, 'cutoff_hartree': 8.0}
    engine = AbinitEngine(AbinitEngine.parameters('fast', overrides), runtime={'folder': str(tmp_path)})
    label = engine.evaluate(HYDROGEN)
    assert label.energy_ev == pytest.approx(-29.9, abs=0.5)
    assert 8.0 < label.gap_ev < 11.0
    assert label.n_electrons == 2
    assert label.forces_ev_per_ang is not None
    np.testing.assert_allclose(label.forces_ev_per_ang.sum(axis=0), 0, atol=1e-6)
    assert list(tmp_path.iterdir()) == [], 'what gave a label is removed'
    assert engine.version_in_use().split('.')[0].isdigit()


@needs_abinit
def test_a_real_failure_keeps_its_folder(tmp_path: Path) -> None:
    parameters = AbinitEngine.parameters('fast', {'vacuum_ang': 5.0, 'extra': {'no_such_variable': '1'}})
    failure = failure_of(AbinitEngine(parameters, runtime={'folder': str(tmp_path)}))
    assert failure.code == FailureCode.ENGINE_FAILURE
    assert 'NO_SUCH_VARIABLE' in failure.message
    assert 'exit status' in failure.message
    assert len(list(tmp_path.glob('*/aiida.out'))) == 1
