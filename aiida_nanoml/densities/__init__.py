"""Valence electron densities on meshes."""

from aiida_nanoml.densities.density import Density

__all__ = ['Density']
