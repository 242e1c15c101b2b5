"""What the inputs of all calculations have in common."""

from __future__ import annotations

import pytest
from aiida import orm

from aiida_nanoml.calculations.base import optional_value


@pytest.mark.parametrize(
    ('node', 'value'),
    [(orm.Dict, {'a': 1}), (orm.Int, 3), (orm.Float, 0.0), (orm.Bool, False), (orm.Str, '')],
)
def test_an_optional_input_has_its_value_or_the_default(aiida_profile, node: type[orm.Data], value: object) -> None:
    assert optional_value({'given': node(value)}, 'given', default='absent') == value
    assert optional_value({}, 'given', default='absent') == 'absent'
    assert optional_value({'given': None}, 'given') is None
