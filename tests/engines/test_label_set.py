"""Columns of labels: what may stand together, and which of two labels wins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiida_nanoml.engines.label_set import ENERGIES, LEVELS, VECTORS, LabelSet, LabelSource, Ragged
from aiida_nanoml.errors import DatasetError, EngineError

SOURCE = LabelSource('xtb', '0.4', 'GFN1-xTB (tblite)', 'balanced', {'accuracy': 1.0})


def make_labels(hashes: list[str], gaps: list[float | None], source: LabelSource = SOURCE) -> LabelSet:
    """A gap of None stands for a failed row."""
    finished = np.array([gap is not None for gap in gaps], dtype=bool)
    column = np.array([np.nan if gap is None else gap for gap in gaps], dtype=float)
    return LabelSet(
        source=source,
        hashes=np.array(hashes, dtype=str),
        status=np.where(finished, 'ok', 'not_converged'),
        messages=np.where(finished, '', 'no convergence'),
        energies=dict.fromkeys(ENERGIES, column),
        n_electrons=np.where(finished, 4, 0),
        open_shell=np.zeros(len(hashes), dtype=bool),
        wall_s=np.ones(len(hashes)),
    )


ROWS = st.lists(
    st.tuples(st.sampled_from('abcdef'), st.booleans()).map(lambda r: (r[0], ord(r[0]) / 10 if r[1] else None)),
    min_size=1,
    max_size=8,
    unique_by=lambda r: r[0],
)
"""Rows that failed or are finished; runs of one structure agree."""


@given(parts=st.lists(ROWS, min_size=1, max_size=4))
def test_joining_keeps_one_row_a_structure_and_prefers_the_first_finished_one(parts: list) -> None:
    joined = LabelSet.concatenate([make_labels([h for h, _ in rows], [g for _, g in rows]) for rows in parts])
    expected: dict[str, float | None] = {}
    for rows in parts:
        for identity, gap in rows:
            if expected.get(identity) is None:
                expected[identity] = gap
    assert sorted(joined.hashes.tolist()) == sorted(expected)
    for row, identity in enumerate(joined.hashes):
        gap = expected[str(identity)]
        assert bool(joined.finished[row]) == (gap is not None)
        if gap is not None:
            assert joined.energies['gap_ev'][row] == gap
    assert sum(joined.failures.values()) == sum(gap is None for gap in expected.values())


@given(rows=ROWS)
def test_joining_is_idempotent(rows: list) -> None:
    labels = make_labels([h for h, _ in rows], [g for _, g in rows])
    once = LabelSet.concatenate([labels])
    twice = LabelSet.concatenate([once, labels])
    for name, column in once.to_arrays().items():
        np.testing.assert_array_equal(column, twice.to_arrays()[name])


@given(rows=ROWS)
def test_arrays_are_the_way_there_and_back(rows: list) -> None:
    labels = make_labels([h for h, _ in rows], [g for _, g in rows])
    again = LabelSet.from_arrays(SOURCE, labels.to_arrays())
    for name, column in labels.to_arrays().items():
        np.testing.assert_array_equal(column, again.to_arrays()[name])
        assert again.to_arrays()[name].dtype.kind != 'O'


def with_levels(labels: LabelSet, fermi: list[float], levels: list, weights: list) -> LabelSet:
    vectors = {'levels_ev': Ragged.from_rows(levels), 'level_weights': Ragged.from_rows(weights)}
    return replace(labels, vectors=vectors, numbers={'fermi_ev': np.array(fermi)})


def test_density_of_states_of_each_row_that_has_weights() -> None:
    """Two k-points, two spins, no weights, no Fermi level; levels of all of a row stand behind each other."""
    labels = with_levels(
        make_labels(['a', 'b', 'c', 'd'], [1.0] * 4),
        [0.0, 0.1, 0.0, np.nan],
        [[0.0, 5.0, 9.0, 3.0, 5.0, 9.0], [0.1, 7.0, -7.0, 0.1], [0.0, 1.0], [0.0]],
        [[0.5, 1.5], [1.0, 1.0], [], [2.0]],
    )
    top = 1 / (0.25 * np.sqrt(np.pi))
    np.testing.assert_allclose(labels.dos_fermi(0.25), [0.5 * top, 2.0 * top, np.nan, np.nan], rtol=1e-6)
    assert labels.dos_fermi()[1] > labels.dos_fermi(0.25)[1], 'the width that is usual is smaller'
    joined = LabelSet.concatenate([make_labels(['z'], [1.0]), labels])
    np.testing.assert_array_equal(joined.dos_fermi(0.25)[1:], labels.dos_fermi(0.25))
    assert np.isnan(make_labels(['a'], [1.0]).dos_fermi()).all()
    with pytest.raises(EngineError, match='must be positive'):
        labels.dos_fermi(-0.1)


def test_of_rows_that_agree_one_with_a_gap_is_taken() -> None:
    known = make_labels(['a', 'b'], [0.4, 1.0])
    unknown = replace(known, energies={**known.energies, **dict.fromkeys(LEVELS, np.full(2, np.nan))})
    for joined in (LabelSet.concatenate([unknown, known]), LabelSet.concatenate([known, unknown])):
        assert joined.energies['gap_ev'].tolist() == [0.4, 1.0]


def test_rows_that_contradict_each_other_are_refused() -> None:
    """Whatever is joined to them later; rows that agree within the noise of a mesh are one."""
    first = make_labels(['a', 'b', 'c'], [0.4, 1.0, 2.0])
    other = make_labels(['b', 'c', 'd'], [1.3, 2.001, 3.0])
    assert LabelSet.stacked([first, other]).contradictions() == {'b': [1, 3]}
    joined = LabelSet.concatenate([first, other])
    assert dict(zip(joined.hashes.tolist(), joined.status.tolist(), strict=True)) == {
        'a': 'ok', 'b': 'contradicted', 'c': 'ok', 'd': 'ok'
    }  # fmt: skip
    row = joined.hashes.tolist().index('b')
    assert joined.messages[row].startswith('2 runs of this structure contradict each other: the energy')
    assert 'the gap 1.0000 eV' in joined.messages[row]
    assert 'the gap 1.3000 eV' in joined.messages[row]
    assert np.isnan([joined.energies[name][row] for name in joined.energies]).all()
    assert joined.energies['gap_ev'][joined.hashes == 'c'].tolist() == [2.0]
    again = LabelSet.concatenate([first, joined, other])
    assert again.status[again.hashes == 'b'].tolist() == ['contradicted']
    assert LabelSet.concatenate([joined, joined]).to_arrays().keys() == joined.to_arrays().keys()


def test_select_takes_rows_in_the_order_given() -> None:
    labels = make_labels(['a', 'b', 'c'], [1.0, None, 3.0])
    assert labels.select(np.array([2, 0])).hashes.tolist() == ['c', 'a']
    assert labels.select(labels.finished).energies['gap_ev'].tolist() == [1.0, 3.0]
    assert labels.failures == {'not_converged': 1}
    assert len(labels) == 3


@pytest.mark.parametrize(
    'change', [{'engine': 'pyscf'}, {'version': '0.5'}, {'protocol': 'fast'}, {'parameters': {'accuracy': 2.0}}]
)
def test_labels_of_different_origin_cannot_be_joined(change: dict) -> None:
    other = make_labels(['b'], [1.0], replace(SOURCE, **change))
    with pytest.raises(DatasetError, match='different origin'):
        LabelSet.concatenate([make_labels(['a'], [1.0]), other])


def test_nothing_cannot_be_joined() -> None:
    with pytest.raises(DatasetError, match='no labels to join'):
        LabelSet.concatenate([])


@pytest.mark.parametrize('name', ENERGIES)
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_finished_row_must_have_finite_energies(name: str, value: float) -> None:
    arrays = {key: column.copy() for key, column in make_labels(['a', 'b'], [1.0, 2.0]).to_arrays().items()}
    arrays[name][1] = value
    with pytest.raises(DatasetError, match=f'label row 1 .* {name} is not a finite number'):
        LabelSet.from_arrays(SOURCE, arrays)


@pytest.mark.parametrize('name', list(make_labels(['a'], [1.0]).to_arrays()))
def test_a_missing_or_shorter_column_is_refused(name: str) -> None:
    arrays = make_labels(['a', 'b'], [1.0, 2.0]).to_arrays()
    with pytest.raises(DatasetError, match='shape'):
        LabelSet.from_arrays(SOURCE, arrays | {name: arrays[name][:1]})
    del arrays[name]
    with pytest.raises(DatasetError, match=f"lack the column '{name}'"):
        LabelSet.from_arrays(SOURCE, arrays)


def test_unknown_energy_columns_are_refused() -> None:
    labels = make_labels(['a'], [1.0])
    with pytest.raises(DatasetError, match='exactly the columns'):
        replace(labels, energies=dict(labels.energies) | {'gap_ry': np.ones(1)})


def test_a_source_survives_its_dictionary() -> None:
    assert LabelSource.from_dict(SOURCE.to_dict()) == SOURCE
    assert str(SOURCE) == 'GFN1-xTB (tblite) 0.4, protocol balanced'


@pytest.mark.parametrize('values', [{'engine': 'xtb'}, SOURCE.to_dict() | {'unit': 'Ry'}])
def test_an_incomplete_or_unknown_source_is_refused(values: dict) -> None:
    with pytest.raises(DatasetError, match='not a label source'):
        LabelSource.from_dict(values)


def test_pseudopotentials_need_to_agree_where_both_name_them() -> None:
    carbon, nitride = (
        replace(SOURCE, pseudopotentials={'C': 'a', 'H': 'b'}),
        replace(SOURCE, pseudopotentials={'N': 'c'}),
    )
    other = replace(SOURCE, pseudopotentials={'C': 'x', 'N': 'c'})
    assert carbon.compatible(nitride)
    assert nitride.compatible(other)
    assert not carbon.compatible(other)
    assert carbon.joined(nitride).pseudopotentials == {'C': 'a', 'H': 'b', 'N': 'c'}
    assert not carbon.joined(nitride).compatible(other), 'what is compatible with both parts need not be with the whole'
    with pytest.raises(DatasetError, match='different origin'):
        carbon.joined(other)
    assert not carbon.compatible(replace(carbon, version='0.5'))
    assert LabelSource.from_dict(carbon.to_dict()) == carbon


def test_a_source_from_before_pseudopotentials_were_known_is_read() -> None:
    old = SOURCE.to_dict()
    del old['pseudopotentials']
    assert LabelSource.from_dict(old) == SOURCE


@given(order=st.permutations([{'C': 'a'}, {'N': 'c'}, {'C': 'x'}]))
def test_joining_never_mixes_pseudopotentials(order: list[dict[str, str]]) -> None:
    sets = [
        make_labels([str(row)], [1.0], replace(SOURCE, pseudopotentials=pseudopotentials))
        for row, pseudopotentials in enumerate(order)
    ]
    with pytest.raises(DatasetError, match='different origin'):
        LabelSet.concatenate(sets)
    kept = [part for part in sets if part.source.pseudopotentials != {'C': 'x'}]
    assert LabelSet.concatenate(kept).source.pseudopotentials == {'C': 'a', 'N': 'c'}


VECTOR_ROWS = st.lists(st.lists(st.floats(-9, 9), max_size=4), min_size=1, max_size=6)


@given(rows=VECTOR_ROWS, data=st.data())
def test_vectors_follow_their_rows(rows: list[list[float]], data: st.DataObject) -> None:
    names = [f'row {row}' for row in range(len(rows))]
    labels = replace(make_labels(names, [1.0] * len(rows)), vectors={'levels_ev': Ragged.from_rows(rows)})
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    selected = labels.select(np.array(picked, dtype=np.int64))
    assert [selected.vectors['levels_ev'][row].tolist() for row in range(len(picked))] == [rows[row] for row in picked]
    again = LabelSet.from_arrays(labels.source, labels.to_arrays())
    assert [again.vectors['levels_ev'][row].tolist() for row in range(len(rows))] == rows
    mask = np.array([bool(row) for row in rows])
    assert len(labels.select(mask).vectors['levels_ev'].values) == sum(map(len, rows))


def test_joined_sets_keep_the_vectors_that_only_some_have() -> None:
    first = replace(make_labels(['a', 'b'], [1.0, None]), vectors={'levels_ev': Ragged.from_rows([[1.0, 2.0], []])})
    second = make_labels(['c'], [2.0])
    third = replace(make_labels(['b'], [3.0]), vectors={'stress_ev_per_ang3': Ragged.from_rows([np.eye(3)])})
    joined = LabelSet.concatenate([first, second, third])
    levels = {str(name): joined.vectors['levels_ev'][row].tolist() for row, name in enumerate(joined.hashes)}
    stress = {str(name): joined.vectors['stress_ev_per_ang3'][row].tolist() for row, name in enumerate(joined.hashes)}
    assert levels == {'a': [1.0, 2.0], 'b': [], 'c': []}
    assert stress == {'a': [], 'b': np.eye(3).ravel().tolist(), 'c': []}
    assert LabelSet.concatenate([second]).vectors == {}


@pytest.mark.parametrize(
    ('vectors', 'reason'),
    [
        ({'moments': Ragged.from_rows([[1.0]])}, 'no column of vectors'),
        ({'levels_ev': Ragged.from_rows([[1.0], [2.0]])}, 'has 2 rows, expected 1'),
        ({'levels_ev': Ragged.from_rows([[float('nan')]])}, 'not finite'),
    ],
)
def test_vectors_that_do_not_fit_are_refused(vectors: dict, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        replace(make_labels(['a'], [1.0]), vectors=vectors)


@pytest.mark.parametrize('offsets', [[], [1, 2], [0, 3], [0, 2, 1, 2], [[0, 2]]])
def test_offsets_that_do_not_fit_are_refused(offsets: list) -> None:
    with pytest.raises(DatasetError, match='offsets'):
        Ragged(np.zeros(2), np.array(offsets, dtype=np.int64))


def test_a_column_of_vectors_without_its_offsets_is_missing_something() -> None:
    labels = replace(make_labels(['a'], [1.0]), vectors={name: Ragged.from_rows([[1.0]]) for name in VECTORS})
    arrays = labels.to_arrays()
    del arrays['levels_ev_offsets']
    with pytest.raises(DatasetError, match='levels_ev_offsets'):
        LabelSet.from_arrays(SOURCE, arrays)
