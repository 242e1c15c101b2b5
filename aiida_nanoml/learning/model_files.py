"""Trained models in a folder, without pickle.

========================  =======================================================================
``model.json``            the card: :class:`ModelCard`
``network.keras``         the trained network, raw features to targets in units (dense networks)
``estimator.skops``       the trained pipeline (models of scikit-learn)
``history.json``          losses of every epoch (dense networks)
``training_domain.npz``   what the training set covers, when it was given
========================  =======================================================================
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.arrays import SINGLE_PRECISION
from aiida_nanoml.learning.dense_layers import DenseLayers
from aiida_nanoml.learning.dense_network import DenseNetwork
from aiida_nanoml.learning.distance import TrainingDomain
from aiida_nanoml.learning.former_names import FORMER_CLASSES, with_former_names, without_later_defaults
from aiida_nanoml.learning.identity import content_hash, library_version
from aiida_nanoml.learning.keras_files import KerasNetwork, write_network
from aiida_nanoml.learning.model import Model
from aiida_nanoml.learning.model_card import CARD_FILE, ModelCard, checked_card, read_card
from aiida_nanoml.learning.registry import MODELS, make_model

DOMAIN_FILE = 'training_domain.npz'

KERAS_EPSILON = 1e-7
"""Least standard deviation by which Keras divides a feature."""

_FILLED = ('parameters', 'n_features', 'domain_limit', 'best_epoch', 'fingerprint', 'versions')


def save_model(
    model: Model, folder: Path | str, card: Mapping[str, Any], domain: TrainingDomain | None = None
) -> ModelCard:
    """Write a trained model into a new folder.

    :param model: trained model.
    :param folder: created when it is not there; must not hold a model.
    :param card: fields of :class:`ModelCard` that the model cannot know; ``kind`` is required.
    :param domain: the training domain to keep with the model.
    :returns: the whole card, as written.
    :raises ModelError: not trained, a card that is not valid, or a folder that holds a model.
    """
    folder = Path(folder)
    if (folder / CARD_FILE).exists():
        raise ModelError(f'{folder} holds a model already: choose another folder')
    own = sorted(set(card) & set(_FILLED))
    if own:
        raise ModelError(f'the card fields {", ".join(own)} are filled by save_model: leave them out')
    full = checked_card(card, 'the model card', ModelCard)
    if not isinstance(model, MODELS.load(full.kind).model):
        raise ModelError(f'the card says {full.kind!r}, the model is a {type(model).__name__}')
    fingerprint = model_fingerprint(model)
    if full.feature_names is not None and len(full.feature_names) != model.n_features_in_:
        raise ModelError(
            f'the card names {len(full.feature_names)} features, the model was trained on {model.n_features_in_}'
        )
    if model.n_targets_ != 1 + len(full.others):
        raise ModelError(f'the card names {1 + len(full.others)} targets, the model was trained on {model.n_targets_}')
    if domain is not None and domain.n_features_in_ != model.n_features_in_:
        raise ModelError(
            f'the training domain has {domain.n_features_in_} features, the model was trained on {model.n_features_in_}'
        )
    full.parameters = json.loads(json.dumps(model.get_params(deep=False)))
    full.n_features = model.n_features_in_
    full.fingerprint = fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    full.best_epoch = model.best_epoch_
    model.save(folder)
    full.versions = {name: library_version(name) for name in ('aiida-nanoml', 'numpy', *model.libraries)}
    if domain is not None:
        full.domain_limit = domain.limit_
        domain.save(folder / DOMAIN_FILE)
    # Last, so that a folder with a card is complete.
    (folder / CARD_FILE).write_text(full.model_dump_json(indent=2) + '\n', encoding='utf-8')
    return full


def load_model(folder: Path | str) -> tuple[Model, ModelCard]:
    """Read a trained model; nothing in the folder is run.

    :param folder: written by :func:`save_model`.
    :returns: the model and its card.
    :raises ModelError: a file is missing, truncated, not what it should be, holds layers or types that this package
        does not write, or does not agree with the fingerprint in the card.
    """
    folder = Path(folder)
    card = read_card(folder)
    if card.feature_names is not None and len(card.feature_names) != card.n_features:
        raise ModelError(f'{folder / CARD_FILE} names {len(card.feature_names)} features and counts {card.n_features}')
    model = make_model(card.kind, **card.parameters)
    model.n_features_in_ = card.n_features
    model.n_targets_ = 1 + len(card.others)
    model.best_epoch_ = card.best_epoch
    model.load(folder)
    if model_fingerprint(model) != card.fingerprint:
        raise ModelError(f'the model in {folder} does not agree with the fingerprint in its card: it was changed')
    return model, card


def load_domain(folder: Path | str) -> TrainingDomain | None:
    """Read the training domain that was saved with a model.

    :param folder: written by :func:`save_model`.
    :returns: the domain; ``None`` when the model was saved without one.
    :raises ModelError: no model there, or an unreadable domain.
    """
    folder = Path(folder)
    card = read_card(folder)
    path = folder / DOMAIN_FILE
    domain = TrainingDomain.load(path) if path.exists() else None
    if domain is not None and card.domain_limit is not None and not math.isclose(domain.limit_, card.domain_limit):
        raise ModelError(f'{path} has the limit {domain.limit_:g}, the card says {card.domain_limit:g}')
    return domain


def export_model(folder: Path | str, path: Path | str) -> None:
    """Write the network of a saved model as one file for other programs.

    The file takes rows of raw features and answers in the units of the targets, whatever the scalings during training
    were. The network of a model with a baseline takes the baseline as last feature and answers with the correction to
    it.

    :param folder: written by :func:`save_model`; a dense network.
    :param path: ends in ``.keras``, or in ``.h5`` for legacy HDF5 (``cbn_trained_model.h5``).
    :raises ModelError: no dense network, another ending, an unreadable model, or a feature whose spread is too small a
        share of its size for single precision: the file would answer something else.
    """
    path = Path(path)
    if path.suffix not in ('.keras', '.h5'):
        raise ModelError(f'{path.name}: a network is exported as .keras or .h5')
    model, card = load_model(folder)
    if not isinstance(model, DenseNetwork):
        raise ModelError(f'the model is of the kind {card.kind!r}: only dense networks are exported as Keras files')
    _check_exportable(model.network_, card)
    logger = logging.getLogger('absl')
    level = logger.level
    logger.setLevel(logging.ERROR)  # Keras warns that HDF5 is legacy, which is what was asked for.
    try:
        write_network(model.network_, path)
    finally:
        logger.setLevel(level)


def _check_exportable(network: DenseLayers | KerasNetwork, card: ModelCard) -> None:
    """Check that the file answers as the model does: Keras rounds features to single precision, then scales them."""
    if not isinstance(network, DenseLayers) or network.mean is None:
        return
    means, deviations = np.array(network.mean), np.sqrt(np.array(network.variance))
    lost = np.flatnonzero((deviations < SINGLE_PRECISION * np.abs(means)) | (deviations < KERAS_EPSILON))
    if len(lost):
        name = repr(card.feature_names[lost[0]]) if card.feature_names else str(lost[0])
        raise ModelError(
            f'feature {name} is {means[lost[0]]:g} ± {deviations[lost[0]]:g} in the training rows: a Keras file '
            'takes features in single precision, loses this spread, and would answer something else than the model; '
            'shift or scale the feature before the training'
        )


def model_fingerprint(model: Model | Path | str) -> str:
    """Hash of what a model computes: sha256 over its hyperparameters and weights.

    Files are not hashed: Keras and skops archives of the same model differ by date.

    :param model: trained model, or the folder of a saved one.
    :returns: 64 hexadecimal digits.
    :raises ModelError: not trained, or unreadable.
    """
    if isinstance(model, str | Path):
        return load_model(model)[1].fingerprint
    model.require_trained()
    # By the names of version 0.1: equal models keep equal fingerprints, whatever is renamed.
    parameters = with_former_names(without_later_defaults(type(model).__name__, model.get_params(deep=False)))
    name = FORMER_CLASSES.get(type(model).__name__, type(model).__name__)
    return content_hash([name, parameters, model.fitted_state()])
