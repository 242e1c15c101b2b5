"""Figures of a publication: stored or drawn from the graph, each with the commands that make it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_nanoml.errors import NanomlError
from aiida_nanoml.provenance.differences import PICTURES
from aiida_nanoml.provenance.drawing import TRAINING, draw_parity
from aiida_nanoml.provenance.graph import ProvenanceGraph
from aiida_nanoml.provenance.origins import PREDICTION
from aiida_nanoml.worker.schemas import CALIBRATION_FILE, FIGURES_FOLDER, LEARNING_CURVE_FILE

_PLOTS = {CALIBRATION_FILE: ' --calibration', LEARNING_CURVE_FILE: ' --learning-curve'}


@dataclass(frozen=True)
class Figure:
    """A file of the folder.

    :param name: name of the file.
    :param title: what it shows, in words.
    :param commands: commands that make it again from the imported archive.
    """

    name: str
    title: str
    commands: tuple[str, ...]


def write_figures(folder: Path, graph: ProvenanceGraph) -> tuple[Figure, ...]:
    """Copy the figures of all runs, and draw those of predictions whose values are known.

    :param folder: an existing folder.
    """
    return (*_copy_stored(folder, graph), *_draw_predictions(folder, graph))


def _copy_stored(folder: Path, graph: ProvenanceGraph) -> Iterator[Figure]:
    query = orm.QueryBuilder()
    query.append(orm.ProcessNode, project='id', tag='process')
    query.append(
        orm.FolderData,
        with_incoming='process',
        edge_filters={'label': FIGURES_FOLDER, 'type': LinkType.CREATE.value},
        project=['id', 'ctime'],
    )
    for process, pk, _ in sorted(query.all(), key=lambda row: row[2]):  # a profile has few of them
        if process not in graph.nodes:
            continue
        node: Any = orm.load_node(pk)
        for image in sorted(node.base.repository.list_object_names()):
            if not image.endswith(PICTURES):
                continue
            name = f'{Path(image).stem}-{node.uuid[:8]}{Path(image).suffix}'
            with node.base.repository.open(image, 'rb') as stream:
                (folder / name).write_bytes(stream.read())
            title = f'{Path(image).stem.replace("_", " ")} of {graph.type_name(process)} {graph.nodes[process].uuid}'
            commands = [f'verdi node repo cat {node.uuid} {image} > {name}']
            if graph.type_name(process) == TRAINING:
                commands.append(f'aiida-nanoml plot {graph.nodes[process].uuid}{_PLOTS.get(image, "")} -o {name}')
            yield Figure(name, title, tuple(commands))


def _draw_predictions(folder: Path, graph: ProvenanceGraph) -> Iterator[Figure]:
    for pk, record in graph.nodes.items():
        maker = graph.creator.get(pk)
        if record.type != PREDICTION or maker is None or 'dataset' not in graph.inputs[maker]:
            continue
        name = f'parity-{record.uuid[:8]}.png'
        try:
            draw_parity(orm.load_node(pk), folder / name)
        except NanomlError:  # another target, or a failed run: there is nothing to draw
            continue
        title = f'predicted against computed values of {record.type} {record.uuid}'
        yield Figure(name, title, (f'aiida-nanoml plot {record.uuid} -o {name}',))
