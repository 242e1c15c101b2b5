"""The quickstart as a user runs it: a program of its own, a real daemon, a long path, kills in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.forked import environment as forked

pytestmark = pytest.mark.timeout(500)

COUNT = 20


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != 'AIIDA_PATH'}
    # The jobs are forked as well: their program is the one beside the interpreter.
    program = forked.program('aiida-nanoml') or Path(sys.executable).with_name('aiida-nanoml')
    return subprocess.Popen(
        [
            program,
            'quickstart',
            '--folder',
            folder,
            '--count',
            str(COUNT),
            '--unseen',
            '1',
            '--protocol',
            'fast',
            *options,
        ],
        # A configuration in the home of the user must stay untouched: here it would be made anew.
        env=environment | {'HOME': str(folder.parent), 'AIIDA_PATH': str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    """Read the output up to a line with these words."""
    text = ''
    assert process.stdout is not None
    for line in process.stdout:
        text += line
        if words in line:
            return text
    raise AssertionError(f'ended without {words!r}: {text}')


def wait_for_results(folder: Path) -> None:
    """Wait until a job has labelled its flakes; others are still at it."""
    until = time.monotonic() + 120
    while not any(folder.glob('.aiida/scratch/**/results.json')):
        assert time.monotonic() < until, 'no job came to its end'
        time.sleep(0.1)


def finish(process: subprocess.Popen[str]) -> str:
    text = process.communicate(timeout=400)[0]
    assert process.returncode == 0, text
    return text


def daemon_processes(folder: Path, word: str = 'daemon') -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(['cmdline']):
        try:
            named = any(word in part for part in process.info['cmdline'] or [])
            if named and str(folder) in process.environ().get('AIIDA_PATH', ''):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def folder(tmp_path: Path):
    """A folder whose path is longer than what a Unix socket may have."""
    path = tmp_path / ('long-' * 20) / ('path-' * 20) / 'quickstart'
    path.parent.mkdir(parents=True)
    assert len(str(path)) > 200
    yield path
    for process in (*daemon_processes(path), *daemon_processes(path, 'circus')):
        process.kill()


def test_kills_lose_nothing_a_second_run_is_cached_and_what_it_proposes_runs(folder: Path) -> None:
    first = start(folder, '--protocol', 'fast')
    wait_for(first, 'submitted GapWorkChain')
    wait_for_results(folder)  # a step that is killed while it submits jobs submits them again
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    victims = daemon_processes(folder)
    assert len(victims) >= 3  # the daemon, its worker, its broker
    for process in victims:
        process.kill()

    second = start(folder, '--protocol', 'fast')
    wait_for(second, 'following the unfinished GapWorkChain')
    time.sleep(2)
    os.killpg(second.pid, signal.SIGINT)
    interrupted = second.communicate(timeout=60)[0]
    assert second.returncode == 130
    assert 'Run the same command again' in interrupted

    output = finish(start(folder, '--protocol', 'fast'))
    assert 'following the unfinished GapWorkChain' in output
    summary = json.loads((folder / 'summary.json').read_text())
    assert summary['cached'] is False
    assert summary['reused'] == []
    assert summary['validation']['n'] == 2
    assert {name: family['n'] for name, family in summary['families'].items()} == {'h': COUNT, 's': COUNT}
    assert Path(summary['figure']).read_bytes().startswith(b'\x89PNG')
    assert set(summary['headline']) == {'quadruplets', 'tight_binding+shells'}
    for errors in summary['headline'].values():
        assert {name: found['n'] for name, found in errors.items()} == {'h': 4, 's': 4, 'unseen': 2}
    best = summary['headline']['tight_binding+shells']
    assert {name: best[name]['mae_ev'] for name in 'hs'} == {
        name: family['mae_test_ev'] for name, family in summary['families'].items()
    }
    assert f'verdict on tight_binding+shells: {summary["verdict"]}' in output
    report = output[output.index('Gap of C-BN flakes') :].splitlines()
    assert len(report) <= 50
    assert 'GFN1-xTB (tblite)' in output
    assert f'aiida-nanoml trace {summary["siesta"]["prediction_uuid"][:8]}' in output
    assert not daemon_processes(folder)
    assert not daemon_processes(folder, 'circus'), 'what the killed daemon had started is left over'
    assert not (folder.parent / '.aiida').exists()

    again = finish(start(folder, '--protocol', 'fast', '--no-siesta'))
    cached = json.loads((folder / 'summary.json').read_text())
    assert cached['cached'] is True
    assert f'found the finished GapWorkChain<{cached["reused"][0]["pk"]}>' in again
    assert cached['reused'][0]['uuid'] == summary['process_uuid']
    assert f'{cached["calculations"]} calculations: {cached["calculations"]} of an earlier run' in again
    assert 'TrainCalculation' in again[again.index('the earlier run, of') :]
    for name in ('families', 'model_uuid', 'prediction_uuid', 'nodes'):
        assert cached[name] == summary[name]

    second_part = summary['siesta']
    held_out = {name: metrics['held-out'] for name, metrics in second_part['metrics'].items()}
    assert held_out[second_part['better']]['mae'] == min(metrics['mae'] for metrics in held_out.values())
    assert held_out['correction']['n'] == second_part['n_rows'] >= 80
    assert Path(second_part['figure']).read_bytes().startswith(b'\x89PNG')
    assert second_part['labels'] in output
    assert set(second_part['verdicts']) == {'h', 's'}
    own = [line.partition('aiida-nanoml ')[2] for line in report if 'aiida-nanoml ' in line]
    assert [command.split()[0] for command in own[-3:]] == ['structures', 'predict', 'trace']
    commands = ' && '.join(f'aiida-nanoml {command} > /dev/null' for command in own[-3:-1])
    trace = f'aiida-nanoml trace {second_part["prediction_uuid"][:8]} --json'
    script = f'source quickstart/activate && {commands} && {trace}'
    proposed = subprocess.run(['bash', '-c', script], cwd=folder.parent, capture_output=True, text=True, check=True)
    lineage = json.loads(proposed.stdout)
    [siesta] = [origin for origin in lineage['labelling'] if origin['engine'] == 'siesta']
    assert siesta['n_structures'] == siesta['n_jobs'] == second_part['n_rows'] + 1  # two flakes are equal
    assert all(job['imported'] for job in siesta['jobs'])
    assert set(siesta['pseudopotentials']) == {'H', 'B', 'C', 'N'}
