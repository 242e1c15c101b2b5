"""Which structures to label next: acquisition functions of pool-based active learning.

Every choice is the same on any machine and for any order of the rows: ties, and random choices, are decided by the
content hashes of the structures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.arrays import Floats, as_features

Rows = npt.NDArray[np.int64]

STRATEGIES: Mapping[str, str] = MappingProxyType(
    {
        'std': 'the largest predicted standard deviation',
        'distance': 'far from the training set and from each other',
        'mixed': 'large standard deviation, far from the training set and from each other',
        'random': 'at random',
    }
)
"""One line of description by name."""

SHORTLIST = 3
"""Multiple of the wanted rows from which distant ones are picked."""


def choose_rows(
    strategy: str,
    count: int,
    hashes: npt.NDArray[np.str_],
    std: npt.ArrayLike | None = None,
    distance: npt.ArrayLike | None = None,
    describe: Callable[[Rows], Floats] | None = None,
    known: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Rows:
    """Choose the rows of a pool that are to be labelled next.

    ``std`` is uncertainty sampling (Lewis and Gale, SIGIR 1994). A batch of it may hold the same structure many times
    over, nearly: ``mixed`` takes the :data:`SHORTLIST` × ``count`` rows of largest standard deviation, and of these
    greedily the one that is farthest from the training rows and from those taken before (Sener and Savarese, ICLR
    2018, algorithm 1). ``distance`` does the same with the rows of largest distance.

    :param strategy: key of :data:`STRATEGIES`.
    :param count: how many rows, at least 1; where the pool is smaller, all of it.
    :param hashes: (n,) content hashes of the pool, all different.
    :param std: (n,) predicted standard deviations (eV), of an ensemble its spread; for ``std`` and ``mixed``.
    :param distance: (n,) distances to the training set, without unit; for ``distance``.
    :param describe: gives the features (m, F) of some rows of the pool; for ``distance`` and ``mixed``, and called with
        the short list only, since descriptors may be costly.
    :param known: (k, F) features of the training rows; for ``distance`` and ``mixed``.
    :param seed: of ``random``.
    :returns: (min(count, n),) rows in the order of the choice.
    :raises DatasetError: unknown strategy, a count below 1, an empty pool, equal hashes, or a score that is missing or
        not finite.
    """
    if strategy not in STRATEGIES:
        raise DatasetError(f'there is no strategy {strategy!r}; there are: {", ".join(STRATEGIES)}')
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise DatasetError(f'the number of rows to choose must be an integer of at least 1, got {count!r}')
    if not len(hashes) or len(np.unique(hashes)) != len(hashes):
        raise DatasetError('the pool must have at least one row, and each structure only once')
    if strategy == 'random':
        return draw_rows(hashes, count, seed)
    by_distance = strategy == 'distance'
    score = _as_score(distance if by_distance else std, 'distance' if by_distance else 'std', strategy, len(hashes))
    order = np.lexsort((hashes, -score)).astype(np.int64)
    if strategy == 'std':
        return order[:count]
    if describe is None or known is None:
        raise DatasetError(f'the strategy {strategy} needs the features of the pool and of the training rows')
    listed = order[: SHORTLIST * count]
    return listed[farthest_rows(describe(listed), known, count)]


def draw_rows(hashes: npt.NDArray[np.str_], count: int, seed: int) -> Rows:
    """Draw rows at random, in the order of sha256(seed, hash): their order in the pool does not matter.

    :param hashes: (n,) content hashes.
    :param count: how many; where there are fewer, all.
    :param seed: integer.
    :returns: (min(count, n),) rows in the order drawn.
    :raises DatasetError: a seed that is not an integer.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise DatasetError(f'the seed of a choice must be an integer, got {seed!r}')
    keys = [hashlib.sha256(f'choice:{int(seed)}:{name}'.encode()).digest() for name in hashes.tolist()]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__)[:count], dtype=np.int64)


def farthest_rows(features: npt.ArrayLike, known: npt.ArrayLike, count: int) -> Rows:
    """Pick rows greedily, each the farthest from all that are known or picked (Gonzalez, 1985).

    Columns are divided by their standard deviation over the known rows, or over all rows where they do not vary there.

    :param features: (n, F) features of the candidates.
    :param known: (k, F) features of the known rows.
    :param count: how many; where there are fewer candidates, all.
    :returns: (min(count, n),) rows in the order of the choice; of equally far ones the first.
    :raises DatasetError: shapes that do not fit, NaN or infinity.
    """
    candidates, old = as_features(features, 'features'), as_features(known, 'known features')
    if candidates.shape[1] != old.shape[1]:
        raise DatasetError(f'the candidates have {candidates.shape[1]} features, the known rows {old.shape[1]}')
    scale = np.where(np.ptp(old, axis=0) > 0, old.std(axis=0), np.concatenate([old, candidates]).std(axis=0))
    scale[scale == 0] = 1.0
    candidates, old = candidates / scale, old / scale
    gaps = np.full(len(candidates), np.inf)
    for row in old:
        gaps = np.minimum(gaps, np.linalg.norm(candidates - row, axis=1))
    picked: list[int] = []
    for _ in range(min(count, len(candidates))):
        picked.append(int(np.argmax(gaps)))
        gaps = np.minimum(gaps, np.linalg.norm(candidates - candidates[picked[-1]], axis=1))
        gaps[picked] = -np.inf
    return np.array(picked, dtype=np.int64)


def _as_score(values: npt.ArrayLike | None, name: str, strategy: str, n_rows: int) -> Floats:
    score = np.full(n_rows, np.nan) if values is None else np.asarray(values, dtype=np.float64)
    if score.shape != (n_rows,):
        raise DatasetError(f'{name} has shape {score.shape}, expected ({n_rows},)')
    if not np.isfinite(score).all():
        raise DatasetError(
            f'the strategy {strategy} needs the {name} of every row of the pool, which this model does not give: '
            'choose another kind of model, or the strategy distance'
        )
    return score
