"""Δ-learning on real SIESTA gaps: R2 on flakes held out, of corrections to GFN1-xTB and of what needs no xTB.

One JSON line. The flakes are those of ``aiida-nanoml starter``, read from its archive. Every row is predicted by a
model that did not see it, in five folds, of which one is watched during training; mean and standard deviation are over
assignments to folds. Descriptors that learn keep their built-in parameters, which no SIESTA gap has entered.
"""

from __future__ import annotations

import argparse
import json
import warnings
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from aiida import load_profile
from aiida.orm import QueryBuilder
from aiida.storage.sqlite_zip.backend import SqliteZipBackend

from aiida_nanoml.actions.starter import ARCHIVE, LABELS
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines import get_engine
from aiida_nanoml.features import make_descriptor
from aiida_nanoml.learning.dataset import Dataset, positions_of
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.registry import make_model
from aiida_nanoml.learning.training import predict_held_out

FOLDS = 5
DESCRIPTORS: dict[str, dict[str, Any]] = {
    'quadruplets': {'unknown': 'drop'},
    'shells': {},
    'tight_binding': {'parameters': 'gfn1-xtb'},
}
KINDS = ('correction', 'forest', 'ridge')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--assignments', type=int, default=3, help='repetitions with other folds')
    assignments = parser.parse_args().assignments

    structures, gaps, source = starter_flakes()
    engine_class = get_engine('xtb')
    engine = engine_class(engine_class.parameters(protocol := engine_class.default_protocol()))
    baseline = np.array([engine.evaluate(structures[row]).gap_ev for row in range(len(structures))])
    held_out: dict[str, Any] = {'baseline': rounded([regression_metrics(gaps, baseline)])}
    for name, parameters in DESCRIPTORS.items():
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # classes left out are those of a few lone atoms
            descriptor = make_descriptor(name, **parameters)
            features = descriptor.fit_transform(structures)
        names = tuple(descriptor.get_feature_names_out())
        for cheap, kinds in ((baseline, KINDS), (None, KINDS[1:])):
            for kind in kinds:
                found = []
                for seed in range(assignments):
                    # The draw of the folds goes by the identities of the rows.
                    identities = np.array([f'{seed}:{value}' for value in structures.hashes.tolist()])
                    columns = structures.names, structures.families, np.full(len(gaps), '', dtype='<U10')
                    dataset = Dataset(features, gaps, identities, *columns, names, cheap)
                    predicted, _ = predict_held_out(lambda kind=kind: make_model(kind), dataset, FOLDS)
                    found.append(regression_metrics(gaps, predicted['value']))
                held_out[f'{name}, {kind}' + (' of the baseline' if cheap is not None else ', alone')] = rounded(found)
    result = {
        'benchmark': 'correction',
        'labels': str(source),
        'baseline': f'{engine.method} {engine_class.version()}, protocol {protocol}',
        'flakes': len(gaps),
        'folds': FOLDS,
        'assignments': assignments,
        'held_out': held_out,
    }
    print(json.dumps(result))


def starter_flakes() -> tuple[Any, Any, Any]:
    """Give the distinct flakes of the starter data, their gaps in eV, and what gave them."""
    with as_file(files('aiida_nanoml.starter') / ARCHIVE) as path:
        load_profile(SqliteZipBackend.create_profile(path))

        def one(kind: type, label: str) -> Any:
            return QueryBuilder().append(kind, filters={'label': label}).one()[0]

        structures = one(StructureSetData, LABELS['structures']).structures
        node = one(LabelSetData, LABELS['labels'])
        labels, source = node.labels, node.label_source
    first = np.sort(np.unique(structures.hashes, return_index=True)[1])
    chosen = structures.select(first)
    return chosen, labels.select(positions_of(chosen.hashes, labels.hashes)).energies['gap_ev'], source


def rounded(metrics: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Mean and standard deviation of R2 and of the MAE in meV."""
    r2, mae = np.array([found['r2'] for found in metrics]), np.array([found['mae'] for found in metrics]) * 1e3
    return {
        'r2': [round(float(r2.mean()), 4), round(float(r2.std()), 4)],
        'mae_mev': [round(float(mae.mean()), 1), round(float(mae.std()), 1)],
    }


if __name__ == '__main__':
    main()
