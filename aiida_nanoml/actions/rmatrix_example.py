"""Compute the transmission of an example."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import Estimate, Result, step
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import OUTPUT, option
from aiida_nanoml.actions.rmatrix_common import TransmissionAction, estimate_transmission
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder


class RmatrixExample(TransmissionAction):
    """Compute the example: a barrier of 100 nm and 0.1 eV for electrons of 0.023 m0."""

    action: ClassVar[str] = 'rmatrix_example'
    command: ClassVar[tuple[str, ...]] = ('rmatrix', 'example')
    makes: ClassVar[Mapping[str, str]] = {'': 'core.array.xy'}
    example: ClassVar[str] = 'aiida-nanoml rmatrix example --input barrier.txt'

    store: bool = option(
        False,
        'Store nodes in the profile.',
        options=('--store/--no-store',),
        shown='no-store: compute without a profile',
    )
    input_file: Path | None = option(
        None,
        'File to write the input to, as a start for your own.',
        options=('--input',),
        exists='new file',
        group=OUTPUT,
    )

    @model_validator(mode='after')
    def _check_submit(self) -> Self:
        """Check that nothing is written of what is not there yet."""
        if self.submit and (self.files() or not self.store):
            raise InputError('{submit} goes with {store}, and without {output} and {plot}')
        return self

    def needs_storage(self) -> bool:
        """Return whether nodes are stored."""
        return self.store

    def perform(self, session: Session) -> Result:
        """Write the input, and compute its transmission here or as a job."""
        from aiida_nanoml.transport.files import EXAMPLE, write_text

        following = step('rmatrix_example', input_file='barrier.txt')
        if self.input_file is not None:
            self.check_overwriting(self.input_file)
            write_text(self.input_file, EXAMPLE.read_text(encoding='utf-8'))
            following = step('rmatrix', source=self.input_file, no_store=True)
        return super().perform(session) if self.store else self.compute(EXAMPLE, following)

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the job."""
        from aiida_nanoml.transport.files import EXAMPLE

        return self.builder_for(session, str(EXAMPLE))

    def estimate(self) -> Estimate:
        """Return the memory, and the seconds of such jobs in this profile."""
        from aiida_nanoml.transport.files import EXAMPLE

        return estimate_transmission(self, str(EXAMPLE), stored=self.store)
