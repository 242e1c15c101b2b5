"""Recorded runs of the program of an engine, with which it is tested where the program is missing."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aiida_nanoml.engines.program import ProgramEngine
from aiida_nanoml.structures import Structure


@dataclass(frozen=True)
class Recording:
    """A recorded run: the folder in which the program ran, beside what it means.

    A recording is a folder ``recorded/<engine>/<name>`` beside the module of the engine. It holds the files that the
    engine reads, those that it wrote where they are to be compared, and ``about.json``::

        {"parameters": {"functional": "LDA-CA", "spin": "none"}, "version": "6.7",
         "numbers": [1, 1], "positions_ang": [[0, 0, 0], [0, 0, 0.74]], "cell_ang": null,
         "label": {"energy_ev": -31.1, "gap_ev": 10.2}}

    where ``parameters`` are complete, ``cell_ang`` is that of a periodic structure, and ``"failure": "not_converged"``
    stands in place of ``label`` for a run that gave none.

    :param folder: the folder.
    :param about: content of ``about.json``.
    """

    folder: Path
    about: dict[str, Any]

    @property
    def structure(self) -> Structure:
        """The structure that was computed."""
        numbers, positions = (np.array(self.about[key]) for key in ('numbers', 'positions_ang'))
        if self.about['cell_ang'] is None:
            return Structure(numbers, positions)
        return Structure(numbers, positions, cell=np.array(self.about['cell_ang']), pbc=np.ones(3, dtype=bool))

    def engine(self, kind: type[ProgramEngine]) -> ProgramEngine:
        """Return the engine with the parameters of the run."""
        return kind(kind.Parameters.model_validate(self.about['parameters']))


def recordings_of(kind: type[ProgramEngine]) -> Iterator[Recording]:
    """Read the recordings of an engine, by name."""
    for path in sorted((Path(inspect.getfile(kind)).parent / 'recorded' / kind.name).glob('*/about.json')):
        yield Recording(path.parent, json.loads(path.read_text(encoding='utf-8')))
