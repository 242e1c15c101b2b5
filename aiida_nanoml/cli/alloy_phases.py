"""``aiida-nanoml alloys phase`` and ``plot``: what scans, and models, say about the phases of alloys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_nanoml.cli.launch import run_builder, run_function
from aiida_nanoml.cli.options import (
    CODE,
    FORCE,
    JSON,
    NAME,
    AnyNode,
    DataNode,
    default_code,
    example,
    output_file,
)
from aiida_nanoml.cli.output import counts, emit, record, refuse_overwriting, source_line, type_name
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.orm import ArrayData, Dict, Node, ProcessNode

    from aiida_nanoml.alloys import Curves
    from aiida_nanoml.data.model import ModelData

SHOWN_ALLOYS = 10
SCAN_PARTS = ('cells', 'structures', 'labels', 'atoms', 'curves', 'points', 'phases', 'summary')
PREDICTED_PARTS = ('curves', 'points', 'phases')


@dataclass(frozen=True)
class Scan:
    """The results of :func:`~aiida_nanoml.calculations.functions.alloys.analyse_scan` or ``predict_phases``.

    :param curves: node of the equations of state.
    :param points: node of the points.
    :param phases: node of the phases.
    :param structures: node of the scanned points.
    """

    curves: ArrayData
    points: ArrayData
    phases: ArrayData
    structures: Any

    @property
    def predicted(self) -> bool:
        """Whether a model made it, and not an engine."""
        return self.curves.base.attributes.get('target', None) is not None

    @property
    def source(self) -> dict[str, Any]:
        """Origin of the labels, of a model those that it learnt."""
        source: dict[str, Any] = self.curves.base.attributes.get('labels')
        return source


@click.command(
    epilog=example('aiida-nanoml alloys phase scan --model model --unseen --name phases'),
    short_help='Show equilibrium phases, or let a model predict them.',
)
@click.argument('node', type=AnyNode())
@click.option('--model', type=DataNode('nanoml.model'), help='Predict the phases by the curves of this model.')
@click.option('--unseen', is_flag=True, help='With --model: only alloys of which it learnt no point.')
@click.option(
    '--points', type=click.IntRange(4), default=25, show_default=True, help='Lattice constants at which it is asked.'
)
@click.option(
    '--range',
    'factors',
    type=click.FloatRange(0, min_open=True),
    nargs=2,
    default=(0.94, 1.06),
    show_default=True,
    help='Least and largest lattice constant at which it is asked about cells, in units of theirs.',
)
@click.option('--rows', type=click.IntRange(1), default=SHOWN_ALLOYS, show_default=True, help='Alloys to print.')
@CODE
@NAME
@JSON
def phase(
    node: Any,
    model: ModelData | None,
    unseen: bool,
    points: int,
    factors: tuple[float, float],
    rows: int,
    code: Any,
    name: str,
    as_json: bool,
) -> None:
    """Show the equilibrium phases of NODE: a scan, or what a model predicted.

    With --model, NODE is a scan, whose curves judge those of the model, or a set of cells, for example a section of
    composition space. With --name NAME, the predictions are named NAME-curves, NAME-points and NAME-phases.
    """
    if model is None:
        if unseen:
            raise click.UsageError('--unseen goes with --model')
        found, predicted = scans_of(node)
        _emit_phases(predicted or found, rows, as_json)
        return
    cells = type_name(node) == 'nanoml.structures'
    known = None if cells else scans_of(node)[0]
    if known is None and not cells:
        raise click.ClickException(f'pk {node.pk} is what a model predicted: give a scan, or cells, with --model')
    predictions, predicted, metrics = _predict(node, known, model, unseen, points, factors, code)
    if name:
        for part in PREDICTED_PARTS:
            getattr(predicted, part).label = f'{name}-{part}'
        if metrics is not None:
            metrics.label = name
    _emit_phases(predicted, rows, as_json, metrics, predictions)


def _predict(
    node: Any,
    known: Scan | None,
    model: ModelData,
    unseen: bool,
    points: int,
    factors: tuple[float, float],
    code: Any,
) -> tuple[Any, Scan, Dict | None]:
    """Ask a model for curves, and compare them with those of the engine if there are some."""
    from aiida.orm import Dict as DictNode
    from aiida.orm import Int

    from aiida_nanoml.calculations.functions.alloys import (
        compare_scans,
        predict_phases,
        refine_scan,
        scan_alloys,
    )
    from aiida_nanoml.calculations.predict import PredictCalculation

    if known is None:
        if unseen:
            raise click.UsageError('--unseen needs a scan: cells are not known to the model')
        low, high = factors
        steps = [low + (high - low) * step / (points - 1) for step in range(points)]
        fine = run_function(scan_alloys, structures=node, scan=DictNode({'factors': steps}))
    else:
        dataset = {'dataset': model.creator.inputs.dataset} if unseen else {}
        fine = run_function(refine_scan, structures=known.structures, points=Int(points), **dataset)
    builder = PredictCalculation.get_builder()
    builder.model, builder.structures, builder.code = model, fine, code or default_code()
    predictions = run_builder(builder).outputs.predictions
    made = run_function(predict_phases, predictions=predictions, structures=fine)
    predicted = Scan(made['curves'], made['points'], made['phases'], fine)
    if known is None:
        return predictions, predicted, None
    return predictions, predicted, run_function(compare_scans, curves=known.curves, predicted=predicted.curves)


@click.command(
    epilog=example('aiida-nanoml alloys plot scan --figure curves --alloy alloy-0000 -o curves.png'),
    short_help='Draw curves, stress-strain, a phase map or a parity.',
)
@click.argument('node', type=AnyNode())
@output_file('File to write; its ending chooses the format: .png, .pdf or .svg.')
@click.option(
    '--figure',
    type=click.Choice(('curves', 'stress', 'map', 'parity')),
    default='curves',
    show_default=True,
    help='E(a) of an alloy, its stress-strain curves, a map of phases, or E(fcc) - E(bcc) of model and engine.',
)
@click.option('--alloy', help='Name of the alloy, for curves and stress.  [default: the first]')
@click.option('--predicted', type=AnyNode(), help='What a model predicted, to draw beside NODE.')
@click.option('--x', 'first', help='Element along the first axis of a map.')
@click.option('--y', 'second', help='Element along the second axis of a map.')
@FORCE
@JSON
def plot(
    node: Any,
    output: Path,
    figure: str,
    alloy: str | None,
    predicted: Any,
    first: str | None,
    second: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Draw NODE: a scan, what a model predicted, or a whole study.

    Curves and stress are those of one alloy, with the model beside the engine where both are known.
    """
    refuse_overwriting(output, force)
    scan, model = scans_of(node)
    if predicted is not None:
        model = scans_of(predicted)[1]
        if model is None:
            raise click.ClickException(f'{type_name(predicted)} pk {predicted.pk} was not predicted by a model')
    if figure == 'map':
        drawn = _draw_map(output, model or scan, scan if model else None, first, second)
    elif figure == 'parity':
        drawn = _draw_parity(output, scan, model)
    else:
        drawn = _draw_alloy(output, figure, scan or model, model if scan else None, alloy)
    emit(as_json, record(node, file=str(output), **drawn), {'file': output, **drawn})


def _draw_alloy(output: Path, figure: str, scan: Scan | None, model: Scan | None, alloy: str | None) -> dict[str, Any]:
    from aiida_nanoml.alloys.plots import plot_curves, plot_stress_strain
    from aiida_nanoml.calculations.functions.alloys import curves_of

    curves, points = curves_of(scan.curves), dict(scan.points.arrays)
    if alloy is None:
        alloy = str((curves_of(model.curves) if model else curves).names[0])
    beside = None
    if model is not None:
        beside = curves_of(model.curves), model.points.arrays
        if model.curves.base.attributes.get('target') == 'cohesive_energy':
            # The model counts energies from the isolated atoms.
            cohesive = scan.curves.get_array('cohesive_energy_ev')
            curves, points = replace(curves, energy_ev=-cohesive), points | {'energy_ev': -points['cohesive_energy_ev']}
    label = 'model' if model is None else f'model, from {source_line(model.source)}'
    draw = plot_curves if figure == 'curves' else plot_stress_strain
    draw(output, curves, points, alloy, source_line(scan.source), beside, label if model is not None else '')
    return {'drawn': figure, 'alloy': alloy}


def _draw_map(output: Path, scan: Scan | None, known: Scan | None, first: str | None, second: str | None) -> Any:
    from aiida_nanoml.alloys.phases import fractions
    from aiida_nanoml.alloys.plots import plot_phase_map

    if not (first and second):
        raise click.UsageError('a map needs the elements of its axes: --x and --y')
    arrays = scan.phases.arrays
    title = 'E(fcc) - E(bcc)' + (' by the model' if scan.predicted else '')
    markers = None
    if known is not None:
        found = known.phases.arrays
        markers = fractions(found['formulas'], first), fractions(found['formulas'], second), found['phases']
    plot_phase_map(
        output,
        fractions(arrays['formulas'], first),
        fractions(arrays['formulas'], second),
        arrays['energy_difference_ev'],
        f'Fraction of {first}',
        f'Fraction of {second}',
        title,
        source_line(scan.source),
        markers,
    )
    return {'drawn': 'map', 'n_alloys': len(arrays['names'])}


def _draw_parity(output: Path, scan: Scan | None, model: Scan | None) -> dict[str, Any]:
    import numpy as np

    from aiida_nanoml.alloys.plots import plot_phase_parity

    if scan is None or model is None:
        raise click.ClickException('a parity needs a scan and what a model predicted for its alloys: give --predicted')
    known, found = scan.phases.arrays, model.phases.arrays
    row_of = {name: row for row, name in enumerate(known['names'].tolist())}
    rows = np.array([row_of.get(name, -1) for name in found['names'].tolist()])
    reference = np.where(rows >= 0, known['energy_difference_ev'][rows], np.nan)
    both = np.isfinite(reference) & np.isfinite(found['energy_difference_ev'])
    if not both.any():
        raise click.ClickException('no alloy has a decided phase in both')
    plot_phase_parity(
        output,
        reference[both],
        found['energy_difference_ev'][both],
        'Difference of the phases, predicted and computed',
        source_line(scan.source),
    )
    return {'drawn': 'parity', 'n_alloys': int(both.sum())}


def scans_of(node: Node) -> tuple[Scan | None, Scan | None]:
    """Find the scan of an engine and the one of a model that a node stands for.

    :param node: a scan, a study, or anything that one of them or a prediction of phases made.
    :raises ClickException: it is none of these, or did not finish.
    """
    from aiida.orm import ProcessNode

    process = node if isinstance(node, ProcessNode) else node.creator
    scan = predicted = None
    while process is not None and scan is None and predicted is None:
        outputs = process.outputs
        if process.process_label == 'predict_phases' and process.is_finished_ok:
            predicted = Scan(outputs.curves, outputs.points, outputs.phases, process.inputs.structures)
        elif process.process_label == 'analyse_scan' and process.is_finished_ok:
            scan = Scan(outputs.curves, outputs.points, outputs.phases, process.inputs.structures)
        elif process.process_label in ('AlloyScanWorkChain', 'AlloyWorkChain') and 'curves' in outputs:
            scan = Scan(outputs.curves, outputs.points, outputs.phases, outputs.structures)
            if 'predicted' in outputs:
                found = outputs.predicted
                predicted = Scan(found.curves, found.points, found.phases, found.structures)
        process = process.caller
    if scan is None and predicted is None:
        raise click.ClickException(
            f'{type_name(node)} pk {node.pk} is no scan of alloys that finished, and no phases that a model predicted: '
            'make one with `aiida-nanoml alloys scan` or `alloys phase --model`'
        )
    return scan, predicted


def emit_scan(process: ProcessNode, name: str, as_json: bool) -> None:
    """Name the results of a scan and print them."""
    _name_outputs(process.outputs, SCAN_PARTS, name)
    summary = process.outputs.summary.get_dict()
    scan = scans_of(process)[0]
    atoms = f' --atoms {_called(process.outputs.atoms)}' if 'atoms' in process.outputs else ''
    target = 'cohesive_energy' if atoms else 'energy_per_atom'
    emit(
        as_json,
        record(process, **_nodes(process.outputs, SCAN_PARTS), **summary, table=_rows(scan)),
        {
            'scan': f'{name or process.process_label} pk {process.pk}, uuid {process.uuid}',
            'source': source_line(summary['labels']),
            'points': f'{summary["n_points"] - summary["n_failed"]} of {summary["n_points"]}, '
            f'failures: {counts(summary["failures"])}',
            'curves': counts(summary['curves']),
            'phases': counts(summary['phases']),
            **_flagged(summary['flagged']),
        },
        f'dataset build {_called(process.outputs.structures)} --labels {_called(process.outputs.labels)}{atoms} '
        f'--target {target} --descriptor alloy --group alloy',
        _table(scan, SHOWN_ALLOYS),
    )


def emit_metrics(process: ProcessNode, name: str, as_json: bool) -> None:
    """Name the results of a study and print how well the network did."""
    outputs = process.outputs
    _name_outputs(outputs, (*SCAN_PARTS, 'dataset', 'model', 'metrics'), name)
    _name_outputs(outputs.predicted, PREDICTED_PARTS, f'{name}-predicted' if name else '')
    summary, metrics = outputs.summary.get_dict(), outputs.predicted.metrics.get_dict()
    judged = outputs.metrics.get_dict()
    attributes = outputs.model.base.attributes
    test = judged.get('test', judged['train'])
    emit(
        as_json,
        record(process, **_nodes(outputs, (*SCAN_PARTS, 'dataset', 'model')), summary=summary, metrics=judged,
               predicted=metrics),
        {
            'study': f'{name or process.process_label} pk {process.pk}, uuid {process.uuid}',
            'source': source_line(summary['labels']),
            'curves': counts(summary['curves']),
            'phases': counts(summary['phases']),
            'model': f'{attributes.get("kind")}, {attributes.get("target")}: MAE {test["mae"]:.4f} '
            f'{attributes.get("unit")} on {test["n"]} test points',
            **_judgement(metrics),
        },
        f'alloys plot {name or process.pk} --figure parity -o parity.png',
    )  # fmt: skip


def _emit_phases(scan: Scan, rows: int, as_json: bool, metrics: Dict | None = None, predictions: Any = None) -> None:
    node = scan.phases
    found = metrics.get_dict() if metrics is not None else None
    asked: dict[str, int] = {}
    lines: dict[str, str] = {} if found is None else _judgement(found)
    if predictions is not None:
        attributes = predictions.base.attributes
        asked = {'n_points': attributes.get('n_rows'), 'n_outside': attributes.get('n_outside')}
        lines['outside'] = f'{asked["n_outside"]} of {asked["n_points"]} points are beyond what it learnt'
    emit(
        as_json,
        record(node, curves=scan.curves.uuid, points=scan.points.uuid, predicted=scan.predicted, labels=scan.source,
               metrics=found, table=_rows(scan), **asked),
        {
            'phases': f'{_called(node)} pk {node.pk}, uuid {node.uuid}',
            'from': ('a model that learnt ' if scan.predicted else '') + source_line(scan.source),
            **lines,
        },
        f'alloys plot {_called(node)} -o curves.png',
        _table(scan, rows),
    )  # fmt: skip


def _judgement(metrics: Mapping[str, Any]) -> dict[str, str]:
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


def _flagged(flagged: Mapping[str, str]) -> dict[str, str]:
    """Say what is wrong with the first curve that is flagged."""
    if not flagged:
        return {}
    curve, message = next(iter(flagged.items()))
    return {'flagged': f'{curve}: {message}' + (f' (+{len(flagged) - 1} more)' if len(flagged) > 1 else '')}


def _rows(scan: Scan) -> list[dict[str, Any]]:
    """A row for each alloy: phase, difference, and what is known of its curves."""
    import math

    from aiida_nanoml.calculations.functions.alloys import curves_of

    def known(value: Any) -> Any:
        return None if isinstance(value, float) and math.isnan(value) else value

    curves: Curves = curves_of(scan.curves)
    columns = ('lattice_constant_ang', 'energy_ev', 'bulk_modulus_gpa', 'cohesive_energy_ev', 'dos_fermi_per_ev',
               'magnetic_moment_bohr')  # fmt: skip
    arrays = {name: scan.curves.get_array(name) for name in columns if name in scan.curves.get_arraynames()}
    phases = scan.phases.arrays
    rows = []
    for number, name in enumerate(phases['names'].tolist()):
        row: dict[str, Any] = {
            'alloy': name,
            'formula': str(phases['formulas'][number]),
            'phase': str(phases['phases'][number]),
            'energy_difference_ev': known(float(phases['energy_difference_ev'][number])),
        }
        for curve in phases['curves'][number].tolist():
            if curve >= 0:
                found = {key: known(float(column[curve])) for key, column in arrays.items()}
                row[str(curves.phases[curve])] = {'status': str(curves.status[curve]), **found}
        rows.append(row)
    return rows


def _table(scan: Scan, limit: int) -> str:
    """The first alloys as a table for people."""
    rows = _rows(scan)
    lines: list[list[str]] = [['alloy', 'formula', 'phase', 'fcc-bcc (meV)', 'a fcc (Å)', 'a bcc (Å)', 'B (GPa)',
                               'E_coh (eV)', 'DOS (1/eV)']]  # fmt: skip

    def shown(curve: Mapping[str, Any] | None, key: str, digits: int) -> str:
        value = (curve or {}).get(key)
        return '-' if value is None else f'{value:.{digits}f}'

    for row in rows[:limit]:
        stable = row.get(row['phase'])
        difference = row['energy_difference_ev']
        lines.append(
            [
                row['alloy'],
                row['formula'],
                row['phase'],
                '-' if difference is None else f'{1e3 * difference:.1f}',
                shown(row.get('fcc'), 'lattice_constant_ang', 3),
                shown(row.get('bcc'), 'lattice_constant_ang', 3),
                shown(stable, 'bulk_modulus_gpa', 0),
                shown(stable, 'cohesive_energy_ev', 3),
                shown(stable, 'dos_fermi_per_ev', 2),
            ]
        )
    rest = len(rows) - limit
    return aligned(lines) + (f'\n… {rest} more: --json prints all' if rest > 0 else '')


def _name_outputs(outputs: Any, parts: tuple[str, ...], name: str) -> None:
    if name:
        for part in parts:
            if part in outputs:
                outputs[part].label = f'{name}-{part}'


def _nodes(outputs: Any, parts: tuple[str, ...]) -> dict[str, str]:
    return {f'{part}_uuid': outputs[part].uuid for part in parts if part in outputs}


def _called(node: Node) -> str:
    return str(node.label or node.pk)
