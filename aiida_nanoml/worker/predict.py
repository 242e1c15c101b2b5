"""``nanoml-worker predict``: apply a trained model to structures or to features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import ModelError
from aiida_nanoml.features.registry import make_descriptor
from aiida_nanoml.learning.gap_network import GapNetwork
from aiida_nanoml.learning.model_files import load_domain, load_model
from aiida_nanoml.learning.registry import Model
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.files import read_arrays, read_job, write_arrays
from aiida_nanoml.worker.schemas import (
    DATASET_FILE,
    MODEL_FOLDER,
    RESULTS_FILE,
    STRUCTURES_FILE,
    PredictJob,
    Report,
)


def predict(folder: Path) -> Report:
    """Predict the rows of a job folder.

    :param folder: holds ``job.json``, the folder ``model`` and ``structures.npz`` or ``dataset.npz``.
    :returns: the report.
    :raises NanomlError: the model is damaged, or was trained on features of another descriptor.
    """
    job = read_job(folder, PredictJob)
    model, card = load_model(folder / MODEL_FOLDER)
    domain = load_domain(folder / MODEL_FOLDER)
    if domain is None:
        raise ModelError('the model was saved without its training domain: train it again')
    if job.descriptor is not None:
        if job.descriptor != card.descriptor:
            raise ModelError(
                f'the features come from the descriptor {job.descriptor}, the model was trained on {card.descriptor}. '
                'Build the features with the descriptor of the model, or predict from structures.'
            )
        features = read_arrays(folder / DATASET_FILE)['X']
    else:
        structures = StructureSet.from_arrays(read_arrays(folder / STRUCTURES_FILE))
        if not card.descriptor:
            raise ModelError('the model does not say which descriptor made its features: give features, not structures')
        features = make_descriptor(card.descriptor['name'], **card.descriptor['params']).transform(structures)
    values, spread = predict_with_spread(model, features)
    write_arrays(folder / RESULTS_FILE, {'value': values, 'std': spread, 'distance': domain.distance(features)})
    return Report(status='ok', content={'n_rows': len(values)})


def predict_with_spread(model: Model, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predict and give the spread over the members of an ensemble.

    :param features: shape (n, F).
    :returns: values (n,) in eV, and their standard deviation (n,) in eV, NaN for a single model.
    """
    if isinstance(model, GapNetwork) and model.members > 1:
        return model.predict(features, return_std=True)
    return np.asarray(model.predict(features)), np.full(len(features), np.nan)
