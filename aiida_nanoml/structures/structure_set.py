"""Set of many structures in a few flat arrays: the form in which every floor above receives structures."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import EllipsisType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS, SYMBOLS
from aiida_nanoml.structures.neighbours import near_pairs
from aiida_nanoml.structures.pictures import draw_structure
from aiida_nanoml.text import ROWS_SHOWN, counted, first_of, html_table

if TYPE_CHECKING:
    import pandas as pd
    from ase import Atoms

MINIMUM_DISTANCE = 0.5
"""Atoms nearer than this (Å) are a mistake: no bond is shorter than that of H2, 0.74 Å."""

LARGEST_COORDINATE = 5e3
"""Coordinates beyond this (Å) are a mistake of units or of reading."""

HASH_RESOLUTION = 1e-5
"""Coordinates are rounded to this (Å) before they enter a content hash."""

Rows = slice | Sequence[int] | Sequence[str] | NDArray[np.integer] | NDArray[np.bool_] | NDArray[np.str_]
"""Several structures of a set: a slice, rows, a mask, or names."""

_ARRAYS = ('numbers', 'positions', 'offsets', 'cells', 'pbc', 'names', 'families')


@dataclass(frozen=True, eq=False, repr=False)
class Structure:
    """One structure.

    :param numbers: (A,) atomic numbers.
    :param positions: (A, 3) Cartesian coordinates in Å.
    :param cell: (3, 3) lattice vectors as rows in Å; zeros for an isolated structure without a box.
    :param pbc: (3,) whether the structure repeats along each lattice vector.
    :raises StructureError: if the shapes do not belong together.
    """

    numbers: NDArray[np.uint8]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, dtype=bool))

    def __post_init__(self) -> None:
        numbers = _array(self.numbers, np.uint8, 'numbers')
        for name, kind, shape in (
            ('positions', np.float64, (len(numbers), 3)),
            ('cell', np.float64, (3, 3)),
            ('pbc', np.bool_, (3,)),
        ):
            values = _array(getattr(self, name), kind, name)
            if values.shape != shape:
                raise StructureError(f'{name} has the shape {values.shape}, but {shape} is needed')
            object.__setattr__(self, name, values)
        object.__setattr__(self, 'numbers', numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbol of each atom."""
        return [SYMBOLS[number] for number in self.numbers.tolist()]

    def __repr__(self) -> str:
        formula = StructureSet.from_structures([self]).formulas[0]
        return f'<Structure: {formula}, {len(self)} atoms, periodic along {counted(int(self.pbc.sum()), "vector")}>'

    def _repr_html_(self) -> str:
        return draw_structure(self)


class StructureSet:
    """A fixed set of structures in flat, read-only arrays.

    Structure ``r`` owns the atoms ``offsets[r]:offsets[r + 1]``. Creating a set checks it: shapes, finite numbers,
    known elements, cells that fit the periodicity, and no two atoms nearer than :data:`MINIMUM_DISTANCE`, periodic
    images included.

    :param numbers: (A,) atomic numbers of all structures in a row.
    :param positions: (A, 3) Cartesian coordinates in Å.
    :param offsets: (n + 1,) first atom of each structure, and A at the end.
    :param cells: (n, 3, 3) lattice vectors as rows in Å; zeros for an isolated structure without a box. Default: zeros.
    :param pbc: (n, 3) periodicity along each lattice vector. Default: none.
    :param names: (n,) name of each structure. Default: empty.
    :param families: (n,) family of each structure; empty for an unknown one. Default: empty.
    :raises StructureError: naming the row, and the atoms if any, that cannot be used.
    """

    numbers: NDArray[np.uint8]
    positions: NDArray[np.float64]
    offsets: NDArray[np.int64]
    cells: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    names: NDArray[np.str_]
    families: NDArray[np.str_]

    def __init__(
        self,
        numbers: ArrayLike,
        positions: ArrayLike,
        offsets: ArrayLike,
        cells: ArrayLike | None = None,
        pbc: ArrayLike | None = None,
        names: ArrayLike | None = None,
        families: ArrayLike | None = None,
    ) -> None:
        starts = _array(offsets, np.int64, 'offsets')
        if starts.ndim != 1 or len(starts) < 1 or starts[0] != 0:
            raise StructureError('offsets must be one row of integers that starts with 0')
        empty_rows = np.flatnonzero(np.diff(starts) <= 0)
        if len(empty_rows):
            raise StructureError(f'structure {empty_rows[0]} has no atoms: offsets must increase at every step')
        n = len(starts) - 1
        self._assign(
            numbers=_array(numbers, np.uint8, 'numbers'),
            positions=_array(positions, np.float64, 'positions'),
            offsets=starts,
            cells=np.zeros((n, 3, 3)) if cells is None else _array(cells, np.float64, 'cells'),
            pbc=np.zeros((n, 3), dtype=bool) if pbc is None else _array(pbc, np.bool_, 'pbc'),
            names=_texts([''] * n if names is None else names, 'names'),
            families=_texts([''] * n if families is None else families, 'families'),
        )
        self._check()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f'a StructureSet cannot be changed: {name} is fixed')

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f'a StructureSet cannot be changed: {name} is fixed')

    def _assign(self, **arrays: NDArray[Any]) -> None:
        for name, values in arrays.items():
            fixed = values.view()
            fixed.flags.writeable = False
            self.__dict__[name] = fixed

    @classmethod
    def _from_checked(cls, **arrays: NDArray[Any]) -> StructureSet:
        """Make a set of arrays that come from checked sets, without checking again."""
        created = cls.__new__(cls)
        created._assign(**arrays)
        return created

    def _check(self) -> None:
        n, n_atoms = len(self), int(self.offsets[-1])
        for name, shape in (
            ('numbers', (n_atoms,)),
            ('positions', (n_atoms, 3)),
            ('cells', (n, 3, 3)),
            ('pbc', (n, 3)),
            ('names', (n,)),
            ('families', (n,)),
        ):
            if getattr(self, name).shape != shape:
                raise StructureError(
                    f'{name} has the shape {getattr(self, name).shape}, but {n} structures of {n_atoms} atoms in all '
                    f'need {shape}'
                )
        strange = np.flatnonzero((self.numbers < 1) | (self.numbers >= len(SYMBOLS)))
        if len(strange):
            raise StructureError(f'{self._place(strange[0])} has the atomic number {self.numbers[strange[0]]}')
        # Not `>`: a comparison with NaN is false.
        strange = np.flatnonzero(~(np.abs(self.positions) <= LARGEST_COORDINATE).all(axis=1))
        if len(strange):
            raise StructureError(
                f'{self._place(strange[0])} is at {self.positions[strange[0]].tolist()}: coordinates must be finite, '
                f'in Å, and not beyond {LARGEST_COORDINATE:g} Å'
            )
        strange = np.flatnonzero(~(np.abs(self.cells) <= LARGEST_COORDINATE).all(axis=(1, 2)))
        if len(strange):
            raise StructureError(
                f'{self._row(strange[0])} has a cell that is not finite or beyond {LARGEST_COORDINATE:g} Å'
            )
        self._check_distances()

    def _check_distances(self) -> None:
        left, right, distances = near_pairs(self.positions, self.offsets, MINIMUM_DISTANCE)
        if len(left):
            first = np.lexsort((right, left))[0]
            raise StructureError(
                f'{self._place(left[first])} and atom {right[first] - self._start(left[first])} of the same structure '
                f'are {distances[first]:.3f} Å apart; less than {MINIMUM_DISTANCE} Å is not physical'
            )
        periodic = np.flatnonzero(self.pbc.any(axis=1))
        if len(periodic):
            self._check_images(periodic)

    def _check_images(self, rows: NDArray[np.int64]) -> None:
        """Refuse periodic structures with a flat cell, or with an atom on top of a periodic image."""
        pbc, vectors = self.pbc[rows], self.cells[rows].copy()
        for index in np.flatnonzero(~np.logical_and.reduce(pbc, axis=1)).tolist():
            vectors[index] = _complete_cell(vectors[index], pbc[index])
        flat = np.flatnonzero(np.linalg.svd(vectors, compute_uv=False)[:, -1] < 1e-9)
        if len(flat):
            raise StructureError(f'{self._row(rows[flat[0]])} is periodic but its lattice vectors span no cell')
        inverses = np.linalg.inv(vectors)
        heights = 1.0 / np.linalg.norm(inverses, axis=1)
        thin = np.flatnonzero((pbc & (heights < MINIMUM_DISTANCE)).any(axis=1))
        if len(thin):
            raise StructureError(
                f'{self._row(rows[thin[0]])} is periodic but its cell is thinner than {MINIMUM_DISTANCE} Å'
            )
        counts = self.counts[rows]
        starts = np.concatenate([[0], np.cumsum(counts)])
        owners = np.repeat(np.arange(len(rows)), counts)
        atoms = np.arange(len(owners)) + (self.offsets[rows] - starts[:-1])[owners]
        fractions = np.einsum('ai,aij->aj', self.positions[atoms], inverses[owners])
        lowest = np.minimum.reduceat(fractions, starts[:-1])
        fractions -= np.where(pbc[owners], np.floor(fractions), lowest[owners])
        # Per direction, the atoms within reach of one face are repeated beyond the opposite one: corners follow.
        for axis in range(3):
            reach, repeated = (MINIMUM_DISTANCE / heights[:, axis])[owners], pbc[owners, axis]
            below, above = repeated & (fractions[:, axis] > 1.0 - reach), repeated & (fractions[:, axis] < reach)
            step = np.eye(3)[axis]
            owners = np.concatenate([owners, owners[below], owners[above]])
            atoms = np.concatenate([atoms, atoms[below], atoms[above]])
            fractions = np.concatenate([fractions, fractions[below] - step, fractions[above] + step])
        order = np.argsort(owners, kind='stable')
        atoms, owners = atoms[order], owners[order]
        points = np.einsum('ai,aij->aj', fractions[order], vectors[owners])
        ends = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(rows)))])
        left, right, distances = near_pairs(points, ends, MINIMUM_DISTANCE)
        if len(left):
            first = np.lexsort((right, left))[0]
            row = rows[owners[left[first]]]
            pair = sorted((atoms[[left[first], right[first]]] - self.offsets[row]).tolist())
            raise StructureError(
                f'{self._row(row)}: atom {pair[0]} and a periodic image of atom {pair[1]} are {distances[first]:.3f} Å '
                f'apart; less than {MINIMUM_DISTANCE} Å is not physical'
            )

    def _row(self, row: int) -> str:
        name = f' ({self.names[row]})' if self.names[row] else ''
        return f'structure {row}{name}'

    def _start(self, atom: int) -> int:
        return int(self.offsets[np.searchsorted(self.offsets, atom, side='right') - 1])

    def _place(self, atom: int) -> str:
        """Describe where an atom of the flat arrays is: its row, its name and its index inside the structure."""
        row = int(np.searchsorted(self.offsets, atom, side='right')) - 1
        return f'{self._row(row)}: atom {atom - self._start(atom)}'

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Structure]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, row: int | str) -> Structure: ...  # type: ignore[overload-overlap]  # a text is a sequence of texts

    @overload
    def __getitem__(self, row: Rows | tuple[Rows, EllipsisType]) -> StructureSet: ...

    def __getitem__(self, row: int | str | Rows | tuple[Rows, EllipsisType]) -> Structure | StructureSet:
        """Return one structure by its row or name, or a set of several.

        scikit-learn divides a set in this way, by ``[rows, ...]``: sets go through its pipelines, searches and
        cross-validations as arrays do.

        :param row: a row, counted from the end if it is negative, or a name: one structure. A slice, rows (m,), a mask
            (n,) or names (m,): a set, see :meth:`select`.
        :raises IndexError: if there is no such row.
        :raises StructureError: if a name is not that of exactly one structure, or the rows cannot be selected.
        """
        if isinstance(row, tuple):
            row = row[0] if len(row) == 2 and row[1] is Ellipsis else list(row)
        if isinstance(row, str):
            row = self._row_called(row)
        if not isinstance(row, int | np.integer):
            return self.select(row)
        if not -len(self) <= row < len(self):
            raise IndexError(f'row {row} of a set of {len(self)} structures')
        row = int(row) % len(self)
        atoms = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return Structure(self.numbers[atoms], self.positions[atoms], self.cells[row], self.pbc[row])

    def __eq__(self, other: object) -> bool:
        """Return whether all arrays of two sets are equal, the names and families included."""
        if not isinstance(other, StructureSet):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _ARRAYS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f'<StructureSet: {len(self)} structures, {len(self.numbers)} atoms, {"-".join(self.elements)}>'

    @property
    def shape(self) -> tuple[int]:
        """Number of structures, as the shape of a column."""
        return (len(self),)

    def __getstate__(self) -> dict[str, Any]:
        return self.to_arrays()

    def __setstate__(self, arrays: dict[str, Any]) -> None:
        self._assign(**arrays)

    def _row_called(self, name: str) -> int:
        """Return the row of the only structure with a name."""
        found = np.flatnonzero(self.names == name)
        if len(found) == 1:
            return int(found[0])
        if len(found):
            rows = first_of([str(row) for row in found.tolist()], 5)
            raise StructureError(f'{len(found)} structures are called {name!r}, in the rows {rows}: choose by the row')
        near = difflib.get_close_matches(name, [known for known in self.names.tolist() if known])
        told = f'; near to it: {", ".join(near)}' if near else ''
        raise StructureError(f'no structure of the set is called {name!r}{told}')

    def select(self, rows: Rows) -> StructureSet:
        """Return some structures, in the order given, as a new set.

        :param rows: a slice, row numbers (m,), a mask (n,), or names (m,).
        :raises StructureError: if a row does not exist, a name is not that of exactly one structure, or a mask has not
            one entry for each structure.
        """
        if isinstance(rows, slice):
            picked = np.arange(len(self))[rows]
        else:
            wanted = np.asarray(rows)
            if wanted.ndim == 1 and wanted.dtype.kind == 'U':
                wanted = np.array([self._row_called(name) for name in wanted.tolist()], dtype=np.int64)
            if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in 'biu'):
                raise StructureError('rows must be a slice, or a list of integers, booleans or names')
            if wanted.dtype == bool and len(wanted) != len(self):
                raise StructureError(f'a mask of {len(wanted)} entries does not fit a set of {len(self)} structures')
            try:
                picked = np.arange(len(self))[wanted if wanted.size else np.empty(0, dtype=np.int64)]
            except IndexError as error:
                raise StructureError(f'no such row in a set of {len(self)} structures: {error}') from error
        counts = self.counts[picked]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        atoms = np.arange(int(offsets[-1])) + np.repeat(self.offsets[:-1][picked] - offsets[:-1], counts)
        return self._from_checked(
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            offsets=offsets,
            cells=self.cells[picked],
            pbc=self.pbc[picked],
            names=self.names[picked],
            families=self.families[picked],
        )

    @classmethod
    def concatenate(cls, sets: Iterable[StructureSet]) -> StructureSet:
        """Join sets in the order given.

        :raises StructureError: if there is no set to join.
        """
        parts = list(sets)
        if not parts:
            raise StructureError('there is no structure set to concatenate')
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS if name != 'offsets'
        }
        counts = np.concatenate([part.counts for part in parts])
        return cls._from_checked(offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), **joined)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of atoms of each structure (n,)."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of the structure to which each atom belongs (A,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols that occur, in alphabetical order."""
        return tuple(sorted(SYMBOLS[number] for number in np.unique(self.numbers).tolist()))

    @property
    def has_odd_electrons(self) -> NDArray[np.bool_]:
        """Whether each neutral structure has an odd number of electrons (n,): it has no closed shell."""
        return np.asarray(np.add.reduceat(self.numbers.astype(np.int64), self.offsets[:-1]) % 2 == 1)

    @property
    def formulas(self) -> list[str]:
        """Chemical formula of each structure in Hill order (C, H, the others by symbol; without C all by symbol)."""
        present = np.unique(self.numbers)
        amounts = np.zeros((len(self), len(present)), dtype=np.int64)
        np.add.at(amounts, (self.rows, np.searchsorted(present, self.numbers)), 1)
        symbols = [SYMBOLS[number] for number in present.tolist()]
        formulas = []
        for amount in amounts.tolist():
            content = {symbol: count for symbol, count in zip(symbols, amount, strict=True) if count}
            order = sorted(content, key=lambda symbol: (symbol not in ('C', 'H'), symbol) if 'C' in content else symbol)
            formulas.append(''.join(f'{symbol}{content[symbol] if content[symbol] > 1 else ""}' for symbol in order))
        return formulas

    @cached_property
    def hashes(self) -> NDArray[np.str_]:
        """Content hash of each structure (n,): SHA-256 in hexadecimal, 64 characters.

        Elements, coordinates rounded to :data:`HASH_RESOLUTION`, cell and periodicity enter; the order of the atoms,
        the sign of zero, the name and the family do not. An isolated structure is the same wherever it stands and
        whatever box a code puts it into: its coordinates count from the lowest along each axis, its cell is left out.
        """
        isolated = ~np.logical_or.reduce(self.pbc, axis=1)
        lowest = np.minimum.reduceat(self.positions, self.offsets[:-1]) if len(self) else np.zeros((0, 3))
        origins = np.where(isolated[:, None], lowest, 0.0)
        # Coordinates of six decimals lie halfway between two roundings: what a shift leaves behind must not decide.
        offsets = np.round(self.positions - origins[self.rows], 8)
        points = np.rint(offsets / HASH_RESOLUTION).astype('<i8')
        # No two atoms share a place, so the coordinates alone make the order unique.
        order = np.lexsort((points[:, 2], points[:, 1], points[:, 0], self.rows))
        points, numbers = points[order], self.numbers[order]
        cells = np.rint(np.where(isolated[:, None, None], 0.0, self.cells) / HASH_RESOLUTION).astype('<i8')
        digests = []
        for row, (start, end) in enumerate(zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True)):
            content = hashlib.sha256(b'nanoml-structure-2')
            for part in (numbers[start:end], points[start:end], cells[row], self.pbc[row]):
                content.update(part.tobytes())
            digests.append(content.hexdigest())
        return _freeze(np.array(digests, dtype='<U64'))

    def to_dataframe(self) -> pd.DataFrame:
        """Return a data frame with a row for each structure: what it is, without the coordinates."""
        import pandas as pd

        return pd.DataFrame(
            {
                'name': self.names,
                'family': self.families,
                'formula': self.formulas,
                'n_atoms': self.counts,
                'periodic': self.pbc.any(axis=1),
                'odd_electrons': self.has_odd_electrons,
                'hash': self.hashes,
            }
        )

    def _repr_html_(self) -> str:
        shown = self.select(slice(ROWS_SHOWN))
        columns = (shown, shown.names.tolist(), shown.families.tolist(), shown.formulas, shown.counts.tolist())
        headings = ('', 'name', 'family', 'formula', 'atoms')
        return html_table(repr(self).strip('<>'), headings, zip(*columns, strict=True))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the set by name; :meth:`from_arrays` is the way back, also through an NPZ file."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> StructureSet:
        """Make a set of the arrays of :meth:`to_arrays`, and check everything.

        :raises StructureError: if an array is missing or unknown, or the content cannot be used.
        """
        missing, unknown = sorted(set(_ARRAYS) - set(arrays)), sorted(set(arrays) - set(_ARRAYS))
        if missing or unknown:
            raise StructureError(
                f'a structure set consists of the arrays {", ".join(_ARRAYS)}; missing: {missing}, unknown: {unknown}'
            )
        return cls(**{name: arrays[name] for name in _ARRAYS})

    @classmethod
    def from_structures(
        cls, structures: Iterable[Structure], names: ArrayLike | None = None, families: ArrayLike | None = None
    ) -> StructureSet:
        """Make a set of single structures.

        :param names: (n,) names. Default: empty.
        :param families: (n,) families. Default: empty.
        :raises StructureError: if a structure cannot be used.
        """
        parts = list(structures)
        return cls(
            numbers=np.concatenate([np.empty(0, dtype=np.uint8), *(part.numbers for part in parts)]),
            positions=np.concatenate([np.empty((0, 3)), *(part.positions for part in parts)]),
            offsets=np.cumsum([0, *(len(part) for part in parts)]),
            cells=np.array([part.cell for part in parts]).reshape(-1, 3, 3),
            pbc=np.array([part.pbc for part in parts], dtype=bool).reshape(-1, 3),
            names=names,
            families=families,
        )

    @classmethod
    def from_ase(
        cls, atoms: Atoms | Iterable[Atoms], names: ArrayLike | None = None, families: ArrayLike | None = None
    ) -> StructureSet:
        """Make a set of ASE ``Atoms`` objects, or of a single one.

        :param atoms: one or several; also what has a method ``get_ase``, such as ``StructureData`` of AiiDA.
        :raises StructureError: if a structure cannot be used.
        """
        given: Iterable[Any] = [atoms] if hasattr(atoms, 'positions') or hasattr(atoms, 'get_ase') else atoms
        parts = [part.get_ase() if hasattr(part, 'get_ase') else part for part in given]
        return cls.from_structures(
            [Structure(part.numbers, part.positions, np.asarray(part.cell), part.pbc) for part in parts],
            names,
            families,
        )

    def to_ase(self) -> list[Atoms]:
        """Return ASE ``Atoms`` objects, with ``name`` and ``family`` in ``info`` if they are known."""
        from ase import Atoms

        found = []
        for row, part in enumerate(self):
            known = {'name': str(self.names[row]), 'family': str(self.families[row])}
            info = {key: value for key, value in known.items() if value}
            found.append(Atoms(part.numbers, part.positions, cell=part.cell, pbc=part.pbc, info=info))
        return found

    @classmethod
    def from_pymatgen(
        cls, structures: Any, names: ArrayLike | None = None, families: ArrayLike | None = None
    ) -> StructureSet:
        """Make a set of pymatgen ``Molecule`` (isolated) or ``Structure`` (periodic) objects, or of a single one.

        :raises StructureError: if a structure has disordered sites, or cannot be used.
        """
        parts = []
        for row, part in enumerate([structures] if hasattr(structures, 'is_ordered') else structures):
            if not part.is_ordered:
                raise StructureError(f'structure {row} has partly occupied sites; a set holds definite atoms only')
            lattice = getattr(part, 'lattice', None)
            cell, pbc = (np.zeros((3, 3)), [False] * 3) if lattice is None else (lattice.matrix, lattice.pbc)
            parts.append(Structure(np.array(part.atomic_numbers), part.cart_coords, cell, np.array(pbc)))
        return cls.from_structures(parts, names, families)

    def to_pymatgen(self) -> list[Any]:
        """Return pymatgen objects: a ``Molecule`` for a structure without periodicity, a ``Structure`` otherwise.

        A molecule has no box: the cell of a structure without periodicity is lost.
        """
        from pymatgen.core import Lattice, Molecule
        from pymatgen.core import Structure as Crystal

        found: list[Any] = []
        for part in self:
            if part.pbc.any():
                lattice = Lattice(part.cell, pbc=tuple(part.pbc.tolist()))
                found.append(Crystal(lattice, part.symbols, part.positions, coords_are_cartesian=True))
            else:
                found.append(Molecule(part.symbols, part.positions))
        return found


def place(structure: Structure, vacuum_ang: float) -> Structure:
    """Put an isolated structure into an orthogonal box with half of the vacuum on each side.

    :param vacuum_ang: distance between the images in Å.
    :returns: the structure in its box, still isolated; a periodic structure unchanged.
    """
    if structure.pbc.any():
        return structure
    lowest = structure.positions.min(axis=0)
    extent = structure.positions.max(axis=0) - lowest
    positions = structure.positions - lowest + vacuum_ang / 2
    return Structure(structure.numbers, positions, np.diag(extent + vacuum_ang), structure.pbc)


def atomic_numbers(symbols: Iterable[str]) -> NDArray[np.uint8]:
    """Translate chemical symbols to atomic numbers (A,).

    :raises StructureError: if a symbol is not that of an element.
    """
    wanted = list(symbols)
    unknown = sorted({symbol for symbol in wanted if symbol not in ATOMIC_NUMBERS})
    if unknown:
        raise StructureError(f'no such element: {", ".join(unknown)}')
    return np.array([ATOMIC_NUMBERS[symbol] for symbol in wanted], dtype=np.uint8)


def _freeze(values: NDArray[np.str_]) -> NDArray[np.str_]:
    values.flags.writeable = False
    return values


def _array(values: Any, kind: type[Any], name: str) -> NDArray[Any]:
    """Copy values to an array of a kind, if that loses nothing."""
    try:
        given = np.asarray(values)
        if given.size == 0:
            return given.astype(kind)
        if given.dtype.kind not in {np.bool_: 'b', np.float64: 'fiu'}.get(kind, 'iu'):
            raise StructureError(f'{name} holds values of the type {given.dtype}, not {np.dtype(kind).name}')
        converted = given.astype(kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise StructureError(f'{name} is not an array of {np.dtype(kind).name}: {error}') from error
    if given.dtype.kind in 'iu' and not np.array_equal(converted, given):
        raise StructureError(f'{name} holds values outside the range of {np.dtype(kind).name}')
    return converted


def _texts(values: Any, name: str) -> NDArray[np.str_]:
    texts = np.asarray(values)
    if texts.size and texts.dtype.kind != 'U':
        raise StructureError(f'{name} must be texts, not {texts.dtype}')
    if texts.tolist() != np.asarray(values, dtype=object).tolist():
        raise StructureError(f'{name} holds a text that ends in a NUL character, which arrays of texts cannot keep')
    return texts.astype(np.str_)


def _complete_cell(cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Replace the vectors of open directions by unit vectors across the periodic ones."""
    periodic = cell[pbc]
    complete = cell.copy()
    complete[~pbc] = np.linalg.svd(periodic)[2][len(periodic) :]
    return complete
