"""Import folders of finished runs into the graph, one after the other, so that it can stop at any time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import run_get_node
from aiida.tools import delete_nodes

from aiida_nanoml.calculations.functions.runs import import_runs
from aiida_nanoml.calculations.functions.siesta import (
    LABELS,
    PSEUDO,
    STRUCTURES,
    import_siesta_runs,
    manifest,
    structure_set,
)
from aiida_nanoml.calculations.importers.pseudopotentials import PseudopotentialFinder
from aiida_nanoml.calculations.importers.siesta import DIGEST, SharedDicts, inputs_of_run
from aiida_nanoml.calculations.pseudopotentials import find_by_md5
from aiida_nanoml.calculations.siesta import SiestaCalculation
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.run_search import find_outputs, keep, reader_of, source_of
from aiida_nanoml.engines.siesta.folder import (
    FinishedRun,
    RunFolder,
    digest_of_files,
    find_run_folders,
    open_run_folder,
    read_finished_once,
    read_finished_steps,
    source_of_run,
    tell_runs_apart,
)
from aiida_nanoml.engines.siesta.run_files import stem
from aiida_nanoml.errors import EvaluationError, NanomlError
from aiida_nanoml.structures import StructureSet

SIESTA = 'siesta'
BATCH_IMPORTS = ('aiida.calculations:nanoml.import_siesta_runs', 'aiida.calculations:nanoml.import_runs')
IMPORTED, PRESENT, SKIPPED = 'imported', 'present', 'skipped'


@dataclass
class FoundRun:
    """A run folder, and the result of its import.

    :param folder: path, as the user gave it.
    :param root: nothing outside this folder is read.
    :param name: name of the structure.
    :param status: ``imported``, ``present`` (imported before) or ``skipped``; empty before the import.
    :param reason: why it was skipped, or what the user should know about its label.
    :param uuid: process that imported it.
    :param hash: content hash of its structure.
    :param part: PKs of the nodes that hold its structure and its label, perhaps among others.
    :param step: which step of the run in the folder it is; None: the last.
    :param steps: the steps before the last, where they are wanted.
    :param row: of its structure and label in these nodes.
    :param input: name of its input, where the folder holds several runs; of its output, for programs other than SIESTA.
    :param engine: whose program it is a run of.
    """

    folder: Path
    root: Path
    name: str
    family: str = ''
    status: str = ''
    reason: str = ''
    gap_ev: float | None = None
    n_atoms: int | None = None
    uuid: str | None = None
    digest: str = ''
    hash: str = ''
    part: tuple[int, int] | None = None
    step: int | None = None
    steps: list[FoundRun] = field(default_factory=list)
    row: int = 0
    input: str = ''
    engine: str = SIESTA

    def to_dict(self) -> dict[str, Any]:
        """Return what is reported about the run, in types of JSON."""
        return {
            'folder': str(self.folder),
            'status': self.status,
            'gap_ev': None if self.gap_ev is None or math.isnan(self.gap_ev) else self.gap_ev,
            'n_atoms': self.n_atoms,
            'uuid': self.uuid,
            'reason': self.reason or None,
            'input': self.input or None,
            'engine': self.engine or None,
        }


@dataclass
class _Batch:
    source: LabelSource
    pseudos: dict[str, Any] = field(default_factory=dict)
    runs: list[FoundRun] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)


def find_runs(roots: Sequence[Path], family: Callable[[str], str]) -> list[FoundRun]:
    """Return the run folders below some folders.

    :param family: returns the family of a run by its name.
    """
    found: dict[Path, list[FoundRun]] = {}
    for root in roots:
        unreadable: list[OSError] = []
        for folder in find_run_folders(root, unreadable.append):
            relative = folder.relative_to(root)
            name = str(relative) if relative.parts else folder.resolve().name
            if folder.resolve() in found:
                continue
            inputs = tell_runs_apart(folder, root)
            names = [str(Path(name, stem(one))) for one in inputs] or [name]
            found[folder.resolve()] = [
                FoundRun(folder, root, own, family(Path(own).name), input=one)
                for own, one in zip(names, inputs or [''], strict=True)
            ]
        for error in unreadable:
            path = Path(str(error.filename))
            reason = f'the folder cannot be read: {error.strerror}'
            found.setdefault(path, [FoundRun(path, root, path.name, status=SKIPPED, reason=reason)])
    return [run for runs in found.values() for run in runs]


def find_program_runs(
    roots: Sequence[Path], family: Callable[[str], str], taken: Collection[Path] = ()
) -> list[FoundRun]:
    """Return the runs below some folders of all programs but SIESTA whose outputs are recognised.

    A folder with files that are named like outputs, and none that is known, is listed as skipped.

    :param family: returns the family of a run by its name.
    :param taken: folders whose other files belong to runs of SIESTA.
    """
    found: dict[tuple[Path, str], FoundRun] = {}
    for root in roots:
        for outputs in find_outputs(root, lambda error: None):
            folder = outputs.folder
            relative = folder.relative_to(root)
            name = str(relative) if relative.parts else folder.resolve().name
            for output, engine in outputs.readers.items():
                own = name if len(outputs.readers) == 1 else str(Path(name, stem(output)))
                run = FoundRun(folder, root, own, family(Path(own).name), input=output, engine=engine)
                found.setdefault((folder.resolve(), output), run)
            if not outputs.readers and folder.resolve() not in taken:
                file = outputs.unknown[0]
                empty = not (folder / file).stat().st_size
                reason = f'{file} is empty' if empty else f'{file} is no output of a program that is known here'
                run = FoundRun(folder, root, name, status=SKIPPED, reason=reason, input=file, engine='')
                found.setdefault((folder.resolve(), ''), run)
    return list(found.values())


class RunImporter:
    """Import runs that are not in the graph yet.

    :param computer: where the folders lie: this machine.
    :param finder: finds their pseudopotentials.
    :param batch_size: runs that share a process; None: a process for each run.
    :param vacuum_ang: vacuum in the parameters of isolated structures; None: that of each run.
    :param every_step: whether the steps of relaxations and dynamics before the last are imported, too.
    """

    def __init__(
        self,
        computer: orm.Computer,
        finder: PseudopotentialFinder,
        batch_size: int | None = None,
        vacuum_ang: float | None = None,
        every_step: bool = False,
    ) -> None:
        self._computer = computer
        self._finder = finder
        self._batch_size = batch_size
        self._vacuum_ang = vacuum_ang
        self._every_step = every_step
        self._shared = SharedDicts()
        self._known = dict(_known_runs())
        self._remotes: dict[Path, orm.RemoteData] = {}
        self._batches: dict[Path, list[_Batch]] = {}
        self._read_part: tuple[Any, ...] = (None,)

    def take(self, runs: Sequence[FoundRun]) -> Iterator[FoundRun]:
        """Import runs.

        :param runs: from :func:`find_runs`; each is given its status.
        :yields: each run as soon as it is known what became of it.
        """
        twins: dict[str, FoundRun] = {}
        later: list[FoundRun] = []
        for run in runs:
            if run.status == SKIPPED:
                yield run
                continue
            try:
                finished = self._take_folder(run, twins, later)
            except EvaluationError as error:
                _skip(run, error.message)
                finished = [run]
            except NanomlError as error:
                _skip(run, str(error))
                finished = [run]
            except Exception as error:
                _skip(run, f'a fault of this program: {type(error).__name__}: {error}')
                finished = [run]
            yield from (one for one in finished if one.step is None)
        for batches in self._batches.values():
            for batch in batches:
                yield from (one for one in self._finish(batch) if one.step is None)
        for run in later:
            twin = twins[run.digest]
            run.status = PRESENT if twin.status == IMPORTED else twin.status
            run.reason = f'the same as {twin.folder}' if run.status == PRESENT else twin.reason
            run.uuid, run.gap_ev, run.n_atoms = twin.uuid, twin.gap_ev, twin.n_atoms
            yield run

    def _take_folder(self, run: FoundRun, twins: dict[str, FoundRun], later: list[FoundRun]) -> list[FoundRun]:
        """Read a folder; return the runs of which it is known now what became of them."""
        if run.engine != SIESTA:
            return self._take_program_run(run, twins, later)
        folder = open_run_folder(run.folder, run.root, run.input)
        files = folder.files()
        run.digest = digest_of_files(files)
        if run.digest in twins:
            later.append(run)
            return []
        twins[run.digest] = run
        if run.digest in self._known:
            self._recognise(run)
            done = [run]
        else:
            done = self._import(run, folder, files)
        return done + (self._take_steps(run, folder, files) if self._every_step else [])

    def _take_program_run(self, run: FoundRun, twins: dict[str, FoundRun], later: list[FoundRun]) -> list[FoundRun]:
        finished = reader_of(run.engine).read(run.folder, run.input, run.root.resolve())
        keep(finished, run.folder, run.input)
        files = dict(finished.files)
        run.digest = digest_of_files(files)
        if run.digest in twins:
            later.append(run)
            return []
        twins[run.digest] = run
        if run.digest in self._known:
            self._recognise(run)
            return [run]
        run.gap_ev, run.n_atoms, run.reason = finished.label.gap_ev, len(finished.structure), finished.note
        source = source_of(run.engine, finished, self._vacuum_ang)
        pseudos = find_by_md5(source.pseudopotentials)
        origin = 'database' if pseudos else ''
        return self._add_to_batch(run, source, files, pseudos, origin)

    def _take_steps(self, run: FoundRun, folder: RunFolder, files: dict[str, str]) -> list[FoundRun]:
        """Import the steps of a run before the last; return the runs and steps that are finished now."""
        last = read_finished_once(folder, run.digest, self._vacuum_ang)
        done: list[FoundRun] = []
        pseudos: tuple[dict[str, Any], str] | None = None  # looked for once: the whole output is read for them
        for number, finished in read_finished_steps(folder, last).items():
            step = FoundRun(run.folder, run.root, f'{run.name}/step-{number}', run.family, step=number, input=run.input)
            step.digest = _key_of_step(run.digest, number)
            run.steps.append(step)
            if step.digest in self._known:
                self._recognise(step)
            else:
                pseudos = pseudos or self._finder.find(folder)
                done += self._add(step, finished, files, *pseudos)
        return done

    def _recognise(self, run: FoundRun) -> None:
        process, part, row = self._known[run.digest]
        if self._read_part[0] != part:
            self._read_part = part, *_read(*(orm.load_node(pk) for pk in part))
        _, found, made = self._read_part
        run.hash = str(found.hashes[row])
        run.gap_ev = float(made.energies['gap_ev'][row])  # of two rows with one structure, each has its own
        run.reason = str(made.messages[row])
        run.n_atoms = int(found.counts[row])
        run.status, run.uuid, run.part, run.row = PRESENT, process, part, row

    def _import(self, run: FoundRun, folder: RunFolder, files: dict[str, str]) -> list[FoundRun]:
        finished = read_finished_once(folder, run.digest, self._vacuum_ang)
        pseudos, origin = self._finder.find(folder)
        run.gap_ev, run.n_atoms, run.reason = finished.result.label.gap_ev, len(finished.structure), finished.note
        if self._batch_size is None:
            self._import_alone(run, folder, finished, pseudos, origin)
            return [run]
        return self._add(run, finished, files, pseudos, origin)

    def _add(
        self, run: FoundRun, finished: FinishedRun, files: dict[str, str], pseudos: dict[str, Any], origin: str
    ) -> list[FoundRun]:
        """Add a run to a batch; return the runs of the batch if it is full, and was imported."""
        return self._add_to_batch(run, source_of_run(finished, self._finder.md5s(pseudos)), files, pseudos, origin)

    def _add_to_batch(
        self, run: FoundRun, source: LabelSource, files: dict[str, str], pseudos: dict[str, Any], origin: str
    ) -> list[FoundRun]:
        batches = self._batches.setdefault(run.root, [])
        batch = next((batch for batch in batches if batch.source.compatible(source)), None)
        if batch is None:
            batch = _Batch(source)
            batches.append(batch)
        batch.source = batch.source.joined(source)
        batch.pseudos |= pseudos
        batch.runs.append(run)
        batch.entries.append(
            {
                'folder': str(run.folder.relative_to(run.root)),
                'name': run.name,
                'family': run.family,
                'digest': digest_of_files(files),
                'files': files,
                'pseudopotentials': origin,
                **({} if run.step is None else {'step': run.step}),
                **({'input': run.input} if run.input else {}),
            }
        )
        if len(batch.runs) < (self._batch_size or 1):
            return []
        batches.remove(batch)
        return self._finish(batch)

    def _import_alone(
        self, run: FoundRun, folder: RunFolder, finished: FinishedRun, pseudos: dict[str, Any], origin: str
    ) -> None:
        remote = orm.RemoteData(remote_path=str(run.folder.resolve()), computer=self._computer)
        remote.base.extras.set(DIGEST, run.digest)
        inputs = inputs_of_run(folder, finished, pseudos, origin, remote, self._shared)
        failure = ''
        done = False
        try:
            made, node = run_get_node(SiestaCalculation, **inputs)
            done = node.is_finished_ok and LABELS in made
            failure = f'the parser gave no label, exit status {node.exit_status}: {node.exit_message}'
        finally:
            if not done:
                # What is not complete leaves nothing behind; deleting the inputs takes all that was made of them.
                own = [new.pk for new in (remote, inputs['structure']) if new.is_stored]
                delete_nodes(own, dry_run=False)
        if not done:
            _skip(run, failure)
            return
        run.status, run.uuid, run.part = IMPORTED, node.uuid, (inputs['structure'].pk, made[LABELS].pk)
        run.hash = str(StructureSet.from_structures([finished.structure]).hashes[0])

    def _finish(self, batch: _Batch) -> list[FoundRun]:
        """Import a batch in one process; if that fails, each of its runs in one of its own."""
        root = batch.runs[0].root
        if root not in self._remotes:
            self._remotes[root] = orm.RemoteData(remote_path=str(root.resolve()), computer=self._computer).store()
        pseudos = {f'{PSEUDO}{element}': node.store() for element, node in sorted(batch.pseudos.items())}
        engine = batch.runs[0].engine
        function = import_siesta_runs if engine == SIESTA else import_runs
        further = {} if engine == SIESTA else {'engine': engine}
        settings = manifest(batch.entries, self._vacuum_ang, **further)
        made: dict[str, Any] = {}
        try:
            made, process = function.run_get_node(remote_folder=self._remotes[root], runs=settings, **pseudos)
            failure = '' if process.is_finished_ok else str(process.exit_message)
        except Exception as error:
            failure = f'a fault of this program: {type(error).__name__}: {error}'
        if failure:
            if settings.is_stored:
                delete_nodes([settings.pk], dry_run=False)
            return self._finish_apart(batch, failure)
        part = (made[STRUCTURES].pk, made[LABELS].pk)
        for row, (run, digest) in enumerate(zip(batch.runs, made[STRUCTURES].structures.hashes.tolist(), strict=True)):
            run.status, run.uuid, run.part, run.row, run.hash = IMPORTED, process.uuid, part, row, digest
        return batch.runs

    def _finish_apart(self, batch: _Batch, failure: str) -> list[FoundRun]:
        if len(batch.runs) == 1:
            _skip(batch.runs[0], failure)
            return batch.runs
        for run, entry in zip(batch.runs, batch.entries, strict=True):
            self._finish(_Batch(batch.source, batch.pseudos, [run], [entry]))
        return batch.runs


def _key_of_step(digest: str, step: int) -> str:
    """Return the identity of a step of a run."""
    return f'{digest}#{step}'


def _skip(run: FoundRun, reason: str) -> None:
    run.status, run.reason, run.gap_ev, run.n_atoms = SKIPPED, reason, None, None


def _read(structures: Any, labels: LabelSetData) -> tuple[Any, Any]:
    return structure_set(structures), labels.labels


def _known_runs() -> Iterator[tuple[str, tuple[str, tuple[int, int], int]]]:
    """Runs that are in the graph: by digest, their process, the nodes of their structure and label, and the row."""
    alone = orm.QueryBuilder()
    alone.append(orm.RemoteData, filters={'extras': {'has_key': DIGEST}}, project=f'extras.{DIGEST}', tag='folder')
    alone.append(
        orm.CalcJobNode,
        with_incoming='folder',
        filters={'attributes.exit_status': 0, 'process_type': 'aiida.calculations:nanoml.siesta'},
        project='uuid',
        tag='process',
    )
    alone.append(orm.StructureData, with_outgoing='process', edge_filters={'label': 'structure'}, project='id')
    alone.append(LabelSetData, with_incoming='process', edge_filters={'label': LABELS}, project='id')
    for digest, uuid, structure, labels in alone.iterall():
        yield digest, (uuid, (structure, labels), 0)
    batches = orm.QueryBuilder()
    batches.append(
        orm.CalcFunctionNode,
        filters={'attributes.exit_status': 0, 'process_type': {'in': BATCH_IMPORTS}},
        project='uuid',
        tag='process',
    )
    batches.append(orm.Dict, with_outgoing='process', edge_filters={'label': 'runs'}, project='attributes.runs')
    batches.append(StructureSetData, with_incoming='process', edge_filters={'label': STRUCTURES}, project='id')
    batches.append(LabelSetData, with_incoming='process', edge_filters={'label': LABELS}, project='id')
    for uuid, entries, structures, labels in batches.iterall():
        for row, entry in enumerate(entries):
            key = _key_of_step(entry['digest'], entry['step']) if 'step' in entry else entry['digest']
            yield key, (uuid, (structures, labels), row)
