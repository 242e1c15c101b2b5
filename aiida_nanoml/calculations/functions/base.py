"""What the calculation functions have in common: refused input as an exit code, and tables as CSV."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec

from aiida import orm
from aiida.engine import ExitCode, calcfunction
from aiida.engine.processes.functions import ProcessFunctionType

from aiida_nanoml.errors import NanomlError, ProvenanceError

INPUT_REFUSED = 500
"""Exit status of a calculation function that refused its input; the message states the reason."""

MERGE_WIDTH = 100
"""Nodes that one calculation function joins: its cost grows with the square of its links."""

Parameters = ParamSpec('Parameters')


def csv_text(lines: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV, its header first."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator='\n').writerows(lines)
    return buffer.getvalue()


def calculation_function(
    function: Callable[Parameters, Any],
) -> ProcessFunctionType[Parameters, Any, orm.CalcFunctionNode]:
    """Decorate a function so that it is a process of AiiDA, which refuses its input with an exit code.

    A :class:`NanomlError` becomes the code :data:`INPUT_REFUSED` with a message. Such an end is never taken from the
    cache: the next version may read what this one refuses.
    """

    @functools.wraps(function)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
        try:
            return function(*args, **kwargs)
        except NanomlError as error:
            return ExitCode(INPUT_REFUSED, f'{type(error).__name__}: {error}')

    made = calcfunction(guarded)
    vars(made)['is_valid_cache'] = _is_not_refused  # asked for by AiiDA when it looks for a process to take it from
    return made


def _is_not_refused(node: orm.ProcessNode) -> bool:
    return node.exit_status != INPUT_REFUSED


def merge_nodes(
    function: Any, prefix: str, nodes: Sequence[orm.Data], error: type[NanomlError] = ProvenanceError
) -> Any:
    """Join stored nodes through a tree of calculation functions, each of which takes at most ``MERGE_WIDTH``.

    :param function: takes any number of nodes.
    :param prefix: its inputs are called ``PREFIX_000`` and so on.
    :param nodes: at least one; a single one is returned as it is.
    :param error: raised if the nodes cannot be joined; its message is that of the function.
    """
    level = list(nodes)
    while len(level) > 1:
        groups = [level[start : start + MERGE_WIDTH] for start in range(0, len(level), MERGE_WIDTH)]
        level = [_merge_group(function, prefix, group, error) for group in groups]
    return level[0]


def _merge_group(function: Any, prefix: str, group: list[orm.Data], error: type[NanomlError]) -> Any:
    if len(group) == 1:
        return group[0]
    merged, node = function.run_get_node(**{f'{prefix}_{number:03d}': part for number, part in enumerate(group)})
    if not node.is_finished_ok:
        raise error(node.exit_message)
    return merged


def run_function(function: Any, **inputs: Any) -> Any:
    """Run a calculation function.

    :returns: the node that it made, or nodes by name.
    :raises ProvenanceError: it refused its input; the message states the reason.
    """
    result, node = function.run_get_node(**inputs)
    if not node.is_finished_ok:
        raise ProvenanceError(
            f'{node.process_label} (pk {node.pk}) failed with exit status {node.exit_status}: {node.exit_message}'
        )
    return result
