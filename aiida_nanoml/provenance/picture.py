"""Picture of the lineage of a node: a box for each group of nodes that have the same role."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiida import orm

from aiida_nanoml.learning.plot_style import BLUE, drawing, save_figure, wrap_text
from aiida_nanoml.provenance.graph import ProvenanceGraph
from aiida_nanoml.provenance.grouping import Edge, Grouping, Layout, group_nodes, lay_out, with_products
from aiida_nanoml.provenance.lineage import Lineage, lineage_of, starts
from aiida_nanoml.provenance.origins import (
    DATASET,
    DENSITIES,
    GENERATORS,
    LABELS,
    MODEL,
    POTENTIALS,
    PREDICTION,
    STRUCTURES,
    TRAIN_JOB,
    LabelJob,
    LabelOrigin,
    LineageGraph,
)
from aiida_nanoml.text import capitalised

MOST_BOXES = 24
"""Number of boxes that fit on a page; above it, the rounds of active learning are drawn as one."""

_IN_LAYER = 4
_WIDTH, _LINE, _PAD, _GAP, _BETWEEN = 1.62, 0.115, 0.07, 0.12, 0.3
"""Inches: width of a box, height of a line, margin in a box, distance of boxes and of layers."""
_COUNTS = ('structures', 'rows', 'potentials', 'densities')
"""Facts that are summed over the nodes of a box."""
_CACHED = 'from the cache'
_MOST_VALUES = 5
_PAGE = 7.0
"""Smallest width of a picture in inches: the text width of a page of A4, with margins."""
_FONT = 6.5
_ROOM = 72 * (_WIDTH - _PAD) * 0.98
"""Points of a line in a box; the first one is bold, and wider than it is measured."""

_NOT_DRAWN = ('core.dict', 'core.str', 'core.int', 'core.float', 'core.bool', 'core.list', 'core.remote')
"""Types of inputs that are not drawn if no process made them; codes are not drawn either."""

_NAMES = {
    'SiestaCalculation': 'SIESTA run',
    'ProgramCalculation': 'run of a program',
    'LabelCalculation': 'labelling job',
    'TrainCalculation': 'training',
    'PredictCalculation': 'prediction job',
    'DensityTrainCalculation': 'training of densities',
    'DensityPredictCalculation': 'prediction of densities',
    'RmatrixCalculation': 'R-matrix job',
    LABELS: 'labels',
    DATASET: 'data set',
    MODEL: 'model',
    PREDICTION: 'prediction',
    STRUCTURES: 'set of structures',
    'core.structure': 'structure',
}


@dataclass(frozen=True)
class Role:
    """Role of a node in a picture: nodes with the same title and the same lines are in one box.

    :param varying: values that may differ within a box, by name; each is shown once, numbers are summed.
    """

    title: str
    is_process: bool
    lines: tuple[str, ...] = ()
    marked: bool = False
    maker: Hashable = None
    varying: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)


@dataclass(frozen=True)
class Box:
    """A group of nodes in a picture.

    :param lines: lines of text, the first one with the number of nodes.
    :param marked: whether it contains the node whose lineage is drawn.
    """

    lines: tuple[str, ...]
    is_process: bool
    marked: bool

    @property
    def height(self) -> float:
        """Return the height in inches."""
        return len(self.lines) * _LINE + 2 * _PAD


def draw_lineage(node: orm.Node, path: Path | str) -> int:
    """Draw the lineage of a node, in layers from the sources down to the node.

    Constant inputs (numbers, texts, parameters) and codes are named in the box of the process that used them. Numbers
    on arrows count links; a dashed arrow leads to the next round. Equal graphs give equal files.

    :param node: as of :func:`~aiida_nanoml.provenance.lineage.trace`.
    :param path: file to write; its ending chooses the format (png, pdf, svg).
    :returns: number of boxes.
    :raises ProvenanceError: the node is not stored.
    :raises DatasetError: there is no such format.
    """
    graph = LineageGraph.ancestors(starts(node))
    ancestors = list(graph.nodes)
    lineage = lineage_of(graph, node)
    drawn = [pk for pk in ancestors if _is_drawn(graph, pk)]
    if isinstance(node, orm.WorkflowNode) and len(drawn) > 1:
        drawn.remove(node.pk)  # it made nothing itself: what it returned is marked
    roles = _roles(graph, drawn, lineage)
    links = [
        (source, process)
        for process in drawn
        if graph.nodes[process].is_process
        for source in graph.inputs.get(process, {}).values()
        if source in roles
    ]
    links += [(maker, pk) for pk, maker in graph.creator.items() if pk in roles]
    grouping = group_nodes(roles, links, MOST_BOXES)
    boxes = [
        _box([roles[pk] for pk in members], steps)
        for members, steps in zip(grouping.members, grouping.steps, strict=True)
    ]
    name = f'{_title(graph, node.pk)} {node.label or node.uuid[:8]}'
    caption = [
        f'What the {name} rests on: {len(ancestors):,} nodes.',
        f'{capitalised(lineage.statement)}.',
        f'{capitalised(lineage.dft)}.',
    ]
    rounds = ', dashed to the next round' * bool(grouping.repeats)
    caption.append(f'Rounded: data; square: processes; numbers on arrows: links{rounds}.')
    _draw(boxes, grouping, ' '.join(caption), path)
    return len(boxes)


def _is_drawn(graph: ProvenanceGraph, pk: int) -> bool:
    kind = graph.type_name(pk)
    constant = kind in _NOT_DRAWN or kind.startswith('core.code')
    return not constant or pk in graph.creator or pk in graph.starts


def _roles(graph: LineageGraph, pks: Sequence[int], lineage: Lineage) -> dict[int, Role]:
    """Return the role of each node; data have different roles if their makers have."""
    seeds: dict[int, list[int]] = defaultdict(list)
    for seed in lineage.seeds:
        seeds[seed.pk].append(seed.value)
    labelling = {job.pk: (origin, job) for origin in lineage.labelling for job in origin.jobs}
    processes = [pk for pk in pks if graph.nodes[pk].is_process]
    roles = {}
    for pk in processes:
        lines, varying = _process_texts(graph, pk, *labelling.get(pk, (None, None)))
        if pk in seeds:
            varying['seed'] = _join_values(seeds[pk])
        roles[pk] = Role(_title(graph, pk), True, tuple(lines), pk in graph.starts, None, varying)
    for pk in pks:
        if not graph.nodes[pk].is_process:
            maker = roles.get(graph.creator.get(pk, 0))
            roles[pk] = Role(_title(graph, pk), False, (), pk in graph.starts, maker, _data_facts(graph, pk))
    return roles


def _title(graph: ProvenanceGraph, pk: int) -> str:
    kind = graph.type_name(pk)
    if kind.startswith('pseudo.'):
        return 'pseudopotential'
    return _NAMES.get(kind, kind.removeprefix('core.').removeprefix('nanoml.').replace('_', ' '))


def _process_texts(
    graph: LineageGraph, pk: int, origin: LabelOrigin | None, job: LabelJob | None
) -> tuple[list[str], dict[str, Any]]:
    """Return lines that processes in one box have in common, and values that may differ."""
    record, inputs = graph.nodes[pk], graph.inputs.get(pk, {})
    lines: list[str] = []
    varying: dict[str, Any] = {}
    if origin is not None and job is not None:
        lines += [f'{origin.title} {origin.version}', f'protocol {origin.protocol}']
        lines += ['as a baseline'] if origin.role == 'baseline' else []
        lines.append(f'imported from {job.computer}' if job.imported else f'with {job.program or job.code}')
        varying['days'] = record.ctime[:10]
    elif 'code' in inputs:
        lines.append(f'with {graph.full_label(inputs["code"])}')
    if record.process_type == TRAIN_JOB:
        varying['kind'] = graph.short_value(inputs['kind'])
    if record.type in GENERATORS:
        parameters = graph.attributes(inputs['parameters'])
        varying |= {name: _join_values(parameters[name]) for name in ('family', 'size') if name in parameters}
    varying[_CACHED] = bool(record.cached_from)
    lines += [f'exit status {record.exit_status}'] if record.exit_status else []
    return lines, varying


def _join_values(value: Any) -> str:
    return ', '.join(map(str, value)) if isinstance(value, list) else str(value)


def _data_facts(graph: ProvenanceGraph, pk: int) -> dict[str, Any]:
    """Return the most important attributes of data; types that occur by the thousand have none."""
    kind = graph.type_name(pk)
    if kind.startswith('pseudo.'):
        attributes = graph.attributes(pk)
        return {'MD5': f'{attributes["element"]}\N{NO-BREAK SPACE}{attributes["md5"][:8]}'}
    if kind == LABELS and pk not in graph.creator:
        stated = graph.attributes(pk)
        return {'said to be': f'{stated["engine_title"]} {stated["engine_version"]}, protocol {stated["protocol"]}'}
    if kind == 'core.singlefile':
        return {'file': graph.attributes(pk)['filename']}
    facts = {short: graph.attributes(pk).get(name) for short, name in _FACTS.get(kind, {}).items()}
    return {short: value for short, value in facts.items() if value is not None}


_FACTS = {
    STRUCTURES: {'structures': 'n_structures'},
    DATASET: {'rows': 'n_rows', 'target': 'target'},
    MODEL: {'kind': 'kind', 'target': 'target'},
    PREDICTION: {'rows': 'n_rows'},
    POTENTIALS: {'potentials': 'n_potentials'},
    DENSITIES: {'densities': 'n_densities', 'kind': 'kind'},
}
"""Attributes in the box of data, by their name there."""


def _box(roles: Sequence[Role], steps: int) -> Box:
    """Return the box of nodes of one role: what they have in common, and their sums."""
    role = roles[0]
    lines = [role.title if len(roles) == 1 else f'{len(roles):,} × {role.title}', *role.lines]
    found: dict[str, list[Any]] = defaultdict(list)
    for one in roles:
        for name, value in one.varying.items():
            found[name].append(value)
    for name, values in found.items():
        distinct = sorted(set(values))
        if name == _CACHED:
            lines += [f'{sum(values):,} of them from the cache' if len(values) > 1 else _CACHED] if any(values) else []
        elif name in _COUNTS:
            total = '' if len(values) == 1 else ' in total'
            lines += [f'{sum(values):,} {name}{total}'] if sum(values) != 1 else []
        elif name == 'days':
            lines.append(' to '.join(dict.fromkeys((distinct[0], distinct[-1]))))
        elif len(distinct) <= _MOST_VALUES:
            lines.append(f'{name} {", ".join(map(str, distinct))}')
        else:
            lines.append(f'{name}: {len(distinct):,} different')
    if steps > 1 and role.is_process:
        lines.append(f'in {steps} rounds')
    wrapped = [part for line in lines for part in wrap_text(line, _ROOM, _FONT).split('\n')]
    return Box(tuple(wrapped), role.is_process, role.marked)


@dataclass(frozen=True)
class _Frame:
    """Vertical positions on the page, in inches, downwards.

    :param top: upper end of each layer.
    :param bottom: lower end of each layer.
    """

    layout: Layout
    heights: tuple[float, ...]
    top: tuple[float, ...]
    bottom: tuple[float, ...]

    @classmethod
    def of(cls, heights: Sequence[float], layout: Layout) -> _Frame:
        rows: dict[int, float] = defaultdict(float)
        for layer, height in zip(layout.layers, heights, strict=True):
            rows[layer] = max(rows[layer], height)
        ends = list(itertools.accumulate((rows[layer] + _BETWEEN for layer in sorted(rows)), initial=0.1))
        bottom = tuple(end - _BETWEEN for end in ends[1:])
        return cls(layout, tuple(heights), tuple(ends[:-1]), bottom)

    def middle(self, unit: int) -> float:
        """Return the vertical position of the middle of a box, or of two that touch."""
        layer = self.layout.layers[unit]
        return (self.top[layer] + self.bottom[layer]) / 2

    def ports(self, *, outgoing: bool) -> dict[Edge, float]:
        """Return where edges leave or reach their boxes: side by side, in the order of their routes."""
        edges: dict[int, list[Edge]] = defaultdict(list)
        for edge in self.layout.routes:
            edges[edge[0 if outgoing else 1]].append(edge)
        found = {}
        for unit, members in edges.items():
            members.sort(key=lambda edge: self.layout.routes[edge][1 if outgoing else -2])
            for number, edge in enumerate(members):
                share = (number + 1) / (len(members) + 1) - 0.5
                found[edge] = self.layout.centres[unit] + _WIDTH * share
        return found

    def lines(self) -> dict[Edge, list[tuple[float, float]]]:
        """Return the corners of each edge: straight past boxes, curved between layers."""
        leave, reach = self.ports(outgoing=True), self.ports(outgoing=False)
        found = {}
        for edge, route in self.layout.routes.items():
            source, target = edge
            layer = self.layout.layers[source]
            corners = [(leave[edge], self.middle(source) + self.heights[source] / 2), (leave[edge], self.bottom[layer])]
            for step, x in enumerate(route[1:-1], 1):
                corners += [(x, self.top[layer + step]), (x, self.bottom[layer + step])]
            last = self.layout.layers[target]
            corners += [(reach[edge], self.top[last]), (reach[edge], self.middle(target) - self.heights[target] / 2)]
            found[edge] = corners
        return found


def _draw(boxes: Sequence[Box], grouping: Grouping, caption: str, path: Path | str) -> None:
    units = with_products(grouping, [number for number, box in enumerate(boxes) if box.is_process])
    unit_of = {group: number for number, unit in enumerate(units) for group in unit}
    edges = {(unit_of[source], unit_of[target]): n_links for (source, target), n_links in grouping.edges.items()}
    edges = {edge: n_links for edge, n_links in edges.items() if edge[0] != edge[1]}
    layout = lay_out([_WIDTH] * len(units), sorted(edges), _IN_LAYER, _GAP)
    frame = _Frame.of([sum(boxes[group].height for group in unit) for unit in units], layout)
    everywhere = [*layout.centres, *(x for route in layout.routes.values() for x in route)]
    left, right = min(everywhere) - _WIDTH / 2 - 0.2, max(everywhere) + _WIDTH / 2 + 0.2
    width, middle = max(_PAGE, right - left), (left + right) / 2
    text = wrap_text(caption, 72 * (width - 0.4), _FONT + 0.5).split('\n')
    bottom = frame.bottom[-1] + 0.2 + (len(text) + 1) * 1.3 * _LINE
    with drawing(None, width, bottom) as canvas:
        axes = canvas.panels[0]
        canvas.figure.set_layout_engine('none')
        axes.set_position((0, 0, 1, 1))
        axes.set(xlim=(middle - width / 2, middle + width / 2), ylim=(bottom, 0))
        axes.set_axis_off()
        for edge, corners in frame.lines().items():
            _draw_edge(axes, corners, edges[edge])
        for (source, target), n_links in grouping.repeats.items():
            ends = [
                (layout.centres[unit_of[group]] + _WIDTH / 2, frame.middle(unit_of[group]))
                for group in (source, target)
            ]
            _draw_repeat(axes, ends, n_links)
        for number, unit in enumerate(units):
            y = frame.middle(number) - frame.heights[number] / 2
            for group in unit:
                _draw_box(axes, boxes[group], layout.centres[number], y)
                y += boxes[group].height
        axes.text(middle - width / 2 + 0.2, bottom - 0.1, '\n'.join(text), fontsize=_FONT + 0.5, va='bottom')
    save_figure(axes, path)


def _draw_box(axes: Any, box: Box, x: float, top: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    edge, fill, style = ('#B87400', '#FCE9C8', 'square,pad=0') if box.is_process else (BLUE, '#DCEAF6', 'round,pad=0')
    axes.add_patch(
        FancyBboxPatch(
            (x - _WIDTH / 2, top),
            _WIDTH,
            box.height,
            boxstyle=style + ('' if box.is_process else ',rounding_size=0.12'),
            linewidth=2.0 if box.marked else 0.8,
            edgecolor=edge,
            facecolor=fill,
            zorder=3,
        )
    )
    first = top + _PAD + _LINE / 2
    for number, line in enumerate(box.lines):
        axes.text(
            x,
            first + number * _LINE,
            line,
            fontsize=_FONT,
            fontweight='bold' if number == 0 else 'normal',
            ha='center',
            va='center_baseline',
            zorder=4,
        )


def _draw_edge(axes: Any, corners: Sequence[tuple[float, float]], n_links: int) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    points, codes = [corners[0]], [Curve.MOVETO]
    for number, ((x, y), (next_x, next_y)) in enumerate(itertools.pairwise(corners)):
        if number % 2 and x != next_x:
            points += [(x, (y + next_y) / 2), (next_x, (y + next_y) / 2), (next_x, next_y)]
            codes += [Curve.CURVE4] * 3
        elif y != next_y:  # without a length, the arrow would have no direction
            points.append((next_x, next_y))
            codes.append(Curve.LINETO)
    width = 0.6 + 0.5 * math.log10(n_links)
    axes.add_patch(
        FancyArrowPatch(
            path=Curve(points, codes), arrowstyle='-|>', mutation_scale=6 + width, linewidth=width, color='#808080'
        )
    )
    if n_links > 1:
        _draw_count(axes, corners[-1][0] + 0.05, corners[-1][1] - 0.09, n_links)


def _draw_repeat(axes: Any, ends: Sequence[tuple[float, float]], n_links: int) -> None:
    from matplotlib.patches import FancyArrowPatch

    axes.add_patch(
        FancyArrowPatch(
            *ends,
            connectionstyle='arc3,rad=0.4',
            arrowstyle='-|>',
            mutation_scale=7,
            linewidth=0.8,
            linestyle=(0, (4, 2)),
            color='#808080',
        )
    )
    _draw_count(axes, ends[0][0] + 0.08, ends[0][1], n_links)


def _draw_count(axes: Any, x: float, y: float, n_links: int) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground='white')]
    axes.text(x, y, f'{n_links:,}', fontsize=_FONT - 1.0, va='center', color='#404040', zorder=2, path_effects=halo)
