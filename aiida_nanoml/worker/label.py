"""Task ``label`` of the worker: evaluate a batch of structures with one engine."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiida_nanoml.densities.density import write_density
from aiida_nanoml.engines.base import Engine
from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.worker.files import read_arrays, read_job, write_arrays, written_in_one_step
from aiida_nanoml.worker.journal import Journal
from aiida_nanoml.worker.labelled_rows import ROW, LabelledRow, read_rows, tabulate
from aiida_nanoml.worker.schemas import (
    DENSITIES_FOLDER,
    JOURNAL_FILE,
    RESULTS_FILE,
    STRUCTURES_FILE,
    LabelJob,
    Report,
    density_file,
)
from aiida_nanoml.worker.termination import termination

Progress = Callable[[int, int], None]

DEFAULT_TIME_LIMIT_S = 600.0
"""Wall time that a structure may take where no job says it."""

PROGRAMS_FOLDER = 'runs'
"""Where the programs of an engine work, below the folder of the job, unless the job names another place."""


def label(folder: Path, processes: int, progress: Progress) -> Report:
    """Label the structures of a job folder, continuing its journal.

    :param folder: holds ``job.json`` and ``structures.npz``. Densities, if the job wants them, are written to its
        folder ``densities``, each before its row is appended to the journal.
    :param processes: structures evaluated at the same time, each with one thread: in a process of its own, or by a
        program of the engine.
    :param progress: called with the number of finished rows and of all rows.
    :returns: the report; status ``interrupted`` when a termination signal came first.
    :raises NanomlError: the job cannot be read or the engine cannot be used.
    """
    job = read_job(folder, LabelJob)
    structures = StructureSet.from_arrays(read_arrays(folder / STRUCTURES_FILE))
    engine = _make_engine(job, folder.absolute())
    densities = folder.absolute() / DENSITIES_FOLDER if job.densities else None
    if densities is not None:
        densities.mkdir(exist_ok=True)
    source = LabelSource.of_engine(engine, job.protocol, engine.version_in_use())
    evaluate = _evaluate_by_programs if engine.runs_program else _evaluate
    with Journal(folder / JOURNAL_FILE, source.to_dict()) as journal, termination() as terminated:
        done = {
            row for row, entry in journal.rows.items() if densities is None or _needs_no_density(entry, densities, row)
        }
        pending = {row: structures[row] for row in range(len(structures)) if row not in done}
        progress(len(done), len(structures))
        for entry in evaluate(engine, densities, pending, processes, job.time_limit_s, terminated):
            journal.append(entry)
            progress(len(journal.rows), len(structures))
        entries = journal.rows
    labels = tabulate(source, structures, read_rows(entries))
    write_arrays(folder / RESULTS_FILE, labels.to_arrays())
    interrupted = len(entries) < len(structures)
    return Report(
        status='interrupted' if interrupted else 'ok',
        code=FailureCode.INTERRUPTED.value if interrupted else '',
        message=f'stopped by a signal after {len(entries)} of {len(structures)} structures' if interrupted else '',
        content={'source': source.to_dict(), 'n_rows': len(labels), 'failures': labels.failures},
    )


def label_structures(
    structures: StructureSet,
    engine: str = 'xtb',
    protocol: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    processes: int = 1,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    runtime: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> LabelSet:
    """Label structures here and now, without a job folder: nothing is kept before all are done.

    :param structures: n structures.
    :param engine: registered name of the engine.
    :param protocol: name of the protocol; None: the default one of the engine.
    :param parameters: what differs from the protocol.
    :param processes: structures evaluated at the same time, each in its own process, or by a program of the engine.
    :param time_limit_s: wall time that one structure may take.
    :param runtime: what the engine finds on this machine, for engines that run programs: ``{'executable': 'siesta'}``.
    :param progress: called with the number of finished structures and n.
    :returns: n labels in the order of the structures; one that failed has the code and the message of its failure.
    :raises EngineError: the engine is unknown, lacks its library or program, or has no such protocol or parameter.
    """
    engine_class = get_engine(engine)
    job = LabelJob(
        engine=engine,
        protocol=engine_class.default_protocol() if protocol is None else protocol,
        parameters=dict(parameters or {}),
        time_limit_s=time_limit_s,
        runtime=dict(runtime or {}),
    )
    made = _make_engine(job, Path.cwd())
    evaluate = _evaluate_by_programs if made.runs_program else _evaluate
    pending = dict(enumerate(structures))
    entries = {}
    for entry in evaluate(made, None, pending, processes, time_limit_s, []):
        entries[entry[ROW]] = entry
        if progress is not None:
            progress(len(entries), len(structures))
    source = LabelSource.of_engine(made, job.protocol, made.version_in_use())
    return tabulate(source, structures, read_rows(entries))


def _make_engine(job: LabelJob, folder: Path) -> Engine:
    engine_class = get_engine(job.engine)
    parameters = engine_class.parameters(job.protocol, job.parameters)
    if not engine_class.runs_program:
        if missing := engine_class.missing():
            raise EngineError(missing)
        return engine_class(parameters, runtime=job.runtime, density=job.densities)
    values = {'folder': PROGRAMS_FOLDER, **job.runtime, 'time_limit_s': job.time_limit_s}
    runtime = engine_class.read_runtime(values).relative_to(folder).model_dump()
    if missing := engine_class.missing(runtime):
        raise EngineError(missing)
    return engine_class(parameters, runtime=runtime, density=job.densities)


def _evaluate(
    engine: Engine,
    densities: Path | None,
    pending: Mapping[int, Structure],
    processes: int,
    time_limit_s: float,
    stop: list[int],
) -> Iterator[dict[str, Any]]:
    """Yield one journal entry a row, in the order in which they finish, until done or until ``stop`` is not empty."""
    from pebble import ProcessPool

    if not pending:
        return
    with ProcessPool(max_workers=min(processes, len(pending)), initializer=_reset_signals) as pool:
        futures = {
            pool.schedule(_evaluate_row, args=(engine, densities, row, structure), timeout=time_limit_s): row
            for row, structure in pending.items()
        }
        waiting = set(futures)
        try:
            while waiting and not stop:
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    if stop and future.exception() is not None:
                        continue  # the signal went to the whole process group: the row was stopped, it did not crash
                    yield _outcome(future, time_limit_s).to_entry(futures[future])
        finally:
            if waiting:  # a signal, or Ctrl-C where there is no handler of ours
                pool.stop()


def _evaluate_by_programs(
    engine: Engine,
    densities: Path | None,
    pending: Mapping[int, Structure],
    processes: int,
    time_limit_s: float,
    stop: list[int],
) -> Iterator[dict[str, Any]]:
    """Yield the same with an engine that runs programs: it needs no process of its own, and keeps the time limit."""
    with ThreadPoolExecutor(max_workers=processes) as pool:
        futures = {
            pool.submit(_evaluate_row, engine, densities, row, structure): row for row, structure in pending.items()
        }
        waiting = set(futures)
        try:
            while waiting and not stop:
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    outcome = _outcome(future, time_limit_s)
                    if outcome.status != FailureCode.INTERRUPTED:
                        yield outcome.to_entry(futures[future])
        finally:
            for future in waiting:
                future.cancel()
            engine.stop()


def _reset_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _evaluate_row(engine: Engine, densities: Path | None, row: int, structure: Structure) -> LabelledRow:
    """Evaluate a structure; its density, if wanted, is on the disk when this returns."""
    start = time.perf_counter()
    try:
        result = engine.evaluate(structure)
    except EvaluationError as error:
        return LabelledRow.from_error(error, time.perf_counter() - start)
    if densities is None:
        result = replace(result, density=None)
    elif result.density is not None:
        with written_in_one_step(densities / density_file(row)) as handle:
            write_density(handle, result.density)
    return LabelledRow.from_label(result, time.perf_counter() - start)


def _needs_no_density(entry: Mapping[str, Any], densities: Path, row: int) -> bool:
    """Return whether the density of a row needs no work: it is there, or the row failed."""
    found = LabelledRow.from_entry(entry)
    return not found.finished or (found.box is not None and (densities / density_file(row)).exists())


def _outcome(future: Any, time_limit_s: float) -> LabelledRow:
    """Return the row of a finished evaluation, whatever ended it."""
    try:
        row: LabelledRow = future.result()
    except TimeoutError:
        message = f'took longer than {time_limit_s:g} s; raise the time limit'
        return LabelledRow(FailureCode.TIME_LIMIT.value, message, time_limit_s)
    except Exception as error:  # the process died (out of memory, crash in a library): the batch continues
        return LabelledRow.from_error(
            EvaluationError(FailureCode.ENGINE_CRASH, f'the process of the engine died: {error}')
        )
    return row
