"""Rows of a labelling job: what became of each structure, in a journal and in a set of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.label_set import ENERGIES, FINISHED, NUMBERS, VECTORS, LabelSet, LabelSource, Ragged
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.schemas import density_file

ROW, STATUS, MESSAGE, WALL, BOX = 'row', 'status', 'message', 'wall_s', 'box'
"""Keys of a journal entry beside the columns of a label."""


@dataclass(frozen=True)
class Box:
    """Place of a structure in the box of its density.

    :param cell: (3, 3) lattice vectors as rows in Å.
    :param positions: (A, 3) in Å.
    """

    cell: list[list[float]]
    positions: list[list[float]]


@dataclass(frozen=True)
class LabelledRow:
    """What became of one structure.

    :param status: ``ok``, or the code of a failure.
    :param message: one sentence; empty for a finished row with nothing to say.
    :param wall_s: seconds spent on it; NaN if they are not known.
    :param columns: what the row adds to the columns of a set of labels, by name; empty for a failed row.
    :param box: place of the structure in the box of its density, if it has one.
    """

    status: str
    message: str
    wall_s: float
    columns: Mapping[str, Any] = field(default_factory=dict)
    box: Box | None = None

    @classmethod
    def from_label(cls, label: Label, wall_s: float, message: str = '') -> LabelledRow:
        """Make the row of a label; its density is not part of it."""
        optional = {name: getattr(label, name) for name in (*NUMBERS, *VECTORS) if getattr(label, name) is not None}
        columns = {
            **{name: getattr(label, name) for name in ENERGIES},
            'n_electrons': label.n_electrons,
            'open_shell': label.open_shell,
            **{name: value for name, value in optional.items() if name in NUMBERS},
            # A billionth of each unit is far below what any engine resolves, and shortens the journal by half.
            **{name: np.round(optional[name], 9).ravel().tolist() for name in VECTORS if name in optional},
        }
        placed = None if label.density is None else label.density.structure
        box = None if placed is None else Box(placed.cell.tolist(), placed.positions.tolist())
        return cls(FINISHED, message, wall_s, columns, box)

    @classmethod
    def from_error(cls, error: EvaluationError, wall_s: float = float('nan')) -> LabelledRow:
        """Make the row of a structure that gave no label."""
        return cls(error.code, error.message, wall_s)

    @property
    def finished(self) -> bool:
        """Whether there is a label."""
        return self.status == FINISHED

    def to_entry(self, row: int) -> dict[str, Any]:
        """Return the JSON-able entry of a journal.

        :param row: number of the structure in its job.
        """
        entry = {ROW: row, STATUS: self.status, MESSAGE: self.message, WALL: self.wall_s, **self.columns}
        return entry if self.box is None else entry | {BOX: {'cell': self.box.cell, 'positions': self.box.positions}}

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> LabelledRow:
        """Read an entry of a journal."""
        columns = {name: value for name, value in entry.items() if name not in (ROW, STATUS, MESSAGE, WALL, BOX)}
        box = Box(entry[BOX]['cell'], entry[BOX]['positions']) if BOX in entry else None
        return cls(entry.get(STATUS, ''), entry.get(MESSAGE, ''), entry.get(WALL, float('nan')), columns, box)


def read_rows(entries: Mapping[int, Mapping[str, Any]]) -> dict[int, LabelledRow]:
    """Read the entries of a journal, by row."""
    return {row: LabelledRow.from_entry(entry) for row, entry in entries.items()}


def tabulate(source: LabelSource, structures: StructureSet, rows: Mapping[int, LabelledRow]) -> LabelSet:
    """Put rows into columns.

    :param rows: by the number of the structure.
    :returns: one row a structure; those that are not among the rows have the status ``interrupted``.
    """
    absent = LabelledRow(FailureCode.INTERRUPTED.value, 'the job ended before this structure was evaluated', 0.0)
    every = [rows.get(row, absent) for row in range(len(structures))]

    def column(name: str, default: Any) -> Any:
        return np.array([row.columns.get(name, default) for row in every])

    return LabelSet(
        source=source,
        hashes=structures.hashes,
        status=np.array([row.status for row in every]),
        messages=np.array([row.message for row in every]),
        energies={name: column(name, float('nan')) for name in ENERGIES},
        n_electrons=column('n_electrons', 0),
        open_shell=column('open_shell', False),
        wall_s=np.array([row.wall_s for row in every]),
        vectors={
            name: Ragged.from_rows([row.columns.get(name, ()) for row in every])
            for name in VECTORS
            if any(name in row.columns for row in every)
        },
        numbers={name: column(name, float('nan')) for name in NUMBERS if any(name in row.columns for row in every)},
    )


def find_densities(
    densities: Path, structures: StructureSet, rows: Mapping[int, LabelledRow]
) -> tuple[StructureSet, list[Path]]:
    """Find the densities of a job.

    :param densities: the folder ``densities`` of the job.
    :param structures: the structures of the job.
    :param rows: by the number of the structure.
    :returns: the structures that have a density, each in its box, and the file of each density.
    """
    boxes = {row: found.box for row, found in sorted(rows.items()) if found.box is not None}
    arrays = structures.select(list(boxes)).to_arrays()
    arrays['positions'] = np.concatenate([np.empty((0, 3)), *(box.positions for box in boxes.values())])
    arrays['cells'] = np.array([box.cell for box in boxes.values()]).reshape(-1, 3, 3)
    return StructureSet.from_arrays(arrays), [densities / density_file(row) for row in boxes]
