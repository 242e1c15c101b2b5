"""Labels of the outputs of a process: chosen when it is started, set when it ends, whoever runs it."""

from __future__ import annotations

from collections.abc import Mapping

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import Process

from aiida_nanoml.data.names import NAMED_BY, give_name

NAMES = 'nanoml_names'
"""Extra of a process: label of each output, by the label of its link."""


def choose_names(node: orm.ProcessNode, names: Mapping[str, str]) -> None:
    """Store the labels that the outputs of a process will get when it ends.

    :param names: label by the name of the output, with dots between the parts of a namespace.
    """
    node.base.extras.set(NAMES, {name.replace('.', '__'): label for name, label in names.items()})


class NamedOutputs(Process):
    """Process whose outputs get the labels that were chosen when it was started."""

    def update_outputs(self) -> None:
        """Attach the outputs, and label them before anybody sees that the process has ended."""
        if self.outputs:  # AiiDA would ask the database at each step which of them are attached
            super().update_outputs()
        if self.has_terminated():
            _label_outputs(self.node)


def _label_outputs(node: orm.ProcessNode) -> None:
    names, request = (node.base.extras.get(key, None) for key in (NAMES, NAMED_BY))
    if not names:
        return
    for link in node.base.links.get_outgoing(link_type=(LinkType.CREATE, LinkType.RETURN)).all():
        if names.get(link.link_label):
            give_name(link.node, names[link.link_label], request)
        elif link.link_label in names:
            link.node.label = ''  # not that of the node that it was copied from
