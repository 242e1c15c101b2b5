"""Make a potential of a table of x and V."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.rmatrix_common import store_potential
from aiida_nanoml.actions.rmatrix_siesta import MASSES_M0
from aiida_nanoml.actions.session import Session


class RmatrixImport(NamedAction):
    """Make a potential of TABLE, two columns x and V in even steps of x.

    Each row is the middle of a cell; the first and the last row continue as leads.
    """

    action: ClassVar[str] = 'rmatrix_import'
    command: ClassVar[tuple[str, ...]] = ('rmatrix', 'import')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.potentials'}
    example: ClassVar[str] = 'aiida-nanoml rmatrix import profile.csv --mass 0.067 --energy-unit mev --name well'

    table: Path = argument('File of two columns.', exists='file')
    mass: float = option(..., 'Effective mass.', unit='m0', ge=MASSES_M0[0], le=MASSES_M0[1])
    length_unit: Literal['nm', 'ang', 'bohr'] = option('nm', 'Unit of x.')
    energy_unit: Literal['ev', 'mev', 'ry', 'hartree'] = option('ev', 'Unit of V.')

    def perform(self, session: Session) -> Result:
        """Store the file, and read it."""
        from aiida.orm import Dict, SinglefileData

        from aiida_nanoml.calculations.functions.potentials import import_profile

        settings = {name: getattr(self, name) for name in ('mass', 'length_unit', 'energy_unit')}
        inputs = {'file': SinglefileData(self.table.absolute()), 'settings': Dict(settings)}
        return store_potential(session, import_profile, self.name, **inputs)
