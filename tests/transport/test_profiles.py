"""Potentials from tables of x and V."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.potential import Potential
from aiida_nanoml.transport.profiles import is_steep, read_profile


@pytest.mark.parametrize(
    ('text', 'units'),
    [
        ('0.0 0.0\n0.5 0.3\n1.0 0.0\n', {}),
        ('x;V\n0,0;0\n5,0;300\n10,0;0\n', {'length_unit': 'ang', 'energy_unit': 'mev'}),
    ],
)
def test_a_table_is_a_potential(text: str, units: dict[str, str]) -> None:
    made = read_profile(text.encode(), 'barrier.csv', 0.067, **units)
    assert made.values == pytest.approx([0.0, 0.3, 0.0])
    assert made.length == pytest.approx(1.5)
    assert (made.left, made.right, made.left_mass, made.name) == (0.0, 0.0, 0.067, 'barrier')


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('0 0 1\n', 'v.txt, line 1: 3 numbers where x and V are expected'),
        ('0 0\n', 'v.txt has one row'),
        ('0 0\n1 0\n3 0\n', 'v.txt, line 2: x rises by 1, by 1.5 on average'),
        ('1 0\n0 0\n', 'v.txt, line 2: x rises by -1'),
        ('0 0\n0 0\n', 'v.txt, line 2: x rises by 0'),
    ],
)
def test_what_is_no_profile_is_refused(text: str, reason: str) -> None:
    with pytest.raises(TransportError, match=reason):
        read_profile(text.encode(), 'v.txt', 1.0)


def test_a_barrier_of_many_electronvolts_is_questioned() -> None:
    assert is_steep(Potential(np.array([0.0, 300.0, 0.0]), 1.0, 1.0))
    assert not is_steep(Potential(np.array([0.0, 0.3, -12.0]), 1.0, 1.0))
