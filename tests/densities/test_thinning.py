"""Densities that take little room."""

from __future__ import annotations

import io

import numpy as np
import pytest

from aiida_nanoml.densities.density import write_density
from aiida_nanoml.densities.thinning import STEP, thin
from tests.densities.recorded import recorded_density


def test_a_thinned_density_keeps_electrons_and_error_and_takes_a_fraction_of_the_room() -> None:
    density = recorded_density('z-0000')
    found = thin(density, 0.32)
    assert found.shape == (60, 60, 31)
    assert found.charge(found.total) == pytest.approx(108, rel=1e-3)
    assert found.nmae(0) == pytest.approx(density.nmae(0), rel=0.06)
    assert found.free.min() == 0, 'a superposition rings nowhere'
    for values in (found.free, found.difference):
        assert (values / STEP == np.round(values / STEP)).all()
    packed = io.BytesIO()
    write_density(packed, found)
    assert len(packed.getvalue()) < 0.1 * (found.free.nbytes + found.difference.nbytes)
