"""Kills in the middle of a campaign: nothing may be lost or differ, and `campaign resume` must cure every standstill.

One campaign labels small flakes with xTB, by a daemon with SQLite and ZeroMQ, while broker, daemon, worker, jobs,
clients and terminals are killed at random moments, the worker is stopped for a minute, the scratch disk is filled, a
job folder vanishes, and other clients label sets of their own. What comes out is compared with the bare engine. Only
documented commands are used for the cure.

Prints one JSON line; what happens is told on the standard error. The full disk needs root, for a file system in memory.

Usage: ``python benchmarks/kill_drill.py [--structures 600] [--kills 20] [--seed 0] [--stop-seconds 60]``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

PROGRAMS = Path(sys.executable).parent
CORES = len(os.sched_getaffinity(0))
PROTOCOL = 'fast'
N_BATCHES, MAX_CONCURRENT = 60, 2
KINDS = ('broker', 'daemon', 'worker', 'job', 'client', 'terminal')
OTHER_EVENTS = ('stopped worker', 'full disk', 'vanished scratch', 'two clients')
DISK_MB, FULL_S = 48, 30.0
LOOK_S, PATIENCE_S = 3.0, 600.0
"""Seconds between two looks at the campaign, and until one that does not move is given up."""


def main(n_structures: int, kills: int, seed: int, stop_s: float) -> None:
    """Run the drill and print the result."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='nanoml-drill-') as name, disk(Path(name)) as full_disk:
        folder = Path(name)
        os.environ |= {'AIIDA_PATH': name, 'HOME': name, 'OMP_NUM_THREADS': '1'}
        os.environ['PATH'] = f'{PROGRAMS}{os.pathsep}{os.environ["PATH"]}'
        drill = Drill(folder, n_structures, seed, stop_s, full_disk)
        drill.prepare()
        try:
            drill.run(kills)
            found = drill.judge()
        finally:
            drill.end()
    seconds = round(time.monotonic() - start)
    print(
        json.dumps({'benchmark': 'kill_drill', 'structures': n_structures, 'seed': seed, **found, 'seconds': seconds})
    )


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """Put the scratch folder on a small disk in memory, if this user may mount one."""
    scratch = scratch_of(folder)
    scratch.mkdir(parents=True)
    mount = ['/bin/mount', '-t', 'tmpfs', '-o', f'size={DISK_MB}m', 'drill', scratch]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False).returncode == 0  # noqa: S603
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(['/bin/umount', '--lazy', scratch], check=False)  # noqa: S603


def scratch_of(folder: Path) -> Path:
    """Return the folder of the jobs of the profile ``drill``."""
    return folder / '.aiida' / 'scratch' / 'drill'


def label_alone(structure: Any) -> tuple[float, float]:
    """Return energy and gap, in eV, by the bare engine."""
    from aiida_nanoml.engines.registry import get_engine

    engine = get_engine('xtb')
    label = engine(engine.parameters(PROTOCOL)).evaluate(structure)
    return label.energy_ev, label.gap_ev


class Drill:
    """A profile of its own with a campaign, and what is done to it.

    :param folder: of the profile.
    :param n_structures: size of the campaign.
    :param stop_s: seconds for which the worker is stopped.
    :param full_disk: whether the scratch folder is on a small disk.
    """

    def __init__(self, folder: Path, n_structures: int, seed: int, stop_s: float, full_disk: bool) -> None:
        self.folder, self.n_structures, self.stop_s = folder, n_structures, stop_s
        self.batch_size = max(1, n_structures // N_BATCHES)
        self.random = random.Random(seed)  # noqa: S311
        self.events: Counter[str] = Counter()
        self.stalls = self.cured = self.tracebacks = 0
        self.clients: list[tuple[subprocess.Popen[bytes], Path]] = []
        self.other_events = [event for event in OTHER_EVENTS if event != 'full disk' or full_disk]
        self.sides: list[str] = []
        self.campaigns: list[int] = []

    def prepare(self) -> None:
        """Make profile, daemon and flakes, and start the campaign by a client that follows it."""
        from aiida_nanoml.actions.installation import make_profile

        make_profile('drill')
        self.call('doctor', '--fix')
        self.generate('flakes', self.n_structures, 1)
        self.client = self.follow('campaign', 'flakes')
        self.campaigns = [self.wait_for_campaign('campaign')]

    def run(self, kills: int) -> None:
        """Let everything happen when as many rows are done as was drawn, and mend what stands still."""
        killed = [KINDS[number % len(KINDS)] for number in range(kills)]
        planned = [*killed, *self.other_events]
        self.random.shuffle(planned)
        moments = sorted(self.random.uniform(0.02, 0.9) * self.n_structures for _ in planned)
        for event, moment in zip(planned, moments, strict=True):
            status = self.wait_until(moment)
            if status['ended'] and not status['n_waiting']:
                break
            time.sleep(self.random.uniform(0.0, 3.0))
            self.tell(f'{event} at {status["n_done"]} of {self.n_structures}')
            if getattr(self, f'do_{event.replace(" ", "_")}')():
                self.events[event] += 1
        self.wait_until(self.n_structures)

    def do_broker(self) -> bool:
        """Kill the broker."""
        return self.kill(self.daemon_processes('broker'))

    def do_daemon(self) -> bool:
        """Kill the daemon, which leaves broker and worker."""
        daemon = self.daemon()
        return daemon is not None and self.kill([daemon])

    def do_worker(self) -> bool:
        """Kill the worker of the daemon."""
        return self.kill(self.daemon_processes('worker'))

    def do_job(self) -> bool:
        """Kill a job at the computer."""
        return self.kill(self.wait_for_jobs()[:1])

    def do_client(self) -> bool:
        """Kill the client that follows the campaign, or one with a set of its own, also in the foreground."""
        if self.client.poll() is not None:
            foreground = self.random.random() < 0.5
            self.client = self.start_side(*(['--foreground'] if foreground else []))
        return self.kill([psutil.Process(self.client.pid)])

    def do_terminal(self) -> bool:
        """Close the terminal of a client that follows a set of its own."""
        primary, secondary = pty.openpty()
        client = self.start_side(terminal=secondary)
        os.close(primary)
        client.wait(timeout=120)
        return True

    def do_stopped_worker(self) -> bool:
        """Stop the worker of the daemon for a while."""
        stopped = self.daemon_processes('worker')
        for process in stopped:
            process.suspend()
        time.sleep(self.stop_s)
        for process in stopped:
            with contextlib.suppress(psutil.Error):
                process.resume()
        return bool(stopped)

    def do_full_disk(self) -> bool:
        """Fill the disk of the jobs for a while."""
        filling = scratch_of(self.folder) / 'filling'
        with contextlib.suppress(OSError), filling.open('wb', buffering=0) as handle:
            while True:
                handle.write(bytes(65536))
        time.sleep(FULL_S)
        filling.unlink()
        return True

    def do_vanished_scratch(self) -> bool:
        """Remove the folder of a job that runs."""
        for job in self.wait_for_jobs()[:1]:
            with contextlib.suppress(psutil.Error):
                shutil.rmtree(job.cwd(), ignore_errors=True)
                return True
        return False

    def do_two_clients(self) -> bool:
        """Label the same set by a second client, with the results of the first one in the cache."""
        self.sides.append('twin')
        self.follow('twin', 'flakes')
        return True

    def start_side(self, *options: str, terminal: int | None = None) -> subprocess.Popen[bytes]:
        """Start a client that labels a few flakes of its own, and wait until their campaign is there."""
        name = f'side-{len(self.sides)}'
        self.generate(f'{name}-flakes', 4, 100 + len(self.sides))
        self.sides.append(name)
        client = self.follow(name, f'{name}-flakes', *options, terminal=terminal)
        self.wait_for_campaign(name)
        return client

    def wait_until(self, n_done: float) -> dict[str, Any]:
        """Wait until that many rows are done, and cure the campaign by the documented command if it stands still.

        :returns: status of the campaign, in which the rows are done, or which has nothing left to do.
        """
        moved, last = time.monotonic(), -1
        while True:
            status = self.status(self.campaigns[-1])
            if status['n_done'] != last:
                moved, last = time.monotonic(), status['n_done']
            if status['ended'] and not status['n_waiting'] + status['n_running']:
                return status
            if status['stands_still'] or status['ended']:
                self.cure(status)
            elif last >= n_done:
                return status
            elif time.monotonic() - moved > PATIENCE_S:
                raise SystemExit(f'the campaign stands still unseen: {json.dumps(status)}')
            time.sleep(LOOK_S)

    def cure(self, status: dict[str, Any]) -> None:
        """Continue a campaign that stands still or has ended, and see that it moves."""
        self.stalls += 1
        self.tell(f'stands still: {status["stands_still"] or status["state"]}')
        options = ['--submit'] if status['ended'] else []
        done = json.loads(self.call('campaign', 'resume', status['pk'], *options, '--json'))
        self.tell(f'{done["state"]}: {", ".join(done.get("done", []))}')
        if done['pk'] != self.campaigns[-1]:
            self.campaigns.append(done['pk'])
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            now = self.status(self.campaigns[-1])
            if (now['ended'] and not now['n_waiting']) or (now['n_done'] > status['n_done']):
                self.cured += 1
                return
            if now['stands_still'] or now['ended']:
                return  # not cured; the next look tries again
            time.sleep(LOOK_S)

    def judge(self) -> dict[str, Any]:
        """Compare the labels with those of the bare engine, and count what was labelled more than once."""
        from aiida import load_profile, orm

        for name in self.sides:
            self.finish_side(name)
        load_profile('drill')
        last = orm.load_node(self.campaigns[-1])
        structures = last.inputs.structures.structures
        with multiprocessing.get_context('spawn').Pool(CORES) as pool:
            alone = dict(zip(structures.hashes.tolist(), pool.map(label_alone, list(structures)), strict=True))
        names = ['campaign', *(name for name in self.sides if name == 'twin')]
        found = [self.differences(last.outputs.labels, alone)]
        found += [self.differences(self.last_of(name).outputs.labels, alone) for name in names[1:]]
        return {
            'kills': sum(self.events[kind] for kind in KINDS),
            'events': dict(sorted(self.events.items())),
            'lost': sum(lost for lost, _ in found) + sum(self.n_lost(name) for name in self.sides if name != 'twin'),
            'labelled_twice': self.labelled_twice(),
            'max_difference_ev': max(difference for _, difference in found),
            'stalls': self.stalls,
            'stalls_cured': self.cured,
            'tracebacks': self.tracebacks + sum(path.read_bytes().count(b'Traceback') for _, path in self.clients),
        }

    def differences(self, node: Any, alone: dict[str, tuple[float, float]]) -> tuple[int, float]:
        """Return how many labels are missing, and the largest difference in eV of energies and gaps."""
        labels = node.labels
        done = labels.select(labels.finished)
        energies = done.energies
        rows = zip(done.hashes.tolist(), energies['energy_ev'], energies['gap_ev'], strict=True)
        worst = max(max(abs(energy - alone[one][0]), abs(gap - alone[one][1])) for one, energy, gap in rows)
        return len(alone) - len(set(done.hashes.tolist())), float(worst)

    def n_lost(self, name: str) -> int:
        """Return how many structures of a small campaign have no label."""
        status = self.status(self.last_of(name).pk)
        return int(status['n_structures'] - status['n_done'])

    def labelled_twice(self) -> int:
        """Return how often a job labelled a structure of the campaign again that an earlier one had labelled."""
        from aiida import orm

        given: Counter[str] = Counter()
        for pk in self.campaigns:
            for job in orm.load_node(pk).called:
                if (
                    isinstance(job, orm.CalcJobNode)
                    and 'labels' in job.outputs
                    and not job.base.caching.is_created_from_cache
                ):
                    labels = job.outputs.labels.labels
                    given.update(labels.hashes[labels.finished].tolist())
        return sum(count - 1 for count in given.values())

    def finish_side(self, name: str) -> None:
        """Let a campaign of another client come to its end."""
        main, self.campaigns = self.campaigns, [self.wait_for_campaign(name)]
        self.wait_until(self.status(self.campaigns[-1])['n_structures'])
        while not self.status(self.campaigns[-1])['ended']:
            time.sleep(LOOK_S)
        self.campaigns = main

    def last_of(self, name: str) -> Any:
        """Return the newest campaign of this name."""
        from aiida import orm

        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'label': name}, tag='campaign')
        return query.order_by({'campaign': {'id': 'desc'}}).first(flat=True)

    def end(self) -> None:
        """End clients and daemon."""
        for client, _ in self.clients:
            if client.poll() is None:
                client.terminate()
                client.wait()
        subprocess.run([PROGRAMS / 'verdi', '-p', 'drill', 'daemon', 'stop'], check=False, capture_output=True)  # noqa: S603
        for process in self.own_processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def generate(self, name: str, count: int, seed: int) -> None:
        """Generate flakes of some hundredths of a second each."""
        self.call('flakes', 'generate', '--family', 'z', '--size', 2, '--count', count, '--seed', seed, '--name', name)

    def follow(self, name: str, structures: str, *options: str, terminal: int | None = None) -> subprocess.Popen[bytes]:
        """Start a client that labels a set and follows.

        :param terminal: its terminal, closed here; None: it has none.
        """
        words = [
            PROGRAMS / 'aiida-nanoml', 'label', structures, '--protocol', PROTOCOL, '--name', name,
            '--batch-size', str(self.batch_size), '--max-concurrent', str(MAX_CONCURRENT), *options,
        ]  # fmt: skip
        output = self.folder / f'{len(self.clients)}-{name}.out'
        with output.open('wb') as handle:
            if terminal is None:
                client = subprocess.Popen(words, stdout=handle, stderr=handle, start_new_session=True)  # noqa: S603
            else:
                client = subprocess.Popen(words, preexec_fn=lambda: os.login_tty(terminal))  # noqa: PLW1509, S603
                os.close(terminal)
        self.clients.append((client, output))
        return client

    def wait_for_campaign(self, name: str) -> int:
        """Wait until a campaign of this name is there, and return its PK."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            for one in json.loads(self.call('campaign', 'status', '--json'))['campaigns']:
                if one['label'] == name:
                    return int(one['pk'])
            time.sleep(1.0)
        raise SystemExit(f'there is no campaign {name}')

    def status(self, pk: int) -> dict[str, Any]:
        """Return the status of a campaign, as a user sees it."""
        found: dict[str, Any] = json.loads(self.call('campaign', 'status', pk, '--json'))
        return found

    def call(self, *arguments: Any) -> str:
        """Run a command, and return its output; a command that is refused ends the drill."""
        words = [PROGRAMS / 'aiida-nanoml', *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
        self.tracebacks += done.stderr.count('Traceback')
        if done.returncode:
            raise SystemExit(f'{" ".join(map(str, arguments))}: {done.stderr}')
        return done.stdout

    def daemon(self) -> psutil.Process | None:
        """Return the process of the daemon."""
        from aiida.manage.configuration import get_config

        from aiida_nanoml.provenance.carriers import daemon_process

        return daemon_process(get_config().get_profile('drill'))

    def daemon_processes(self, kind: str) -> list[psutil.Process]:
        """Return the brokers or workers below the daemon."""
        daemon = self.daemon()
        children = [] if daemon is None else daemon.children(recursive=True)
        return [child for child in children if {kind, 'daemon'} <= set(child.cmdline())]

    def jobs(self) -> list[psutil.Process]:
        """Return the processes that run in folders of jobs, in random order."""
        scratch, found = str(scratch_of(self.folder)), []
        for process in self.own_processes():
            with contextlib.suppress(psutil.Error):
                if process.cwd().startswith(scratch) and any('nanoml-worker' in word for word in process.cmdline()):
                    found.append(process)
        self.random.shuffle(found)
        return found

    def wait_for_jobs(self) -> list[psutil.Process]:
        """Return the same as soon as there are any."""
        end = time.monotonic() + PATIENCE_S
        while not (jobs := self.jobs()) and time.monotonic() < end:
            time.sleep(0.5)
        return jobs

    def own_processes(self) -> list[psutil.Process]:
        """Return the processes that work for this profile, without this one."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                # Processes of the daemon have the folder .aiida itself in their environment.
                if process.environ().get('AIIDA_PATH', '').startswith(str(self.folder)) and process.pid != os.getpid():
                    found.append(process)
        return found

    def kill(self, processes: list[psutil.Process]) -> bool:
        """Kill processes at once, and return whether there were any."""
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        return bool(processes)

    def tell(self, text: str) -> None:
        """Say on the standard error what happens."""
        print(f'{time.strftime("%H:%M:%S")}  {text}', file=sys.stderr, flush=True)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--structures', type=int, default=600)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--stop-seconds', type=float, default=60.0)
    given = parser.parse_args()
    main(given.structures, given.kills, given.seed, given.stop_seconds)
