"""Descriptor of flakes by quadruplets: a histogram of every heavy atom with its three nearest neighbours."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features.base import Descriptor
from aiida_nanoml.features.bonds import (
    ELEMENTS,
    HEAVY_BOND,
    HYDROGEN,
    HYDROGEN_BOND,
    Bonds,
    bonds_of,
    connected_parts,
    fractions,
    place,
)
from aiida_nanoml.structures.structure_set import StructureSet

CLASSES: tuple[str, ...] = tuple(
    f'{centre}|{around}'
    for centre, arounds in (
        ('C', 'CCC BCC CCN BBC CNN CCH BCH CHN BBH HNN'),
        ('B', 'NNN CNN CCN HNN CHN CCH'),
        ('N', 'BBB BBC BCC BBH BCH CCH'),
        # The rare ones, outside the set of 22: carbon enclosed by a domain, or a lone B or N in carbon.
        ('C', 'BBB NNN'),
        ('B', 'CCC'),
        ('N', 'CCC'),
    )
    for around in arounds.split()
)
"""The 26 quadruplets of flakes with coherent domains, as ``centre|neighbours``; the first 22 are the usual set."""

BOND_LENGTHS = (1.3, 1.55)
"""Mean length of the bonds between heavy atoms (Å): 1.42 in generated flakes, 1.40 to 1.50 in relaxed ones."""

# A neighbourhood is a number with one digit of base 4 for each of the ELEMENTS.
_DIGIT = 4 ** np.arange(4)
_CODES = np.array(
    [
        256 * ELEMENTS.index(centre) + sum(int(_DIGIT[ELEMENTS.index(element)]) for element in around)
        for centre, _, around in (name.partition('|') for name in CLASSES)
    ]
)


class QuadrupletDescriptor(Descriptor):
    """Histogram of quadruplet classes, and the fractions of the elements.

    Every heavy atom (B, C, N) with its three bonded neighbours is one class; the histogram is normalised by the number
    of heavy atoms. The fractions of H, B, C and N among all atoms follow, in this order. A row has ``classes`` + 4
    numbers, or one more with ``unknown='overflow'``, between the two parts.

    :param classes: 22 or 26: how many of :data:`CLASSES` are counted.
    :param unknown: what to do with a heavy atom outside these: ``'error'`` refuses the structure; ``'overflow'`` counts
        it in an extra bin; ``'drop'`` leaves it out of the histogram (which then sums to less than 1) and warns with
        the number of atoms left out.

    >>> from aiida_nanoml.structures import StructureSet, flake_lattice
    >>> coronene = StructureSet.from_structures([flake_lattice('z', 2)])
    >>> descriptor = QuadrupletDescriptor()
    >>> names, row = descriptor.get_feature_names_out(), descriptor.transform(coronene)[0]
    >>> {name: float(share) for name, share in zip(names, row) if share > 0}
    {'C|CCC': 0.5, 'C|CCH': 0.5, 'fraction_H': 0.333..., 'fraction_C': 0.666...}
    """

    def __init__(self, classes: Literal[22, 26] = 22, unknown: Literal['error', 'overflow', 'drop'] = 'error') -> None:
        self.classes = classes
        self.unknown = unknown

    def transform(self, structures: StructureSet) -> NDArray[np.float64]:
        """Describe structures.

        :param structures: isolated flakes of H, B, C and N; n of them.
        :returns: one row for each structure (n, ``len(get_feature_names_out())``), shares without unit.
        :raises DescriptorError: if a structure is periodic, has other elements, a heavy atom without exactly three
            bonded neighbours, a hydrogen atom without exactly one, falls into parts, has bonds of unusual length
            (:data:`BOND_LENGTHS`), or (``unknown='error'``) has an atom outside the class set.
        """
        self._check_parameters()
        found = _find_classes(structures)
        n, outside = len(structures), found >= self.classes
        if outside.any() and self.unknown == 'error':
            atom = int(np.flatnonzero(outside)[0])
            code = found[atom]
            kind = CLASSES[code] if code < len(CLASSES) else 'in none of the known classes'
            raise DescriptorError(
                f'{place(structures, atom)} is {kind}, outside the {self.classes} quadruplet classes '
                f'({np.count_nonzero(outside)} atoms in all); use 26 classes, or unknown="overflow" or "drop"'
            )
        if outside.any() and self.unknown == 'drop':
            rows = np.unique(structures.rows[outside])
            warnings.warn(
                f'{np.count_nonzero(outside)} heavy atoms of {len(rows)} structures are outside the {self.classes} '
                'quadruplet classes and were left out of the histograms',
                stacklevel=2,
            )
        n_bins = self.classes + 1
        heavy = np.flatnonzero(found >= 0)
        bins = structures.rows[heavy] * n_bins + np.minimum(found[heavy], self.classes)
        histogram = np.bincount(bins, minlength=n * n_bins).reshape(n, n_bins)
        n_heavy = histogram.sum(axis=1, keepdims=True)
        kept = histogram if self.unknown == 'overflow' else histogram[:, : self.classes]
        return np.concatenate([kept / n_heavy, fractions(structures)], axis=1)

    def unknown_counts(self, structures: StructureSet) -> NDArray[np.int64]:
        """Count the heavy atoms outside the class set in each structure (n,).

        :raises DescriptorError: as :meth:`transform`, except for atoms outside the class set.
        """
        self._check_parameters()
        outside = _find_classes(structures) >= self.classes
        return np.bincount(structures.rows[outside], minlength=len(structures))

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the name of each column, for example ``C|BCC`` or ``fraction_N``; ``other`` is the overflow bin."""
        self._check_parameters()
        overflow = ['other'] if self.unknown == 'overflow' else []
        fractions = [f'fraction_{element}' for element in ELEMENTS]
        return np.array([*CLASSES[: self.classes], *overflow, *fractions], dtype=object)


def _check_flakes(structures: StructureSet, bonds: Bonds) -> None:
    """Check what a histogram of neighbours cannot see: that each structure is one flake with bonds of usual length."""
    half = len(bonds.ends) // 2
    left, right = bonds.ends[:half], bonds.others[:half]
    rows, part = structures.rows, connected_parts(len(bonds.species), left, right)
    broken = np.flatnonzero(np.bincount(rows[np.unique(part, return_index=True)[1]]) > 1)
    if len(broken):
        raise DescriptorError(
            f'{_name(structures, broken[0])} falls into parts that no bond connects; quadruplets need one flake'
        )
    heavy = (bonds.species[left] != HYDROGEN) & (bonds.species[right] != HYDROGEN)
    left, right = left[heavy], right[heavy]
    lengths = np.linalg.norm(structures.positions[left] - structures.positions[right], axis=1)
    counts = np.bincount(rows[left], minlength=len(structures))
    means = np.bincount(rows[left], weights=lengths, minlength=len(structures)) / np.maximum(counts, 1)
    strange = np.flatnonzero((counts > 0) & ((means < BOND_LENGTHS[0]) | (means > BOND_LENGTHS[1])))
    if len(strange):
        raise DescriptorError(
            f'the bonds of {_name(structures, strange[0])} are {means[strange[0]]:.3f} Å long on average, outside '
            f'{BOND_LENGTHS[0]} to {BOND_LENGTHS[1]} Å: quadruplets count neighbours, and cannot tell this flake from '
            'one with usual bonds'
        )


def _name(structures: StructureSet, row: np.int64) -> str:
    name = f' ({structures.names[row]})' if structures.names[row] else ''
    return f'structure {row}{name}'


def _find_classes(structures: StructureSet) -> NDArray[np.int64]:
    """Find the class of each atom (A,): an index into CLASSES, its length for none of them, -1 for hydrogen."""
    bonds = bonds_of(structures, 'quadruplets')
    species, ends, others = bonds
    hydrogen = species == HYDROGEN
    n_bonds = np.bincount(ends, minlength=len(species))
    wrong = np.flatnonzero(n_bonds != np.where(hydrogen, 1, 3))
    if len(wrong):
        needed = 'one bonded heavy atom' if hydrogen[wrong[0]] else 'three bonded neighbours'
        raise DescriptorError(
            f'{place(structures, int(wrong[0]))} has {n_bonds[wrong[0]]} bonds, but a quadruplet needs {needed} '
            f'(nearer than {HEAVY_BOND} Å, hydrogen {HYDROGEN_BOND} Å)'
        )
    _check_flakes(structures, bonds)
    around = np.bincount(ends, weights=_DIGIT[species[others]], minlength=len(species)).astype(np.int64)
    index = np.full(4 * 256, len(CLASSES), dtype=np.int64)
    index[_CODES] = np.arange(len(CLASSES))
    return np.where(hydrogen, -1, index[256 * species + around])
