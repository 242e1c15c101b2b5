"""Thinned densities, to be packed small: on a coarse mesh, in steps."""

from __future__ import annotations

import numpy as np

from aiida_nanoml.densities.density import Density, Values
from aiida_nanoml.densities.free_atoms import FreeAtoms
from aiida_nanoml.densities.resampling import mesh_of_spacing, resample_values

STEP = 2.0**-12
"""Values of a thinned density are whole multiples of this, in electrons/Å³."""


def thin(density: Density, spacing_ang: float) -> Density:
    """Put a density on a coarse mesh, and round it to steps, so that it can be packed to a fraction of its size.

    The difference is resampled. The free-atom density has peaks that a coarse mesh cannot carry; it is superposed again
    from the radial densities of the atoms that a fit finds in it.

    :param density: on the mesh of its engine.
    :param spacing_ang: of the mesh to make, in Å.
    :raises DensityError: no mesh has that spacing, or the free-atom density is no superposition of spherical atoms.
    """
    shape = mesh_of_spacing(density.structure.cell, spacing_ang)
    free = FreeAtoms.fit([density]).superpose(density.structure, shape)
    return Density(density.structure, _in_steps(free), _in_steps(resample_values(density.difference, shape)))


def _in_steps(values: Values) -> Values:
    stepped: Values = np.round(values / STEP).astype(np.float32) * np.float32(STEP)
    # Zero has no sign, or it would be packed as two different values.
    return stepped + np.float32(0.0)
