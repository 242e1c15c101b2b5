import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import DatasetError, ModelError
from aiida_nanoml.learning.distance import TrainingDomain


def cloud(seed, n=40, width=4):
    return np.random.Generator(np.random.PCG64(seed)).normal(size=(n, width))


def test_known_answers_on_a_line():
    """Five points at unit spacing: the typical distance is the spacing, whatever the unit of the feature."""
    domain = TrainingDomain().fit(100.0 * np.arange(5.0)[:, None])
    assert domain.distance([[0.0], [50.0], [400.0], [900.0]]) == pytest.approx([0.0, 0.5, 0.0, 5.0])


def test_the_nearest_rows_come_first():
    rows = 100.0 * np.arange(5.0)[:, None]
    domain = TrainingDomain().fit(rows)
    found, distances = domain.nearest([190.0], np.concatenate([rows, rows[[2]]]), 4)
    assert found.tolist() == [2, 5, 1, 3], 'a repeated row is there twice'
    assert distances == pytest.approx([0.1, 0.1, 0.9, 1.1])
    assert domain.nearest([190.0], rows, 99)[0].tolist() == [2, 1, 3, 0, 4]
    with pytest.raises(ModelError, match='features'):
        domain.nearest([1.0, 2.0], rows, 1)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_training_rows_are_at_distance_zero_and_their_spacing_is_one(seed):
    rows = cloud(seed)
    domain = TrainingDomain().fit(rows)
    assert not domain.distance(rows).any()
    spacing = [
        np.linalg.norm((np.delete(rows, i, axis=0) - rows[i]) / rows.std(axis=0), axis=1).min()
        for i in range(len(rows))
    ]
    assert domain.typical_distance_ == pytest.approx(np.mean(spacing))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 100), st.floats(-5, 5))
def test_units_and_origin_of_the_features_do_not_matter(seed, factor, shift):
    rows, others = cloud(seed), cloud(seed + 1)
    plain = TrainingDomain().fit(rows).distance(others)
    assert TrainingDomain().fit(rows * factor + shift).distance(others * factor + shift) == pytest.approx(
        plain, rel=1e-6
    )


def test_duplicates_do_not_shrink_the_unit():
    rows = cloud(0)
    repeated = np.concatenate([rows, rows, rows[:5]])
    assert TrainingDomain().fit(repeated).distance(cloud(1)) == pytest.approx(
        TrainingDomain().fit(rows).distance(cloud(1))
    )


def test_constant_feature_is_left_alone():
    rows = cloud(0)
    rows[:, 2] = 0.1
    distances = TrainingDomain().fit(rows).distance(rows + np.array([0, 0, 0.5, 0]))
    assert np.all(distances > 0)
    assert np.all(np.isfinite(distances))


def test_small_distances_keep_their_digits():
    rows = cloud(0)
    domain = TrainingDomain().fit(rows)
    step = 1e-9 * rows.std(axis=0)
    expected = 1e-9 * 2 / domain.typical_distance_
    assert domain.distance(rows[:3] + step) == pytest.approx([expected] * 3, rel=1e-4)


def test_file_round_trip(tmp_path):
    domain = TrainingDomain().fit(cloud(0))
    domain.save(tmp_path / 'domain.npz')
    assert np.array_equal(TrainingDomain.load(tmp_path / 'domain.npz').distance(cloud(1)), domain.distance(cloud(1)))


def test_unusable_input_is_refused(tmp_path):
    with pytest.raises(DatasetError, match='two distinct rows'):
        TrainingDomain().fit([[1.0, 2.0], [1.0, 2.0]])
    with pytest.raises(ModelError, match='not fitted'):
        TrainingDomain().distance([[1.0]])
    with pytest.raises(ModelError, match='trained on 4 features'):
        TrainingDomain().fit(cloud(0)).distance([[1.0]])
    (tmp_path / 'domain.npz').write_bytes(b'PK\x03\x04')
    with pytest.raises(ModelError, match='not a readable training domain'):
        TrainingDomain.load(tmp_path / 'domain.npz')
    distances = {'typical_distance': 1.0, 'limit': 2.0}
    np.savez(tmp_path / 'other.npz', mean=np.zeros(3), scale=np.ones(2), rows=np.ones((4, 2)), **distances)
    with pytest.raises(ModelError, match='do not fit together'):
        TrainingDomain.load(tmp_path / 'other.npz')


def test_a_row_is_outside_when_it_is_far_or_beyond_the_range_of_a_feature():
    rows = np.random.Generator(np.random.PCG64(2)).uniform(size=(300, 3))
    rows[:, 2] = 0.3
    domain = TrainingDomain().fit(rows)
    assert not domain.outside(rows).any()
    centre = np.array([[0.5, 0.5, 0.3]])
    first, last = np.eye(3)[[0, 2]]
    assert domain.outside(centre).tolist() == [False]
    assert domain.outside(centre + 1.2 * first).tolist() == [True]
    assert domain.outside(centre + 1e-3 * last).tolist() == [True], 'the feature never changed in training'
    assert domain.distance(centre + 1e-3 * last) < domain.limit_
    assert domain.outside(centre + 1e-9 * last).tolist() == [False], 'but for rounding'


def test_few_rows_of_the_same_kind_are_outside():
    random = np.random.Generator(np.random.PCG64(3))
    assert TrainingDomain().fit(random.normal(size=(400, 5))).outside(random.normal(size=(4000, 5))).mean() < 0.03


def test_rounding_is_no_scale():
    """A feature that is constant but for rounding must not decide how far a row is."""
    rows = np.random.Generator(np.random.PCG64(4)).normal(size=(50, 3))
    rows[:, 1] = 0.3
    rounded = rows + np.array([0, 1e-16, 0]) * np.arange(50)[:, None]
    others = rows + 0.1
    assert TrainingDomain().fit(rounded).distance(others) == pytest.approx(TrainingDomain().fit(rows).distance(others))


def test_rows_of_one_group_do_not_make_the_others_outside():
    """Points of a scan are near to each other: the unit is the distance between scans."""
    random = np.random.default_rng(3)
    centres = random.normal(size=(60, 3))
    rows = (centres[:, None] + 1e-3 * random.normal(size=(60, 5, 3))).reshape(-1, 3)
    groups = np.repeat(np.arange(60).astype(str), 5)
    known, unseen = groups.astype(int) < 40, groups.astype(int) >= 40
    assert TrainingDomain().fit(rows[known]).outside(rows[unseen]).all()
    domain = TrainingDomain().fit(rows[known], groups[known])
    assert domain.outside(rows[unseen]).mean() < 0.3
    assert domain.distance(rows[unseen]).mean() == pytest.approx(1.0, abs=0.4)
    assert domain.outside(rows[unseen] + 10.0).all()
    members = groups[known][np.unique(rows[known], axis=0, return_index=True)[1]]
    between = np.linalg.norm(domain.rows_[:, None] - domain.rows_, axis=2)
    between[members[:, None] == members] = np.inf
    assert domain.typical_distance_ == pytest.approx(between.min(axis=1).mean())
    with pytest.raises(DatasetError, match='all of one group'):
        TrainingDomain().fit(rows[:5], groups[:5])
