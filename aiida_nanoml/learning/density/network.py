"""Rotation-equivariant networks from the density of free atoms to the self-consistent one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.densities.density import Density, Values
from aiida_nanoml.densities.free_atoms import FreeAtoms
from aiida_nanoml.densities.resampling import resample_values
from aiida_nanoml.errors import DensityError, ModelError
from aiida_nanoml.learning.density.architecture import Architecture, DensitySettings, Singles
from aiida_nanoml.learning.density.mesh_view import view_structure
from aiida_nanoml.learning.density.symmetry import Integers
from aiida_nanoml.learning.density.training import Densities, Progress, train
from aiida_nanoml.structures import Structure

SLAB = 4096
"""Mesh points that are predicted at once: what they need fits into the cache of a core."""


@dataclass(frozen=True, eq=False)
class PredictedDensity:
    """Density of a structure as a network predicts it.

    :param density: free-atom density and predicted difference.
    :param charge_defect: electrons that the difference had too many; none are left where the network is neutral.
    """

    density: Density
    charge_defect: float


class DensityNetwork:
    """Difference of the self-consistent density to that of free atoms, from the latter around each mesh point.

    The superposition of free atoms is put on a mesh of a common spacing, smoothed on some scales, and its square root
    is read at points around each mesh point: the inputs of a patch network whose weights are tied by a point group, so
    that a density that is turned gives the turned answer (rotation-equivariant network, RE-ANN). Every layer is a
    convolution, all but the first of width one, so that one pass over the mesh predicts it all; points without
    free-atom density are left out, where the difference is zero.

    :param settings: of :class:`~aiida_nanoml.learning.density.architecture.DensitySettings`.
    :raises ModelError: a setting is unknown or cannot be used.
    """

    free_atoms_: FreeAtoms
    """Radial densities of the atoms, found in the training densities."""

    weights_: list[NDArray[np.float32]]
    """Free weights of each layer; inputs are square roots of densities, the output is in units of :attr:`scale_`."""

    biases_: list[NDArray[np.float32]]
    """Free biases of each layer."""

    scale_: float
    """Mean absolute difference at the training points, in electrons/Å³."""

    history_: dict[str, list[float]]
    """Mean absolute error of every epoch, in units of :attr:`scale_`; ``val_loss`` if densities were watched."""

    def __init__(self, **settings: Any) -> None:
        self.settings = DensitySettings.from_dict(settings)
        self.architecture = Architecture(self.settings)

    def get_params(self) -> dict[str, Any]:
        """Return the settings."""
        return self.settings.model_dump(mode='json')

    def fit(
        self, densities: Densities, watched: Densities | None = None, progress: Progress | None = None
    ) -> DensityNetwork:
        """Learn from densities.

        :param densities: of one engine and protocol; read one at a time.
        :param watched: densities whose error is followed; nothing is decided on it.
        :param progress: called after every epoch with its number, from 1, and the number of epochs.
        :returns: this network.
        :raises DensityError: a density cannot be put on the common mesh, or there is none.
        :raises ModelError: the training diverged.
        """
        if not len(densities):
            raise DensityError('there are no densities to learn from')
        self.free_atoms_ = FreeAtoms.fit((densities[row] for row in range(len(densities))), self.settings.seed)
        trained = train(self.architecture, self.free_atoms_, densities, watched, progress)
        self.weights_, self.biases_ = trained.weights, trained.biases
        self.scale_, self.history_ = trained.scale, trained.history
        return self

    def predict(
        self, structure: Structure, shape: tuple[int, int, int] | None = None, threads: int = 1
    ) -> PredictedDensity:
        """Predict the density of a structure.

        :param structure: in a box.
        :param shape: mesh of the answer; None: the one of the common spacing, which is predicted.
        :param threads: at most so many cores are used.
        :raises ModelError: not trained.
        :raises DensityError: an element was not learnt, or the box does not fit the common mesh.
        """
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        if not hasattr(self, 'weights_'):
            raise ModelError('the density network is not trained: call fit or load a model first')
        view = view_structure(structure, self.free_atoms_, self.architecture)
        difference = np.zeros(view.free.size, dtype=np.float32)
        layers = self.expanded()
        slabs = np.array_split(view.occupied, max(1, -(-len(view.occupied) // SLAB)))

        def predict_slab(places: Integers) -> None:
            difference[places] = self.scale_ * apply_layers(view.read(places), layers)

        # Slabs side by side: threads inside the products of their small matrices would wait for each other.
        with threadpool_limits(limits=1), ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(predict_slab, slabs):
                pass
        values = difference.reshape(view.free.shape)
        free = view.free
        if shape is not None and shape != view.free.shape:
            values, free = resample_values(values, shape), self.free_atoms_.superpose(structure, shape)
        volume = abs(np.linalg.det(structure.cell)) / values.size
        defect = float(values.sum(dtype=np.float64) * volume)
        if self.settings.neutral:
            values = neutralised(values, free)
        return PredictedDensity(Density(structure, free, values), defect)

    def expanded(self) -> list[tuple[Singles, Singles]]:
        """Weights (m, n) and biases (m, 1) of each layer, ties written out, the first from what is read."""
        found = []
        for number, layer in enumerate(self.architecture.layers):
            weights = self.weights_[number][layer.weights]
            if number == 0:
                weights = (self.architecture.sampling @ weights).astype(np.float32)
            biases = self.biases_[number][layer.biases]
            found.append((np.ascontiguousarray(weights.T), biases[:, None]))
        return found


def apply_layers(values: Singles, layers: Sequence[tuple[Singles, Singles]]) -> Singles:
    """Send columns through the layers of a network.

    :param values: (k, p).
    :param layers: of :meth:`DensityNetwork.expanded`.
    :returns: (p,).
    """
    for number, (weights, biases) in enumerate(layers, start=1):
        values = weights @ values
        values += biases
        if number < len(layers):
            # hard swish: x min(max(x / 6 + 1/2, 0), 1), learns as well as smooth ones and needs no exponential
            gate = values * np.float32(1 / 6)
            gate += np.float32(0.5)
            np.clip(gate, 0.0, 1.0, out=gate)
            values *= gate
    answer: Singles = values[0]
    return answer


def neutralised(difference: Values, free: Values) -> Values:
    """Make the charge of a difference zero: each value that is not zero gives in proportion to the root of the density.

    What is missing or too much mostly sits in the outer, delocalised states: less lies at the nuclei than in
    proportion to the density.

    :param difference: (n1, n2, n3).
    :param free: (n1, n2, n3) free-atom density there.
    """
    shares: Values = np.sqrt(np.maximum(free, 0.0)) * (difference != 0)
    total = shares.sum(dtype=np.float64)
    if not total:
        return difference
    neutral: Values = difference - shares * np.float32(difference.sum(dtype=np.float64) / total)
    return neutral


def metrics_of(known: Density, predicted: PredictedDensity) -> Mapping[str, float]:
    """Compare a prediction with the density of an engine.

    :param known: on any mesh.
    :param predicted: on the same mesh.
    :returns: ``nmae`` and, of the free-atom superposition, ``nmae_free``; ``ratio`` of the latter to the former;
        ``rmse`` and ``max_error`` in electrons/Å³; ``charge_defect`` in electrons.
    :raises DensityError: the meshes differ.
    """
    if known.shape != predicted.density.shape:
        raise DensityError(f'a prediction on the mesh {predicted.density.shape} is compared with one on {known.shape}')
    # Both totals: the superposition of the network is fitted, and its error counts.
    error = predicted.density.total - known.total
    nmae = float(np.abs(error).sum(dtype=np.float64) / known.total.sum(dtype=np.float64))
    nmae_free = known.nmae(0.0)
    return {
        'nmae': nmae,
        'nmae_free': nmae_free,
        'ratio': nmae_free / nmae if nmae else float('inf'),
        'rmse': float(np.sqrt(np.mean(error**2, dtype=np.float64))),
        'max_error': float(np.abs(error).max()),
        'charge_defect': predicted.charge_defect,
    }
