"""Two kinds of model and a study, as another package would provide them: the smallest that keep the contracts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.arrays import as_features, as_target_columns
from aiida_nanoml.learning.estimators import TargetRegressor
from aiida_nanoml.learning.model import Model
from aiida_nanoml.learning.registry import ModelKind
from aiida_nanoml.learning.studies.base import Study, StudySettings
from aiida_nanoml.parameters import Count, check_parameters


class NeighboursRegressor(TargetRegressor):
    """Mean of the nearest training rows, by scikit-learn."""

    def __init__(self, n_neighbours: Count = 3) -> None:
        self.n_neighbours = n_neighbours

    def _pipeline(self) -> Pipeline:
        return make_pipeline(StandardScaler(), KNeighborsRegressor(self.n_neighbours, algorithm='brute'))


class ConstantModel(Model):
    """Mean of the targets, without any library: it writes and reads its own file."""

    def __init__(self, decimals: Count = 6) -> None:
        self.decimals = decimals

    def fit(self, X, y, validation_data=None, progress=None):
        check_parameters(type(self), self.get_params(deep=False))
        features = as_features(X)
        targets = as_target_columns(y, n_rows=len(features))
        self.means_ = targets.mean(axis=0).round(self.decimals)
        self.history_ = {}
        self.n_features_in_, self.n_targets_ = features.shape[1], targets.shape[1]
        return self

    def check_targets(self, n_targets):
        """Any number will do."""

    def fitted_state(self):
        return {'means': self.means_}

    def save(self, folder: Path) -> None:
        (folder / 'means.json').write_text(json.dumps(self.means_.tolist()))

    def load(self, folder: Path) -> None:
        try:
            means = np.array(json.loads((folder / 'means.json').read_text()), dtype=float)
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f'{folder / "means.json"} is not readable: {error}') from error
        if means.shape != (self.n_targets_,):
            raise ModelError(f'{folder / "means.json"} has {means.shape} means')
        self.means_, self.history_ = means, {}

    def _predict_targets(self, features):
        return np.tile(self.means_, (len(features), 1))


class SeedStudy(Study):
    """How much a model depends on its seed: one point, repeated."""

    name = 'seeds'
    title = 'Seeds'
    settings_model = StudySettings
    descriptor: ClassVar[dict[str, Any]] = {'name': 'quadruplets', 'params': {}}

    @property
    def keys(self):
        return ('all',)

    def points(self, dataset):
        return [{'all': 1}]

    def train(self, dataset, point, seed, progress):
        from aiida_nanoml.learning.training import fit_model

        return dataset, fit_model(self.model.make(seed), dataset, progress)

    def figure(self, table, source, *, width='double', ax=None):
        from aiida_nanoml.learning.plot_style import drawing

        with drawing(ax, width, 2.0) as canvas:
            canvas.write_title(f'{len(table["seed"])} rows, {source}')
        return canvas.panels[0]


NEIGHBOURS = ModelKind(NeighboursRegressor, 'mean of the nearest training rows')
CONSTANT = ModelKind(ConstantModel, 'mean of the training rows', {'decimals': 3})
