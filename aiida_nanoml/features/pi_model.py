"""Tight-binding model of the pi electrons of flakes: levels of many flakes at once, and their derivatives.

One p_z orbital on every heavy atom; C gives one electron to the pi system, N two, B none. The bare Hamiltonian is
diagonalised once; it is linear in its parameters. The charges that its levels leave on the atoms make a potential, and
what that does to the levels around the gap follows by perturbation theory: there is no self-consistency.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features.bonds import BORON, ELEMENTS, HYDROGEN, NITROGEN, bonds_of, place
from aiida_nanoml.structures.structure_set import StructureSet
from aiida_nanoml.units import COULOMB_EV_ANG

BOND_LENGTH = 1.42
"""Distance in Å at which the hoppings are given, the bond of graphene."""

DECAY = 3.37 / BOND_LENGTH
"""Decay of the hoppings between neighbours in 1/Å (Pereira, Castro Neto and Peres, Phys. Rev. B 80, 045401 (2009))."""

SOFTENING = 1.2
"""Extent of the charges in Å: their potential at the distance r is q e² / sqrt(r² + SOFTENING²)."""

TEMPERATURE_EV = 0.1
"""Width of the occupation around the middle of the gap, so that charges do not jump where levels cross."""

REACH_EV = 4.0
"""Levels this far below HOMO or above LUMO do not feel the field of the charges any more; those half as far do."""

_SHIFTS = (('C', 'B'), ('C', 'N'), ('C', 'H'), ('B', 'C'), ('B', 'H'), ('N', 'C'), ('N', 'H'))
_HOPPINGS = (('B', 'C'), ('B', 'N'), ('C', 'C'), ('C', 'N'))
_SECOND = (('B', 'B'), ('B', 'C'), ('C', 'C'), ('C', 'N'), ('N', 'N'))

PARAMETERS: Mapping[str, float] = MappingProxyType(
    {
        'onsite_B': 2.0,
        'onsite_N': -3.0,
        **{f'shift_{centre}{neighbour}': 0.0 for centre, neighbour in _SHIFTS},
        'hopping_BC': -2.5,
        'hopping_BN': -2.8,
        'hopping_CC': -2.7,
        'hopping_CN': -2.5,
        **{f'second_{first}{second}': 0.0 for first, second in _SECOND},
        'field_site': 1.0,
        'field_far': 0.1,
    }
)
"""Names of the parameters, and textbook values at which a fit starts.

``onsite_B``, ``onsite_N``: orbital energy in eV; that of C is the zero. ``shift_CB``: change in eV of that of a C atom
for each B bonded to it. ``hopping_CN``, ``second_CN``: matrix element in eV between bonded atoms, at 1.42 Å, and
between second neighbours. ``field_site``: change in eV of an orbital energy for each electron on the atom;
``field_far``: share of the bare Coulomb potential of the other atoms that is felt, one over a dielectric constant.
"""

_N_SITE = 2 + len(_SHIFTS)
_N_BARE = len(PARAMETERS) - 2
_LARGEST_BLOCK = 2_000_000  # pairs of sites; bounds a block's arrays to some tens of megabytes
_FAR_EV = 1e3  # where levels that do not exist are put


class Frontier(NamedTuple):
    """The levels around the gap, as many empty as occupied ones (2w), in the field of the charges.

    :param levels: (F, 2w) in eV, ascending; where a flake has fewer, the outermost one again.
    :param orbitals: (F, n, 2w) one in each column; zero where a flake has fewer.
    :param charges: (F, n) charge of each site in e, positive where electrons are missing.
    :param field: (F, n) energy in eV of an electron in the field of the charges.
    :param energy: (F,) sum of the bare levels of all electrons in eV.
    """

    levels: NDArray[np.float64]
    orbitals: NDArray[np.float64]
    charges: NDArray[np.float64]
    field: NDArray[np.float64]
    energy: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PiBlock:
    """Flakes with the same number of heavy atoms (n), and what their Hamiltonian is made of.

    :param rows: (F,) rows of the flakes in their set.
    :param species: (F, n) index into :data:`~aiida_nanoml.features.bonds.ELEMENTS` of each heavy atom.
    :param edge: (F, n) 1 where a hydrogen atom is bonded, else 0.
    :param coulomb: (F, n, n) potential energy in eV of unit charges on two sites; zero on the diagonal.
    :param site_terms: (F, n, S) factor of each of the first S parameters in an orbital energy.
    :param pairs: (P,) index of each coupled pair of sites, once, into (F, n, n).
    :param mirrored: (P,) index of the same pair with its sites exchanged.
    :param kinds: (P,) parameter of each pair, counted from S.
    :param factors: (P,) factor of that parameter.
    """

    rows: NDArray[np.int64]
    species: NDArray[np.int64]
    edge: NDArray[np.int64]
    coulomb: NDArray[np.float64]
    site_terms: NDArray[np.float64]
    pairs: NDArray[np.int64]
    mirrored: NDArray[np.int64]
    kinds: NDArray[np.int64]
    factors: NDArray[np.float64]

    @property
    def core_charges(self) -> NDArray[np.int64]:
        """Number of electrons that each site gives to the pi system (F, n)."""
        return self.species - 1

    @property
    def homo(self) -> NDArray[np.int64]:
        """Index of the highest occupied level of each flake (F,)."""
        levels: NDArray[np.int64] = self.core_charges.sum(axis=1) // 2 - 1
        return levels

    def bare_levels(self, parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Diagonalise the bare Hamiltonian.

        :param parameters: in the order of :data:`PARAMETERS`.
        :returns: levels (F, n) in eV, ascending, and orbitals (F, n, n), one in each column.
        """
        energies, orbitals = np.linalg.eigh(self._bare(parameters))
        return energies, orbitals

    def frontier(self, parameters: NDArray[np.float64], least: int) -> Frontier:
        """Return the levels around the gap by one diagonalisation and first-order perturbation theory among them.

        The field of the charges mixes the bare levels up to :data:`REACH_EV` from HOMO and LUMO; a smooth cutoff there
        keeps the result continuous and independent of the number of levels.

        :param parameters: in the order of :data:`PARAMETERS`.
        :param least: number of occupied, and of empty, levels to give at least.
        """
        energies, orbitals = self.bare_levels(parameters)
        occupations = self._occupations(energies)
        charges, field = self._field(parameters, orbitals, occupations)
        flakes, n = np.arange(len(energies)), energies.shape[1]
        beyond = np.maximum(
            energies[flakes, self.homo, None] - energies, energies - energies[flakes, self.homo + 1, None]
        )
        outer = np.clip(2 * beyond / REACH_EV - 1, 0, 1)
        share = 1 - outer**2 * (3 - 2 * outer)
        inside = share > 0
        occupied = np.arange(n) <= self.homo[:, None]
        width = int(max(least, (inside & occupied).sum(axis=1).max(), (inside & ~occupied).sum(axis=1).max()))

        wanted = self.homo[:, None] + np.arange(1 - width, 1 + width)
        exists = (wanted >= 0) & (wanted < n)
        index = np.clip(wanted, 0, n - 1)
        window = np.take_along_axis(orbitals, index[:, None], axis=2) * exists[:, None]
        mixed = window * np.take_along_axis(share, index, axis=1)[:, None]
        matrix = np.swapaxes(mixed, 1, 2) @ (field[:, :, None] * mixed)
        diagonal = np.arange(2 * width)
        absent = np.where(wanted < 0, wanted - _FAR_EV, wanted + _FAR_EV)
        matrix[:, diagonal, diagonal] += np.where(exists, np.take_along_axis(energies, index, axis=1), absent)
        levels, mixing = np.linalg.eigh(matrix)
        first, last = np.argmax(exists, axis=1), 2 * width - 1 - np.argmax(exists[:, ::-1], axis=1)
        nearest = np.clip(diagonal, first[:, None], last[:, None])
        return Frontier(
            levels=np.take_along_axis(levels, nearest, axis=1),
            orbitals=window @ mixing,
            charges=charges,
            field=field,
            energy=(energies * occupations).sum(axis=1),
        )

    def gaps(self, parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the gaps in the field of the charges (F,) in eV, and their derivatives (F, parameters).

        For the sake of exact derivatives the Hamiltonian is diagonalised again with the field added. The derivative by
        Hellmann-Feynman has a second part: the field follows the bare orbitals, by first-order perturbation theory.
        Where HOMO or LUMO is degenerate, the derivative is that of one of the levels.
        """
        matrix = self._bare(parameters)
        energies, orbitals = np.linalg.eigh(matrix)
        occupations = self._occupations(energies)
        charges, field = self._field(parameters, orbitals, occupations)
        flakes, homo, n = np.arange(len(energies)), self.homo, energies.shape[1]
        diagonal = np.arange(n)
        matrix[:, diagonal, diagonal] += field
        shifted, felt = np.linalg.eigh(matrix)
        below, above = felt[flakes, :, homo], felt[flakes, :, homo + 1]
        moved = above**2 - below**2

        # What one more electron on each site does to the gap, and how the occupied orbitals follow a perturbation.
        effect = parameters[-2] * moved + parameters[-1] * (self.coulomb @ moved[:, :, None])[..., 0]
        effect_matrix = np.swapaxes(orbitals, 1, 2) @ (effect[:, :, None] * orbitals)
        distance = energies[:, :, None] - energies[:, None]
        near = np.abs(distance) < 1e-6
        widths = occupations * (1 - occupations / 2) / TEMPERATURE_EV
        ratio = (occupations[:, :, None] - occupations[:, None]) / np.where(near, 1.0, distance)
        follow = orbitals @ (effect_matrix * np.where(near, -widths[:, :, None], ratio)) @ np.swapaxes(orbitals, 1, 2)
        # The middle of the gap, at which occupations are one half, is the mean of the bare HOMO and LUMO.
        middle = 0.5 * (effect_matrix[:, diagonal, diagonal] * widths).sum(axis=1)[:, None, None]
        for level in (homo, homo + 1):
            orbital = orbitals[flakes, :, level]
            follow += middle * (orbital[:, :, None] * orbital[:, None])
        follow += above[:, :, None] * above[:, None] - below[:, :, None] * below[:, None]

        derivatives = np.empty((len(energies), len(PARAMETERS)))
        derivatives[:, :_N_SITE] = np.einsum('fi,fik->fk', follow[:, diagonal, diagonal], self.site_terms)
        n_pair = _N_BARE - _N_SITE
        derivatives[:, _N_SITE:_N_BARE] = np.bincount(
            self.pairs // (n * n) * n_pair + self.kinds,
            weights=2 * follow.ravel()[self.pairs] * self.factors,
            minlength=len(energies) * n_pair,
        ).reshape(-1, n_pair)
        derivatives[:, -2] = -(charges * moved).sum(axis=1)
        derivatives[:, -1] = -((self.coulomb @ charges[:, :, None])[..., 0] * moved).sum(axis=1)
        return shifted[flakes, homo + 1] - shifted[flakes, homo], derivatives

    def _bare(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        n_flakes, n = self.species.shape
        couplings = parameters[_N_SITE + self.kinds] * self.factors
        flat = np.zeros(n_flakes * n * n)
        flat[self.pairs] = couplings
        flat[self.mirrored] = couplings
        matrix = flat.reshape(n_flakes, n, n)
        matrix[:, np.arange(n), np.arange(n)] = self.site_terms @ parameters[:_N_SITE]
        return matrix

    def _occupations(self, energies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the number of electrons (F, n) in each level: a Fermi function around the middle of the gap."""
        flakes = np.arange(len(energies))
        middle = 0.5 * (energies[flakes, self.homo] + energies[flakes, self.homo + 1])
        occupations: NDArray[np.float64] = 1.0 - np.tanh((energies - middle[:, None]) / (2 * TEMPERATURE_EV))
        return occupations

    def _field(
        self, parameters: NDArray[np.float64], orbitals: NDArray[np.float64], occupations: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the charges of the sites in e, and the energy of an electron in their field in eV, both (F, n)."""
        charges = self.core_charges - (orbitals**2 @ occupations[:, :, None])[..., 0]
        far = (self.coulomb @ charges[:, :, None])[..., 0]
        return charges, -(parameters[-2] * charges + parameters[-1] * far)


def pi_blocks(structures: StructureSet) -> Iterator[PiBlock]:
    """Prepare the Hamiltonians of all flakes of a set, in blocks of flakes of equal size.

    :raises DescriptorError: if a structure is periodic, has other elements than H, B, C and N, a heavy atom without
        three bonded neighbours or a hydrogen atom without one, a B-B or N-N bond, or an odd number of pi electrons.
    """
    species, ends, others = bonds_of(structures, 'tight-binding levels')
    n_bonds = np.bincount(ends, minlength=len(species))
    wrong = np.flatnonzero(n_bonds != np.where(species == HYDROGEN, 1, 3))
    if len(wrong):
        raise DescriptorError(
            f'{place(structures, int(wrong[0]))} has {n_bonds[wrong[0]]} bonds; the tight-binding model is one of pi '
            'electrons, in which a heavy atom has three bonded neighbours and hydrogen one'
        )
    alike = np.flatnonzero((species[ends] == species[others]) & np.isin(species[ends], (BORON, NITROGEN)))
    if len(alike):
        raise DescriptorError(
            f'{place(structures, int(ends[alike[0]]))} is bonded to its own element; the tight-binding model has no '
            'parameters for B-B and N-N bonds'
        )
    heavy = species != HYDROGEN
    # B, C and N give 0, 1 and 2 pi electrons, in the order of their species 1, 2 and 3.
    electrons = np.bincount(structures.rows, weights=np.where(heavy, species - 1, 0), minlength=len(structures))
    n_heavy = np.bincount(structures.rows[heavy], minlength=len(structures))
    odd = np.flatnonzero(electrons % 2)
    if len(odd):
        raise DescriptorError(
            f'structure {odd[0]} has {int(electrons[odd[0]])} pi electrons, an odd number: an open shell has no gap'
        )
    full = np.flatnonzero((electrons == 0) | (electrons == 2 * n_heavy))
    if len(full):
        raise DescriptorError(f'structure {full[0]} has no occupied or no empty pi level, and so no gap')

    around = np.bincount(ends * 4 + species[others], minlength=4 * len(species)).reshape(-1, 4)
    sites = np.flatnonzero(heavy)
    first_site = np.cumsum(n_heavy) - n_heavy
    local = np.zeros(len(species), dtype=np.int64)
    local[sites] = np.arange(len(sites)) - np.repeat(first_site, n_heavy)
    bonded = np.flatnonzero(heavy[ends] & heavy[others])
    ends, others = ends[bonded], others[bonded]
    lengths = np.linalg.norm(structures.positions[ends] - structures.positions[others], axis=1)

    for n in np.unique(n_heavy).tolist():
        found = np.flatnonzero(n_heavy == n)
        step = max(1, _LARGEST_BLOCK // n**2)
        for begin in range(0, len(found), step):
            rows = found[begin : begin + step]
            flake_of = np.full(len(structures), -1)
            flake_of[rows] = np.arange(len(rows))
            inside = np.flatnonzero(flake_of[structures.rows[ends]] >= 0)
            bonds = (flake_of[structures.rows[ends[inside]]], local[ends[inside]], local[others[inside]])
            atoms = sites[first_site[rows][:, None] + np.arange(n)]
            yield _block(rows, species, around, structures.positions, atoms, bonds, lengths[inside])


def _block(
    rows: NDArray[np.int64],
    species: NDArray[np.int64],
    around: NDArray[np.int64],
    positions: NDArray[np.float64],
    sites: NDArray[np.int64],
    bonds: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    lengths: NDArray[np.float64],
) -> PiBlock:
    """Build the block of some flakes.

    :param sites: (F, n) heavy atoms of each flake as indices into the flat arrays.
    :param bonds: flake, site and site of each bond between heavy atoms, from both ends.
    :param lengths: of the bonds, Å.
    """
    n = sites.shape[1]
    kinds_of_site = species[sites]
    points = positions[sites]
    difference = points[:, :, None] - points[:, None]
    squared = np.einsum('fijx,fijx->fij', difference, difference)
    coulomb = COULOMB_EV_ANG / np.sqrt(squared + SOFTENING**2)
    coulomb[:, np.arange(n), np.arange(n)] = 0.0

    terms = np.empty((*sites.shape, _N_SITE))
    terms[..., 0], terms[..., 1] = kinds_of_site == BORON, kinds_of_site == NITROGEN
    for column, (centre, neighbour) in enumerate(_SHIFTS, start=2):
        terms[..., column] = (kinds_of_site == ELEMENTS.index(centre)) * around[sites, ELEMENTS.index(neighbour)]

    adjacent = np.zeros((len(rows), n, n), dtype=np.float32)
    adjacent[bonds] = 1.0
    second = np.triu((adjacent @ adjacent) * (1 - adjacent), k=1).nonzero()
    upper = np.flatnonzero(bonds[1] < bonds[2])
    bonds = bonds[0][upper], bonds[1][upper], bonds[2][upper]
    first_kinds = _pair_kinds(_HOPPINGS)[kinds_of_site[bonds[0], bonds[1]], kinds_of_site[bonds[0], bonds[2]]]
    second_kinds = _pair_kinds(_SECOND)[kinds_of_site[second[0], second[1]], kinds_of_site[second[0], second[2]]]
    # B and N as second neighbours, on one sublattice, do not occur in coherent domains: they are left uncoupled.
    known = np.flatnonzero(second_kinds >= 0)
    flake, left, right = (np.concatenate([near, far[known]]) for near, far in zip(bonds, second, strict=True))
    return PiBlock(
        rows=rows,
        species=kinds_of_site,
        edge=around[sites, 0],
        coulomb=coulomb,
        site_terms=terms,
        pairs=(flake * n + left) * n + right,
        mirrored=(flake * n + right) * n + left,
        kinds=np.concatenate([first_kinds, len(_HOPPINGS) + second_kinds[known]]),
        factors=np.concatenate([np.exp(-DECAY * (lengths[upper] - BOND_LENGTH)), np.ones(len(known))]),
    )


def _pair_kinds(pairs: tuple[tuple[str, str], ...]) -> NDArray[np.int64]:
    """Return the index of each pair of elements (4, 4) in ``pairs``, -1 for the others."""
    kinds = np.full((4, 4), -1, dtype=np.int64)
    for kind, (first, second) in enumerate(pairs):
        one, other = ELEMENTS.index(first), ELEMENTS.index(second)
        kinds[one, other] = kinds[other, one] = kind
    return kinds
