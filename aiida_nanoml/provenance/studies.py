"""What a study found, read back from its process or its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiida_nanoml.errors import ProvenanceError

if TYPE_CHECKING:
    from aiida.orm import ArrayData, Node, ProcessNode

    from aiida_nanoml.learning.studies.base import Row, Study

WORKFLOW = 'nanoml.study'


@dataclass(frozen=True)
class StudyTables:
    """Tables of a study.

    :param study: the study, with its settings and its kind of model.
    :param table: node of all rows.
    :param tables: tables for people by name: cells, the first row is the head.
    :param summary: means and standard deviations over the seeds, a row for each point and family.
    :param n_rows: rows of all seeds.
    :param n_seeds: repetitions.
    :param n_failed: rows that could not be evaluated.
    :param messages: why, each reason once.
    """

    study: Study
    table: ArrayData
    tables: dict[str, list[list[str]]]
    summary: list[Row]
    n_rows: int
    n_seeds: int
    n_failed: int
    messages: list[str]

    @property
    def labels(self) -> dict[str, Any]:
        """Return engine, version, protocol and parameters of the labels."""
        found: dict[str, Any] = self.table.base.attributes.get('labels')
        return found


def find_study(node: Node) -> ProcessNode:
    """Return the process of a study.

    :param node: the process, or the table that it made.
    :raises ProvenanceError: the node is neither.
    """
    from aiida.orm import Data, ProcessNode

    process = node if isinstance(node, ProcessNode) else None
    if isinstance(node, Data) and node.creator is not None:
        process = node.creator.caller
    if process is None or process.process_type != f'aiida.workflows:{WORKFLOW}':
        raise ProvenanceError(f'{node.label or node.pk} is neither a study nor its table')
    return process


def read_study(process: ProcessNode) -> StudyTables:
    """Read the tables of a study.

    :raises ProvenanceError: it has none, since it failed or has not ended.
    """
    from aiida_nanoml.calculations.functions.studies import study_of
    from aiida_nanoml.learning.studies.base import FAILED, rows_of
    from aiida_nanoml.provenance.campaign import process_state

    if 'table' not in process.outputs:
        state = process.exit_message or process_state(process)
        raise ProvenanceError(f'the study {process.pk} has no table: {state}')
    table = process.outputs.table
    attributes = table.base.attributes
    study = study_of({key: attributes.get(key) for key in ('study', 'settings', 'kind', 'hyperparameters', 'target')})
    columns = table.arrays
    failed = columns['status'] == FAILED
    return StudyTables(
        study=study,
        table=table,
        tables=study.tables(columns),
        summary=rows_of(process.outputs.summary.arrays),
        n_rows=len(failed),
        n_seeds=len(set(columns['seed'].tolist())),
        n_failed=int(failed.sum()),
        messages=sorted({str(message) for message in columns['message'][failed]}),
    )
