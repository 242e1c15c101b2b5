"""R2 of gap models on descriptors that know physics, beside the 26 quadruplet inputs; prints one line of JSON.

Data: ``flakes_xtb.npz``, GFN1-xTB gaps of 3,500 flakes C42H18 (h) and as many C54H20 (s), divided by
``flakes_xtb.split``. Every descriptor learns from training rows only; a model is trained on both families together, and
on one to be tested on the other (``h to s``, ``s to h``). With ``--large N`` the model of both families is also tested
on N flakes each of C114H30 and C132H34, which are labelled first: some 4 and 9 s of processor time a flake.

The cost of a row is measured beside that of its label, on the same flakes, with one thread.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from flakes_xtb import load, split
from threadpoolctl import threadpool_limits

from aiida_nanoml.engines import get_engine
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.features import make_descriptor
from aiida_nanoml.features.registry import freeze, is_electronic
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.registry import make_model
from aiida_nanoml.structures import FlakeParameters, StructureSet, generate_flakes

DESCRIPTORS: dict[str, list[dict[str, Any]]] = {
    '26 quadruplets': [{'name': 'quadruplets', 'params': {'unknown': 'drop'}}],
    'shells': [{'name': 'shells'}],
    'tight_binding': [{'name': 'tight_binding'}],
    'tight_binding+shells': [{'name': 'tight_binding'}, {'name': 'shells'}],
}
LARGE = {'h C114H30': ('h', 3), 's C132H34': ('s', (11, 12))}
N_TIMED = 10
Floats = npt.NDArray[np.float64]


def scores(y: Floats, predicted: Floats, families: npt.NDArray[np.str_]) -> dict[str, dict[str, float]]:
    """Give R2 and MAE (meV) of each family."""
    found = {}
    for family in np.unique(families).tolist():
        rows = families == family
        metrics = regression_metrics(y[rows], predicted[rows])
        found[family] = {'r2': round(metrics['r2'], 3), 'mae_mev': round(1e3 * metrics['mae'], 1)}
    return found


def label_large(source: LabelSource, count: int) -> tuple[StructureSet, Floats]:
    """Generate and label larger flakes; their families are the keys of :data:`LARGE`."""
    engine_class = get_engine(source.engine)
    engine = engine_class(engine_class.parameters(source.protocol, source.parameters))
    parts, gaps = [], []
    for name, (family, size) in LARGE.items():
        flakes = generate_flakes(FlakeParameters(family, size, count, seed=2026))
        parts.append(StructureSet.from_arrays({**flakes.to_arrays(), 'families': np.array([name] * count)}))
        gaps.extend(engine.evaluate(flake).gap_ev for flake in flakes)
    return StructureSet.concatenate(parts), np.array(gaps)


def milliseconds_per_label(source: LabelSource, structures: StructureSet) -> float:
    """Time the engine on some flakes."""
    engine_class = get_engine(source.engine)
    engine = engine_class(engine_class.parameters(source.protocol, source.parameters))
    engine.evaluate(structures[0])
    began = time.perf_counter()
    for flake in structures:
        engine.evaluate(flake)
    return 1e3 * (time.perf_counter() - began) / len(structures)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--kinds', nargs='+', default=['fast', 'ridge', 'forest'], help='kinds of models')
    parser.add_argument('--large', type=int, default=0, help='flakes of each larger size to label and test')
    arguments = parser.parse_args()
    warnings.simplefilter('ignore')

    structures, gaps, source = load()
    parts, families = split(structures), structures.families
    train, test = parts == 'train', parts == 'test'
    timed = np.concatenate([np.flatnonzero(test & (families == family))[: N_TIMED // 2] for family in ('h', 's')])
    timed_flakes = structures.select(timed)
    with threadpool_limits(limits=1):
        label_ms = milliseconds_per_label(source, timed_flakes)
    large = label_large(source, arguments.large) if arguments.large else None

    def fitted(parts_of: list[dict[str, Any]], rows: npt.NDArray[np.bool_]) -> tuple[list[Any], float]:
        began = time.perf_counter()
        made = [
            freeze(make_descriptor(part['name'], **part.get('params', {})), structures.select(rows), gaps[rows])
            for part in parts_of
        ]
        return made, time.perf_counter() - began

    def described(made: list[Any], chosen: StructureSet) -> Floats:
        return np.concatenate([part.transform(chosen) for part in made], axis=1)

    def trained(kind: str, X: Floats, among: npt.NDArray[np.bool_]) -> Any:
        fit, watch = among & train, among & (parts == 'validation')
        return make_model(kind).fit(X[fit], gaps[fit], validation_data=(X[watch], gaps[watch]))

    results = {}
    everything = np.ones(len(structures), dtype=bool)
    for name, parts_of in DESCRIPTORS.items():
        made, fit_s = fitted(parts_of, train)
        with threadpool_limits(limits=1):
            repeated = timed_flakes.select(np.tile(np.arange(len(timed_flakes)), 20))
            began = time.perf_counter()
            described(made, repeated)
            row_ms = 1e3 * (time.perf_counter() - began) / len(repeated)
        X = described(made, structures)
        result: dict[str, Any] = {
            'structure_only': not any(map(is_electronic, made)),
            'n_features': X.shape[1],
            'fit_s': round(fit_s, 1),
            'ms_per_flake': round(row_ms, 2),
            'times_cheaper_than_label': round(label_ms / row_ms),
        }
        if parts_of[0]['name'] == 'tight_binding':
            result['its column gap'] = scores(gaps[test], X[test, 0], families[test])
        for kind in arguments.kinds:
            model = trained(kind, X, everything)
            result[kind] = scores(gaps[test], model.predict(X[test]), families[test])
            if large is not None:
                result[kind] |= scores(large[1], model.predict(described(made, large[0])), large[0].families)
        for home, away in (('h', 's'), ('s', 'h')):
            alone, _ = fitted(parts_of, train & (families == home))
            X_alone = described(alone, structures)
            rows = test & (families == away)
            for kind in arguments.kinds:
                predicted = trained(kind, X_alone, families == home).predict(X_alone[rows])
                result[kind][f'{home} to {away}'] = scores(gaps[rows], predicted, families[rows])[away]
        results[name] = result
    print(
        json.dumps(
            {
                'benchmark': 'physics_descriptors',
                'labels': str(source),
                'rows': {part: int((parts == part).sum()) for part in ('train', 'validation', 'test')},
                'large_rows': 0 if large is None else len(large[0]),
                'label_ms': round(label_ms, 1),
                'descriptors': results,
            }
        )
    )


if __name__ == '__main__':
    main()
