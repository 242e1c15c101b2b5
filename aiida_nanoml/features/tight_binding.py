"""Descriptor of flakes by the levels of a tight-binding model, adjusted to the gaps of training flakes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import SkipValidation

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features.base import Descriptor
from aiida_nanoml.features.bonds import BORON, CARBON, NITROGEN
from aiida_nanoml.features.pi_model import PARAMETERS, PiBlock, pi_blocks
from aiida_nanoml.parameters import Count, Natural
from aiida_nanoml.structures.structure_set import StructureSet

PARAMETER_SETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        # Adjusted by TightBindingDescriptor.fit to 1,200 flakes C42H18 and 1,200 C54H20 with up to four random domains,
        # labelled with tblite 0.8.0, protocol `balanced`. On 250 others of each: R2 of the gap 0.95 and 0.94.
        'gfn1-xtb': MappingProxyType(
            {
                'onsite_B': 2.172611,
                'onsite_N': -3.209455,
                'shift_CB': 0.419069,
                'shift_CN': -0.417245,
                'shift_CH': -0.172076,
                'shift_BC': 0.184986,
                'shift_BH': -0.275488,
                'shift_NC': -0.890698,
                'shift_NH': -0.417949,
                'hopping_BC': -1.610467,
                'hopping_BN': -2.443902,
                'hopping_CC': -2.013403,
                'hopping_CN': -1.869115,
                'second_BB': 0.368359,
                'second_BC': 0.257538,
                'second_CC': 0.170854,
                'second_CN': -0.039137,
                'second_NN': -0.394251,
                'field_site': 0.827762,
                'field_far': 0.05369,
            }
        ),
    }
)
"""Sets of parameters, by the name of what they were adjusted to."""

LEVELS = 5
"""Number of occupied, and of empty, levels around the gap that are features."""

_SPREAD_EV = 0.15  # an orbital this far from HOMO or LUMO has 1/e of its weight in a frontier density
_SIDE_EV = 0.03  # width of the step between occupied and empty orbitals in a frontier density
_STIFFNESS = 1e-4  # weight of a parameter's distance to its start, in eV² per eV², against the mean squared error
_DECIMALS = 6

_SITES = ('B', 'C', 'N')
_SIDES = ('hole', 'electron')


class TightBindingDescriptor(Descriptor):
    """Descriptor by gap, levels and frontier densities of a tight-binding model of the pi electrons.

    One diagonalisation for each flake, :mod:`~aiida_nanoml.features.pi_model`; nothing is self-consistent. Without
    ``parameters``, :meth:`fit` adjusts those of the model to the gaps of training flakes by least squares, so that the
    first column, ``gap``, is a prediction of its own. All columns are independent of the size of a flake and of where
    it lies, and continuous: degenerate levels are averaged over.

    :param parameters: of the model: a name in :data:`PARAMETER_SETS`, or a value for each of
        :data:`~aiida_nanoml.features.pi_model.PARAMETERS`; ``None``: learnt.
    :param rows: largest number of training flakes that parameters are adjusted to, drawn at random; more are more
        accurate and take longer, some 20 ms a flake.
    :param seed: of the draw.

    Attributes:
        ``parameters_``: parameters of the model by name, set by :meth:`fit`, rounded to 1e-6.

    >>> from aiida_nanoml.structures import StructureSet, flake_lattice
    >>> coronene = StructureSet.from_structures([flake_lattice('z', 2)])
    >>> descriptor = TightBindingDescriptor('gfn1-xtb')
    >>> levels = dict(zip(descriptor.get_feature_names_out(), descriptor.transform(coronene)[0].tolist()))
    >>> round(levels['gap'], 1)  # eV
    2.2
    """

    learns: ClassVar[bool] = True
    electronic: ClassVar[bool] = True

    def __init__(
        self,
        parameters: Annotated[str | Mapping[str, float] | None, SkipValidation] = None,
        rows: Count = 1000,
        seed: Natural = 0,
    ) -> None:
        self.parameters = parameters
        self.rows = rows
        self.seed = seed

    def fit(self, structures: StructureSet, y: ArrayLike | None = None) -> TightBindingDescriptor:
        """Adjust the parameters of the model; if they are given, check them and learn nothing.

        :param structures: training flakes, n of them.
        :param y: (n,) their gaps in eV.
        :raises DescriptorError: if ``y`` is missing, not finite, negative or of another length, if a parameter is
            wrong, or if a structure cannot be described.
        """
        self._check_parameters()
        if self.parameters is not None:
            self.parameters_ = self._given_parameters()
            return self
        gaps = _check_gaps(structures, y)
        if len(gaps) > self.rows:
            draw = np.random.Generator(np.random.PCG64(self.seed)).permutation(len(gaps))[: self.rows]
            chosen = np.sort(draw)
            structures, gaps = structures.select(chosen), gaps[chosen]
        values = _adjust_parameters(list(pi_blocks(structures)), gaps)
        self.parameters_ = dict(zip(PARAMETERS, np.round(values, _DECIMALS).tolist(), strict=True))
        return self

    def frozen(self) -> TightBindingDescriptor:
        """Return a descriptor that has the parameters of this one as its arguments.

        :raises DescriptorError: if it was not fitted and no parameters are given.
        """
        return TightBindingDescriptor(self._fitted_parameters(), self.rows, self.seed)

    def transform(self, structures: StructureSet) -> NDArray[np.float64]:
        """Describe structures.

        :param structures: isolated flakes of H, B, C and N; n of them.
        :returns: one row for each structure (n, ``len(get_feature_names_out())``); energies in eV.
        :raises DescriptorError: if it was not fitted; if a structure is periodic, has other elements, a heavy atom
            without three bonded neighbours, a hydrogen atom without one, a B-B or N-N bond, or an odd number of pi
            electrons.
        """
        parameters = np.array([self._fitted_parameters()[name] for name in PARAMETERS])
        features = np.empty((len(structures), len(_NAMES)))
        for block in pi_blocks(structures):
            features[block.rows] = _features(block, parameters)
        return features

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the name of each column.

        :raises DescriptorError: if it was not fitted and no parameters are given.
        """
        self._fitted_parameters()
        return np.array(_NAMES, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, 'parameters_') or self.parameters is not None

    def _fitted_parameters(self) -> dict[str, float]:
        """Return the parameters that were learnt or given, by name."""
        if hasattr(self, 'parameters_'):
            return self.parameters_
        if self.parameters is None:
            raise DescriptorError(
                'the tight-binding descriptor has no parameters yet: fit it to training flakes and their gaps, or give '
                f'parameters, for example one of {", ".join(PARAMETER_SETS)}'
            )
        return self._given_parameters()

    def _given_parameters(self) -> dict[str, float]:
        """Return the parameters of the constructor by name, after a check."""
        given: Any = self.parameters
        if isinstance(given, str):
            if given not in PARAMETER_SETS:
                raise DescriptorError(
                    f'there is no set of tight-binding parameters {given!r}; there are: {", ".join(PARAMETER_SETS)}'
                )
            given = PARAMETER_SETS[given]
        if not isinstance(given, Mapping):
            raise DescriptorError(
                f'tight-binding parameters are a name or a value for each parameter, not {type(given).__name__}'
            )
        wrong = sorted(set(map(str, given)) ^ set(PARAMETERS))
        if wrong:
            raise DescriptorError(
                f'tight-binding parameters that are missing or unknown: {", ".join(wrong)}; '
                f'there are: {", ".join(PARAMETERS)}'
            )
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise DescriptorError(f'the tight-binding parameter {name} must be a finite number, not {value!r}')
        return {name: float(given[name]) for name in PARAMETERS}


def _check_gaps(structures: StructureSet, y: ArrayLike | None) -> NDArray[np.float64]:
    """Check that there is a gap for each structure, and return them (n,)."""
    if y is None:
        raise DescriptorError('the tight-binding descriptor learns from gaps: fit it with those of the structures (eV)')
    gaps = np.asarray(y, dtype=np.float64)
    if gaps.shape != (len(structures),) or not len(gaps):
        raise DescriptorError(f'{len(structures)} structures need one gap each, got an array of shape {gaps.shape}')
    wrong = np.flatnonzero(~(gaps >= 0) | ~np.isfinite(gaps))
    if len(wrong):
        raise DescriptorError(
            f'row {wrong[0]} has the target {gaps[wrong[0]]}: tight-binding parameters are adjusted to gaps, '
            'finite and not negative, in eV; for corrections to another engine, give parameters'
        )
    return gaps


def _adjust_parameters(blocks: list[PiBlock], gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit the parameters to the gaps by least squares; a weak spring keeps undetermined ones at their start."""
    from scipy.optimize import least_squares

    start = np.array(list(PARAMETERS.values()))
    spring = math.sqrt(_STIFFNESS * len(gaps))
    rows = np.concatenate([block.rows for block in blocks])
    seen: dict[bytes, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def evaluated(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # The optimiser asks for errors and for their derivatives at the same point: both come from one calculation.
        key = values.tobytes()
        if key not in seen:
            found, slopes = zip(*(block.gaps(values) for block in blocks), strict=True)
            errors = np.concatenate([np.concatenate(found) - gaps[rows], spring * (values - start)])
            seen.clear()
            seen[key] = errors, np.concatenate([*slopes, spring * np.eye(len(start))])
        return seen[key]

    fitted = least_squares(lambda p: evaluated(p)[0], start, lambda p: evaluated(p)[1], max_nfev=40, ftol=1e-5)
    return np.asarray(fitted.x, dtype=np.float64)


def _features(block: PiBlock, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the columns of the flakes of a block."""
    frontier = block.frontier(parameters, LEVELS)
    width = frontier.levels.shape[1] // 2
    homo, lumo = frontier.levels[:, width - 1], frontier.levels[:, width]
    middle = 0.5 * (homo + lumo)
    gap = lumo - homo
    relative = frontier.levels - middle[:, None]
    n = block.species.shape[1]
    densities = []
    for sign in (-1, 1):
        # Orbitals of one side, those next to the gap first; the step makes the two sides meet without a jump.
        height = sign * relative
        weight = -np.abs(height) / _SPREAD_EV - np.logaddexp(0.0, -height / _SIDE_EV)
        weight = np.exp(weight - weight.max(axis=1, keepdims=True)) * (frontier.orbitals**2).sum(axis=1)
        weight /= weight.sum(axis=1, keepdims=True)
        densities.append((frontier.orbitals**2 @ weight[:, :, None])[..., 0])
    hole, electron = densities
    moved = electron - hole
    below, above = range(width - LEVELS, width - 1), range(width + 1, width + LEVELS)
    columns = [gap, middle, *(relative[:, level] for level in (*reversed(below), *above))]
    for density in densities:
        columns.append((density**2).sum(axis=1))
        columns.extend((density * (block.species == site)).sum(axis=1) for site in (BORON, CARBON, NITROGEN))
        columns.append((density * block.edge).sum(axis=1))
        columns.append(np.einsum('fi,fij,fj->f', density, block.coulomb, density, optimize=True))
    columns.append(np.sqrt(hole * electron).sum(axis=1))
    columns.append(np.einsum('fi,fij,fj->f', moved, block.coulomb, moved, optimize=True))
    columns.append((frontier.field * moved).sum(axis=1))
    columns.append(
        (
            frontier.energy
            - (block.core_charges * (block.site_terms @ parameters[: block.site_terms.shape[2]])).sum(axis=1)
        )
        / n
    )
    columns.extend((frontier.charges * (block.species == site)).sum(axis=1) / n for site in (BORON, CARBON, NITROGEN))
    columns.append(np.abs(frontier.charges).sum(axis=1) / n)
    return np.stack(columns, axis=1)


_NAMES = (
    'gap',
    'midgap',
    *(f'homo-{below}' for below in range(1, LEVELS)),
    *(f'lumo+{above}' for above in range(1, LEVELS)),
    *(f'{side}_{quantity}' for side in _SIDES for quantity in ('participation', *_SITES, 'edge', 'repulsion')),
    'overlap',
    'attraction',
    'field_shift',
    'bonding_energy',
    *(f'charge_{site}' for site in _SITES),
    'charge_transfer',
)
