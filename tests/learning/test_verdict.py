"""Verdicts on models: each reason by the metrics that give it, and what would help."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiida_nanoml.learning import verdict as v
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.targets import find_target
from aiida_nanoml.learning.verdict import judge_model, judge_predictions, judge_validation

GAP, PRESSURE = find_target('gap'), find_target('pressure')
INSIDE = np.zeros(3, dtype=bool)


def part(n: int = 200, r2: float | None = 0.9, mae: float = 0.05, **others: Any) -> dict[str, Any]:
    return {'n': n, 'r2': r2, 'mae': mae, 'rmse': 1.3 * mae, 'coverage_68': 0.68, 'coverage_95': 0.95} | others


def test_a_good_model_is_usable_and_its_errors_are_told() -> None:
    judged = judge_model({'train': part(), 'test': part()}, GAP, 'fast')
    assert (judged.grade, judged.found, judged.remedies) == ('usable', (), ())
    assert str(judged) == 'usable: R2 0.90, MAE 0.050 eV on 200 test rows'


@pytest.mark.parametrize(
    ('metrics', 'grade', 'reason', 'remedy'),
    [
        ({'test': part(r2=-0.68)}, 'not usable', 'the mean of the 200 test rows', v.MORE_ROWS),
        ({'test': part(r2=0.0)}, 'not usable', 'R2 0.00', v.OTHER_INPUTS),
        ({'test': part(r2=0.3)}, 'with care', 'R2 is only 0.30', v.OTHER_INPUTS),
        (
            {'test': part(mae=0.083), 'baseline/test': part(mae=0.072)},
            'not usable',
            'worse than the baseline alone (MAE 0.083 against 0.072 eV)',
            v.BASELINE_ALONE,
        ),
        ({'test': part(mae=0.07), 'baseline/test': part(mae=0.07)}, 'not usable', 'worse than the', v.BASELINE_ALONE),
        ({'test': part(mae=0.0715), 'baseline/test': part(mae=0.072)}, 'with care', 'more than chance', v.MORE_ROWS),
        ({'test': part(n=7)}, 'with care', 'judged by 7 rows only', v.CROSS_VALIDATE),
        ({'test': part(coverage_95=None)}, 'with care', 'not calibrated', v.CROSS_VALIDATE),
        ({'test': part(coverage_95=0.7)}, 'with care', 'those of 95 % hold 70 %', v.MORE_ROWS),
        ({'train': part()}, 'with care', 'tested on no rows', v.CROSS_VALIDATE),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_remedy(metrics: dict[str, Any], grade: str, reason: str, remedy: str) -> None:
    judged = judge_model(metrics, GAP, 'fast')
    assert judged.grade == grade
    assert reason in str(judged)
    assert remedy in judged.remedies


def test_the_part_with_the_most_rows_counts() -> None:
    metrics = {'test': part(n=7, r2=-1.0), 'held-out': part(n=36, r2=0.8)}
    assert judge_model(metrics, GAP, 'few_rows').grade == 'usable'


def test_few_rows_point_to_the_model_that_is_made_for_them() -> None:
    metrics = {'train': part(n=24), 'test': part(r2=-0.7)}
    assert v.OTHER_KIND in judge_model(metrics, GAP, 'fast').remedies
    assert v.OTHER_KIND not in judge_model(metrics, GAP, 'few_rows').remedies
    assert v.OTHER_KIND not in judge_model(metrics, PRESSURE, 'alloy').remedies


def test_predictions_inherit_the_verdict_of_their_model() -> None:
    bad = judge_model({'test': part(r2=-0.68)}, GAP, 'fast')
    judged = judge_predictions(bad, GAP, np.array([1.0, -0.1, 2.0]), np.array([True, False, False]), calibrated=False)
    assert judged.grade == 'not usable'
    assert str(judged).startswith('not usable: R2 -0.68')
    for reason in ('1 gap below zero', '1 of 3 rows are outside the domain', 'not calibrated'):
        assert reason in str(judged)
    good = judge_model({'test': part()}, GAP, 'fast')
    assert judge_predictions(good, GAP, np.ones(3), INSIDE, calibrated=True).grade == 'usable'
    assert judge_predictions(good, PRESSURE, -np.ones(3), INSIDE, calibrated=True).grade == 'usable'


def test_real_metrics_of_a_validation_are_judged() -> None:
    known = np.linspace(0.5, 3.0, 40)
    good = judge_validation({'all': regression_metrics(known, known + 0.01)}, GAP, known)
    assert good.grade == 'usable'
    assert 'labelled rows' in str(good)
    bad = judge_validation({'all': regression_metrics(known, known[::-1])}, GAP, known[::-1])
    assert bad.grade == 'not usable'
    assert bad.to_dict()['reasons'][0].startswith('R2 -')
