"""Make a one-dimensional potential of a mesh of SIESTA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from aiida_nanoml.actions.base import NamedAction, Result, given
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.rmatrix_common import MOST_EV, store_potential
from aiida_nanoml.actions.session import Session

MASSES_M0 = (1e-4, 1e4)
LARGEST_NM = 1e7

Period = Annotated[float, Field(gt=0, le=LARGEST_NM)]


class RmatrixSiesta(NamedAction):
    """Make a potential of GRID, a .VH or .VT of SIESTA, by its mean over planes."""

    action: ClassVar[str] = 'rmatrix_siesta'
    command: ClassVar[tuple[str, ...]] = ('rmatrix', 'siesta')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.potentials'}
    example: ClassVar[str] = 'aiida-nanoml rmatrix siesta slab.VH --mass 1 --period 0.2025 --zero -3.2 --name slab'

    grid: Path = argument('File .VH or .VT of SIESTA.', exists='file')
    mass: float = option(..., 'Effective mass, of your choice.', unit='m0', ge=MASSES_M0[0], le=MASSES_M0[1])
    axis: int = option(2, 'Lattice vector to go along.', ge=0, le=2)
    spin: int | None = option(None, 'Of a calculation with spin: 0 up, 1 down.', ge=0, le=1)
    periods: tuple[Period, ...] = option(
        (), 'Period to average over, such as that of a lattice; repeatable.', options=('--period',), unit='nm'
    )
    zero: float | None = option(
        None,
        'Energy to count from, such as the Fermi level.',
        unit='eV',
        ge=-MOST_EV,
        le=MOST_EV,
        shown='that of SIESTA',
    )
    start: float | None = option(
        None, 'Left end of the region.', unit='nm', ge=-LARGEST_NM, le=LARGEST_NM, shown='that of the cell'
    )
    end: float | None = option(
        None, 'Right end of the region.', unit='nm', ge=-LARGEST_NM, le=LARGEST_NM, shown='that of the cell'
    )
    lead: float | None = option(
        None, 'Stretch at both ends whose mean is the potential of the lead.', unit='nm', gt=0, le=LARGEST_NM
    )

    def perform(self, session: Session) -> Result:
        """Average the mesh."""
        from aiida.orm import Dict, SinglefileData

        from aiida_nanoml.calculations.functions.potentials import average_potential
        from aiida_nanoml.transport.planar_average import make_average_potential

        names = ('mass', 'axis', 'spin', 'zero', 'start', 'end', 'lead')
        settings = given(**{name: getattr(self, name) for name in names}) | {'periods': list(self.periods)}
        make_average_potential(self.grid.read_bytes(), self.grid.name, settings)
        inputs = {'grid': SinglefileData(self.grid.absolute()), 'settings': Dict(settings)}
        return store_potential(session, average_potential, self.name, **inputs)
