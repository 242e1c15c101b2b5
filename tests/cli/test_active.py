"""What `active` and `validate` refuse before anything runs; the documentation shows, and tests, what they do."""

from __future__ import annotations

import pytest

from aiida_nanoml.actions.active import REASONS, strategies
from aiida_nanoml.learning import acquisition
from aiida_nanoml.workflows.active import STOPS


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'say when to stop: --rounds, --budget, --target-mae or --target-std'),
        (('--rounds', 1, '--set', 'alpha=1'), 'write engine.KEY=VALUE, descriptor.KEY=VALUE or model.KEY=VALUE'),
        (('--rounds', 1, '--strategy', 'best'), "'best' is not one of"),
    ],
)
def test_active_refuses(cli, structures_node, arguments: tuple, message: str) -> None:
    assert message in cli('active', structures_node.pk, *arguments, status=2).stderr


def test_active_says_what_an_engine_or_descriptor_does_not_have(cli, code, structures_node) -> None:
    common = ('active', structures_node.pk, '--rounds', 1, '--code', code.pk)
    twice = cli(*common, '--held-out', structures_node.pk, '--n-held-out', 3, status=2).stderr
    assert 'give either --held-out or --n-held-out' in twice
    assert 'oracle' in cli(*common, '--engine', 'oracle', status=1).stderr
    assert 'no input descriptor.params.sead' in cli(*common, '--set', 'descriptor.sead=1', status=1).stderr
    assert 'the pool has 12 distinct ones' in cli(*common, '--n-held-out', 12, status=1).stderr


def test_validate_refuses(cli, model_node, labels_node, structures_node, split_flakes) -> None:
    import numpy as np

    from aiida_nanoml.data.prediction import PREDICTED, PredictionData

    columns = {name: np.ones(len(split_flakes)) for name in PREDICTED}
    columns |= {'outside': np.zeros(len(split_flakes), dtype=bool)}
    columns |= {name: getattr(split_flakes, name) for name in ('hashes', 'names', 'families')}
    predictions = PredictionData(columns, model_node.base.attributes.all).store()
    both = cli('validate', predictions.pk, labels_node.pk, '--count', 2, status=2).stderr
    assert 'with LABELS nothing is chosen' in both
    assert 'give either --only or' in cli('validate', predictions.pk, '--only', 'x', '--count', 2, status=2).stderr


def test_names_agree_with_the_workflow() -> None:
    assert set(strategies()) == set(acquisition.STRATEGIES)
    assert set(REASONS) == {*STOPS, 'pool'}
