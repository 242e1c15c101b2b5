"""Names of outputs: chosen when a process starts, given when it ends, and taken from what had them before."""

from __future__ import annotations

from aiida import orm
from aiida.common.links import LinkType

from aiida_nanoml.calculations.output_names import _label_outputs, choose_names


def test_outputs_get_the_names_that_were_chosen(aiida_profile_clean) -> None:
    before, other_kind = orm.Int(1).store(), orm.Str('text').store()
    before.label = other_kind.label = 'numbers'
    process = orm.WorkChainNode().store()
    made = {name: orm.Int(number).store() for number, name in enumerate(('number', 'parts__second', 'unnamed'))}
    made['unnamed'].label = 'from the cache'
    for name, node in made.items():
        node.base.links.add_incoming(process, LinkType.RETURN, name)
    choose_names(process, {'number': 'numbers', 'parts.second': 'second', 'absent': 'nothing'})
    _label_outputs(process)
    labels = {name: orm.load_node(node.pk).label for name, node in made.items()}
    assert labels == {'number': 'numbers', 'parts__second': 'second', 'unnamed': 'from the cache'}
    assert orm.load_node(before.pk).label == '', 'a name belongs to the newest result of its kind'
    assert orm.load_node(other_kind.pk).label == 'numbers'


def test_a_process_without_names_changes_no_label(aiida_profile_clean) -> None:
    process, made = orm.WorkChainNode().store(), orm.Int(1).store()
    made.label = 'kept'
    made.base.links.add_incoming(process, LinkType.RETURN, 'number')
    _label_outputs(process)
    assert orm.load_node(made.pk).label == 'kept'
