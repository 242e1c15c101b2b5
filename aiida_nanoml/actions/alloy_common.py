"""Fields and texts that the actions on alloys share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from aiida_nanoml.actions.base import Estimate, JobAction, given
from aiida_nanoml.actions.common import MAX_SEED, BatchFields, EngineFields, protocol_default, settings_option
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import ENGINE, JOB, comma_separated, option
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida_nanoml.provenance.alloys import AlloyScan
    from aiida_nanoml.structures import StructureSet

SHOWN_ALLOYS = 10

SCAN_PARTS = ('cells', 'structures', 'labels', 'atoms', 'curves', 'points', 'phases', 'summary')
PREDICTED_PARTS = ('curves', 'points', 'phases')

PREDICTED_NAMES = {f'-{part}': 'core.array' for part in PREDICTED_PARTS}
SCAN_NAMES = PREDICTED_NAMES | {
    '-cells': 'nanoml.structures',
    '-structures': 'nanoml.structures',
    '-labels': 'nanoml.labels',
    '-atoms': 'nanoml.labels',
    '-summary': 'core.dict',
}
"""Types of the results that get names, by what is added to the name."""

SYMBOLS = comma_separated(str, 'Co,Cr,Fe,Ni,Al') | {'metavar': 'EL,EL,…'}

Factors = tuple[Annotated[float, Field(gt=0, le=10)], ...]
Lengths = tuple[Annotated[float, Field(gt=0, le=100)], ...]


class CellFields(BaseModel):
    """Which elements are in cells, and how their atoms are drawn."""

    elements: tuple[str, ...] = option(('Co', 'Cr', 'Fe', 'Ni', 'Al'), 'Chemical symbols.', **SYMBOLS)
    n_atoms: int = option(8, 'Atoms of a cell.', options=('--atoms',), ge=8, le=108)
    order: Literal['random', 'sqs'] = option('random', 'Atoms at random, or a special quasi-random structure.')
    seed: int = option(..., 'Random seed of all draws: the same seed gives the same cells.', ge=0, le=MAX_SEED)


class ScanAction(EngineFields, BatchFields, JobAction):
    """An action that scans lattice constants."""

    engine: str = option('ase', 'Registered name of the engine.', group=ENGINE)
    protocol: str = option(
        'balanced', 'fast, balanced, stringent, or another one of the engine, such as metal of siesta.', group=ENGINE
    )
    parameters: dict[str, Any] = settings_option(
        'Parameter of the engine that replaces that of the protocol; repeatable.', group=ENGINE
    )
    factors: Factors | None = option(
        None,
        'Lattice constants in units of those of the cells: 0.96,1,1.04.',
        shown='those of the protocol',
        **comma_separated(float, '0.96,1,1.04'),
    )
    fcc: Lengths | None = option(
        None, 'Lattice constants of fcc, in place of factors.', unit='Å', **comma_separated(float, '3.5,3.6,3.7')
    )
    bcc: Lengths | None = option(
        None, 'Lattice constants of bcc, in place of factors.', unit='Å', **comma_separated(float, '2.8,2.9,3.0')
    )
    no_cohesive: bool = option(False, 'Leave out isolated atoms and cohesive energies.')
    dos_width: float | None = option(
        None, 'Gaussian width of the DOS.', unit='eV', gt=0, le=10, shown=protocol_default('alloy_scan', 'dos_width_ev')
    )
    max_extensions: int | None = option(
        None,
        'Largest number of extensions of a scan whose energy still falls at an end.',
        ge=0,
        le=100,
        shown=protocol_default('alloy_scan', 'max_extensions'),
    )
    processes: int | None = option(None, 'Points that one job evaluates at the same time.', ge=1, group=JOB)
    program_processes: int | None = option(None, 'MPI processes of the program for a point.', ge=1, group=JOB)
    time_limit: float | None = option(None, 'Time that a point may take.', unit='s', gt=0, group=JOB)

    def chosen_scan(self) -> dict[str, Any]:
        """Return the lattice constants that were chosen, as the workflow wants them; empty for those of the protocol.

        :raises InputError: factors and lattice constants are both given.
        """
        constants = {phase: list(values) for phase, values in (('fcc', self.fcc), ('bcc', self.bcc)) if values}
        if constants and self.factors is not None:
            raise InputError('give {factors}, or lattice constants by {fcc} and {bcc}')
        if constants:
            return {'lattice_constants': constants}
        return {} if self.factors is None else {'factors': list(self.factors)}

    def scan_overrides(self) -> dict[str, Any]:
        """Return what replaces the inputs of the protocol."""
        self.check_engine(self.parameters)
        scan = self.chosen_scan()
        labelling = given(time_limit_s=self.time_limit, program_processes=self.program_processes)
        return {
            'label': self.batches() | labelling | {'parameters': self.parameters},
            **({'scan': scan} if scan else {}),
            **({'cohesive': False} if self.no_cohesive else {}),
            **given(dos_width_ev=self.dos_width, max_extensions=self.max_extensions),
        }

    def scan_arguments(self) -> dict[str, Any]:
        """Return the arguments of a builder that concern the scan."""
        code, engine_code = self.load('code'), self.load('engine_code')
        return {
            'code': code if code is not None or engine_code is not None else self.worker(),
            'engine': self.engine,
            'protocol': self.protocol,
            'overrides': self.scan_overrides(),
            'options': self.job_options(self.processes),
            'engine_code': engine_code,
            'pseudo_family': self.pseudo_family,
        }

    def estimate_points(self, cells: StructureSet) -> Estimate:
        """Estimate jobs and seconds of the points of a scan, without isolated atoms and extensions."""
        from aiida_nanoml.actions.costs import estimate_labels
        from aiida_nanoml.calculations.functions.alloys import scanned
        from aiida_nanoml.workflows.protocols import protocol_inputs, protocol_names

        known = self.protocol if self.protocol in protocol_names('alloy_scan') else None
        scan = self.chosen_scan() or protocol_inputs('alloy_scan', known)['scan']
        batches = protocol_inputs('label', None, self.batches())
        n_places = batches['max_concurrent'] * (self.processes or 1)
        return estimate_labels(scanned(cells, scan), self.engine, self.protocol, batches['batch_size'], n_places)


def uuids_of(outputs: Any, parts: Sequence[str]) -> dict[str, str]:
    """Return the UUIDs of outputs under ``<part>_uuid``."""
    return {f'{part}_uuid': outputs[part].uuid for part in parts if part in outputs}


def evaluation_lines(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return how well a model finds phases and curves, as rows of a table."""
    confusion = ', '.join(
        f'{known} as {found}: {number}'
        for known, row in metrics['confusion'].items()
        for found, number in row.items()
        if number
    )
    return {
        'phase': f'{metrics["accuracy"]:.1%} right of {metrics["n_alloys"]} alloys ({confusion}); '
        f'{metrics["n_undecided"]} without a decision',
        'E(fcc)-E(bcc)': f'MAE {1e3 * metrics["energy_difference_mae_ev"]:.1f} meV/atom',
        'a0': f'MAE {metrics["lattice_constant_mae_ang"]:.4f} Å',
        'B0': f'MAE {metrics["bulk_modulus_mae_gpa"]:.1f} GPa',
        'P(strain)': f'MAE {metrics["pressure_mae_gpa"]:.2f} GPa within ±4 %',
    }


def flagged_line(flagged: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the first curve that is flagged; nothing if none is."""
    if not flagged:
        return {}
    curve, message = next(iter(flagged.items()))
    return {'flagged': f'{curve}: {message}' + (f' (+{len(flagged) - 1} more)' if len(flagged) > 1 else '')}


def phase_table(scan: AlloyScan, limit: int = SHOWN_ALLOYS) -> str:
    """Return the first alloys with their phases as a table."""
    rows = scan.rows()
    lines = [['alloy', 'formula', 'phase', 'fcc-bcc (meV)', 'a fcc (Å)', 'a bcc (Å)', 'B (GPa)', 'E_coh (eV)',
              'DOS (1/eV)']]  # fmt: skip
    for row in rows[:limit]:
        stable, difference = row.get(row['phase']), row['energy_difference_ev']
        lines.append(
            [
                row['alloy'],
                row['formula'],
                row['phase'],
                '-' if difference is None else f'{1e3 * difference:.1f}',
                _number(row.get('fcc'), 'lattice_constant_ang', 3),
                _number(row.get('bcc'), 'lattice_constant_ang', 3),
                _number(stable, 'bulk_modulus_gpa', 0),
                _number(stable, 'cohesive_energy_ev', 3),
                _number(stable, 'dos_fermi_per_ev', 2),
            ]
        )
    rest = len(rows) - limit
    return aligned(lines) + (f'\n… {rest} more: --json prints all' if rest > 0 else '')


def _number(curve: Mapping[str, Any] | None, key: str, digits: int) -> str:
    value = (curve or {}).get(key)
    return '-' if value is None else f'{value:.{digits}f}'
