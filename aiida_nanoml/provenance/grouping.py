"""Grouping of the nodes of a graph, and layout of the groups in layers."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Edge = tuple[int, int]

_SWEEPS = 12
_MOVES = 25
_LANE_WEIGHT = 8.0
"""Weight of straight long edges, relative to that of boxes close to their neighbours."""


@dataclass(frozen=True)
class Grouping:
    """Nodes of a graph in groups; without the repeats, the groups have no cycle.

    :param members: nodes of each group, in the order in which they were given.
    :param edges: number of links from group to group.
    :param repeats: number of links that lead back to an earlier group: those from one round to the next.
    :param steps: number of rounds in each group; 1 outside of rounds.
    """

    members: tuple[tuple[int, ...], ...]
    edges: dict[Edge, int]
    repeats: dict[Edge, int]
    steps: tuple[int, ...]


def group_nodes(roles: Mapping[int, Hashable], links: Sequence[Edge], most: int) -> Grouping:
    """Group the nodes that have the same role.

    If a role depends on itself, as labels of one round on those of the round before, its nodes are grouped by depth,
    the number of links on the longest path to them, unless this makes too many groups. Else they are one group, and
    the links from round to round are its repeats.

    :param roles: role of each node.
    :param links: (source, target) of a graph without cycles.
    :param most: number of groups above which rounds are merged.
    :raises ValueError: the links have a cycle.
    """
    depth = depths(roles, links)
    keys: dict[int, Hashable] = dict(roles)
    rounds = [{(role, depth[node]) for node, role in roles.items() if role in cycle} for cycle in _cycles(roles, links)]
    for several in sorted(rounds, key=len):
        unrolled = {role for role, _ in several}
        if len(set(keys.values())) - len(unrolled) + len(several) <= most:
            keys |= {node: (role, depth[node]) for node, role in roles.items() if role in unrolled}
    first: dict[Hashable, int] = {}
    levels: dict[Hashable, set[int]] = defaultdict(set)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for node, key in keys.items():
        first[key] = min(first.get(key, depth[node]), depth[node])
        levels[key].add(depth[node])
        members[key].append(node)
    numbers = {key: number for number, key in enumerate(members)}
    cycle_of = {key: number for number, cycle in enumerate(_cycles(keys, links)) for key in cycle}
    edges: Counter[Edge] = Counter()
    repeats: Counter[Edge] = Counter()
    for source, target in links:
        one, other = keys[source], keys[target]
        back = one in cycle_of and cycle_of.get(other) == cycle_of[one] and first[one] >= first[other]
        (repeats if back else edges)[numbers[one], numbers[other]] += 1
    return Grouping(
        members=tuple(tuple(nodes) for nodes in members.values()),
        edges=dict(edges),
        repeats=dict(repeats),
        steps=tuple(len(levels[key]) if key in cycle_of else 1 for key in members),
    )


def with_products(grouping: Grouping, makers: Collection[int]) -> list[tuple[int, ...]]:
    """Join each group that makes one thing with its product, if nothing else makes it.

    :param grouping: the groups.
    :param makers: numbers of the groups that make something.
    :returns: pairs (maker, product) and single groups, in the order of their first member.
    """
    after: dict[int, list[int]] = defaultdict(list)
    before: dict[int, list[int]] = defaultdict(list)
    for source, target in (*grouping.edges, *grouping.repeats):
        after[source].append(target)
        before[target].append(source)
    pairs = {
        maker: after[maker][0]
        for maker in makers
        if len(after[maker]) == 1 and before[after[maker][0]] == [maker] and (maker, after[maker][0]) in grouping.edges
    }
    products = set(pairs.values())
    return [
        (group, pairs[group]) if group in pairs else (group,)
        for group in range(len(grouping.members))
        if group not in products
    ]


def depths(nodes: Mapping[int, object], links: Sequence[Edge]) -> dict[int, int]:
    """Return the number of links on the longest path to each node.

    :raises ValueError: the links have a cycle.
    """
    after: dict[int, list[int]] = defaultdict(list)
    missing = Counter(target for _, target in links)
    for source, target in links:
        after[source].append(target)
    depth = dict.fromkeys(nodes, 0)
    ready = [node for node in nodes if not missing[node]]
    for node in ready:  # grows
        for target in after[node]:
            depth[target] = max(depth[target], depth[node] + 1)
            missing[target] -= 1
            if not missing[target]:
                ready.append(target)
    if len(ready) < len(depth):
        raise ValueError('the graph has a cycle')
    return depth


def _cycles(keys: Mapping[int, Hashable], links: Sequence[Edge]) -> list[set[Hashable]]:
    """Return sets of keys that depend on each other, or on themselves."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()))}
    pairs = {(numbers[keys[source]], numbers[keys[target]]) for source, target in links}
    if not pairs:
        return []
    rows, columns = np.array(sorted(pairs)).T
    matrix = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(numbers), len(numbers)))
    _, component = connected_components(matrix, connection='strong')
    found: dict[int, set[Hashable]] = defaultdict(set)
    for key, number in numbers.items():
        found[int(component[number])].add(key)
    themselves = {one for one, other in pairs if one == other}
    return [cycle for cycle in found.values() if len(cycle) > 1 or {numbers[key] for key in cycle} & themselves]


@dataclass(frozen=True)
class Layout:
    """Positions of boxes and edges.

    :param layers: layer of each box, from the top.
    :param centres: horizontal position of the centre of each box.
    :param routes: horizontal positions of each edge in the layers from its source to its target.
    """

    layers: tuple[int, ...]
    centres: tuple[float, ...]
    routes: dict[Edge, tuple[float, ...]]


def lay_out(widths: Sequence[float], edges: Sequence[Edge], most: int, gap: float) -> Layout:
    """Arrange boxes in layers, so that every edge leads downwards and few of them cross.

    Layers follow the longest path to the end, with a maximal number of boxes in each (Coffman and Graham); boxes are
    ordered by the medians of their neighbours, and placed as close to these as there is room (Sugiyama's method).

    :param widths: widths of the boxes.
    :param edges: (source, target), without cycles.
    :param most: largest number of boxes in a layer.
    :param gap: distance between boxes.
    :raises ValueError: the edges have a cycle.
    """
    layers = _layers(len(widths), edges, most)
    # A long edge gets a place in every layer that it crosses.
    places = list(widths)
    place_layers = list(layers)
    chains: dict[Edge, list[int]] = {}
    for source, target in edges:
        lanes = list(range(len(places), len(places) + layers[target] - layers[source] - 1))
        places += [0.0] * len(lanes)
        place_layers += range(layers[source] + 1, layers[target])
        chains[source, target] = [source, *lanes, target]
    above: dict[int, list[int]] = defaultdict(list)
    below: dict[int, list[int]] = defaultdict(list)
    for chain in chains.values():
        for one, other in itertools.pairwise(chain):
            above[other].append(one)
            below[one].append(other)
    rows: list[list[int]] = [[] for _ in range(max(layers, default=-1) + 1)]
    for place, layer in enumerate(place_layers):
        rows[layer].append(place)
    rows = _order_rows(rows, above, below)
    centres = _place_centres(rows, np.array(places), above, below, gap)
    return Layout(
        layers=tuple(layers),
        centres=tuple(centres[: len(widths)].tolist()),
        routes={edge: tuple(centres[chain].tolist()) for edge, chain in chains.items()},
    )


def _layers(n: int, edges: Sequence[Edge], most: int) -> list[int]:
    depth = depths(dict.fromkeys(range(n)), [(target, source) for source, target in edges])
    after: dict[int, list[int]] = defaultdict(list)
    for source, target in edges:
        after[source].append(target)
    used: Counter[int] = Counter()
    height = [0] * n
    for node in sorted(range(n), key=depth.__getitem__):
        level = max((height[target] + 1 for target in after[node]), default=0)
        while used[level] >= most:
            level += 1
        used[level] += 1
        height[node] = level
    top = max(height, default=0)
    return [top - level for level in height]


def _order_rows(
    rows: list[list[int]], above: Mapping[int, list[int]], below: Mapping[int, list[int]]
) -> list[list[int]]:
    """Return the places of each layer ordered by the medians of their neighbours; of all sweeps, the best order."""
    best, fewest = rows, crossings(rows, below)
    for sweep in range(_SWEEPS):
        rows = [list(row) for row in rows]
        neighbours, order = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        position: dict[int, int] = {}
        for row in order:
            here = {place: index for index, place in enumerate(row)}

            def median(place: int, here: dict[int, int] = here, position: dict[int, int] = position) -> float:
                known = [position[other] for other in neighbours.get(place, ()) if other in position]  # noqa: B023
                return float(np.median(known)) if known else float(here[place])

            row.sort(key=median)
            position |= {place: index for index, place in enumerate(row)}
        found = crossings(rows, below)
        if found < fewest:
            best, fewest = rows, found
    return best


def crossings(rows: Sequence[Sequence[int]], below: Mapping[int, Sequence[int]]) -> int:
    """Count the crossings of edges between neighbouring layers."""
    number = 0
    for row, following in itertools.pairwise(rows):
        index = {place: position for position, place in enumerate(following)}
        ends = [end for place in row for end in sorted(index[other] for other in below.get(place, ()))]
        number += sum(end < before for position, end in enumerate(ends) for before in ends[:position])
    return number


def _place_centres(
    rows: Sequence[Sequence[int]],
    widths: NDArray[np.float64],
    above: Mapping[int, Sequence[int]],
    below: Mapping[int, Sequence[int]],
    gap: float,
) -> NDArray[np.float64]:
    """Return positions near the middle of the neighbours, in the given order and without overlap."""
    centres = np.zeros(len(widths))
    weights = np.where(widths > 0, 1.0, _LANE_WEIGHT)
    for row in rows:
        centres[row] = _separate(np.zeros(len(row)), widths[row], weights[row], gap)
    for sweep in range(_MOVES):
        # Downwards in one sweep, upwards in the next: chains become straight.
        down = sweep % 2 == 0
        neighbours = above if down else below
        for row in rows if down else rows[::-1]:
            near = [neighbours.get(place) or [place] for place in row]
            wanted = np.array([centres[places].mean() for places in near])
            centres[row] = _separate(wanted, widths[row], weights[row], gap)
    return centres


def _separate(
    wanted: NDArray[np.float64], widths: NDArray[np.float64], weights: NDArray[np.float64], gap: float
) -> NDArray[np.float64]:
    """Return the positions closest to the wanted ones (least squares) that keep order and distances."""
    if not len(wanted):
        return wanted
    offsets = np.concatenate([[0.0], np.cumsum((widths[:-1] + widths[1:]) / 2 + gap)])
    blocks: list[list[float]] = []  # mean, weight, size: pool adjacent violators
    for value, weight in zip(wanted - offsets, weights, strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, much, size = blocks.pop()
            total = blocks[-1][1] + much
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * much) / total, total, blocks[-1][2] + size]
    return np.concatenate([np.full(int(size), mean) for mean, _, size in blocks]) + offsets
