"""``aiida-nanoml rmatrix``: transmissions of one-dimensional potentials."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.launch import run_builder, run_function, submit_builder
from aiida_nanoml.cli.options import (
    CODE,
    FORCE,
    JSON,
    NAME,
    QUEUE,
    SUBMIT,
    WALLCLOCK,
    AnyNode,
    DataNode,
    default_code,
    example,
    job_options,
    load_storage,
    output_file,
    setting,
)
from aiida_nanoml.cli.output import emit, identity_line, record, refuse_overwriting
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.orm import CalcJobNode, Dict, Node
    from numpy.typing import NDArray

    from aiida_nanoml.transport.potential import Potential

SHOWN = 8
"""Resonances that are printed."""

PRESETS = ('barrier', 'well', 'double_barrier', 'step', 'ramp', 'layers')

CORRECTIONS = ('coupled', 'buttle', 'none')

ACCURACY = ('truncation_error', 'noise_floor', 'unitarity_defect')

NOT_CONVERGED = 511
"""Exit status of a job or scan whose transmissions are kept although the basis is too small for them."""

JOB, SCAN = 'RmatrixCalculation', 'RmatrixScanWorkChain'


class Variation(click.ParamType):
    """``NAME=V,V,…``, or ``NAME=FIRST:LAST:COUNT`` for evenly spaced values."""

    name = 'NAME=V,V,…'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the name and the values."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition('=')
        try:
            if not equals or not name.strip():
                raise ValueError
            if ':' not in text:
                return name.strip(), [float(word) for word in text.split(',')]
            first, last, count = text.split(':')
            return name.strip(), _evenly(float(first), float(last), int(count))
        except ValueError:
            self.fail(f'{value!r} is not of the form width=2,4,8 or width=2:10:33', param, ctx)


def _evenly(first: float, last: float, count: int) -> list[float]:
    if not 2 <= count <= 10_000:
        raise ValueError
    # Rounded, so that steps of 0.1 give 0.3 and not 0.30000000000000004.
    return [float(f'{first + (last - first) * number / (count - 1):.12g}') for number in range(count)]


def energy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is asked for."""
    for option in (
        click.option('--resolve', is_flag=True, default=None, help='Add energies where a resonance is narrow.'),
        click.option(
            '--correction',
            type=click.Choice(CORRECTIONS),
            help='What stands for the functions beyond the basis: their coupling and the mean potential (default), the '
            'mean potential alone (Buttle), or nothing.',
        ),
        click.option('--basis', 'n_basis', type=int, help='Number of cosines.'),
        click.option('--energies', 'n_energies', type=int, help='Number of energies.'),
        click.option('--highest', type=float, help='Highest energy in eV.'),
        click.option('--lowest', type=float, help='Lowest energy in eV.'),
    ):
        command = option(command)
    return command


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the files of one transmission, and how it is computed."""
    for option in (
        JSON,
        NAME,
        FORCE,
        QUEUE,
        WALLCLOCK,
        CODE,
        click.option('--plot', 'figure', type=FILE, help='Figure of V(x) and T(E): .png, .pdf or .svg.'),
        click.option('-o', '--output', type=FILE, help='Text file of two columns, E in eV and T, below comments.'),
    ):
        command = option(command)
    return command


FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True)
class _Found:
    """One transmission, from this process or from the graph."""

    potential: Potential
    settings: dict[str, Any]
    energies: NDArray[Any]
    transmission: NDArray[Any]
    resonances: tuple[NDArray[Any], NDArray[Any]]
    truncation_error: float
    noise_floor: float
    unitarity_defect: float
    seconds: float
    node: CalcJobNode | None = None


@click.group()
def rmatrix() -> None:
    """Transmission of one-dimensional potentials by the R-matrix method.

    With a profile, potentials and transmissions are nodes with their provenance. With --no-store, run is a plain tool
    that reads a file and writes a file.
    """


@rmatrix.command(
    epilog=example('aiida-nanoml rmatrix run barrier.txt --no-store -o transmission.txt --plot transmission.png')
)
@click.argument('source')
@click.option('--no-store', is_flag=True, help='Compute here and now, without a profile; keep no node.')
@energy_options
@SUBMIT
@output_options
def run(
    source: str,
    no_store: bool,
    submit: bool,
    output: Path | None,
    figure: Path | None,
    code: Any,
    wallclock: int | None,
    queue: str | None,
    force: bool,
    name: str,
    as_json: bool,
    again: str = '',
    **changes: Any,
) -> None:
    """Compute the transmission of SOURCE, an input file or a node with one potential.

    A file says which energies and how many cosines; the options replace what it says. Of a node, give --lowest and
    --highest.
    """
    files = [path for path in (output, figure) if path is not None]
    if submit and (files or no_store):
        raise click.UsageError('--submit goes without -o, --plot and --no-store: nothing is there yet to write')
    for path in files:
        refuse_overwriting(path, force)
    changes = _given(changes)
    if no_store:
        if not Path(source).is_file():
            raise click.UsageError(f'--no-store takes an input file, and there is no file {source}')
        found = _compute(Path(source), changes)
    else:
        potentials, settings = _stored(source, changes)
        builder = _builder(potentials, settings, code, wallclock, queue)
        if submit:
            submit_builder(builder, name, as_json)
            return
        job = run_builder(builder, accepted=[NOT_CONVERGED])
        job.outputs.transmission.label = name
        found = _found_in(job)
    _write(found, output, figure)
    if found.node is not None:
        follow = f'rmatrix plot {found.node.pk} -o transmission.png'
    else:
        follow = again or f'rmatrix run {source} --no-store --plot transmission.png'
    _emit(found, files, as_json, None if figure else follow)


@rmatrix.command('example', epilog=example('aiida-nanoml rmatrix example --input barrier.txt'))
@click.option('--store/--no-store', default=False, help='Keep nodes; default: compute without a profile.')
@click.option('--input', 'input_file', type=FILE, help='File to write the input to, as a beginning of your own.')
@energy_options
@output_options
@click.pass_context
def show_example(ctx: click.Context, store: bool, input_file: Path | None, **options: Any) -> None:
    """Compute the example: a barrier of 100 nm and 0.1 eV for electrons of 0.023 m0."""
    from aiida_nanoml.transport.files import EXAMPLE, write_text

    if input_file is not None:
        refuse_overwriting(input_file, options['force'])
        write_text(input_file, EXAMPLE.read_text(encoding='utf-8'))
    again = 'rmatrix example --input barrier.txt' if input_file is None else f'rmatrix run {input_file} --no-store'
    ctx.invoke(run, source=str(EXAMPLE), no_store=not store, submit=False, again=again, **options)


@rmatrix.command(
    epilog=example('aiida-nanoml rmatrix potential double_barrier --set separation=6 --name diode'),
    short_help='Make a potential by name.',
)
@click.argument('preset', type=click.Choice(PRESETS))
@setting('Parameter of the potential, such as height, width, mass or bias; repeatable.')
@click.option('-o', '--output', type=FILE, help='Input file to write instead of a node; needs --lowest and --highest.')
@energy_options
@FORCE
@NAME
@JSON
def potential(
    preset: str,
    settings: tuple[tuple[str, Any], ...],
    output: Path | None,
    force: bool,
    name: str,
    as_json: bool,
    **changes: Any,
) -> None:
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
    from aiida_nanoml.transport.presets import make_potential

    chosen, changes = dict(settings), _given(changes)
    if output is None:
        if changes:
            raise click.UsageError('energies and basis go into an input file (-o), not into a node')
        from aiida.orm import Dict, Str

        from aiida_nanoml.calculations.functions.potentials import generate_potential

        make_potential(preset, chosen)
        load_storage()
        node = run_function(generate_potential, preset=Str(preset), parameters=Dict(chosen))
        _emit_potential(node, name, as_json)
        return
    from aiida_nanoml.transport.files import format_input, input_of, write_text
    from aiida_nanoml.transport.settings import TransmissionSettings

    refuse_overwriting(output, force)
    if set(changes) & {'correction', 'resolve'}:
        raise click.UsageError('an input file has no --correction and no --resolve: give them to run')
    wanted = TransmissionSettings.from_dict(changes)
    made = make_potential(preset, chosen)
    content = input_of(made, wanted.n_basis, wanted.n_energies, wanted.lowest, wanted.highest)
    write_text(output, format_input(content))
    emit(as_json, {'file': str(output)}, {'file': output, **_potential_lines(made)}, f'rmatrix run {output} --no-store')


@rmatrix.command(epilog=example('aiida-nanoml rmatrix siesta slab.VH --mass 1 --period 0.2025 --zero -3.2 --name slab'))
@click.argument('grid', type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option('--mass', type=float, required=True, help='Effective mass in m0, of your choice.')
@click.option('--axis', type=click.IntRange(0, 2), default=2, show_default=True, help='Lattice vector to go along.')
@click.option('--spin', type=click.IntRange(0, 1), help='Of a calculation with spin: 0 up, 1 down.')
@click.option(
    '--period', 'periods', type=float, multiple=True, help='Period in nm to average over, as of a lattice; repeatable.'
)
@click.option('--zero', type=float, help='Energy to count from in eV, such as the Fermi level.')
@click.option('--start', type=float, help='Left end of the region in nm; default: that of the cell.')
@click.option('--end', type=float, help='Right end of the region in nm.')
@click.option('--lead', type=float, help='Stretch at both ends in nm whose mean is the potential of the lead.')
@NAME
@JSON
def siesta(grid: Path, name: str, as_json: bool, **settings: Any) -> None:
    """Make a potential of GRID, a .VH or .VT of SIESTA, by its mean over planes."""
    from aiida.orm import Dict, SinglefileData

    from aiida_nanoml.calculations.functions.potentials import average_potential
    from aiida_nanoml.transport.planar_average import make_average_potential

    given = _given(settings) | {'periods': list(settings['periods'])}
    make_average_potential(grid.read_bytes(), grid.name, given)
    load_storage()
    node = run_function(average_potential, grid=SinglefileData(grid.absolute()), settings=Dict(given))
    _emit_potential(node, name, as_json)


@rmatrix.command(
    epilog=example(
        'aiida-nanoml rmatrix scan double_barrier --vary separation=3:12:37 --lowest 0.01 --highest 0.5 --name map'
    ),
    short_help='Transmissions at several values of one parameter.',
)
@click.argument('source')
@click.option('--vary', type=Variation(), required=True, help='Parameter and values, or FIRST:LAST:COUNT.')
@setting('Parameter of a potential by name; repeatable.')
@energy_options
@click.option('-o', '--output', type=click.Path(path_type=Path, file_okay=False), help='Folder for map and tables.')
@CODE
@WALLCLOCK
@QUEUE
@SUBMIT
@FORCE
@NAME
@JSON
def scan(
    source: str,
    vary: tuple[str, list[float]],
    settings: tuple[tuple[str, Any], ...],
    output: Path | None,
    code: Any,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    force: bool,
    name: str,
    as_json: bool,
    **changes: Any,
) -> None:
    """Compute T(E) at several values of one parameter of SOURCE, and draw the map.

    SOURCE is a potential by name (`aiida-nanoml rmatrix potential --help`), an input file, or a node with one
    potential. Of a file or a node, mass, bias and scale can be varied.
    """
    from aiida.orm import Dict

    from aiida_nanoml.workflows.rmatrix_scan import RmatrixScanWorkChain

    if submit and output is not None:
        raise click.UsageError('-o goes without --submit: draw the map with `aiida-nanoml rmatrix plot` when it ended')
    if output is not None:
        _refuse_overwriting_in(output, force)
    changes = _given(changes)
    if source in PRESETS:
        _require_energies(changes)
        load_storage()
        given: Any = source
    else:
        if settings:
            raise click.UsageError('--set goes with a potential by name')
        given, stored = _stored(source, changes)
        changes = stored.get_dict()
    builder = RmatrixScanWorkChain.get_builder_for(code or default_code(), given, *vary, changes, dict(settings))
    builder.options = Dict(job_options(wallclock, queue))
    if submit:
        submit_builder(builder, name, as_json)
        return
    process = run_builder(builder, accepted=[NOT_CONVERGED])
    process.outputs.transmission.label = name
    if output is not None:
        output.mkdir(exist_ok=True)
        process.outputs.files.copy_tree(output.absolute())
    results = process.outputs.results.get_dict()
    numbers = {
        'parameter': vary[0],
        'n_values': len(vary[1]),
        'n_energies': results['n_energies'],
        'n_resonances': results['n_resonances'],
        'n_basis': results['settings']['n_basis'],
        'truncation_error': results['largest_truncation_error'],
        'noise_floor': results['largest_noise_floor'],
        'unitarity_defect': results['largest_unitarity_defect'],
    }
    lines = {
        'transmissions': f'pk {process.outputs.transmission.pk}, {len(vary[1])} values of {vary[0]}, '
        f'{results["n_energies"]} energies',
        'accuracy': _accuracy(results['settings'], *(numbers[key] for key in ACCURACY)),
        'resonances': results['n_resonances'],
    }
    if output is not None:
        lines['files'] = ', '.join(str(output / file) for file in process.outputs.files.list_object_names())
    follow = f'rmatrix plot {process.pk} -o map.png' if output is None else f'trace {process.pk}'
    emit(as_json, record(process.outputs.transmission, process=process.uuid, **numbers), lines, follow)
    _require_convergence(results['settings'], numbers['truncation_error'])


@rmatrix.command(epilog=example('aiida-nanoml rmatrix plot map -o map.png'))
@click.argument('node', type=AnyNode())
@output_file('File to write; its ending chooses the format: .png, .pdf or .svg.')
@click.option('--row', type=click.IntRange(0), help='Draw one potential of many, counted from 0.')
@click.option('--log/--linear', 'log_scale', default=None, help='Scale of T; default: by its values.')
@FORCE
@JSON
def plot(node: Any, output: Path, row: int | None, log_scale: bool | None, force: bool, as_json: bool) -> None:
    """Draw NODE, a transmission or the job or scan that made it: V(x) and T(E), or the map of a scan."""
    refuse_overwriting(output, force)
    job = _job_of(node)
    n_potentials = job.inputs.potentials.n_potentials
    caller = job.caller
    if row is None and n_potentials > 1:
        from aiida_nanoml.calculations.functions.potentials import draw_scan

        if caller is None or caller.process_label != SCAN:
            raise click.UsageError(f'the job {job.pk} has {n_potentials} potentials: choose one with --row')
        outputs = job.outputs
        draw_scan(
            output,
            caller.inputs.scan.get_dict(),
            job.inputs.potentials,
            outputs.transmission,
            outputs.resonances,
            outputs.results,
            log_scale,
        )
    else:
        if (row or 0) >= n_potentials:
            raise click.UsageError(f'the job {job.pk} has {n_potentials} potentials, counted from 0')
        _draw(_found_in(job, row or 0), output, log_scale)
    emit(as_json, record(node, file=str(output)), {'file': output})


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}


def _require_energies(changes: dict[str, Any]) -> None:
    if not {'lowest', 'highest'} <= set(changes):
        raise click.UsageError('a potential does not say at which energies: give --lowest and --highest')


def _compute(path: Path, changes: dict[str, Any]) -> _Found:
    """Compute the transmission of a file in this process."""
    from aiida_nanoml.transport.files import read_input
    from aiida_nanoml.transport.potential import PotentialSet
    from aiida_nanoml.transport.settings import TransmissionSettings
    from aiida_nanoml.transport.transmissions import transmit

    content = read_input(path)
    settings = TransmissionSettings.from_dict(content.settings | changes)
    begin = time.perf_counter()
    found = transmit(PotentialSet([content.potential]), settings)
    return _Found(
        content.potential,
        settings.to_dict(),
        found.energies,
        found.scatterings[0].transmission,
        (found.resonances[0].energies, found.resonances[0].widths),
        float(found.truncation_errors[0]),
        float(found.noise_floors[0]),
        found.scatterings[0].unitarity_defect,
        time.perf_counter() - begin,
    )


def _stored(source: str, changes: dict[str, Any]) -> tuple[Node, Dict]:
    """Return the potential of a file or a node as a node, and the settings."""
    from aiida.orm import Dict, SinglefileData

    from aiida_nanoml.calculations.functions.potentials import import_potential
    from aiida_nanoml.transport.files import read_input
    from aiida_nanoml.transport.settings import TransmissionSettings

    load_storage()
    if not Path(source).is_file():
        node = DataNode('nanoml.potentials').convert(source, None, None)
        _require_energies(changes)
        return node, Dict(TransmissionSettings.from_dict(changes).to_dict())
    read_input(source)
    made = run_function(import_potential, file=SinglefileData(Path(source).absolute()))
    if not changes:
        return made['potentials'], made['settings']
    return made['potentials'], Dict(made['settings'].get_dict() | changes)


def _builder(potentials: Node, settings: Dict, code: Any, wallclock: int | None, queue: str | None) -> Any:
    from aiida_nanoml.calculations.functions.potentials import only_potential
    from aiida_nanoml.calculations.rmatrix import RmatrixCalculation

    only_potential(potentials)
    builder = RmatrixCalculation.get_builder()
    builder.code = code or default_code()
    builder.potentials = potentials
    builder.settings = settings
    builder.metadata.options.update(job_options(wallclock, queue))
    return builder


def _found_in(job: CalcJobNode, row: int = 0) -> _Found:
    """Read one transmission of a job from the graph."""
    outputs = job.outputs
    found = outputs.resonances.arrays
    mine = found['rows'] == row
    return _Found(
        job.inputs.potentials.potentials[row],
        outputs.results.get_dict()['settings'],
        outputs.transmission.get_x()[1],
        outputs.transmission.get_y()[row][1],
        (found['energies'][mine], found['widths'][mine]),
        float(outputs.scattering.get_array('truncation_errors')[row]),
        float(outputs.scattering.get_array('noise_floors')[row]),
        float(outputs.scattering.get_array('unitarity_defects')[row]),
        (job.mtime - job.ctime).total_seconds(),
        job,
    )


def _job_of(node: Node) -> CalcJobNode:
    """Find the job of a transmission, of itself, or of a scan."""
    from aiida.orm import ProcessNode

    process: Any = node if isinstance(node, ProcessNode) else node.creator
    if process is not None and process.process_label == SCAN and 'transmission' in process.outputs:
        process = process.outputs.transmission.creator
    if process is None or process.process_label != JOB or 'transmission' not in process.outputs:
        raise click.ClickException(f'{node.pk} is no transmission, and no process that made one')
    return process


def _write(found: _Found, output: Path | None, figure: Path | None) -> None:
    if output is not None:
        from aiida_nanoml.transport.files import format_transmission, write_text

        write_text(output, format_transmission(found.energies, found.transmission, _comments(found)))
    if figure is not None:
        _draw(found, figure, None)


def _draw(found: _Found, path: Path, log_scale: bool | None) -> None:
    from aiida_nanoml.calculations.functions.potentials import method_note
    from aiida_nanoml.transport.plots import plot_transmission

    plot_transmission(
        path,
        found.potential,
        found.energies,
        found.transmission,
        found.resonances,
        method_note(found.settings),
        log_scale,
    )


def _comments(found: _Found) -> list[str]:
    from aiida_nanoml import __version__

    lines = [f'aiida-nanoml {__version__}, transmission by the R-matrix method']
    lines += [f'{title}: {text}' for title, text in _lines(found).items() if title != 'time']
    if found.node is not None:
        lines.append(f'job: {found.node.uuid}')
    energies, widths = found.resonances
    lines += [
        f'resonance: {energy:.12g} eV, width {width:.6g} eV' for energy, width in zip(energies, widths, strict=True)
    ]
    return lines


def _lines(found: _Found) -> dict[str, str]:
    return {
        **_potential_lines(found.potential),
        'energies': f'{len(found.energies)} from {found.energies[0]:g} to {found.energies[-1]:g} eV',
        'transmission': f'{found.transmission.min():.3g} to {found.transmission.max():.6g}',
        'accuracy': _accuracy(found.settings, *(getattr(found, key) for key in ACCURACY)),
        'time': f'{found.seconds:.2f} s',
    }


def _potential_lines(potential: Potential) -> dict[str, str]:
    return {
        'potential': f'{potential.name or "without a name"}: {_range(potential.values)} eV on {potential.length:g} nm, '
        f'{len(potential)} cells',
        'leads': f'{potential.left:g} and {potential.right:g} eV',
        'mass': f'{_range(potential.masses)} m0',
    }


def _range(numbers: NDArray[Any]) -> str:
    low, high = numbers.min(), numbers.max()
    return f'{low:g}' if low == high else f'{low:g} to {high:g}'


def _accuracy(settings: dict[str, Any], truncation_error: float, noise_floor: float, unitarity_defect: float) -> str:
    noise = f', T up to {noise_floor:.0e} is noise' if noise_floor else ''
    return (
        f'T within {truncation_error:.1e}{noise} ({settings["n_basis"]} cosines, correction {settings["correction"]}), '
        f'unitary within {unitarity_defect:.1e}'
    )


def _emit_potential(node: Node, name: str, as_json: bool) -> None:
    node.label = name
    made = node.potentials[0]
    numbers = {'length_nm': made.length, 'n_cells': len(made), 'leads_ev': made.leads.tolist()}
    edge = made.leads.max()
    reach = max(0.5, 1.2 * (made.values.max() - edge))
    follow = f'rmatrix run {name or node.pk} --lowest {edge + reach / 500:.4g} --highest {edge + reach:.4g}'
    emit(
        as_json, record(node, **numbers), {'node': f'pk {node.pk}, uuid {node.uuid}', **_potential_lines(made)}, follow
    )


def _emit(found: _Found, files: Sequence[Path], as_json: bool, follow: str | None) -> None:
    energies, widths = found.resonances
    content = {
        'n_energies': len(found.energies),
        'lowest_ev': float(found.energies[0]),
        'highest_ev': float(found.energies[-1]),
        'largest_transmission': float(found.transmission.max()),
        'truncation_error': found.truncation_error,
        'noise_floor': found.noise_floor,
        'unitarity_defect': found.unitarity_defect,
        'resonances': [
            {'energy_ev': energy, 'width_ev': width}
            for energy, width in zip(energies.tolist(), widths.tolist(), strict=True)
        ],
        'seconds': round(found.seconds, 4),
        'files': [str(path) for path in files],
    }
    lines: dict[str, Any] = dict(_lines(found))
    if found.node is not None:
        content |= record(found.node.outputs.transmission, process=found.node.uuid)
        lines = {'node': f'{identity_line(found.node.outputs.transmission)}, job pk {found.node.pk}'} | lines
    if files:
        lines['files'] = ', '.join(map(str, files))
    emit(as_json, content, lines, follow, _resonance_table(energies, widths))
    _require_convergence(found.settings, found.truncation_error)


def _require_convergence(settings: dict[str, Any], truncation_error: float) -> None:
    """End with an error, after all was told and written, if the basis is too small."""
    if truncation_error > settings['tolerance']:
        raise click.ClickException(
            f'not converged: transmissions may be wrong by {truncation_error:.1e}, more than '
            f'{settings["tolerance"]:g}; take more than {settings["n_basis"]} cosines (--basis)'
        )


def _resonance_table(energies: NDArray[Any], widths: NDArray[Any]) -> str:
    """Show the resonances, the narrowest of many."""
    if not len(energies):
        return 'no resonances'
    from aiida_nanoml.transport.resonances import Resonances

    shown = sorted(widths.argsort()[:SHOWN])
    lifetimes = Resonances(energies[shown], widths[shown]).lifetimes
    rows = [['resonance (eV)', 'width (eV)', 'lifetime (s)']]
    rows += [
        [f'{energies[number]:.9f}', f'{widths[number]:.3e}' if widths[number] else 'too narrow', f'{lifetime:.2e}']
        for number, lifetime in zip(shown, lifetimes, strict=True)
    ]
    more = len(energies) - len(shown)
    return aligned(rows) + (f'\nand {more} broader ones' if more else '')


def _refuse_overwriting_in(folder: Path, force: bool) -> None:
    for name in ('transmission.csv', 'resonances.csv', 'transmission.png'):
        if folder.is_dir():
            refuse_overwriting(folder / name, force)
