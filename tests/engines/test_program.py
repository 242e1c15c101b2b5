"""Engines that run a program, with real executables of a few lines of shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pydantic import Field

from aiida_nanoml.engines import program
from aiida_nanoml.engines.base import EngineParameters, Label
from aiida_nanoml.engines.program import FOLDER_VARIABLE, OUTPUT_FILE, ProgramEngine, ProgramRuntime, read_file
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode
from aiida_nanoml.structures import Structure

HYDROGEN = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]]))
WATER = Structure(np.array([8, 1, 1]), np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]))
COUNTING = 'read atoms; echo "energy -$atoms"'
"""A program whose energy is minus the first word of its input, the number of atoms."""

Make = Callable[..., 'CountingEngine']


class CountingEngine(ProgramEngine):
    """Engine of a program that is given the number of atoms, and answers with an energy in eV."""

    name = 'counting'
    title = 'Counting'
    program = 'counting'
    how_to_install = 'install counting'
    properties = frozenset({'energy'})
    periodic = True
    probe = ('--version',)

    Parameters = EngineParameters

    class Runtime(ProgramRuntime):
        """What the program finds."""

        executable: str = Field(default='counting', min_length=1)

    def supports(self, number: int) -> bool:
        """Return that every element is treated."""
        return True

    def files(self, structure: Structure) -> dict[str, str]:
        """Return the input."""
        return {'aiida.in': f'{len(structure.numbers)}\n'}

    def read(self, folder: Path, structure: Structure) -> Label:
        """Read the energy."""
        output = read_file(folder / OUTPUT_FILE) or ''
        if 'not converged' in output:
            raise EvaluationError(FailureCode.NOT_CONVERGED, 'the cycle did not converge')
        found = re.search(r'^energy (\S+)$', output, re.MULTILINE)
        if found is None:
            raise EvaluationError(FailureCode.TRUNCATED, 'counting wrote no energy')
        return Label.from_energy(float(found[1]))

    @classmethod
    def read_version(cls, output: str) -> str | None:
        """Return the version in the first line."""
        found = re.match(r'counting (\d\S*)', output)
        return found and found[1]


class ArgumentEngine(CountingEngine):
    """The same for a program that takes the name of its input as an argument."""

    input_file = ''

    def arguments(self) -> list[str]:
        """Return the name of the input."""
        return ['-f', 'aiida.in']


@pytest.fixture
def make_engine(tmp_path: Path) -> Make:
    """Returns a function that writes a program and makes its engine, which works in the folder ``runs`` of the test."""

    def make(script: str, kind: type[CountingEngine] = CountingEngine, **runtime: Any) -> CountingEngine:
        executable = tmp_path / 'counting'
        executable.write_text(f'#!/bin/sh\n{script}\n', encoding='utf-8')
        executable.chmod(0o755)
        values = {'executable': str(executable), 'folder': str(tmp_path / 'runs'), **runtime}
        return kind(EngineParameters(), runtime=values)

    return make


@pytest.fixture
def children() -> Callable[[], list[psutil.Process]]:
    """Returns the processes that were started since the test began: other tests may have left some of their own."""
    earlier = set(psutil.Process().children(recursive=True))
    return lambda: [process for process in psutil.Process().children(recursive=True) if process not in earlier]


def failure_of(engine: ProgramEngine, structure: Structure = HYDROGEN) -> EvaluationError:
    with pytest.raises(EvaluationError) as caught:
        engine.evaluate(structure)
    return caught.value


def wait_until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# How the program is started


def test_the_input_comes_on_the_standard_input(make_engine: Make) -> None:
    engine = make_engine(COUNTING)
    assert [engine.evaluate(structure).energy_ev for structure in (HYDROGEN, WATER)] == [-2, -3]


def test_the_input_is_named_as_an_argument(make_engine: Make) -> None:
    """The standard input is empty then: a program that waits there for more ends."""
    script = f'test "$1" = -f || exit 3; if read more; then exit 4; fi; {COUNTING.replace("atoms;", "atoms < $2;")}'
    assert make_engine(script, ArgumentEngine).evaluate(WATER).energy_ev == -3


def test_the_program_gets_the_threads_of_the_engine(make_engine: Make) -> None:
    runtime = make_engine('echo "energy -$OMP_NUM_THREADS$OPENBLAS_NUM_THREADS$MKL_NUM_THREADS"').runtime.model_dump()
    assert CountingEngine(EngineParameters(), threads=4, runtime=runtime).evaluate(HYDROGEN).energy_ev == -444


def test_the_launcher_stands_before_the_program(make_engine: Make) -> None:
    launcher = ['env', 'PARTS=7']
    assert make_engine('echo "energy -$PARTS"', launcher=launcher).evaluate(HYDROGEN).energy_ev == -7


def test_a_relative_path_of_the_program_holds_in_its_folder(
    make_engine: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_engine(COUNTING)
    monkeypatch.chdir(tmp_path)
    assert make_engine(COUNTING, executable='./counting', folder='here').evaluate(WATER).energy_ev == -3


def test_paths_of_a_runtime_are_resolved_against_the_folder_of_the_job() -> None:
    runtime = ProgramRuntime(executable='counting', folder='runs').relative_to(Path('/job'))
    assert (runtime.executable, runtime.folder) == ('counting', '/job/runs')


@pytest.mark.parametrize(
    'runtime',
    [{'executible': 'counting'}, {'executable': ''}, {'launcher': 'srun'}, {'time_limit_s': 0}, {'folder': None}],
)
def test_a_runtime_that_does_not_fit_is_refused(runtime: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match=rf"engine 'counting' cannot use this runtime: {next(iter(runtime))}"):
        CountingEngine(EngineParameters(), runtime=runtime)


def test_what_is_missing_is_said(make_engine: Make) -> None:
    executable = make_engine(COUNTING).runtime.executable
    assert CountingEngine.missing({'executable': executable, 'launcher': ['env']}) is None
    gone = CountingEngine.missing({'executable': f'{executable}-2'})
    assert gone == (
        f"the engine counting needs counting, and '{executable}-2' is no program on this machine: install counting, "
        'and name the executable by its full path'
    )
    without = CountingEngine.missing({'executable': executable, 'launcher': ['no-srun', '-n', '4']})
    assert "is to be started by 'no-srun', which is no program" in str(without)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'launcher': ['/gone/srun']}, '/gone/srun {program} cannot be started: No such file or directory'),
        ({'executable': '/gone/counting'}, '/gone/counting cannot be started: No such file or directory'),
        ({'executable': '/etc/passwd'}, '/etc/passwd cannot be started: Permission denied'),
        ({'launcher': ['false']}, 'counting wrote no energy; exit status 1'),
    ],
)
def test_what_cannot_be_started_is_named(make_engine: Make, change: dict[str, Any], reason: str) -> None:
    failure = failure_of(make_engine(COUNTING, **change))
    assert failure.code == ('truncated' if 'wrote' in reason else 'engine_failure')
    assert failure.message == reason.format(program=make_engine(COUNTING).runtime.executable)


# What is left of a run


def test_the_folder_of_a_label_is_removed(make_engine: Make, tmp_path: Path) -> None:
    make_engine(f'{COUNTING}; mkdir scratch; echo large > scratch/wave').evaluate(WATER)
    assert list((tmp_path / 'runs').iterdir()) == []


def test_the_folder_of_a_failure_is_kept_and_cleared_for_the_next_try(make_engine: Make, tmp_path: Path) -> None:
    engine = make_engine(
        f'test -e wave && exit 5; test -e {tmp_path}/licence || {{ echo > wave; exit 6; }}; {COUNTING}'
    )
    assert failure_of(engine).message == 'counting wrote no energy; exit status 6'
    (folder,) = (tmp_path / 'runs').iterdir()
    assert {path.name for path in folder.iterdir()} == {'aiida.in', 'aiida.out', 'aiida.err', 'wave'}
    assert (folder / 'aiida.in').read_text(encoding='ascii') == '2\n'
    (tmp_path / 'licence').touch()
    assert engine.evaluate(HYDROGEN).energy_ev == -2, 'the program did not find what it had left'
    assert not folder.exists()


def test_without_a_folder_nothing_is_left(make_engine: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.tempfile, 'tempdir', str(tmp_path / 'temporary'))
    (tmp_path / 'temporary').mkdir()
    assert make_engine(f'pwd > {tmp_path}/place; {COUNTING}', folder='').evaluate(WATER).energy_ev == -3
    assert str(tmp_path / 'temporary' / 'counting-') in (tmp_path / 'place').read_text(encoding='utf-8')
    failure_of(make_engine('exit 1', folder=''))
    assert list((tmp_path / 'temporary').iterdir()) == []


def test_the_same_structure_twice_at_a_time_does_not_collide(make_engine: Make, tmp_path: Path) -> None:
    engine = make_engine(f'test -e wave && exit 5; echo > wave; sleep 0.2; {COUNTING}')
    energies: list[float] = []
    threads = [threading.Thread(target=lambda: energies.append(engine.evaluate(WATER).energy_ev)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert energies == [-3, -3, -3]
    assert list((tmp_path / 'runs').iterdir()) == []


# What a failure says


@pytest.mark.parametrize(
    ('script', 'code', 'message'),
    [
        ('exit 0', 'truncated', 'counting wrote no energy'),
        ('exit 3', 'truncated', 'counting wrote no energy; exit status 3'),
        (
            'echo "no memory left" >&2; echo "  giving up  " >&2; echo >&2; exit 2',
            'truncated',
            'counting wrote no energy; exit status 2; its last error line: giving up',
        ),
        ('echo half a li; kill -9 $$', 'truncated', 'counting wrote no energy; signal 9'),
        (
            "printf 'caf\\351\\n' >&2; exit 1",
            'truncated',
            'counting wrote no energy; exit status 1; its last error line: caf�',
        ),
        ('echo not converged; echo stopping >&2; exit 1', 'not_converged', 'the cycle did not converge'),
        ('echo energy nan', 'engine_failure', 'the engine returned a non-finite energy, force or stress'),
        ('echo energy many', 'engine_failure', "Counting: ValueError: could not convert string to float: 'many'"),
    ],
)
def test_a_failure_tells_exit_status_and_the_last_error_line(
    make_engine: Make, script: str, code: str, message: str
) -> None:
    failure = failure_of(make_engine(script))
    assert (failure.code, failure.message) == (code, message)


def test_a_long_error_line_is_cut(make_engine: Make) -> None:
    message = failure_of(make_engine('printf "%0999d" 0 >&2; exit 1')).message
    assert message.endswith('its last error line: ' + '0' * program.TAIL_LENGTH)


# How a program ends before its time


def test_the_time_limit_ends_the_program_with_all_that_it_started(
    make_engine: Make, children: Callable[[], list[psutil.Process]]
) -> None:
    launcher = [sys.executable, '-c', 'import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))']
    start = time.monotonic()
    failure = failure_of(make_engine('sleep 60 & sleep 60', launcher=launcher, time_limit_s=0.5))
    assert (failure.code, failure.message) == ('time_limit', 'took longer than 0.5 s; raise the time limit')
    assert time.monotonic() - start < 15
    assert not children()


def test_a_program_that_follows_no_request_is_ended_by_force(
    make_engine: Make, children: Callable[[], list[psutil.Process]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, 'GRACE_S', 0.2)
    assert failure_of(make_engine('trap "" TERM; while :; do sleep 0.1; done', time_limit_s=0.3)).code == 'time_limit'
    assert not children()


def test_stop_ends_what_runs_and_lets_nothing_start(
    make_engine: Make, children: Callable[[], list[psutil.Process]], tmp_path: Path
) -> None:
    engine = make_engine(f'echo > {tmp_path}/started; sleep 60')
    failures: list[EvaluationError] = []
    thread = threading.Thread(target=lambda: failures.append(failure_of(engine)))
    thread.start()
    wait_until((tmp_path / 'started').exists)
    engine.stop()
    thread.join(timeout=20)
    assert [failure.code for failure in failures] == ['interrupted']
    assert not children()
    (tmp_path / 'started').unlink()
    assert failure_of(engine).message == 'the job was ended before this structure'
    assert not (tmp_path / 'started').exists()


def test_a_program_that_got_the_signal_of_the_job_is_interrupted(make_engine: Make) -> None:
    assert failure_of(make_engine('kill -TERM $$')).code == 'interrupted'


def test_a_stray_program_of_a_killed_worker_is_ended(make_engine: Make) -> None:
    engine = make_engine(COUNTING)
    with engine._folder(HYDROGEN) as folder:
        name = folder
    name.mkdir(parents=True)
    with (
        subprocess.Popen(
            ['sleep', '60'], env=os.environ | {FOLDER_VARIABLE: str(name)}, start_new_session=True
        ) as stray,
        subprocess.Popen(['sleep', '60'], cwd=name) as shell,
    ):
        energy_ev = engine.evaluate(HYDROGEN).energy_ev
        ended, left_alone = not psutil.pid_exists(stray.pid), shell.poll() is None
        shell.kill()
    assert energy_ev == -2
    assert ended
    assert left_alone, 'whoever looks into the folder is no stray'


# Versions


def test_the_program_is_asked_once_for_its_version(make_engine: Make, tmp_path: Path) -> None:
    engine = make_engine(f'read input; echo "$input" >> {tmp_path}/asked; echo "counting 1.4-rc2 $1"; exit 1')
    assert [engine.version_in_use(), engine.version_in_use()] == ['1.4-rc2', '1.4-rc2']
    assert (tmp_path / 'asked').read_text(encoding='utf-8') == '\n', 'once, and with an empty input'


@pytest.mark.parametrize(
    ('script', 'wrote'),
    [
        ('echo "sorting 2.0"', 'sorting 2.0'),
        ('echo usage; echo "no such option" >&2; exit 2', 'no such option'),
        ('exit 0', 'nothing'),
    ],
)
def test_another_program_is_noticed_by_what_it_says(make_engine: Make, script: str, wrote: str) -> None:
    engine = make_engine(script)
    expected = f'{engine.runtime.executable} --version reports no version of counting; it wrote: {wrote}'
    with pytest.raises(EngineError, match=f'^{re.escape(expected)}$'):
        engine.version_in_use()


def test_a_program_that_does_not_answer_is_another_one(make_engine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, 'PROBE_S', 0.3)
    with pytest.raises(EngineError, match=r'--version cannot be used: .* timed out after 0.3 seconds'):
        make_engine('exec sleep 60').version_in_use()
    with pytest.raises(EngineError, match=r'cannot be used: .*No such file'):
        make_engine(COUNTING, executable='/gone/counting').version_in_use()


# Structures


@pytest.mark.parametrize(('length', 'code'), [(4.0, 'too_little_vacuum'), (0.0, 'invalid_structure'), (12.0, None)])
def test_open_directions_of_a_sheet_need_vacuum(make_engine: Make, length: float, code: str | None) -> None:
    cell = np.diag([2.46, 4.26, length])
    sheet = Structure(np.array([6, 6]), np.array([[0, 0, 0.0], [1.23, 0.71, 0.0]]), cell, np.array([True, True, False]))
    engine = make_engine(COUNTING)
    if code is None:
        assert engine.evaluate(sheet).energy_ev == -2
    else:
        assert failure_of(engine, sheet).code == code
