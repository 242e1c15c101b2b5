"""The stand-in for SIESTA: the other tests are worth what it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.stand_in.fixtures import PSEUDOPOTENTIALS, RECORDED, recorded_runs
from tests.stand_in.record import record

RUNS = recorded_runs()
UNCONDITIONAL = [name for name, run in RUNS.items() if not run.about['when']]
REPLAYED = ('BASIS_ENTHALPY', 'MESSAGES', 'aiida.EIG', 'aiida.KP', 'aiida.xml', 'time.json')


@pytest.fixture
def run(siesta_stand_in: Path, tmp_path: Path):
    folder = tmp_path / 'run'
    folder.mkdir()
    for path in PSEUDOPOTENTIALS.glob('*.psf'):
        shutil.copy(path, folder)

    def call(text: str, prefix: str = '', **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ['bash', '-c', f'{prefix} exec {siesta_stand_in}'],
            input=text.encode(),
            cwd=folder,
            env=os.environ | environment,
            capture_output=True,
            check=False,
        )

    call.folder = folder
    return call


def files_left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != '.psf'}


@pytest.mark.parametrize('name', UNCONDITIONAL)
def test_a_known_input_replays_the_recording_byte_for_byte(run, name: str, tmp_path: Path) -> None:
    original = RUNS[name].unpack(tmp_path / 'original')
    done = run(RUNS[name].fdf)
    assert done.returncode == RUNS[name].about['exit_status']
    assert done.stdout == (original / 'aiida.out').read_bytes()
    for file in REPLAYED:
        assert (run.folder / file).exists() == (original / file).exists()
        if (original / file).exists():
            assert (run.folder / file).read_bytes() == (original / file).read_bytes(), file


def test_the_recorded_inputs_are_told_apart() -> None:
    """Only runs that met different conditions may share an input."""
    assert len({hashlib.sha256(RUNS[name].fdf.encode()).hexdigest() for name in UNCONDITIONAL}) == len(UNCONDITIONAL)
    assert {run.about['kind'] for run in RUNS.values()} == {
        'flake',
        'alloy',
        'atom',
        'crystal',
        'failure',
        'cure',
        'density',
    }


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('meshcutoff 150 Ry', 'Mesh-Cutoff  150.0  Ry # fineness'),
        ('scfmixerweight 0.1', 'SCF.Mixer.Weight = 1.0d-1'),
        ('systemlabel aiida', 'SystemLabel another\nmaxwalltime 3600\ngeometrymustconverge T\nSpin none'),
        ('5.9439676901 ', '5.9439686901 '),
    ],
)
def test_another_spelling_is_the_same_input(run, old: str, new: str) -> None:
    text = RUNS['h-0000'].fdf
    assert old in text
    assert run(text.replace(old, new)).returncode == 0


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('meshcutoff 150 Ry', 'meshcutoff 151 Ry'),
        ('xcauthors CA', 'xcauthors PBE'),
        ('5.9439676901 ', '5.9440676901 '),
        ('    2     5      B', '    2    13      B'),
        ('21.7259839672', '21.7359839672'),
        ('paobasissize', 'paobasissizes'),
        ('%endblock atomic', '5.0 5.0 9.0 4 H 61\n%endblock atomic'),
    ],
)
def test_an_unknown_input_fails_loudly_and_leaves_nothing(run, old: str, new: str) -> None:
    text = RUNS['h-0000'].fdf.replace('pao-basis-size', 'paobasissize')
    assert old in text
    done = run(text.replace(old, new))
    assert done.returncode == 1
    assert b'stand-in' in done.stderr
    assert done.stdout == b''
    assert files_left(run.folder) == set()


def test_another_pseudopotential_is_another_input(run) -> None:
    (run.folder / 'C.psf').write_bytes((run.folder / 'N.psf').read_bytes())
    done = run(RUNS['h-0000'].fdf)
    assert (done.returncode, done.stdout) == (1, b'')
    assert b'C.psf' in done.stderr


@pytest.mark.parametrize('element', ['N', 'C'])
def test_a_missing_pseudopotential_is_missed_as_in_the_recorded_run(run, element: str) -> None:
    (run.folder / f'{element}.psf').unlink()
    done = run(RUNS['z-C24H12'].fdf)
    assert done.returncode < 0
    assert f'read_pseudo: ERROR: Pseudopotential file not found: {element}.psf'.encode() in done.stdout
    assert (run.folder / 'MESSAGES').read_text() == 'FATAL: \n'


def test_no_input_prints_the_version(run) -> None:
    done = run('')
    assert re.match(rb'Siesta Version  : v4.1-b4-133\n', done.stdout)
    assert done.returncode < 0


@pytest.mark.parametrize(
    ('limit', 'expected', 'text'),
    [
        ('ulimit -v 200000;', 'out-of-memory', b'alloc_err: allocate error'),
        ('ulimit -v 400000;', 'z-C24H12', b'Job completed'),
        ('ulimit -f 700;', 'file-too-large', b'SIGXFSZ'),
    ],
)
def test_limits_of_the_process_decide(run, limit: str, expected: str, text: bytes) -> None:
    done = run(RUNS['z-C24H12'].fdf, limit)
    assert done.returncode == RUNS[expected].about['exit_status']
    assert text in done.stderr + done.stdout


@pytest.mark.parametrize(('walltime', 'expected'), [('10', 'walltime-soft'), ('3600', 'z-C24H12')])
def test_the_wall_time_of_the_input_decides(run, walltime: str, expected: str) -> None:
    done = run(RUNS['z-C24H12'].fdf + f'maxwalltime {walltime}\n')
    assert done.returncode == RUNS[expected].about['exit_status']


def test_a_failure_can_be_ordered_once(run, tmp_path: Path) -> None:
    order = f'killed-in-scf@{tmp_path / "token"}'
    assert run(RUNS['z-C24H12'].fdf, NANOML_STAND_IN_FAILURE=order).returncode == -9
    assert run(RUNS['z-C24H12'].fdf, NANOML_STAND_IN_FAILURE=order).returncode == 0


def test_any_run_can_be_killed_halfway(run) -> None:
    done = run(RUNS['s-0000'].fdf, NANOML_STAND_IN_FAILURE='killed')
    assert done.returncode == -9
    assert 0 < len(done.stdout) < 40_000
    assert not (run.folder / 'aiida.EIG').exists()


def test_a_run_can_take_its_time(run) -> None:
    start = time.monotonic()
    assert run(RUNS['h-0000'].fdf, NANOML_STAND_IN_DELAY='0.5').returncode == 0
    assert time.monotonic() - start > 0.5


def test_a_new_recording_keeps_what_the_run_left(tmp_path: Path) -> None:
    folder = RUNS['z-C24H12'].unpack(tmp_path / 'original')
    (folder / 'aiida.DM').write_bytes(b'large')
    about = {'kind': 'flake', 'exit_status': 0, 'kept': ['H.ion.xml']}
    record(folder, tmp_path / 'new', about)
    again = type(RUNS['z-C24H12'])(tmp_path / 'new').unpack(tmp_path / 'again')
    assert {path.name for path in again.iterdir()} == {path.name for path in folder.iterdir()} - {'aiida.DM'}
    assert (again / 'aiida.out').read_bytes() == (folder / 'aiida.out').read_bytes()
    assert json.loads((tmp_path / 'new' / 'run.json').read_text()) == about | {'when': {}}


def test_the_recordings_are_small() -> None:
    assert sum(path.stat().st_size for path in RECORDED.rglob('*') if path.is_file()) < 3_000_000


@pytest.fixture
def starting_density(tmp_path: Path) -> bytes:
    return (RUNS['methanimine'].unpack(tmp_path) / 'DeltaRho.grid.nc').read_bytes()


@pytest.mark.parametrize(
    ('asked', 'left'),
    [
        ('', set()),
        ('SaveRho T\n', {'aiida.RHO', 'Rho.grid.nc'}),
        ('Save.Rho\nsave-delta-rho true\n', {'aiida.RHO', 'aiida.DRHO', 'Rho.grid.nc', 'DeltaRho.grid.nc'}),
        ('SaveRho F\n', set()),
    ],
)
def test_meshes_are_left_where_the_input_asks_for_them(run, asked: str, left: set[str]) -> None:
    fdf = re.sub(r'save\w+ T\n', '', RUNS['methanimine'].fdf)
    assert run(asked + fdf).returncode == 0
    assert {name for name in files_left(run.folder) if re.search(r'RHO$|grid\.nc$', name)} == left


def test_a_run_that_begins_with_a_density_needs_the_recorded_one(run, starting_density: bytes, tmp_path: Path) -> None:
    started = RUNS['methanimine-started']
    file = run.folder / 'DeltaRho.IN.grid.nc'
    done = run(started.fdf)
    assert (done.returncode, files_left(run.folder)) == (1, set())
    assert b'DeltaRho.IN.grid.nc is missing' in done.stderr
    file.write_bytes(starting_density[:-4] + b'\x3f\x80\x00\x00')
    done = run(started.fdf)
    assert done.returncode == 1
    assert b'began with another density' in done.stderr
    file.write_bytes(starting_density)
    assert run(started.fdf).stdout == (started.unpack(tmp_path / 'original') / 'aiida.out').read_bytes()
    ignored = run(started.fdf, NANOML_STAND_IN_FAILURE='methanimine-start-ignored')
    assert (
        ignored.stdout == (RUNS['methanimine-start-ignored'].unpack(tmp_path / 'original') / 'aiida.out').read_bytes()
    )
