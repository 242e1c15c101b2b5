"""Labels of many structures in flat arrays, together with what produced them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.engines.density_of_states import DOS_WIDTH_EV, dos_at_fermi
from aiida_nanoml.errors import DatasetError, FailureCode
from aiida_nanoml.text import ROWS_SHOWN, html_table

if TYPE_CHECKING:
    import pandas as pd

    from aiida_nanoml.engines.base import Engine

FINISHED = 'ok'
IMPORTED = 'imported'
"""Engine of labels that were computed elsewhere: they are never taken for those that an engine gave here."""

_WRITTEN_SOURCE = re.compile(r'\s*(?P<title>\S.*?)\s+(?P<version>v?\d\S*)\s*,\s*(?P<protocol>\S.*?)\s*')
ENERGIES = ('energy_ev', 'homo_ev', 'lumo_ev', 'gap_ev')

LEVELS = ('homo_ev', 'lumo_ev', 'gap_ev')
"""Columns of energies that an engine without levels leaves empty, all of them together."""

NUMBERS = {'fermi_ev': 'eV', 'magnetic_moment_bohr': 'µB'}
"""Optional columns with one number a row, and their units; NaN in a row that has none."""

VECTORS = {'levels_ev': 'eV', 'level_weights': '', 'forces_ev_per_ang': 'eV/Å', 'stress_ev_per_ang3': 'eV/Å³'}
"""Optional columns with several numbers a row, and their units."""

LARGEST_GAP_DIFFERENCE_EV = 0.005
LARGEST_ENERGY_DIFFERENCE_EV = 0.0005
"""Two runs of one structure with the same settings contradict each other where their gaps, or their energies for each
electron, differ by more."""

OFFSETS = '_offsets'
"""Ending of the array that says where the rows of a vector column begin."""


@dataclass(frozen=True)
class LabelSource:
    """What produced a label: two labels may be mixed in one target only if their sources are compatible.

    :param engine: registered name of the engine.
    :param version: version of the engine.
    :param title: how plots and tables name the engine.
    :param protocol: name of the protocol that the parameters were derived from.
    :param parameters: every parameter of the calculation, with units in the names.
    :param pseudopotentials: MD5 of the pseudopotential file of each element, as far as it is known.
    """

    engine: str
    version: str
    title: str
    protocol: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pseudopotentials: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_engine(cls, engine: Engine, protocol: str, version: str) -> LabelSource:
        """Return the source of labels that an engine makes.

        :param protocol: name of the protocol that its parameters were derived from.
        :param version: of the code that computes.
        """
        return cls(
            engine=engine.name,
            version=version,
            title=engine.method,
            protocol=protocol,
            parameters=engine.settings.model_dump(),
            pseudopotentials=engine.pseudopotentials(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able copy."""
        return {
            'engine': self.engine,
            'version': self.version,
            'title': self.title,
            'protocol': self.protocol,
            'parameters': dict(self.parameters),
            'pseudopotentials': dict(self.pseudopotentials),
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

    @classmethod
    def parse(cls, text: str) -> LabelSource:
        """Read the source of labels that were computed elsewhere.

        :param text: ``NAME VERSION, PROTOCOL``, for example ``SIESTA 4.1, LDA-CA DZP``.
        :raises DatasetError: the text is not of this form.
        """
        match = _WRITTEN_SOURCE.fullmatch(text)
        if match is None:
            raise DatasetError(
                f'{text!r} is not of the form "NAME VERSION, PROTOCOL", for example "SIESTA 4.1, LDA-CA DZP"'
            )
        return cls(IMPORTED, match['version'], match['title'], match['protocol'])

    def compatible(self, other: LabelSource) -> bool:
        """Return whether labels of both sources may be mixed in one target.

        Everything must be equal, and the pseudopotentials of the elements that both name: a set without boron says
        nothing about the one of boron. A parameter that is None is the same as one that an older version did not have.
        """
        shared = self.pseudopotentials.keys() & other.pseudopotentials.keys()
        return self._settings() == other._settings() and all(
            self.pseudopotentials[element] == other.pseudopotentials[element] for element in shared
        )

    def _settings(self) -> LabelSource:
        given = {name: value for name, value in self.parameters.items() if value is not None}
        return replace(self, parameters=given, pseudopotentials={})

    def joined(self, other: LabelSource) -> LabelSource:
        """Return the source of labels of both, with the pseudopotentials of both.

        :raises DatasetError: the sources are not compatible.
        """
        if not self.compatible(other):
            raise DatasetError(f'labels of different origin cannot be mixed in one target: {self} and {other}')
        return replace(self, pseudopotentials={**self.pseudopotentials, **other.pseudopotentials})

    def __str__(self) -> str:
        return f'{self.title} {self.version}, protocol {self.protocol}'


@dataclass(frozen=True)
class Ragged:
    """A column whose rows are vectors of different lengths.

    :param values: shape (m,), all rows one after the other.
    :param offsets: shape (n + 1,), first value of each row, and m at the end.
    :raises DatasetError: the offsets do not fit the values.
    """

    values: NDArray[np.float64]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        starts = self.offsets
        if (
            self.values.ndim != 1
            or starts.ndim != 1
            or not len(starts)
            or starts[0] != 0
            or starts[-1] != len(self.values)
            or np.any(np.diff(starts) < 0)
        ):
            raise DatasetError('the offsets of a column of vectors do not fit its values')

    @classmethod
    def from_rows(cls, rows: Sequence[ArrayLike]) -> Ragged:
        """Put vectors one after the other; an array of any shape is read row by row."""
        flat = [np.asarray(row, dtype=np.float64).ravel() for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in flat])]).astype(np.int64)
        return cls(np.concatenate([np.empty(0), *flat]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.float64]:
        """Return the vector of one row, empty if there is none."""
        if not 0 <= row < len(self):
            raise IndexError(f'row {row} does not exist: there are {len(self)}')
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def select(self, rows: NDArray[Any]) -> Ragged:
        """Return the rows given by an index or boolean array."""
        return self.from_rows([self[row] for row in np.arange(len(self))[rows].tolist()])


@dataclass(frozen=True, repr=False)
class LabelSet:
    """Labels of n structures, failed ones included.

    :param source: engine, version, protocol and parameters, the same for all rows.
    :param hashes: shape (n,), content hashes of the structures.
    :param status: shape (n,), ``'ok'`` or the code of the failure.
    :param messages: shape (n,), a sentence for each failure; of a finished row how it was recovered, else ``''``.
    :param energies: ``energy_ev``, ``homo_ev``, ``lumo_ev``, ``gap_ev`` (eV), each of shape (n,); NaN where a
        row failed, the last three also where the engine knows no levels.
    :param n_electrons: shape (n,), valence electrons; 0 where a row failed.
    :param open_shell: shape (n,), whether the electron count is odd.
    :param wall_s: shape (n,), seconds spent on each row.
    :param vectors: columns of vectors, some of :data:`VECTORS`; a row without one is empty. The levels of two spins,
        and of several k-points, follow each other; forces, stress and weights are written row by row.
    :param numbers: columns of :data:`NUMBERS`, each of shape (n,); NaN in a row without.
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
    vectors: Mapping[str, Ragged] = field(default_factory=dict)
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.energies) != set(ENERGIES):
            raise DatasetError(f'labels need exactly the columns {", ".join(ENERGIES)}; got {", ".join(self.energies)}')
        unknown = sorted(set(self.numbers) - set(NUMBERS))
        if unknown:
            raise DatasetError(f'labels have no column {unknown[0]!r} of numbers; they have: {", ".join(NUMBERS)}')
        for name, column in self._columns().items():
            if column.shape != (len(self.hashes),):
                raise DatasetError(f'label column {name!r} has shape {column.shape}, expected ({len(self.hashes)},)')
        for name, vector in self.vectors.items():
            if name not in VECTORS:
                raise DatasetError(f'labels have no column of vectors {name!r}; they have: {", ".join(VECTORS)}')
            if len(vector) != len(self.hashes):
                raise DatasetError(f'label column {name!r} has {len(vector)} rows, expected {len(self.hashes)}')
            if not np.isfinite(vector.values).all():
                raise DatasetError(f'label column {name!r} holds a number that is not finite')
        without_levels = np.isnan([self.energies[name] for name in LEVELS]).all(axis=0)
        for name in ENERGIES:
            empty = without_levels if name in LEVELS else np.zeros(len(self), dtype=bool)
            bad = np.flatnonzero(self.finished & ~np.isfinite(self.energies[name]) & ~empty)
            if bad.size:
                raise DatasetError(f'label row {bad[0]} counts as finished but its {name} is not a finite number')

    def __len__(self) -> int:
        return len(self.hashes)

    def __repr__(self) -> str:
        return f'<LabelSet: {len(self)} rows, {int(self.finished.sum())} finished, {self.source}>'

    def _repr_html_(self) -> str:
        shown = self.select(np.arange(min(len(self), ROWS_SHOWN))).to_dataframe()
        columns = ['status', *ENERGIES, 'n_electrons']
        rows = shown[columns].itertuples(index=False)
        return html_table(repr(self).strip('<>'), columns, rows)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a data frame with a row for each label; columns of vectors are left out."""
        import pandas as pd

        return pd.DataFrame(self._columns()).rename(columns={'hashes': 'hash', 'messages': 'message'})

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Rows that the engine completed, shape (n,)."""
        return np.asarray(self.status == FINISHED)

    @property
    def failures(self) -> dict[str, int]:
        """Number of failed rows for each failure code."""
        codes, counts = np.unique(self.status[~self.finished], return_counts=True)
        return {str(code): int(count) for code, count in zip(codes, counts, strict=True)}

    def dos_fermi(self, width_ev: float = DOS_WIDTH_EV) -> NDArray[np.float64]:
        """Return the density of states at the Fermi level of each row, (n,): states for each eV of the whole cell.

        :param width_ev: Gaussian width in eV, see :func:`~aiida_nanoml.engines.density_of_states.density_of_states`.
        :returns: NaN in a row without weights of its levels.
        :raises EngineError: the width is not positive.
        """
        found = np.full(len(self), np.nan)
        levels, weights = (self.vectors.get(name) for name in ('levels_ev', 'level_weights'))
        fermi = self.numbers.get('fermi_ev')
        if levels is None or weights is None or fermi is None:
            return found
        for row in np.flatnonzero(np.diff(weights.offsets) * np.isfinite(fermi)).tolist():
            by_point = levels[row].reshape(len(weights[row]), -1)
            found[row] = dos_at_fermi(by_point, weights[row], float(fermi[row]), width_ev)
        return found

    def select(self, rows: NDArray[Any]) -> LabelSet:
        """Return the rows given by an index or boolean array."""
        columns = {name: column[rows] for name, column in self._columns().items()}
        return self._from_columns(
            self.source, columns, {name: vector.select(rows) for name, vector in self.vectors.items()}
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all columns by name, each of shape (n,), and two arrays for each column of vectors."""
        arrays = self._columns()
        for name, vector in self.vectors.items():
            arrays |= {name: vector.values, f'{name}{OFFSETS}': vector.offsets}
        return arrays

    def _columns(self) -> dict[str, NDArray[Any]]:
        return {
            'hashes': self.hashes,
            'status': self.status,
            'messages': self.messages,
            **self.energies,
            'n_electrons': self.n_electrons,
            'open_shell': self.open_shell,
            'wall_s': self.wall_s,
            **self.numbers,
        }

    @classmethod
    def from_arrays(cls, source: LabelSource, arrays: Mapping[str, NDArray[Any]]) -> LabelSet:
        """Rebuild a label set from :meth:`to_arrays`.

        :raises DatasetError: a column is missing.
        """
        try:
            vectors = {
                name: Ragged(
                    np.asarray(arrays[name], dtype=np.float64), np.asarray(arrays[f'{name}{OFFSETS}'], dtype=np.int64)
                )
                for name in VECTORS
                if name in arrays
            }
            return cls._from_columns(source, arrays, vectors)
        except KeyError as error:
            raise DatasetError(f'labels lack the column {error}') from error

    @classmethod
    def _from_columns(
        cls, source: LabelSource, columns: Mapping[str, NDArray[Any]], vectors: Mapping[str, Ragged]
    ) -> LabelSet:
        return cls(
            source=source,
            hashes=np.asarray(columns['hashes'], dtype=str),
            status=np.asarray(columns['status'], dtype=str),
            messages=np.asarray(columns['messages'], dtype=str),
            energies={name: np.asarray(columns[name], dtype=np.float64) for name in ENERGIES},
            n_electrons=np.asarray(columns['n_electrons'], dtype=np.int64),
            open_shell=np.asarray(columns['open_shell'], dtype=np.bool_),
            wall_s=np.asarray(columns['wall_s'], dtype=np.float64),
            vectors=vectors,
            numbers={name: np.asarray(columns[name], dtype=np.float64) for name in NUMBERS if name in columns},
        )

    @classmethod
    def concatenate(cls, sets: Sequence[LabelSet]) -> LabelSet:
        """Join label sets of compatible sources; of rows with the same structure :meth:`distinct` chooses.

        :raises DatasetError: nothing to join, or the sources differ.
        """
        return cls.stacked(sets).distinct()

    @classmethod
    def stacked(cls, sets: Sequence[LabelSet]) -> LabelSet:
        """Put label sets of compatible sources one after the other, with all of their rows.

        A column of vectors that some sets have stays empty for the rows of the others.

        :raises DatasetError: nothing to join, or the sources differ.
        """
        if not sets:
            raise DatasetError('no labels to join')
        source = sets[0].source
        for position, other in enumerate(sets[1:], start=1):
            if not source.compatible(other.source):
                raise DatasetError(
                    f'labels of different origin cannot be mixed in one target: set 0 is from {source}, set '
                    f'{position} from {other.source}; relabel one of them, or build two data sets'
                )
            source = source.joined(other.source)
        names = [name for name in NUMBERS if any(name in part.numbers for part in sets)]
        columns = {
            name: np.concatenate(
                [part._columns()[name] if name in part._columns() else np.full(len(part), np.nan) for part in sets]
            )
            for name in (*sets[0]._columns(), *names)
        }
        names = [name for name in VECTORS if any(name in part.vectors for part in sets)]
        vectors = {
            name: Ragged.from_rows(
                [
                    part.vectors[name][row] if name in part.vectors else np.empty(0)
                    for part in sets
                    for row in range(len(part))
                ]
            )
            for name in names
        }
        return cls._from_columns(source, columns, vectors)

    def contradictions(self) -> dict[str, list[int]]:
        """Return the finished rows of each structure that has several with different results, by its hash.

        Results differ when the gap does by more than ``LARGEST_GAP_DIFFERENCE_EV``, or the energy by more than
        twice that and ``LARGEST_ENERGY_DIFFERENCE_EV`` for each electron: where a structure lies on the mesh of a
        code changes both by less.
        """
        rows: dict[str, list[int]] = {}
        for row in np.flatnonzero(self.finished).tolist():
            rows.setdefault(str(self.hashes[row]), []).append(row)
        return {digest: members for digest, members in rows.items() if len(members) > 1 and self._differ(members)}

    def _differ(self, rows: list[int]) -> bool:
        energies, gaps = (self.energies[name][rows] for name in ('energy_ev', 'gap_ev'))
        electrons = self.n_electrons[rows]
        allowed = 2 * LARGEST_GAP_DIFFERENCE_EV + LARGEST_ENERGY_DIFFERENCE_EV * electrons.max()
        known = gaps[~np.isnan(gaps)]
        return bool(
            np.ptp(energies) > allowed
            or (len(known) > 1 and np.ptp(known) > LARGEST_GAP_DIFFERENCE_EV)
            or len(set(electrons[electrons > 0].tolist())) > 1
        )

    def distinct(self) -> LabelSet:
        """Return one row for each structure: of several a finished one, then one with a gap, then the first.

        Where finished rows contradict each other, none is chosen: the row has the status ``contradicted``, and its
        message says what they found.
        """
        # What was refused before stays so, whatever is joined to it.
        known = np.where(np.isnan(self.energies['gap_ev']), 2, 1)
        rank = np.where(self.status == FailureCode.CONTRADICTED, 0, np.where(self.finished, known, 3))
        order = np.argsort(rank, kind='stable')
        _, first = np.unique(self.hashes[order], return_index=True)
        if len(first) == len(self):
            return self
        chosen = np.sort(order[first])
        texts = {members[0]: self.describe(members) for members in self.contradictions().values()}
        refused = {int(at): texts[row] for at, row in enumerate(chosen.tolist()) if row in texts}
        return self.select(chosen)._refused(refused)

    def describe(self, rows: list[int]) -> str:
        """Describe what rows of one structure found."""
        found = [
            ' and '.join(
                f'{what} {self.energies[name][row]:.4f} eV'
                for name, what in (('energy_ev', 'the energy'), ('gap_ev', 'the gap'))
                if not np.isnan(self.energies[name][row])
            )
            for row in rows
        ]
        return f'{len(rows)} runs of this structure contradict each other: {"; ".join(found)}'

    def _refused(self, texts: Mapping[int, str]) -> LabelSet:
        """Return the same rows, some of them refused as contradicted, with a message each."""
        if not texts:
            return self
        refused = np.isin(np.arange(len(self)), list(texts))
        messages = self.messages.astype(object)
        messages[list(texts)] = list(texts.values())
        return replace(
            self,
            status=np.where(refused, FailureCode.CONTRADICTED, self.status).astype(str),
            messages=messages.astype(str),
            energies={name: np.where(refused, np.nan, column) for name, column in self.energies.items()},
            n_electrons=np.where(refused, 0, self.n_electrons),
            open_shell=self.open_shell & ~refused,
            vectors={
                name: Ragged.from_rows([np.empty(0) if refused[row] else column[row] for row in range(len(self))])
                for name, column in self.vectors.items()
            },
            numbers={name: np.where(refused, np.nan, column) for name, column in self.numbers.items()},
        )
