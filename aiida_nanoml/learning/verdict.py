"""Verdict on a model: whether its predictions may be used, why not, and what would help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.metrics import mae_standard_error
from aiida_nanoml.learning.registry import FEW_ROWS, FEW_ROWS_KIND
from aiida_nanoml.learning.targets import Target
from aiida_nanoml.learning.training import HELD_OUT
from aiida_nanoml.learning.uncertainty import LEVELS
from aiida_nanoml.text import counted

Grade = Literal['usable', 'with care', 'not usable']
Metrics = Mapping[str, Any]

USABLE: Grade = 'usable'
WITH_CARE: Grade = 'with care'
NOT_USABLE: Grade = 'not usable'

FEW_TEST_ROWS = 30
"""With n rows of Gaussian errors, an RMSE is known to about a share of 1/sqrt(2 n): 13 % for 30."""

LOW_R2 = 0.5
"""R² below which a model leaves more than half of the variance unexplained."""

_DEVIATIONS = 3.0
"""Binomial standard deviations by which a coverage may be too low."""

MORE_ROWS = 'label more structures'
OTHER_INPUTS = 'take another descriptor, such as tight_binding, or learn the correction to a baseline'
CROSS_VALIDATE = 'train with 5 folds or more'
BASELINE_ALONE = 'use the baseline as it is'
OTHER_KIND = f'train the kind {FEW_ROWS_KIND}, made for fewer than {FEW_ROWS} rows'
LEAVE_OUT = 'label some of the rows outside the domain, or leave them out'


@dataclass(frozen=True)
class Reason:
    """What speaks against the use of predictions.

    :param grade: ``with care`` or ``not usable``.
    :param text: what was found.
    :param remedies: what would help.
    """

    grade: Grade
    text: str
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether predictions may be used.

    :param found: what speaks against them, the worst first.
    :param errors: the errors that it rests on, in a few words.
    """

    found: tuple[Reason, ...]
    errors: str

    @classmethod
    def of(cls, found: Iterable[Reason], errors: str) -> Verdict:
        """Make a verdict from reasons in any order; equal ones count once."""
        unique = dict.fromkeys(found)
        return cls(tuple(sorted(unique, key=lambda reason: reason.grade != NOT_USABLE)), errors)

    @property
    def grade(self) -> Grade:
        """Return ``usable``, ``with care`` or ``not usable``."""
        return self.found[0].grade if self.found else USABLE

    @property
    def remedies(self) -> tuple[str, ...]:
        """Return what would help, the most urgent first."""
        return tuple(dict.fromkeys(chain.from_iterable(reason.remedies for reason in self.found)))

    def __str__(self) -> str:
        return f'{self.grade}: {"; ".join(reason.text for reason in self.found) or self.errors}'

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        reasons = [reason.text for reason in self.found]
        return {'grade': self.grade, 'reasons': reasons, 'remedies': list(self.remedies), 'errors': self.errors}


def judge_model(metrics: Metrics, target: Target, kind: str) -> Verdict:
    """Judge a trained model by rows that it did not learn from.

    :param metrics: of a training, by part of the split (:func:`~.training.metrics_by_part`). Of the rows of the part
        ``test`` and those held out of a cross-validation, the more numerous ones count.
    :param target: what the model predicts.
    :param kind: kind of the model.
    """
    part = judged_part(metrics)
    if part is None:
        return Verdict((Reason(WITH_CARE, 'it was tested on no rows', (CROSS_VALIDATE,)),), '')
    found = list(_judge_part(metrics, part, f'{part} rows', target))
    n_learnt = metrics.get('train', {}).get('n', FEW_ROWS)
    if found and target.name == GAP and n_learnt < FEW_ROWS and kind != FEW_ROWS_KIND:
        found.append(Reason(WITH_CARE, f'{counted(n_learnt, "row")} to learn from', (OTHER_KIND,)))
    return Verdict.of(found, _errors(metrics, part, f'{part} rows', target))


def judge_validation(metrics: Metrics, target: Target, predicted: npt.ArrayLike) -> Verdict:
    """Judge predictions by labels that were computed afterwards.

    :param metrics: of all rows (``all``), of a correction also of the baseline alone (``baseline/all``).
    :param target: what was predicted.
    :param predicted: (n,) the predicted values, in the unit of the target.
    """
    found = chain(_judge_part(metrics, 'all', 'labelled rows', target), _below_zero(target, predicted))
    return Verdict.of(found, _errors(metrics, 'all', 'labelled rows', target))


def judge_predictions(
    model: Verdict, target: Target, predicted: npt.ArrayLike, outside: npt.NDArray[np.bool_], calibrated: bool
) -> Verdict:
    """Judge predictions whose labels are not known.

    :param model: verdict on the model that made them.
    :param target: what was predicted.
    :param predicted: (n,) the predicted values, in the unit of the target.
    :param outside: (n,) rows beyond what the training rows cover.
    :param calibrated: whether the predictions have calibrated intervals.
    """
    found = [*model.found, *_below_zero(target, predicted)]
    if outside.any():
        text = f'{np.count_nonzero(outside)} of {len(outside)} rows are outside the domain'
        found.append(Reason(WITH_CARE, text, (LEAVE_OUT,)))
    return Verdict.of([*found, *([] if calibrated else [_NOT_CALIBRATED])], model.errors)


def judged_part(metrics: Metrics) -> str | None:
    """Return the part by whose rows a model is judged: ``test``, or ``held-out`` if it has more; None: neither."""
    parts = [part for part in ('test', HELD_OUT) if metrics.get(part, {}).get('n')]
    return max(parts, key=lambda name: int(metrics[name]['n']), default=None)


def no_better_than_mean(found: Metrics) -> bool:
    """Return whether the mean of the evaluated rows would be a better prediction.

    :param found: metrics of one part.
    """
    return found['r2'] is not None and found['r2'] <= 0


def no_better_than_baseline(found: Metrics, baseline: Metrics) -> bool:
    """Return whether the baseline alone has the smaller, or the same, mean absolute error.

    :param found: metrics of one part.
    :param baseline: those of the baseline alone on the same rows.
    """
    return bool(found['mae'] >= baseline['mae'])


def coverage_too_low(found: Metrics, level: float) -> bool:
    """Return whether intervals hold fewer known values than a statistical fluctuation explains.

    :param found: metrics of one part.
    :param level: probability of the intervals, one of :data:`~.uncertainty.LEVELS`.
    """
    coverage = found.get(f'coverage_{100 * level:.0f}')
    return coverage is not None and coverage < level - _DEVIATIONS * np.sqrt(level * (1 - level) / found['n'])


_NOT_CALIBRATED = Reason(WITH_CARE, 'its intervals are not calibrated', (CROSS_VALIDATE,))


def _judge_part(metrics: Metrics, part: str, rows: str, target: Target) -> Iterator[Reason]:
    own, baseline = metrics[part], metrics.get(f'baseline/{part}')
    if no_better_than_mean(own):
        text = f'R2 {own["r2"]:.2f}: the mean of the {own["n"]} {rows} would be a better prediction'
        yield Reason(NOT_USABLE, text, (MORE_ROWS, OTHER_INPUTS))
    elif own['r2'] is not None and own['r2'] < LOW_R2:
        yield Reason(WITH_CARE, f'R2 is only {own["r2"]:.2f} on {own["n"]} {rows}', (MORE_ROWS, OTHER_INPUTS))
    if baseline is not None:
        yield from _compare_with_baseline(own, baseline, target)
    if own['n'] < FEW_TEST_ROWS:
        text = f'judged by {counted(own["n"], "row")} only'
        yield Reason(WITH_CARE, text, (CROSS_VALIDATE if part == 'test' else MORE_ROWS,))
    if own.get('coverage_95', 0.0) is None:
        yield _NOT_CALIBRATED
    for level in LEVELS:
        if coverage_too_low(own, level):
            percent = f'{100 * level:.0f}'
            held = f'{100 * own[f"coverage_{percent}"]:.0f} %'
            yield Reason(WITH_CARE, f'its intervals are too narrow: those of {percent} % hold {held}', (MORE_ROWS,))


def _compare_with_baseline(own: Metrics, baseline: Metrics, target: Target) -> Iterator[Reason]:
    errors = f'MAE {own["mae"]:.{target.digits}f} against {baseline["mae"]:.{target.digits}f} {target.unit}'
    if no_better_than_baseline(own, baseline):
        text = f'the correction is worse than the baseline alone ({errors})'
        yield Reason(NOT_USABLE, text, (BASELINE_ALONE, MORE_ROWS))
    elif baseline['mae'] - own['mae'] < (mae_standard_error(own) or 0.0):
        text = f'the correction is better than the baseline alone by no more than chance ({errors})'
        yield Reason(WITH_CARE, text, (MORE_ROWS,))


def _below_zero(target: Target, predicted: npt.ArrayLike) -> Iterator[Reason]:
    n_below = int(np.count_nonzero(np.asarray(predicted) < 0))
    if n_below and target.name == GAP:
        yield Reason(WITH_CARE, f'{counted(n_below, "gap")} below zero, which no structure has', (MORE_ROWS,))


def _errors(metrics: Metrics, part: str, rows: str, target: Target) -> str:
    own, baseline = metrics[part], metrics.get(f'baseline/{part}')
    r2 = '' if own['r2'] is None else f'R2 {own["r2"]:.2f}, '
    alone = '' if baseline is None else f' (baseline alone {baseline["mae"]:.{target.digits}f})'
    return f'{r2}MAE {own["mae"]:.{target.digits}f} {target.unit}{alone} on {own["n"]} {rows}'
