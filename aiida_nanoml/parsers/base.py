"""Base class of the parsers of worker jobs, which read a report and arrays; what a scheduler knows of failures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida.engine import CalcJob, ExitCode
from aiida.orm import XyData
from aiida.parsers import Parser
from numpy.typing import NDArray
from pydantic import ValidationError

from aiida_nanoml.data.prediction import BASELINE, PREDICTED
from aiida_nanoml.errors import FailureCode
from aiida_nanoml.learning.dataset import COMPANION_VALUE
from aiida_nanoml.worker.files import read_arrays
from aiida_nanoml.worker.schemas import ERROR_FILE, REPORT_FILE, RESULTS_FILE, Report

SCHEDULER_FAILURES = {
    CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY.status: (
        FailureCode.OUT_OF_MEMORY,
        'the scheduler ended the job because it took more memory than it asked for',
    ),
    CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME.status: (
        FailureCode.WALL_TIME,
        'the scheduler ended the job at the end of its wall time',
    ),
    CalcJob.exit_codes.ERROR_SCHEDULER_NODE_FAILURE.status: (
        FailureCode.NODE_FAILURE,
        'the scheduler reports a node failure',
    ),
}
"""What the scheduler knows better than an output that just ends."""


class WorkerParser(Parser):
    """Base of the parsers: the report, which is read first, says whether there are results to read."""

    def parse(self, retrieved_temporary_folder: str, **_: Any) -> ExitCode | None:
        """Turn the files of a job into output nodes."""
        folder = Path(retrieved_temporary_folder)
        try:
            report: Report | None = Report.model_validate_json(
                self.retrieved.base.repository.get_object_content(REPORT_FILE)
            )
        except FileNotFoundError:
            report = None
        except ValidationError as error:
            return self.exit_codes.ERROR_REPORT_INVALID.format(reason=f'{error.error_count()} faults in {REPORT_FILE}')
        if report is not None and report.status == 'error':
            failed = report.code == 'unexpected'
            code = self.exit_codes.ERROR_WORKER_FAILED if failed else self.exit_codes.ERROR_INPUT_REFUSED
            return code.format(reason=report.message)
        try:
            if report is None:
                return self.parse_without_report(folder)
            exit_code = self.parse_results(report, read_arrays(folder / RESULTS_FILE), folder)
        except (ValueError, TypeError) as error:  # a NanomlError, or a column that holds something else than numbers
            return self.exit_codes.ERROR_RESULTS_INVALID.format(reason=str(error))
        except KeyError as error:
            return self.exit_codes.ERROR_RESULTS_INVALID.format(reason=f'{error} is missing')
        if exit_code is None and report.status == 'interrupted':
            return self.exit_codes.ERROR_INTERRUPTED.format(reason=report.message)
        return exit_code

    @abstractmethod
    def parse_results(self, report: Report, arrays: Mapping[str, NDArray[Any]], folder: Path) -> ExitCode | None:
        """Make the output nodes.

        :param report: a report that is not an error.
        :param arrays: content of ``results.npz``.
        :param folder: holds the files that are not kept as they are.
        """

    @staticmethod
    def predicted_columns(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Pick what was computed for each row out of ``results.npz``."""
        columns = {name: arrays[name] for name in PREDICTED}
        columns |= {name: column for name, column in arrays.items() if name.startswith(COMPANION_VALUE)}
        return columns | ({BASELINE: arrays[BASELINE]} if BASELINE in arrays else {})

    @staticmethod
    def make_history_node(arrays: Mapping[str, NDArray[Any]]) -> XyData | None:
        """Make a node of the losses of every epoch out of ``results.npz``, if there are any."""
        losses = {name.removeprefix('history_'): arrays[name] for name in arrays if name.startswith('history_')}
        if not losses:
            return None
        node = XyData()
        node.set_x(np.arange(1, len(next(iter(losses.values()))) + 1), 'epoch', '')
        node.set_y(list(losses.values()), list(losses), [''] * len(losses))
        return node

    def parse_without_report(self, folder: Path) -> ExitCode:
        """Return why there is no report, as far as the error stream of the job shows."""
        names = self.retrieved.base.repository.list_object_names()
        lines = self.retrieved.base.repository.get_object_content(ERROR_FILE).split('\n') if ERROR_FILE in names else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), 'its error stream is empty')
        return self.exit_codes.ERROR_REPORT_MISSING.format(reason=last)
