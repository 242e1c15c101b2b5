"""Parameters are checked against the annotations of a constructor, whatever kind of class it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import AfterValidator

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.parameters import Count, check_parameters, default_parameters
from aiida_nanoml.structures import FlakeParameters


def check_even(value: int) -> int:
    if value % 2:
        raise ValueError(f'{value} is odd: take an even number')
    return value


class Kind:
    """A class with a parameter of every sort."""

    def __init__(
        self,
        size: Count,
        even: Annotated[int, AfterValidator(check_even)] = 2,
        pair: tuple[int, int] = (1, 2),
        anything=None,  # no annotation
    ) -> None:
        self.parameters = (size, even, pair, anything)


@dataclass(frozen=True)
class Special(FlakeParameters):
    """A data class whose inherited fields have types that this module does not import."""

    colour: str = 'red'


def check(kind: type, **given) -> dict:
    return check_parameters(kind, given, what='setting', error=DatasetError)


def test_valid_parameters_come_back_as_the_signature_says() -> None:
    assert check(Kind, size=3, pair=[4, 5], anything=print) == {'size': 3, 'pair': (4, 5), 'anything': print}
    assert list(default_parameters(Kind)) == ['size', 'even', 'pair', 'anything']


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'size': 3, 'sise': 4}, "unknown setting 'sise' of Kind; valid: size, even, pair, anything"),
        ({'even': 4}, "missing setting 'size' of Kind"),
        ({'size': 0}, 'setting size=0 of Kind: Input should be greater than or equal to 1'),
        ({'size': 3, 'even': 3}, 'setting even=3 of Kind: 3 is odd: take an even number$'),
    ],
)
def test_wrong_parameters_are_named(given: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        check(Kind, **given)


def test_inherited_fields_of_a_data_class() -> None:
    given = {'family': 's', 'size': [9, 6], 'count': 2, 'seed': 0}
    assert check(Special, **given)['size'] == (9, 6)
    with pytest.raises(DatasetError, match='colour=3 of Special'):
        check(Special, **given, colour=3)
