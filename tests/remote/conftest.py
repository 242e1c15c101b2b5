"""A real scheduler over a real connection: codes on a cluster of the loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiida import orm

from tests.remote.cluster import HOST, Cluster, missing_packages, running_cluster


@pytest.fixture(scope='session')
def running() -> Iterator[Cluster]:
    """A cluster for all tests of this process; another process of pytest-xdist has its own."""
    if missing := missing_packages():
        pytest.skip(f'needs the Debian packages {", ".join(missing)}')
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The running cluster, which the SSH configuration of this test's home folder knows."""
    monkeypatch.setenv('HOME', str(running.home))
    return running


@pytest.fixture
def cluster_code_factory(aiida_profile, cluster: Cluster) -> Callable[..., orm.InstalledCode]:
    """Make a code on the cluster, reached with ``core.ssh_async`` and ``core.slurm``."""

    def make(executable: Path, label: str, **kwargs: Any) -> orm.InstalledCode:
        created, computer = orm.Computer.collection.get_or_create(
            label='cluster',
            hostname=HOST,
            workdir=str(cluster.work),
            transport_type='core.ssh_async',
            scheduler_type='core.slurm',
        )
        if created:
            computer.store()
            computer.set_minimum_job_poll_interval(0.5)
            computer.set_default_mpiprocs_per_machine(1)
            computer.set_mpirun_command(['srun', '-n', '{tot_num_mpiprocs}'])
            computer.configure(safe_interval=0.0, use_login_shell=False)
        return orm.InstalledCode(label=label, computer=computer, filepath_executable=str(executable), **kwargs).store()

    return make
