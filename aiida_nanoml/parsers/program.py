"""Parser of single runs of the program of an engine: the label, and an exit code for each failure."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from aiida.common.links import LinkType
from aiida.engine import ExitCode
from aiida.parsers import Parser

from aiida_nanoml.calculations.functions.siesta import structure_of_node
from aiida_nanoml.calculations.program import engine_of_inputs, label_of_run, read_run
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.program import ERROR_FILE, OUTPUT_FILE, ProgramEngine, read_file
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.parsers.base import SCHEDULER_FAILURES
from aiida_nanoml.structures import Structure

EXIT_CODES = {
    FailureCode.OUT_OF_MEMORY: 'ERROR_OUT_OF_MEMORY',
    FailureCode.DISK_FULL: 'ERROR_DISK_FULL',
    FailureCode.TRUNCATED: 'ERROR_OUTPUT_TRUNCATED',
    FailureCode.INCONSISTENT: 'ERROR_OUTPUT_INVALID',
    FailureCode.MISSING_PSEUDOPOTENTIAL: 'ERROR_PSEUDOPOTENTIAL',
    FailureCode.WRONG_PSEUDOPOTENTIAL: 'ERROR_PSEUDOPOTENTIAL',
    FailureCode.BASIS_ERROR: 'ERROR_BASIS',
    FailureCode.NODE_FAILURE: 'ERROR_NODE_FAILURE',
}
"""Exit code for each failure that the output shows; those of time and self-consistency depend on more, others are
``ERROR_STOPPED``."""

CONVERGING = 0.5
"""A cycle that still converges comes nearer to its end by at least this factor in its second half."""


class ProgramParser(Parser):
    """The label as the engine reads it; each failure has an exit code, none an exception."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Read the run for its label or the reason why there is none."""
        structure = structure_of_node(self._inputs['structure'])
        with engine_of_inputs(self._inputs) as engine, tempfile.TemporaryDirectory(prefix=f'{engine.name}-') as name:
            folder = Path(name)
            self.retrieved.base.repository.copy_tree(folder)
            if not any(
                (folder / name).is_file() and (folder / name).stat().st_size for name in (OUTPUT_FILE, *engine.results)
            ):
                return self.exit_codes.ERROR_OUTPUT_MISSING.format(
                    reason=self._last_line(folder) or f'{OUTPUT_FILE} is empty'
                )
            found = self._read(engine, folder, structure)
            self._attach_label(found, engine.version_of_run(folder), structure)
            return None if isinstance(found, Label) else self._exit_code(found, engine, folder)

    def _read(self, engine: ProgramEngine, folder: Path, structure: Structure) -> Label | EvaluationError:
        found = read_run(engine, folder, structure)
        known = SCHEDULER_FAILURES.get(self.node.exit_status)
        if known and isinstance(found, EvaluationError):
            vague = found.code in (FailureCode.TRUNCATED, FailureCode.ENGINE_FAILURE)
            return EvaluationError(*known) if vague else found
        return found

    def _attach_label(self, found: Label | EvaluationError, version: str | None, structure: Structure) -> None:
        """Output the label with the requested parameters as its source, and what was changed as its message."""
        if version is None:
            return
        recovery = self.node.base.attributes.get('recovery', '')
        with engine_of_inputs(self._inputs, requested=True) as engine:
            labels = label_of_run(engine, self._inputs['protocol'].value, version, structure, found, recovery)
        self.out('labels', LabelSetData(labels))

    def _exit_code(self, failure: EvaluationError, engine: ProgramEngine, folder: Path) -> ExitCode:
        name = EXIT_CODES.get(failure.code, 'ERROR_STOPPED')  # type: ignore[call-overload]
        if failure.code == FailureCode.NOT_CONVERGED:
            name = 'ERROR_SCF_UNFINISHED' if is_converging(engine.residuals(folder)) else 'ERROR_SCF_NOT_CONVERGED'
        elif failure.code == FailureCode.WALL_TIME:
            name = 'ERROR_STOPPED_IN_TIME' if engine.can_be_continued(folder) else 'ERROR_WALL_TIME'
        return self.exit_codes[name].format(reason=failure.message)

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        """All inputs; AiiDA asks the graph at every look at one."""
        inputs: dict[str, Any] = self.node.base.links.get_incoming(link_type=LinkType.INPUT_CALC).nested()
        return inputs

    def _last_line(self, folder: Path) -> str:
        """Return the last line of the error streams of the program, or of its job."""
        texts = (read_file(folder / ERROR_FILE), self.node.get_scheduler_stderr())
        lines = [line.strip() for text in texts if text for line in text.splitlines() if line.strip()]
        return lines[-1][:200] if lines else ''


def is_converging(residuals: list[float]) -> bool:
    """Return whether a self-consistency cycle came nearer to its end in its second half.

    :param residuals: distance of each iteration.
    """
    half = len(residuals) // 2
    return half > 0 and min(residuals[half:]) < CONVERGING * min(residuals[:half])
