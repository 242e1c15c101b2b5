"""Task ``study`` of the worker: train and evaluate the models of a study on one data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiida_nanoml.errors import FailureCode
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.splits import check_leakage
from aiida_nanoml.learning.studies import make_study
from aiida_nanoml.learning.studies.base import FAILED, Table, tabulate
from aiida_nanoml.worker.files import read_arrays, read_job, write_arrays
from aiida_nanoml.worker.journal import Journal
from aiida_nanoml.worker.schemas import DATASET_FILE, JOURNAL_FILE, RESULTS_FILE, Report, StudyJob
from aiida_nanoml.worker.termination import termination


class _Stopped(Exception):  # noqa: N818 - no fault
    """A termination signal came while a model was trained."""


def study(folder: Path, progress: Callable[[int, int], None]) -> Report:
    """Evaluate the points of a job folder, continuing its journal.

    :param folder: holds ``job.json`` and ``dataset.npz``.
    :param progress: called with the number of finished points and of all points.
    :returns: the report; status ``interrupted`` when a termination signal came first.
    :raises NanomlError: the job, its settings or the data set cannot be used, or one structure is in two parts of the
        split. A point that cannot be evaluated is a row with the status ``failed`` instead.
    """
    job = read_job(folder, StudyJob)
    dataset = Dataset.from_arrays(read_arrays(folder / DATASET_FILE), tuple(job.feature_names), job.target)
    if not job.allow_leakage:
        check_leakage(dataset.hashes, dataset.split, dataset.names)
    made = make_study(job.study, job.settings, job.kind, job.hyperparameters, job.target)
    points = made.points(dataset)
    header = {'job': job.model_dump(), 'points': points, 'dataset': _fingerprint(dataset)}
    with Journal(folder / JOURNAL_FILE, header) as journal, termination() as stop:

        def watch(_: int, __: int) -> None:
            if stop:
                raise _Stopped

        progress(len(journal.rows), len(points))
        for number, point in enumerate(points):
            if stop:
                break
            if number in journal.rows:
                continue
            try:
                rows = made.evaluate(dataset, point, job.seed, watch)
            except _Stopped:
                break
            journal.append({'row': number, 'rows': rows})
            progress(len(journal.rows), len(points))
        entries = journal.rows
    table = rows_of_journal(entries)
    write_arrays(folder / RESULTS_FILE, table)
    interrupted = len(entries) < len(points)
    return Report(
        status='interrupted' if interrupted else 'ok',
        code=FailureCode.INTERRUPTED.value if interrupted else '',
        message=f'stopped by a signal after {len(entries)} of {len(points)} points' if interrupted else '',
        content={
            'n_points': len(points),
            'n_done': len(entries),
            'n_failed': sum(entry['rows'][0]['status'] == FAILED for entry in entries.values()),
        },
    )


def rows_of_journal(entries: Mapping[int, Mapping[str, Any]]) -> Table:
    """Turn the rows of the finished points of a journal into columns, in the order of the points."""
    return tabulate(row for number in sorted(entries) for row in entries[number]['rows'])


def _fingerprint(dataset: Dataset) -> str:
    """Return the identity of a data set: a journal must not be continued with another one."""
    digest = hashlib.sha256(json.dumps(dataset.feature_names).encode())
    for name, column in sorted(dataset.to_arrays().items()):
        digest.update(name.encode() + column.tobytes())
    return digest.hexdigest()
