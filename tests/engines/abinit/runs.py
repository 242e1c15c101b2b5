"""The recorded runs of ABINIT, and copies of them that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

from aiida_nanoml.engines.abinit.engine import AbinitEngine
from aiida_nanoml.engines.base import Label
from aiida_nanoml.testing.recordings import Recording, recordings_of

RUNS: dict[str, Recording] = {recording.folder.name: recording for recording in recordings_of(AbinitEngine)}


def copy_run(name: str, folder: Path) -> Path:
    """Copy a recorded run into a folder."""
    target = folder / name
    shutil.copytree(RUNS[name].folder, target)
    return target


def read_run(name: str, folder: Path | None = None) -> Label:
    """Read a recorded run, or a changed copy of it, as the engine does."""
    run = RUNS[name]
    return run.engine(AbinitEngine).read(folder or run.folder, run.structure)


def change(file: Path, old: str, new: str) -> None:
    """Change the last occurrence of a text in a file."""
    before, found, after = file.read_text().rpartition(old)
    assert found, f'{old!r} is not in {file.name}'
    file.write_text(before + new + after)
