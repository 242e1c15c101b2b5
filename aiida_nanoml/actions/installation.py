"""Profile and daemon: what must stand before anything can be computed."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiida.manage.configuration import Profile

START_S = 60
"""Seconds that the daemon may take to start, and to stop."""

CACHED = 'aiida.calculations:nanoml.*'
"""Pattern of the processes whose results may be taken from the graph."""


def make_profile(name: str) -> Profile:
    """Return a profile of this name in the current configuration; made when it is not there.

    SQLite keeps the data and ZeroMQ the messages: no service is needed. Results are taken from the graph where the same
    inputs were computed before.
    """
    from aiida.brokers.zeromq import ZeromqBroker
    from aiida.manage.configuration import create_profile, get_config

    config = get_config(create=True)
    if name not in config.profile_names:
        create_profile(
            config,
            name=name,
            email='aiida@localhost',
            storage_backend='core.sqlite_dos',
            storage_config={},
            broker_backend='core.zeromq',
            broker_config=ZeromqBroker.get_default_config(),
        )
    turn_caching_on(name)
    config.set_option('runner.poll.interval', 1, scope=name)
    config.set_default_profile(name, overwrite=not config.default_profile_name)
    config.store()
    return config.get_profile(name)


def caching_is_on(profile_name: str) -> bool:
    """Return whether results of this package are taken from the graph in a profile."""
    from aiida.manage.configuration import get_config

    config = get_config()
    patterns = config.get_option('caching.enabled_for', scope=profile_name) or []
    return CACHED in patterns or bool(config.get_option('caching.default_enabled', scope=profile_name))


def turn_caching_on(profile_name: str) -> bool:
    """Let results of this package be taken from the graph in a profile, beside what is taken already.

    :returns: whether this changed anything.
    """
    from aiida.manage.configuration import get_config

    if caching_is_on(profile_name):
        return False
    config = get_config()
    patterns = config.get_option('caching.enabled_for', scope=profile_name) or []
    config.set_option('caching.enabled_for', [*patterns, CACHED], scope=profile_name)
    config.store()
    return True


def daemon_environment(config_folder: Path) -> dict[str, str]:
    """Return the environment in which a daemon of this configuration works.

    :param config_folder: the folder that ``AIIDA_PATH`` names.
    """
    environment = os.environ | {'AIIDA_PATH': str(config_folder)}
    # The daemon starts `verdi` by name, also where the virtual environment is not activated.
    environment['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), environment.get('PATH', '')])
    if len(tempfile.gettempdir()) > 60:
        environment['TMPDIR'] = '/tmp'  # noqa: S108  Unix sockets have short paths
    return environment


def start_daemon(profile: Profile) -> bool:
    """Start the daemon of a profile unless it runs; processes of a daemon that was killed are ended first.

    :returns: whether it was started.
    """
    from aiida.engine.daemon.client import get_daemon_client

    from aiida_nanoml.provenance.carriers import daemon_process, daemon_runs, record_daemon

    if daemon_runs(profile):
        return False
    end_orphans(profile)
    _forget_dead_broker(profile)
    get_daemon_client(profile.name).start_daemon(number_workers=1, timeout=START_S)
    daemon = daemon_process(profile)
    if daemon is not None:
        record_daemon(profile, daemon)
    return True


def stop_daemon(profile: Profile) -> None:
    """Stop the daemon of a profile."""
    from aiida.engine.daemon.client import get_daemon_client

    from aiida_nanoml.provenance.carriers import daemon_runs

    if daemon_runs(profile):
        get_daemon_client(profile.name).stop_daemon(wait=True, timeout=START_S)


def find_orphans(profile: Profile) -> list[Any]:
    """Return the workers and brokers of a profile that no living daemon of it watches over.

    These are those that were written down, and those of a daemon that nothing of this package has seen.
    """
    import psutil
    from aiida.manage.configuration import get_config

    from aiida_nanoml.provenance.carriers import daemon_process, read_record

    folder = str(get_config().dirpath)
    daemon = daemon_process(profile)
    watched = set() if daemon is None else {daemon.pid, *(child.pid for child in daemon.children(recursive=True))}
    orphans = [process for process in read_record(profile) if process.pid not in watched]
    watched.update(process.pid for process in orphans)
    for process in psutil.process_iter(['cmdline']):
        command = process.info['cmdline'] or []
        try:
            if 'daemon' in command:
                is_own = profile.name in command
            else:  # Circus, on which the daemon stands, leaves a process behind that never rests
                is_own = any('circus' in word for word in command) and not _is_daemon(process.parent())
            if is_own and process.pid not in watched and process.environ().get('AIIDA_PATH') == folder:
                orphans.append(process)
        except psutil.Error:
            continue
    return orphans


def end_orphans(profile: Profile) -> int:
    """End what a killed daemon left: workers and brokers would work on the same processes as those of the next one.

    :returns: their number.
    """
    import psutil

    orphans = find_orphans(profile)
    for process in orphans:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(orphans, timeout=10)
    return len(orphans)


def _is_daemon(process: Any) -> bool:
    return process is not None and 'daemon' in process.cmdline()


def _forget_dead_broker(profile: Profile) -> None:
    """Remove the address of a broker that was killed: a worker that starts before the new broker would wait there."""
    from aiida.manage.configuration import get_config

    service = get_config().filepaths(profile).get('broker_service')
    address = Path(service['dir']) / 'broker.sockets' if service else None
    if address is not None and address.exists():
        sockets = Path(address.read_text(encoding='utf-8').strip())
        address.unlink()
        (sockets / 'router.sock').unlink(missing_ok=True)
