"""Names of nodes: refused where they would be read as something else, found again exactly, moved on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm

from aiida_nanoml.actions.base import JobAction, NamedAction, fill
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.generate import Generate
from aiida_nanoml.actions.names import NameClaim
from aiida_nanoml.actions.nodes import load_any_node, load_data
from aiida_nanoml.actions.registry import action_class, action_names
from aiida_nanoml.actions.session import Session
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.names import NAMED_BY
from aiida_nanoml.data.structures import StructureSetData

STRUCTURES = ('nanoml.structures',)
LABELS = ('nanoml.labels',)


class Notes(Session):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)


@pytest.fixture
def make_set(aiida_profile_clean, make_chains: Callable[..., Any]) -> Callable[..., StructureSetData]:
    return lambda length, **settings: StructureSetData(make_chains(length), **settings).store()


def generate(name: str, seed: int = 1, **fields: Any) -> Generate:
    parameters = {'family': 'h', 'size': 2, 'count': 1, 'seed': seed}
    return Generate(generator='flakes', parameters=parameters, name=name, **fields)


@pytest.mark.parametrize('name', ['4', '007', '-x', ' flakes', 'two\nlines', 'x' * 300])
def test_a_name_that_cannot_be_found_again_is_refused(name: str) -> None:
    with pytest.raises(InputError, match='name'):
        fill(action_class('generate_flakes'), {'family': 'h', 'size': (2,), 'count': 1, 'seed': 1, 'name': name})


@pytest.mark.parametrize('name', ['f23', 'd1', 'c60', 'f4', '1e5', 'deadbeef', 'my flakes', 'Graphen-Flöckchen'])
def test_a_name_is_found_exactly(make_set: Callable[..., StructureSetData], name: str) -> None:
    others = [make_set(length) for length in (2, 3, 4, 5)]
    named = make_set(6, label=name)
    assert load_data(name, STRUCTURES).pk == named.pk
    assert load_any_node(name).pk == named.pk
    assert load_data(str(others[0].pk), STRUCTURES).pk == others[0].pk


def test_the_beginning_of_a_uuid_is_no_name(make_set: Callable[..., StructureSetData]) -> None:
    node = make_set(2)
    for length in (8, 13, 36):
        assert load_data(node.uuid[:length], STRUCTURES).pk == node.pk
    assert load_data(node.uuid.replace('-', '')[:20], STRUCTURES).pk == node.pk
    for length in (2, 3, 7):
        with pytest.raises(InputError, match='there is no node'):
            load_data(
                node.uuid[:length] if not node.uuid[:length].isdecimal() else f'{node.uuid[:length]}f', STRUCTURES
            )
    node.label = node.uuid[:8]
    assert make_set(3, label=node.uuid[:9]).pk == load_data(node.uuid[:9], STRUCTURES).pk


def test_the_wrong_kind_is_named_and_the_right_ones_listed(
    make_set: Callable[..., StructureSetData], flake_labels: Any
) -> None:
    good = make_set(2, label='flakes')
    labels = LabelSetData(flake_labels, label='labels').store()
    expected = rf'labels is a set of labels \(pk {labels.pk}\), not a set of structures; newest sets of structures: '
    with pytest.raises(InputError, match=rf'{expected}flakes \(pk {good.pk}\)'):
        load_data('labels', STRUCTURES)
    assert load_data('labels', LABELS).pk == labels.pk


def test_a_name_of_two_kinds_is_found_by_what_is_wanted(
    make_set: Callable[..., StructureSetData], flake_labels: Any
) -> None:
    structures = make_set(2, label='benzene')
    labels = LabelSetData(flake_labels, label='benzene').store()
    assert load_data('benzene', STRUCTURES).pk == structures.pk
    assert load_data('benzene', LABELS).pk == labels.pk
    with pytest.raises(InputError, match=r"'benzene' belongs to 2 nodes: nanoml.labels pk .*, nanoml.structures pk "):
        load_any_node('benzene')


def test_a_copy_from_the_cache_does_not_have_the_name(aiida_profile_clean, make_chains: Callable[..., Any]) -> None:
    """AiiDA copies labels with nodes: of two equal ones, that counts which was named."""
    from aiida.manage.caching import enable_caching

    from aiida_nanoml.calculations.functions.structures import merge_structures

    sets = {f'structures_{number:03d}': StructureSetData(make_chains(number + 2)).store() for number in range(2)}
    first = merge_structures(**sets)
    first.label = 'merged'
    with enable_caching(identifier='aiida.calculations:nanoml.merge_structures'):
        copy = merge_structures(**sets)
    assert copy.label == 'merged'
    assert load_data('merged', STRUCTURES).pk == first.pk


def test_the_same_command_again_moves_the_name(aiida_profile_clean) -> None:
    generate('cells').run()
    first, session = load_data('cells', STRUCTURES), Notes()
    generate('cells').run(session)
    assert session.notes == [f'the name cells moves from pk {first.pk} to the result of the same command']
    assert load_data('cells', STRUCTURES).pk > first.pk
    assert orm.load_node(first.pk).label == ''


def test_another_command_needs_to_be_told(aiida_profile_clean) -> None:
    generate('cells').run()
    first = load_data('cells', STRUCTURES)
    with pytest.raises(InputError) as error:
        generate('cells', seed=2).run()
    assert f'the name cells belongs to a set of structures, pk {first.pk} of ' in str(error.value)
    assert '{replace_name}' in error.value.message
    assert orm.QueryBuilder().append(StructureSetData).count() == 1, 'it must be refused before anything is made'
    generate('cells', seed=2, replace_name=True).run()
    assert load_data('cells', STRUCTURES).pk > first.pk


def test_a_submitted_process_gets_the_name_at_once(make_set: Callable[..., StructureSetData]) -> None:
    older, process = make_set(2, label='cells'), orm.WorkflowNode(label='cells').store()
    claim = NameClaim({'cells': 'nanoml.structures'}, {'action': 'any'})
    quick = make_set(3, label='cells')
    claim.promise(process)
    assert orm.load_node(older.pk).label == ''
    assert orm.load_node(quick.pk).label == 'cells', 'the process may have ended already'
    assert process.base.extras.get(NAMED_BY) == {'action': 'any'}


@pytest.mark.parametrize('name', action_names())
def test_every_action_says_what_it_names(name: str) -> None:
    action = action_class(name)
    if issubclass(action, NamedAction) and action is not JobAction and action.action != 'density_warmstart':
        assert action.makes, f'{name} does not say which nodes get its name'
