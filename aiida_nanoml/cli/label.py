"""``aiida-nanoml label``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.launch import run_builder, submit_builder
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
    setting,
)
from aiida_nanoml.cli.output import counts, emit, identity_line, record

if TYPE_CHECKING:
    from aiida_nanoml.data.structures import StructureSetData
    from aiida_nanoml.engines.label_set import LabelSet
    from aiida_nanoml.structures import StructureSet


@click.command(epilog=example('aiida-nanoml label flakes --engine xtb --protocol fast --name labels'))
@click.argument('structures', type=DataNode('nanoml.structures'))
@click.option('--engine', default='xtb', show_default=True, help='Registered name of the engine.')
@click.option(
    '--protocol', default='balanced', show_default=True, help='fast, balanced, stringent, or another one of the engine.'
)
@setting('Parameter of the engine that replaces that of the protocol; repeatable.')
@click.option('--batch-size', type=click.IntRange(1), help='Structures in one job.')
@click.option('--max-concurrent', type=click.IntRange(1), help='Jobs at the same time.')
@click.option('--processes', type=click.IntRange(1), help='Structures that one job evaluates at the same time.')
@click.option('--program-processes', type=click.IntRange(1), help='MPI processes of the program for one structure.')
@click.option('--mode', type=click.Choice(['batch', 'single']), help='Batches, or a run for each structure.')
@click.option('--time-limit', type=click.FloatRange(0, min_open=True), help='Seconds that one structure may take.')
@click.option('--densities', is_flag=True, help='Keep the density of each structure, too: engines siesta and pyscf.')
@click.option(
    '--mesh-spacing', type=click.FloatRange(0, min_open=True), help='Mesh of the densities of pyscf, Å; default: 0.18.'
)
@CODE
@click.option(
    '--engine-code',
    type=WorkerCode(),
    help='Program that the engine runs, such as siesta@cluster, if --code names the worker.',
)
@click.option('--pseudo-family', help='Family of pseudopotentials; default: ours, see `pseudos list`.')
@WALLCLOCK
@QUEUE
@SUBMIT
@NAME
@JSON
def label(
    structures: StructureSetData,
    engine: str,
    protocol: str,
    settings: tuple[tuple[str, Any], ...],
    batch_size: int | None,
    max_concurrent: int | None,
    processes: int | None,
    program_processes: int | None,
    mode: str | None,
    time_limit: float | None,
    densities: bool,
    mesh_spacing: float | None,
    code: Any,
    engine_code: Any,
    pseudo_family: str | None,
    wallclock: int | None,
    queue: str | None,
    submit: bool,
    name: str,
    as_json: bool,
) -> None:
    """Compute labels of STRUCTURES with an engine, in batches: energies, gaps, forces and what else it gives.

    A structure that fails does not disturb the others. What is labelled stays: with caching on, the same command goes
    on from there. With --engine siesta, --code names SIESTA; the worker on the same computer runs it in batches, and
    without one each structure has a run of its own.
    """
    import numpy as np

    from aiida_nanoml.engines.registry import get_engine
    from aiida_nanoml.workflows.label import LabelWorkChain

    parameters = dict(settings)
    chosen = get_engine(engine)
    chosen.parameters(protocol, parameters)  # says what is valid, before anything is stored
    if densities:
        chosen.require('density')
    given = {
        'batch_size': batch_size,
        'max_concurrent': max_concurrent,
        'time_limit_s': time_limit,
        'program_processes': program_processes,
        'mode': mode,
        'densities': densities or None,
        'mesh_spacing_ang': mesh_spacing,
    }
    overrides = {key: value for key, value in given.items() if value is not None} | {'parameters': parameters}
    builder = LabelWorkChain.get_builder_from_protocol(
        code if code is not None or engine_code is not None else default_code(),
        structures,
        engine,
        protocol,
        overrides,
        job_options(wallclock, queue, processes),
        engine_code,
        pseudo_family,
    )
    if submit:
        submit_builder(builder, name, as_json, 'campaign status')
        return
    builder.metadata.label = name
    process = run_builder(builder)
    node = process.outputs.labels
    node.label = name
    attributes = node.base.attributes
    numbers = {key: attributes.get(key) for key in ('n_rows', 'n_finished', 'n_open_shell', 'failures')}
    summary, line = _summary(node.labels, structures.structures)
    if 'densities' in process.outputs:
        dense = process.outputs.densities
        dense.label = f'{name}-densities' if name else ''
        summary['densities'] = dense.uuid
        line = {'densities': identity_line(dense)} | line
    source = node.label_source
    emit(
        as_json,
        record(
            node,
            process=process.uuid,
            labels=source.to_dict(),
            **numbers,
            **summary,
            wall_s=float(np.nansum(node.labels.wall_s)),
        ),
        {
            'labels': identity_line(node),
            'source': source,
            'finished': f'{numbers["n_finished"]} of {numbers["n_rows"]}, failures: {counts(numbers["failures"])}',
            **line,
        },
        f'dataset build {structures.label or structures.pk} --labels {node.label or node.pk}',
    )


def _summary(labels: LabelSet, structures: StructureSet) -> tuple[dict[str, Any], dict[str, str]]:
    """Range and mean of the gaps, or of the energies for each atom where the engine knows no gap: record and line."""
    import numpy as np

    from aiida_nanoml.learning.dataset import positions_of

    finished = labels.select(labels.finished)
    values, what, digits = finished.energies['gap_ev'], 'gap', 3
    if np.isnan(values).all():
        n_atoms = np.diff(structures.offsets)[positions_of(finished.hashes, structures.hashes)]
        values, what, digits = finished.energies['energy_ev'] / n_atoms, 'energy_per_atom', 4
    lowest, mean, highest = values.min().item(), values.mean().item(), values.max().item()
    return (
        {f'{what}_min_ev': lowest, f'{what}_mean_ev': mean, f'{what}_max_ev': highest},
        {what.replace('_', ' '): f'{lowest:.{digits}f} to {highest:.{digits}f} eV, mean {mean:.{digits}f} eV'},
    )
