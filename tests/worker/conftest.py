"""Job folders, as a calculation writes them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.files import write_arrays
from aiida_nanoml.worker.schemas import JOB_FILE, REPORT_FILE, STRUCTURES_FILE, LabelJob, Report


def read_report(folder: Path) -> Report:
    return Report.model_validate_json((folder / REPORT_FILE).read_bytes())


@pytest.fixture
def label_job(tmp_path: Path, third_party_path: str) -> Callable[..., Path]:
    """Make a folder in which an engine labels structures, usually ``paced``."""

    def make(
        structures: StructureSet,
        name: str = 'job',
        time_limit_s: float = 60.0,
        engine: str = 'paced',
        protocol: str = 'quick',
        densities: bool = False,
        **parameters: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_arrays(folder / STRUCTURES_FILE, structures.to_arrays())
        job = LabelJob(
            engine=engine, protocol=protocol, parameters=parameters, time_limit_s=time_limit_s, densities=densities
        )
        (folder / JOB_FILE).write_text(job.model_dump_json(), encoding='utf-8')
        return folder

    return make


@pytest.fixture
def start_worker(worker_command: Path, third_party_path: str) -> Callable[..., subprocess.Popen]:
    """Start the real command; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen] = []

    def start(task: str, folder: Path, processes: int = 1) -> subprocess.Popen:
        command = [str(worker_command), task, '--folder', str(folder), '--processes', str(processes)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.stdout.close()
        process.wait()
