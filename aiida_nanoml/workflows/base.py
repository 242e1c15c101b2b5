"""Base class of the workchains: run calculation functions, describe jobs, and end with the reason of a failure."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, WorkChain
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import validate_resources
from aiida_nanoml.calculations.output_names import NamedOutputs


class NanomlWorkChain(NamedOutputs, WorkChain):
    """Workchain of jobs and calculation functions; a step that fails ends it with an exit code and the reason."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define the exit code of calculation functions that fail."""
        super().define(spec)
        spec.exit_code(520, 'ERROR_STEP_REFUSED', message='A step refused its input: {reason}')

    def run_function(self, function: Any, **inputs: Any) -> tuple[Any, ExitCode | None]:
        """Run a calculation function without which the workchain cannot continue.

        :param function: the calculation function.
        :param inputs: its inputs; those that are None are left out.
        :returns: its result, and None; if it failed None, and the exit code to return from the step.
        """
        result, reason = self.try_function(function, **inputs)
        return result, None if reason is None else self.failed(self.exit_codes.ERROR_STEP_REFUSED, reason)

    def try_function(self, function: Any, **inputs: Any) -> tuple[Any, str | None]:
        """Run a calculation function that may fail.

        :param function: the calculation function.
        :param inputs: its inputs; those that are None are left out.
        :returns: its result, and None; if it failed None, and the reason.
        """
        result, node = function.run_get_node(**{name: node for name, node in inputs.items() if node is not None})
        return (result, None) if node.is_finished_ok else (None, failure_of(node))

    def job_metadata(self, task: str) -> dict[str, Any]:
        """Return options and label of a job.

        :param task: what the job does; the label names the workchain, too.
        """
        return {'options': self.inputs.options.get_dict(), 'label': f'{task} for {self.node.uuid[:8]}'}

    def failed(self, code: ExitCode, reason: str | orm.ProcessNode) -> ExitCode:
        """Return an exit code with the reason of the failure, or the process that failed."""
        return code.format(reason=reason if isinstance(reason, str) else failure_of(reason))


def failure_of(node: orm.ProcessNode) -> str:
    """Describe the failure of a process in one line."""
    return f'{node.process_label}<{node.pk}>: {node.exit_message or node.exception or "killed"}'


def validate_options(options: orm.Dict, port: Any) -> str | None:
    """Check the scheduler options of jobs."""
    return validate_resources(options.get_dict().get('resources'), port)


def validate_positive(number: orm.Int, _: Any) -> str | None:
    """Check that a number is at least one."""
    return None if number.value >= 1 else f'must be at least 1, got {number.value}'
