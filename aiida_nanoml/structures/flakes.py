"""C-BN nanoflakes: hydrogen-passivated pieces of the honeycomb lattice with random domains of boron nitride.

All draws are raw 64-bit words of ``PCG64(SeedSequence(...))``, whose streams NumPy guarantees, and all decisions are
made with integers; coordinates are products and sums of constants. The same parameters give the same set, bit for bit,
on any machine, and a longer set begins with the shorter one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aiida_nanoml.errors import StructureError
from aiida_nanoml.parameters import Count, Flag, Natural, check_parameters
from aiida_nanoml.structures.structure_set import Structure, StructureSet

FAMILIES: dict[str, str] = {
    'h': 'hexagonal flake with armchair edges; size n: C(18n²-18n+6) H(12n-6), '
    'so C42H18, C114H30, C222H42 for n = 2, 3, 4',
    's': 'square flake with zigzag and armchair edges; size (w, m), m zigzag rows of w atoms, w odd and m even: '
    'C(wm) H(2m+w-1), so C54H20 for (9, 6) and C132H34 for (11, 12)',
    'z': 'hexagonal flake with zigzag edges; size n: C(6n²) H(6n), so C24H12, C54H18, C96H24 for n = 2, 3, 4',
}
"""The families of flakes, and what their sizes mean."""

DomainShape = Literal['growth', 'rectangle']
"""The shapes of boron nitride domains."""

Integer = Annotated[int, Field(strict=True)]
Size = Integer | tuple[Integer, Integer]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Length = Annotated[float, Field(strict=True, ge=0.5, le=3)]

_LARGEST_FLAKE = 20_000  # heavy atoms; far beyond what an electronic-structure engine can label
_ATTEMPTS = 512  # redraws of one row before the lattice is called exhausted
_REDRAWS_AT_ONCE = 16
_ROWS_AT_ONCE = 128  # keeps the work arrays of a block in the processor's cache

_HALF_SQRT3 = 0.5 * math.sqrt(3.0)
_CARBON, _BORON, _NITROGEN = 6, 5, 7
_UNREACHED = np.int64(2**62)
_DOMAIN_BITS = 16  # the low bits of an arrival time hold the domain


@dataclass(frozen=True)
class FlakeParameters:
    """All parameters of a set of flakes.

    :param family: key of :data:`FAMILIES`.
    :param size: size of the lattice, as :data:`FAMILIES` says: an integer, or a pair for the family ``s``.
    :param count: number of flakes.
    :param seed: seed of all draws, an integer >= 0.
    :param shape: ``growth``: domains grow from random sites at random local speed; ``rectangle``: domains are embedded
        rectangles around random points, of random aspect ratio between 1/2 and 2.
    :param n_domains: smallest and largest number of domains of a flake; each number is equally likely. Domains may
        merge, and a flake with fewer B and N atoms than domains has one domain for each atom.
    :param bn_fraction: smallest and largest share of heavy atoms that are B or N; each number of atoms is equally
        likely.
    :param balanced: keep the number of electrons even, that is, the number of B and N atoms together.
    :param bond_length: distance of heavy atoms in Å.
    :param ch_length: C-H distance in Å.
    :param bh_length: B-H distance in Å.
    :param nh_length: N-H distance in Å.
    :raises StructureError: if a parameter has a wrong type or is out of range.
    """

    family: str
    size: Size
    count: Count
    seed: Natural
    shape: DomainShape = 'growth'
    n_domains: tuple[Count, Count] = (1, 4)
    bn_fraction: tuple[Share, Share] = (0.0, 1.0)
    balanced: Flag = True
    bond_length: Length = 1.42
    ch_length: Length = 1.09
    bh_length: Length = 1.19
    nh_length: Length = 1.01

    def __post_init__(self) -> None:
        n_heavy = _check_size(self.family, self.size)[0]
        for name, value in check_parameters(type(self), vars(self), what='parameter', error=StructureError).items():
            object.__setattr__(self, name, value)
        if not self.n_domains[0] <= self.n_domains[1] <= n_heavy:
            raise StructureError(
                f'n_domains must be two integers, 1 <= smallest <= largest <= {n_heavy} (the heavy atoms), '
                f'not {self.n_domains!r}'
            )
        if self.bn_fraction[0] > self.bn_fraction[1]:
            raise StructureError(
                f'bn_fraction must be two numbers, 0 <= smallest <= largest <= 1, not {self.bn_fraction!r}'
            )
        if not len(_allowed_amounts(n_heavy, self)):
            raise StructureError(
                f'no {"even " if self.balanced else ""}number of B and N atoms is between {self.bn_fraction[0]:g} and '
                f'{self.bn_fraction[1]:g} of {n_heavy} heavy atoms; widen bn_fraction'
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters in types of JSON (pairs become lists)."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, parameters: Mapping[str, Any]) -> FlakeParameters:
        """Make parameters of a mapping such as that of :meth:`to_dict`.

        :raises StructureError: if a key is unknown or missing, or a value cannot be used.
        """
        return cls(**check_parameters(cls, parameters, what='parameter', error=StructureError))


def flake_lattice(family: str, size: Size, bond_length: float = 1.42, ch_length: float = 1.09) -> Structure:
    """Return the pure carbon flake of a lattice, planar at z = 0, centred at the origin, with H at every open bond.

    :param family: key of :data:`FAMILIES`.
    :param size: size of the lattice, as :data:`FAMILIES` says.
    :param bond_length: distance of heavy atoms in Å.
    :param ch_length: C-H distance in Å.
    :raises StructureError: if there is no such lattice, or a length is not positive.
    """
    _check_size(family, size)
    _check_length(bond_length, 'bond_length')
    _check_length(ch_length, 'ch_length')
    lattice = _lattice(family, _size_key(size))
    heavy = lattice.positions(bond_length)
    hydrogen = heavy[lattice.hosts] + lattice.directions * ch_length
    return Structure(
        numbers=np.repeat(np.array([_CARBON, 1], dtype=np.uint8), [len(heavy), len(hydrogen)]),
        positions=np.concatenate([heavy, hydrogen]),
    )


def lattice_formula(family: str, size: Size) -> str:
    """Return the formula of the pure carbon flake of a lattice, for example ``C42H18``.

    :raises StructureError: if there is no such lattice.
    """
    n_carbon, n_hydrogen = _check_size(family, size)
    return f'C{n_carbon}H{n_hydrogen}'


def parse_lattice(text: str) -> tuple[str, Size]:
    """Find the lattice with a formula, for example ``C42H18``, or ``s-C42H18`` for one family only.

    Some formulas belong to flakes of two families; without a family in front, the order of :data:`FAMILIES` decides.

    :returns: family and size.
    :raises StructureError: if no lattice has this formula.
    """
    match = re.fullmatch(r'(?:(\w+)-)?C(\d{1,6})H(\d{1,6})', text.strip())
    if match is None:
        raise StructureError(f'{text!r} is not a lattice; write for example C42H18, or s-C54H20 to fix the family')
    family, n_carbon, n_hydrogen = match[1], int(match[2]), int(match[3])
    if family is not None and family not in FAMILIES:
        raise StructureError(f'there is no family {family!r} of flakes; choose one of {", ".join(FAMILIES)}')
    for candidate in FAMILIES if family is None else [family]:
        size = _size_of(candidate, n_carbon, n_hydrogen)
        if size is not None:
            _check_size(candidate, size)
            return candidate, size
    raise StructureError(
        f'no lattice of {"any family" if family is None else f"the family {family}"} has the formula '
        f'C{n_carbon}H{n_hydrogen}; families: ' + '; '.join(f'{key}: {meaning}' for key, meaning in FAMILIES.items())
    )


def generate_flakes(parameters: FlakeParameters) -> StructureSet:
    """Generate flakes with random domains of boron nitride.

    In a domain B is on one sublattice and N on the other. Each domain has its own random choice of the two, but domains
    that touch (bonded atoms, or atoms bonded to the same carbon) share it: no flake has a B-B or N-N bond, or a carbon
    between B and N. No two flakes of a set are the same up to the point operations of the lattice.

    :returns: ``count`` structures; heavy atoms come first, from the bottom row to the top one and from left to right.
    :raises StructureError: if the lattice has too few distinct flakes.
    """
    lattice = _lattice(parameters.family, _size_key(parameters.size))
    species = _distinct_species(lattice, parameters)
    n_flakes, n_heavy = species.shape
    n_hydrogen = len(lattice.hosts)
    lengths = np.zeros(8)
    lengths[[_CARBON, _BORON, _NITROGEN]] = parameters.ch_length, parameters.bh_length, parameters.nh_length

    positions = np.empty((n_flakes, n_heavy + n_hydrogen, 3))
    heavy = lattice.positions(parameters.bond_length)
    positions[:, :n_heavy] = heavy
    positions[:, n_heavy:] = heavy[lattice.hosts] + lattice.directions * lengths[species[:, lattice.hosts], None]
    numbers = np.ones((n_flakes, n_heavy + n_hydrogen), dtype=np.uint8)
    numbers[:, :n_heavy] = species
    stem = f'{parameters.family}-C{n_heavy}-s{parameters.seed}'
    return StructureSet(
        numbers=numbers.ravel(),
        positions=positions.reshape(-1, 3),
        offsets=np.arange(n_flakes + 1) * (n_heavy + n_hydrogen),
        names=[f'{stem}-{row:04d}' for row in range(n_flakes)],
        families=[parameters.family] * n_flakes,
    )


# The lattice ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Lattice:
    """Topology of a bare flake of n heavy atoms, independent of lengths.

    :param sites: (n, 2) integers; the site is at x = sites[0] √3/4 and y = sites[1] / 4 bond lengths from the centre.
    :param sublattice: (n,) 0 or 1.
    :param neighbours: (n, 3) bonded sites; n fills the places that are left.
    :param pairs: (P, 2) sites that are bonded or bonded to the same site.
    :param hosts: (H,) sites of the hydrogen atoms.
    :param directions: (H, 3) unit vectors from the hosts to the hydrogen atoms.
    :param symmetries: (O, n) permutations of the sites by the point operations of the flake.
    """

    sites: NDArray[np.int64]
    sublattice: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    pairs: NDArray[np.int64]
    hosts: NDArray[np.int64]
    directions: NDArray[np.float64]
    symmetries: NDArray[np.int64]

    def positions(self, bond_length: float) -> NDArray[np.float64]:
        """Return the coordinates of the sites in Å (n, 3)."""
        points = np.zeros((len(self.sites), 3))
        points[:, 0] = self.sites[:, 0] * (0.5 * _HALF_SQRT3 * bond_length)
        points[:, 1] = self.sites[:, 1] * (0.25 * bond_length)
        return points


# Steps along the three bonds of a site of sublattice 0, in units of √3/2 (x) and 1/2 (y) bond lengths; those of
# sublattice 1 are the opposite.
_BONDS = ((0, 2), (-1, -1), (1, -1))


@lru_cache(maxsize=16)
def _lattice(family: str, size: Size) -> _Lattice:
    marked = sorted(
        _square_sites(size) if isinstance(size, tuple) else _hexagon_sites(family, size), key=lambda m: m[1::-1]
    )
    index = {(x, y): number for number, (x, y, _) in enumerate(marked)}
    n_sites = len(marked)
    neighbours = np.full((n_sites, 3), n_sites, dtype=np.int64)
    hosts, directions = [], []
    for number, (x, y, sublattice) in enumerate(marked):
        sign = 1 - 2 * sublattice
        for bond, (step_x, step_y) in enumerate(_BONDS):
            end = index.get((x + sign * step_x, y + sign * step_y))
            if end is None:
                hosts.append(number)
                directions.append((sign * step_x * _HALF_SQRT3, sign * step_y * 0.5, 0.0))
            else:
                neighbours[number, bond] = end
    near = {
        (min(first, second), max(first, second))
        for number, ends in enumerate(neighbours.tolist())
        for first in (number, *ends)
        for second in ends
        if first != second and n_sites not in (first, second)
    }
    grid = np.array([(x, y) for x, y, _ in marked], dtype=np.int64)
    sites = 2 * grid - (grid.min(axis=0) + grid.max(axis=0))
    return _Lattice(
        sites=sites,
        sublattice=np.array([mark for _, _, mark in marked], dtype=np.int64),
        neighbours=neighbours,
        pairs=np.array(sorted(near), dtype=np.int64),
        hosts=np.array(hosts, dtype=np.int64),
        directions=np.array(directions),
        symmetries=_symmetries(sites),
    )


def _hexagon_sites(family: str, size: int) -> set[tuple[int, int, int]]:
    """Return the sites (x, y, sublattice) of the rings whose centres form a hexagon of `size` centres along an edge.

    Zigzag edges: all ring centres of the honeycomb. Armchair edges: the centres of the sextets that share no atom.
    """
    (ax, ay), (bx, by) = ((3, 3), (0, 6)) if family == 'h' else ((2, 0), (1, 3))
    sites = set()
    for a in range(1 - size, size):
        for b in range(max(1 - size, 1 - size - a), min(size, size - a)):
            x, y = a * ax + b * bx, a * ay + b * by
            for step_x, step_y in _BONDS:
                sites.add((x + step_x, y + step_y, 0))
                sites.add((x - step_x, y - step_y, 1))
    return sites


def _square_sites(size: tuple[int, int]) -> set[tuple[int, int, int]]:
    width, n_rows = size
    return {
        (column, 3 * row + 1 - (row + column) % 2, (row + column) % 2)
        for row in range(n_rows)
        for column in range(width)
    }


def _symmetries(sites: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the permutations of the sites by the point operations of the honeycomb that map the flake on itself."""
    index = {site: number for number, site in enumerate(map(tuple, sites.tolist()))}
    found = []
    for mirror in (1, -1):
        # Four times the coordinates: a rotation by 60° halves, and flakes without it leave the grid.
        turned = 4 * sites * np.array([mirror, 1])
        for _ in range(6):
            if not (turned % 4).any():
                images = [index.get(site) for site in map(tuple, (turned // 4).tolist())]
                if None not in images:
                    found.append(images)
            x, y = turned[:, 0], turned[:, 1]
            turned = np.stack([(x - y) // 2, (3 * x + y) // 2], axis=1)
    return np.array(found, dtype=np.int64)


# Sizes and checks -----------------------------------------------------------------------------------------------------


def _formula(family: str, size: Any) -> tuple[int, int]:
    """Return the numbers of C and H atoms of a lattice."""
    if family == 's':
        width, n_rows = size
        return width * n_rows, 2 * n_rows + width - 1
    if family == 'h':
        return 18 * size * (size - 1) + 6, 12 * size - 6
    return 6 * size * size, 6 * size


def _check_size(family: Any, size: Any) -> tuple[int, int]:
    """Check that there is a lattice of this size, and return its numbers of C and H atoms."""
    if not isinstance(family, str) or family not in FAMILIES:
        raise StructureError(f'there is no family {family!r} of flakes; choose one of {", ".join(FAMILIES)}')
    if family == 's':
        if not isinstance(size, tuple | list) or len(size) != 2 or not all(map(_is_integer, size)):
            raise StructureError(f'a flake of the family s needs a size of two integers (w, m), not {size!r}')
        width, n_rows = size
        if width < 3 or width % 2 == 0 or n_rows < 2 or n_rows % 2:
            raise StructureError(f'a flake of the family s needs an odd w >= 3 and an even m >= 2, not {size!r}')
    elif not _is_integer(size) or size < 1:
        raise StructureError(f'a flake of the family {family} needs an integer size of at least 1, not {size!r}')
    formula = _formula(family, size)
    if formula[0] > _LARGEST_FLAKE:
        raise StructureError(
            f'a lattice of {formula[0]} heavy atoms is larger than {_LARGEST_FLAKE}; is the size right?'
        )
    return formula


def _size_key(size: Any) -> Size:
    return size if isinstance(size, int) else (int(size[0]), int(size[1]))


def _size_of(family: str, n_carbon: int, n_hydrogen: int) -> Size | None:
    """Return the size of the lattice of a family with a formula; None if there is none."""
    sizes: list[Size] = [(n_hydrogen + 6) // 12] if family == 'h' else [n_hydrogen // 6]
    if family == 's':
        # w m = C and 2 m + w - 1 = H: with w odd and m even there is at most one solution.
        sizes = [(width, n_carbon // width) for width in range(3, n_hydrogen, 2) if n_carbon // width % 2 == 0]
    return next((size for size in sizes if size != 0 and _formula(family, size) == (n_carbon, n_hydrogen)), None)


def _allowed_amounts(n_heavy: int, parameters: FlakeParameters) -> NDArray[np.int64]:
    """Return the numbers of B and N atoms that the parameters allow."""
    smallest, largest = parameters.bn_fraction
    # A share given as a rounded decimal (0.3 of 10) must count as the exact one.
    amounts = np.arange(math.ceil(smallest * n_heavy - 1e-9), math.floor(largest * n_heavy + 1e-9) + 1)
    return amounts[amounts % 2 == 0] if parameters.balanced else amounts


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_length(value: object, name: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.5 <= value <= 3.0:
        raise StructureError(f'{name} must be a length between 0.5 and 3 Å, not {value!r}')


# Random domains -------------------------------------------------------------------------------------------------------


def _distinct_species(lattice: _Lattice, parameters: FlakeParameters) -> NDArray[np.uint8]:
    """Draw the heavy atoms of all flakes (count, n), each flake different from all before it."""
    rows = range(parameters.count)
    species = np.concatenate(
        [
            _draw_species(lattice, parameters, [(row, 0) for row in rows[start : start + _ROWS_AT_ONCE]])
            for start in range(0, parameters.count, _ROWS_AT_ONCE)
        ]
    )
    seen: set[bytes] = set()
    for row, key in zip(rows, _canonical(lattice, species), strict=True):
        if key not in seen:
            seen.add(key)
            continue
        for attempt in range(1, _ATTEMPTS, _REDRAWS_AT_ONCE):
            draws = [(row, attempt + extra) for extra in range(_REDRAWS_AT_ONCE)]
            redrawn = _draw_species(lattice, parameters, draws)
            fresh = [(number, other) for number, other in enumerate(_canonical(lattice, redrawn)) if other not in seen]
            if fresh:
                species[row] = redrawn[fresh[0][0]]
                seen.add(fresh[0][1])
                break
        else:
            raise StructureError(
                f'only {row} of {parameters.count} distinct flakes were found on the lattice '
                f'{lattice_formula(parameters.family, parameters.size)} with these parameters; '
                'ask for fewer, widen bn_fraction or n_domains, or take a larger lattice'
            )
    return species


def _canonical(lattice: _Lattice, species: NDArray[np.uint8]) -> list[bytes]:
    """Return one key for all arrangements that the symmetry operations map on each other."""
    images = species[:, lattice.symmetries]
    return [min(image.tobytes() for image in flake) for flake in images]


def _draw_species(lattice: _Lattice, parameters: FlakeParameters, draws: list[tuple[int, int]]) -> NDArray[np.uint8]:
    """Draw the atomic numbers of the heavy atoms (len(draws), n), one flake for each (row, attempt)."""
    n_sites, most_domains = len(lattice.sites), parameters.n_domains[1]
    words = np.stack(
        [
            np.random.PCG64(np.random.SeedSequence(parameters.seed, spawn_key=draw)).random_raw(
                2 + 2 * n_sites + most_domains
            )
            for draw in draws
        ]
    )
    amounts = _allowed_amounts(n_sites, parameters)
    amount = amounts[_below(words[:, 0], len(amounts))]
    spread = most_domains - parameters.n_domains[0] + 1
    n_domains = np.minimum(parameters.n_domains[0] + _below(words[:, 1], spread), amount)
    centres = np.argsort(words[:, 2 : 2 + n_sites], axis=1, kind='stable')[:, :most_domains]
    noise, signs = words[:, 2 + n_sites : 2 + 2 * n_sites], words[:, 2 + 2 * n_sites :]

    used = np.arange(most_domains) < n_domains[:, None]
    arrive = _growth_times if parameters.shape == 'growth' else _rectangle_times
    times = arrive(lattice, centres, used, noise)
    first = np.argsort(times, axis=1, kind='stable')
    inside = np.zeros(times.shape, dtype=bool)
    np.put_along_axis(inside, first, np.arange(n_sites) < amount[:, None], axis=1)
    domains = times & ((1 << _DOMAIN_BITS) - 1)

    domains = np.where(inside, domains, 0)
    swapped = np.take_along_axis(
        (signs >> 63).astype(np.int64), _first_touching(lattice, inside, domains, most_domains), axis=1
    )
    boron = lattice.sublattice == np.take_along_axis(swapped, domains, axis=1)
    return np.where(inside, np.where(boron, _BORON, _NITROGEN), _CARBON).astype(np.uint8)


def _below(words: NDArray[np.uint64], bound: int) -> NDArray[np.int64]:
    """Map random words to integers 0 ... bound - 1 with almost equal probability (bias below 2^-32 bound)."""
    return (((words >> 32) * np.uint64(bound)) >> 32).astype(np.int64)


def _growth_times(
    lattice: _Lattice, centres: NDArray[np.int64], used: NDArray[np.bool_], noise: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return the time at which growing domains reach each site (rows, n), with the domain in the low bits.

    First-passage percolation: leaving a site takes a time drawn uniformly for each site, and a site belongs to the
    domain that comes first. What is reached until any given time is compact, and connected for each domain.
    """
    n_rows, n_sites = noise.shape
    leave = np.zeros((n_rows, n_sites + 1), dtype=np.int64)
    leave[:, :-1] = ((noise >> 44).astype(np.int64) + 1) << _DOMAIN_BITS
    times = np.full((n_rows, n_sites + 1), _UNREACHED)
    rows, numbers = np.nonzero(used)
    times[rows, centres[rows, numbers]] = numbers
    while True:
        passed = times + leave
        reached = times.copy()
        for bond in range(3):
            np.minimum(reached[:, :-1], passed[:, lattice.neighbours[:, bond]], out=reached[:, :-1])
        if np.array_equal(reached, times):
            return times[:, :-1]
        times = reached


def _rectangle_times(
    lattice: _Lattice, centres: NDArray[np.int64], used: NDArray[np.bool_], noise: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return the time at which growing rectangles reach each site (rows, n), with the domain in the low bits.

    A line of sites that an edge reaches at once is filled from its lower or left end.
    """
    times = np.full(noise.shape, _UNREACHED)
    for number in range(used.shape[1]):
        words = np.take_along_axis(noise, centres[:, number, None], axis=1)
        parts = [((words >> shift) & 1023).astype(np.int64) for shift in (0, 10, 20, 30)]
        middle = lattice.sites[centres[:, number]] * 256
        # √3/4 and 1/4 are the units of x and y: 433 to 250 makes the mean rectangle a square.
        along_x = np.abs(lattice.sites[:, 0] * 256 - (middle[:, :1] + parts[0] - 512)) * (433 * (1024 + parts[2]))
        along_y = np.abs(lattice.sites[:, 1] * 256 - (middle[:, 1:] + parts[1] - 512)) * (250 * (1024 + parts[3]))
        reached = (np.maximum(along_x, along_y) << _DOMAIN_BITS) + number
        times = np.where(used[:, number, None], np.minimum(times, reached), times)
    return times


def _first_touching(
    lattice: _Lattice, inside: NDArray[np.bool_], domains: NDArray[np.int64], most_domains: int
) -> NDArray[np.int64]:
    """Find for each domain (rows, most_domains) the first of those that it touches, directly or through others."""
    first, second = lattice.pairs.T
    rows, pairs = np.nonzero(inside[:, first] & inside[:, second] & (domains[:, first] != domains[:, second]))
    touching = np.zeros((len(inside), most_domains, most_domains), dtype=bool)
    left, right = domains[rows, first[pairs]], domains[rows, second[pairs]]
    touching[rows, left, right] = touching[rows, right, left] = True
    touching |= np.eye(most_domains, dtype=bool)
    while True:
        further = touching @ touching
        if np.array_equal(further, touching):
            first_touched: NDArray[np.int64] = np.argmax(touching, axis=2)
            return first_touched
        touching = further
