"""Descriptor of alloys: composition, pairs of neighbours in two shells, volume and phase of a crystal cell."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aiida_nanoml.errors import DescriptorError, StructureError
from aiida_nanoml.features.base import Descriptor
from aiida_nanoml.parameters import Positive
from aiida_nanoml.structures.alloys import ELEMENTS
from aiida_nanoml.structures.cubic import PHASES, amounts_of, pair_counts, volumes_per_atom
from aiida_nanoml.structures.structure_set import StructureSet, atomic_numbers


class AlloyDescriptor(Descriptor):
    """Descriptor of alloys: fractions of elements, pairs of neighbours in two shells, volume per atom, phase.

    The pairs are unordered and normalised by shell: those of one shell sum to 1. With E elements, a row has E
    fractions, E (E + 1) / 2 pairs for each shell, the volume and the phase (1 for bcc, 0 for fcc): 37 numbers for five
    elements.

    With ``volume_order`` k > 0, each fraction and each pair follows again for each phase (0 for cells of the other
    one), times the powers 0 to k of ``v / reference_volume_ang3 - 1``, where v is the volume per atom. An energy that
    is linear in these columns is a cluster expansion up to pairs, with interactions of each phase that depend on the
    volume: J. M. Sanchez, F. Ducastelle and D. Gratias, Physica A 128, 334 (1984).

    :param elements: chemical symbols of all elements that may occur, in the order of the columns.
    :param volume_order: highest power of the volume, 0 for the plain columns only.
    :param reference_volume_ang3: Å³ per atom from which the volume is counted in these powers.

    >>> from aiida_nanoml.structures import AlloyParameters, generate_alloys
    >>> cells = generate_alloys(AlloyParameters(count=1, seed=0, elements=('Co', 'Al')))
    >>> descriptor = AlloyDescriptor(['Co', 'Al'])
    >>> descriptor.get_feature_names_out()[:5].tolist()
    ['fraction_Co', 'fraction_Al', 'pairs1_CoCo', 'pairs1_CoAl', 'pairs1_AlAl']
    >>> descriptor.transform(cells).shape  # a row for each of the two phases
    (2, 10)
    """

    def __init__(
        self,
        elements: Annotated[Sequence[str], Field(min_length=1)] = ELEMENTS,
        volume_order: Annotated[int, Field(strict=True, ge=0, le=6)] = 0,
        reference_volume_ang3: Positive = 11.5,
    ) -> None:
        self.elements = elements
        self.volume_order = volume_order
        self.reference_volume_ang3 = reference_volume_ang3

    def transform(self, structures: StructureSet) -> NDArray[np.float64]:
        """Describe structures.

        :param structures: n periodic cells of fcc or bcc.
        :returns: one row for each structure (n, ``len(get_feature_names_out())``): shares without unit, Å³ per atom.
        :raises DescriptorError: naming the first structure that has neither phase, or has another element.
        """
        self._check_parameters()
        if not isinstance(structures, StructureSet):
            raise DescriptorError(f'alloys are described from a StructureSet, not {type(structures).__name__}')
        try:
            amounts, counts = amounts_of(structures, self.elements), pair_counts(structures, self.elements)
        except StructureError as error:
            raise DescriptorError(str(error)) from error
        n_atoms = structures.counts[:, None]
        n_around = counts.sum(axis=(2, 3))
        unordered = np.where(np.eye(len(self.elements), dtype=bool), counts, counts + counts.swapaxes(2, 3))
        pairs = unordered[:, :, *np.triu_indices(len(self.elements))] / n_around[:, :, None]
        columns = np.concatenate([amounts / n_atoms, pairs[:, 0], pairs[:, 1]], axis=1)
        volumes = volumes_per_atom(structures)[:, None]
        bcc = n_around[:, :1] == 8 * n_atoms
        parts = [columns, volumes, bcc]
        if self.volume_order:
            dilatation = volumes / self.reference_volume_ang3 - 1
            parts += [
                columns * here * dilatation**power for here in (~bcc, bcc) for power in range(self.volume_order + 1)
            ]
        return np.concatenate(parts, axis=1)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the name of each column, for example ``fraction_Co``, ``pairs1_CoCr`` or ``fcc:pairs2_AlAl*v^1``."""
        self._check_parameters()
        pairs = [''.join(pair) for pair in itertools.combinations_with_replacement(self.elements, 2)]
        columns = [f'fraction_{element}' for element in self.elements]
        columns += [f'pairs{shell}_{pair}' for shell in (1, 2) for pair in pairs]
        products = [
            f'{phase}:{column}*v^{power}'
            for phase in (PHASES if self.volume_order else ())
            for power in range(self.volume_order + 1)
            for column in columns
        ]
        return np.array([*columns, 'volume_ang3_per_atom', 'phase_bcc', *products], dtype=object)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        try:
            atomic_numbers(self.elements)
        except StructureError as error:
            raise DescriptorError(f'elements must be a list of chemical symbols: {error}') from error
        if len(set(self.elements)) < len(self.elements):
            raise DescriptorError(f'an element is repeated in elements: {", ".join(self.elements)}')
