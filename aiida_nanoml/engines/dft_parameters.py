"""Parameters that engines of density-functional theory share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from aiida_nanoml.engines.base import EngineParameters
from aiida_nanoml.engines.k_points import monkhorst_pack_mesh
from aiida_nanoml.structures import Structure
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG

Mesh = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
Shift = Annotated[list[Annotated[float, Field(gt=-1, lt=1)]], Field(min_length=3, max_length=3)]


class DftParameters(EngineParameters):
    """Functional, spin, occupations, k-points and box, in the units and under the names of all such engines.

    A subclass narrows ``functional`` to what its program knows, and adds basis and cutoffs.
    """

    functional: str = Field(
        pattern=r'^(LDA|GGA|VDW)-\w+$', description='exchange and correlation, for example LDA-CA or GGA-PBE'
    )
    spin: Literal['none', 'polarized'] = Field(description='whether the two spins may differ')
    electronic_temperature_kelvin: float = Field(ge=0, description='temperature of the occupations; 0: fixed ones')
    max_scf_iterations: int = Field(ge=1, description='limit of the self-consistency cycle')
    k_grid: Mesh | None = Field(description='Monkhorst-Pack mesh along periodic directions; None: k_density, or Gamma')
    k_density: float | None = Field(
        gt=0, description='k-points times atoms of a mesh that depends on the shape of the cell only'
    )
    k_shift: Shift = Field(description='displacement of the mesh in units of its step')
    vacuum_ang: float = Field(ge=MINIMUM_VACUUM_ANG, description='distance between the images of an isolated structure')

    @model_validator(mode='after')
    def _check_mesh(self) -> DftParameters:
        if self.k_grid is not None and self.k_density is not None:
            raise ValueError('give one of k_grid and k_density and leave the other None')
        if self.k_grid is None and self.k_density is None and any(self.k_shift):
            raise ValueError('k_shift displaces a mesh: it needs k_grid or k_density')
        return self

    @property
    def kind_and_authors(self) -> tuple[str, str]:
        """Kind of exchange and correlation, and its authors."""
        kind, _, authors = self.functional.partition('-')
        return kind, authors

    def mesh(self, structure: Structure) -> tuple[list[int], list[float]] | None:
        """Return divisions and displacements of the k-points of a structure; None for the Gamma point alone."""
        return monkhorst_pack_mesh(
            structure, grid=self.k_grid, length_ang=None, density=self.k_density, shift=self.k_shift
        )
