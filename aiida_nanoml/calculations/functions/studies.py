"""Studies: select the structures of one family, and tabulate the results of all seeds."""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm

from aiida_nanoml.calculations.functions.base import calculation_function, csv_text
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import DatasetError, StructureError
from aiida_nanoml.learning.dataset import GAP
from aiida_nanoml.learning.plot_style import save_figure
from aiida_nanoml.learning.studies.base import Study, Table, rows_of, tabulate


@calculation_function
def family_structures(structures: StructureSetData, family: orm.Str) -> StructureSetData:
    """Return the structures of one family in a set.

    :raises StructureError: there are none.
    """
    found = structures.structures
    members = np.flatnonzero(found.families == family.value)
    if not len(members):
        raise StructureError(f'there are no structures of the family {family.value!r}')
    return StructureSetData(found.select(members))


@calculation_function
def tabulate_study(study: orm.Dict, **rows: orm.ArrayData) -> dict[str, orm.Data]:
    """Join the rows of all jobs of a study into one table, and draw its figure.

    :param study: ``study``, ``settings``, ``kind`` and ``hyperparameters``.
    :param rows: results of the jobs.
    :returns: ``table``, all rows, and ``summary``, means and deviations over the seeds, with an array for each column
        and ``target``, ``unit`` and the origin of the ``labels`` in the attributes; ``files``: the figure, and both and
        some further tables as CSV.
    :raises DatasetError: there are no rows, or they learnt labels from different engines or protocols.
    """
    if not rows:
        raise DatasetError('there are no rows to tabulate')
    wanted = study.get_dict()
    nodes = [rows[key] for key in sorted(rows)]
    wanted |= {'target': nodes[0].base.attributes.get('target', GAP)}
    made = study_of(wanted)
    source = functools.reduce(
        LabelSource.joined, (LabelSource.from_dict(node.base.attributes.get('labels')) for node in nodes)
    )
    table = tabulate(row for node in nodes for row in rows_of(node.arrays))
    summary = made.summary(table)
    attributes = wanted | {'labels': source.to_dict(), 'baseline': nodes[0].base.attributes.get('baseline', None)}
    attributes['unit'] = made.target.unit
    return {
        'table': _array_node(table, attributes),
        'summary': _array_node(summary, attributes),
        'files': _files(made, table, summary, str(source)),
    }


def study_of(wanted: dict[str, Any]) -> Study:
    """Return the study of the attributes that its tables keep."""
    from aiida_nanoml.learning.studies import make_study

    return make_study(
        wanted['study'], wanted['settings'], wanted['kind'], wanted['hyperparameters'], wanted.get('target', GAP)
    )


def _array_node(table: Table, attributes: dict[str, Any]) -> orm.ArrayData:
    node = orm.ArrayData()
    for name, column in table.items():
        node.set_array(name, column)
    node.base.attributes.set_many(attributes)
    return node


def _files(study: Study, table: Table, summary: Table, source: str) -> orm.FolderData:
    tables: dict[str, list[Sequence[Any]]] = {'rows': _cells(table), 'summary': _cells(summary)}
    tables |= {name: list(cells) for name, cells in study.tables(table).items()}
    node = orm.FolderData()
    for name, cells in tables.items():
        text = csv_text((*line, 'labels' if number == 0 else source) for number, line in enumerate(cells))
        node.base.repository.put_object_from_filelike(io.BytesIO(text.encode()), f'{study.name}_{name}.csv')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f'{study.name}.png'
        save_figure(study.figure(table, source), path)
        node.base.repository.put_object_from_file(str(path), path.name)
    return node


def _cells(table: Table) -> list[Sequence[Any]]:
    rows = rows_of(table)
    return [list(table), *([f'{value:.10g}' if isinstance(value, float) else value for value in row.values()]
                           for row in rows)]  # fmt: skip
