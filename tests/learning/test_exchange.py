import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.exchange import check_gaps, parse_xy, read_xy, write_xy
from tests.mutations import fuzzed, mutations

# Subnormal gaps lose their last bit in the division by 4.
numbers = st.floats(
    allow_nan=False, allow_infinity=False, allow_subnormal=False, min_value=-1e300, max_value=1e300
).map(lambda v: 0.0 if abs(v) < 1e-300 else v)


@settings(deadline=None)
@given(arrays(float, (5, 4), elements=numbers))
def test_round_trip_is_exact(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp('xy')
    write_xy(folder / 'x.dat', folder / 'y.dat', table[:, :3], table[:, 3])
    X, y = read_xy(folder / 'x.dat', folder / 'y.dat', n_features=3)
    assert np.array_equal(X, table[:, :3])
    assert np.array_equal(y, table[:, 3])


def test_targets_in_the_file_are_gap_over_4_ev(tmp_path):
    write_xy(tmp_path / 'x.dat', tmp_path / 'y.dat', [[1.0, 0.25]], [2.0])
    assert (tmp_path / 'x.dat').read_text() == '1.0 0.25\n'
    assert (tmp_path / 'y.dat').read_text() == '0.5\n'
    assert read_xy(tmp_path / 'x.dat', tmp_path / 'y.dat', n_features=2, target_scale_ev=1.0)[1] == [0.5]


def test_features_alone_and_free_layout(tmp_path):
    (tmp_path / 'x.dat').write_text('  1 2\n\n3\t4e0  \n')
    (tmp_path / 'y.dat').write_text('0.1 0.2')
    X, y = read_xy(tmp_path / 'x.dat', n_features=2)
    assert X.tolist() == [[1, 2], [3, 4]]
    assert y is None
    assert read_xy(tmp_path / 'x.dat', tmp_path / 'y.dat', n_features=2)[1].tolist() == [0.4, 0.8]


@pytest.mark.parametrize(
    ('x', 'y', 'message'),
    [
        ('1 2\n3\n', '1\n2\n', r'x\.dat, line 2: 1 numbers where 2 features'),
        ('1 2\n\n3 4 5\n', '1\n2\n', r'x\.dat, line 3: 3 numbers where 2 features'),
        ('1 2\n3 nan\n', '1\n2\n', r"x\.dat, line 2: 'nan' is not finite"),
        ('1 2\n3 1e999\n', '1\n2\n', r"x\.dat, line 2: '1e999' is not finite"),
        ('1 2\n3 four\n', '1\n2\n', r"x\.dat, line 2: 'four' is not a number"),
        ('1 2\n3 4\n', '1\n', r'x\.dat has 2 rows but .*y\.dat has 1 numbers'),
        ('1 2\n3 4\n', '1\ninf\n', r"y\.dat, line 2: 'inf' is not finite"),
        ('1 2\n3 4\n', '1\n-1e308\n', r'y\.dat, line 2: a target times 4 eV is not finite'),
        ('\n', '1\n', r'x\.dat holds no numbers'),
        ('\udcff', '1\n', r'x\.dat cannot be read as text'),
    ],
)
def test_damaged_files_are_refused_by_name_and_line(tmp_path, x, y, message):
    (tmp_path / 'x.dat').write_bytes(x.encode('utf-8', 'surrogateescape'))
    (tmp_path / 'y.dat').write_text(y)
    with pytest.raises(DatasetError, match=message):
        read_xy(tmp_path / 'x.dat', tmp_path / 'y.dat', n_features=2)


@pytest.mark.parametrize(
    ('gaps', 'scale'),
    [([1.2, 2000.0], 4.0), ([-4.0, 2.0], 1.0), ([0.0005, 0.004], 0.001), ([16.0], 4.0)],
    ids=['meV read as gap / 4 eV', 'below zero', 'eV read as meV', 'eV read as gap / 4 eV'],
)
def test_gaps_in_another_unit_are_refused(gaps, scale):
    with pytest.raises(DatasetError, match=r'y\.csv: the gaps are .* implausible: choose the unit .* ev, mev, gap/4ev'):
        check_gaps(np.array(gaps), 'y.csv', scale)


@pytest.mark.parametrize(('gaps', 'scale'), [([0.001, 0.002], 1.0), ([0.0, 5.9], 4.0), ([0.3, 4.9], 0.001)])
def test_gaps_that_there_are_are_taken(gaps, scale):
    check_gaps(np.array(gaps), 'y.dat', scale)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r'nowhere\.dat cannot be read'):
        read_xy(tmp_path / 'nowhere.dat')


@pytest.mark.parametrize('scale', [0.0, -4.0, float('nan')])
def test_scale_is_positive(tmp_path, scale):
    with pytest.raises(DatasetError, match='positive energy'):
        write_xy(tmp_path / 'x.dat', tmp_path / 'y.dat', [[1.0]], [1.0], target_scale_ev=scale)


def test_nothing_is_written_when_the_rows_do_not_match(tmp_path):
    with pytest.raises(DatasetError, match='3 rows'):
        write_xy(tmp_path / 'x.dat', tmp_path / 'y.dat', [[1.0]], [1.0, 2.0, 3.0])
    assert not list(tmp_path.iterdir())


@fuzzed()
def test_no_mutation_is_a_traceback_or_an_infinite_number(seed):
    whole = b'1.0 0.25 -3e-2\n0 1 2\n1e5 -0.5 7\n', b'0.3333\n0.1\n-0.25\n'
    for damaged in (0, 1):
        for content in mutations(whole[damaged], seed):
            x, y = (content, whole[1]) if damaged == 0 else (whole[0], content)
            try:
                features, gaps = parse_xy(x, y, 'x.dat', 'y.dat', 3, 4.0)
            except DatasetError:
                continue
            assert features.shape == (3, 3)
            assert gaps.shape == (3,)
            assert np.isfinite(features).all()
            assert np.isfinite(gaps).all()
