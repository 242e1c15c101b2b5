"""The files between a calculation and the worker, both ways.

A job folder holds ``job.json`` (one of the job models below) and its input arrays; the worker leaves ``results.json``
(a :class:`Report`) and, for results that are arrays, ``results.npz``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.targets import Target

JOB_FILE = 'job.json'
REPORT_FILE = 'results.json'
RESULTS_FILE = 'results.npz'
OUTPUT_FILE = 'nanoml.out'
ERROR_FILE = 'nanoml.err'
JOURNAL_FILE = 'journal.jsonl'
LOSSES_FILE = 'losses.jsonl'
"""Losses of a running training, one JSON object for each epoch."""

STRUCTURES_FILE = 'structures.npz'
DATASET_FILE = 'dataset.npz'
POTENTIALS_FILE = 'potentials.npz'
BASELINE_FILE = 'baseline.npz'
DENSITIES_FOLDER = 'densities'
TEST_STRUCTURES_FILE = 'test_structures.npz'
TEST_DENSITIES_FOLDER = 'test_densities'
PREDICTED_FOLDER = 'predicted'
PREDICTED_STRUCTURES_FILE = 'predicted_structures.npz'
FIGURES_FOLDER = 'figures'
MODEL_FOLDER = 'model'
PARITY_FILES = '*_prediction.png'
LEARNING_CURVE_FILE = 'learning_curve.png'
CALIBRATION_FILE = 'calibration.png'


def parity_file(target: Target) -> str:
    """Return the name of the parity plot of a target, ``Energy_gap_prediction.png`` for the gap."""
    return PARITY_FILES.replace('*', target.title.replace(' ', '_'))


def density_file(row: int) -> str:
    """Return the name of the file of the density of one structure, in a job folder or a node."""
    return f'{row:05d}.npz'


class _Schema(BaseModel):
    model_config = ConfigDict(extra='forbid', protected_namespaces=())


class LabelJob(_Schema):
    """Label the structures of ``structures.npz``."""

    task: Literal['label'] = 'label'
    engine: str = Field(description='registered name of the engine')
    protocol: str = Field(description='name of the protocol that the parameters were derived from')
    parameters: dict[str, Any] = Field(description='parameters of the engine')
    time_limit_s: float = Field(gt=0, description='wall time that one structure may take')
    runtime: dict[str, Any] = Field(default_factory=dict, description='what the engine finds on this machine')
    densities: bool = Field(default=False, description='keep the density of each structure in ``densities/``')


class TrainJob(_Schema):
    """Train a model on ``dataset.npz``."""

    task: Literal['train'] = 'train'
    kind: str = Field(description='kind of model')
    hyperparameters: dict[str, Any] = Field(description='what differs from the kind')
    feature_names: list[str]
    descriptor: dict[str, Any] = Field(description='identity of the descriptor')
    labels: dict[str, Any] = Field(description='engine, version, protocol and parameters of the target')
    target: str = Field(default=GAP, description='what the data set is about; others are columns of it')
    baseline: dict[str, Any] | None = Field(
        default=None, description='engine, version, protocol and parameters of the baseline; None: learn without'
    )
    folds: int | None = Field(default=None, ge=3, description='folds of a cross-validation beside the training')
    allow_leakage: bool = Field(default=False, description='accept structures that are in two parts of the split')


class PredictJob(_Schema):
    """Apply the model in ``model/`` to ``structures.npz`` or to the features of ``dataset.npz``."""

    task: Literal['predict'] = 'predict'
    descriptor: dict[str, Any] | None = Field(
        default=None, description='identity of the descriptor of the given features; None: describe the structures'
    )
    baseline: dict[str, Any] | None = Field(
        default=None, description='engine, version, protocol and parameters of the given baseline, if there is one'
    )


class StudyJob(_Schema):
    """Evaluate the points of a study on ``dataset.npz``."""

    task: Literal['study'] = 'study'
    study: str = Field(description='registered name of the study')
    settings: dict[str, Any] = Field(description='what differs from the defaults of the study')
    kind: str = Field(description='kind of model')
    hyperparameters: dict[str, Any] = Field(description='what differs from the kind')
    seed: int = Field(ge=0, description='seed of the models')
    feature_names: list[str]
    target: str = Field(default=GAP, description='what the data set is about; others are columns of it')
    allow_leakage: bool = Field(default=False, description='accept structures that are in two parts of the split')


class RmatrixJob(_Schema):
    """Compute the transmissions of the potentials of ``potentials.npz``."""

    task: Literal['rmatrix'] = 'rmatrix'
    settings: dict[str, Any] = Field(description='energies, basis and correction')


class DensityTrainJob(_Schema):
    """Train a density network on the densities of ``densities/``, whose structures are in ``structures.npz``."""

    task: Literal['density_train'] = 'density_train'
    settings: dict[str, Any] = Field(description='what differs from the defaults of the network')
    labels: dict[str, Any] = Field(description='engine, version, protocol and parameters of the densities')
    tested: bool = Field(default=False, description='whether densities to test on are there as well')


class DensityPredictJob(_Schema):
    """Apply the density network in ``model/`` to ``structures.npz``."""

    task: Literal['density_predict'] = 'density_predict'
    known: bool = Field(default=False, description='whether the densities are there as well, to judge by')
    spacing_ang: float | None = Field(default=None, gt=0, description='mesh spacing; None: of what was learnt from')
    vacuum_ang: float | None = Field(default=None, gt=0, description='between images; None: as in what was learnt from')


Job = LabelJob | TrainJob | PredictJob | StudyJob | RmatrixJob | DensityTrainJob | DensityPredictJob


class Report(_Schema):
    """How a job went."""

    status: Literal['ok', 'interrupted', 'error']
    worker_version: str = Field(default='', description='filled by the command')
    wall_s: float = Field(default=0.0, description='filled by the command')
    code: str = Field(default='', description='short identifier of the error')
    message: str = Field(default='', description='one sentence about the error')
    content: dict[str, Any] = Field(default_factory=dict, description='results that are no arrays')
