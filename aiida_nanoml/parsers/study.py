"""Parser of studies: a table with a row for each model that was trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode
from numpy.typing import NDArray

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.parsers.base import WorkerParser
from aiida_nanoml.worker.journal import read_journal
from aiida_nanoml.worker.schemas import JOURNAL_FILE, Report
from aiida_nanoml.worker.study import rows_of_journal


class StudyParser(WorkerParser):
    """Rows of the points of a study; of a killed job, what its journal holds."""

    def parse_results(self, report: Report, arrays: Mapping[str, NDArray[Any]], folder: Path) -> None:
        """Make the rows."""
        n_points = report.content['n_points']
        if arrays:
            self._output_table(arrays, n_points)
        elif report.status == 'ok':
            raise DatasetError(f'there is no row, but {n_points} points')

    def parse_without_report(self, folder: Path) -> ExitCode:
        """Keep the points that a killed job had finished."""
        header, entries, _ = read_journal(folder / JOURNAL_FILE)
        if header is None or not entries:
            return super().parse_without_report(folder)
        n_points = len(header['points'])
        self._output_table(rows_of_journal(entries), n_points)
        return self.exit_codes.ERROR_INTERRUPTED.format(reason=f'killed after {len(entries)} of {n_points} points')

    def _output_table(self, columns: Mapping[str, NDArray[Any]], n_points: int) -> None:
        if len({len(column) for column in columns.values()}) != 1 or 'status' not in columns:
            raise DatasetError('the columns of the results are not those of a study')
        rows = orm.ArrayData()
        for name, column in columns.items():
            rows.set_array(name, column)
        dataset = self.node.inputs.dataset
        rows.base.attributes.set_many(
            {
                'study': self.node.inputs.study.value,
                'seed': self.node.inputs.seed.value,
                'n_points': n_points,
                'target': dataset.target,
                'labels': dataset.base.attributes.get('labels'),
                'baseline': dataset.baseline_source,
            }
        )
        self.out('rows', rows)
