"""Files of a job folder, each of which is either whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter, ValidationError

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.worker.schemas import JOB_FILE, REPORT_FILE, Job, Report

Schema = TypeVar('Schema', bound=BaseModel)


def read_job(folder: Path, expected: type[Schema]) -> Schema:
    """Read ``job.json``.

    :raises DatasetError: the file is missing, is no job, or is a job for another task.
    """
    path = folder / JOB_FILE
    try:
        job: Any = TypeAdapter(Job).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(f'{path} is missing: run the worker in the folder of a job') from error
    except ValidationError as error:
        raise DatasetError(f'{path} is not a valid job: {error}') from error
    if not isinstance(job, expected):
        raise DatasetError(f'{path} is a job for the task {job.task!r}')
    return job


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an NPZ file.

    :raises DatasetError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DatasetError(f'{path.name} is missing') from error
    except Exception as error:
        raise DatasetError(f'{path.name} is damaged: {error}') from error


@contextmanager
def written_in_one_step(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write that appears only when everything is written."""
    partial = path.with_name(f'.{path.name}.partial')
    with partial.open('wb') as handle:
        yield handle
    os.replace(partial, path)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an NPZ file in one step."""
    with written_in_one_step(path) as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]


def write_report(folder: Path, report: Report) -> None:
    """Write ``results.json`` in one step; written last, it says that everything else is there."""
    partial = folder / f'.{REPORT_FILE}.partial'
    partial.write_text(report.model_dump_json(indent=2) + '\n', encoding='utf-8')
    os.replace(partial, folder / REPORT_FILE)
