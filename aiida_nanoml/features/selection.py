"""Selectors of features, and their registry: which columns are worth keeping, by their training rows.

All selectors are feature selectors of scikit-learn, with one more argument of ``fit``: the names of the columns.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.parameters import Count, Flag, Natural, NotNegative, Seed, check_parameters
from aiida_nanoml.plugins import Registry

Share = Annotated[float, Field(strict=True, ge=0.5, le=1)]

_RADIUS = re.compile(r'k(\d+):')
_NEIGHBOURS = 3
"""Nearest neighbours in the estimate of the mutual information: the default of scikit-learn."""


def _check_selector(name: str, found: Any) -> str | None:
    """Return what keeps a loaded object from being a selector, or None."""
    missing = [method for method in ('fit', 'get_support') if not hasattr(found, method)]
    if not isinstance(found, type) or missing:
        return f'is not a selector: a class with {" and ".join(missing or ["a constructor"])} is needed'
    return None


SELECTORS: Registry[Any] = Registry('aiida_nanoml.selectors', 'selector', DatasetError, _check_selector)
"""The selectors, each a class that a package registers in the entry-point group ``aiida_nanoml.selectors``.

A selector has explicit constructor arguments, ``fit(X, y, feature_names=...)`` on the training rows, and
``get_support()``.
"""


def selector_names() -> list[str]:
    """Return the names of all registered selectors, in alphabetical order."""
    return SELECTORS.names()


def make_selector(name: str, **params: Any) -> Any:
    """Make a selector.

    :param name: one of :func:`selector_names`.
    :param params: arguments of its constructor.
    :raises DatasetError: if there is no such selector, it cannot be loaded, or a parameter is unknown or wrong.
    """
    kind = SELECTORS.load(name)
    check_parameters(kind, params, what='parameter', error=DatasetError)
    return kind(**params)


class Selector(SelectorMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of selectors: one of them is its parameters and :meth:`select_columns`."""

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, feature_names: Sequence[str] | None = None) -> Self:
        """Find the columns to keep.

        :param X: shape (n, F), features of the training rows.
        :param y: shape (n,), their targets (for the gap: eV); only the mutual information needs them.
        :param feature_names: F names, for messages, for radii and for draws; default: ``x0``, ``x1`` and so on.
        :raises DatasetError: no rows, a value that is not finite, a parameter out of range, targets that the selector
            needs and that are missing or constant, or no column that is left.
        """
        check_parameters(type(self), self.get_params(deep=False), what='parameter', error=DatasetError)
        columns = np.asarray(X, dtype=np.float64)
        if columns.ndim != 2 or 0 in columns.shape:
            raise DatasetError(f'a selection needs rows and columns, got an array of shape {columns.shape}')
        names = [f'x{column}' for column in range(columns.shape[1])] if feature_names is None else list(feature_names)
        if len(names) != columns.shape[1]:
            raise DatasetError(f'{columns.shape[1]} feature columns but {len(names)} feature names')
        bad = np.argwhere(~np.isfinite(columns))
        if len(bad):
            raise DatasetError(
                f'row {bad[0][0]}: feature {names[bad[0][1]]!r} is not a finite number: remove or mend the row'
            )
        self.n_features_in_ = columns.shape[1]
        self.support_ = self.select_columns(columns, y, names)
        return self

    def select_columns(self, X: NDArray[np.float64], y: ArrayLike | None, names: list[str]) -> NDArray[np.bool_]:
        """Choose the columns to keep; parameters and features have been checked.

        :param X: shape (n, F), finite.
        :param y: shape (n,), not checked.
        :param names: F names.
        :returns: (F,) whether a column is kept; at least one is.
        :raises DatasetError: the targets or the names cannot be used, or no column is left.
        """
        raise NotImplementedError

    def _get_support_mask(self) -> NDArray[np.bool_]:
        return self.support_


class VarianceSelector(Selector):
    """Selector VT: keep the columns whose variance is above p (1 - p).

    A binary column stays if it has the same value in less than a share p of the rows. Columns of other scales, for
    example fractions, are measured with the same threshold.

    :param p: from 0.5 to 1. 1 removes constant columns only.

    Attributes:
        ``variances_``: (F,) variance of each column, set by ``fit``.

    >>> X = [[0, 0], [0, 1], [0, 0], [0, 1]]
    >>> VarianceSelector().fit(X).get_support().tolist()
    [False, True]
    """

    def __init__(self, p: Share = 0.9) -> None:
        self.p = p

    def select_columns(self, X: NDArray[np.float64], y: ArrayLike | None, names: list[str]) -> NDArray[np.bool_]:
        return _above_variance(self, X, names, self.p)


class MutualInformationSelector(Selector):
    """Selector MIT: keep the columns whose mutual information with the target is above a threshold.

    The estimate is the one of scikit-learn, with three nearest neighbours (Kraskov, Stögbauer and Grassberger, Phys.
    Rev. E 69, 066138 (2004); Ross, PLoS ONE 9, e87357 (2014)); columns of whole numbers are discrete.

    :param threshold: at least 0; normalised: below 1; raw: in nats.
    :param normalised: divide by the largest mutual information of a column, so that the best column has 1.
    :param seed: random seed of the noise that the estimate adds to continuous columns, to separate equal values.

    Attributes:
        ``information_``: (F,) mutual information of each column, set by ``fit``.

    >>> X = [[row % 2, row / 3] for row in range(20)]
    >>> MutualInformationSelector(threshold=0.5).fit(X, list(range(20))).get_support().tolist()
    [False, True]
    """

    def __init__(self, threshold: NotNegative = 0.05, normalised: Flag = True, seed: Seed = 0) -> None:
        self.threshold = threshold
        self.normalised = normalised
        self.seed = seed

    def select_columns(self, X: NDArray[np.float64], y: ArrayLike | None, names: list[str]) -> NDArray[np.bool_]:
        return _above_information(self, X, y, names, self.threshold, self.normalised, self.seed)


class VarianceThenInformationSelector(Selector):
    """Selector VT_MIT: first VT, then MIT on the columns that are left.

    :param p: of :class:`VarianceSelector`.
    :param threshold: of :class:`MutualInformationSelector`.
    :param normalised: of :class:`MutualInformationSelector`; the largest value is that of a column left by VT.
    :param seed: of :class:`MutualInformationSelector`.

    Attributes:
        ``variances_``: (F,) variance of each column, set by ``fit``.
        ``information_``: mutual information of each column that VT left, set by ``fit``.

    >>> X = [[row % 2, row / 3, 0] for row in range(20)]
    >>> selector = VarianceThenInformationSelector(threshold=0.5).fit(X, list(range(20)))
    >>> selector.get_support().tolist()
    [False, True, False]
    """

    def __init__(self, p: Share = 0.9, threshold: NotNegative = 0.05, normalised: Flag = True, seed: Seed = 0) -> None:
        self.p = p
        self.threshold = threshold
        self.normalised = normalised
        self.seed = seed

    def select_columns(self, X: NDArray[np.float64], y: ArrayLike | None, names: list[str]) -> NDArray[np.bool_]:
        support = _above_variance(self, X, names, self.p)
        left = [name for name, kept in zip(names, support, strict=True) if kept]
        support[support] = _above_information(self, X[:, support], y, left, self.threshold, self.normalised, self.seed)
        return support


class RadiusSelector(Selector):
    """Selector RCR: take clusters by growing radius, those of one radius in the order of the columns.

    The name of a column states its radius, for example ``k3:`` for 3 bond lengths; the fractions of elements,
    ``fraction_H`` and so on, have the radius 0. Targets are not used.

    :param n_features: number of columns to keep.
    :param max_radius: keep all columns up to this radius; give this or ``n_features``.

    >>> names = ['k2:02:C|C3', 'fraction_C', 'k1:01:C|C3']
    >>> RadiusSelector(n_features=2).fit([[1, 2, 3]], feature_names=names).get_support().tolist()
    [False, True, True]
    """

    def __init__(self, n_features: Count | None = None, max_radius: Natural | None = None) -> None:
        self.n_features = n_features
        self.max_radius = max_radius

    def select_columns(self, X: NDArray[np.float64], y: ArrayLike | None, names: list[str]) -> NDArray[np.bool_]:
        radii = np.array([_radius(name) for name in names])
        if (self.n_features is None) == (self.max_radius is None):
            raise DatasetError('rcr takes either n_features or max_radius')
        if self.n_features is None:
            support = radii <= self.max_radius
            if not support.any():
                raise DatasetError(
                    f'no column has a radius up to {self.max_radius}: the smallest is {radii.min()}; raise max_radius'
                )
            return support
        _check_available(self.n_features, len(names))
        support = np.zeros(len(names), dtype=bool)
        support[np.argsort(radii, kind='stable')[: self.n_features]] = True
        return support


class RandomSelector(Selector):
    """Selector that chooses columns at random, the baseline of all others.

    Columns are drawn in the order of sha256(seed, name): with the same seed, a larger choice holds the smaller one,
    and the order of the columns does not matter.

    :param n_features: number of columns to keep.
    :param seed: random seed.

    >>> RandomSelector(n_features=2, seed=1).fit([[1, 2, 3]]).transform([[1, 2, 3]]).shape
    (1, 2)
    """

    def __init__(self, n_features: Count = 1, seed: Natural = 0) -> None:
        self.n_features = n_features
        self.seed = seed

    def select_columns(self, X: NDArray[np.float64], y: ArrayLike | None, names: list[str]) -> NDArray[np.bool_]:
        _check_available(self.n_features, len(names))
        keys = [hashlib.sha256(f'{self.seed}:{name}'.encode()).digest() for name in names]
        support = np.zeros(len(names), dtype=bool)
        support[sorted(range(len(names)), key=keys.__getitem__)[: self.n_features]] = True
        return support


def _above_variance(selector: Selector, X: NDArray[np.float64], names: list[str], p: float) -> NDArray[np.bool_]:
    selector.variances_ = X.var(axis=0)
    # A share that is exactly p must not depend on the rounding of the variance.
    threshold = p * (1 - p)
    support: NDArray[np.bool_] = (selector.variances_ > threshold * (1 + 1e-9)) & (np.ptp(X, axis=0) > 0)
    if not support.any():
        best = int(selector.variances_.argmax())
        raise DatasetError(
            f'the variance threshold p (1 - p) = {threshold:.4g} (p = {p:g}) removes all {len(names)} columns: the '
            f'largest variance is {selector.variances_[best]:.4g} ({names[best]}); raise p'
        )
    return support


def _above_information(
    selector: Selector,
    X: NDArray[np.float64],
    y: ArrayLike | None,
    names: list[str],
    threshold: float,
    normalised: bool,
    seed: int,
) -> NDArray[np.bool_]:
    from sklearn.feature_selection import mutual_info_regression

    if normalised and threshold >= 1:
        raise DatasetError(f'the best column has the normalised mutual information 1, none is above {threshold:g}')
    targets = _check_targets(y, len(X))
    values = mutual_info_regression(
        X, targets, discrete_features=(np.round(X) == X).all(axis=0), n_neighbors=_NEIGHBOURS, random_state=seed
    )
    values[np.ptp(X, axis=0) == 0] = 0.0  # the estimate is zero but for rounding
    best = int(values.argmax())
    if values[best] == 0:
        raise DatasetError(f'none of {len(names)} columns says anything about the target: all mutual information is 0')
    selector.information_ = values / values[best] if normalised else values
    support: NDArray[np.bool_] = selector.information_ > threshold
    if not support.any():
        raise DatasetError(
            f'the threshold {threshold:.4g} of the mutual information removes all {len(names)} columns: the largest is '
            f'{values[best]:.4g} nats ({names[best]}); lower the threshold, or normalise'
        )
    return support


def _check_targets(y: ArrayLike | None, n_rows: int) -> NDArray[np.float64]:
    if y is None:
        raise DatasetError('the mutual information needs the targets of the rows')
    targets = np.asarray(y, dtype=np.float64)
    if targets.shape != (n_rows,):
        raise DatasetError(f'targets have shape {targets.shape}, expected ({n_rows},)')
    bad = np.flatnonzero(~np.isfinite(targets))
    if len(bad):
        raise DatasetError(f'row {bad[0]}: the target is not a finite number: remove or mend the row')
    if n_rows <= _NEIGHBOURS:
        raise DatasetError(f'{n_rows} rows are too few for the mutual information: it needs {_NEIGHBOURS + 1} or more')
    if np.ptp(targets) == 0:
        raise DatasetError(f'the target is {targets[0]:g} in all {n_rows} rows: nothing can be learnt about it')
    return targets


def _radius(name: str) -> int:
    column = name.rpartition('/')[2]  # of a combination, without the name of the part
    if column.startswith('fraction_'):
        return 0
    match = _RADIUS.match(column)
    if match is None:
        raise DatasetError(f'the column {name!r} is no cluster of a radius, k1: and so on: rcr cannot place it')
    return int(match[1])


def _check_available(n_features: int, available: int) -> None:
    if n_features > available:
        raise DatasetError(f'{n_features} columns are wanted, but there are only {available}')
