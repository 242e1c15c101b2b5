"""Active learning: hold out structures, choose the next ones to label, and tabulate the rounds."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from numpy.typing import NDArray

from aiida_nanoml.calculations.functions.base import calculation_function
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.dataset import positions_of

ROUND_COLUMNS = (
    'n_asked', 'n_learnt', 'n_failed', 'n_open_shell', 'n_left', 'mae', 'rmse', 'r2', 'coverage_68', 'coverage_95',
    'mean_std',
)  # fmt: skip
"""Columns of the table of rounds."""

ROUNDS_FIGURE = 'active_learning.png'
ROUNDS_TABLE = 'rounds.csv'


@calculation_function
def hold_out(pool: StructureSetData, parameters: orm.Dict) -> dict[str, StructureSetData]:
    """Draw structures at random to evaluate models on; repeated structures are dropped.

    :param pool: structures, in any order.
    :param parameters: ``count`` and ``seed``.
    :returns: ``held_out``, and ``pool`` without them.
    :raises DatasetError: nothing would be left, or a parameter of the wrong type.
    """
    from aiida_nanoml.learning.acquisition import draw_rows

    everything, hashes, rows = _distinct(pool)
    count = parameters['count']
    if not 0 < count < len(rows):
        raise DatasetError(f'{count} structures cannot be held out: the pool has {len(rows)} distinct ones')
    drawn = np.sort(draw_rows(hashes, count, parameters['seed']))
    return {
        'held_out': StructureSetData(everything.select(rows[drawn])),
        'pool': StructureSetData(everything.select(np.delete(rows, drawn))),
    }


@calculation_function
def choose_structures(
    pool: StructureSetData,
    parameters: orm.Dict,
    asked: StructureSetData | None = None,
    predictions: PredictionData | None = None,
    dataset: DatasetData | None = None,
) -> StructureSetData:
    """Choose structures to label, each only once.

    :param pool: the candidates; repeated ones count once.
    :param parameters: ``strategy`` (a key of :data:`~aiida_nanoml.learning.acquisition.STRATEGIES`), ``count`` and,
        where it matters, ``seed``; or ``names``, a list.
    :param asked: structures that were requested before, and are not chosen again.
    :param predictions: of the pool; for every strategy but ``random``. The standard deviation is the spread of the
        ensemble, and of a model without one the calibrated deviation.
    :param dataset: what the model learnt from; for ``distance`` and ``mixed``.
    :raises DatasetError: no candidate is left, one has no prediction, or the strategy needs what is not given.
    """
    from aiida_nanoml.features.registry import describe
    from aiida_nanoml.learning.acquisition import choose_rows

    everything, hashes, rows = _distinct(pool)
    wanted = parameters.get_dict()
    if 'names' in wanted:
        return StructureSetData(everything.select(_rows_named(everything.names[rows], rows, wanted['names'])))
    if asked is not None:
        left = ~np.isin(hashes, asked.structures.hashes)
        hashes, rows = hashes[left], rows[left]
    if not len(rows):
        raise DatasetError('every structure of the pool was requested already')
    columns: dict[str, Any] = {}
    if predictions is not None:
        positions = positions_of(hashes, predictions.get_array('hashes'))
        missing = everything.names[rows[positions < 0]]
        if len(missing):
            raise DatasetError(f'{len(missing)} structures have no prediction, the first is {str(missing[0])!r}')
        spread = predictions.get_array('spread')[positions]
        # More labels reduce the spread; the calibrated deviation includes errors that remain.
        columns['std'] = spread if np.isfinite(spread).all() else predictions.get_array('std')[positions]
        columns['distance'] = predictions.get_array('distance')[positions]
    if dataset is not None:
        identity = dataset.base.attributes.get('descriptor')
        columns |= {'known': dataset.dataset.X}
        columns |= {'describe': lambda chosen: describe(identity, everything.select(rows[chosen]))}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # what a descriptor drops is counted in the data set
        chosen = choose_rows(wanted['strategy'], wanted['count'], hashes, seed=wanted.get('seed', 0), **columns)
    return StructureSetData(everything.select(rows[chosen]))


@calculation_function
def tabulate_rounds(
    parameters: orm.Dict, pool: StructureSetData, random: orm.ArrayData | None = None, **nodes: Any
) -> dict[str, orm.ArrayData | orm.FolderData | orm.Dict]:
    """Return the rounds of active learning as one table and one figure.

    :param parameters: ``strategy``, ``stopped_by``, ``n_held_out`` and, if present, ``target_mae`` (eV).
    :param pool: the candidates.
    :param random: table of a run with the strategy ``random``, to draw beside it.
    :param nodes: of each round ``asked_000`` (structures), ``dataset_000``, ``predictions_000`` and ``metrics_000``.
    :returns: ``table`` (one array for each of :data:`ROUND_COLUMNS`, with the number of the round from 0 as index;
        energies in eV, NaN if absent), ``figures`` (error versus number of labels, and the table as CSV) and
        ``summary``.
    """
    from aiida_nanoml.learning.plot_style import save_figure

    hashes = pool.structures.hashes
    rows = []
    for key in sorted(name for name in nodes if name.startswith('asked_')):
        number = key.removeprefix('asked_')
        asked, dataset, predictions, metrics = (
            nodes[f'{kind}_{number}'] for kind in ('asked', 'dataset', 'predictions', 'metrics')
        )
        left = np.unique(hashes[~np.isin(hashes, asked.structures.hashes)])
        std = predictions.get_array('std')[np.isin(predictions.get_array('hashes'), left)]
        excluded = dataset.base.attributes.get('excluded')
        errors = metrics['all']
        rows.append(
            {
                'n_asked': asked.n_structures,
                'n_learnt': dataset.base.attributes.get('n_rows'),
                'n_failed': excluded.get('failed', 0),
                'n_open_shell': excluded.get('open_shell', 0),
                'n_left': len(left),
                'mae': errors['mae'],
                'rmse': errors['rmse'],
                **{key: np.nan if errors[key] is None else errors[key] for key in ('r2', 'coverage_68', 'coverage_95')},
                'mean_std': float(std.mean()) if len(std) else np.nan,
            }
        )
    columns = {name: np.array([row[name] for row in rows]) for name in ROUND_COLUMNS}
    table = orm.ArrayData(columns)
    settings = parameters.get_dict()
    source = LabelSource.from_dict(nodes['dataset_000'].base.attributes.get('labels'))
    last = {name: None if np.isnan(value) else value for name, value in rows[-1].items()}
    summary = settings | {'labels': source.to_dict(), 'n_rounds': len(rows)} | last
    if random is not None:
        summary |= {f'random_{name}': random.get_array(name)[-1].item() for name in ('mae', 'n_learnt')}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        save_figure(_plot_rounds(table, settings, source, random), path / ROUNDS_FIGURE)
        lines = [','.join(ROUND_COLUMNS), *(','.join(str(row[name]) for name in ROUND_COLUMNS) for row in rows)]
        (path / ROUNDS_TABLE).write_text('\n'.join(lines) + '\n', encoding='utf-8')
        figures = orm.FolderData(tree=folder)
    return {'table': table, 'figures': figures, 'summary': orm.Dict(summary)}


def draw_rounds(table: orm.ArrayData, **size: Any) -> Any:
    """Draw the figure of :func:`tabulate_rounds` again, and return its axes.

    :param table: the stored table.
    :param size: ``width`` of the figure, if it is chosen.
    """
    inputs = table.creator.inputs
    source = LabelSource.from_dict(inputs.dataset_000.base.attributes.get('labels'))
    return _plot_rounds(
        table, inputs.parameters.get_dict(), source, inputs.random if 'random' in inputs else None, **size
    )


def _plot_rounds(
    table: orm.ArrayData, settings: dict[str, Any], source: LabelSource, random: orm.ArrayData | None, **size: Any
) -> Any:
    from aiida_nanoml.learning.plots import plot_rounds

    tables = {settings['strategy']: table} | ({} if random is None else {'random': random})
    curves = {name: (found.get_array('n_learnt'), found.get_array('mae')) for name, found in tables.items()}
    title = f'{settings["n_held_out"]} held-out structures'
    return plot_rounds(curves, title, str(source), settings.get('target_mae'), **size)


def _distinct(pool: StructureSetData) -> tuple[Any, NDArray[np.str_], NDArray[np.int64]]:
    """Return the structures, and the hashes and rows of the distinct ones, in their order."""
    everything = pool.structures
    rows = np.sort(np.unique(everything.hashes, return_index=True)[1])
    return everything, everything.hashes[rows], rows


def _rows_named(names: NDArray[np.str_], rows: NDArray[np.int64], wanted: list[str]) -> NDArray[np.int64]:
    row_of = dict(zip(names.tolist(), rows.tolist(), strict=True))
    unknown = [name for name in wanted if name not in row_of]
    if unknown or not wanted:
        raise DatasetError(
            f'there is no structure {unknown[0]!r} in the set' if unknown else 'name at least one structure to choose'
        )
    return np.array([row_of[name] for name in wanted], dtype=np.int64)
