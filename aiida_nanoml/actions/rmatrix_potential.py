"""Make a one-dimensional potential by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import FileAction, NamedAction, Result, Step, step
from aiida_nanoml.actions.common import settings_option
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import argument, output_option
from aiida_nanoml.actions.rmatrix_common import EnergyFields, potential_lines, preset_names, store_potential
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.transport.potential import Potential


class RmatrixPotential(EnergyFields, FileAction, NamedAction):
    """Make the potential PRESET, as a node or as an input file.

    \b
    barrier         height, width
    well            depth, width
    double_barrier  height, width of each, separation
    step            height
    ramp            drop, length
    layers          sequence of [thickness, energy, mass], left, right

    All but layers have a mass; all take a bias, which drops evenly over the region. Energies are in eV, lengths in nm,
    masses in m0.
    """

    action: ClassVar[str] = 'rmatrix_potential'
    command: ClassVar[tuple[str, ...]] = ('rmatrix', 'potential')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.potentials'}
    example: ClassVar[str] = 'aiida-nanoml rmatrix potential double_barrier --set separation=6 --name diode'
    short: ClassVar[str | None] = 'Make a potential by name'

    preset: str = argument('Name of the potential.', choices=preset_names)
    parameters: dict[str, Any] = settings_option(
        'Parameter of the potential, such as height, width, mass or bias; repeatable.'
    )
    output: Path | None = output_option('Input file to write instead of a node; needs --lowest and --highest.')

    @model_validator(mode='after')
    def _check_output(self) -> Self:
        """Check that energies have a place."""
        if self.output is None and self.changes():
            raise InputError('energies and basis go into an input file ({output}), not into a node')
        if self.output is not None and (self.correction is not None or self.resolve):
            raise InputError('an input file has no {correction} and no {resolve}: give them when it is run')
        return self

    def needs_storage(self) -> bool:
        """Return whether a node is stored."""
        return self.output is None

    def perform(self, session: Session) -> Result:
        """Make the node, or write the file."""
        from aiida_nanoml.transport.presets import make_potential

        if self.output is not None:
            return self._write(self.output)
        from aiida.orm import Dict, Str

        from aiida_nanoml.calculations.functions.potentials import generate_potential

        make_potential(self.preset, self.parameters)
        inputs = {'preset': Str(self.preset), 'parameters': Dict(self.parameters)}
        return store_potential(session, generate_potential, self.name, **inputs)

    def _write(self, path: Path) -> Result:
        from aiida_nanoml.transport.files import format_input, input_of, write_text
        from aiida_nanoml.transport.presets import make_potential
        from aiida_nanoml.transport.settings import TransmissionSettings

        self.check_overwriting(path)
        wanted = TransmissionSettings.from_dict(self.changes())
        made = make_potential(self.preset, self.parameters)
        content = input_of(made, wanted.n_basis, wanted.n_energies, wanted.lowest, wanted.highest)
        write_text(path, format_input(content))
        return InputFileResult(path, made)


@dataclass(frozen=True)
class InputFileResult(Result):
    """An input file of a transmission.

    :param file: what was written.
    :param potential: the potential in it.
    """

    file: Path
    potential: Potential

    def to_dict(self) -> dict[str, Any]:
        """Return the file."""
        return {'file': str(self.file)}

    def lines(self) -> dict[str, object]:
        """Return file and potential."""
        return {'file': self.file, **potential_lines(self.potential)}

    def next_step(self) -> Step:
        """Compute its transmission."""
        return step('rmatrix', source=self.file, no_store=True)
