"""Grouping and layout on plain numbers."""

from __future__ import annotations

import itertools
import random

import pytest

from aiida_nanoml.provenance.grouping import crossings, depths, group_nodes, lay_out, with_products

RUNS = 30
MOST = 36


def campaign(n):
    """N runs of n structures and one pseudopotential, joined: source, structures, runs, labels, join, result."""
    roles = {0: 'source', 1: 'pseudopotential', 2: 'join', 3: 'result'}
    links = [(2, 3)]
    for run in range(n):
        structure, job, label = range(4 + 3 * run, 7 + 3 * run)
        roles |= {structure: 'structure', job: 'run', label: 'label'}
        links += [(0, structure), (structure, job), (1, job), (job, label), (label, 2)]
    return roles, links


def rounds(n):
    """Labels that are chosen by the model of the round before."""
    roles, links, last = {0: 'pool'}, [], 0
    for number in range(n):
        job, label, training, model = range(1 + 4 * number, 5 + 4 * number)
        roles |= {job: 'run', label: 'label', training: 'training', model: 'model'}
        links += [(0, job), (job, label), (label, training), (training, model)]
        links += [(last, job)] if number else []
        last = model
    return roles, links


def assert_sound(roles, links, grouping):
    """Every node is in one group, the counts add up, and without the repeats there is no cycle."""
    assert sorted(itertools.chain(*grouping.members)) == sorted(roles)
    assert len(grouping.members) == len(grouping.steps)
    assert sum(grouping.edges.values()) + sum(grouping.repeats.values()) == len(links)
    for members in grouping.members:
        assert len({roles[node] for node in members}) == 1
    depths(dict.fromkeys(range(len(grouping.members))), list(grouping.edges))


def test_a_campaign_has_a_box_for_each_role():
    roles, links = campaign(RUNS)
    grouping = group_nodes(roles, links, MOST)
    assert_sound(roles, links, grouping)
    assert len(grouping.members) == len(set(roles.values()))
    assert grouping.repeats == {}
    group = {roles[members[0]]: number for number, members in enumerate(grouping.members)}
    assert grouping.edges[group['pseudopotential'], group['run']] == RUNS
    assert grouping.edges[group['join'], group['result']] == 1


def test_few_rounds_are_kept_apart():
    roles, links = rounds(3)
    grouping = group_nodes(roles, links, MOST)
    assert_sound(roles, links, grouping)
    assert len(grouping.members) == 1 + 3 * 4
    assert grouping.repeats == {}
    assert set(grouping.steps) == {1}


def test_many_rounds_are_one_and_lead_back():
    roles, links = rounds(20)
    grouping = group_nodes(roles, links, MOST)
    assert_sound(roles, links, grouping)
    assert len(grouping.members) == 5
    group = {roles[members[0]]: number for number, members in enumerate(grouping.members)}
    assert grouping.repeats == {(group['model'], group['run']): 19}
    assert [grouping.steps[group[name]] for name in ('pool', 'run', 'model')] == [1, 20, 20]


def test_a_tree_of_joins_is_no_cycle():
    """Four labels are joined two by two: labels rest on labels."""
    roles = dict.fromkeys(range(4), 'label') | {4: 'join', 5: 'join', 6: 'label', 7: 'label', 8: 'join', 9: 'label'}
    links = [(0, 4), (1, 4), (2, 5), (3, 5), (4, 6), (5, 7), (6, 8), (7, 8), (8, 9)]
    for most in (MOST, 1):
        assert_sound(roles, links, group_nodes(roles, links, most))
    assert len(group_nodes(roles, links, MOST).members) == 5
    assert len(group_nodes(roles, links, 1).members) == 2


@pytest.mark.parametrize('seed', range(20))
def test_any_graph_is_grouped_soundly_and_laid_out_downwards(seed):
    draw = random.Random(seed)  # noqa: S311
    n = draw.randint(2, 60)
    roles = {node: draw.choice('abcdefgh') for node in range(n)}
    pairs = {tuple(sorted(draw.sample(range(n), 2))) for _ in range(2 * n)}
    grouping = group_nodes(roles, sorted(pairs), draw.choice((1, 12, 100)))
    assert_sound(roles, sorted(pairs), grouping)
    widths = [1.0] * len(grouping.members)
    layout = lay_out(widths, sorted(grouping.edges), most=3, gap=0.1)
    for (source, target), route in layout.routes.items():
        assert len(route) == layout.layers[target] - layout.layers[source] + 1 >= 2
    for layer in set(layout.layers):
        centres = sorted(x for x, own in zip(layout.centres, layout.layers, strict=True) if own == layer)
        assert len(centres) <= 3
        assert all(right - left >= 1.1 - 1e-9 for left, right in itertools.pairwise(centres))


def test_an_untangled_order_is_found():
    edges = [(0, 5), (1, 4), (2, 3), (0, 4)]
    layout = lay_out([1.0] * 6, edges, most=4, gap=0.1)
    rows = [sorted(range(3), key=layout.centres.__getitem__), sorted(range(3, 6), key=layout.centres.__getitem__)]
    below = {0: [5, 4], 1: [4], 2: [3]}
    assert crossings(rows, below) == 0
    assert crossings([[0, 1, 2], [3, 4, 5]], below) == 4


def test_a_chain_is_straight():
    layout = lay_out([1.0] * 4, [(0, 1), (1, 2), (2, 3)], most=4, gap=0.1)
    assert len(set(layout.centres)) == 1
    assert layout.layers == (0, 1, 2, 3)


def test_makers_stand_with_what_only_they_make():
    roles, links = campaign(2)
    grouping = group_nodes(roles, links, MOST)
    group = {roles[members[0]]: number for number, members in enumerate(grouping.members)}
    units = with_products(grouping, [group['run'], group['join']])
    assert (group['run'], group['label']) in units
    assert (group['join'], group['result']) in units
    assert sorted(itertools.chain(*units)) == list(range(len(grouping.members)))


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match='cycle'):
        group_nodes({0: 'a', 1: 'b'}, [(0, 1), (1, 0)], MOST)


def test_nothing_is_laid_out():
    assert lay_out([], [], most=4, gap=0.1).layers == ()
    assert group_nodes({0: 'a'}, [], MOST).members == ((0,),)
