"""What the calculation functions have in common: refused input as an exit code, and tables as CSV."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec

from aiida.engine import ExitCode

from aiida_nanoml.errors import NanomlError, ProvenanceError

INPUT_REFUSED = 500
"""Exit status of a calculation function that refused its input; the message states the reason."""

Parameters = ParamSpec('Parameters')


def csv_text(lines: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV, its header first."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator='\n').writerows(lines)
    return buffer.getvalue()


def refusing(function: Callable[Parameters, Any]) -> Callable[Parameters, Any]:
    """Decorate a calculation function so that a :class:`NanomlError` becomes an exit code with a message."""

    @functools.wraps(function)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
        try:
            return function(*args, **kwargs)
        except NanomlError as error:
            return ExitCode(INPUT_REFUSED, f'{type(error).__name__}: {error}')

    return guarded


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
