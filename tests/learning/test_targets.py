"""Targets of a few made-up labels, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aiida_nanoml.engines.label_set import LabelSet, LabelSource, Ragged
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.targets import (
    TARGETS,
    check_target_values,
    choose_targets,
    evaluate_target,
    find_target,
    find_values,
)
from aiida_nanoml.structures import Structure, StructureSet

SOURCE = LabelSource('toy', '1', 'Toy', 'fast')


def make_labels(structures: StructureSet, energy_ev: list[float], source: LabelSource = SOURCE, **more) -> LabelSet:
    """Labels of an engine that knows no levels."""
    n = len(structures)
    nothing = np.full(n, np.nan)
    return LabelSet(
        source=source,
        hashes=structures.hashes,
        status=np.full(n, 'ok', dtype='<U20'),
        messages=np.full(n, ''),
        energies={'energy_ev': np.array(energy_ev), 'homo_ev': nothing, 'lumo_ev': nothing, 'gap_ev': nothing},
        n_electrons=np.zeros(n, dtype=np.int64),
        open_shell=np.zeros(n, dtype=bool),
        wall_s=np.ones(n),
        **more,
    )


def cell(*numbers: int, edge: float = 4.0) -> Structure:
    """Atoms along the diagonal of a cubic cell."""
    places = np.arange(len(numbers))[:, None] * np.full(3, edge / len(numbers))
    return Structure(np.array(numbers), places, edge * np.eye(3), np.ones(3, dtype=bool))


@pytest.fixture
def crystals() -> StructureSet:
    """Fe2, FeAl and Al3."""
    return StructureSet.from_structures([cell(26, 26), cell(26, 13), cell(13, 13, 13, edge=6.0)])


@pytest.fixture
def atoms() -> LabelSet:
    """Isolated Al and Fe, in boxes and at places of their own."""
    alone = [Structure(np.array([13]), np.array([[1.0, 2.0, 3.0]]), 9 * np.eye(3)), Structure([26], np.zeros((1, 3)))]
    return make_labels(StructureSet.from_structures(alone), [-10.0, -100.0])


def test_energies_by_atom(crystals: StructureSet, atoms: LabelSet) -> None:
    labels = make_labels(crystals, [-210.0, -114.0, -42.0])
    assert evaluate_target('energy_per_atom', labels, crystals).tolist() == [-105.0, -57.0, -14.0]
    # (2 x -100 + 210) / 2, (-100 - 10 + 114) / 2, (3 x -10 + 42) / 3
    assert evaluate_target('cohesive_energy', labels, crystals, atoms).tolist() == [5.0, 2.0, 4.0]


def test_pressure_is_minus_a_third_of_the_trace_of_the_stress(crystals: StructureSet) -> None:
    stress = np.diag([-0.1, -0.2, -0.3]) + 0.7 * (np.eye(3)[[1, 0, 2]] - np.diag([0, 0, 1]))
    columns = {'stress_ev_per_ang3': Ragged.from_rows([stress, np.empty(0), np.eye(3)])}
    labels = make_labels(crystals, [-1.0, -1.0, -1.0], vectors=columns)
    np.testing.assert_allclose(
        evaluate_target('pressure', labels, crystals), [0.2 * 160.21766208, np.nan, -160.21766208]
    )
    flat = StructureSet.from_structures([replace(part, pbc=np.array([True, True, False])) for part in crystals])
    labels = replace(labels, hashes=flat.hashes)
    assert np.isnan(evaluate_target('pressure', labels, flat)).all(), 'a slab has no volume'


def test_moments_and_states_are_counted_by_atom(crystals: StructureSet) -> None:
    levels = Ragged.from_rows([[[-1.0, 0.0, 5.0]], np.empty(0), [[0.0, 0.0, 9.0]]])
    weights = Ragged.from_rows([[[2.0]], np.empty(0), [[2.0]]])
    labels = make_labels(
        crystals,
        [-1.0, -1.0, -1.0],
        vectors={'levels_ev': levels, 'level_weights': weights},
        numbers={'fermi_ev': np.array([0.0, 0.0, 0.0]), 'magnetic_moment_bohr': np.array([4.6, np.nan, 0.0])},
    )
    np.testing.assert_allclose(evaluate_target('magnetic_moment', labels, crystals), [2.3, np.nan, 0.0])
    states = evaluate_target('dos_fermi', labels, crystals)
    np.testing.assert_allclose(states, labels.dos_fermi() / [2, 2, 3])
    assert np.isnan(states[1])
    assert states[2] > states[0] > 0


def test_a_failed_row_has_no_value(crystals: StructureSet, atoms: LabelSet) -> None:
    labels = make_labels(crystals, [-210.0, -114.0, -42.0])
    labels.status[1] = 'not_converged'
    for name in ('energy_per_atom', 'cohesive_energy'):
        assert np.isnan(evaluate_target(name, labels, crystals, atoms)).tolist() == [False, True, False]


def test_a_missing_atom_is_named(crystals: StructureSet, atoms: LabelSet) -> None:
    labels = make_labels(crystals, [-210.0, -114.0, -42.0])
    with pytest.raises(DatasetError, match='lack a finished one of Fe:'):
        evaluate_target('cohesive_energy', labels, crystals, atoms.select(np.array([0])))
    atoms.status[:] = 'not_converged'
    with pytest.raises(DatasetError, match='lack a finished one of Al, Fe:'):
        evaluate_target('cohesive_energy', labels, crystals, atoms)
    with pytest.raises(DatasetError, match='needs the labels of the isolated atoms'):
        evaluate_target('cohesive_energy', labels, crystals)


def test_atoms_of_another_origin_are_refused(crystals: StructureSet, atoms: LabelSet) -> None:
    labels = make_labels(crystals, [-210.0, -114.0, -42.0])
    with pytest.raises(DatasetError, match='the isolated atoms are from Toy 2, protocol fast, the structures from'):
        evaluate_target('cohesive_energy', labels, crystals, replace(atoms, source=replace(SOURCE, version='2')))


def test_values_are_found_by_structure(crystals: StructureSet, atoms: LabelSet) -> None:
    """Labels in another order, and those of the atoms among them."""
    labels = LabelSet.concatenate([atoms, make_labels(crystals.select([2, 0]), [-42.0, -210.0])])
    for given in (atoms, None):
        found = find_values('cohesive_energy', labels, crystals.hashes, crystals, given)
        np.testing.assert_array_equal(found, [5.0, np.nan, 4.0])
    few = find_values('energy_per_atom', labels, crystals.hashes, crystals.select([2]))
    np.testing.assert_array_equal(few, [np.nan, np.nan, -14.0])
    strangers = find_values('cohesive_energy', labels, np.array(['0' * 64]), crystals)
    assert np.isnan(strangers).tolist() == [True]


def test_a_gap_needs_no_structure_and_other_targets_do(flakes: StructureSet, flake_labels: LabelSet) -> None:
    wanted = np.array([flakes.hashes[5], 'unknown', flakes.hashes[0]])
    gaps = flake_labels.energies['gap_ev']
    np.testing.assert_array_equal(find_values('gap', flake_labels, wanted), [gaps[5], np.nan, gaps[0]])
    with pytest.raises(DatasetError, match="'energy_per_atom' depends on the structures"):
        find_values('energy_per_atom', flake_labels, wanted)


def test_rows_must_belong_together(crystals: StructureSet) -> None:
    labels = make_labels(crystals, [-1.0, -2.0, -3.0])
    for other in (crystals.select([1, 0, 2]), crystals.select([0, 1])):
        with pytest.raises(DatasetError, match='the same rows in the same order'):
            evaluate_target('energy_per_atom', labels, other)


def test_labels_without_levels_say_what_can_be_learnt_from_them(crystals: StructureSet, atoms: LabelSet) -> None:
    labels = make_labels(crystals, [-1.0, -2.0, -3.0], numbers={'magnetic_moment_bohr': np.ones(3)})

    def refuse(name: str, known: LabelSet | None = None) -> None:
        check_target_values(name, labels, crystals, evaluate_target(name, labels, crystals, known), known)

    with pytest.raises(
        DatasetError, match=r'Toy 1, protocol fast computes no levels.*: energy_per_atom, magnetic_moment$'
    ):
        refuse('gap')
    with pytest.raises(DatasetError, match=r"'pressure'.*does not give it.*energy_per_atom, cohesive_energy, magnetic"):
        refuse('pressure', atoms)
    refuse('energy_per_atom')


def test_every_target_says_what_it_is() -> None:
    for name, target in TARGETS.items():
        assert target.name == name
        assert target.unit
        assert target.description
        assert target.suffix.isidentifier()
    assert TARGETS['gap'].noun == 'gap'
    assert TARGETS['cohesive_energy'].noun == 'cohesive energy'
    with pytest.raises(DatasetError, match="no target 'colour'; there are: gap, energy_per_atom"):
        find_target('colour')


@pytest.mark.parametrize(
    ('wanted', 'message'),
    [
        ({'target': 'colour'}, "no target 'colour'"),
        ({'others': ['pressure', 'pressure']}, 'each target is learnt once; got gap, pressure, pressure'),
        ({'target': 'pressure', 'others': ['pressure']}, 'each target is learnt once'),
        ({'others': 'pressure'}, 'a list of names'),
        ({'others': [1]}, 'a list of names'),
        ({'companions': []}, 'chosen by `target`, a name, and `others`'),
    ],
)
def test_targets_that_cannot_be_chosen_say_why(wanted: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        choose_targets(wanted)


def test_targets_are_chosen_by_name() -> None:
    assert choose_targets({}) == (TARGETS['gap'], ())
    target, others = choose_targets({'target': 'cohesive_energy', 'others': ['pressure', 'magnetic_moment']})
    assert target.name == 'cohesive_energy'
    assert [other.name for other in others] == ['magnetic_moment', 'pressure']
