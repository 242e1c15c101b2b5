"""``aiida-nanoml alloys``: making cells, scanning them, and the whole study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.alloy_phases import emit_metrics, emit_scan, phase, plot
from aiida_nanoml.cli.launch import run_builder, run_function, submit_builder
from aiida_nanoml.cli.options import (
    CODE,
    JSON,
    NAME,
    QUEUE,
    SUBMIT,
    WALLCLOCK,
    DataNode,
    WorkerCode,
    default_code,
    example,
    job_options,
    load_storage,
    setting,
)
from aiida_nanoml.cli.structures import emit_structures

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiida_nanoml.data.structures import StructureSetData


class Elements(click.ParamType):
    """Chemical symbols separated by commas, for example ``Co,Cr,Fe,Ni,Al``."""

    name = 'EL,EL,…'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Divide at the commas."""
        return value if isinstance(value, list) else [word.strip() for word in value.split(',') if word.strip()]


class Numbers(click.ParamType):
    """Numbers separated by commas, for example ``0.96,1,1.04``."""

    name = 'X,X,…'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the numbers."""
        if isinstance(value, list):
            return value
        try:
            return [float(word) for word in value.split(',')]
        except ValueError:
            self.fail(f'{value!r} is not a list of numbers such as 0.96,1,1.04', param, ctx)


class Fractions(click.ParamType):
    """Fractions by element, for example ``Co=0.25,Cr=0.25,Ni=0.5``."""

    name = 'EL=X,…'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the numbers."""
        if isinstance(value, dict):
            return value
        try:
            return {word.split('=')[0].strip(): float(word.split('=')[1]) for word in value.split(',')}
        except (IndexError, ValueError):
            self.fail(f'{value!r} is not a list of fractions such as Co=0.25,Cr=0.25,Ni=0.5', param, ctx)


ELEMENTS = click.option('--elements', type=Elements(), default='Co,Cr,Fe,Ni,Al', show_default=True, help='Elements.')
ATOMS = click.option('--atoms', 'n_atoms', type=int, default=8, show_default=True, help='Atoms of a cell, 8 to 108.')
ORDER = click.option(
    '--order', type=click.Choice(('random', 'sqs')), default='random', show_default=True,
    help='Atoms at random, or a special quasi-random structure.',
)  # fmt: skip
SEED = click.option('--seed', type=int, required=True, help='Seed of all draws: the same seed gives the same cells.')


@click.group()
def alloys() -> None:
    """High-entropy alloys: lattice scans, phases, stress and strain.

    The usual way: alloys generate, alloys scan, dataset build, train, alloys phase, alloys plot; or all of it by alloys
    study.
    """


@alloys.command(
    epilog=example('aiida-nanoml alloys generate --elements Al,Cu,Ni --atoms 8 --count 6 --seed 1 --name cells'),
    short_help='Generate cells of alloys in their candidate phases.',
)
@ELEMENTS
@ATOMS
@click.option('--count', type=int, required=True, help='Number of alloys; each has a cell in every phase.')
@SEED
@click.option('--composition', type=Fractions(), help='Fractions of all alloys; default: drawn for each.')
@click.option('--round', 'rounded', is_flag=True, help='Take the nearest composition that fits the cell.')
@click.option('--phases', type=Elements(), default='fcc,bcc', show_default=True, help='Candidate phases.')
@ORDER
@NAME
@JSON
def generate(
    elements: list[str],
    n_atoms: int,
    count: int,
    seed: int,
    composition: dict[str, float] | None,
    rounded: bool,
    phases: list[str],
    order: str,
    name: str,
    as_json: bool,
) -> None:
    """Generate cells of alloys: for each alloy one in every candidate phase, at the lattice constant of its elements.

    Without --composition, compositions are drawn evenly from all that fit the cell.
    """
    from aiida.orm import Dict

    from aiida_nanoml.calculations.functions.alloys import generate_alloy_set
    from aiida_nanoml.structures import AlloyParameters

    parameters = AlloyParameters.from_dict(
        {
            'elements': elements,
            'n_atoms': n_atoms,
            'count': count,
            'seed': seed,
            'composition': composition,
            'round_composition': rounded,
            'phases': phases,
            'order': order,
        }
    )
    load_storage()
    node = run_function(generate_alloy_set, parameters=Dict(parameters.to_dict()))
    node.label = name
    emit_structures(node, as_json, {'parameters': parameters.to_dict()}, 'alloys scan')


@alloys.command(
    epilog=example('aiida-nanoml alloys section --elements Al,Cu,Ni --x Al --y Cu --steps 4 --seed 1 --name section'),
    short_help='Generate cells over a section of composition space.',
)
@ELEMENTS
@click.option('--x', 'first', required=True, help='Element along the first axis.')
@click.option('--y', 'second', required=True, help='Element along the second axis; the others share the rest equally.')
@click.option('--steps', type=click.IntRange(1), default=10, show_default=True, help='Steps from 0 to 1 on each axis.')
@click.option('--atoms', 'n_atoms', type=int, default=32, show_default=True, help='Atoms of a cell, 8 to 108.')
@SEED
@ORDER
@NAME
@JSON
def section(
    elements: list[str],
    first: str,
    second: str,
    steps: int,
    n_atoms: int,
    seed: int,
    order: str,
    name: str,
    as_json: bool,
) -> None:
    """Generate cells over a section of composition space, for a phase map by a model.

    A composition that does not fit the cell is replaced by the nearest one that does.
    """
    from aiida.orm import Dict

    from aiida_nanoml.calculations.functions.alloys import generate_alloy_section

    parameters = {
        'elements': elements,
        'x': first,
        'y': second,
        'steps': steps,
        'n_atoms': n_atoms,
        'seed': seed,
        'order': order,
    }
    load_storage()
    node = run_function(generate_alloy_section, parameters=Dict(parameters))
    node.label = name
    emit_structures(node, as_json, {'parameters': parameters}, 'alloys phase')


@alloys.command('name', epilog=example('aiida-nanoml alloys name imported --name cells'))
@click.argument('structures', type=DataNode('nanoml.structures'))
@NAME
@JSON
def name_(structures: StructureSetData, name: str, as_json: bool) -> None:
    """Recognise the phases of STRUCTURES from elsewhere, such as imported runs, and name their alloys.

    Cells that are scalings of each other are one scan; scans of different phases with one composition are one alloy.
    """
    from aiida_nanoml.calculations.functions.alloys import name_alloy_set

    node = run_function(name_alloy_set, structures=structures)
    node.label = name
    emit_structures(node, as_json, {}, 'alloys scan')


def scan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a scan."""
    for option in (
        click.option('--engine', default='ase', show_default=True, help='Registered name of the engine.'),
        click.option(
            '--protocol',
            default='balanced',
            show_default=True,
            help='fast, balanced, stringent, or another one of the engine, such as metal of siesta.',
        ),
        setting('Parameter of the engine that replaces that of the protocol; repeatable.'),
        click.option(
            '--factors', type=Numbers(), help='Lattice constants in units of those of the cells: 0.96,1,1.04.'
        ),
        click.option('--fcc', type=Numbers(), help='Lattice constants of fcc in Å, in place of factors.'),
        click.option('--bcc', type=Numbers(), help='Lattice constants of bcc in Å, in place of factors.'),
        click.option('--no-cohesive', is_flag=True, help='Leave out isolated atoms and cohesive energies.'),
        click.option('--dos-width', type=click.FloatRange(0, min_open=True), help='Gaussian width of the DOS in eV.'),
        click.option('--max-extensions', type=click.IntRange(0), help='Times that a one-sided scan goes on.'),
        click.option('--batch-size', type=click.IntRange(1), help='Points in one job.'),
        click.option('--max-concurrent', type=click.IntRange(1), help='Jobs at the same time.'),
        click.option('--processes', type=click.IntRange(1), help='Points that one job evaluates at the same time.'),
        click.option('--program-processes', type=click.IntRange(1), help='MPI processes of the program for a point.'),
        click.option('--time-limit', type=click.FloatRange(0, min_open=True), help='Seconds that a point may take.'),
        CODE,
        click.option('--engine-code', type=WorkerCode(), help='Program that the engine runs, such as siesta@cluster.'),
        click.option('--pseudo-family', help='Family of pseudopotentials; default: ours, see `pseudos list`.'),
        WALLCLOCK,
        QUEUE,
        SUBMIT,
        NAME,
        JSON,
    ):
        command = option(command)
    return command


@alloys.command(
    epilog=example('aiida-nanoml alloys scan cells --engine ase --protocol fast --name scan'),
    short_help='Scan the lattice constants of cells.',
)
@click.argument('cells', type=DataNode('nanoml.structures'))
@scan_options
def scan(cells: StructureSetData, name: str, as_json: bool, submit: bool, **asked: Any) -> None:
    """Compute E(a) of CELLS with an engine, fit equations of state, and find the equilibrium phases.

    A scan whose energy still falls at an end goes on beyond it. A point that fails does not disturb the others. With
    --name NAME, the results are named NAME-structures, NAME-labels, NAME-atoms, NAME-curves and so on.
    """
    from aiida_nanoml.workflows.alloy_scan import AlloyScanWorkChain

    builder = AlloyScanWorkChain.get_builder_from_protocol(cells=cells, **_scan_inputs(**asked))
    if submit:
        submit_builder(builder, name, as_json, 'alloys phase')
        return
    builder.metadata.label = name
    emit_scan(run_builder(builder), name, as_json)


@alloys.command(
    epilog=example(
        'aiida-nanoml alloys study --elements Al,Cu,Ni --count 12 --seed 1 --engine ase --protocol fast --epochs 200 '
        '--name study'
    ),
    short_help='The whole study: scans, a network, and its phases.',
)
@ELEMENTS
@ATOMS
@click.option('--count', type=int, required=True, help='Number of alloys; each has a cell in every phase.')
@SEED
@ORDER
@click.option('--target', type=click.Choice(('cohesive_energy', 'energy_per_atom')), help='What the network learns.')
@click.option('--other', 'others', multiple=True, help='Target that it learns beside it; repeatable.')
@click.option('--model', 'kind', help='Kind of model.  [default: alloy]')
@click.option('--epochs', type=int, help='Largest number of passes over the training rows.')
@click.option('--validation', type=float, help='Share of validation rows.')
@click.option('--test', type=float, help='Share of test rows.')
@scan_options
def study(
    elements: list[str],
    n_atoms: int,
    count: int,
    seed: int,
    order: str,
    target: str | None,
    others: tuple[str, ...],
    kind: str | None,
    epochs: int | None,
    validation: float | None,
    test: float | None,
    name: str,
    as_json: bool,
    submit: bool,
    **asked: Any,
) -> None:
    """Generate alloys, scan them, train a network, and judge it on alloys that it did not see.

    Its phases, lattice constants and stress-strain curves come from its own curves E(a).
    """
    from aiida_nanoml.engines.registry import get_engine
    from aiida_nanoml.workflows.alloy import AlloyWorkChain

    if get_engine(asked['engine']).runs_program and asked['engine_code'] is None:
        raise click.UsageError(
            f'--engine {asked["engine"]} runs a program: name it by --engine-code; --code is the worker'
        )
    inputs = _scan_inputs(**asked)
    inputs['code'] = inputs['code'] or default_code()
    learning: dict[str, Any] = {'scan': inputs.pop('overrides')}
    targets = {'target': target or 'cohesive_energy'} | ({'others': list(others)} if others or target else {})
    if target or others:
        learning['targets'] = targets
    if kind is not None:
        learning['kind'] = kind
    if epochs is not None:
        learning['hyperparameters'] = {'epochs': epochs}
    split = {'validation': validation, 'test': test, 'seed': seed}
    learning['split'] = {key: value for key, value in split.items() if value is not None}
    parameters = {'elements': elements, 'n_atoms': n_atoms, 'count': count, 'seed': seed, 'order': order}
    builder = AlloyWorkChain.get_builder_from_protocol(alloys=parameters, overrides=learning, **inputs)
    if submit:
        submit_builder(builder, name, as_json, 'alloys phase')
        return
    builder.metadata.label = name
    emit_metrics(run_builder(builder), name, as_json)


def _scan_inputs(
    engine: str,
    protocol: str,
    settings: tuple[tuple[str, Any], ...],
    factors: list[float] | None,
    fcc: list[float] | None,
    bcc: list[float] | None,
    no_cohesive: bool,
    dos_width: float | None,
    max_extensions: int | None,
    batch_size: int | None,
    max_concurrent: int | None,
    processes: int | None,
    program_processes: int | None,
    time_limit: float | None,
    code: Any,
    engine_code: Any,
    pseudo_family: str | None,
    wallclock: int | None,
    queue: str | None,
) -> dict[str, Any]:
    """Make the arguments of a builder from the options of a scan."""
    from aiida_nanoml.engines.registry import get_engine

    get_engine(engine).parameters(protocol, dict(settings))  # says what is valid, before anything is stored
    constants = {phase: values for phase, values in (('fcc', fcc), ('bcc', bcc)) if values is not None}
    if constants and factors is not None:
        raise click.UsageError('give --factors, or lattice constants by --fcc and --bcc')
    labelling = {
        'batch_size': batch_size,
        'max_concurrent': max_concurrent,
        'time_limit_s': time_limit,
        'program_processes': program_processes,
        'parameters': dict(settings),
    }
    overrides: dict[str, Any] = {'label': {key: value for key, value in labelling.items() if value is not None}}
    if constants or factors is not None:
        overrides['scan'] = {'lattice_constants': constants} if constants else {'factors': factors}
    if no_cohesive:
        overrides['cohesive'] = False
    given = {'dos_width_ev': dos_width, 'max_extensions': max_extensions}
    overrides |= {key: value for key, value in given.items() if value is not None}
    return {
        'code': code if code is not None or engine_code is not None else default_code(),
        'engine': engine,
        'protocol': protocol,
        'overrides': overrides,
        'options': job_options(wallclock, queue, processes),
        'engine_code': engine_code,
        'pseudo_family': pseudo_family,
    }


alloys.add_command(phase)
alloys.add_command(plot)
