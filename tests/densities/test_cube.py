import numpy as np
import pytest

from aiida_nanoml.densities import Density
from aiida_nanoml.densities.cube import write_cube
from aiida_nanoml.structures import Structure
from tests.conftest import gaussian_density

CELL = np.array([[4.0, 0, 0], [1.0, 5.0, 0], [0, -0.5, 6.0]])
WATER = Structure(np.array([8, 1, 1]), np.array([[2.0, 2, 3], [2.76, 2.59, 3], [1.24, 2.59, 3]]), CELL)


def test_cube_is_what_other_programs_read(tmp_path):
    from ase.io.cube import read_cube
    from ase.units import Bohr

    density = gaussian_density(WATER, points=7)
    write_cube(tmp_path / 'water.cube', density, density.total, 'H2O,\nSIESTA 4.1 / paper')
    with (tmp_path / 'water.cube').open() as file:
        found = read_cube(file)
    assert found['data'] / Bohr**3 == pytest.approx(density.total, rel=1e-4, abs=1e-6)
    assert found['atoms'].cell.array == pytest.approx(CELL, abs=1e-5)
    assert found['atoms'].positions == pytest.approx(WATER.positions, abs=1e-5)
    assert found['atoms'].get_chemical_symbols() == ['O', 'H', 'H']
    lines = (tmp_path / 'water.cube').read_text().splitlines()
    assert lines[0] == 'H2O, SIESTA 4.1 / paper, electrons/Bohr^3'
    # Seven values along the third vector: six, and one on a line of its own.
    assert [len(line.split()) for line in lines[9:13]] == [6, 1, 6, 1]


def test_order_of_the_axes(tmp_path):
    values = np.arange(24.0).reshape(2, 3, 4)
    density = Density(WATER, values, np.zeros((2, 3, 4)))
    write_cube(tmp_path / 'axes.cube', density, values, 'numbers')
    numbers = ' '.join((tmp_path / 'axes.cube').read_text().splitlines()[9:]).split()
    assert np.diff(np.array(numbers, dtype=float)) == pytest.approx(0.529177**3, rel=1e-4)
