"""Compute the transmission of a one-dimensional potential by the R-matrix method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import Estimate, Result, step
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.rmatrix_common import TransmissionAction, estimate_transmission
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder


class Rmatrix(TransmissionAction):
    """Compute the transmission of SOURCE, an input file or a node with one potential.

    A file contains energies and the number of cosines; the options replace those. For a node, give --lowest and
    --highest.
    """

    action: ClassVar[str] = 'rmatrix'
    command: ClassVar[tuple[str, ...]] = ('rmatrix', 'run')
    makes: ClassVar[Mapping[str, str]] = {'': 'core.array.xy'}
    example: ClassVar[str] = (
        'aiida-nanoml rmatrix run barrier.txt --no-store -o transmission.txt --plot transmission.png'
    )

    source: str = argument('Input file, or node with one potential.')
    no_store: bool = option(False, 'Compute in this process, without a profile; store no node.')

    @model_validator(mode='after')
    def _check_submit(self) -> Self:
        """Check that nothing is written of what is not there yet."""
        if self.submit and (self.files() or self.no_store):
            raise InputError('{submit} goes without {output}, {plot} and {no_store}: there is nothing to write yet')
        return self

    def needs_storage(self) -> bool:
        """Return whether nodes are stored."""
        return not self.no_store

    def perform(self, session: Session) -> Result:
        """Compute it here, or as a job."""
        if not self.no_store:
            return super().perform(session)
        if not Path(self.source).is_file():
            raise InputError(f'{{no_store}} takes an input file, and there is no file {self.source}')
        following = step('rmatrix', source=self.source, no_store=True, plot='transmission.png')
        return self.compute(Path(self.source), following)

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the job."""
        return self.builder_for(session, self.source)

    def estimate(self) -> Estimate:
        """Return the memory, and the seconds of such jobs in this profile."""
        return estimate_transmission(self, self.source, stored=not self.no_store)
