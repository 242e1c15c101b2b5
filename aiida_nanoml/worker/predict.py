"""Task ``predict`` of the worker: apply a trained model to structures or to features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import ModelError
from aiida_nanoml.features.registry import describe, mismatch
from aiida_nanoml.learning.arrays import as_targets
from aiida_nanoml.learning.model_files import load_domain, load_model
from aiida_nanoml.learning.targets import TARGETS
from aiida_nanoml.learning.training import predict_columns
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.files import read_arrays, read_job, write_arrays
from aiida_nanoml.worker.schemas import (
    BASELINE_FILE,
    DATASET_FILE,
    MODEL_FOLDER,
    RESULTS_FILE,
    STRUCTURES_FILE,
    PredictJob,
    Report,
)


def predict(folder: Path) -> Report:
    """Predict the rows of a job folder.

    :param folder: holds ``job.json``, the folder ``model`` and ``structures.npz`` (for a correction, with
        ``baseline.npz``) or ``dataset.npz``.
    :returns: the report.
    :raises NanomlError: the model is damaged, or was trained on features of another descriptor or another baseline.
    """
    job = read_job(folder, PredictJob)
    structures: StructureSet | None = None
    model, card = load_model(folder / MODEL_FOLDER)
    domain = load_domain(folder / MODEL_FOLDER)
    if domain is None:
        raise ModelError('the model was saved without its training domain: train it again')
    if job.descriptor is not None:
        if job.descriptor != card.descriptor:
            raise ModelError(
                f'{mismatch(job.descriptor, card.descriptor or {})}; build the features with the descriptor of the '
                'model, or predict from structures'
            )
        arrays = read_arrays(folder / DATASET_FILE)
        features = arrays['X']
    else:
        structures = StructureSet.from_arrays(read_arrays(folder / STRUCTURES_FILE))
        if not card.descriptor:
            raise ModelError('the model does not say which descriptor made its features: give features, not structures')
        features = describe(card.descriptor, structures)
        arrays = {} if job.baseline is None else read_arrays(folder / BASELINE_FILE)
    check_baseline(card.baseline, job.baseline)
    baseline = None
    if card.baseline is not None:
        baseline = as_targets(arrays['baseline'], 'the baseline', n_rows=len(features))
    odd = None if structures is None or not TARGETS[card.target].closed_shell else structures.has_odd_electrons
    results = predict_columns(model, domain, card.calibration, features, baseline, tuple(card.others))
    if odd is not None:
        # Data sets leave such rows out: no model of closed shells has seen one, whatever their features are.
        results['outside'] = results['outside'] | odd
    write_arrays(folder / RESULTS_FILE, results if baseline is None else results | {'baseline': baseline})
    return Report(status='ok', content={'n_rows': len(features)})


def check_baseline(learnt: Mapping[str, Any] | None, given: Mapping[str, Any] | None) -> None:
    """Check that a baseline is from the engine and protocol that a model corrects.

    :param learnt: source of the baseline that the model corrects; ``None``: it gives the target itself.
    :param given: source of the baseline at hand, if there is one. A model without baseline has no use for it.
    :raises ModelError: the model corrects a baseline that is not there, or is another one.
    """
    if learnt is None:
        return
    wanted = LabelSource.from_dict(learnt)
    if given is None:
        raise ModelError(
            f'the model corrects the values of {wanted}: label the structures with it, and give these labels as '
            'baseline'
        )
    found = LabelSource.from_dict(given)
    if not found.compatible(wanted):
        raise ModelError(
            f'the model corrects the values of {wanted} ({wanted.to_dict()}), the baseline is from {found} '
            f'({found.to_dict()}): its errors are others; label the structures with the engine of the model'
        )
