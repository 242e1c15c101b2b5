"""Reading what SIESTA left, on recorded runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.special import entr, expit

from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.siesta.output import find_start_failure, read_run, read_version
from aiida_nanoml.errors import RUN, EvaluationError, FailureCode
from aiida_nanoml.units import BOLTZMANN_EV_PER_K
from tests.stand_in.fixtures import RecordedRun, recorded_runs

RUNS = recorded_runs()
FLAKES = recorded_runs('flake')
CURES = recorded_runs('cure')
METALS = recorded_runs('alloy', 'atom', 'crystal')

FAILURES = {
    'disk-full': 'disk_full',
    'disk-full-early': 'disk_full',
    'file-too-large': 'disk_full',
    'geometry-not-converged': 'geometry_not_converged',
    'iron-not-converged': 'not_converged',
    'killed-by-walltime': 'truncated',
    'killed-in-scf': 'truncated',
    'missing-pseudopotential': 'missing_pseudopotential',
    'out-of-memory': 'out_of_memory',
    'polarization': 'basis_error',
    'scf-continued-8': 'not_converged',
    **{f'relaxation-{step}': 'geometry_not_converged' for step in (1, 2, 3)},
    'scf-hopeless': 'not_converged',
    'scf-not-converged': 'not_converged',
    'scf-oscillates': 'not_converged',
    'scf-oscillates-40': 'not_converged',
    'scf-oscillates-40-mixing': 'not_converged',
    'split-norm-too-small': 'basis_error',
    'walltime-soft': 'wall_time',
}
"""Code of each recorded failure. SIESTA itself calls `atoms-too-close` completed: that is refused before it runs."""


@pytest.fixture
def files_of(tmp_path: Path) -> Callable[[RecordedRun], dict[str, str]]:
    """Give the texts of the files of a recorded run."""

    def unpack(run: RecordedRun) -> dict[str, str]:
        folder = run.unpack(tmp_path)
        return {path.name: path.read_text(encoding='utf-8', errors='replace') for path in folder.iterdir()}

    return unpack


def code_of(files: dict[str, str], stderr: str = '') -> str:
    with pytest.raises(EvaluationError) as caught:
        read_run(files.get, scheduler_stderr=stderr)
    assert caught.value.message
    assert caught.value.code in RUN | {FailureCode.MISSING_PSEUDOPOTENTIAL}
    return caught.value.code


@pytest.mark.parametrize('name', FLAKES)
def test_levels_are_those_that_were_recorded(name: str, files_of) -> None:
    about = FLAKES[name].about
    run = read_run(files_of(FLAKES[name]).get)
    label = run.label
    if name != 'z-C24H12':  # the one flake that was recorded without its levels
        assert label.gap_ev == pytest.approx(about['gap_ev'], abs=1e-6)
        assert label.homo_ev == pytest.approx(about['homo_ev'], abs=1e-6)
        assert label.lumo_ev == pytest.approx(about['lumo_ev'], abs=1e-6)
    structure = FLAKES[name].structure
    valence = {1: 1, 5: 3, 6: 4, 7: 5}
    assert label.n_electrons == sum(valence[number] for number in structure.numbers.tolist())
    assert not label.open_shell
    assert label.levels_ev is not None
    assert label.levels_ev.shape[0] == 1
    assert label.levels_ev[0, label.n_electrons // 2 - 1] == label.homo_ev
    assert run.version == '4.1-b4-133'
    assert label.homo_ev - 1e-3 < label.fermi_ev < label.lumo_ev + 1e-3
    assert label.forces_ev_per_ang is not None
    assert label.forces_ev_per_ang.shape == structure.positions.shape
    assert label.stress_ev_per_ang3 is not None
    np.testing.assert_allclose(label.stress_ev_per_ang3, label.stress_ev_per_ang3.T, atol=2e-5)
    assert run.wall_s > 1
    assert run.n_iterations == label.n_iterations


def test_numbers_are_those_of_the_files(files_of) -> None:
    """h-0000, copied by hand from the output."""
    run = read_run(files_of(FLAKES['h-0000']).get)
    assert run.label.energy_ev == -7219.155407
    assert run.label.fermi_ev == -3.40818064
    assert run.n_iterations == 17
    assert run.wall_s == 28.207
    assert run.label.levels_ev is not None
    assert run.label.levels_ev[0, :2].tolist() == [-25.5298405, -24.2856529]
    assert run.label.levels_ev.shape == (1, 636)
    assert run.label.forces_ev_per_ang is not None
    assert run.label.forces_ev_per_ang[36].tolist() == [-0.369841, -0.109499, 0.0]
    assert run.label.forces_ev_per_ang[59].tolist() == [3.447715, 1.806067, 0.0]
    assert run.label.stress_ev_per_ang3 is not None
    assert run.label.stress_ev_per_ang3[0].tolist() == [-0.003823, -0.001139, 0.0]
    assert run.warnings == ()


def test_with_k_points_the_fermi_level_divides(files_of) -> None:
    """An alloy at 27 k-points and 1000 K: the free energy, not the energy."""
    run = read_run(files_of(RUNS['hea-00-bcc-0']).get)
    assert run.label.energy_ev == -4275.413999
    assert run.label.fermi_ev == -5.69992398
    assert run.label.n_electrons == 58
    levels = run.label.levels_ev
    assert levels is not None
    assert levels.shape == (1, 27 * 116)
    assert run.label.homo_ev == levels[levels <= run.label.fermi_ev].max()
    assert run.label.lumo_ev == levels[levels > run.label.fermi_ev].min()
    assert 0 < run.label.gap_ev < 0.1


def occupations(label: Label, temperature_kelvin: float) -> tuple[np.ndarray, np.ndarray]:
    """Electrons of a level by Fermi and Dirac, and how many such levels count, each (S, K, L)."""
    assert label.levels_ev is not None
    assert label.level_weights is not None
    assert label.fermi_ev is not None
    levels = label.levels_ev.reshape(*label.level_weights.shape, -1)
    filled = expit((label.fermi_ev - levels) / (BOLTZMANN_EV_PER_K * temperature_kelvin))
    return filled, np.broadcast_to(label.level_weights[..., None], levels.shape)


@pytest.mark.parametrize('name', METALS)
def test_levels_and_weights_count_the_electrons_and_their_entropy(name: str, files_of) -> None:
    """SIESTA's own numbers: N, and E - F = TS at 1000 K."""
    label = read_run(files_of(METALS[name]).get).label
    filled, weights = occupations(label, 1000.0)
    assert weights[:, :, 0].sum() == pytest.approx(2.0)
    assert (weights * filled).sum() == pytest.approx(label.n_electrons, abs=1e-5)
    heat = BOLTZMANN_EV_PER_K * 1000.0 * (weights * (entr(filled) + entr(1.0 - filled))).sum()
    assert label.energy_ev + heat == pytest.approx(METALS[name].about['energy_ev'], abs=2e-4)


def test_the_moment_is_that_of_the_occupations(files_of) -> None:
    """bcc iron: 2.9 Bohr magnetons an atom in a small basis, 2.2 in nature."""
    label = read_run(files_of(RUNS['iron-spin']).get).label
    assert label.magnetic_moment_bohr == 5.74998
    filled, weights = occupations(label, 1000.0)
    assert weights.shape == (2, 32, 18)
    up, down = (weights * filled).sum(axis=(1, 2))
    assert up - down == pytest.approx(label.magnetic_moment_bohr, abs=1e-4)
    assert read_run(files_of(RUNS['hea-00-fcc-0']).get).label.magnetic_moment_bohr is None


def test_k_points_without_weights_have_none(files_of) -> None:
    files = files_of(RUNS['hea-00-bcc-0'])
    whole = read_run(files.get).label
    assert whole.level_weights is not None
    # 45 points, 18 of which stand for themselves and their opposite.
    assert whole.level_weights.shape == (1, 27)
    np.testing.assert_allclose(np.unique(whole.level_weights.round(5)), [2 / 45, 4 / 45], atol=1e-5)
    kept = files.pop('aiida.KP')
    label = read_run(files.get).label
    assert label.level_weights is None
    assert (label.energy_ev, label.fermi_ev) == (whole.energy_ev, whole.fermi_ev)
    for cut in (kept[: len(kept) // 2], kept.rstrip().rpartition('\n')[0], 'no number'):
        files['aiida.KP'] = cut
        assert code_of(files) == 'truncated'
    flake = files_of(FLAKES['h-0000'])
    flake.pop('aiida.KP', None)
    assert read_run(flake.get).label.level_weights.tolist() == [[2.0]]


@pytest.mark.parametrize('name', FAILURES)
def test_every_recorded_failure_has_its_code(name: str, files_of) -> None:
    files = files_of(RUNS[name])
    assert code_of(files, files.get('_scheduler-stderr.txt', '')) == FAILURES[name]


def test_no_recorded_failure_is_left_out() -> None:
    assert set(FAILURES) | {'atoms-too-close'} == set(recorded_runs('failure'))


@pytest.mark.parametrize('name', CURES)
def test_cured_runs_have_labels(name: str, files_of) -> None:
    files = files_of(CURES[name])
    assert np.isfinite(read_run(files.get).label.gap_ev)


def test_the_message_tells_the_last_telling_line(files_of) -> None:
    said = {}
    for name in ('split-norm-too-small', 'missing-pseudopotential', 'scf-not-converged'):
        with pytest.raises(EvaluationError) as caught:
            read_run(files_of(RUNS[name]).get)
        said[name] = caught.value.message
    assert '0.06479' in said['split-norm-too-small']
    assert 'N.psf' in said['missing-pseudopotential']
    assert '4 iterations' in said['scf-not-converged']


@pytest.mark.parametrize(
    ('stderr', 'code'),
    [
        ('', 'truncated'),
        ('slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0', 'out_of_memory'),
        ('slurmstepd: error: *** JOB 7 CANCELLED AT 2026-11-22 DUE TO TIME LIMIT ***', 'wall_time'),
        ('At line 207 of file iodm.F: No space left on device', 'disk_full'),
        ('forrtl: Disk quota exceeded', 'disk_full'),
    ],
)
def test_the_scheduler_says_why_an_output_ends(files_of, stderr: str, code: str) -> None:
    files = files_of(FLAKES['h-0000'])
    files['aiida.out'] = files['aiida.out'][: len(files['aiida.out']) // 2]
    del files['MESSAGES']
    assert code_of(files, stderr) == code


@pytest.mark.parametrize(
    ('signs', 'code'),
    [
        (('No space left on device', 'oom-kill', 'SCF_NOT_CONV'), 'disk_full'),
        (('Job completed', 'oom-kill', 'DUE TO TIME LIMIT'), 'disk_full'),
        (('oom-kill', 'DUE TO TIME LIMIT', 'SCF_NOT_CONV'), 'out_of_memory'),
        (('pseudopotential file not found: N', 'Stopping Program from Node'), 'missing_pseudopotential'),
        (('DUE TO TIME LIMIT', 'SCF_NOT_CONV'), 'wall_time'),
        (('Stopping Program from Node',), 'engine_failure'),
    ],
)
def test_the_most_specific_cause_counts(files_of, signs: tuple[str, ...], code: str) -> None:
    files = files_of(FLAKES['h-0000'])
    files['aiida.out'] = files['aiida.out'][: len(files['aiida.out']) // 2]
    del files['MESSAGES']
    for order in (signs, reversed(signs)):
        assert code_of(files, '\n'.join(order)) == code


@pytest.mark.parametrize('share', [0.0, 0.2, 0.5, 0.9, 0.999])
def test_cut_files_of_levels_are_truncated(files_of, share: float) -> None:
    files = files_of(FLAKES['h-0000'])
    files['aiida.EIG'] = files['aiida.EIG'][: int(share * len(files['aiida.EIG']))]
    assert code_of(files) == 'truncated'
    del files['aiida.EIG']
    assert code_of(files) == 'truncated'


def test_an_output_cut_anywhere_is_no_label(files_of) -> None:
    files = files_of(FLAKES['h-0000'])
    whole = files['aiida.out']
    del files['MESSAGES']
    for share in np.linspace(0, 0.99, 23):
        files['aiida.out'] = whole[: int(share * len(whole))]
        assert code_of(files) == ('truncated' if share else 'engine_failure')


def test_a_run_that_need_not_converge_is_checked_nevertheless(files_of) -> None:
    files = files_of(FLAKES['h-0000'])
    files['aiida.out'] = files['aiida.out'].replace('SCF cycle converged after 17 iterations', '')
    assert code_of(files) == 'not_converged'


def test_a_fractional_charge_is_refused(files_of) -> None:
    files = files_of(FLAKES['h-0000'])
    files['aiida.out'] = files['aiida.out'].replace('electrons:   186.000000', 'electrons:   186.500000')
    assert code_of(files) == 'engine_failure'


def test_wall_time_falls_back_to_the_clock(files_of) -> None:
    files = files_of(FLAKES['h-0000'])
    del files['time.json']
    assert read_run(files.get).wall_s == 28.208
    files['aiida.out'] = files['aiida.out'].replace('timer: Elapsed', 'gone')
    assert read_run(files.get).wall_s == 29.0, '11:23:24 to 11:23:53'
    files['aiida.out'] = files['aiida.out'].replace('>> End of run', 'gone')
    assert np.isnan(read_run(files.get).wall_s)


def test_spin_polarised_levels_count_one_electron_each(files_of) -> None:
    """The levels of a restricted run, written twice, are a spin-polarised run with the same HOMO and LUMO."""
    files = files_of(FLAKES['h-0000'])
    restricted = read_run(files.get).label
    head, _, levels = files['aiida.EIG'].split('\n', 2)
    numbers = levels.split()[1:]
    files['aiida.EIG'] = f'{head}\n  {len(numbers)} 2 1\n 1 {" ".join(numbers)}\n {" ".join(numbers)}\n'
    files['aiida.out'] = files['aiida.out'].replace(
        'spin components                   = 1', 'spin components                   = 2'
    )
    polarised = read_run(files.get).label
    assert polarised.levels_ev is not None
    assert polarised.levels_ev.shape == (2, 636)
    assert (polarised.homo_ev, polarised.lumo_ev) == (restricted.homo_ev, restricted.lumo_ev)


@pytest.mark.parametrize(
    ('text', 'version'),
    [
        ('Siesta Version  : v4.1-b4-133\n', '4.1-b4-133'),
        ('Siesta Version: siesta-4.0.2\n', '4.0.2'),
        ('  Version         : 5.0.1\n', '5.0.1'),
        ('nothing of the kind', None),
    ],
)
def test_versions_of_all_releases_are_read(text: str, version: str | None) -> None:
    assert read_version(text) == version


@pytest.mark.parametrize(
    ('name', 'reason'),
    [('methanimine-started', None), ('methanimine-start-ignored', 'built without NetCDF'), ('polarization', None)],
)
def test_why_a_run_did_not_begin_with_a_density(tmp_path: Path, name: str, reason: str | None) -> None:
    found = find_start_failure((RUNS[name].unpack(tmp_path) / 'aiida.out').read_text())
    assert (found is None) == (reason is None)
    assert reason is None or reason in found


@pytest.mark.parametrize('word', ['Mesh mismatch', 'Nspin mismatch', 'netCDF error: No such file or directory'])
def test_siesta_refuses_a_density(word: str) -> None:
    """As it prints it, before it aborts."""
    text = f'Reading DeltaRho from file: DeltaRho.IN.grid.nc\n{word}\nStopping Program from Node:    0\n'
    assert find_start_failure(text) == f'SIESTA refused it: {word}'
