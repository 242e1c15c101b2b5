"""Show where a node comes from, back to every labelling job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import ArchiveAction, Result, Step, step
from aiida_nanoml.actions.fields import OUTPUT, AnyNode, argument, option
from aiida_nanoml.actions.figures import FormatAction
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.provenance.lineage import Lineage


class Trace(ArchiveAction, FormatAction):
    """Show where NODE comes from, back to every labelling job.

    Of a workflow, the results are followed; of a calculation, its inputs.
    """

    action: ClassVar[str] = 'trace'
    command: ClassVar[tuple[str, ...]] = ('trace',)
    figure_field: ClassVar[str] = 'graph'
    example: ClassVar[str] = 'aiida-nanoml trace PREDICTION --csv nodes.csv --graph lineage.svg'

    node: AnyNode = argument('Node to start from.')
    jobs: bool = option(False, 'List every labelling job, not only the first ones.', group=OUTPUT)
    csv: Path | None = option(None, 'Write a table, a row for each node.', exists='new file', group=OUTPUT)
    graph: Path | None = option(
        None,
        'Draw it, grouped; the ending chooses the format: .svg, .pdf or .png.',
        exists='new file',
        group=OUTPUT,
    )

    def perform(self, session: Session) -> Result:
        """Walk the graph, and write table and picture."""
        from aiida_nanoml.calculations.functions.base import csv_text
        from aiida_nanoml.provenance.lineage import TABLE, lineage_table, trace

        node = self.load('node')
        for path in (self.csv, self.graph and self.file):
            self.check_overwriting(path)
        if self.csv is not None:
            self.csv.write_text(csv_text([TABLE, *lineage_table(node)]), encoding='utf-8')
            session.note(f'{self.csv} is written')
        if self.graph is not None:
            from aiida_nanoml.provenance.picture import draw_lineage

            n_boxes = draw_lineage(node, self.file)
            session.note(f'{self.file} is drawn, {n_boxes} boxes')
        return TraceResult(trace(node), self.jobs, self.archive)


@dataclass(frozen=True)
class TraceResult(Result):
    """The lineage of a node.

    :param lineage: what is behind the node.
    :param all_jobs: list every labelling job.
    :param archive: archive that was asked.
    """

    lineage: Lineage
    all_jobs: bool
    archive: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Return the identity of the node and its lineage."""
        content = self.lineage.to_dict()
        return {key: content['node'][key] for key in ('uuid', 'pk', 'type')} | content

    def lines(self) -> str:
        """Return the lineage as text."""
        return self.lineage.render(self.all_jobs)

    def next_step(self) -> Step:
        """Look for what a referee would object to."""
        return step('audit', node=self.lineage.to_dict()['node']['pk'], archive=self.archive)
