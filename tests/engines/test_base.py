"""What engines share."""

from __future__ import annotations

import pytest

from aiida_nanoml.engines import Label, engine_names
from aiida_nanoml.errors import EvaluationError


def test_built_in_engines_are_registered() -> None:
    assert {'ase', 'pyscf', 'siesta', 'xtb'} <= set(engine_names())


def test_label_rule_counts_two_electrons_a_level() -> None:
    even = Label.from_levels(-1.0, [3.0, -2.0, 0.5, -1.0], 4)
    assert (even.homo_ev, even.lumo_ev, even.gap_ev, even.open_shell) == (-1.0, 0.5, 1.5, False)
    odd = Label.from_levels(-1.0, [-2.0, -1.0, 0.5, 3.0], 5)
    assert (odd.homo_ev, odd.lumo_ev, odd.gap_ev, odd.open_shell) == (0.5, 3.0, 2.5, True)
    assert odd.levels_ev is not None
    assert odd.levels_ev.tolist() == [[-2.0, -1.0, 0.5, 3.0]]


def test_label_rule_counts_one_electron_a_level_of_either_spin() -> None:
    label = Label.from_levels(-1.0, [[-3.0, -2.0, 0.0], [1.0, -2.5, 0.5]], 3)
    assert (label.homo_ev, label.lumo_ev, label.gap_ev, label.open_shell) == (-2.0, 0.0, 2.0, True)
    assert label.levels_ev is not None
    assert label.levels_ev.tolist() == [[-3.0, -2.0, 0.0], [-2.5, 0.5, 1.0]]
    restricted = Label.from_levels(-1.0, [-3.0, -2.0, 0.0], 4)
    doubled = Label.from_levels(-1.0, [[-3.0, -2.0, 0.0]] * 2, 4)
    assert (doubled.homo_ev, doubled.lumo_ev) == (restricted.homo_ev, restricted.lumo_ev)


@pytest.mark.parametrize(
    ('energy', 'levels', 'electrons'),
    [
        (-1.0, [-2.0, -1.0], 4),  # no LUMO
        (-1.0, [-2.0, -1.0], 0),  # no HOMO
        (-1.0, [-2.0, float('nan'), 1.0], 2),
        (float('inf'), [-2.0, -1.0], 2),
    ],
)
def test_label_without_a_gap_is_a_failure(energy: float, levels: list[float], electrons: int) -> None:
    with pytest.raises(EvaluationError) as caught:
        Label.from_levels(energy, levels, electrons)
    assert caught.value.code == 'engine_failure'
