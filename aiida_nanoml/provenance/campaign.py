"""Status of a labelling campaign: what is done, running or failed and why, and the time that is left."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from numpy.typing import NDArray

from aiida_nanoml.calculations.base import count_processes
from aiida_nanoml.engines.label_set import FINISHED
from aiida_nanoml.errors import FailureCode
from aiida_nanoml.provenance.carriers import Carriers
from aiida_nanoml.worker.journal import read_journal
from aiida_nanoml.worker.labelled_rows import read_rows
from aiida_nanoml.worker.schemas import JOURNAL_FILE

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
    :param stands_still: why it does not move although it has not ended; empty if it moves, or has ended.
    :param n_done: labelled structures, with those in the journals of running batches on this machine.
    :param n_running: structures in jobs that run, without those that are done.
    :param n_waiting: structures without a label and without a job that runs: a job whose campaign has ended does not
        count, unless the daemon carries it.
    :param seconds_each: mean wall time of the finished structures, None before the first one.
    :param remaining_s: computing time to the end with the allowed number of jobs, without waiting in the queue.
    """

    pk: int
    uuid: str
    label: str
    state: str
    ended: bool
    stands_still: str
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


def campaign_status(node: orm.WorkChainNode, carriers: Carriers | None = None) -> Campaign:
    """Return the status of a campaign.

    :param node: a process of the workflow ``nanoml.label``.
    :param carriers: what carries processes now, if that was found already.
    """
    carriers = carriers or Carriers()
    hashes = node.inputs.structures.structures.hashes
    distinct = set(hashes.tolist())
    rows, source = _latest_rows(node)
    rows = {digest: row for digest, row in rows.items() if digest in distinct and row.status != FailureCode.INTERRUPTED}
    open_jobs = [called for called in node.called if _is_job(called) and not called.is_terminated]
    open_jobs = [job for job in open_jobs if not carriers.is_abandoned(job)]
    if node.is_terminated:
        open_jobs = [job for job in open_jobs if carriers.has_task(job) and not carriers.stands_still(job)]
    for job in open_jobs:
        rows |= _journal_rows(job, hashes, rows)
    jobs = tuple(_job(job) for job in open_jobs)
    done = [row for row in rows.values() if row.status == FINISHED]
    failed: dict[str, list[str]] = defaultdict(list)
    for row in rows.values():
        if row.status != FINISHED:
            failed[row.status].append(row.message)
    singles = sum(job.kind == SINGLE for job in jobs)
    in_batches = {hashes[row] for job in open_jobs if job.process_label == BATCH for row in job.inputs.rows.get_list()}
    in_batches -= {digest for digest, row in rows.items() if row.status == FINISHED}
    n_running = min(len(in_batches) + singles, len(distinct) - len(done))
    n_open = min(len(distinct) - len(done), len(distinct) - len(rows) + (singles if rows else 0))
    walls = np.array([row.wall_s for row in done])
    each = float(np.nanmean(walls)) if len(walls) and not np.isnan(walls).all() else None
    return Campaign(
        pk=node.pk,
        uuid=node.uuid,
        label=node.label,
        state=_state(node),
        ended=node.is_terminated,
        stands_still=carriers.find_standstill(node, open_jobs),
        source=source,
        n_structures=len(distinct),
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


def _journal_rows(job: orm.ProcessNode, hashes: NDArray[np.str_], known: dict[str, _Row]) -> dict[str, _Row]:
    """Return the new rows in the journal of a running batch; none if its folder is on another machine."""
    folder = job.get_remote_workdir() if job.process_label == BATCH else None
    if folder is None or job.computer.transport_type != 'core.local':
        return {}
    indices = job.inputs.rows.get_list()
    try:
        entries = read_rows(read_journal(Path(folder) / JOURNAL_FILE)[1])
    except OSError:
        return {}
    found = {str(hashes[indices[row]]): entry for row, entry in entries.items() if row < len(indices)}
    return {
        digest: _Row(entry.status, entry.message, entry.wall_s)
        for digest, entry in found.items()
        if (digest not in known or known[digest].status != FINISHED) and entry.finished
    }


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
