"""Show the tables of a study, and write its files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import FileAction, Result, Step, record, step
from aiida_nanoml.actions.describe import source_line
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import OUTPUT, AnyNode, argument, option, output_option
from aiida_nanoml.actions.figures import WIDTH, Format, size_of
from aiida_nanoml.actions.files import write_files
from aiida_nanoml.actions.session import Session
from aiida_nanoml.learning.plot_style import Width
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

    from aiida_nanoml.provenance.studies import StudyTables

OUTPUT_FOLDER: Any = output_option('Folder for the figure and the tables.', exists='new folder')


class StudyFiles(FileAction):
    """An action that writes the files of a study into a folder."""

    output: Path | None = OUTPUT_FOLDER
    format: Format | None = option(None, 'Format of the figure.', shown='png', group=OUTPUT)
    width: Width | None = WIDTH

    @model_validator(mode='after')
    def _check_figure(self) -> Self:
        if self.output is None and (self.format or self.width):
            raise InputError('{format} and {width} are those of a figure: name its folder with {output}')
        return self

    def check_output(self, study: str) -> None:
        """Check that no file of the study would be replaced.

        :param study: registered name of the study.
        :raises ActionError: the figure exists already, or the place of the folder does not.
        """
        if self.output is not None and self.output.is_dir():
            self.check_overwriting(self.output / f'{study}.{self.format or "png"}')
        else:
            self.check_overwriting(self.output)

    def show(self, process: ProcessNode) -> Result:
        """Write the files if that is wanted, and return the tables.

        The stored figure is written, unless another format or width is chosen.
        """
        from aiida_nanoml.engines.label_set import LabelSource
        from aiida_nanoml.learning.plot_style import save_figure
        from aiida_nanoml.provenance.studies import read_study

        if self.output is None:
            return StudyResult(process, ())
        paths = write_files(process.outputs.files, self.output)
        if self.format or self.width:
            found = read_study(process)
            (stored,) = (path for path in paths if path.suffix == '.png')
            drawn = stored.with_suffix(f'.{self.format or "png"}')
            stored.unlink()
            source = str(LabelSource.from_dict(found.labels))
            save_figure(found.study.figure(found.table.arrays, source, **size_of(self.width)), drawn)
            paths = tuple(drawn if path == stored else path for path in paths)
        return StudyResult(process, paths)


class ShowStudy(StudyFiles):
    """Show the tables of a study again, and write its files; NODE is its table, or the process."""

    action: ClassVar[str] = 'show_study'
    command: ClassVar[tuple[str, ...]] = ('study', 'show')
    example: ClassVar[str] = 'aiida-nanoml study show curve -o curve'

    node: AnyNode = argument('Table of a study, or its process.')

    def perform(self, session: Session) -> Result:
        """Read the tables, then write the files."""
        from aiida_nanoml.provenance.studies import find_study, read_study

        process = find_study(self.load('node'))
        read_study(process)
        self.check_output(process.inputs.study.value)
        return self.show(process)


@dataclass(frozen=True)
class StudyResult(Result):
    """Tables of a study.

    :param process: the workflow.
    :param files: files that were written.
    """

    process: ProcessNode
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all tables."""
        found = self._found
        return record(
            found.table,
            process=self.process.uuid,
            study=found.study.name,
            kind=found.study.model.kind,
            target=found.study.target.name,
            unit=found.study.target.unit,
            labels=found.labels,
            n_seeds=found.n_seeds,
            n_failed=found.n_failed,
            messages=found.messages,
            summary=found.summary,
            tables=found.tables,
            files=[str(path) for path in self.files],
        )

    def lines(self) -> dict[str, object]:
        """Return the study, its labels, and what failed."""
        found, label = self._found, self._found.table.label
        failed = {'failed': f'{found.n_failed} rows, for example: {found.messages[0]}'} if found.messages else {}
        return {
            'study': f'{found.study.name}, model {found.study.model.kind}, {found.n_seeds} seeds '
            '(mean ± standard deviation)',
            'labels': source_line(found.labels),
            'table': f'{f"{label} " if label else ""}pk {found.table.pk}, {found.n_rows} rows',
            **failed,
            **({'files': ' '.join(map(str, self.files))} if self.files else {}),
        }

    def table(self) -> str:
        """Return the tables for people."""
        return '\n\n'.join(aligned(cells) for cells in self._found.tables.values())

    def next_step(self) -> Step:
        """Look where the table comes from, or write the files."""
        if self.files:
            return step('trace', node=self._found.table)
        return step('show_study', node=self._found.table, output=self._found.study.name)

    @cached_property
    def _found(self) -> StudyTables:
        from aiida_nanoml.provenance.studies import read_study

        return read_study(self.process)
