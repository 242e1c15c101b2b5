"""The computer ``localhost`` and the code ``nanoml-worker`` of this installation, for jobs on this machine."""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aiida_nanoml.worker import WORKER

if TYPE_CHECKING:
    from aiida.orm import Computer, InstalledCode

LOCALHOST = 'localhost'


def make_localhost() -> Computer:
    """Return the computer ``localhost``, which is made and configured if missing.

    A computer of this label that is not configured here came with an archive, and is another machine with folders of
    its own: it is left alone, and this machine is called ``localhost-2``.
    """
    from aiida import orm
    from aiida.common.exceptions import NotExistent
    from aiida.manage import get_manager
    from aiida.manage.configuration import get_config

    label = LOCALHOST
    for number in itertools.count(2):
        try:
            computer = orm.load_computer(label)
        except NotExistent:
            break
        if computer.is_configured:
            return computer
        label = f'{LOCALHOST}-{number}'
    computer = orm.Computer(
        label=label,
        hostname=LOCALHOST,
        description='This machine',
        transport_type='core.local',
        scheduler_type='core.direct',
        workdir=str(Path(get_config().dirpath) / 'scratch' / str(get_manager().get_profile().name)),
    ).store()
    computer.set_minimum_job_poll_interval(1)
    computer.set_default_mpiprocs_per_machine(1)
    # A login shell would run the user's profile for every command; jobs have the environment of this process.
    computer.configure(safe_interval=0, use_login_shell=False)
    return computer


def make_code(computer: Computer) -> InstalledCode:
    """Return the code ``nanoml-worker`` of this Python environment, which is made if missing."""
    from aiida import orm

    executable = str(worker_executable())
    query = orm.QueryBuilder().append(orm.Computer, filters={'id': computer.pk}, tag='computer')
    query.append(
        orm.InstalledCode,
        with_computer='computer',
        filters={'attributes.filepath_executable': executable, 'label': WORKER},
    )
    found = query.first(flat=True)
    if found is not None:
        return found
    return orm.InstalledCode(
        label=WORKER,
        description='The part of aiida-nanoml that computes',
        computer=computer,
        filepath_executable=executable,
        default_calc_job_plugin='nanoml.label',
    ).store()


def worker_executable() -> Path:
    """Return the absolute path of ``nanoml-worker`` beside the running interpreter, or on the ``PATH``."""
    beside = Path(sys.executable).parent / WORKER
    found = beside if beside.exists() else shutil.which(WORKER)
    if not found:
        raise FileNotFoundError(f'{WORKER} is not installed beside {sys.executable}: install aiida-nanoml there')
    return Path(found).absolute()
