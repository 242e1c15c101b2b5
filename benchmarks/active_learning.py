"""Labels that each way to choose them needs for the error of a random choice; prints one line of JSON.

All gaps are known, so that nothing is labelled: the rounds of ``nanoml.active`` are played with the same acquisition
functions. Data: ``flakes_xtb.npz``, GFN1-xTB gaps of flakes C42H18 (h) and C54H20 (s); the pool are the training rows
of ``flakes_xtb.split``, the error is that of its validation and test rows. Each seed begins with other flakes.

``labels`` is where the mean error over the seeds reaches that of ``--labels`` random flakes, None where it does not
within as many; ``gain`` is the share of labels saved. ``mae_mev`` are the mean errors and the standard deviation over
the seeds at the last round.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import numpy as np
import numpy.typing as npt
from flakes_xtb import load, split

from aiida_nanoml.features import make_descriptor
from aiida_nanoml.learning.acquisition import STRATEGIES, choose_rows, draw_rows
from aiida_nanoml.learning.distance import TrainingDomain
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.registry import make_model

Floats = npt.NDArray[np.float64]


def rounds(
    strategy: str, X: Floats, y: Floats, hashes: npt.NDArray[np.str_], held_out: npt.NDArray[np.bool_],
    options: argparse.Namespace, seed: int,
) -> Floats:  # fmt: skip
    """Play the rounds of one strategy and give the error after each, eV."""
    pool = np.flatnonzero(~held_out)
    labelled = pool[draw_rows(hashes[pool], options.initial, seed)]
    errors = []
    while True:
        model = make_model(options.model, seed=seed)
        model.fit(X[labelled], y[labelled])
        errors.append(regression_metrics(y[held_out], model.predict(X[held_out]))['mae'])
        if len(labelled) >= options.labels:
            return np.array(errors)
        left = np.setdiff1d(pool, labelled)
        _, spread = model.predict(X[left], return_std=True)
        distance = TrainingDomain().fit(X[labelled]).distance(X[left]) if strategy == 'distance' else None
        features = X[left]
        chosen = choose_rows(
            strategy, options.per_round, hashes[left], spread, distance, lambda rows, of=features: of[rows],
            X[labelled], seed,
        )  # fmt: skip
        labelled = np.concatenate([labelled, left[chosen]])


def labels_needed(counts: npt.NDArray[np.int64], errors: Floats, target: float) -> int | None:
    """Interpolate where a curve of errors first reaches a target."""
    reached = np.flatnonzero(errors <= target)
    if not len(reached):
        return None
    last = int(reached[0])
    if last == 0:
        return int(counts[0])
    share = (errors[last - 1] - target) / (errors[last - 1] - errors[last])
    return round(float(counts[last - 1] + share * (counts[last] - counts[last - 1])))


def main() -> None:
    """Play all strategies and print one JSON line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--labels', type=int, default=500)
    parser.add_argument('--initial', type=int, default=50)
    parser.add_argument('--per-round', type=int, default=50)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--model', default='forest')
    parser.add_argument('--descriptor', default='shells')
    options = parser.parse_args()
    structures, y, source = load()
    held_out = split(structures) != 'train'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        parameters = {'unknown': 'drop'} if options.descriptor == 'quadruplets' else {}
        X = make_descriptor(options.descriptor, **parameters).transform(structures)
    hashes = structures.hashes
    began = time.perf_counter()
    curves = {
        strategy: np.array([rounds(strategy, X, y, hashes, held_out, options, seed) for seed in range(options.seeds)])
        for strategy in STRATEGIES
    }
    counts = options.initial + options.per_round * np.arange(curves['random'].shape[1])
    target = float(curves['random'].mean(axis=0)[-1])
    found = {}
    for strategy, errors in curves.items():
        needed = labels_needed(counts, errors.mean(axis=0), target)
        last = 1e3 * errors[:, -1]
        found[strategy] = {
            'labels': needed,
            'gain': None if needed is None else round(1 - needed / int(counts[-1]), 2),
            'mae_mev': [round(float(last.mean()), 1), round(float(last.std(ddof=1)), 1)],
        }
    print(
        json.dumps(
            {
                'benchmark': 'active_learning',
                'gaps': str(source),
                'pool': int((~held_out).sum()),
                'held_out': int(held_out.sum()),
                'descriptor': options.descriptor,
                'model': options.model,
                'initial': options.initial,
                'per_round': options.per_round,
                'seeds': options.seeds,
                'target_mae_mev': round(1e3 * target, 1),
                'strategies': found,
                'seconds': round(time.perf_counter() - began, 1),
            }
        )
    )


if __name__ == '__main__':
    main()
