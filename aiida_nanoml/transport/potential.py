"""One-dimensional potentials between two leads: piecewise constant, one or many in flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_nanoml.errors import TransportError

Floats = NDArray[np.float64]

ENERGIES = (-1e5, 1e5)
"""Energies beyond these (eV) are a mistake of units or of reading."""

LENGTHS = (1e-3, 1e7)
"""Regions shorter or longer than these (nm), one picometre and one centimetre, are a mistake of units."""

MASSES = (1e-4, 1e4)
"""Effective masses beyond these (in m0) are a mistake of units."""

MOST_CELLS = 1_000_000
"""Cells that one potential may have."""

_ARRAYS = ('names', 'values', 'masses', 'offsets', 'lengths', 'leads', 'lead_masses')


class Potential:
    """A piecewise constant potential on equal cells of a scattering region, and the leads at both ends of it.

    :param values: (n_cells,) potential energy of an electron in each cell, in eV.
    :param length: length of the region, in nm.
    :param mass: effective mass in units of the electron's mass: one number, or (n_cells,).
    :param left: potential of the left lead, in eV; None: the lead continues the first cell.
    :param right: potential of the right lead, in eV; None: the lead continues the last cell.
    :param left_mass: effective mass of the left lead; None: that of the first cell.
    :param right_mass: effective mass of the right lead; None: that of the last cell.
    :param name: what the potential is called.
    :raises TransportError: a number is not finite, or beyond what eV, nm and m0 allow; shapes do not fit.
    """

    def __init__(
        self,
        values: ArrayLike,
        length: float,
        mass: ArrayLike,
        left: float | None = None,
        right: float | None = None,
        left_mass: float | None = None,
        right_mass: float | None = None,
        name: str = '',
    ) -> None:
        self.values = _check_numbers(values, ENERGIES, 'the potential', 'eV')
        if len(self.values) > MOST_CELLS:
            raise TransportError(f'a potential has at most {MOST_CELLS:,} cells, this one has {len(self.values):,}')
        masses = _check_numbers(mass, MASSES, 'the effective mass', 'm0')
        if len(masses) not in (1, len(self)):
            raise TransportError(
                f'there are {len(masses)} effective masses for {len(self)} cells: give one, or one for each cell'
            )
        self.masses = np.broadcast_to(masses, self.values.shape)
        self.length = checked_number(length, LENGTHS, 'the length of the region', 'nm')
        self.left = self._lead(left, self.values[0], ENERGIES, 'the potential of the left lead', 'eV')
        self.right = self._lead(right, self.values[-1], ENERGIES, 'the potential of the right lead', 'eV')
        self.left_mass = self._lead(left_mass, self.masses[0], MASSES, 'the effective mass of the left lead', 'm0')
        self.right_mass = self._lead(right_mass, self.masses[-1], MASSES, 'the effective mass of the right lead', 'm0')
        self.name = name

    @staticmethod
    def _lead(given: float | None, nearest: float, bounds: tuple[float, float], title: str, unit: str) -> float:
        return float(nearest) if given is None else checked_number(given, bounds, title, unit)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def leads(self) -> Floats:
        """(2,) potentials of the left and of the right lead, in eV."""
        return np.array([self.left, self.right])

    @property
    def lead_masses(self) -> Floats:
        """(2,) effective masses of the left and of the right lead, in m0."""
        return np.array([self.left_mass, self.right_mass])

    @property
    def edges(self) -> Floats:
        """(n_cells + 1,) ends of the cells, in nm from the left end of the region."""
        return np.linspace(0.0, self.length, len(self) + 1)

    @property
    def has_one_mass(self) -> bool:
        """Whether the region and both leads have the same effective mass."""
        return bool((self.masses == self.left_mass).all() and self.right_mass == self.left_mass)

    def without_flat_ends(self) -> tuple[Potential, Floats]:
        """Join the cells at both ends that only continue a lead to that lead: no transmission changes.

        :returns: the potential between them, and (2,) what was cut off at the left and at the right, in nm. A potential
            that is all lead stays as it is.
        """
        cut = []
        for values, masses, lead, lead_mass in (
            (self.values, self.masses, self.left, self.left_mass),
            (self.values[::-1], self.masses[::-1], self.right, self.right_mass),
        ):
            other = (values != lead) | (masses != lead_mass)
            cut.append(int(other.argmax()) if other.any() else len(self))
        left, right = cut
        if (not left and not right) or left + right >= len(self):
            return self, np.zeros(2)
        kept = slice(left, len(self) - right)
        cell = self.length / len(self)
        inner = self.changed(values=self.values[kept], mass=self.masses[kept], length=cell * (len(self) - left - right))
        return inner, cell * np.array([left, right])

    def changed(self, **changes: Any) -> Potential:
        """Return a copy with other arguments of the constructor; leads that are not named stay as they are."""
        arguments = {
            'values': self.values,
            'length': self.length,
            'mass': self.masses,
            'left': self.left,
            'right': self.right,
            'left_mass': self.left_mass,
            'right_mass': self.right_mass,
            'name': self.name,
        }
        return Potential(**(arguments | changes))  # type: ignore[arg-type]

    def biased(self, bias: float) -> Potential:
        """Return the potential under a voltage that drops evenly over the region.

        :param bias: how much the right lead is lowered against the left one, in eV.
        """
        bias = checked_number(bias, ENERGIES, 'the bias', 'eV')
        drop = bias * (np.arange(len(self)) + 0.5) / len(self)
        return self.changed(values=self.values - drop, right=self.right - bias)

    def scaled(self, factor: float) -> Potential:
        """Return the potential with all differences to the left lead multiplied by a factor."""
        factor = checked_number(factor, (-1e6, 1e6), 'the factor', '')
        return self.changed(
            values=self.left + factor * (self.values - self.left), right=self.left + factor * (self.right - self.left)
        )

    def with_mass(self, mass: float) -> Potential:
        """Return the potential with one effective mass in the region and in the leads, in m0."""
        return self.changed(mass=mass, left_mass=mass, right_mass=mass)


class PotentialSet:
    """A fixed sequence of potentials, which may differ in everything.

    :param potentials: at least one.
    :raises TransportError: there is none.
    """

    def __init__(self, potentials: Iterable[Potential]) -> None:
        self._potentials = tuple(potentials)
        if not self._potentials:
            raise TransportError('there is no potential')

    def __len__(self) -> int:
        return len(self._potentials)

    def __iter__(self) -> Iterator[Potential]:
        return iter(self._potentials)

    def __getitem__(self, row: int) -> Potential:
        return self._potentials[row]

    @property
    def names(self) -> list[str]:
        """Name of each potential."""
        return [potential.name for potential in self]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything in flat arrays; potential ``r`` owns the cells ``offsets[r]:offsets[r + 1]``."""
        return {
            'names': np.array(self.names, dtype=np.str_),
            'values': np.concatenate([potential.values for potential in self]),
            'masses': np.concatenate([potential.masses for potential in self]),
            'offsets': np.cumsum([0, *map(len, self)]),
            'lengths': np.array([potential.length for potential in self]),
            'leads': np.array([potential.leads for potential in self]),
            'lead_masses': np.array([potential.lead_masses for potential in self]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> PotentialSet:
        """Make the set that :meth:`to_arrays` took apart.

        :raises TransportError: an array is missing, or the arrays do not belong together.
        """
        missing = [name for name in _ARRAYS if name not in arrays]
        if missing:
            raise TransportError(f'the arrays of a set of potentials lack {", ".join(missing)}')
        names, values, masses, offsets, lengths, leads, lead_masses = (np.asarray(arrays[name]) for name in _ARRAYS)
        n = len(names)
        whole = offsets.shape == (n + 1,) and np.issubdtype(offsets.dtype, np.integer)
        if (
            not whole
            or (lengths.shape, leads.shape, lead_masses.shape) != ((n,), (n, 2), (n, 2))
            or masses.shape != values.shape
            or offsets[0] != 0
            or values.shape != (offsets[-1],)
            or (np.diff(offsets) < 1).any()
        ):
            raise TransportError('the arrays of a set of potentials do not belong together')
        return cls(
            Potential(
                values[begin:end], length, masses[begin:end], lead[0], lead[1], lead_mass[0], lead_mass[1], str(name)
            )
            for begin, end, length, lead, lead_mass, name in zip(
                offsets[:-1], offsets[1:], lengths, leads, lead_masses, names, strict=True
            )
        )


def check_names(title: str, given: Iterable[str], known: Sequence[str], required: Iterable[str]) -> None:
    """Refuse parameters that nobody knows, and a request that lacks one.

    :param title: the beginning of the error, before the names that are known.
    :raises TransportError: a name is unknown or missing.
    """
    names = set(given)
    strange, missing = sorted(names - set(known)), [name for name in required if name not in names]
    if strange or missing:
        raise TransportError(
            f'{title} {", ".join(known)}; unknown: {", ".join(strange) or "none"}, missing: '
            f'{", ".join(missing) or "none"}'
        )


def _check_numbers(numbers: ArrayLike, bounds: tuple[float, float], title: str, unit: str) -> Floats:
    """Return numbers (n,), read-only; one number becomes (1,)."""
    try:
        array = np.array(numbers, dtype=np.float64, ndmin=1)
    except (TypeError, ValueError) as error:
        raise TransportError(f'{title} must be numbers: {error}') from error
    if array.ndim != 1 or not len(array):
        raise TransportError(f'{title} must be one row of at least one number; its shape is {array.shape}')
    # Not `<` or `>`: a comparison with NaN is false.
    strange = np.flatnonzero(~((bounds[0] <= array) & (array <= bounds[1])))
    if len(strange):
        place = f' in cell {strange[0]}' if len(array) > 1 else ''
        allowed = f'between {bounds[0]:g} and {bounds[1]:g} {unit}'.rstrip()
        raise TransportError(f'{title} is {array[strange[0]]:g}{place}: it must be {allowed}')
    array.flags.writeable = False
    return array


def checked_number(given: Any, bounds: tuple[float, float], title: str, unit: str) -> float:
    """Return one number that lies between two bounds.

    :param title: what to call it in an error.
    :raises TransportError: it is no number, not one, or out of the bounds.
    """
    array = _check_numbers(given, bounds, title, unit)
    if len(array) != 1:
        raise TransportError(f'{title} must be one number, there are {len(array)}')
    return float(array[0])
