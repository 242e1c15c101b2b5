"""The engine of pw.x: what it writes, what it reads, what it refuses, and a run of the real program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiida_nanoml.engines.pseudopotentials import bundled, read_header
from aiida_nanoml.engines.quantumespresso.engine import QuantumEspressoEngine
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode
from aiida_nanoml.structures import Structure
from aiida_nanoml.testing.structures import BORAZINE, HYDROGEN_CYANIDE, METHYL
from aiida_nanoml.units import RYDBERG_EV
from tests.engines.quantumespresso.recorded import ALUMINIUM, BORANE, HYDROGEN, STRUCTURES, folder_of

MISSING = QuantumEspressoEngine.missing()
needs_program = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def make(protocol: str = 'fast', overrides: dict[str, Any] | None = None, **runtime: Any) -> QuantumEspressoEngine:
    return QuantumEspressoEngine(QuantumEspressoEngine.parameters(protocol, overrides), runtime=runtime)


def written(structure: Structure, protocol: str = 'fast', overrides: dict[str, Any] | None = None) -> list[str]:
    return make(protocol, overrides).files(structure)['aiida.in'].splitlines()


def test_input_of_a_molecule() -> None:
    assert written(HYDROGEN, overrides={'vacuum_ang': 5.0, 'cutoff_ry': 25.0}) == [
        '&CONTROL',
        "  calculation = 'scf'",
        "  prefix = 'pwscf'",
        "  outdir = './'",
        "  pseudo_dir = './'",
        "  disk_io = 'low'",
        '  tprnfor = .true.',
        '  tstress = .true.',
        '/',
        '&SYSTEM',
        '  ibrav = 0',
        '  nat = 2',
        '  ntyp = 1',
        '  ecutwfc = 25',
        '  ecutrho = 100',
        '  nbnd = 5',
        "  occupations = 'smearing'",
        "  smearing = 'fermi-dirac'",
        '  degauss = 0.00190008693804',
        '/',
        '&ELECTRONS',
        '  conv_thr = 1e-08',
        '  electron_maxstep = 200',
        '  mixing_beta = 0.5',
        '/',
        'ATOMIC_SPECIES',
        'H  1.0 H.upf',
        'CELL_PARAMETERS angstrom',
        '      5.0000000000       0.0000000000       0.0000000000',
        '      0.0000000000       5.0000000000       0.0000000000',
        '      0.0000000000       0.0000000000       5.7400000000',
        'ATOMIC_POSITIONS angstrom',
        'H        2.5000000000       2.5000000000       2.5000000000',
        'H        2.5000000000       2.5000000000       3.2400000000',
        'K_POINTS gamma',
    ]


def test_boron_has_a_partial_core_and_a_finer_density() -> None:
    fine = {element: read_header(path.read_text()).fine_density for element, path in bundled('upf').items()}  # type: ignore[union-attr]
    assert [element for element, needs in fine.items() if needs] == ['B']
    assert '  ecutrho = 180' in written(HYDROGEN_CYANIDE)
    assert '  ecutrho = 540' in written(BORANE)


def test_mesh_spin_and_further_words() -> None:
    lines = written(ALUMINIUM, 'metal', {'spin': 'polarized', 'extra': {'system.nosym': '.true.'}})
    assert lines[-2:] == ['K_POINTS automatic', '6 6 6 1 1 1']
    assert {'  nspin = 2', '  starting_magnetization(1) = 0.5', '  nosym = .true.'} <= set(lines)
    assert lines.index('  nosym = .true.') < lines.index('&ELECTRONS')


@pytest.mark.parametrize(
    ('overrides', 'reason'),
    [
        ({'functional': 'GGA-RPBE'}, 'is none of LDA-CA'),
        ({'extra': {'system.ecutwfc': '30'}}, 'belongs to cutoff_ry'),
        ({'extra': {'system.nat': '3'}}, 'belongs to the structure'),
        ({'extra': {'ions.ion_dynamics': "'bfgs'"}}, 'no word that changes a label'),
        ({'extra': {'system.nosym': '.true. /\n&IONS'}}, 'no value of an input'),
        ({'extra': {'system.smearing': "'mv'"}}, 'electronic_temperature_kelvin 0'),
        ({'spin': 'polarized', 'electronic_temperature_kelvin': 0.0}, 'needs system.tot_magnetization'),
        ({'k_grid': [2, 2, 2], 'k_shift': [0.25, 0.0, 0.0]}, 'by half of a step or not at all'),
        ({'k_grid': [2, 2, 2], 'extra': {'k_points': 'K_POINTS gamma'}}, 'k_grid and k_density None'),
    ],
)
def test_parameters_that_contradict_are_refused(overrides: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        QuantumEspressoEngine.parameters('fast', overrides)


def test_cutoff_below_the_hint_of_a_file_is_refused(tmp_path: Path) -> None:
    text = bundled('upf')['H'].read_text()
    hint = "wfc_cutoff=' 0.000000000000000E+00'"
    assert hint in text
    (tmp_path / 'H.upf').write_text(text.replace(hint, "wfc_cutoff='6.0E+01'"))
    engine = make(pseudopotentials={'H': str(tmp_path / 'H.upf')})
    with pytest.raises(EvaluationError) as caught:
        engine.check(HYDROGEN)
    assert caught.value.code == FailureCode.WRONG_PSEUDOPOTENTIAL
    assert caught.value.message == (
        'the pseudopotential of H asks for a cutoff of the wave functions of 60 Ry, the parameters give 45 Ry; raise '
        'cutoff_ry'
    )
    make('fast', {'cutoff_ry': 60.0}, pseudopotentials={'H': str(tmp_path / 'H.upf')}).check(HYDROGEN)


def test_the_header_of_a_file_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / 'H.upf'
    file.write_text(bundled('upf')['H'].read_text())
    engine = make(pseudopotentials={'H': str(file)})
    header = engine.header('H')
    assert header.valence_charge == 1.0
    file.write_text('')
    assert engine.header('H') is header
    with pytest.raises(EvaluationError, match=r'H\.upf does not say how many valence electrons it leaves'):
        make(pseudopotentials={'H': str(file)}).header('H')


def test_another_functional_is_refused() -> None:
    with pytest.raises(EvaluationError, match='made with LDA-CA, the parameters say GGA-PBE'):
        make('fast', {'functional': 'GGA-PBE'}).check(HYDROGEN)


@pytest.mark.parametrize(
    ('name', 'energy_ry', 'homo_ev', 'lumo_ev', 'fermi_ev'),
    [  # as the outputs print them
        ('hcn', -31.07574050, -7.4169, 0.1189, -4.6227),
        ('methyl-polarized', -14.34243412, -4.1244, -2.3045, -3.1153),
        ('methyl-fixed-spin', -14.34243412, -4.1244, -2.3045, None),
        ('h2-polarized-mesh', -2.21756355, -9.8044, -0.0399, -1.8465),
        ('h2-fixed', -2.22692192, -9.9972, -0.3740, None),
        ('aluminium', -4.19220449, 6.7979, 7.7960, 7.7868),
    ],
)
def test_numbers_of_recorded_runs(
    name: str, energy_ry: float, homo_ev: float, lumo_ev: float, fermi_ev: float | None
) -> None:
    label = make('fast').read(folder_of(name), STRUCTURES[name])
    assert label.energy_ev / RYDBERG_EV == pytest.approx(energy_ry, abs=1e-8)
    assert label.homo_ev == pytest.approx(homo_ev, abs=1e-4)
    assert label.lumo_ev == pytest.approx(lumo_ev, abs=1e-4)
    assert label.gap_ev == label.lumo_ev - label.homo_ev
    assert label.fermi_ev == (None if fermi_ev is None else pytest.approx(fermi_ev, abs=1e-4))
    assert label.level_weights is not None
    assert label.level_weights.sum() == pytest.approx(2)
    assert label.levels_ev is not None
    assert label.levels_ev.shape[1] % label.level_weights.shape[1] == 0
    assert label.forces_ev_per_ang is not None
    np.testing.assert_allclose(label.forces_ev_per_ang.sum(axis=0), 0, atol=2e-3)


def test_spin_of_the_methyl_radical() -> None:
    free, fixed = (make().read(folder_of(name), METHYL) for name in ('methyl-polarized', 'methyl-fixed-spin'))
    assert free.magnetic_moment_bohr == pytest.approx(1.0, abs=1e-6)
    assert fixed.magnetic_moment_bohr == pytest.approx(1.0, abs=1e-6)
    assert free.gap_ev == pytest.approx(fixed.gap_ev, abs=1e-6)
    assert free.open_shell
    assert free.n_electrons == 7


@pytest.mark.parametrize(
    ('name', 'code', 'message'),
    [
        ('not-converged', FailureCode.NOT_CONVERGED, 'no self-consistency after 3 iterations'),
        (
            'killed',
            FailureCode.TRUNCATED,
            'aiida.out ends before "JOB DONE.": the run was killed or its machine failed',
        ),
        (
            'missing-pseudopotential',
            FailureCode.MISSING_PSEUDOPOTENTIAL,
            'file /usr/share/espresso/pseudo/H.upf not found',
        ),
        (
            'wrong-input',
            FailureCode.ENGINE_FAILURE,
            'pw.x stopped in read_namelists: bad line in namelist &system: "  ecutrhoo = 100" (error could be in the '
            'previous line)',
        ),
        ('too-few-bands', FailureCode.ENGINE_FAILURE, '1 levels leave no LUMO; the run needs more levels (nbnd)'),
        (
            'disk-full',
            FailureCode.DISK_FULL,
            'a file cannot be written: error writing file ./pwscf.save/charge-density',
        ),
        ('out-of-memory', FailureCode.OUT_OF_MEMORY, 'the memory did not suffice: Error allocating'),
    ],
)
def test_failed_runs_are_named(name: str, code: FailureCode, message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        make().read(folder_of(name), STRUCTURES[name])
    assert (caught.value.code, ' '.join(caught.value.message.split())) == (code, ' '.join(message.split()))


def test_nothing_is_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError) as caught:
        make().read(tmp_path, HYDROGEN)
    assert caught.value.code == FailureCode.ENGINE_FAILURE
    assert caught.value.message == 'pw.x wrote nothing'


def test_boron_needs_the_density_that_the_protocols_give() -> None:
    ratios = {name: make(name).settings.density_cutoff_ry(fine=True) for name in QuantumEspressoEngine.protocols()}
    assert min(ratios.values()) >= 540, 'Ry: less than 1 meV of the gaps of BH3 and borazine depends on more'
    assert make().settings.density_cutoff_ry(fine=False) == 180


@needs_program
def test_real_run() -> None:
    engine = make('fast', {'cutoff_ry': 25.0, 'vacuum_ang': 5.0})
    assert engine.version_in_use()[0].isdigit()
    label = engine.evaluate(HYDROGEN_CYANIDE)
    recorded = engine.read(folder_of('hcn'), HYDROGEN_CYANIDE)
    assert label.energy_ev == pytest.approx(recorded.energy_ev, abs=1e-3)
    assert label.gap_ev == pytest.approx(recorded.gap_ev, abs=1e-3)
    assert label.forces_ev_per_ang == pytest.approx(recorded.forces_ev_per_ang, abs=5e-3)
    assert label.stress_ev_per_ang3 == pytest.approx(recorded.stress_ev_per_ang3, abs=1e-4)


@needs_program
def test_real_failures_keep_their_folder(tmp_path: Path) -> None:
    few = make('fast', {'cutoff_ry': 20.0, 'vacuum_ang': 5.0, 'max_scf_iterations': 1}, folder=str(tmp_path))
    with pytest.raises(EvaluationError) as caught:
        few.evaluate(HYDROGEN)
    assert caught.value.code == FailureCode.NOT_CONVERGED
    (folder,) = tmp_path.iterdir()
    assert (folder / 'aiida.out').read_text().count('iteration #') == 1
    broken = make('fast', {'cutoff_ry': 20.0, 'vacuum_ang': 5.0, 'extra': {'system.no_such': '1'}})
    with pytest.raises(EvaluationError, match=r'stopped in read_namelists: bad line in namelist &system: .*no_such'):
        broken.evaluate(HYDROGEN)


def test_isolated_structures_are_put_into_a_box() -> None:
    moved = Structure(BORAZINE.numbers, BORAZINE.positions + 7.0, cell=np.eye(3) * 30)
    assert written(moved) == written(BORAZINE)
