"""Trained density networks in a folder, without pickle.

======================  ====================================================================
``density_model.json``  the card: :class:`DensityModelCard`
``weights.npz``         free weights and biases of each layer, the scale, and the free atoms
``history.json``        errors of every epoch
======================  ====================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from aiida_nanoml.densities.free_atoms import FreeAtoms
from aiida_nanoml.errors import DensityError, ModelError
from aiida_nanoml.learning.density.network import DensityNetwork
from aiida_nanoml.learning.identity import content_hash, library_version
from aiida_nanoml.learning.model_card import checked_card, read_card_file, read_history

CARD_FILE = 'density_model.json'
WEIGHTS_FILE = 'weights.npz'
HISTORY_FILE = 'history.json'


class DensityModelCard(BaseModel):
    """Description of a density network: settings, training data and metrics.

    The fields from ``parameters`` on are filled by :func:`save_density_model`.
    """

    model_config = ConfigDict(extra='forbid')

    labels: dict[str, Any] = Field(description='engine, version, protocol and parameters of the densities')
    hashes: list[str] = Field(description='content hash of each structure that was learnt from')
    source_spacing_ang: float = Field(gt=0, description='mean mesh spacing of the densities that were learnt from')
    vacuum_ang: float | None = Field(
        default=None, description='distance between the images of isolated structures that were learnt from'
    )
    metrics: dict[str, dict[str, float | int]] = Field(
        default_factory=dict, description='mean errors by part: nmae, nmae_free, ratio, charge defect, n'
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description='settings of the network')
    elements: list[str] = Field(default_factory=list, description='chemical symbols that were learnt')
    electrons: dict[str, float] = Field(default_factory=dict, description='integral of each free atom')
    free_atoms_residual: float = Field(default=0.0, description='share of the charge that spherical atoms leave out')
    n_free_weights: int = Field(default=0, description='free weights and biases')
    n_weights: int = Field(default=0, description='weights and biases of an unconstrained network of this size')
    fingerprint: str = Field(default='', description='sha256 over settings, weights and free atoms')
    versions: dict[str, str] = Field(default_factory=dict, description='versions of the libraries that trained it')


def save_density_model(network: DensityNetwork, folder: Path | str, card: Mapping[str, Any]) -> DensityModelCard:
    """Write a trained network.

    :param network: trained.
    :param folder: is made; files of an earlier model are replaced.
    :param card: fields of :class:`DensityModelCard` up to ``metrics``.
    :returns: the complete card.
    :raises ModelError: not trained, or a field is wrong.
    """
    folder = Path(folder)
    fingerprint = density_fingerprint(network)
    made = checked_card(
        {
            **card,
            'parameters': network.get_params(),
            'elements': list(network.free_atoms_.elements),
            'electrons': network.free_atoms_.electrons,
            'free_atoms_residual': network.free_atoms_.residual,
            'n_free_weights': network.architecture.n_free_weights,
            'n_weights': network.architecture.n_weights,
            'fingerprint': fingerprint,
            'versions': {name: library_version(name) for name in ('aiida-nanoml', 'numpy', 'tensorflow', 'keras')},
        },
        'the card of the density model',
        DensityModelCard,
    )
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / WEIGHTS_FILE, **_state(network))  # type: ignore[arg-type]
    (folder / HISTORY_FILE).write_text(json.dumps(network.history_), encoding='utf-8')
    # Last, so that a folder with a card is complete.
    (folder / CARD_FILE).write_text(made.model_dump_json(indent=2) + '\n', encoding='utf-8')
    return made


def read_density_card(folder: Path | str) -> DensityModelCard:
    """Read the card in the folder of a saved density network.

    :raises ModelError: missing, unreadable, or no card.
    """
    return read_card_file(Path(folder) / CARD_FILE, DensityModelCard)


def load_density_model(folder: Path | str) -> tuple[DensityNetwork, DensityModelCard]:
    """Read a trained network.

    :param folder: written by :func:`save_density_model`.
    :raises ModelError: missing, damaged, or changed after it was written.
    """
    folder = Path(folder)
    card = read_density_card(folder)
    network = DensityNetwork(**card.parameters)
    path = folder / WEIGHTS_FILE
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        layers = network.architecture.layers
        network.weights_ = [arrays[f'weights_{number}'] for number in range(len(layers))]
        network.biases_ = [arrays[f'biases_{number}'] for number in range(len(layers))]
        network.scale_ = float(arrays['scale'])
        network.free_atoms_ = FreeAtoms.from_arrays(
            {name.removeprefix('atoms_'): array for name, array in arrays.items() if name.startswith('atoms_')}
        )
    except FileNotFoundError:
        raise ModelError(f'{path} is missing: this is not the folder of a saved density model') from None
    except (OSError, ValueError, KeyError, EOFError, DensityError) as error:
        raise ModelError(f'{path} is damaged: {error}') from error
    for number, layer in enumerate(layers):
        found = network.weights_[number].shape, network.biases_[number].shape
        if found != ((layer.n_weights,), (layer.n_biases,)):
            raise ModelError(f'{path}: layer {number} has {found} weights and biases, its settings ask for others')
    network.history_ = read_history(folder / HISTORY_FILE)
    if density_fingerprint(network) != card.fingerprint:
        raise ModelError(f'the model in {folder} does not agree with the fingerprint in its card: it was changed')
    return network, card


def density_fingerprint(network: DensityNetwork) -> str:
    """Hash of what a density network computes.

    :returns: 64 hexadecimal digits.
    :raises ModelError: not trained.
    """
    if not hasattr(network, 'weights_'):
        raise ModelError('the density network is not trained: there is nothing to save or to hash')
    return content_hash(['DensityNetwork', network.get_params(), _state(network)])


def _state(network: DensityNetwork) -> dict[str, NDArray[Any]]:
    state = {f'weights_{number}': weights for number, weights in enumerate(network.weights_)}
    state |= {f'biases_{number}': biases for number, biases in enumerate(network.biases_)}
    state |= {f'atoms_{name}': array for name, array in network.free_atoms_.to_arrays().items()}
    return state | {'scale': np.array(network.scale_)}
