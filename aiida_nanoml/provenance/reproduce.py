"""Compute a result again from the graph alone, and compare it with what is recorded."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiida import orm

from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.provenance.archives import quiet_export
from aiida_nanoml.provenance.differences import IDENTICAL, NOT_COMPARED, WITHIN, Quantity, worst
from aiida_nanoml.provenance.rerun import Request
from aiida_nanoml.provenance.rerun_plan import BOUNDARIES, INPUTS, START, Taken, plan_rerun, reproducible
from aiida_nanoml.text import counted, first_of, parse_json

_SHOWN = 8


@dataclass(frozen=True)
class Change:
    """A version or executable that has changed since a calculation was recorded.

    :param what: library, engine or executable.
    """

    what: str
    then: str
    now: str


@dataclass(frozen=True)
class RerunStep:
    """One calculation that was run again.

    :param uuid: of the recorded calculation.
    :param type: name of its class or function.
    :param wall_s: wall time of the rerun, in seconds.
    :param processes: processes or threads of the job, the same as recorded.
    :param quantities: what was compared.
    :param changes: versions of libraries and engines, and executables, that have changed.
    """

    uuid: str
    type: str
    wall_s: float
    processes: int
    quantities: tuple[Quantity, ...]
    changes: tuple[Change, ...]

    @property
    def verdict(self) -> str:
        """Return the worst verdict of its quantities."""
        return worst(quantity.verdict for quantity in self.quantities)


@dataclass(frozen=True)
class Reproduction:
    """A node computed again from the graph alone.

    :param uuid: of the node.
    :param type: its type.
    :param label: its label.
    :param output: label of the link from its calculation; empty for the calculation itself, whose outputs all count.
    :param since: where the rerun began, as of :func:`reproduce`.
    :param tolerance: absolute difference of real numbers that counts as none, each in its own unit.
    :param steps: the calculations, in order; the last one made the node.
    :param taken: data that were not computed again.
    :param machine: Python, system, cores and threads of the rerun; those of the recorded run are not known.
    :param not_compared: what is left out of every comparison.
    """

    uuid: str
    type: str
    label: str
    output: str
    since: str
    tolerance: float
    steps: tuple[RerunStep, ...]
    taken: tuple[Taken, ...]
    machine: dict[str, str]
    not_compared: tuple[str, ...] = NOT_COMPARED

    @property
    def compared(self) -> tuple[Quantity, ...]:
        """Return the quantities of the node, or all of its calculation if none of the node is compared."""
        every = self.steps[-1].quantities
        return tuple(quantity for quantity in every if quantity.output == self.output) or every

    @property
    def verdict(self) -> str:
        """Return ``identical``, ``within tolerance`` or ``differs``, for the node and not for the steps before it."""
        return worst(quantity.verdict for quantity in self.compared)

    @property
    def earlier(self) -> str | None:
        """Return where a longer rerun could begin; None: there is none."""
        if not any(taken.asked for taken in self.taken):
            return None
        from_labels = all(taken.type in BOUNDARIES['labels'] for taken in self.taken if taken.asked)
        return START if from_labels else 'labels'

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        content = asdict(self) | {'verdict': self.verdict}
        for step, entry in zip(self.steps, content['steps'], strict=True):
            entry['verdict'] = step.verdict
        return content

    def render(self) -> str:
        """Return the calculations with what differs in each, what was taken as recorded, and the verdict."""
        name = f'{self.type} {self.label}'.rstrip()
        lines = [f'{name} (uuid {self.uuid})']
        for step in self.steps:
            lines.append(f'  {step.type}: {step.verdict}, {len(step.quantities)} quantities, {step.wall_s:.1f} s')
            different = [f'    {one.output}.{one.name}: {one}' for one in step.quantities if one.n_different]
            lines += different[:_SHOWN]
            if len(different) > _SHOWN:
                lines.append(f'    … {len(different) - _SHOWN} more, see --json')
        by_reason = defaultdict(list)
        for taken in self.taken:
            by_reason[taken.reason].append(f'{taken.type} {taken.label or taken.uuid[:8]}')
        for reason, nodes in by_reason.items():
            lines.append(f'taken as recorded: {first_of(nodes, _SHOWN)} ({reason})')
        changes = dict.fromkeys(change for step in self.steps for change in step.changes)
        lines += [f'changed: {change.what}, {change.then} then, {change.now} now' for change in changes]
        processes = counted(max(step.processes for step in self.steps), 'process', 'processes')
        lines.append(
            f'here: Python {self.machine["python"]}, {self.machine["cores"]} cores, OMP_NUM_THREADS '
            f'{self.machine["OMP_NUM_THREADS"]}, at most {processes} per job as recorded'
        )
        lines.append(f'not compared: {", ".join(self.not_compared)}')
        return '\n'.join([*lines, f'{self.verdict}: {self._statement()}'])

    def _statement(self) -> str:
        n_values = sum(quantity.n_values for quantity in self.compared)
        if self.verdict == IDENTICAL:
            return f'{n_values} values of {self.label or self.type} were reproduced bit for bit'
        different = sum(quantity.n_different for quantity in self.compared)
        if self.verdict == WITHIN:
            return (
                f'{different} of {n_values} values of {self.label or self.type} differ, by at most {self.tolerance:g}'
            )
        return f'{different} of {n_values} values of {self.label or self.type} differ'


def reproduce(
    node: orm.Node,
    since: str = INPUTS,
    tolerance: float = 0.0,
    progress: Callable[[str], None] | None = None,
) -> Reproduction:
    """Compute a node again from the graph alone, in a fresh profile, and compare.

    The calculations with their inputs are exported, and another interpreter imports them into a profile in memory,
    where they run with the ``nanoml-worker`` of this installation, without the cache. Nothing is written into the
    profile of the node, which may also be an archive opened by :func:`.archives.open_archive`. Runs of SIESTA
    and other programs are never repeated: their labels are taken as recorded. xTB and PySCF run in the worker.

    :param node: data that a calculation of this package made, such a calculation, or a workflow that returned the
        results of one.
    :param since: what is taken as recorded: the ``inputs`` of the calculation, so that it alone is run; or everything
        up to the ``dataset``, the ``labels`` or the ``structures``; with ``start`` nothing that can be computed again.
    :param tolerance: absolute difference of real numbers that counts as none, each in its own unit; 0: bit for bit.
    :param progress: called with a text before each calculation.
    :raises ProvenanceError: no calculation that can be run again made the node, or one failed now; or the tolerance is
        negative or not finite.
    """
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise ProvenanceError(f'the tolerance must be 0 or a positive number, got {tolerance}')
    node = reproducible(node)
    plan = plan_rerun(node, since)
    with tempfile.TemporaryDirectory(prefix='aiida-nanoml-') as folder:
        archive = Path(folder) / 'recorded.aiida'
        _export([orm.load_node(pk) for pk in plan.steps], archive)
        request = Request(archive=archive, node=node.uuid, since=since, tolerance=tolerance)
        result = _run_elsewhere(request, folder, progress)
    steps = tuple(map(_read_step, result['steps']))
    if not steps[-1].quantities:
        raise ProvenanceError(f'{steps[-1].type} {steps[-1].uuid} has no output that could be compared')
    return Reproduction(
        **result['node'],
        since=since,
        tolerance=tolerance,
        steps=steps,
        taken=plan.taken,
        machine=result['machine'],
    )


def _read_step(content: dict[str, Any]) -> RerunStep:
    """Read a step from the answer of the other interpreter."""
    quantities = tuple(Quantity(**one) for one in content['quantities'])
    changes = tuple(Change(**one) for one in content['changes'])
    return RerunStep(**content | {'quantities': quantities, 'changes': changes})


def _run_elsewhere(request: Request, folder: str, progress: Callable[[str], None] | None) -> dict[str, Any]:
    """Run the calculations in another interpreter, and return its result."""
    result: dict[str, Any] | None = None
    with tempfile.TemporaryFile('w+', encoding='utf-8') as errors, _interpreter(folder, errors) as child:
        child.stdin.write(request.model_dump_json())
        child.stdin.close()
        for line in child.stdout:
            answer = parse_json(line)
            if 'refused' in answer:
                raise ProvenanceError(answer['refused'])
            if 'step' in answer and progress is not None:
                progress(f'{answer["number"]} of {answer["total"]}: {answer["step"]}')
            result = answer.get('result')
        if result is None:
            errors.seek(0)
            output = errors.read().strip().splitlines() or [f'exit status {child.wait()}']
            raise ProvenanceError(f'the rerun stopped: {output[-1]}')
    return result


@contextmanager
def _interpreter(folder: str, errors: Any) -> Iterator[subprocess.Popen[str]]:
    """Start the interpreter that runs calculations again, and stop it with its jobs at the end."""
    child = subprocess.Popen(
        [sys.executable, '-P', '-m', 'aiida_nanoml.provenance.rerun'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd=folder,
        env=os.environ | {'AIIDA_PATH': folder, 'PYTHONWARNINGS': 'ignore'},
        text=True,
        encoding='utf-8',
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)  # AiiDA then kills the running job
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        child.stdout.close()


def _export(calculations: list[orm.CalculationNode], archive: Path) -> None:
    """Export calculations with their inputs and outputs only."""
    from aiida.tools.archive import create_archive

    with quiet_export(logging.ERROR):
        create_archive(
            calculations,
            archive,
            include_comments=False,
            include_logs=False,
            create_backward=False,
            call_calc_backward=False,
            call_work_backward=False,
            compression=1,
        )
