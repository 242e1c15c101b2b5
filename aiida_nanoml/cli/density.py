"""``aiida-nanoml density``: charge densities, and networks that predict them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.launch import raise_if_failed, run_builder, run_function, submit_builder
from aiida_nanoml.cli.options import (
    CODE,
    FORCE,
    JSON,
    NAME,
    QUEUE,
    SUBMIT,
    WALLCLOCK,
    DataNode,
    Numbers,
    WorkerCode,
    default_code,
    example,
    job_options,
    output_file,
    setting,
)
from aiida_nanoml.cli.output import emit, identity_line, record, refuse_overwriting, type_name
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiida.orm import ProcessNode

    from aiida_nanoml.data.densities import DensitySetData
    from aiida_nanoml.data.density_model import DensityModelData
    from aiida_nanoml.data.structures import StructureSetData
    from aiida_nanoml.densities import Density

SHOWN_ROWS = 10

GROUPS = ('none', 'C4', 'C4v', 'D4h', 'C12v', 'Oh')

GROUP_HELP = 'Symmetry that ties the weights; none: they are free.  [default: D4h]'

QUANTITIES = ('total', 'difference', 'free')

METRIC_HEAD = ('', 'densities', 'NMAE', 'worst', 'free atoms', 'ratio')

RUN_FAILED, ENERGIES_DIFFER = 401, 511
"""Exit statuses of a comparison whose table is there all the same."""

PROCESSES = click.option('--processes', type=click.IntRange(1), help='Cores of the job.')

ROW = click.option('--row', type=click.IntRange(0), default=0, show_default=True, help='Which density, counted from 0.')


@click.group()
def density() -> None:
    """Charge densities, and networks that predict them from those of free atoms.

    The usual way: label --densities, density train, density predict, density plot, and with SIESTA density warmstart.
    """


@density.command(
    epilog=example('aiida-nanoml density train labels-densities --test unseen-densities --set epochs=40 --name dense')
)
@click.argument('densities', type=DataNode('nanoml.densities'))
@click.option('--test', type=DataNode('nanoml.densities'), help='Densities of other structures to judge by.')
@click.option('--group', type=click.Choice(GROUPS), help=GROUP_HELP)
@setting('Any other setting of the network, such as epochs, copies or seed; repeatable.')
@CODE
@PROCESSES
@WALLCLOCK
@QUEUE
@SUBMIT
@NAME
@JSON
def train(
    densities: DensitySetData,
    test: DensitySetData | None,
    group: str | None,
    settings: tuple[tuple[str, Any], ...],
    code: Any,
    processes: int | None,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    name: str,
    as_json: bool,
) -> None:
    """Train a network on DENSITIES, which an engine computed.

    It learns the difference of the self-consistent density to that of free atoms. The error is the NMAE, the integral
    of the absolute error over the number of electrons, beside that of the free atoms.
    """
    from aiida.orm import Dict

    from aiida_nanoml.calculations.density_train import DensityTrainCalculation

    builder = DensityTrainCalculation.get_builder()
    builder.code = code or default_code()
    builder.densities = densities
    if test is not None:
        builder.test = test
    chosen = _settings(group, settings)
    if chosen:
        builder.settings = Dict(chosen)
    builder.metadata.options = job_options(wallclock, queue, processes)
    if submit:
        submit_builder(builder, name, as_json)
        return
    process = run_builder(builder)
    node = process.outputs.model
    node.label = name
    _emit_model(node, {'process': process.uuid}, f'density plot {name or node.pk} -o errors.png', as_json)


@density.command(epilog=example('aiida-nanoml density divide labels-densities --test 4 --seed 0 --name flakes'))
@click.argument('densities', type=DataNode('nanoml.densities'))
@click.option('--test', 'n_test', type=click.IntRange(1), required=True, help='How many to test on.')
@click.option('--seed', type=click.IntRange(0), required=True, help='Of the choice.')
@NAME
@JSON
def divide(densities: DensitySetData, n_test: int, seed: int, name: str, as_json: bool) -> None:
    """Divide DENSITIES by chance into those to learn from and those to test on."""
    from aiida.orm import Int

    from aiida_nanoml.calculations.functions.densities import divide_densities

    made = run_function(divide_densities, densities=densities, n_test=Int(n_test), seed=Int(seed))
    lines = {}
    for part, node in made.items():
        node.label = f'{name}-{part}' if name else ''
        lines[part] = f'{identity_line(node)}, {node.n_densities} of {densities.n_densities}'
    train, test = made['train'], made['test']
    emit(
        as_json,
        {part: record(node, n_densities=node.n_densities) for part, node in made.items()},
        lines,
        f'density train {train.label or train.pk} --test {test.label or test.pk}',
    )


@density.command(epilog=example('aiida-nanoml density predict dense flakes --name predicted'))
@click.argument('model', type=DataNode('nanoml.density_model'))
@click.argument('rows', metavar='STRUCTURES|DENSITIES', type=DataNode('nanoml.structures', 'nanoml.densities'))
@click.option('--spacing', type=float, help='Distance of mesh points in Å; default: as learnt from.')
@click.option('--vacuum', type=float, help='Distance of the images of isolated structures in Å; default: as learnt.')
@CODE
@PROCESSES
@WALLCLOCK
@QUEUE
@SUBMIT
@NAME
@JSON
def predict(
    model: DensityModelData,
    rows: Any,
    spacing: float | None,
    vacuum: float | None,
    code: Any,
    processes: int | None,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    name: str,
    as_json: bool,
) -> None:
    """Predict the densities of structures with a trained MODEL, or judge it by known DENSITIES.

    Known densities are predicted on their own meshes. Isolated structures are put into boxes.
    """
    from aiida.orm import Float

    from aiida_nanoml.calculations.density_predict import DensityPredictCalculation

    builder = DensityPredictCalculation.get_builder()
    builder.code = code or default_code()
    builder.model = model
    builder['known' if type_name(rows) == 'nanoml.densities' else 'structures'] = rows
    for key, value in (('spacing_ang', spacing), ('vacuum_ang', vacuum)):
        if value is not None:
            builder[key] = Float(value)
    builder.metadata.options = job_options(wallclock, queue, processes)
    if submit:
        submit_builder(builder, name, as_json)
        return
    process = run_builder(builder)
    process.outputs.densities.label = name
    _emit_prediction(process, as_json)


@density.command(
    epilog=example('aiida-nanoml density run flakes --unseen others --larger large --engine-code siesta@cluster'),
    short_help='From structures to judged predictions, in one workflow.',
)
@click.argument('structures', type=DataNode('nanoml.structures'))
@click.option('--unseen', type=DataNode('nanoml.structures'), help='Structures that are predicted only.')
@click.option('--larger', type=DataNode('nanoml.structures'), help='Larger ones that are predicted only.')
@click.option('--engine', default='siesta', show_default=True, help='Registered name of the engine: siesta, pyscf.')
@click.option(
    '--protocol',
    type=click.Choice(('fast', 'balanced', 'stringent')),
    default='balanced',
    show_default=True,
    help='Of engine and network.',
)
@click.option('--engine-protocol', help='Another protocol of the engine, such as paper.')
@click.option(
    '--mesh-spacing', type=click.FloatRange(0, min_open=True), help='Mesh of the densities of pyscf, Å; default: 0.18.'
)
@click.option('--group', type=click.Choice(GROUPS), help=GROUP_HELP)
@setting('Any other setting of the network, such as epochs, copies or seed; repeatable.')
@click.option('--batch-size', type=click.IntRange(1), help='Structures in one labelling job.')
@click.option('--max-concurrent', type=click.IntRange(1), help='Labelling jobs at the same time.')
@CODE
@click.option('--engine-code', type=WorkerCode(), help='Program that the engine runs, such as siesta@cluster.')
@click.option('--pseudo-family', help='Family of pseudopotentials; default: ours, see `pseudos list`.')
@PROCESSES
@WALLCLOCK
@QUEUE
@SUBMIT
@NAME
@JSON
def run(
    structures: StructureSetData,
    unseen: StructureSetData | None,
    larger: StructureSetData | None,
    engine: str,
    protocol: str,
    engine_protocol: str | None,
    mesh_spacing: float | None,
    group: str | None,
    settings: tuple[tuple[str, Any], ...],
    batch_size: int | None,
    max_concurrent: int | None,
    code: Any,
    engine_code: Any,
    pseudo_family: str | None,
    processes: int | None,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    name: str,
    as_json: bool,
) -> None:
    """Label STRUCTURES and those to judge by with their densities, train a network, and predict what it did not see."""
    from aiida_nanoml.workflows.density import DensityWorkChain

    labelling = {
        'engine_protocol': engine_protocol,
        'mesh_spacing_ang': mesh_spacing,
        'batch_size': batch_size,
        'max_concurrent': max_concurrent,
    }
    judged = {part: node for part, node in (('unseen', unseen), ('larger', larger)) if node is not None}
    builder = DensityWorkChain.get_builder_from_protocol(
        code or default_code(),
        structures=structures,
        judged=judged or None,
        engine=engine,
        protocol=protocol,
        overrides={
            'label': {key: value for key, value in labelling.items() if value is not None},
            'settings': _settings(group, settings),
        },
        options=job_options(wallclock, queue, processes),
        engine_code=engine_code,
        pseudo_family=pseudo_family,
    )
    if submit:
        submit_builder(builder, name, as_json)
        return
    builder.metadata.label = f'{name} workflow' if name else ''
    process = run_builder(builder)
    node = process.outputs.model
    node.label = name
    predicted, metrics = {}, dict(node.card.metrics)
    for part in judged:
        found = process.outputs.judged[part]
        found.predictions.label = f'{name}-{part}' if name else ''
        predicted[part] = found.predictions.uuid
        metrics[part] = found.results['metrics']
    first = next((process.outputs.judged[part].predictions for part in judged), node)
    follow = f'density plot {first.label or first.pk} -o density.png'
    _emit_model(node, {'process': process.uuid, 'predictions': predicted}, follow, as_json, metrics)


@density.command(epilog=example('aiida-nanoml density show predicted'))
@click.argument('node', type=DataNode('nanoml.densities', 'nanoml.density_model'))
@JSON
def show(node: Any, as_json: bool) -> None:
    """List the densities of NODE, or say what a density model is and how good it is."""
    if type_name(node) == 'nanoml.density_model':
        _emit_model(node, {}, f'trace {node.label or node.pk}', as_json)
        return
    names, formulas, shapes, electrons = _columns(node)
    spacings = [_spacing(node.structures.cells[row], shape) for row, shape in enumerate(shapes)]
    table = [['row', 'name', 'formula', 'mesh', 'spacing (Å)', 'electrons']]
    table += [
        [str(row), names[row], formulas[row], _mesh(shapes[row]), spacings[row], f'{electrons[row]:.3f}']
        for row in range(min(SHOWN_ROWS, len(names)))
    ]
    emit(
        as_json,
        record(
            node,
            kind=node.base.attributes.get('kind'),
            source=node.label_source.to_dict(),
            model_fingerprint=node.model_fingerprint,
            n_densities=len(names),
            names=names,
            formulas=formulas,
            meshes=shapes,
            electrons=electrons,
        ),
        {'densities': identity_line(node), 'source': _source(node)},
        f'density plot {node.label or node.pk} --row 0 -o maps.png',
        _shortened(table, len(names)),
    )


@density.command(epilog=example('aiida-nanoml density plot predicted --row 1 --against known -o maps.png'))
@click.argument('node', type=DataNode('nanoml.densities', 'nanoml.density_model'))
@output_file('File to write; its ending chooses the format: .png, .pdf or .svg.')
@ROW
@click.option('--against', type=DataNode('nanoml.densities'), help='Known densities to compare a prediction with.')
@FORCE
@JSON
def plot(node: Any, output: Path, row: int, against: DensitySetData | None, force: bool, as_json: bool) -> None:
    """Draw a density of NODE in the plane of the atoms, or the errors of a density model.

    A prediction of known densities is drawn beside what is known, with its error; --against names what became known
    later.
    """
    refuse_overwriting(output, force)
    if type_name(node) == 'nanoml.density_model':
        drawn = _draw_errors(node, output)
    else:
        drawn = _draw_maps(node, row, against, output)
    lines = {key: _percent(value) if key.startswith('nmae') else value for key, value in drawn.items()}
    emit(as_json, record(node, file=str(output), **drawn), {'file': output, **lines})


@density.command(epilog=example('aiida-nanoml density export predicted --row 1 -o flake.cube'))
@click.argument('node', type=DataNode('nanoml.densities'))
@output_file('File to write: .cube, or .nc for the density that SIESTA begins with.')
@ROW
@click.option(
    '--quantity',
    type=click.Choice(QUANTITIES),
    help='What a .cube holds: the density, its difference to free atoms, or these.  [default: total]',
)
@click.option('--mesh-cutoff', type=float, help='MeshCutoff in Ry of the run that reads a .nc; default: as labelled.')
@FORCE
@JSON
def export(
    node: DensitySetData,
    output: Path,
    row: int,
    quantity: str | None,
    mesh_cutoff: float | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a density of NODE as a file for other programs.

    A .nc is the difference to free atoms on the mesh that SIESTA chooses: put it into the folder of a run of this
    structure in this box under the name DeltaRho.IN.grid.nc.
    """
    refuse_overwriting(output, force)
    found = _density(node, row)
    if output.suffix == '.cube':
        from aiida_nanoml.densities.cube import write_cube

        if mesh_cutoff is not None:
            raise click.UsageError('--mesh-cutoff goes with a .nc file')
        quantity = quantity or QUANTITIES[0]
        values = getattr(found, quantity)
        write_cube(output, found, values, f'{_name(node, row)}, {quantity} density, {_source(node)}')
        charge = found.charge(values)
    elif output.suffix == '.nc':
        from aiida_nanoml.engines.siesta.mesh import write_start

        if quantity not in (None, 'difference'):
            raise click.UsageError('a .nc file holds the difference: leave out --quantity')
        quantity = 'difference'
        output.write_bytes(write_start(found, found.structure, _cutoff(node, mesh_cutoff)))
        charge = found.charge(found.difference)
    else:
        raise click.UsageError(f'{output} ends neither with .cube nor with .nc')
    emit(
        as_json,
        record(node, file=str(output), row=row, quantity=quantity, electrons=charge),
        {'file': output, 'density': f'{quantity} of {_name(node, row)}, {charge:.4f} electrons'},
    )


@density.command(
    epilog=example('aiida-nanoml density warmstart predicted --code siesta@localhost --rows 0,1 --name saved'),
    short_help='Measure what a density saves SIESTA.',
)
@click.argument('densities', type=DataNode('nanoml.densities'))
@click.option('--code', type=WorkerCode(), required=True, help='SIESTA, built with NetCDF.')
@click.option('--rows', type=Numbers(), help='Rows to run; default: all.')
@click.option('--protocol', help='Protocol of the runs; default: the parameters behind DENSITIES.')
@setting('Parameter of SIESTA that replaces that of the protocol; repeatable.')
@click.option('--pseudo-family', help='Family of pseudopotentials; default: ours, see `pseudos list`.')
@click.option('--processes', type=click.IntRange(1), help='MPI processes of a run.')
@WALLCLOCK
@QUEUE
@SUBMIT
@NAME
@JSON
def warmstart(
    densities: DensitySetData,
    code: Any,
    rows: list[int] | None,
    protocol: str | None,
    settings: tuple[tuple[str, Any], ...],
    pseudo_family: str | None,
    processes: int | None,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    name: str,
    as_json: bool,
) -> None:
    """Run SIESTA from free atoms and from DENSITIES, and tell iterations and seconds of both.

    Both must end at the same energy.
    """
    from aiida_nanoml.workflows.siesta_warmstart import SiestaWarmstartWorkChain

    options = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': processes or 1}}
    builder = SiestaWarmstartWorkChain.get_builder_from_protocol(
        code,
        densities,
        rows,
        pseudo_family=pseudo_family,
        **_run_parameters(densities, protocol, dict(settings)),
        options=options | {'max_wallclock_seconds': 3600} | job_options(wallclock, queue),
    )
    if submit:
        submit_builder(builder, name, as_json)
        return
    builder.metadata.label = name
    process = run_builder(builder, accepted=[RUN_FAILED, ENERGIES_DIFFER])
    _emit_starts(process, as_json)
    raise_if_failed(process)


def _settings(group: str | None, settings: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    chosen = dict(settings)
    if group is not None and 'group' in chosen:
        raise click.UsageError('group is given twice, as an option and with --set')
    return chosen if group is None else chosen | {'group': group}


def _run_parameters(densities: DensitySetData, protocol: str | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Protocol and parameters of runs: those behind the densities, unless another protocol is named."""
    from aiida_nanoml.engines.siesta.engine import SiestaEngine

    if protocol is not None:
        return {'protocol': protocol, 'overrides': settings}
    source = densities.label_source
    if source.engine != SiestaEngine.name:
        raise click.ClickException(f'the densities rest on {source}, not on SIESTA: name a --protocol of SIESTA')
    # What a protocol leaves out stands in the parameters; those of runs made by hand belong to none.
    known = source.protocol if source.protocol in SiestaEngine.protocols() else next(iter(SiestaEngine.protocols()))
    return {'protocol': known, 'overrides': dict(source.parameters) | settings}


def _cutoff(node: DensitySetData, given: float | None) -> float:
    """Mesh cutoff in Ry of the runs behind densities."""
    found = node.label_source.parameters.get('mesh_cutoff_ry') if given is None else given
    if found is None:
        raise click.ClickException(f'{node.label_source} has no mesh cutoff: give that of the run with --mesh-cutoff')
    return float(found)


def _density(node: DensitySetData, row: int) -> Density:
    if row >= node.n_densities:
        raise click.UsageError(f'pk {node.pk} has {node.n_densities} densities, counted from 0')
    return node.density(row)


def _name(node: DensitySetData, row: int) -> str:
    structures = node.structures
    return str(structures.names[row]) or structures.formulas[row]


def _source(node: DensitySetData) -> str:
    """Say who made densities."""
    source = str(node.label_source)
    fingerprint = node.model_fingerprint
    return source if fingerprint is None else f'predicted by model {fingerprint[:12]}, learnt from {source}'


def _draw_maps(node: DensitySetData, row: int, against: DensitySetData | None, output: Path) -> dict[str, Any]:
    from aiida_nanoml.densities.resampling import resample_values
    from aiida_nanoml.engines.siesta.mesh import check_same_place
    from aiida_nanoml.learning.density.plots import plot_density_maps

    found = _density(node, row)
    title = f'{_name(node, row)}, {node.structures.formulas[row]}'
    known = _known(node, row, against)
    if known is None:
        plot_density_maps(output, found, title, _source(node))
        return {'drawn': 'density', 'row': row}
    reference, source = known
    check_same_place(reference.structure, found.structure)
    # The free atoms of a model are not quite those of the engine: what is compared are the whole densities.
    predicted = resample_values(found.total, reference.shape) - reference.free
    plot_density_maps(output, reference, title, f'{source}\n{_source(node)}', predicted)
    return {'drawn': 'error', 'row': row, 'nmae': reference.nmae(predicted), 'nmae_free': reference.nmae(0.0)}


def _known(node: DensitySetData, row: int, against: DensitySetData | None) -> tuple[Density, str] | None:
    """The known density of a row and its source; that of the prediction itself unless another one is named."""
    if against is None:
        if node.model_fingerprint is None or node.creator is None or 'known' not in node.creator.inputs:
            return None
        against = node.creator.inputs.known
    if against.model_fingerprint is not None:
        raise click.ClickException(f'pk {against.pk} is predicted: --against takes densities of an engine')
    places = (against.hashes == node.hashes[row]).nonzero()[0]
    if not len(places):
        raise click.ClickException(f'pk {against.pk} has no density of {_name(node, row)}')
    return against.density(int(places[0])), _source(against)


def _draw_errors(node: DensityModelData, output: Path) -> dict[str, Any]:
    from aiida_nanoml.learning.density.plots import plot_nmae

    training = node.creator
    if training is None or 'errors' not in training.outputs:
        raise click.ClickException(f'no training of the model pk {node.pk} is here: its errors are not known')
    errors = training.outputs.errors
    names, parts, nmae, free = (errors.get_array(key).tolist() for key in ('names', 'parts', 'nmae', 'nmae_free'))
    plot_nmae(output, names, nmae, free, parts, f'Density network {_group(node)}', str(node.label_source))
    return {'drawn': 'errors', 'n_rows': len(names)}


def _group(node: DensityModelData) -> str:
    return str(node.base.attributes.get('parameters')['group'])


def _columns(node: DensitySetData) -> tuple[list[str], list[str], list[list[int]], list[float]]:
    structures = node.structures
    return structures.names.tolist(), structures.formulas, node.shapes.tolist(), node.electrons.tolist()


def _mesh(shape: Sequence[int]) -> str:
    return ' x '.join(map(str, shape))


def _spacing(cell: Any, shape: Sequence[int]) -> str:
    from aiida_nanoml.densities.density import mesh_spacing

    spacing = mesh_spacing(cell, tuple(shape))
    low, high = (f'{value:.3f}' for value in (spacing.min(), spacing.max()))
    return low if low == high else f'{low} to {high}'


def _shortened(table: list[list[str]], n_rows: int) -> str:
    if n_rows > SHOWN_ROWS:
        table.append([f'… {n_rows - SHOWN_ROWS} more', *[''] * (len(table[0]) - 1)])
    return aligned(table)


def _percent(share: float) -> str:
    return f'{100 * share:.3f} %'


def _metric_row(name: str, found: Mapping[str, Any]) -> list[str]:
    return [
        name,
        str(found['n']),
        _percent(found['nmae']),
        _percent(found['worst_nmae']),
        _percent(found['nmae_free']),
        f'{found["ratio"]:.1f}',
    ]


def _emit_model(
    node: DensityModelData,
    numbers: dict[str, Any],
    follow: str,
    as_json: bool,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Tell what a model is; in place of the metrics of its training, others may be given."""
    card = node.card
    shown = card.metrics if metrics is None else metrics
    emit(
        as_json,
        record(node, **numbers, **card.model_dump(mode='json') | {'metrics': shown}),
        {
            'model': identity_line(node),
            'network': f'{_group(node)}, {card.n_free_weights} free weights in place of {card.n_weights}',
            'densities': node.label_source,
            'elements': ', '.join(f'{symbol} {electrons:.3f} e' for symbol, electrons in card.electrons.items()),
            'fingerprint': card.fingerprint[:12],
        },
        follow,
        aligned([METRIC_HEAD, *(_metric_row(part, found) for part, found in shown.items())]),
    )


def _emit_prediction(process: ProcessNode, as_json: bool) -> None:
    node, results = process.outputs.densities, process.outputs.results.get_dict()
    columns = {
        name: process.outputs.errors.get_array(name).tolist() for name in process.outputs.errors.get_arraynames()
    }
    names, _, shapes, electrons = _columns(node)
    judged = 'nmae' in columns
    head = ['row', 'name', 'mesh', 'electrons', 'charge defect']
    table = [head + ['NMAE', 'free atoms'] * judged]
    for row in range(min(SHOWN_ROWS, len(names))):
        table.append(
            [str(row), names[row], _mesh(shapes[row]), f'{electrons[row]:.3f}', f'{columns["charge_defect"][row]:+.4f}']
        )
        if judged:
            table[-1] += [_percent(columns['nmae'][row]), _percent(columns['nmae_free'][row])]
    text = _shortened(table, len(names))
    if judged:
        text = f'{aligned([METRIC_HEAD, _metric_row("known", results["metrics"])])}\n{text}'
    n_points, seconds = node.base.attributes.get('n_points'), results['seconds']
    emit(
        as_json,
        record(node, process=process.uuid, model=process.inputs.model.uuid, names=names, **results, rows=columns),
        {
            'densities': identity_line(node),
            'source': _source(node),
            'learnt from': f'{results["learnt_from"]} of {len(names)} structures',
            'time': f'{seconds:.2f} s for {n_points} mesh points, {n_points / seconds / 1e6:.1f} million a second',
        },
        f'density plot {node.label or node.pk} --row 0 -o maps.png',
        text,
    )


def _emit_starts(process: ProcessNode, as_json: bool) -> None:
    summary, table = process.outputs.summary.get_dict(), process.outputs.table
    columns = {name: table.get_array(name).tolist() for name in table.get_arraynames()}
    shares = {
        key: '-' if summary[f'{key}_saved'] is None else f'{round(100 * summary[f"{key}_saved"])} %'
        for key in ('iterations', 'scf_s', 'wall_s')
    }
    rows = [['row', 'name', 'iterations', 'from density', 'SCF (s)', 'from density', 'difference (eV)']]
    for number in range(min(SHOWN_ROWS, len(columns['rows']))):
        counts = [str(columns[f'iterations_{start}'][number]) for start in ('atoms', 'density')]
        seconds = [f'{columns[f"scf_s_{start}"][number]:.1f}' for start in ('atoms', 'density')]
        difference = f'{columns["energy_difference_ev"][number]:.1e}'
        rows.append([str(columns['rows'][number]), columns['names'][number], *counts, *seconds, difference])
    emit(
        as_json,
        record(process, summary=summary, rows=_finite(columns)),
        {
            'process': f'pk {process.pk}, uuid {process.uuid}',
            'structures': summary['n_structures'],
            'iterations': f'{summary["iterations_atoms"]} from free atoms, {summary["iterations_density"]} from the '
            f'densities: {shares["iterations"]} saved',
            'seconds': f'{shares["scf_s"]} of the self-consistency saved, {shares["wall_s"]} of the whole run',
            'energies': f'differ by up to {summary["energy_difference_max_ev"]:.1e} eV',
        },
        f'trace {process.outputs.table.pk}',
        _shortened(rows, len(columns['rows'])),
    )


def _finite(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns in types of JSON, which knows no NaN: None stands for a time that SIESTA does not tell."""
    return {
        name: [None if isinstance(value, float) and math.isnan(value) else value for value in column]
        for name, column in columns.items()
    }
