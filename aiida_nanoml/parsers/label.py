"""Parser of labelling jobs: labels and densities, also of a job that was killed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida.engine import ExitCode
from numpy.typing import NDArray

from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.parsers.base import WorkerParser
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.journal import read_journal
from aiida_nanoml.worker.labelled_rows import LabelledRow, find_densities, read_rows, tabulate
from aiida_nanoml.worker.schemas import DENSITIES_FOLDER, JOURNAL_FILE, Report


class LabelParser(WorkerParser):
    """Labels of a batch; of a killed job, what its journal holds."""

    def parse_results(self, report: Report, arrays: Mapping[str, NDArray[Any]], folder: Path) -> ExitCode | None:
        """Make the label set, which must have one row for each structure of the batch, and keep the densities."""
        labels = LabelSet.from_arrays(LabelSource.from_dict(report.content['source']), arrays)
        structures = self._structures()
        if not np.array_equal(labels.hashes, structures.hashes):
            raise DatasetError('the labels belong to other structures than those that were sent')
        self.out('labels', LabelSetData(labels))
        self._keep_densities(folder, labels.source, structures, read_rows(read_journal(folder / JOURNAL_FILE)[1]))
        if not labels.finished.any():
            return self.exit_codes.ERROR_NO_ROW_FINISHED.format(reason=str(labels.messages[0]))
        return None

    def parse_without_report(self, folder: Path) -> ExitCode:
        """Keep the rows that a killed job had finished."""
        header, entries, _ = read_journal(folder / JOURNAL_FILE)
        if header is None or not entries:
            return super().parse_without_report(folder)
        rows = read_rows(entries)
        structures, source = self._structures(), LabelSource.from_dict(header)
        self.out('labels', LabelSetData(tabulate(source, structures, rows)))
        self._keep_densities(folder, source, structures, rows)
        return self.exit_codes.ERROR_INTERRUPTED.format(
            reason=f'killed after {len(rows)} of {len(structures)} structures'
        )

    def _keep_densities(
        self, folder: Path, source: LabelSource, structures: StructureSet, rows: Mapping[int, LabelledRow]
    ) -> None:
        boxed, files = find_densities(folder / DENSITIES_FOLDER, structures, rows)
        if files:
            self.out('densities', DensitySetData(boxed, files, source))

    def _structures(self) -> StructureSet:
        structures: StructureSet = self.node.inputs.structures.structures
        return structures.select(self.node.inputs.rows.get_list()) if 'rows' in self.node.inputs else structures
