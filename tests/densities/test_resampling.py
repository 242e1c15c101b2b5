from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiida_nanoml.densities import Density
from aiida_nanoml.densities.resampling import mesh_of_spacing, resample, resample_values
from aiida_nanoml.errors import DensityError
from aiida_nanoml.structures import Structure
from tests.densities.recorded import recorded_density

meshes = st.tuples(*3 * [st.integers(1, 12)])


def random_values(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def band_limited(shape, n_waves, seed):
    """Evaluate a random trigonometric polynomial on a mesh: waves of up to (n - 1) / 2 along each vector."""
    rng = np.random.default_rng(seed)
    values = np.zeros(shape)
    grids = np.meshgrid(*(np.arange(n) / n for n in shape), indexing='ij')
    for _ in range(6):
        wave = [int(rng.integers(-((n - 1) // 2), (n - 1) // 2 + 1)) for n in n_waves]
        phase = sum(k * grid for k, grid in zip(wave, grids, strict=True))
        values += rng.normal() * np.cos(2 * np.pi * phase + rng.uniform(0, 2 * np.pi))
    return values.astype(np.float32)


@given(meshes, meshes, st.integers(0, 99))
def test_what_both_meshes_carry_is_exact(old, new, seed):
    both = tuple(min(pair) for pair in zip(old, new, strict=True))
    found = resample_values(band_limited(old, both, seed), new)
    assert found.shape == new
    assert found.dtype == np.float32
    assert found == pytest.approx(band_limited(new, both, seed), abs=2e-5)


@given(meshes, meshes, st.integers(0, 99))
def test_the_mean_is_kept(old, new, seed):
    values = random_values(old, seed)
    assert resample_values(values, new).mean() == pytest.approx(values.mean(), abs=2e-6)


@given(meshes, meshes, st.integers(0, 99))
def test_a_finer_mesh_and_back_changes_nothing(old, more, seed):
    values = random_values(old, seed)
    finer = tuple(n + m for n, m in zip(old, more, strict=True))
    assert resample_values(resample_values(values, finer), old) == pytest.approx(values, abs=1e-5)


@given(st.integers(2, 6), st.integers(0, 99))
def test_points_that_both_meshes_have_keep_their_values_on_a_multiple(factor, seed):
    """Also for the highest wave of an even mesh, which is half of each direction."""
    values = random_values((4, 5, 6), seed)
    found = resample_values(values, tuple(factor * n for n in values.shape))
    assert found[::factor, ::factor, ::factor] == pytest.approx(values, abs=1e-5)


def test_the_highest_wave_of_an_even_mesh():
    alternating = np.array([1.0, -1.0, 1.0, -1.0], dtype=np.float32)[:, None, None]
    x = np.arange(12) / 12
    up = resample_values(alternating, (12, 1, 1))[:, 0, 0]
    assert up == pytest.approx(np.cos(4 * np.pi * x), abs=1e-6)
    # Its sine is nought on the points of the coarse mesh.
    for phase in (0.0, 0.3, np.pi / 2):
        wave = np.cos(4 * np.pi * x + phase).astype(np.float32)[:, None, None]
        down = resample_values(wave, (4, 1, 1))[:, 0, 0]
        assert down == pytest.approx(np.cos(phase) * alternating[:, 0, 0], abs=1e-6)


def test_a_mesh_is_periodic():
    """A shift by whole points of both meshes commutes with the change of the mesh."""
    values = random_values((12, 6, 8))
    shifted = resample_values(np.roll(values, (4, 3, 2), (0, 1, 2)), (9, 4, 4))
    assert shifted == pytest.approx(np.roll(resample_values(values, (9, 4, 4)), (3, 2, 1), (0, 1, 2)), abs=1e-5)


def test_recorded_densities_keep_their_charge():
    density = recorded_density('z-0000')
    for spacing in (0.2, 0.32):
        found = resample(density, spacing)
        assert found.structure is density.structure
        assert found.spacing == pytest.approx([spacing] * 3, rel=0.03)
        assert found.charge(found.total) == pytest.approx(density.charge(density.total), rel=1e-5)
        assert found.charge(found.difference) == pytest.approx(density.charge(density.difference), abs=1e-4)
    coarse = found
    assert coarse.shape == (60, 60, 31)
    assert coarse.nmae(0) == pytest.approx(density.nmae(0), rel=0.06)
    # The least values that a spacing of 0.32 Å brings: two hundredths of the largest.
    assert -0.09 < coarse.total.min() < 0
    # Going back, the difference is right to a hundredth of the electrons, of which it is a tenth itself.
    assert density.nmae(resample_values(coarse.difference, density.shape)) < 0.015


def test_the_mesh_of_a_spacing_follows_each_vector():
    oblique = [[8.0, 0.0, 0.0], [4.0, 6.9282, 0.0], [0.0, 0.0, 12.0]]
    assert mesh_of_spacing(oblique, 0.2) == (40, 40, 60)
    density = Density(
        Structure(np.array([1]), np.zeros((1, 3)), np.array(oblique)), *2 * [random_values((20, 20, 30)) + 9]
    )
    assert resample(density, 0.2).spacing == pytest.approx([0.2, 0.2, 0.2], rel=1e-5)


@pytest.mark.parametrize(
    ('spacing', 'reason'),
    [
        (0.0, 'must be positive'),
        (-0.2, 'must be positive'),
        (math.nan, 'must be positive'),
        (1e-4, 'more than 2147483648 points'),
        (4.3, r'within 3% of 4.3 Å .* the nearest are 5, 5, 5 Å'),
        (99.0, 'within 3% of 99 Å'),
    ],
)
def test_spacings_that_no_mesh_has_are_refused(spacing, reason):
    with pytest.raises(DensityError, match=reason):
        mesh_of_spacing(np.diag([10.0, 5.0, 10.0]), spacing)


@pytest.mark.parametrize('shape', [(0, 4, 4), (4, 4), (4, -1, 4), (2**12, 2**12, 2**12)])
def test_meshes_that_there_are_not_are_refused(shape):
    with pytest.raises(DensityError, match='cannot be put onto a mesh'):
        resample_values(random_values((4, 4, 4)), shape)


def test_a_charge_that_is_not_kept_is_refused():
    with pytest.raises(DensityError, match='the charge was not kept'):
        resample_values(np.full((4, 4, 4), np.nan), (2, 2, 2))
