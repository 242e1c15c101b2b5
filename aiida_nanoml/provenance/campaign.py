"""Status of a labelling campaign: what is done, running or failed and why, and the time that is left."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from aiida import orm

from aiida_nanoml.calculations.base import count_processes
from aiida_nanoml.engines.label_set import FINISHED
from aiida_nanoml.errors import FailureCode

CAMPAIGN = 'aiida.workflows:nanoml.label'
BATCH = 'LabelCalculation'
SINGLE = 'single run'


@dataclass(frozen=True)
class CampaignJob:
    """A batch or a single run that has not ended.

    :param state: state of the process, and of the scheduler if known.
    """

    pk: int
    kind: str
    state: str
    n_structures: int


@dataclass(frozen=True)
class Failure:
    """Structures that failed with the same code.

    :param message: message of the first one.
    """

    code: str
    n_structures: int
    message: str


@dataclass(frozen=True)
class Campaign:
    """Status of a campaign.

    :param state: state of the process, with the exit message if it failed.
    :param ended: whether the process has ended; it can be resumed.
    :param source: engine, version and protocol of the labels; empty before the first one.
    :param n_structures: distinct structures.
    :param n_recovered: finished structures that needed other settings or a second run.
    :param n_running: structures in jobs that have not ended.
    :param n_waiting: structures without a label and without a job.
    :param seconds_each: mean wall time of the finished structures, None before the first one.
    :param remaining_s: computing time to the end with the allowed number of jobs, without waiting in the queue.
    """

    pk: int
    uuid: str
    label: str
    state: str
    ended: bool
    source: str
    n_structures: int
    n_done: int
    n_recovered: int
    n_running: int
    n_waiting: int
    failures: tuple[Failure, ...]
    jobs: tuple[CampaignJob, ...]
    seconds_each: float | None
    remaining_s: float | None

    @property
    def n_failed(self) -> int:
        """Return the number of structures that failed."""
        return sum(failure.n_structures for failure in self.failures)

    def to_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return asdict(self)


def campaigns() -> list[orm.WorkChainNode]:
    """Return all campaigns of the profile, the newest first."""
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'process_type': CAMPAIGN}, tag='campaign')
    found: list[orm.WorkChainNode] = query.order_by({'campaign': {'ctime': 'desc'}}).all(flat=True)
    return found


def campaign_status(node: orm.WorkChainNode) -> Campaign:
    """Return the status of a campaign.

    :param node: a process of the workflow ``nanoml.label``.
    """
    hashes = set(node.inputs.structures.structures.hashes.tolist())
    rows, source = _latest_rows(node)
    rows = {digest: row for digest, row in rows.items() if digest in hashes and row.status != FailureCode.INTERRUPTED}
    jobs = tuple(_job(called) for called in node.called if _is_job(called) and not called.is_terminated)
    done = [row for row in rows.values() if row.status == FINISHED]
    failed: dict[str, list[str]] = defaultdict(list)
    for row in rows.values():
        if row.status != FINISHED:
            failed[row.status].append(row.message)
    n_running = min(sum(job.n_structures for job in jobs), len(hashes) - len(done))
    again = sum(job.n_structures for job in jobs if job.kind == SINGLE and rows)
    n_open = min(len(hashes) - len(done), len(hashes) - len(rows) + again)
    walls = np.array([row.wall_s for row in done])
    each = float(np.nanmean(walls)) if len(walls) and not np.isnan(walls).all() else None
    return Campaign(
        pk=node.pk,
        uuid=node.uuid,
        label=node.label,
        state=_state(node),
        ended=node.is_terminated,
        source=source,
        n_structures=len(hashes),
        n_done=len(done),
        n_recovered=sum(bool(row.message) for row in done),
        n_running=n_running,
        n_waiting=max(0, n_open - n_running),
        failures=tuple(Failure(code, len(texts), texts[0]) for code, texts in sorted(failed.items())),
        jobs=jobs,
        seconds_each=each,
        remaining_s=None if each is None else each * n_open / _n_parallel(node),
    )


@dataclass(frozen=True)
class _Row:
    status: str
    message: str
    wall_s: float


def _latest_rows(node: orm.WorkChainNode) -> tuple[dict[str, _Row], str]:
    """Return one label of every structure, a finished one if there are several."""
    if 'labels' in node.outputs:
        sets = [node.outputs.labels]
    else:
        sets = node.base.links.get_incoming(link_label_filter='known\\_\\_%').all_nodes()
        sets += [called.outputs.labels for called in node.called if _is_job(called) and 'labels' in called.outputs]
    rows: dict[str, _Row] = {}
    for labels in sets:
        columns = (labels.get_array(name) for name in ('hashes', 'status', 'messages', 'wall_s'))
        for digest, status, message, wall_s in zip(*columns, strict=True):
            if digest not in rows or rows[digest].status != FINISHED:
                rows[str(digest)] = _Row(str(status), str(message), float(wall_s))
    return rows, str(sets[0].label_source) if sets else ''


def _is_job(node: orm.ProcessNode) -> bool:
    return isinstance(node, orm.CalcJobNode | orm.WorkChainNode)


def _job(node: orm.ProcessNode) -> CampaignJob:
    scheduler = node.get_scheduler_state() if isinstance(node, orm.CalcJobNode) else None
    state = process_state(node) + (f', {scheduler.value} at the scheduler' if scheduler else '')
    if node.paused:
        state = f'paused: {node.process_status}' if node.process_status else 'paused'
    batch = node.process_label == BATCH
    n_structures = len(node.inputs.rows.get_list()) if batch else 1
    return CampaignJob(node.pk, 'batch' if batch else SINGLE, state, n_structures)


def _state(node: orm.ProcessNode) -> str:
    if node.is_finished:
        return 'finished' if node.is_finished_ok else f'failed: {node.exit_message}'
    return 'paused' if node.paused else process_state(node)


def process_state(node: orm.ProcessNode) -> str:
    """Return the state of a process; it is stored, and linked to its caller, a moment before it has one."""
    return str(node.process_state.value) if node.process_state else 'created'


def _n_parallel(node: orm.WorkChainNode) -> int:
    """Return the number of structures that are computed at the same time when all jobs run."""
    single = node.inputs.mode.value == 'single'
    resources = node.inputs.options.get_dict().get('resources') or {}
    each = node.inputs.program_processes.value if 'program_processes' in node.inputs else 1
    width = 1 if single else max(1, count_processes(resources) // each)
    return int(node.inputs.max_concurrent.value) * width
