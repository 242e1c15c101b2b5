"""Reading runs of ABINIT: recorded ones, damaged ones, and failures."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from aiida_nanoml.engines.abinit.output import read_version
from aiida_nanoml.engines.base import Label
from aiida_nanoml.errors import RUN, EvaluationError, FailureCode
from tests.engines.abinit.runs import RUNS, change, copy_run, read_run
from tests.mutations import fuzzed, mutations

GOOD = sorted(name for name, run in RUNS.items() if 'label' in run.about)
FAILED = sorted(name for name, run in RUNS.items() if 'failure' in run.about)
MOLECULE, RADICAL, METAL = 'hydrogen-cyanide', 'methyl', 'aluminium'
FILES = ('aiida.abo', 'aiidao_EIG', 'aiidao_EIG.nc')


def label_or_none(name: str, folder: Path) -> Label | None:
    try:
        return read_run(name, folder)
    except EvaluationError:
        return None


def assert_same(label: Label, expected: Label) -> None:
    assert label.energy_ev == pytest.approx(expected.energy_ev, abs=1e-3)
    assert label.gap_ev == pytest.approx(expected.gap_ev, abs=1e-3)
    assert label.n_electrons == expected.n_electrons
    if label.magnetic_moment_bohr is not None:
        assert label.magnetic_moment_bohr == pytest.approx(expected.magnetic_moment_bohr, abs=1e-3)
    for ours, theirs in (
        (label.levels_ev, expected.levels_ev),
        (label.forces_ev_per_ang, expected.forces_ev_per_ang),
        (label.stress_ev_per_ang3, expected.stress_ev_per_ang3),
        (label.level_weights, expected.level_weights),
    ):
        if ours is not None:  # what is not found is no wrong number
            np.testing.assert_allclose(ours, theirs, atol=1e-3)


def failure_of(name: str, folder: Path) -> EvaluationError:
    with pytest.raises(EvaluationError) as caught:
        read_run(name, folder)
    return caught.value


@pytest.mark.parametrize('name', GOOD)
def test_labels_are_whole(name: str) -> None:
    run, label = RUNS[name], read_run(name)
    assert label.gap_ev == label.lumo_ev - label.homo_ev >= 0
    assert label.forces_ev_per_ang is not None
    assert label.forces_ev_per_ang.shape == run.structure.positions.shape
    np.testing.assert_allclose(label.forces_ev_per_ang.sum(axis=0), 0, atol=1e-6)
    assert label.stress_ev_per_ang3 is not None
    np.testing.assert_array_equal(label.stress_ev_per_ang3, label.stress_ev_per_ang3.T)
    assert label.level_weights is not None
    assert label.level_weights.sum() == pytest.approx(2, abs=1e-12)


def test_numbers_of_a_molecule() -> None:
    """As the files of the run print them: energy -15.513332981600 Ha, fifth and sixth level."""
    label = read_run(MOLECULE)
    assert label.energy_ev == pytest.approx(-15.513332981600 * 27.211386245988, abs=1e-8)
    assert label.n_electrons == 10
    assert not label.open_shell
    assert label.levels_ev is not None
    assert label.levels_ev[0, 4] == label.homo_ev
    assert label.levels_ev[0, 5] == label.lumo_ev
    assert label.homo_ev == label.levels_ev[0, 3] or label.homo_ev == pytest.approx(label.levels_ev[0, 3], abs=1e-3), (
        'the two π levels are the same'
    )
    assert label.magnetic_moment_bohr is None


def test_a_radical_has_a_moment() -> None:
    label = read_run(RADICAL)
    assert label.open_shell
    assert label.magnetic_moment_bohr == pytest.approx(1.0, abs=1e-6)
    assert label.levels_ev is not None
    assert label.levels_ev.shape[0] == 2
    assert label.level_weights is not None
    assert label.level_weights.tolist() == [[1.0], [1.0]]


def test_a_metal_has_k_points() -> None:
    label = read_run(METAL)
    assert label.fermi_ev is not None
    assert label.level_weights is not None
    assert label.levels_ev is not None
    n_points = label.level_weights.shape[1]
    assert n_points > 8
    assert label.levels_ev.shape[1] % n_points == 0
    assert label.homo_ev <= label.fermi_ev < label.lumo_ev
    assert label.gap_ev < 2.0, 'between the levels of a coarse mesh'


@pytest.mark.parametrize('name', GOOD)
def test_levels_in_netcdf_only_add_digits(name: str, tmp_path: Path) -> None:
    folder = copy_run(name, tmp_path)
    (folder / 'aiidao_EIG.nc').unlink()
    rounded, exact = read_run(name, folder), read_run(name)
    assert rounded.gap_ev == pytest.approx(exact.gap_ev, abs=3e-4)
    assert rounded.energy_ev == exact.energy_ev
    assert rounded.level_weights is not None
    np.testing.assert_allclose(rounded.level_weights, exact.level_weights)


@pytest.mark.parametrize('name', FAILED)
def test_failures_are_named(name: str) -> None:
    failure = failure_of(name, RUNS[name].folder)
    assert failure.code == RUNS[name].about['failure']
    wanted = {
        'not-converged': 'the self-consistency did not converge (3 iterations)',
        'wrong-input': 'ABINIT stopped itself: Found token: `TOLVARS` in the input file',
        'missing-pseudopotential': 'ABINIT finds no pseudopotential',
        'killed': 'the run was killed or its machine failed',
        'out-of-memory': 'the memory is exhausted',
        'disk-full': 'the run was killed or its machine failed',
        'disk-full-at-start': 'a file cannot be written, as on a full disk: nf90_enddef - NetCDF library returned',
    }[name]
    assert wanted in failure.message


def test_a_full_disk_is_seen_where_abinit_does_not_notice_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(61440, 61440, 0))
    failure = failure_of('disk-full', RUNS['disk-full'].folder)
    assert failure.code == FailureCode.DISK_FULL
    assert failure.message.startswith('the disk is full: aiida.abo ends before')


def test_a_run_that_wrote_nothing(tmp_path: Path) -> None:
    failure = failure_of(MOLECULE, tmp_path)
    assert failure.code == FailureCode.ENGINE_FAILURE
    assert failure.message == 'ABINIT wrote nothing'
    (tmp_path / 'aiida.err').write_text('first\nerror while loading shared libraries: libxc.so.9\n')
    assert 'libxc.so.9' in failure_of(MOLECULE, tmp_path).message


@pytest.mark.parametrize(
    ('file', 'old', 'new', 'reason'),
    [
        ('aiida.abo', 'total_energy        : -', 'total_energy        : ', 'the last iteration has -15.51333298 Ha'),
        ('aiida.abo', 'total_energy        : ', 'total_energy        : NaN #', 'this is no finite number'),
        ('aiida.abo', 'total_energy        : ', 'total_energy        : ********** #', 'its field is too narrow'),
        ('aiida.abo', '{nelect:   1', '{nelect:   2', 'the pseudopotentials that it names bring 10'),
        ('aiida.abo', 'fermie    :  -', 'fermie    :   ', 'they are those of another run'),
        ('aiida.abo', 'band_energy         : -', 'band_energy         :  ', 'the filled levels add up to'),
        ('aiida.abo', '-  sigma', '-  sigmo', ''),
        ('aiida.abo', 'was not', 'was not', ''),
        ('aiidao_EIG', 'nband=', 'nband=  9#', ''),
        ('aiidao_EIG', 'wtk=  1.0', 'wtk=  0.5', 'contradict|add up to'),
    ],
)
def test_numbers_that_are_none_or_contradict_another(
    file: str, old: str, new: str, reason: str, tmp_path: Path
) -> None:
    folder = copy_run(MOLECULE, tmp_path)
    if old not in (folder / file).read_text():
        return
    change(folder / file, old, new)
    failure = failure_of(MOLECULE, folder)
    assert failure.code in RUN
    assert any(part in failure.message for part in reason.split('|'))


def test_levels_of_another_run(tmp_path: Path) -> None:
    folder = copy_run(MOLECULE, tmp_path)
    shutil.copy(RUNS[RADICAL].folder / 'aiidao_EIG.nc', folder)
    assert failure_of(MOLECULE, folder).code == FailureCode.INCONSISTENT
    shutil.copy(RUNS[RADICAL].folder / 'aiidao_EIG', folder)
    assert failure_of(MOLECULE, folder).code == FailureCode.INCONSISTENT


def test_a_level_that_was_changed_everywhere_contradicts_the_energy_of_the_bands(tmp_path: Path) -> None:
    folder = copy_run(MOLECULE, tmp_path)
    (folder / 'aiidao_EIG.nc').unlink()
    lowest = (folder / 'aiidao_EIG').read_text().splitlines()[3].split()[0]
    change(folder / 'aiidao_EIG', lowest, f'{float(lowest) - 0.01:.5f}')
    failure = failure_of(MOLECULE, folder)
    assert failure.code == FailureCode.INCONSISTENT
    assert 'the filled levels add up to' in failure.message


def test_a_file_in_netcdf_that_is_damaged(tmp_path: Path) -> None:
    folder = copy_run(MOLECULE, tmp_path)
    content = (folder / 'aiidao_EIG.nc').read_bytes()
    for damaged in (content[:4000], b'', b'CDF\x01' + content, b'\x89HDF'):
        (folder / 'aiidao_EIG.nc').write_bytes(damaged)
        assert 'is damaged, or no netCDF file' in failure_of(MOLECULE, folder).message


def test_versions() -> None:
    head = '\n.Version 9.6.2 of ABINIT \n.(MPI version, prepared for a x86_64_linux_gnu11.2 computer) \n'
    assert read_version(head) == '9.6.2'
    assert read_version('-Version 10.4.7   of ABINIT, released') == '10.4.7'
    assert read_version('Siesta Version  : v4.1') is None


@pytest.mark.parametrize('name', [MOLECULE, RADICAL, METAL])
@fuzzed(10)
def test_no_mutation_gives_a_wrong_number(name: str, seed: int) -> None:
    """A mutation leaves the label as it is, to what is printed, or has a reason; nothing else is raised."""
    expected = read_run(name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_run(name, Path(temporary))
        file = folder / FILES[seed % 3]
        for mutation in mutations(file.read_bytes(), seed, 70):
            file.write_bytes(mutation)
            label = label_or_none(name, folder)
            if label is not None:
                assert_same(label, expected)
