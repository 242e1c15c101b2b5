"""Program that runs calculations again in a fresh profile; :func:`.reproduce.reproduce` starts it.

It reads a :class:`Request` from the standard input and writes lines of JSON to the standard output: ``{"step": …}``
before each calculation, and finally ``{"result": …}`` or ``{"refused": …}``.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.links import LinkType
from pydantic import BaseModel

from aiida_nanoml.errors import NanomlError, ProvenanceError
from aiida_nanoml.provenance.differences import compare_outputs, created, versions
from aiida_nanoml.provenance.rerun_plan import PARENT_FOLDER, plan_rerun, reproducible

POLL_S = 0.5
"""Seconds between two queries of the state of a job."""

_THREADS = re.compile(r'[A-Z]+_NUM_([A-Z]+_)?THREADS')


class Request(BaseModel):
    """Request for a rerun.

    :param archive: file with the calculations that are run again, their inputs and outputs.
    :param node: UUID of the node.
    :param since: a key of :data:`.rerun_plan.BOUNDARIES`.
    :param tolerance: as of :func:`.differences.compare_outputs`.
    """

    archive: Path
    node: str
    since: str
    tolerance: float


def main() -> None:
    """Answer the request on the standard input."""
    request = Request.model_validate_json(sys.stdin.read())
    # What libraries print must not get between the lines of the answer.
    answers = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)

    def answer(**content: Any) -> None:
        print(json.dumps(content, allow_nan=False), file=answers, flush=True)

    try:
        answer(result=_rerun(request, answer))
    except NanomlError as error:
        answer(refused=str(error))


def _rerun(request: Request, answer: Callable[..., None]) -> dict[str, Any]:
    from aiida.common.log import AIIDA_LOGGER
    from aiida.tools.archive import import_archive

    code = _make_profile()
    AIIDA_LOGGER.setLevel('ERROR')
    import_archive(request.archive, create_group=False)
    node = reproducible(orm.load_node(uuid=request.node))
    plan = plan_rerun(node, request.since)
    made: dict[int, orm.Data] = {}
    steps = []
    for number, step in enumerate(plan.steps, start=1):
        answer(step=plan.graph.type_name(step), number=number, total=len(plan.steps))
        links = {label: pk for label, pk in plan.graph.inputs[step].items() if label != PARENT_FOLDER}
        absent = [label for label, pk in links.items() if pk in plan.recomputed - made.keys()]
        if absent:
            raise ProvenanceError(
                f'{plan.graph.type_name(step)} {plan.graph.nodes[step].uuid} lacks its input {absent[0]}: the '
                'previous calculation did not make it again'
            )
        inputs = {label: made[pk] if pk in plan.recomputed else orm.load_node(pk) for label, pk in links.items()}
        steps.append(_run_step(orm.load_node(step), inputs, made, code, request.tolerance))
    link = None if isinstance(node, orm.ProcessNode) else node.base.links.get_incoming(link_type=LinkType.CREATE).one()
    return {
        'node': {
            'uuid': node.uuid,
            'type': node.process_label if link is None else node.entry_point.name,
            'label': node.label,
            'output': '' if link is None else link.link_label,
        },
        'steps': steps,
        'machine': _machine(),
    }


def _make_profile() -> orm.InstalledCode:
    """Load an empty profile in memory and make the code ``nanoml-worker`` in it."""
    from aiida import load_profile
    from aiida.storage.sqlite_temp import SqliteTempBackend

    from aiida_nanoml.calculations.local_worker import make_code, make_localhost

    load_profile(SqliteTempBackend.create_profile('rerun', options={'runner.poll.interval': 1}))
    computer = make_localhost()
    computer.set_minimum_job_poll_interval(POLL_S)
    return make_code(computer)


def _run_step(
    recorded: orm.CalculationNode,
    inputs: dict[str, Any],
    made: dict[int, orm.Data],
    code: orm.InstalledCode,
    tolerance: float,
) -> dict[str, Any]:
    """Run one calculation again and compare its results.

    :param inputs: inputs by the labels of their links.
    :param made: recomputed data, by the PK of what they replace; those of this calculation are added.
    :raises ProvenanceError: it fails.
    """
    from aiida.engine import run_get_node
    from aiida.manage.caching import disable_caching
    from aiida.plugins import CalculationFactory

    start = time.perf_counter()
    is_job = isinstance(recorded, orm.CalcJobNode)
    if is_job:
        inputs = _nest_inputs(inputs) | {'code': code, 'metadata': {'options': _options(recorded)}}
    with disable_caching():
        _, node = run_get_node(CalculationFactory(recorded.process_type.partition(':')[2]), **inputs)
    if not node.is_finished_ok:
        reason = node.exit_message or node.exception or node.process_state.value
        raise ProvenanceError(
            f'{recorded.process_label} {recorded.uuid} failed when it was run again, with exit status '
            f'{node.exit_status}: {reason}'
        )
    before, after = created(recorded), created(node)
    made |= {before[label].pk: after[label] for label in before.keys() & after.keys()}
    return {
        'uuid': recorded.uuid,
        'type': recorded.process_label,
        'wall_s': time.perf_counter() - start,
        'processes': _count_processes(recorded) if is_job else 1,
        'quantities': [vars(quantity) for quantity in compare_outputs(before, after, tolerance)],
        'changes': _changes(recorded, node),
    }


def _nest_inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of a job in their namespaces, which labels of links separate by ``__``."""
    nested: dict[str, Any] = {}
    for label, node in inputs.items():
        *namespaces, name = label.split('__')
        below = nested
        for namespace in namespaces:
            below = below.setdefault(namespace, {})
        below[name] = node
    return nested


def _options(recorded: orm.CalcJobNode) -> dict[str, Any]:
    """Return processes and threads of a job; queue and machine are not those of a rerun."""
    resources = {'num_machines': 1, 'num_mpiprocs_per_machine': 1, 'num_cores_per_mpiproc': _count_processes(recorded)}
    variables = recorded.get_option('environment_variables') or {}
    threads = {name: value for name, value in variables.items() if _THREADS.fullmatch(name)}
    return {'resources': resources, 'environment_variables': threads}


def _count_processes(recorded: orm.CalcJobNode) -> int:
    from aiida_nanoml.calculations.base import count_processes

    return count_processes(recorded.get_option('resources') or {})


def _changes(recorded: orm.CalculationNode, again: orm.CalculationNode) -> list[dict[str, str]]:
    """Return versions and executables that have changed since."""
    then, now = _environment(recorded), _environment(again)
    return [
        {'what': what, 'then': then.get(what, 'not recorded'), 'now': now.get(what, 'not recorded')}
        for what in dict.fromkeys([*then, *now])
        if then.get(what) != now.get(what)
    ]


def _environment(process: orm.CalculationNode) -> dict[str, str]:
    recorded = process.base.attributes.get('version', {})
    names = {'core': 'aiida-core', 'plugin': 'aiida-nanoml'}
    found = {names[key]: str(recorded[key]) for key in names if key in recorded}
    if isinstance(process, orm.CalcJobNode):
        found['executable'] = str(process.inputs.code.filepath_executable)
    for node in created(process).values():
        found |= versions(node)
    return found


def _machine() -> dict[str, str]:
    """Return what else can change the last digits of a result; AiiDA does not record it."""
    return {
        'python': platform.python_version(),
        'system': platform.platform(),
        'cores': str(len(os.sched_getaffinity(0))),
        'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', 'not set'),
    }


if __name__ == '__main__':
    main()
