"""Running SIESTA, with the stand-in for recorded structures."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiida_nanoml.engines import get_engine
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.pseudopotentials import bundled, digest
from aiida_nanoml.engines.siesta.engine import SiestaEngine
from aiida_nanoml.engines.siesta.fdf import read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import read_parameters
from aiida_nanoml.errors import REFUSED, EvaluationError
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.units import BOLTZMANN_EV_PER_K
from aiida_nanoml.worker.labelled_rows import LabelledRow, tabulate
from tests.stand_in.fixtures import RecordedRun, recorded_runs

RUNS = recorded_runs()
SOURCE = LabelSource('siesta', '4.1-b4-133', 'LDA-CA/DZP (SIESTA)', 'paper_alloys')


@pytest.fixture
def make_engine(siesta_stand_in: Path, tmp_path: Path) -> Callable[..., SiestaEngine]:
    """Make the engine with the stand-in, working in a folder of the test."""

    def make(run: RecordedRun | None = None, **runtime: Any) -> SiestaEngine:
        settings = SiestaEngine.parameters('paper') if run is None else read_parameters(read_fdf(run.fdf))
        values = {'executable': str(siesta_stand_in), 'folder': str(tmp_path / 'runs'), **runtime}
        return SiestaEngine(settings, runtime=values)

    return make


def failure_of(engine: SiestaEngine, structure: Structure) -> EvaluationError:
    with pytest.raises(EvaluationError) as caught:
        engine.evaluate(structure)
    return caught.value


@pytest.mark.parametrize('name', ['h-0000', 's-0000', 'z-C24H12', 'hea-00-fcc-0'])
def test_the_label_is_that_of_the_recording(name: str, make_engine, tmp_path: Path) -> None:
    run = RUNS[name]
    label = make_engine(run).evaluate(run.structure)
    if 'gap_ev' in run.about:
        assert label.gap_ev == pytest.approx(run.about['gap_ev'], abs=1e-6)
    assert label.energy_ev < -1000
    assert label.forces_ev_per_ang is not None
    assert list((tmp_path / 'runs').iterdir()) == [], 'what gave a label is removed'


def test_an_isolated_structure_is_the_same_wherever_it_is(make_engine) -> None:
    run = RUNS['h-0000']
    given = run.structure
    moved = Structure(given.numbers, given.positions + np.array([3.0, -11.0, 0.5]), np.eye(3) * 3.0)
    assert make_engine(run).evaluate(moved).gap_ev == pytest.approx(run.about['gap_ev'], abs=1e-6)


@pytest.mark.parametrize('scan', ['hea-00-bcc', 'hea-00-fcc', 'hea-01-bcc', 'hea-01-fcc'])
def test_a_recorded_scan_of_an_alloy(scan: str, make_engine) -> None:
    """Energies with a minimum inside, the pressure that changes its sign there, and what else metals need."""
    runs = [run for name, run in RUNS.items() if name.startswith(scan)]
    engine = make_engine(runs[0])
    assert engine.settings == SiestaEngine.parameters('paper_alloys')
    structures = StructureSet.from_structures([run.structure for run in runs])
    entries = {row: LabelledRow.from_label(engine.evaluate(run.structure), 1.0) for row, run in enumerate(runs)}
    labels = tabulate(SOURCE, structures, entries)
    energies = labels.energies['energy_ev']
    assert 0 < int(energies.argmin()) < 4
    pressures = np.array([-labels.vectors['stress_ev_per_ang3'][row].reshape(3, 3).trace() / 3 for row in range(5)])
    assert np.all(np.diff(pressures) < 0)
    assert pressures[0] > 0 > pressures[-1]
    # By Sommerfeld, the entropy that parts the free energy from the recorded one tells the density at the Fermi level.
    heat = np.array([run.about['energy_ev'] for run in runs]) - energies
    expected = heat / (np.pi**2 / 3 * (BOLTZMANN_EV_PER_K * 1000.0) ** 2)
    np.testing.assert_allclose(labels.dos_fermi(), expected, rtol=0.12)
    atoms = sum(RUNS[f'atom-{symbol}'].about['energy_ev'] for symbol in structures[0].symbols)
    cohesive = (atoms - min(run.about['energy_ev'] for run in runs)) / 8
    assert 9.0 < cohesive < 9.6, 'eV per atom, twice what is measured: atoms without spin lie far too high'


@pytest.mark.parametrize('symbol', ['Al', 'Cr', 'Fe', 'Co', 'Ni'])
def test_atoms_of_the_alloys_have_the_recorded_energy(symbol: str, make_engine) -> None:
    run = RUNS[f'atom-{symbol}']
    label = make_engine(run).evaluate(Structure(run.structure.numbers, np.zeros((1, 3))))
    assert 0 <= run.about['energy_ev'] - label.energy_ev < 0.8
    assert label.level_weights is not None
    assert label.level_weights.tolist() == [[2.0]]


def test_iron_has_a_moment(make_engine) -> None:
    run = RUNS['iron-spin']
    settings = SiestaEngine.parameters('metal_fast', {'spin': 'polarized'})
    runtime = make_engine(run).runtime.model_dump()
    label = SiestaEngine(settings, runtime=runtime).evaluate(run.structure)
    assert label.magnetic_moment_bohr == pytest.approx(5.75, abs=1e-3)
    labels = tabulate(SOURCE, StructureSet.from_structures([run.structure]), {0: LabelledRow.from_label(label, 1.0)})
    assert labels.numbers['magnetic_moment_bohr'].tolist() == [label.magnetic_moment_bohr]
    assert labels.vectors['level_weights'][0].sum() == pytest.approx(2.0)
    assert 1.5 < labels.dos_fermi()[0] < 2.5


@pytest.mark.parametrize(
    ('name', 'code'),
    [
        ('scf-not-converged', 'not_converged'),
        ('split-norm-too-small', 'basis_error'),
        ('polarization', 'basis_error'),
        ('atoms-too-close', 'atoms_too_close'),
    ],
)
def test_failures_have_their_code_and_keep_their_folder(name: str, code: str, make_engine, tmp_path: Path) -> None:
    run = RUNS[name]
    assert failure_of(make_engine(run), run.structure).code == code
    kept = list((tmp_path / 'runs').glob('*/aiida.out'))
    assert len(kept) == (0 if code in REFUSED else 1)


def test_an_unknown_input_fails_loudly(make_engine, benzene: Structure) -> None:
    failure = failure_of(make_engine(), benzene)
    assert failure.code == 'engine_failure'
    assert 'SIESTA wrote nothing' in failure.message
    assert 'exit status 1' in failure.message


def test_the_program_says_its_version(make_engine) -> None:
    assert make_engine().version_in_use() == '4.1-b4-133'


def test_the_program_is_found_by_name(make_engine, siesta_stand_in: Path, monkeypatch) -> None:
    run = RUNS['h-0000']
    monkeypatch.setenv('PATH', os.pathsep.join([str(siesta_stand_in.parent), os.environ['PATH']]))
    assert SiestaEngine.missing() is None
    assert SiestaEngine.version() == '4.1-b4-133'
    assert SiestaEngine(read_parameters(read_fdf(run.fdf))).evaluate(run.structure).gap_ev == pytest.approx(
        run.about['gap_ev'], abs=1e-6
    )


def test_what_is_missing_is_said(siesta_stand_in: Path, monkeypatch) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    assert 'install SIESTA 4.1' in str(SiestaEngine.missing())
    assert SiestaEngine.missing({'executable': str(siesta_stand_in)}) is None


def test_pseudopotentials_are_checked_before_anything_runs(make_engine, tmp_path: Path) -> None:
    run = RUNS['h-0000']
    files = {element: str(path) for element, path in bundled().items()}
    for change, code in (
        ({'C': files['N']}, 'wrong_pseudopotential'),
        ({'C': str(tmp_path / 'gone.psf')}, 'missing_pseudopotential'),
    ):
        assert failure_of(make_engine(run, pseudopotentials=files | change), run.structure).code == code
    few = {element: path for element, path in files.items() if element != 'B'}
    assert failure_of(make_engine(run, pseudopotentials=few), run.structure).code == 'missing_pseudopotential'
    assert not (tmp_path / 'runs').exists()


def test_the_source_names_the_pseudopotentials(make_engine, tmp_path: Path) -> None:
    assert make_engine().pseudopotentials() == {element: digest(path) for element, path in bundled().items()}
    partly = make_engine(pseudopotentials={'C': str(bundled()['C']), 'H': str(tmp_path / 'gone.psf')})
    assert partly.pseudopotentials() == {'C': digest(bundled()['C'])}


def test_the_method_names_functional_and_basis() -> None:
    def method(**overrides: Any) -> str:
        return SiestaEngine(SiestaEngine.parameters('paper', overrides)).method

    assert method() == 'LDA-CA/DZP (SIESTA)'
    assert method(spin='polarized', basis_size='SZP') == 'LDA-CA/SZP, spin-polarised (SIESTA)'


def test_the_engine_is_registered_and_travels(make_engine) -> None:
    assert get_engine('siesta') is SiestaEngine
    run = RUNS['h-0000']
    copy = pickle.loads(pickle.dumps(make_engine(run)))  # noqa: S301
    assert copy.evaluate(run.structure).gap_ev == pytest.approx(run.about['gap_ev'], abs=1e-6)


# Densities


METHANIMINE = RUNS['methanimine']


def test_the_density_of_a_run_comes_with_its_label(make_engine: Callable[..., SiestaEngine], tmp_path: Path) -> None:
    plain = make_engine(METHANIMINE)
    engine = SiestaEngine(plain.settings, runtime=plain.runtime.model_dump(), density=True)
    label = engine.evaluate(METHANIMINE.structure)
    assert label == plain.evaluate(METHANIMINE.structure)
    density = label.density
    assert density is not None
    assert list(density.shape) == METHANIMINE.about['mesh']
    assert density.charge(density.total) == pytest.approx(label.n_electrons, rel=1e-3)
    assert density.charge(density.difference) == pytest.approx(0, abs=5e-3)
    np.testing.assert_allclose(density.structure.cell, METHANIMINE.structure.cell, atol=1e-6)
    assert not list((tmp_path / 'runs').iterdir()), 'what is large does not stay'


def test_a_run_that_saved_no_density_is_a_failure(make_engine: Callable[..., SiestaEngine]) -> None:
    recorded = RUNS['h-0000']
    plain = make_engine(recorded)
    engine = SiestaEngine(plain.settings, runtime=plain.runtime.model_dump(), density=True)
    error = failure_of(engine, recorded.structure)
    assert error.code == 'engine_failure'
    assert 'SIESTA left no density' in error.message
