"""A density network without a training: its weights are random, its free atoms are real."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiida_nanoml.densities.free_atoms import FreeAtoms
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.learning.density.model_files import DensityModelCard, save_density_model
from aiida_nanoml.learning.density.network import DensityNetwork
from tests.densities.recorded import recorded_density

SOURCE = LabelSource('siesta', '4.1-b4-133', 'LDA-CA/DZP (SIESTA)', 'paper')


def random_network(seed: int = 0, **settings: object) -> DensityNetwork:
    """Give a network with weights of chance for flakes of H, B, C and N; it says nothing about them."""
    network = DensityNetwork(**{'spacing_ang': 0.25, 'copies': 1, **settings})
    generator = np.random.default_rng(seed)
    layers = network.architecture.layers
    network.weights_ = [
        (generator.normal(size=layer.n_weights) / np.sqrt(len(layer.weights))).astype(np.float32) for layer in layers
    ]
    network.biases_ = [generator.normal(size=layer.n_biases).astype(np.float32) for layer in layers]
    network.free_atoms_ = FreeAtoms.fit([recorded_density('z-0000')])
    network.scale_, network.history_ = 0.02, {'loss': [1.0, 0.9]}
    return network


def save_random_network(folder: Path, seed: int = 0, **settings: object) -> DensityModelCard:
    """Write such a network as a training writes one."""
    card = {'labels': SOURCE.to_dict(), 'hashes': [], 'source_spacing_ang': 0.25, 'vacuum_ang': 10.0}
    return save_density_model(random_network(seed, **settings), folder, card)
