"""Architecture of a density network: settings, points that it reads, and weights tied by symmetry."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.density.symmetry import (
    Floats,
    Group,
    Integers,
    ball,
    interpolation,
    permutations,
    rings,
    side_by_side,
    symmetry_operations,
    tie_weights,
)

Singles = NDArray[np.float32]
MOST_SCALES = 16
Radius = Annotated[float, Field(ge=1.0, le=6.0)]


class DensitySettings(BaseModel):
    """Settings of a :class:`~aiida_nanoml.learning.density.network.DensityNetwork`."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    group: Group = Field(default='D4h', description='symmetry of the weights; none: they are free')
    points: Literal['mesh', 'rings'] = Field(
        default='mesh', description='points that are looked at: those of the mesh, or rings around each of them'
    )
    spacing_ang: float = Field(default=0.2, gt=0.02, lt=1.0, description='mesh spacing that all densities are put on')
    radius: Radius | tuple[Radius, ...] = Field(
        default=(3.0, 3.0, 3.0, 2.0),
        description='of the points that are looked at, in steps: one for all scales, or one for each',
    )
    dilations: tuple[Annotated[int, Field(le=64)], ...] = Field(
        default=(1, 2, 4, 6), description='mesh points in a step, one for each scale'
    )
    smoothing: tuple[Annotated[float, Field(le=64)], ...] = Field(
        default=(0.0, 0.8, 1.8, 3.0), description='width of the Gaussian that each scale is smoothed by, in mesh points'
    )
    copies: int = Field(default=6, ge=1, le=64, description='hidden patches in a layer')
    hidden_layers: int = Field(default=2, ge=1, le=8, description='layers before the last')
    epochs: int = Field(default=100, ge=1, description='draws of points')
    points_per_epoch: int = Field(default=60_000, ge=1000, description='mesh points in a draw')
    batch_size: int = Field(default=1024, ge=16, description='mesh points of one step')
    learning_rate: float = Field(default=0.01, gt=0, description='at the beginning; it falls by a cosine')
    floor: float = Field(
        default=1e-4, gt=0, lt=0.1, description='free-atom density (electrons/Å³) below which the difference is zero'
    )
    neutral: bool = Field(default=True, description='whether the charge of the predicted difference is made zero')
    seed: int = Field(default=0, ge=0, description='of the first weights and of the draws')

    @model_validator(mode='after')
    def _check(self) -> Self:
        if not len(self.dilations) == len(self.smoothing) == len(self.radii) > 0:
            raise ValueError(
                'dilations and smoothing need one value for each scale, as does radius where it has several'
            )
        if len(self.dilations) > MOST_SCALES:
            raise ValueError(f'a network reads at most {MOST_SCALES} scales')
        if min(self.dilations) < 1 or not min(self.smoothing) >= 0:
            raise ValueError('dilations are at least 1, smoothing is not negative')
        if self.group == 'C12v' and self.points == 'mesh':
            raise ValueError("a mesh has no axis of twelve: the group C12v needs points='rings'")
        if self.group == 'Oh' and self.points == 'rings':
            raise ValueError("rings lie in planes: the group Oh needs points='mesh'")
        if self.batch_size > self.points_per_epoch:
            raise ValueError('batch_size is larger than points_per_epoch')
        return self

    @property
    def radii(self) -> tuple[float, ...]:
        """Radius of each scale."""
        return self.radius if isinstance(self.radius, tuple) else (self.radius,) * len(self.dilations)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Check settings.

        :raises ModelError: one is unknown, or cannot be used.
        """
        try:
            return cls.model_validate(dict(settings))
        except ValidationError as error:
            first = error.errors()[0]
            where = '.'.join(map(str, first['loc']))
            raise ModelError(f'settings of a density network: {where}{": " * bool(where)}{first["msg"]}') from None


@dataclass(frozen=True)
class Layer:
    """Numbers of the free weights between the inputs and outputs of a layer, and of its free biases.

    :param weights: (n, m) number of the free weight of each pair.
    :param n_weights: how many free weights there are.
    :param biases: (m,) number of the free bias of each output.
    :param n_biases: how many free biases there are.
    """

    weights: Integers
    n_weights: int
    biases: Integers
    n_biases: int


class Architecture:
    """Points, permutations and ties that follow from the settings.

    The inputs are values at the points around a mesh point, on every scale. Hidden values sit on patches that the
    symmetry operations permute; the output belongs to the mesh point, which they leave where it is.

    :param settings: the settings.
    """

    def __init__(self, settings: DensitySettings) -> None:
        self.settings = settings
        self.operations = symmetry_operations(settings.group)
        around: Any = ball if settings.points == 'mesh' else rings
        if settings.points == 'mesh':
            self._patch: Any = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
        else:
            self._patch = rings(1.0)
        self._around: list[Any] = [around(radius) for radius in settings.radii]
        scales = [
            interpolation(points * dilation) for points, dilation in zip(self._around, settings.dilations, strict=True)
        ]
        self.offsets: tuple[Integers, ...] = tuple(offsets for offsets, _ in scales)
        """Mesh points, relative to the one that is predicted, whose values are read on each scale, (k, 3)."""
        self._shares = [shares for _, shares in scales]

    @cached_property
    def inputs(self) -> Integers:
        """(g, n) permutations of the inputs."""
        return side_by_side([permutations(points, self.operations) for points in self._around])

    @cached_property
    def sampling(self) -> Floats:
        """(k, n) share that a value that is read, of all scales, has in an input."""
        from scipy.linalg import block_diag

        matrix: Floats = block_diag(*(shares.T for shares in self._shares))
        return matrix

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers, first to last."""
        hidden = side_by_side([permutations(self._patch, self.operations)] * self.settings.copies)
        centre = np.zeros((len(self.operations), 1), dtype=np.int64)
        widths = [self.inputs, *[hidden] * self.settings.hidden_layers, centre]
        found = []
        for one, other in itertools.pairwise(widths):
            weights, n_weights = tie_weights(one, other)
            biases, n_biases = tie_weights(centre, other)
            found.append(Layer(weights, n_weights, biases[0], n_biases))
        return found

    @property
    def n_free_weights(self) -> int:
        """Number of free weights and biases."""
        return sum(layer.n_weights + layer.n_biases for layer in self.layers)

    @property
    def n_weights(self) -> int:
        """Number of weights and biases of a network of this size without ties."""
        return sum(layer.weights.size + layer.biases.size for layer in self.layers)
