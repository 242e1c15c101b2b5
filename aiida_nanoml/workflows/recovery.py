"""Base of the workchains of single runs: repeat what the machine failed, with more memory if needed, and record it."""

from __future__ import annotations

from collections.abc import Mapping

from aiida import orm
from aiida.engine import BaseRestartWorkChain, ExitCode, ProcessHandlerReport, process_handler
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import RUN_FAILURES, run_failure

GROWTH = 2
"""Factor by which wall time, memory and iterations are increased."""

LARGEST_GROWTH = 4
"""Largest factor by which they exceed the requested values."""

CAREFUL_TEMPERATURE_K = 300.0
"""Electronic temperature of the last cure for a self-consistency that oscillates."""

REPEATS = {'ERROR_NODE_FAILURE': 2, 'ERROR_OUTPUT_TRUNCATED': 1, 'ERROR_OUTPUT_MISSING': 1, 'ERROR_OUTPUT_INVALID': 1}
"""How often the same run is submitted again, by exit code of a failure of the machine."""


class RecoveringWorkChain(BaseRestartWorkChain):
    """Run a program for one structure, and again with a cure if there is one for its failure.

    Every cure is bounded, and changes only what it reports. The message of the label states the changes; its source is
    the requested one. A subclass has the input ``options``, and its runs the option ``recovery`` and the output
    ``labels``; it sets ``ctx.inputs`` in its first step, and adds the cures of its program.

    - ``ctx.changes``: new value of each quantity that was changed.
    - ``ctx.repeats``: repetitions after failures of the machine, by exit code.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define the exit codes of failures without a cure."""
        super().define(spec)
        spec.exit_code(411, 'ERROR_WALL_TIME_EXHAUSTED', message='Not finished in the longest wall time: {reason}')
        spec.exit_code(412, 'ERROR_MEMORY_EXHAUSTED', message='Not finished with the most memory: {reason}')
        spec.exit_code(413, 'ERROR_DISK_FULL', message='The files could not be written: {reason}')
        spec.exit_code(414, 'ERROR_MACHINE_FAILED', message='The machine failed repeatedly: {reason}')
        spec.exit_code(510, 'ERROR_SCF_NOT_CONVERGED', message='No self-consistency after all cures: {reason}')
        spec.exit_code(512, 'ERROR_RUN_REFUSED', message='The program refused the run: {reason}')

    def setup(self) -> None:
        """Initialise ``ctx.changes`` and ``ctx.repeats``."""
        super().setup()
        self.ctx.changes = {}
        self.ctx.repeats = {}

    def inspect_process(self) -> ExitCode | None:
        """Inspect the last run; if no cure is left, output its label, which states the reason."""
        result: ExitCode | None = super().inspect_process()
        if isinstance(result, ExitCode) and result.status:
            node = self.ctx.children[self.ctx.iteration - 1]
            if 'labels' in node.outputs:
                self.out('labels', node.outputs.labels)
        return result

    @process_handler(priority=60, exit_codes=run_failure('ERROR_OUT_OF_MEMORY'))
    def handle_out_of_memory(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Double the memory, up to a limit; if it is not limited, put fewer tasks on a machine."""
        options = self.ctx.inputs['metadata']['options']
        resources = options.get('resources', {})
        tasks = int(resources.get('num_mpiprocs_per_machine') or 1)
        if options.get('max_memory_kb'):
            more = options['max_memory_kb'] * GROWTH
            if more > LARGEST_GROWTH * self.inputs.options['max_memory_kb']:
                return self._give_up(self.exit_codes.ERROR_MEMORY_EXHAUSTED, node)
            options['max_memory_kb'] = more
            changes = {'memory': f'{more} kB'}
        elif tasks % GROWTH == 0 and 'num_machines' in resources:
            machines = int(resources['num_machines']) * GROWTH
            if machines > LARGEST_GROWTH * int(self.inputs.options['resources']['num_machines']):
                return self._give_up(self.exit_codes.ERROR_MEMORY_EXHAUSTED, node)
            spread = {'num_machines': machines, 'num_mpiprocs_per_machine': tasks // GROWTH}
            options['resources'] = {k: v for k, v in resources.items() if k != 'tot_num_mpiprocs'} | spread
            changes = {'resources': f'{machines} machines with {tasks // GROWTH} tasks each'}
        else:
            return self._give_up(self.exit_codes.ERROR_MEMORY_EXHAUSTED, node)
        return self._cure(node, 'out of memory', changes)

    @process_handler(priority=60, exit_codes=run_failure('ERROR_DISK_FULL'))
    def handle_disk_full(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Stop: the same run would fill the same disk."""
        return self._give_up(self.exit_codes.ERROR_DISK_FULL, node)

    @process_handler(priority=50, exit_codes=[run_failure(name) for name in REPEATS])
    def handle_machine_failure(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Submit the same run again after a failure of the machine."""
        name = next(name for name in REPEATS if RUN_FAILURES[name][0] == node.exit_status)
        return self._run_again(node, name, REPEATS[name])

    def _run_again(self, node: orm.CalcJobNode, failure: str, times: int) -> ProcessHandlerReport:
        """Submit the same run again, at most so many times for one failure."""
        self.ctx.repeats[failure] = self.ctx.repeats.get(failure, 0) + 1
        if self.ctx.repeats[failure] > times:
            return self._give_up(self.exit_codes.ERROR_MACHINE_FAILED, node)
        what = 'the failure of a machine' if failure == 'ERROR_NODE_FAILURE' else 'an output that ended in the middle'
        return self._cure(node, what, {'run again': f'after {what}'})

    def _longer_wall_time(self) -> int | None:
        """Double the wall time of the next run; None if that would be too much."""
        options = self.ctx.inputs['metadata']['options']
        longer: int = options['max_wallclock_seconds'] * GROWTH
        if longer > LARGEST_GROWTH * self.inputs.options['max_wallclock_seconds']:
            return None
        options['max_wallclock_seconds'] = longer
        return longer

    def _cure(self, node: orm.CalcJobNode, what: str, changes: Mapping[str, str]) -> ProcessHandlerReport:
        """Record what the next run changes, for its label.

        :param node: the failed run.
        :param what: its failure, for the report.
        :param changes: new value of each quantity that is changed.
        """
        self.ctx.changes = self.ctx.changes | dict(changes)
        text = ', '.join(f'{name} {value}' for name, value in self.ctx.changes.items())
        self.ctx.inputs['metadata']['options']['recovery'] = text
        new = ', '.join(f'{name} {value}' for name, value in changes.items())
        self.report(f'{node.process_label}<{node.pk}>: {what}; next: {new}')
        return ProcessHandlerReport(True)

    def _give_up(self, code: ExitCode, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """End the workchain; the reason is the message of the label, which states the cures that were tried, too."""
        message = str(node.outputs.labels.labels.messages[0]) if 'labels' in node.outputs else ''
        return ProcessHandlerReport(True, code.format(reason=message or node.exit_message))
