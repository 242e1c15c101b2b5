"""Selectors of features: one contract for all of them, and what each keeps."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.feature_selection import VarianceThreshold, mutual_info_regression

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.features.selection import make_selector, selector_names

PARAMS = {
    'vt': {'p': 0.9},
    'mit': {'threshold': 0.2},
    'vt_mit': {'p': 0.9, 'threshold': 0.2},
    'rcr': {'n_features': 6},
    'random': {'n_features': 6},
    'first': {'n_features': 6},
}
NEEDS_TARGETS = ('mit', 'vt_mit')
NAMES = [
    *(f'fraction_{element}' for element in 'HBCN'),
    *(f'k{radius}:{number:016x}:C|C3' for radius in (3, 1, 2) for number in range(4)),
]


@pytest.fixture(scope='module')
def rows():
    """Sixteen columns, of which the target depends on three: shares of elements, then clusters of the radii 3, 1, 2."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.random((200, 4)), rng.random((200, 12)) < np.linspace(0.02, 0.5, 12)], axis=1)
    return X, X[:, 2] + X[:, 13] + 2 * X[:, 15]


def fitted(name, rows, **params):
    return make_selector(name, **PARAMS[name] | params).fit(*rows, feature_names=NAMES)


def kept(selector):
    return np.flatnonzero(selector.get_support()).tolist()


def test_every_registered_selector_is_under_contract(third_party_path):
    assert selector_names() == sorted(PARAMS)


@pytest.mark.usefixtures('third_party_path')
@pytest.mark.parametrize('name', sorted(PARAMS))
class TestContract:
    def test_it_keeps_some_columns_as_they_are(self, name, rows):
        selector = fitted(name, rows)
        support = selector.get_support()
        assert support.dtype == bool
        assert 0 < support.sum() < 16
        np.testing.assert_array_equal(selector.transform(rows[0]), rows[0][:, support])
        assert list(selector.get_feature_names_out(NAMES)) == [NAMES[column] for column in kept(selector)]

    def test_the_same_seed_keeps_the_same_columns(self, name, rows):
        selector = fitted(name, rows)
        assert kept(clone(selector).fit(*rows, feature_names=NAMES)) == kept(selector)
        assert kept(selector.fit(*rows, feature_names=NAMES)) == kept(selector)

    def test_order_of_rows_and_columns_does_not_matter(self, name, rows):
        order = np.arange(200)[::-1]
        # Of one radius, rcr takes the columns in their order, and so does the third-party one.
        columns = np.arange(16) if name in ('rcr', 'first') else np.random.default_rng(1).permutation(16)
        selector = make_selector(name, **PARAMS[name])
        selector.fit(rows[0][order][:, columns], rows[1][order], feature_names=[NAMES[column] for column in columns])
        assert sorted(columns[kept(selector)].tolist()) == kept(fitted(name, rows))

    def test_targets_are_used_only_where_they_must_be(self, name, rows):
        X, y = rows
        if name in NEEDS_TARGETS:
            with pytest.raises(DatasetError, match='needs the targets'):
                fitted(name, (X, None))
            with pytest.raises(DatasetError, match=r'targets have shape \(199,\), expected \(200,\)'):
                fitted(name, (X, y[1:]))
            with pytest.raises(DatasetError, match='row 7: the target is not a finite number'):
                fitted(name, (X, np.where(np.arange(200) == 7, np.nan, y)))
            with pytest.raises(DatasetError, match='the target is 2 in all 200 rows'):
                fitted(name, (X, np.full(200, 2.0)))
        else:
            assert (
                kept(fitted(name, (X, None)))
                == kept(fitted(name, (X, np.full(200, np.nan))))
                == kept(fitted(name, rows))
            )

    def test_one_column(self, name, rows):
        params = {'n_features': 1} if name in ('rcr', 'random', 'first') else {}
        selector = make_selector(name, **PARAMS[name] | params)
        assert kept(selector.fit(rows[0][:, [15]], rows[1], feature_names=[NAMES[15]])) == [0]

    def test_rows_that_cannot_be_used_are_refused(self, name, rows):
        X = rows[0].copy()
        X[3, 5] = np.nan
        with pytest.raises(DatasetError, match=r"row 3: feature 'k3:0000000000000001:C\|C3' is not a finite number"):
            fitted(name, (X, rows[1]))
        for empty in (rows[0][:0], rows[0][:, :0], rows[0][0]):
            with pytest.raises(DatasetError, match='needs rows and columns'):
                fitted(name, (empty, rows[1]))
        with pytest.raises(DatasetError, match='16 feature columns but 15 feature names'):
            make_selector(name, **PARAMS[name]).fit(*rows, feature_names=NAMES[1:])


@pytest.mark.parametrize(
    ('name', 'params', 'message'),
    [
        (
            'vt',
            {'p': 0.5},
            r'p \(1 - p\) = 0.25 \(p = 0.5\) removes all 16 columns: the largest variance is 0.24\d* \(k2',
        ),
        ('vt_mit', {'p': 0.5}, 'raise p'),
        (
            'mit',
            {'threshold': 5, 'normalised': False},
            r'all 16 columns: the largest is [01]\.\d+ nats \((k2|fraction_C)',
        ),
        (
            'rcr',
            {'n_features': None, 'max_radius': -1},
            'max_radius=-1 of RadiusSelector: .* greater than or equal to 0',
        ),
        ('rcr', {'max_radius': 2}, 'either n_features or max_radius'),
        ('rcr', {'n_features': None}, 'either n_features or max_radius'),
        ('rcr', {'n_features': 17}, '17 columns are wanted, but there are only 16'),
        ('random', {'n_features': 0}, 'n_features=0 of RandomSelector: .* greater than or equal to 1'),
        ('random', {'n_features': 6.0}, 'n_features=6.0 of RandomSelector: .* valid integer'),
        ('random', {'seed': -1}, 'seed=-1 of RandomSelector: .* greater than or equal to 0'),
        ('vt', {'p': 0.4}, 'p=0.4 of VarianceSelector: .* greater than or equal to 0.5'),
        ('vt', {'p': '0.9'}, "p='0.9' of VarianceSelector: .* valid number"),
        ('vt', {'p': float('nan')}, 'p=nan of VarianceSelector'),
        ('mit', {'threshold': -0.1}, 'threshold=-0.1 .* greater than or equal to 0'),
        ('mit', {'threshold': 1.0}, 'the best column has the normalised mutual information 1'),
        ('mit', {'threshold': float('nan')}, 'threshold=nan .* finite number'),
        ('mit', {'seed': None}, 'seed=None of MutualInformationSelector: .* valid integer'),
    ],
)
def test_what_removes_everything_or_makes_no_sense_is_refused(name, params, message, rows):
    with pytest.raises(DatasetError, match=message):
        fitted(name, rows, **params)


def test_unknown_selectors_and_parameters_are_refused():
    with pytest.raises(DatasetError, match="no selector 'pca'; registered: mit, random, rcr, vt, vt_mit"):
        make_selector('pca')
    with pytest.raises(DatasetError, match="unknown parameter 'threshold' of VarianceSelector; valid: p"):
        make_selector('vt', threshold=0.1)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.sampled_from([0.6, 0.75, 0.9, 0.95]))
@settings(max_examples=60, deadline=None)
def test_variance_keeps_what_varies_in_more_than_a_share(ones, p):
    """A binary column stays if neither value has a share of p or more, exactly."""
    X = (np.arange(40)[:, None] < np.array(ones)).astype(float)
    expected = [column for column, count in enumerate(ones) if max(count, 40 - count) < round(40 * p, 9)]
    if not expected:
        with pytest.raises(DatasetError, match='removes all'):
            make_selector('vt', p=p).fit(X)
    else:
        assert kept(make_selector('vt', p=p).fit(X)) == expected


def test_variance_is_the_one_of_scikit_learn(rows):
    selector = fitted('vt', rows)
    assert kept(selector) == np.flatnonzero(VarianceThreshold(0.09).fit(rows[0]).get_support()).tolist()
    assert kept(fitted('vt', rows, p=1)) == list(range(16))
    constant = np.concatenate([rows[0], np.full((200, 1), 0.1)], axis=1)
    assert kept(make_selector('vt', p=1).fit(constant)) == list(range(16))


def test_mutual_information_is_the_one_of_scikit_learn(rows):
    discrete = np.arange(16) >= 4
    expected = mutual_info_regression(*rows, discrete_features=discrete, random_state=3)
    raw = fitted('mit', rows, normalised=False, seed=3, threshold=0.02)
    np.testing.assert_allclose(raw.information_, expected)
    assert kept(raw) == np.flatnonzero(expected > 0.02).tolist()
    normalised = fitted('mit', rows, seed=3, threshold=0.1)
    assert normalised.information_.max() == 1
    assert kept(normalised) == np.flatnonzero(expected > 0.1 * expected.max()).tolist()
    assert {2, 15} <= set(kept(normalised)), 'the target depends on these'


def test_information_is_asked_of_what_variance_left(rows):
    both, variance = fitted('vt_mit', rows, threshold=0.05), fitted('vt', rows)
    left = variance.get_support()
    information = make_selector('mit', threshold=0.05).fit(rows[0][:, left], rows[1])
    assert kept(both) == np.flatnonzero(left)[information.get_support()].tolist()


def test_clusters_by_growing_radius(rows):
    """Names of a combination have the part before them."""
    assert kept(fitted('rcr', rows, n_features=6)) == [0, 1, 2, 3, 8, 9]
    assert kept(fitted('rcr', rows, n_features=13)) == [0, 1, 2, 3, 4, *range(8, 16)]
    assert kept(fitted('rcr', rows, n_features=None, max_radius=2)) == [0, 1, 2, 3, *range(8, 16)]
    prefixed = [f'clusters/{name}' for name in NAMES]
    assert kept(make_selector('rcr', max_radius=1).fit(rows[0], feature_names=prefixed)) == [0, 1, 2, 3, *range(8, 12)]
    with pytest.raises(DatasetError, match=r"the column 'C\|CCC' is no cluster of a radius"):
        make_selector('rcr', n_features=1).fit(rows[0][:, :2], feature_names=['C|CCC', 'k1:0:C|C3'])
    with pytest.raises(DatasetError, match='no column has a radius up to 0: the smallest is 1'):
        make_selector('rcr', max_radius=0).fit(rows[0][:, :1], feature_names=['k1:0:C|C3'])


def test_random_choices_grow_and_depend_on_the_seed(rows):
    choices = [set(kept(fitted('random', rows, n_features=count))) for count in range(1, 17)]
    assert [len(choice) for choice in choices] == list(range(1, 17))
    assert all(smaller < larger for smaller, larger in itertools.pairwise(choices))
    assert len({tuple(kept(fitted('random', rows, seed=seed))) for seed in range(8)}) > 1


def test_too_few_rows_for_the_mutual_information(rows):
    with pytest.raises(DatasetError, match='3 rows are too few for the mutual information: it needs 4'):
        make_selector('mit').fit(rows[0][:3], rows[1][:3])


def test_columns_that_say_nothing():
    with pytest.raises(DatasetError, match='none of 2 columns says anything about the target'):
        make_selector('mit').fit(np.ones((20, 2)), np.arange(20.0))


def test_third_party_selector(tmp_path, monkeypatch):
    info = tmp_path / 'thirdparty-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[aiida_nanoml.selectors]\nbest = thirdparty_selectors:SelectKBest\n')
    (tmp_path / 'thirdparty_selectors.py').write_text('from sklearn.feature_selection import SelectKBest\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'thirdparty_selectors', raising=False)
    assert 'best' in selector_names()
    assert make_selector('best', k=3).k == 3
