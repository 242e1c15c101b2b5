"""Compute transmissions at several values of one parameter of a potential."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from aiida_nanoml.actions.base import Estimate, FileAction, JobAction, Result, Step, record, step
from aiida_nanoml.actions.common import settings_option
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import argument, option, output_option
from aiida_nanoml.actions.rmatrix_common import (
    NOT_CONVERGED,
    EnergyFields,
    accuracy_line,
    convergence_failure,
    estimate_transmission,
    preset_names,
    stored_potential,
)
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode

WRITTEN = ('transmission.csv', 'resonances.csv', 'transmission.png')

MOST_VALUES = 10_000

Variation = tuple[str, tuple[Annotated[float, Field(ge=-1e7, le=1e7)], ...]]
"""Name of a parameter and its values, whose unit depends on the parameter."""


def parse_variation(text: str) -> Variation:
    """Read ``NAME=V,V,…``, or ``NAME=FIRST:LAST:COUNT`` for evenly spaced values.

    :raises ValueError: the text has another form.
    """
    name, equals, values = text.partition('=')
    try:
        if not equals or not name.strip():
            raise ValueError
        if ':' not in values:
            return name.strip(), tuple(float(word) for word in values.split(','))
        first, last, count = values.split(':')
        return name.strip(), _evenly_spaced(float(first), float(last), int(count))
    except ValueError:
        raise ValueError(f'{text!r} is not of the form width=2,4,8 or width=2:10:33') from None


def format_variation(variation: Variation) -> str:
    """Write a variation as it is read."""
    return f'{variation[0]}={",".join(map(repr, variation[1]))}'


def _evenly_spaced(first: float, last: float, count: int) -> tuple[float, ...]:
    if not 2 <= count <= MOST_VALUES:
        raise ValueError
    # Rounded, so that steps of 0.1 give 0.3 and not 0.30000000000000004.
    return tuple(float(f'{first + (last - first) * number / (count - 1):.12g}') for number in range(count))


class RmatrixScan(EnergyFields, FileAction, JobAction):
    """Compute T(E) at several values of one parameter of SOURCE, and draw the map.

    SOURCE is a potential by name (`aiida-nanoml rmatrix potential --help`), an input file, or a node with one
    potential. Of a file or a node, mass, bias and scale can be varied.
    """

    action: ClassVar[str] = 'rmatrix_scan'
    command: ClassVar[tuple[str, ...]] = ('rmatrix', 'scan')
    makes: ClassVar[Mapping[str, str]] = {'': 'core.array.xy'}
    example: ClassVar[str] = (
        'aiida-nanoml rmatrix scan double_barrier --vary separation=3:12:37 --lowest 0.01 --highest 0.5 --name map'
    )
    short: ClassVar[str | None] = 'Transmissions at several values of one parameter'
    accepted: ClassVar[tuple[int, ...]] = (NOT_CONVERGED,)

    source: str = argument('Potential by name, input file, or node with one potential.')
    vary: Variation = option(
        ...,
        'Parameter and values, or FIRST:LAST:COUNT.',
        parse=parse_variation,
        format=format_variation,
        metavar='NAME=V,V,…',
    )
    parameters: dict[str, Any] = settings_option('Parameter of a potential by name; repeatable.')
    output: Path | None = output_option('Folder for map and tables.', exists='new folder')

    @model_validator(mode='after')
    def _check_fields(self) -> Self:
        """Check that nothing is written of what is not there yet, and that parameters have a potential."""
        if self.submit and self.output is not None:
            raise InputError('{submit} goes without {output}: draw the map with rmatrix plot when the scan has ended')
        if self.source not in preset_names() and self.parameters:
            raise InputError('{parameters} goes with a potential by name')
        if self.source in preset_names():
            self.check_energies()
        return self

    def check(self) -> None:
        """Check that no file is replaced."""
        if self.output is not None and self.output.is_dir():
            for name in WRITTEN:
                self.check_overwriting(self.output / name)

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the scan."""
        from aiida.orm import Dict

        from aiida_nanoml.workflows.rmatrix_scan import RmatrixScanWorkChain

        if self.source in preset_names():
            potential, settings = self.source, self.changes()
        else:
            potential, stored = stored_potential(session, self.source, self)
            settings = stored.get_dict()
        builder = RmatrixScanWorkChain.get_builder_for(
            self.worker(), potential, *self.vary, settings, parameters=self.parameters
        )
        builder.options = Dict(self.job_options())
        return builder

    def output_names(self) -> dict[str, str]:
        """Return the label of the transmissions."""
        return {'transmission': self.name}

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Write map and tables."""
        from aiida_nanoml.actions.files import write_files

        files = () if self.output is None else write_files(process.outputs.files, self.output)
        return RmatrixScanResult(process, self.vary, files)

    def estimate(self) -> Estimate:
        """Return the memory of a job; a basis that is too small is doubled in further jobs."""
        return estimate_transmission(self, self.source, stored=True, n_potentials=len(self.vary[1]))


@dataclass(frozen=True)
class RmatrixScanResult(Result):
    """Transmissions at several values of one parameter.

    :param process: the scan.
    :param vary: parameter and values.
    :param files: that were written.
    """

    process: ProcessNode
    vary: Variation
    files: tuple[Path, ...]

    @property
    def failure(self) -> str | None:  # type: ignore[override]
        """Return that the basis is too small."""
        results = self._results()
        return convergence_failure(results['settings'], results['largest_truncation_error'])

    def to_dict(self) -> dict[str, Any]:
        """Return parameter, counts and errors."""
        results = self._results()
        return record(
            self.process.outputs.transmission,
            process=self.process.uuid,
            parameter=self.vary[0],
            n_values=len(self.vary[1]),
            n_energies=results['n_energies'],
            n_resonances=results['n_resonances'],
            n_basis=results['settings']['n_basis'],
            truncation_error=results['largest_truncation_error'],
            noise_floor=results['largest_noise_floor'],
            unitarity_defect=results['largest_unitarity_defect'],
        )

    def lines(self) -> dict[str, object]:
        """Return counts, errors and files."""
        results = self._results()
        errors = [results[f'largest_{name}'] for name in ('truncation_error', 'noise_floor', 'unitarity_defect')]
        return {
            'transmissions': f'pk {self.process.outputs.transmission.pk}, {len(self.vary[1])} values of '
            f'{self.vary[0]}, {results["n_energies"]} energies',
            'accuracy': accuracy_line(results['settings'], *errors),
            'resonances': results['n_resonances'],
            **({'files': ', '.join(map(str, self.files))} if self.files else {}),
        }

    def next_step(self) -> Step:
        """Draw the map, or trace the scan if it is drawn already."""
        if self.files:
            return step('trace', node=self.process.pk)
        return step('rmatrix_plot', node=self.process.pk, output='map.png')

    def _results(self) -> dict[str, Any]:
        return dict(self.process.outputs.results.get_dict())
