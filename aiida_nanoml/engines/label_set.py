"""Labels of many structures in flat arrays, together with what produced them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DatasetError

FINISHED = 'ok'
ENERGIES = ('energy_ev', 'homo_ev', 'lumo_ev', 'gap_ev')


@dataclass(frozen=True)
class LabelSource:
    """What produced a label: two labels may stand in one target only when their sources are equal.

    :param engine: registered name of the engine.
    :param version: version of the engine.
    :param title: how plots and tables name the engine.
    :param protocol: name of the protocol that the parameters were derived from.
    :param parameters: every parameter of the calculation, with units in the names.
    """

    engine: str
    version: str
    title: str
    protocol: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able copy."""
        return {
            'engine': self.engine,
            'version': self.version,
            'title': self.title,
            'protocol': self.protocol,
            'parameters': dict(self.parameters),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelSource:
        """Rebuild a source from :meth:`to_dict`.

        :raises DatasetError: a key is missing or unknown.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise DatasetError(f'not a label source: {error}') from error

    def __str__(self) -> str:
        return f'{self.title} {self.version}, protocol {self.protocol}'


@dataclass(frozen=True)
class LabelSet:
    """Labels of n structures, failed ones included.

    :param source: engine, version, protocol and parameters, the same for all rows.
    :param hashes: shape (n,), content hashes of the structures.
    :param status: shape (n,), ``'ok'`` or the code of the failure.
    :param messages: shape (n,), a sentence for each failure, else ``''``.
    :param energies: ``energy_ev``, ``homo_ev``, ``lumo_ev``, ``gap_ev`` (eV), each of shape (n,); NaN where a
        row failed.
    :param n_electrons: shape (n,), valence electrons; 0 where a row failed.
    :param open_shell: shape (n,), whether the electron count is odd.
    :param wall_s: shape (n,), seconds spent on each row.
    :raises DatasetError: lengths differ, or a finished row holds a number that is not finite.
    """

    source: LabelSource
    hashes: NDArray[np.str_]
    status: NDArray[np.str_]
    messages: NDArray[np.str_]
    energies: Mapping[str, NDArray[np.float64]]
    n_electrons: NDArray[np.int64]
    open_shell: NDArray[np.bool_]
    wall_s: NDArray[np.float64]

    def __post_init__(self) -> None:
        if set(self.energies) != set(ENERGIES):
            raise DatasetError(f'labels need exactly the columns {", ".join(ENERGIES)}; got {", ".join(self.energies)}')
        for name, column in self.to_arrays().items():
            if column.shape != (len(self.hashes),):
                raise DatasetError(f'label column {name!r} has shape {column.shape}, expected ({len(self.hashes)},)')
        for name in ENERGIES:
            bad = np.flatnonzero(self.finished & ~np.isfinite(self.energies[name]))
            if bad.size:
                raise DatasetError(f'label row {bad[0]} counts as finished but its {name} is not a finite number')

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Rows that the engine completed, shape (n,)."""
        return np.asarray(self.status == FINISHED)

    @property
    def failures(self) -> dict[str, int]:
        """Number of failed rows for each failure code."""
        codes, counts = np.unique(self.status[~self.finished], return_counts=True)
        return {str(code): int(count) for code, count in zip(codes, counts, strict=True)}

    def select(self, rows: NDArray[Any]) -> LabelSet:
        """Return the rows given by an index or boolean array."""
        arrays = {name: column[rows] for name, column in self.to_arrays().items()}
        return self.from_arrays(self.source, arrays)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all columns by name, each of shape (n,)."""
        return {
            'hashes': self.hashes,
            'status': self.status,
            'messages': self.messages,
            **self.energies,
            'n_electrons': self.n_electrons,
            'open_shell': self.open_shell,
            'wall_s': self.wall_s,
        }

    @classmethod
    def from_arrays(cls, source: LabelSource, arrays: Mapping[str, NDArray[Any]]) -> LabelSet:
        """Rebuild a label set from :meth:`to_arrays`.

        :raises DatasetError: a column is missing.
        """
        try:
            return cls(
                source=source,
                hashes=np.asarray(arrays['hashes'], dtype=str),
                status=np.asarray(arrays['status'], dtype=str),
                messages=np.asarray(arrays['messages'], dtype=str),
                energies={name: np.asarray(arrays[name], dtype=np.float64) for name in ENERGIES},
                n_electrons=np.asarray(arrays['n_electrons'], dtype=np.int64),
                open_shell=np.asarray(arrays['open_shell'], dtype=np.bool_),
                wall_s=np.asarray(arrays['wall_s'], dtype=np.float64),
            )
        except KeyError as error:
            raise DatasetError(f'labels lack the column {error}') from error

    @classmethod
    def concatenate(cls, sets: Sequence[LabelSet]) -> LabelSet:
        """Join label sets of one source; of rows with the same structure a finished one wins, then the first.

        :raises DatasetError: nothing to join, or the sources differ.
        """
        if not sets:
            raise DatasetError('no labels to join')
        for position, other in enumerate(sets[1:], start=1):
            if other.source != sets[0].source:
                raise DatasetError(
                    f'labels of different origin cannot stand in one target: set 0 is from {sets[0].source}, set '
                    f'{position} from {other.source}. Relabel one of them, or build two data sets.'
                )
        arrays = {name: np.concatenate([labels.to_arrays()[name] for labels in sets]) for name in sets[0].to_arrays()}
        joined = cls.from_arrays(sets[0].source, arrays)
        order = np.argsort(~joined.finished, kind='stable')
        _, first = np.unique(joined.hashes[order], return_index=True)
        return joined.select(np.sort(order[first]))
