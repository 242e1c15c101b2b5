"""Fields and results that the actions on transmissions share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel

from aiida_nanoml.actions.base import Estimate, FileAction, JobAction, Result, Step, given, record, step
from aiida_nanoml.actions.describe import identity_line
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import OUTPUT, option, output_option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.learning.plot_style import Width, save_figure
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import CalcJobNode, Node, ProcessNode
    from numpy.typing import NDArray

    from aiida_nanoml.data.potentials import PotentialSetData
    from aiida_nanoml.transport.potential import Potential
    from aiida_nanoml.transport.transmission import Transmission

NOT_CONVERGED = 511
"""Exit status of a job or scan whose transmissions are kept although the basis is too small for them."""

SHOWN_RESONANCES = 8

MOST_COSINES, MOST_ENERGIES, MOST_EV = 8192, 1_000_000, 1e5
"""Bounds of the core, which loads a solver."""

Correction = Literal['coupled', 'buttle', 'none']


class EnergyFields(BaseModel):
    """At which energies a transmission is computed, and how."""

    lowest: float | None = option(None, 'Lowest energy.', unit='eV', ge=-MOST_EV, le=MOST_EV)
    highest: float | None = option(None, 'Highest energy.', unit='eV', ge=-MOST_EV, le=MOST_EV)
    n_energies: int | None = option(
        None, 'Number of energies.', options=('--energies',), ge=1, le=MOST_ENERGIES, shown='that of the file, or 1000'
    )
    n_basis: int | None = option(
        None, 'Number of cosines.', options=('--basis',), ge=2, le=MOST_COSINES, shown='that of the file, or 512'
    )
    correction: Correction | None = option(
        None,
        'How functions beyond the basis are replaced: by their coupling and the mean potential (coupled), by the mean '
        'potential alone (buttle), or not at all (none).',
        shown='coupled',
    )
    resolve: bool = option(False, 'Add energies where a resonance is narrow.')

    def changes(self) -> dict[str, Any]:
        """Return what was chosen, by the name of the setting."""
        names = ('lowest', 'highest', 'n_energies', 'n_basis', 'correction')
        return given(**{name: getattr(self, name) for name in names}, resolve=self.resolve or None)

    def check_energies(self) -> None:
        """Check that there is a range of energies.

        :raises InputError: one end is missing.
        """
        if self.lowest is None or self.highest is None:
            raise InputError('a potential does not contain energies: give {lowest} and {highest}')


class TransmissionAction(EnergyFields, FileAction, JobAction):
    """An action that computes one transmission, as a job or without a profile."""

    accepted: ClassVar[tuple[int, ...]] = (NOT_CONVERGED,)

    output: Path | None = output_option('Text file of two columns, E in eV and T, below comments.')
    plot: Path | None = option(None, 'Figure of V(x) and T(E): .png, .pdf or .svg.', exists='new file', group=OUTPUT)

    def files(self) -> list[Path]:
        """Return the files that are written."""
        return [path for path in (self.output, self.plot) if path is not None]

    def check(self) -> None:
        """Check that no file is replaced."""
        for path in self.files():
            self.check_overwriting(path)

    def compute(self, path: Path, following: Step) -> Result:
        """Compute the transmission of an input file without a profile.

        :param following: the next step.
        """
        from aiida_nanoml.transport.files import read_input
        from aiida_nanoml.transport.settings import TransmissionSettings
        from aiida_nanoml.transport.transmission import compute_transmission

        self.check()
        content = read_input(path)
        settings = TransmissionSettings.from_dict(content.settings | self.changes())
        return self.report(compute_transmission(content.potential, settings), None, following)

    def builder_for(self, session: Session, source: str) -> ProcessBuilder:
        """Return the job of a file or a node."""
        from aiida_nanoml.calculations.functions.potentials import only_potential
        from aiida_nanoml.calculations.rmatrix import RmatrixCalculation

        potentials, settings = stored_potential(session, source, self)
        only_potential(potentials)
        builder = RmatrixCalculation.get_builder()
        builder.code = self.worker()
        builder.potentials = potentials
        builder.settings = settings
        builder.metadata.options.update(self.job_options())
        return builder

    def output_names(self) -> dict[str, str]:
        """Return the label of the transmission."""
        return {'transmission': self.name}

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Write files."""
        from aiida_nanoml.provenance.transmissions import read_transmission

        following = step('rmatrix_plot', node=process.pk, output='transmission.png')
        return self.report(read_transmission(process), process, following)

    def report(self, found: Transmission, job: CalcJobNode | None, following: Step) -> TransmissionResult:
        """Write the files, and return the result."""
        result = TransmissionResult(found, job, tuple(self.files()), None if self.plot else following)
        if self.output is not None:
            from aiida_nanoml.transport.files import format_transmission, write_text

            write_text(self.output, format_transmission(found.energies, found.values, result.comments()))
        if self.plot is not None:
            draw_transmission(found, self.plot)
        return result


def preset_names() -> Sequence[str]:
    """Return the names of all potentials that can be made by name."""
    from aiida_nanoml.transport.presets import PRESETS

    return tuple(PRESETS)


def stored_potential(session: Session, source: str, fields: EnergyFields) -> tuple[PotentialSetData, Any]:
    """Return the potential of a file or a node as a node, and the settings as another one.

    :param source: path, or PK, UUID or label.
    :param fields: what replaces the settings of a file.
    :raises TransportError: the file cannot be read, or settings cannot be used.
    :raises InputError: there is no such node, or no energies are given for it.
    """
    from aiida.orm import Dict, SinglefileData

    from aiida_nanoml.actions.nodes import load_data
    from aiida_nanoml.calculations.functions.potentials import import_potential
    from aiida_nanoml.transport.files import read_input
    from aiida_nanoml.transport.settings import TransmissionSettings

    changes = fields.changes()
    if not Path(source).is_file():
        node = load_data(source, ('nanoml.potentials',), 'source')
        fields.check_energies()
        return node, Dict(TransmissionSettings.from_dict(changes).to_dict())
    read_input(source)
    made = session.run_function(import_potential, file=SinglefileData(Path(source).absolute()))
    return made['potentials'], Dict(made['settings'].get_dict() | changes) if changes else made['settings']


def estimate_transmission(fields: EnergyFields, source: str, *, stored: bool, n_potentials: int = 1) -> Estimate:
    """Estimate the memory of transmissions, and the seconds from such jobs in this profile.

    :param source: potential by name, path, or PK, UUID or label.
    :param stored: a job does it; otherwise no profile is asked.
    :param n_potentials: potentials of the job.
    """
    from aiida_nanoml.actions.costs import estimate_transmissions
    from aiida_nanoml.transport.memory import transmission_memory_mb
    from aiida_nanoml.transport.settings import TransmissionSettings

    potential, known = _read_source(source, getattr(fields, 'parameters', {}))
    settings = TransmissionSettings.from_dict(known | fields.changes())
    memory = transmission_memory_mb(potential, settings.n_basis, settings.correction, settings.n_energies, n_potentials)
    basis = f'memory of the matrices of {settings.n_basis} cosines'
    if not stored:
        return Estimate(0, None, memory, basis)
    job = estimate_transmissions(settings.n_basis, n_potentials)
    return replace(job, memory_mb=memory, basis=f'{basis}; {job.basis}')


def _read_source(source: str, parameters: Mapping[str, Any]) -> tuple[Potential, dict[str, Any]]:
    """Return a potential, and the settings that its file has."""
    from aiida_nanoml.actions.nodes import load_data
    from aiida_nanoml.transport.files import read_input
    from aiida_nanoml.transport.presets import make_potential

    if source in preset_names():
        return make_potential(source, parameters), {}
    if Path(source).is_file():
        content = read_input(source)
        return content.potential, dict(content.settings)
    return load_data(source, ('nanoml.potentials',), 'source').potentials[0], {}


def draw_transmission(found: Transmission, path: Path, log_scale: bool | None = None, width: Width = 'double') -> None:
    """Draw V(x) and T(E) of one potential."""
    from aiida_nanoml.calculations.functions.potentials import method_note
    from aiida_nanoml.transport.plots import plot_transmission

    resonances = (found.resonance_energies, found.resonance_widths)
    note = method_note(found.settings)
    drawn = plot_transmission(found.potential, found.energies, found.values, resonances, note, log_scale, width=width)
    save_figure(drawn, path)


@dataclass(frozen=True)
class TransmissionResult(Result):
    """One transmission.

    :param found: the transmission.
    :param job: that computed it; None: this process.
    :param files: that were written.
    :param following: the next step.
    """

    found: Transmission
    job: CalcJobNode | None
    files: tuple[Path, ...]
    following: Step | None

    @property
    def failure(self) -> str | None:  # type: ignore[override]
        """Return that the basis is too small."""
        return convergence_failure(self.found.settings, self.found.truncation_error)

    def to_dict(self) -> dict[str, Any]:
        """Return range, errors, resonances and files."""
        found = self.found
        content = {
            'n_energies': len(found.energies),
            'lowest_ev': float(found.energies[0]),
            'highest_ev': float(found.energies[-1]),
            'largest_transmission': float(found.values.max()),
            'truncation_error': found.truncation_error,
            'noise_floor': found.noise_floor,
            'unitarity_defect': found.unitarity_defect,
            'resonances': [{'energy_ev': energy, 'width_ev': width} for energy, width in self._resonances()],
            'seconds': round(found.seconds, 4),
            'files': [str(path) for path in self.files],
        }
        if self.job is None:
            return content
        return content | record(self.job.outputs.transmission, process=self.job.uuid)

    def lines(self) -> dict[str, object]:
        """Return potential, energies, range and errors."""
        node = {} if self.job is None else {
            'node': f'{identity_line(self.job.outputs.transmission)}, job pk {self.job.pk}'
        }  # fmt: skip
        files = {'files': ', '.join(map(str, self.files))} if self.files else {}
        return {**node, **self._description(), 'time': f'{self.found.seconds:.2f} s', **files}

    def table(self) -> str:
        """Return the resonances, the narrowest of many."""
        return resonance_table(self.found.resonance_energies, self.found.resonance_widths)

    def next_step(self) -> Step | None:
        """Draw the transmission, or what else follows."""
        return self.following

    def comments(self) -> list[str]:
        """Return the comments of a text file with this transmission."""
        from aiida_nanoml import __version__

        lines = [f'aiida-nanoml {__version__}, transmission by the R-matrix method']
        lines += [f'{title}: {text}' for title, text in self._description().items()]
        if self.job is not None:
            lines.append(f'job: {self.job.uuid}')
        return lines + [f'resonance: {energy:.12g} eV, width {width:.6g} eV' for energy, width in self._resonances()]

    def _description(self) -> dict[str, str]:
        found = self.found
        errors = (found.truncation_error, found.noise_floor, found.unitarity_defect)
        return {
            **potential_lines(found.potential),
            'energies': f'{len(found.energies)} from {found.energies[0]:g} to {found.energies[-1]:g} eV',
            'transmission': f'{found.values.min():.3g} to {found.values.max():.6g}',
            'accuracy': accuracy_line(found.settings, *errors),
        }

    def _resonances(self) -> list[tuple[float, float]]:
        found = self.found
        return list(zip(found.resonance_energies.tolist(), found.resonance_widths.tolist(), strict=True))


@dataclass(frozen=True)
class PotentialResult(Result):
    """A potential in the graph.

    :param node: the node with one potential.
    """

    node: PotentialSetData

    def to_dict(self) -> dict[str, Any]:
        """Return length, cells and leads."""
        made = self.node.potentials[0]
        return record(self.node, length_nm=made.length, n_cells=len(made), leads_ev=made.leads.tolist())

    def lines(self) -> dict[str, object]:
        """Return node and potential."""
        identity = f'pk {self.node.pk}, uuid {self.node.uuid}'
        return {'node': identity, **potential_lines(self.node.potentials[0])}

    def next_step(self) -> Step:
        """Compute its transmission, from the edge of the higher lead to above the barrier."""
        made = self.node.potentials[0]
        edge = made.leads.max()
        reach = max(0.5, 1.2 * (made.values.max() - edge))
        lowest, highest = (float(f'{energy:.4g}') for energy in (edge + reach / 500, edge + reach))
        return step('rmatrix', source=self.node, lowest=lowest, highest=highest)


def store_potential(session: Session, function: Any, name: str, **inputs: Node) -> PotentialResult:
    """Run a calculation function that makes a potential, and label the potential."""
    node = session.run_function(function, **inputs)
    node.label = name
    return PotentialResult(node)


def potential_lines(potential: Potential) -> dict[str, str]:
    """Return a potential as rows of a table."""
    from aiida_nanoml.transport.profiles import is_steep

    question = {'question': 'it changes by more than 50 eV: is its unit meV?'} if is_steep(potential) else {}
    return {
        'potential': f'{potential.name or "without a name"}: {_range(potential.values)} eV on {potential.length:g} nm, '
        f'{len(potential)} cells',
        'leads': f'{potential.left:g} and {potential.right:g} eV',
        'mass': f'{_range(potential.masses)} m0',
        **question,
    }


def accuracy_line(
    settings: Mapping[str, Any], truncation_error: float, noise_floor: float, unitarity_defect: float
) -> str:
    """Return the estimated errors of a transmission."""
    noise = f', T up to {noise_floor:.0e} is noise' if noise_floor else ''
    return (
        f'T within {truncation_error:.1e}{noise} ({settings["n_basis"]} cosines, correction {settings["correction"]}), '
        f'unitary within {unitarity_defect:.1e}'
    )


def convergence_failure(settings: Mapping[str, Any], truncation_error: float) -> str | None:
    """Return what is wrong if the basis is too small."""
    if truncation_error <= settings['tolerance']:
        return None
    return (
        f'not converged: transmissions may be wrong by {truncation_error:.1e}, more than '
        f'{settings["tolerance"]:g}; take more than {settings["n_basis"]} cosines (--basis)'
    )


def resonance_table(energies: NDArray[Any], widths: NDArray[Any]) -> str:
    """Return the resonances as a table, the narrowest of many."""
    if not len(energies):
        return 'no resonances'
    from aiida_nanoml.transport.resonances import Resonances

    shown = sorted(widths.argsort()[:SHOWN_RESONANCES])
    lifetimes = Resonances(energies[shown], widths[shown]).lifetimes
    rows = [['resonance (eV)', 'width (eV)', 'lifetime (s)']]
    rows += [
        [f'{energies[number]:.9f}', f'{widths[number]:.3e}' if widths[number] else 'too narrow', f'{lifetime:.2e}']
        for number, lifetime in zip(shown, lifetimes, strict=True)
    ]
    more = len(energies) - len(shown)
    return aligned(rows) + (f'\nand {more} broader ones' if more else '')


def _range(numbers: NDArray[Any]) -> str:
    low, high = numbers.min(), numbers.max()
    return f'{low:g}' if low == high else f'{low:g} to {high:g}'
