"""A cluster of one machine on the loopback: munge, Slurm and an SSH server, from the packages of the system.

Everything lives in one temporary folder and runs as the current user, on free ports, as child processes that end with
this one. The services of the machine, if it has any, and the SSH configuration of the user are not touched.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

HOST = 'cluster'
"""What the SSH configuration calls the cluster."""

PARTITION = 'short'
CORES = 2
SYSTEM_PATH = os.pathsep.join([os.environ.get('PATH', os.defpath), '/usr/sbin', '/sbin'])
PACKAGES = {
    'slurm-wlm': ('slurmctld', 'slurmd', 'sbatch', 'squeue', 'scancel', 'scontrol', 'sinfo'),
    'munge': ('munged',),
    'openssh-server': ('sshd',),
    'openssh-client': ('ssh', 'ssh-keygen'),
    'util-linux': ('setpriv',),
}

SLURM_CONF = """
ClusterName=nanoml
SlurmctldHost={machine}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/history
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=200000
PropagateResourceLimits=NONE
MailProg=/bin/true
ReturnToService=2
KillWait=5
NodeName={machine} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=2000 State=UNKNOWN
PartitionName={partition} Nodes={machine} Default=YES MaxTime=60 State=UP
"""

SSHD_CONFIG = """
ListenAddress 127.0.0.1
Port {ssh_port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
SetEnv SLURM_CONF={folder}/slurm.conf
Subsystem sftp internal-sftp
"""

SSH_CONFIG = """
Host {host}
    HostName 127.0.0.1
    Port {ssh_port}
    User {user}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
"""


def missing_packages() -> list[str]:
    """Return the Debian packages that a cluster lacks on this machine."""
    return [
        package
        for package, programs in PACKAGES.items()
        if not all(shutil.which(program, path=SYSTEM_PATH) for program in programs)
    ]


class Cluster:
    """A running cluster.

    :param folder: holds the state of the services and ``home``, a home folder with an SSH configuration for HOST.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / 'home'
        self.work = folder / 'work'
        self.environment = os.environ | {'SLURM_CONF': str(folder / 'slurm.conf'), 'PATH': SYSTEM_PATH}
        self._services: dict[str, subprocess.Popen[bytes]] = {}

    def slurm(self, *command: str) -> str:
        """Run a command of Slurm and return what it prints."""
        done = subprocess.run(
            command,
            env=self.environment,
            text=True,
            capture_output=True,
            check=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout

    def history(self) -> dict[str, dict[str, str]]:
        """Return what Slurm wrote down about ended jobs, by their number: ``JobState``, ``ProcCnt``, …"""
        path = self.folder / 'history'
        lines = path.read_text(encoding='utf-8').splitlines() if path.exists() else []
        jobs = [dict(item.split('=', 1) for item in line.split() if '=' in item) for line in lines]
        return {job['JobId']: job for job in jobs}

    def configure(self) -> None:
        """Write keys and configuration files."""
        self.folder.chmod(0o755)
        for name in ('state', 'spool', 'work', 'home/.ssh'):
            (self.folder / name).mkdir(parents=True, mode=0o700)
        with free_ports(3) as (controller_port, node_port, ssh_port):
            values = {
                'folder': self.folder,
                'host': HOST,
                'machine': socket.gethostname().split('.')[0],
                'user': getpass.getuser(),
                'cores': CORES,
                'partition': PARTITION,
                'controller_port': controller_port,
                'node_port': node_port,
                'ssh_port': ssh_port,
            }
        for name, template in (
            ('slurm.conf', SLURM_CONF),
            ('sshd_config', SSHD_CONFIG),
            ('home/.ssh/config', SSH_CONFIG),
        ):
            (self.folder / name).write_text(template.format_map(values), encoding='utf-8')
        key = self.folder / 'munge.key'
        key.touch(mode=0o400)
        key.chmod(0o600)
        key.write_bytes(secrets.token_bytes(128))
        for name in ('host_key', 'user_key'):
            generate = ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', str(self.folder / name)]
            subprocess.run(generate, check=True, stdin=subprocess.DEVNULL)
        host_key = (self.folder / 'host_key.pub').read_text(encoding='utf-8')
        (self.folder / 'known_hosts').write_text(f'[127.0.0.1]:{ssh_port} {host_key}', encoding='utf-8')

    def start(self) -> None:
        """Start the services, each as soon as the one before answers.

        :raises RuntimeError: a service did not come up; its log is in the message.
        """
        folder = self.folder
        if os.geteuid() == 0:  # sshd wants the folder that systemd makes for it; another sshd may need it later
            Path('/run/sshd').mkdir(mode=0o755, exist_ok=True)
        munge_files = [
            f'--key-file={folder}/munge.key',
            f'--socket={folder}/munge.socket',
            f'--pid-file={folder}/munge.pid',
            f'--log-file={folder}/munge.log',
            f'--seed-file={folder}/munge.seed',
        ]
        self._serve('munged', '--foreground', *munge_files)
        self._await('munged', (folder / 'munge.socket').exists)
        self._serve('slurmctld', '-D')
        self._await('slurmctld', lambda: 'UP' in self._answer('scontrol', 'ping'))
        self._serve('slurmd', '-D')
        self._await('slurmd', lambda: 'idle' in self._answer('sinfo', '--noheader', '--format=%t'))
        self._serve('sshd', '-D', '-e', '-f', str(folder / 'sshd_config'))
        self._await('sshd', lambda: 'PATH' in self._answer('ssh', '-F', str(self.home / '.ssh/config'), HOST, 'env'))

    def stop(self) -> None:
        """End the jobs and the services, whatever state they are in."""
        for service in ('sshd', 'slurmctld', 'slurmd', 'munged'):
            if service == 'slurmctld':
                self._answer('scancel', '--signal=KILL', '--full', f'--user={getpass.getuser()}')
            process = self._services.pop(service, None)
            if process is not None:
                end(process)
        for process in self._left_over():
            process.kill()

    def _serve(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=SYSTEM_PATH)
        assert path, f'{program} is missing'
        with (self.folder / f'{program}.log').open('wb') as log:
            self._services[program] = subprocess.Popen(
                ['setpriv', '--pdeathsig', 'TERM', path, *arguments],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _await(self, program: str, ready: Callable[[], bool], timeout_s: float = 20.0) -> None:
        end_time = time.monotonic() + timeout_s
        while not ready():
            stopped = self._services[program].poll() is not None
            if stopped or time.monotonic() > end_time:
                log = (self.folder / f'{program}.log').read_text(encoding='utf-8', errors='replace')
                raise RuntimeError(f'{program} {"stopped" if stopped else "does not answer"}:\n{log[-3000:]}')
            time.sleep(0.05)

    def _answer(self, *command: str) -> str:
        try:
            return self.slurm(*command)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return ''

    def _left_over(self) -> Iterator[psutil.Process]:
        """Find what carries the configuration of this very cluster in its environment: jobs outlive slurmd."""
        for process in psutil.process_iter():
            try:
                mine = process.environ().get('SLURM_CONF') == self.environment['SLURM_CONF']
            except psutil.Error:
                continue
            if mine:
                yield process


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a service to end, then make it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@contextmanager
def free_ports(number: int) -> Iterator[list[int]]:
    """Give ports of the loopback that nothing listens on; they are held until the end of the block."""
    holders = [socket.socket() for _ in range(number)]
    try:
        for holder in holders:
            holder.bind(('127.0.0.1', 0))
        yield [holder.getsockname()[1] for holder in holders]
    finally:
        for holder in holders:
            holder.close()


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Run a cluster as long as the block lasts."""
    # Not a folder of pytest: the path of a socket may have no more than 107 characters.
    with tempfile.TemporaryDirectory(prefix='nanoml-cluster-', ignore_cleanup_errors=True) as name:
        cluster = Cluster(Path(name))
        try:
            cluster.configure()
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
