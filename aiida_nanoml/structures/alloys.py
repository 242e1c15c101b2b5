"""Cells of high-entropy alloys: compositions drawn evenly, atoms at random or in special quasi-random order.

All draws are raw 64-bit words of ``PCG64(SeedSequence(...))``, whose streams NumPy guarantees, and all decisions are
made with integers. The same parameters give the same set, bit for bit, on any machine, and a longer set begins with the
shorter one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aiida_nanoml.errors import StructureError
from aiida_nanoml.parameters import Count, Flag, Natural, check_parameters
from aiida_nanoml.structures.cubic import (
    LATTICE_CONSTANTS,
    PHASES,
    alloy_name,
    count_pairs,
    geometries,
)
from aiida_nanoml.structures.structure_set import StructureSet, atomic_numbers

ELEMENTS = ('Co', 'Cr', 'Fe', 'Ni', 'Al')
"""The elements of the alloys that this package is made for; any others can be given."""

Order = Literal['random', 'sqs']
"""How atoms are put on the sites: at random, or as a special quasi-random structure."""

N_ATOMS = (8, 108)
"""Smallest and largest number of atoms in a cell."""

Composition = tuple[int, ...]
Texts = Annotated[tuple[str, ...], Field(min_length=1)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Length = Annotated[float, Field(strict=True, ge=LATTICE_CONSTANTS[0], le=LATTICE_CONSTANTS[1])]

_ROUNDING = 5e-4  # fractions may be written with three digits; those of two compositions of 108 atoms differ by 9e-3
_ATTEMPTS = 64  # redraws before a composition is called exhausted
_CHAINS = 32  # random arrangements from which a quasi-random one is sought
_SHELL_WEIGHTS = (2, 1)  # the first shell counts twice as much as the second

# Sites of the conventional cubic cell in halves of the lattice constant.
_BASES = {'fcc': ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)), 'bcc': ((0, 0, 0), (1, 1, 1))}


@dataclass(frozen=True)
class AlloyParameters:
    """All parameters of a set of alloy cells.

    :param count: number of alloys; each has a cell in every phase.
    :param seed: seed of all draws, an integer >= 0.
    :param elements: chemical symbols; their order is that of the draws.
    :param n_atoms: atoms of a cell, from 8 to 108; a multiple of the atoms in the conventional cell of each phase.
    :param phases: keys of :data:`~aiida_nanoml.structures.cubic.PHASES`.
    :param composition: fraction of each element, for all alloys; they must sum to 1, three digits are enough. None:
        compositions are drawn from all that the cell can have, each equally likely, and without repetition as long as
        there are enough.
    :param min_elements: smallest number of different elements in a drawn composition.
    :param round_composition: take the composition of the cell nearest to ``composition`` (by largest remainders);
        otherwise fractions that do not fit the cell are refused.
    :param order: ``random``: all arrangements of the atoms are equally likely; ``sqs``: the best special quasi-random
        structure that was found, by its pairs in two shells.
    :param sqs_iterations: exchanges of two atoms that are tried from each of 32 random arrangements.
    :param lattice_constants: of the conventional cell of each phase, in Å. None: the volume per atom is the mean of the
        volumes of the elements in their own crystals (Zen's law), see :func:`mean_lattice_constant`.
    :raises StructureError: if a parameter has a wrong type or is out of range.
    """

    count: Count
    seed: Natural
    elements: Texts = ELEMENTS
    n_atoms: Count = 8
    phases: Texts = tuple(PHASES)
    composition: Annotated[Mapping[str, Share], Field(min_length=1)] | None = None
    min_elements: Count = 2
    round_composition: Flag = False
    order: Order = 'random'
    sqs_iterations: Count = 200
    lattice_constants: Mapping[str, Length] | None = None

    def __post_init__(self) -> None:
        for name, value in check_parameters(type(self), vars(self), what='parameter', error=StructureError).items():
            object.__setattr__(self, name, value)
        _check_elements(self.elements)
        _check_phases(self.phases)
        _check_n_atoms(self.n_atoms, self.phases)
        if self.composition is None and self.min_elements > len(self.elements):
            raise StructureError(
                f'min_elements is {self.min_elements}, but there are only {len(self.elements)} elements'
            )
        if self.composition is not None:
            _check_fractions(self.composition, self.elements)
            fractions = {element: self.composition[element] for element in self.elements if element in self.composition}
            object.__setattr__(self, 'composition', fractions)
            _fit_composition(fractions, self)
        if self.lattice_constants is None:
            _elemental_volumes(self.elements)
        elif set(self.lattice_constants) != set(self.phases):
            raise StructureError(
                f'lattice_constants must have one length in Å for each of the phases {", ".join(self.phases)}, '
                f'not {dict(self.lattice_constants)!r}'
            )
        else:
            in_order = {phase: self.lattice_constants[phase] for phase in self.phases}
            object.__setattr__(self, 'lattice_constants', in_order)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters in types of JSON (tuples become lists)."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, parameters: Mapping[str, Any]) -> AlloyParameters:
        """Make parameters of a mapping such as that of :meth:`to_dict`.

        :raises StructureError: if a key is unknown or missing, or a value cannot be used.
        """
        return cls(**check_parameters(cls, parameters, what='parameter', error=StructureError))


def generate_alloys(parameters: AlloyParameters) -> StructureSet:
    """Generate one cell of each alloy in each phase.

    A cell is the most compact conventional supercell of its number of atoms, its longest edge along x: 8 atoms of fcc
    are 2x1x1, 8 of bcc 2x2x1, 32 of fcc 2x2x2. No two cells of a set are the same up to the symmetry operations of the
    cell. A composition that comes again gets other arrangements of its atoms, with ``order='sqs'`` the next best ones.

    :returns: ``count`` alloys in as many rows as there are phases, alloy by alloy; ``names`` tell the alloy,
        ``families`` the phase.
    :raises StructureError: if there are too few distinct cells with these parameters.
    """
    if parameters.composition is not None:
        return _cells(itertools.repeat([_fit_composition(parameters.composition, parameters)]), parameters)
    return _cells((_draw_compositions(parameters, turn) for turn in itertools.count()), parameters)


def composition_section(
    elements: Sequence[str],
    x: str,
    y: str,
    steps: int,
    n_atoms: int,
    seed: int,
    phases: Sequence[str] = tuple(PHASES),
    order: Order = 'random',
    sqs_iterations: int = 200,
    lattice_constants: Mapping[str, float] | None = None,
) -> StructureSet:
    """Generate cells over a section of composition space, for a map of phases.

    The fractions of two elements take the values 0, 1/steps ... 1, as far as their sum is not above 1; the other
    elements share the rest equally. The nearest composition of the cell is taken, and each only once.

    :param elements: chemical symbols.
    :param x: the element whose fraction runs in the outer loop.
    :param y: the element whose fraction runs in the inner loop.
    :param steps: number of steps from 0 to 1, at least 1.
    :param n_atoms: as the other parameters, see :class:`AlloyParameters`.
    :returns: one cell for each composition and phase, see :func:`generate_alloys`.
    :raises StructureError: if a parameter cannot be used.
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise StructureError(f'steps must be an integer of at least 1, not {steps!r}')
    checked = AlloyParameters(
        count=1, seed=seed, elements=tuple(elements), n_atoms=n_atoms, phases=tuple(phases), min_elements=1,
        order=order, sqs_iterations=sqs_iterations, lattice_constants=lattice_constants,
    )  # fmt: skip
    if x == y or not {x, y} <= set(checked.elements):
        raise StructureError(
            f'a section runs over two of the elements {", ".join(checked.elements)}, not {x!r} and {y!r}'
        )
    others = [element for element in checked.elements if element not in (x, y)]
    compositions: dict[Composition, None] = {}
    for along_x in range(steps + 1):
        for along_y in range(steps + 1 - along_x):
            rest = steps - along_x - along_y
            if rest and not others:
                continue
            shares = {x: along_x / steps, y: along_y / steps}
            shares |= {element: rest / steps / len(others) for element in others}
            compositions[_nearest([shares[element] for element in checked.elements], n_atoms)] = None
    return _cells([list(compositions)], replace(checked, count=len(compositions)))


def isolated_atoms(elements: Iterable[str]) -> StructureSet:
    """Make one isolated atom of each element, for cohesive energies.

    :param elements: chemical symbols, in any order.
    :returns: one row for each different element, sorted by symbol, which is its name; at the origin, not periodic.
    :raises StructureError: if a symbol is not that of an element, or there is none.
    """
    symbols = sorted(set(elements))
    if not symbols:
        raise StructureError('there are no elements to make atoms of: name at least one')
    return StructureSet(
        numbers=atomic_numbers(symbols),
        positions=np.zeros((len(symbols), 3)),
        offsets=np.arange(len(symbols) + 1),
        names=symbols,
    )


def mean_lattice_constant(amounts: Mapping[str, float], phase: str) -> float:
    """Estimate the lattice constant of an alloy: its volume is the sum of those of the elements in their own crystals.

    E.-j. Zen, American Mineralogist 41, 523 (1956); volumes from the reference states of ASE.

    :param amounts: amount of each element, in any unit.
    :param phase: key of :data:`~aiida_nanoml.structures.cubic.PHASES`.
    :returns: lattice constant of the conventional cubic cell, in Å, rounded to 0.0001 Å.
    :raises StructureError: if the volume of an element is not known.
    """
    volumes = _elemental_volumes(amounts)
    mean = sum(amounts[element] * volume for element, volume in volumes.items()) / sum(amounts.values())
    # Rounded: the last bits of a cube root depend on the machine.
    return round(float(np.cbrt(PHASES[phase] * mean)), 4)


# Checks ---------------------------------------------------------------------------------------------------------------


def _check_elements(symbols: Sequence[str]) -> None:
    atomic_numbers(symbols)
    if len(set(symbols)) < len(symbols):
        raise StructureError(f'an element is repeated in elements: {", ".join(symbols)}')


def _check_phases(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in PHASES]
    if unknown:
        raise StructureError(f'there is no phase {unknown[0]!r}; choose from {", ".join(PHASES)}')
    if len(set(names)) < len(names):
        raise StructureError(f'a phase is repeated in phases: {", ".join(names)}')


def _sizes(phases: Sequence[str]) -> range:
    """Return the numbers of atoms of which all phases have conventional supercells."""
    step = math.lcm(*(PHASES[phase] for phase in phases))
    return range(-(-N_ATOMS[0] // step) * step, N_ATOMS[1] + 1, step)


def _check_n_atoms(n_atoms: int, phases: Sequence[str]) -> None:
    sizes = _sizes(phases)
    if n_atoms in sizes:
        return
    nearest = sorted(sizes, key=lambda size: (abs(size - n_atoms), size))[:2]
    raise StructureError(
        f'n_atoms must be an integer from {sizes[0]} to {sizes[-1]} and a multiple of {sizes.step}, so that '
        f'{" and ".join(phases)} have conventional supercells of it, not {n_atoms!r}; '
        f'the nearest: {", ".join(map(str, sorted(nearest)))}'
    )


def _check_fractions(fractions: Mapping[str, float], elements: Sequence[str]) -> None:
    strange = [str(element) for element in fractions if element not in elements]
    if strange:
        raise StructureError(f'composition has {", ".join(strange)}, not among the elements {", ".join(elements)}')
    total = sum(fractions.values())
    if abs(total - 1) > _ROUNDING * len(fractions) + 1e-9:
        raise StructureError(
            f'the fractions of composition sum to {total:g}, not to 1: {_format_fractions(fractions)}; '
            'amounts are no fractions'
        )


def _fit_composition(fractions: Mapping[str, float], parameters: AlloyParameters) -> Composition:
    """Return the number of atoms of each element, in the order of the elements."""
    shares = [fractions.get(element, 0.0) for element in parameters.elements]
    composition = _nearest(shares, parameters.n_atoms)
    if parameters.round_composition or _fits(shares, parameters.n_atoms):
        return composition
    possible = {
        element: amount / parameters.n_atoms
        for element, amount in zip(parameters.elements, composition, strict=True)
        if amount
    }
    sizes = [size for size in _sizes(parameters.phases) if _fits(shares, size)]
    raise StructureError(
        f'the composition {_format_fractions(fractions)} does not fit a cell of {parameters.n_atoms} atoms; '
        f'the nearest that does is {_format_fractions(possible)} (taken with round_composition); '
        + (f'it fits cells of {", ".join(map(str, sizes))} atoms' if sizes else 'it fits no cell')
    )


def _fits(shares: Sequence[float], n_atoms: int) -> bool:
    return all(
        abs(share - amount / n_atoms) <= _ROUNDING + 1e-9
        for share, amount in zip(shares, _nearest(shares, n_atoms), strict=True)
    )


def _nearest(shares: Sequence[float], n_atoms: int) -> Composition:
    """Divide the atoms by largest remainders; the first of equal ones comes first."""
    exact = [share * n_atoms / sum(shares) for share in shares]
    # A whole number that floating point made a little smaller must count as whole.
    amounts = [math.floor(amount + 1e-9) for amount in exact]
    remainders = [round(amount - floor, 9) for amount, floor in zip(exact, amounts, strict=True)]
    for index in sorted(range(len(shares)), key=lambda index: (-remainders[index], index))[: n_atoms - sum(amounts)]:
        amounts[index] += 1
    return tuple(amounts)


def _format_fractions(fractions: Mapping[str, float]) -> str:
    return ' '.join(f'{element}={round(fraction, 4):g}' for element, fraction in fractions.items())


def _elemental_volumes(elements: Iterable[str]) -> dict[str, float]:
    """Return the volume per atom of each element in its own crystal, Å³."""
    from ase.data import reference_states

    volumes = {}
    for element, number in zip(elements, atomic_numbers(elements).tolist(), strict=True):
        state = reference_states[number] or {}
        shape, a = state.get('symmetry'), state.get('a')
        per_atom = {'fcc': 1 / 4, 'bcc': 1 / 2, 'sc': 1.0, 'diamond': 1 / 8}
        if a is not None and shape in per_atom:
            volumes[element] = per_atom[shape] * a * a * a
        elif a is not None and shape == 'hcp':
            volumes[element] = math.sqrt(3) / 4 * a * a * a * state['c/a']
        else:
            raise StructureError(
                f'the volume of {element} in its own crystal is not known here; give lattice_constants of the phases'
            )
    return volumes


# Compositions ---------------------------------------------------------------------------------------------------------


def _draw_compositions(parameters: AlloyParameters, turn: int) -> Iterator[Composition]:
    """Draw all compositions, each once, in a random order that differs from turn to turn."""
    n_atoms, n_elements, least = parameters.n_atoms, len(parameters.elements), parameters.min_elements
    total = sum(_compositions_of(n_atoms, n_elements, kinds) for kinds in range(least, n_elements + 1))
    stream = np.random.PCG64(np.random.SeedSequence(parameters.seed, spawn_key=(0, turn)))
    seen: set[int] = set()
    while len(seen) < total:
        high, low = stream.random_raw(2).tolist()
        rank = (((high << 64) | low) * total) >> 128
        if rank not in seen:
            seen.add(rank)
            yield _composition(rank, n_atoms, n_elements, least)


def _compositions_of(n_atoms: int, n_elements: int, kinds: int) -> int:
    """Return the number of compositions with a number of different elements."""
    return math.comb(n_elements, kinds) * math.comb(n_atoms - 1, kinds - 1)


def _composition(rank: int, n_atoms: int, n_elements: int, least: int) -> Composition:
    """Return the composition with a rank among all that have at least a number of different elements."""
    kinds = least
    while rank >= _compositions_of(n_atoms, n_elements, kinds):
        rank -= _compositions_of(n_atoms, n_elements, kinds)
        kinds += 1
    which, where = divmod(rank, math.comb(n_atoms - 1, kinds - 1))
    # The atoms in a row, parted by bars between two of them: the parts are the amounts.
    bars = [0, *(bar + 1 for bar in _combination(where, n_atoms - 1, kinds - 1)), n_atoms]
    amounts = [0] * n_elements
    for element, (start, end) in zip(_combination(which, n_elements, kinds), itertools.pairwise(bars), strict=True):
        amounts[element] = end - start
    return tuple(amounts)


def _combination(rank: int, n: int, k: int) -> list[int]:
    """Return the combination of k of the numbers 0 ... n - 1 with a rank in the combinatorial number system."""
    chosen = []
    for size in range(k, 0, -1):
        n = next(number for number in range(n - 1, -1, -1) if math.comb(number, size) <= rank)
        rank -= math.comb(n, size)
        chosen.append(n)
    return chosen[::-1]


# Cells ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Lattice:
    """The sites of a conventional supercell.

    :param repeats: (3,) conventional cells along each edge, the longest first.
    :param sites: (A, 3) in halves of the lattice constant.
    :param symmetries: (O, A) permutations of the sites by the operations that map the periodic cell on itself.
    :param neighbours: (3, P) see :class:`~aiida_nanoml.structures.cubic.Geometry`.
    """

    repeats: NDArray[np.int64]
    sites: NDArray[np.int64]
    symmetries: NDArray[np.int64]
    neighbours: NDArray[np.int64]


@lru_cache(maxsize=8)
def _lattice(phase: str, n_atoms: int) -> _Lattice:
    n_cells = n_atoms // PHASES[phase]
    repeats = np.array(
        min(
            ((a, b, n_cells // (a * b)) for a in range(1, n_cells + 1) for b in range(1, a + 1)
             if n_cells % (a * b) == 0 and n_cells // (a * b) <= b),
            key=lambda edges: sum(edge * edge for edge in edges),
        )
    )  # fmt: skip
    cells = np.array(list(itertools.product(*map(range, repeats.tolist()))))
    sites = (2 * cells[:, None] + np.array(_BASES[phase])).reshape(-1, 3)
    crystal = StructureSet(
        numbers=np.ones(n_atoms, dtype=np.uint8),
        positions=2.0 * sites,
        offsets=[0, n_atoms],
        cells=4.0 * np.diag(repeats)[None],
        pbc=np.ones((1, 3), dtype=bool),
    )
    shape = geometries(crystal)[0]
    shells, first, second = shape.neighbours
    neighbours = np.stack([shells, shape.atoms[0, first], shape.atoms[0, second]])
    return _Lattice(repeats, sites, _symmetries(repeats, sites), neighbours)


def _symmetries(repeats: NDArray[np.int64], sites: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the permutations of the sites by all translations and the cubic point operations that keep the cell."""
    edges = 2 * repeats
    index = np.full(edges, -1, dtype=np.int64)
    index[tuple(sites.T)] = np.arange(len(sites))
    found = []
    for axes in itertools.permutations(range(3)):
        if not np.array_equal(repeats[list(axes)], repeats):
            continue
        for signs in itertools.product((1, -1), repeat=3):
            # Every site of these lattices is at a lattice point, so the sites are the translations.
            images = (sites[:, None] + sites[:, list(axes)] * np.array(signs)) % edges
            found.append(index[tuple(np.moveaxis(images, -1, 0))])
    return np.concatenate(found)


def _cells(turns: Iterable[Iterable[Composition]], parameters: AlloyParameters) -> StructureSet:
    """Arrange the atoms of compositions until there are as many alloys as wanted, each cell different from all before.

    :param turns: compositions, to be taken in this order; a turn in which no new cell is found is the last one.
    """
    species, compositions = _arrange_atoms(turns, parameters)
    if len(compositions) < parameters.count:
        raise StructureError(
            f'only {len(compositions)} of {parameters.count} distinct alloys were found in cells of '
            f'{parameters.n_atoms} atoms with these parameters; ask for fewer, for larger cells, or for more elements'
        )
    elements, phases, n_atoms = parameters.elements, parameters.phases, parameters.n_atoms
    lattices = [_lattice(phase, n_atoms) for phase in phases]
    constants = np.empty((parameters.count, len(phases)))
    for column, phase in enumerate(phases):
        for row, amounts in enumerate(compositions):
            constants[row, column] = (
                mean_lattice_constant({key: n for key, n in zip(elements, amounts, strict=True) if n}, phase)
                if parameters.lattice_constants is None
                else parameters.lattice_constants[phase]
            )
    sites = np.stack([lattice.sites for lattice in lattices])
    edges = np.stack([np.diag(lattice.repeats) for lattice in lattices])
    n_rows = parameters.count * len(phases)
    return StructureSet(
        numbers=atomic_numbers(elements)[species].ravel(),
        positions=((0.5 * constants)[:, :, None, None] * sites).reshape(-1, 3),
        offsets=np.arange(n_rows + 1) * n_atoms,
        cells=(constants[:, :, None, None] * edges).reshape(-1, 3, 3),
        pbc=np.ones((n_rows, 3), dtype=bool),
        names=np.repeat([alloy_name(number) for number in range(parameters.count)], len(phases)),
        families=np.tile(phases, parameters.count),
    )


def _arrange_atoms(
    turns: Iterable[Iterable[Composition]], parameters: AlloyParameters
) -> tuple[NDArray[np.int64], list[Composition]]:
    """Return the element on each site (alloys, phases, A), and the composition of each alloy."""
    alloys: list[list[NDArray[np.int64]]] = []
    compositions: list[Composition] = []
    seen: set[tuple[str, bytes]] = set()
    exhausted: set[Composition] = set()
    for turn in turns:
        before = len(alloys)
        for composition in turn:
            if composition in exhausted:
                continue
            cells = [_new_cell(composition, phase, len(alloys), seen, parameters) for phase in parameters.phases]
            found = [cell for cell in cells if cell is not None]
            if len(found) < len(cells):
                exhausted.add(composition)
                continue
            seen.update((phase, key) for phase, (_, key) in zip(parameters.phases, found, strict=True))
            alloys.append([species for species, _ in found])
            compositions.append(composition)
            if len(alloys) == parameters.count:
                return np.array(alloys), compositions
        if len(alloys) == before:
            break
    return np.array(alloys), compositions


def _new_cell(
    composition: Composition, phase: str, alloy: int, seen: set[tuple[str, bytes]], parameters: AlloyParameters
) -> tuple[NDArray[np.int64], bytes] | None:
    """Return the element on each site (A,) of a cell that was not yet seen, and its key; None if none was found."""
    lattice = _lattice(phase, parameters.n_atoms)
    key = (1, alloy, list(PHASES).index(phase))
    stream = np.random.PCG64(np.random.SeedSequence(parameters.seed, spawn_key=key))
    if parameters.order == 'sqs':
        candidates = _quasi_random(composition, lattice, stream, parameters.sqs_iterations)
    else:
        candidates = _random(composition, stream, _ATTEMPTS)
    for species in candidates:
        name = _canonical(species, lattice.symmetries)
        if (phase, name) not in seen:
            return species, name
    return None


def _random(composition: Composition, stream: np.random.PCG64, count: int) -> NDArray[np.int64]:
    """Return arrangements of the atoms (count, A), all equally likely."""
    ordered = np.repeat(np.arange(len(composition)), composition)
    words = stream.random_raw(count * len(ordered)).reshape(count, len(ordered))
    return ordered[np.argsort(words, axis=1, kind='stable')]


def _quasi_random(
    composition: Composition, lattice: _Lattice, stream: np.random.PCG64, iterations: int
) -> NDArray[np.int64]:
    """Return arrangements of the atoms (K, A), the nearest to a random alloy first.

    From some random arrangements, two atoms at a time are exchanged, and put back if the arrangement becomes worse.
    Libraries for this look at the nearest image of a pair only: wrong in cells of 8 atoms, where an atom meets several
    images of another one, and its own.
    """
    chains = _random(composition, stream, _CHAINS)
    costs = _disorder(chains, composition, lattice)
    compared, all_costs = [chains], [costs]
    rows = np.arange(_CHAINS)
    for _ in range(iterations):
        words = stream.random_raw(2 * _CHAINS).reshape(2, _CHAINS)
        first, second = (((words >> 32) * np.uint64(chains.shape[1])) >> 32).astype(np.int64)
        trials = chains.copy()
        trials[rows, first], trials[rows, second] = chains[rows, second], chains[rows, first]
        trial_costs = _disorder(trials, composition, lattice)
        compared.append(trials)
        all_costs.append(trial_costs)
        kept = trial_costs <= costs
        chains, costs = np.where(kept[:, None], trials, chains), np.where(kept, trial_costs, costs)
    arrangements: NDArray[np.int64] = np.concatenate(compared)
    return arrangements[np.argsort(np.concatenate(all_costs), kind='stable')]


def _disorder(candidates: NDArray[np.int64], composition: Composition, lattice: _Lattice) -> NDArray[np.int64]:
    """Measure how far the pairs of arrangements (K, A) are from a random alloy (K,): an integer, 0 for equal.

    The sum over two shells and all pairs of elements of the squared difference between the share of this pair and the
    product of the two fractions, as of A. Zunger et al., Phys. Rev. Lett. 65, 353 (1990): an exact integer, since sums
    of fractions depend on the machine. Pairs count with all their periodic images.
    """
    amounts = np.array(composition)
    counts = count_pairs(candidates, lattice.neighbours, len(amounts))
    n_atoms = len(lattice.sites)
    n_around = np.bincount(lattice.neighbours[0]) // n_atoms
    excess = counts * n_atoms - n_around[:, None, None] * np.outer(amounts, amounts)
    excess *= (math.lcm(*n_around.tolist()) // n_around)[:, None, None]
    total: NDArray[np.int64] = ((excess**2).sum(axis=(2, 3)) * np.array(_SHELL_WEIGHTS)).sum(axis=1)
    return total


def _canonical(species: NDArray[np.int64], symmetries: NDArray[np.int64]) -> bytes:
    """Return one key for all arrangements that the symmetry operations map on each other."""
    for site in range(len(species)):
        images = species[symmetries[:, site]]
        symmetries = symmetries[images == images.min()]
        if len(symmetries) == 1:
            break
    first: NDArray[np.int64] = species[symmetries[0]]
    return first.astype(np.uint8).tobytes()
