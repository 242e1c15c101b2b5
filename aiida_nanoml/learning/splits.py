"""Division of rows into training, validation and test parts without leakage."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.structures.elements import SYMBOLS

SPLITS = ('train', 'validation', 'test')

BY_STRUCTURE = 'structure'
"""Group of a split that keeps equal structures together, and nothing else."""

GROUPS: Mapping[str, str] = MappingProxyType(
    {BY_STRUCTURE: 'structures', 'alloy': 'alloys', 'composition': 'compositions'}
)
"""Groups that a split may keep together, with their plurals."""


def split_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the parameters of a split.

    :param given: some of ``validation`` and ``test`` (shares, 0.2 if absent), ``seed`` (0), ``group`` (key of
        :data:`GROUPS`: what stays together, ``'structure'``) and ``by_family`` (the same shares of every family; true
        for ``'structure'``, else false: the rows of an alloy are of several families).
    :returns: all of them.
    :raises DatasetError: an unknown parameter or group.
    """
    group = given.get('group', BY_STRUCTURE)
    if group not in GROUPS:
        raise DatasetError(f'a split has no group {group!r}; it keeps together one of {", ".join(GROUPS)}')
    wanted = {'validation': 0.2, 'test': 0.2, 'seed': 0, 'by_family': group == BY_STRUCTURE, 'group': group}
    unknown = sorted(set(given) - set(wanted))
    if unknown:
        raise DatasetError(f'a split has no parameter {", ".join(unknown)}; it has {", ".join(wanted)}')
    return wanted | dict(given)


def alloy_keys(names: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    """Return the group ``'alloy'`` of each row: its name, which all cells of an alloy share.

    :param names: (n,) names of the structures.
    :raises DatasetError: a row without name.
    """
    nameless = np.flatnonzero(names == '')
    if len(nameless):
        raise DatasetError(f'row {nameless[0]} has no name: to split by alloy, all cells of an alloy need its name')
    return names


def composition_keys(structures: StructureSet) -> npt.NDArray[np.str_]:
    """Return the group ``'composition'`` of each structure: its elements in the lowest whole proportions.

    :returns: (n,), for example ``'Al1 Fe3'`` for AlFe3 and Al2Fe6.
    """
    present, inverse = np.unique(structures.numbers, return_inverse=True)
    amounts = np.zeros((len(structures), len(present)), dtype=np.int64)
    np.add.at(amounts, (structures.rows, inverse), 1)
    amounts //= np.gcd.reduce(amounts, axis=1, keepdims=True)
    symbols = [SYMBOLS[number] for number in present.tolist()]
    return np.array(
        [
            ' '.join(f'{symbol}{amount}' for symbol, amount in zip(symbols, row, strict=True) if amount)
            for row in amounts.tolist()
        ]
    )


def split_rows(
    identities: npt.ArrayLike,
    validation: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    strata: npt.ArrayLike | None = None,
    called: str = GROUPS[BY_STRUCTURE],
) -> npt.NDArray[np.str_]:
    """Assign every row to one of :data:`SPLITS`.

    Rows of equal identity always fall in one part. Identities are drawn in the order of sha256(seed, identity): the
    result depends neither on the order of the rows nor on the version of NumPy.

    :param identities: (n,) content hash of the structure behind each row, or the group that it belongs to.
    :param validation: share of the rows for validation, at least 0; a share above 0 gets at least one identity.
    :param test: share of the rows for the test, at least 0; ``validation + test`` below 1.
    :param seed: integer.
    :param strata: (n,) group names, for example families: each of them is divided by the same shares.
    :param called: what the identities are, for messages.
    :returns: (n,) ``'<U10'`` names of parts.
    :raises DatasetError: shares out of range, a seed that is not an integer, too few distinct identities for the parts
        asked for, or one identity in two strata.
    """
    shares = {'validation': validation, 'test': test}
    _check_shares(shares)
    strata_in_order, inverse, counts = _draw(identities, seed, strata)
    part_of = np.full(len(counts), 'train', dtype='<U10')
    for stratum, order in strata_in_order.items():
        members = np.array(order)
        start = 0
        # A large identity that comes late must not take the last one from the parts that follow.
        kept = {'test': 1 + (validation > 0), 'validation': 1}
        enough = len(order) > sum(share > 0 for share in shares.values())
        for part in ('test', 'validation'):
            wanted = _quota(shares[part], int(counts[members].sum()))
            taken = 0
            while taken < wanted and start < len(order) - enough * kept[part]:
                part_of[order[start]] = part
                taken += int(counts[order[start]])
                start += 1
        present = set(part_of[members])
        missing = [p for p in SPLITS if p not in present and shares.get(p, 1.0) > 0]
        if missing:
            where = f'the stratum {stratum!r} has' if strata is not None else 'there are'
            raise DatasetError(
                f'{where} {len(members)} distinct {called}, too few: nothing is left for {" and ".join(missing)}. '
                f'Add {called} or lower the shares'
            )
    return part_of[inverse]


def fold_rows(
    identities: npt.ArrayLike,
    folds: int,
    seed: int = 0,
    strata: npt.ArrayLike | None = None,
    called: str = GROUPS[BY_STRUCTURE],
) -> npt.NDArray[np.int64]:
    """Assign every row to one of several folds of nearly equal size, for a cross-validation.

    As in :func:`split_rows`, rows of equal identity always fall in one fold, whatever their order.

    :param identities: (n,) content hash of the structure behind each row, or the group that it belongs to.
    :param folds: at least 2.
    :param seed: integer.
    :param strata: (n,) group names: each of them is spread over all folds.
    :param called: what the identities are, for messages.
    :returns: (n,) number of the fold, from 0.
    :raises DatasetError: fewer distinct identities than folds, a seed or a number of folds that is not an integer, or
        one identity in two strata.
    """
    if isinstance(folds, bool) or not isinstance(folds, int | np.integer) or folds < 2:
        raise DatasetError(f'the number of folds must be an integer of at least 2, got {folds!r}')
    strata_in_order, inverse, counts = _draw(identities, seed, strata)
    if len(counts) < folds:
        raise DatasetError(f'there are {len(counts)} distinct {called}, too few for {folds} folds')
    fold_of = np.empty(len(counts), dtype=np.int64)
    # One round over all strata, so that the folds stay equal when the strata are not multiples of them.
    fold_of[np.concatenate(list(strata_in_order.values()))] = np.arange(len(counts)) % folds
    return fold_of[inverse]


def check_leakage(identities: npt.ArrayLike, split: npt.ArrayLike, names: npt.ArrayLike | None = None) -> None:
    """Check that no structure is in two parts: a model would be evaluated on its training data.

    :param identities: (n,) content hash of the structure behind each row.
    :param split: (n,) part of each row; rows that are in none, ``''``, are not looked at.
    :param names: (n,) labels for people, for the message; default: the identities.
    :raises DatasetError: rows of equal identity in two parts.
    """
    rows, parts = _as_names(identities, 'identities'), _as_names(split, 'split')
    known = rows if names is None else _as_names(names, 'names')
    pairs = np.unique(np.stack([rows, parts])[:, parts != ''], axis=1)
    found, counts = np.unique(pairs[0], return_counts=True)
    leaked = found[counts > 1]
    if len(leaked):
        shown = ', '.join(str(known[rows == identity][0]) for identity in leaked[:3])
        raise DatasetError(
            f'{len(leaked)} structures are in more than one part of the split, the first are {shown}: errors on them '
            'say nothing about unseen structures. Split the rows again, which keeps equal structures together, or '
            'allow leakage'
        )


def _draw(
    identities: npt.ArrayLike, seed: int, strata: npt.ArrayLike | None
) -> tuple[dict[str, list[int]], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw the order of the distinct identities.

    :returns: numbers of the identities in the order drawn, by stratum; the number of the identity of each row; and how
        many rows each identity has.
    """
    rows = _as_names(identities, 'identities')
    groups = np.full(len(rows), '') if strata is None else _as_names(strata, 'strata')
    if len(groups) != len(rows):
        raise DatasetError(f'strata has {len(groups)} rows, identities has {len(rows)}')
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise DatasetError(f'the seed of a split must be an integer, got {seed!r}')
    names, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    stratum_of = np.empty(len(names), dtype=groups.dtype)
    stratum_of[inverse] = groups
    torn = np.flatnonzero(stratum_of[inverse] != groups)
    if len(torn):
        raise DatasetError(
            f'row {torn[0]}: the identity {str(rows[torn[0]])!r} belongs to two strata: without strata '
            '(`by_family`) it can stay whole'
        )
    keys = [hashlib.sha256(f'{int(seed)}:{name}'.encode()).digest() for name in names]
    drawn = {
        str(stratum): sorted(np.flatnonzero(stratum_of == stratum).tolist(), key=keys.__getitem__)
        for stratum in np.unique(stratum_of)
    }
    return drawn, inverse, counts


def _quota(share: float, n_rows: int) -> int:
    return 0 if share == 0 else max(1, round(share * n_rows))


def _check_shares(shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not math.isfinite(share):
            raise DatasetError(f'the {name} share must be a number, got {share!r}')
        if not 0 <= share < 1:
            raise DatasetError(f'the {name} share must be at least 0 and below 1, got {share}')
    if sum(shares.values()) >= 1:
        raise DatasetError(
            f'the validation and test shares sum to {sum(shares.values()):g}: nothing is left to train on'
        )


def _as_names(values: npt.ArrayLike, name: str) -> npt.NDArray[np.str_]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind != 'U' or not len(array):
        raise DatasetError(
            f'{name} must be a one-dimensional array of strings, at least one; got {array.dtype} {array.shape}'
        )
    return array
