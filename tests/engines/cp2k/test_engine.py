"""Engine ``cp2k``: its input, its labels on recorded runs, and one run of the program."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiida_nanoml.engines import get_engine
from aiida_nanoml.engines.cp2k.engine import Cp2kEngine
from aiida_nanoml.engines.cp2k.input_writing import k_points, to_box, write_input
from aiida_nanoml.engines.cp2k.parameters import Cp2kParameters
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode
from aiida_nanoml.structures import Structure
from aiida_nanoml.testing.recordings import Recording, recordings_of
from tests.mutations import fuzzed, mutations

RECORDINGS = {recording.folder.name: recording for recording in recordings_of(Cp2kEngine)}
HYDROGEN = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.76]]))
ALUMINIUM = RECORDINGS['aluminium'].structure


def parameters(protocol: str = 'fast', **overrides: Any) -> Cp2kParameters:
    found = Cp2kEngine.parameters(protocol, overrides)
    assert isinstance(found, Cp2kParameters)
    return found


def read(recording: Recording, folder: Path | None = None) -> Any:
    return recording.engine(Cp2kEngine).read(folder or recording.folder, recording.structure)


@pytest.fixture
def copy_of(tmp_path: Path) -> Any:
    """Copy a recording to a folder where it can be changed."""

    def copy(name: str) -> tuple[Recording, Path]:
        folder = tmp_path / name
        shutil.copytree(RECORDINGS[name].folder, folder)
        return RECORDINGS[name], folder

    return copy


def failure(recording: Recording, folder: Path) -> EvaluationError:
    with pytest.raises(EvaluationError) as caught:
        read(recording, folder)
    return caught.value


# --- input


def test_an_isolated_structure_stands_in_a_box_with_the_vacuum_of_the_parameters() -> None:
    text = write_input(HYDROGEN, parameters(vacuum_ang=6.0, poisson_solver='PERIODIC'))
    assert 'A 6.000000000000 0.000000000000 0.000000000000' in text
    assert 'C 0.000000000000 0.000000000000 6.760000000000' in text
    assert '&KPOINTS' not in text
    assert 'STRESS_TENSOR' not in text, 'nothing says what the stress of a box of vacuum would be'
    assert text.count('&END') == text.count('&') / 2


def test_the_box_of_the_wavelet_solver_is_a_cube_with_the_structure_in_its_middle() -> None:
    box = to_box(HYDROGEN, parameters(vacuum_ang=6.0, poisson_solver='WAVELET'))
    np.testing.assert_allclose(box.cell, np.eye(3) * 6.76)
    np.testing.assert_allclose(box.positions.mean(axis=0), 3.38)
    text = write_input(HYDROGEN, parameters(vacuum_ang=6.0, poisson_solver='WAVELET'))
    assert text.count('PERIODIC NONE') == 2, 'of the cell and of the potential'


def test_k_points_are_those_of_the_mesh_without_their_mirror_images() -> None:
    found = k_points(ALUMINIUM, parameters('metal', k_density=None, k_grid=[2, 2, 2]))
    assert found is not None
    points, weights = found
    assert len(points) == 4
    np.testing.assert_allclose(np.abs(points), 0.25)
    np.testing.assert_allclose(weights, 0.25)
    found = k_points(ALUMINIUM, parameters('metal', k_density=None, k_grid=[3, 2, 1], k_shift=[0.0, 0.0, 0.0]))
    assert found is not None
    points, weights = found
    full = {(round(i / 3, 9), round(j / 2, 9)) for i in range(3) for j in range(2)}
    signed = {tuple(np.round((sign * point[:2]) % 1.0, 9) % 1.0) for point in points for sign in (1, -1)}
    assert signed == full
    assert weights.sum() == pytest.approx(1)
    assert sorted(np.round(weights * 6)) == [1, 1, 2, 2]


def test_a_solid_has_k_points_and_stress_in_its_input() -> None:
    text = write_input(ALUMINIUM, parameters('metal'))
    assert 'SCHEME GENERAL' in text
    assert 'STRESS_TENSOR ANALYTICAL' in text
    assert 'ELECTRONIC_TEMPERATURE [K] 1000' in text


def test_spin_basis_pseudopotential_and_moments_can_differ_by_element() -> None:
    settings = parameters(
        spin='polarized',
        basis_by_element={'H': 'TZVP-MOLOPT-GTH'},
        pseudopotential_by_element={'Ni': 'GTH-PADE-q10'},
        initial_moments_bohr={'H': 1.0},
    )
    text = write_input(HYDROGEN, settings)
    assert 'UKS T' in text
    assert 'ADDED_MOS -1 -1' in text
    assert 'BASIS_SET TZVP-MOLOPT-GTH' in text
    assert 'MAGNETIZATION 1' in text
    assert settings.pseudopotential_of('Ni') == 'GTH-PADE-q10'


def test_further_input_is_written_where_its_path_says() -> None:
    extra = {
        'DFT/CHARGE': '1',
        'DFT/XC/VDW_POTENTIAL/POTENTIAL_TYPE': 'PAIR_POTENTIAL',
        'DFT/XC/VDW_POTENTIAL/PAIR_POTENTIAL[1]/TYPE': 'DFTD3',
        'DFT/XC/HF/_': 'ON',
    }
    lines = [line.strip() for line in write_input(HYDROGEN, parameters(extra_input=extra)).splitlines()]
    assert 'CHARGE 1' in lines
    assert lines[lines.index('&PAIR_POTENTIAL') + 1] == 'TYPE DFTD3'
    assert lines.index('&VDW_POTENTIAL') > lines.index('&XC')
    assert '&HF ON' in lines


def test_a_custom_functional_is_spelt_out_by_the_further_input() -> None:
    extra = {'DFT/XC/XC_FUNCTIONAL/PBE/SCALE_X': '0.75', 'DFT/XC/HF/FRACTION': '0.25'}
    settings = parameters(functional='CUSTOM', pseudopotential_set='GTH-PBE', extra_input=extra)
    text = write_input(HYDROGEN, settings)
    assert '&XC_FUNCTIONAL\n' in text
    assert 'SCALE_X 0.75' in text
    assert Cp2kEngine(settings).functional is None


def test_pbesol_is_a_parametrisation() -> None:
    text = write_input(HYDROGEN, parameters(functional='GGA-PBEsol', pseudopotential_set='GTH-PBESol'))
    assert 'PARAMETRIZATION PBESOL' in text


@pytest.mark.parametrize(
    ('overrides', 'sentence'),
    [
        ({'functional': 'GGA-PBE'}, 'GTH-PADE were not made with GGA-PBE, which has: GTH-PBE'),
        ({'pseudopotential_set': 'GTH-PBE'}, 'GTH-PBE were not made with LDA-PADE'),
        ({'pseudopotential_by_element': {'Ni': 'GTH-BLYP-q18'}}, 'GTH-BLYP-q18 were not made with'),
        ({'functional': 'CUSTOM'}, 'needs DFT/XC/XC_FUNCTIONAL'),
        ({'initial_moments_bohr': {'Fe': 3.0}}, 'needs spin polarized'),
        ({'basis_by_element': {'Xx': 'SZV'}}, 'no chemical symbols'),
        ({'extra_input': {'dft/charge': '1'}}, 'no path of an input in capitals'),
        ({'extra_input': {'DFT/CHARGE': '1\n&END'}}, 'not a line of plain text'),
        ({'electronic_temperature_kelvin': 0.0, 'k_grid': [2, 2, 2]}, 'need an electronic_temperature_kelvin'),
    ],
)
def test_contradicting_parameters_are_refused(overrides: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        parameters(**overrides)


# --- labels of recorded runs; their numbers are compared in aiida_nanoml.testing


def test_levels_of_k_points_and_their_weights_stand_side_by_side() -> None:
    label = read(RECORDINGS['aluminium'])
    assert label.levels_ev.shape == (1, 4 * 13)
    assert label.level_weights.tolist() == [[0.5] * 4]
    assert label.homo_ev <= label.fermi_ev < label.lumo_ev
    held = np.repeat(label.level_weights[0], 13)[label.levels_ev[0] < label.fermi_ev].sum()
    assert held == pytest.approx(3, abs=0.51), 'three electrons, but for those that the temperature lifts'
    assert label.stress_ev_per_ang3.shape == (3, 3)
    printed = (RECORDINGS['aluminium'].folder / 'aiida-stress-1_0.stress_tensor').read_text().split('x ')[2].split()[0]
    assert label.stress_ev_per_ang3[0, 0] == pytest.approx(-float(printed) / 160.21766, rel=1e-5)


def test_spins_have_levels_of_their_own() -> None:
    label = read(RECORDINGS['hydrogen-atom-spin'])
    assert label.levels_ev.shape == (2, 5)
    assert label.magnetic_moment_bohr == pytest.approx(1, abs=1e-6)
    assert label.levels_ev[0, 0] < label.levels_ev[1, 0]
    assert label.open_shell
    assert label.stress_ev_per_ang3 is None


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('not-converged', r'no self-consistency within the allowed iterations \(3\)'),
        ('killed', 'the output ends before "PROGRAM ENDED"'),
        ('no-basis', 'The requested basis set <QZV9P-GTH> for element <H> was not found'),
        ('no-pseudopotential', 'The requested atomic potential <GTH-PADE-q3> for element <H> was not found'),
        ('wrong-input', 'found an unknown keyword NO_SUCH_KEYWORD in section DFT'),
        ('out-of-memory', 'the memory did not suffice: Cannot allocate memory'),
        ('disk-full', 'the disk was full'),
        ('odd-electrons', 'Use the LSD option for an odd number of electrons'),
    ],
)
def test_failures_say_what_happened(name: str, sentence: str) -> None:
    with pytest.raises(EvaluationError, match=sentence):
        read(RECORDINGS[name])


def test_an_empty_output_and_missing_files_are_named(copy_of: Any) -> None:
    recording, folder = copy_of('hydrogen')
    (folder / 'aiida-levels-1_0.MOLog').unlink()
    assert 'CP2K left no file aiida-levels-1_0.MOLog' in failure(recording, folder).message
    (folder / 'aiida.out').write_text('')
    (folder / 'aiida.err').write_text('cp2k: error while loading shared libraries: libelpa.so\n')
    assert failure(recording, folder).message.endswith('libelpa.so')


@pytest.mark.parametrize(
    ('file', 'old', 'new', 'code'),
    [
        ('aiida-levels-1_0.MOLog', '-0.330939', '*' * 9, FailureCode.ENGINE_FAILURE),
        ('aiida-levels-1_0.MOLog', '-0.330939', '0.930939', FailureCode.ENGINE_FAILURE),
        (
            'aiida-levels-1_0.MOLog',
            '2.000000000000\n MO|      2',
            '1.000000000000\n MO|      2',
            FailureCode.INCONSISTENT,
        ),
        ('aiida-levels-1_0.MOLog', 'Sum:', 'xxx:', FailureCode.ENGINE_FAILURE),
        ('aiida-forces-1_0.xyz', '      2      1', '      3      1', FailureCode.ENGINE_FAILURE),
        (
            'aiida.out',
            'energy [a.u.]:               -1.1',
            'energy [a.u.]:               -1.2',
            FailureCode.INCONSISTENT,
        ),
        (
            'aiida.out',
            'energy [a.u.]:               -1.1',
            'energy [a.u.]:               NaN',
            FailureCode.ENGINE_FAILURE,
        ),
        ('aiida.out', 'SCF run converged', 'SCF run NOT converged', FailureCode.NOT_CONVERGED),
        ('aiida.out', 'PROGRAM ENDED', 'PROGRAM', FailureCode.TRUNCATED),
    ],
)
def test_numbers_that_cannot_be_are_refused(copy_of: Any, file: str, old: str, new: str, code: FailureCode) -> None:
    recording, folder = copy_of('hydrogen')
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    assert failure(recording, folder).code == code


@fuzzed(batches=10)
def test_mutations_give_the_label_or_a_named_failure(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    recording = RECORDINGS['aluminium']
    right = read(recording)
    folder = tmp_path_factory.mktemp('mutation')
    files = ('aiida.out', 'aiida-levels-1_0.MOLog', 'aiida-forces-1_0.xyz', 'aiida-stress-1_0.stress_tensor')
    contents = {name: (recording.folder / name).read_bytes() for name in files}
    name = files[seed % 4]
    for other, content in contents.items():
        (folder / other).write_bytes(content)
    for mutation in mutations(contents[name], seed):
        (folder / name).write_bytes(mutation)
        try:
            label = read(recording, folder)
        except EvaluationError:
            continue
        assert label.energy_ev == pytest.approx(right.energy_ev, abs=0.05)
        assert label.n_electrons == right.n_electrons
        assert np.isfinite(label.levels_ev).all()
        assert np.isfinite(label.stress_ev_per_ang3).all()


# --- the program


@pytest.mark.skipif(Cp2kEngine.missing() is not None, reason='the program cp2k is not on this machine')
def test_the_program_computes_what_was_recorded(tmp_path: Path) -> None:
    recording = RECORDINGS['hydrogen']
    settings = recording.engine(Cp2kEngine).settings
    engine = get_engine('cp2k')(settings, runtime={'folder': str(tmp_path)})
    label = engine.evaluate(recording.structure)
    assert label.energy_ev == pytest.approx(recording.about['label']['energy_ev'], abs=1e-3)
    assert label.gap_ev == pytest.approx(recording.about['label']['gap_ev'], abs=1e-3)
    forces = label.forces_ev_per_ang
    assert forces is not None
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-4)
    assert not list(tmp_path.iterdir()), 'the folder of a structure is removed when it gave a label'
