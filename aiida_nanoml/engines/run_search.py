"""Search folders for the outputs of programs, which are recognised by what they hold, and read what is found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aiida_nanoml.engines.base import EngineParameters
from aiida_nanoml.engines.finished_runs import (
    HEAD_BYTES,
    ProgramRun,
    RunFolderError,
    RunReader,
    has_usual_name,
    md5_of,
    open_file,
    read_text,
)
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.registry import RUN_READERS, get_engine
from aiida_nanoml.errors import FailureCode
from aiida_nanoml.structures.compressed import DAMAGED

MOST_FILES = 5000
"""In a folder with more files, the others are not looked at."""

_KEPT_RUNS = 300
_READ_BEFORE: dict[tuple[Path, str, str], ProgramRun] = {}


@dataclass(frozen=True)
class FoundOutputs:
    """Outputs of programs in a folder.

    :param folder: the folder.
    :param readers: name of the reader by the name of each output that stands for a run.
    :param unknown: names of files that are named like outputs, and are none that is known.
    """

    folder: Path
    readers: dict[str, str]
    unknown: list[str]


def find_outputs(root: Path, unreadable: Callable[[OSError], None]) -> Iterator[FoundOutputs]:
    """Find the outputs of programs in a folder and below; links to folders are not followed.

    :param root: the folder to begin with.
    :param unreadable: called with the error of a folder that cannot be looked into.
    :yields: folders that hold such files, in order.
    """
    readers = {name: RUN_READERS.load(name)() for name in RUN_READERS.names()}
    written: dict[Path, tuple[str, ...]] = {}  # endings of folders that a run above writes into
    for folder, folders, names in os.walk(root, onerror=unreadable):
        path = Path(folder)
        found: dict[str, list[str]] = {}
        unknown = []
        for name in sorted(names)[:MOST_FILES]:
            head = _read_head(path / name)
            reader = next((reader for reader in readers if head and readers[reader].recognises(head)), None)
            if reader is not None:
                found.setdefault(reader, []).append(name)
            elif has_usual_name(name):
                unknown.append(name)
        endings = sum((readers[reader].own_folders for reader in found), written.get(path, ()))
        folders[:] = sorted(name for name in folders if not name.lower().endswith(endings))
        written |= {path / name: endings for name in folders}
        outputs = {name: reader for reader in found for name in readers[reader].choose(found[reader])}
        if outputs or unknown:
            yield FoundOutputs(path, outputs, unknown)


def reader_of(engine: str) -> RunReader:
    """Return the reader of the runs of an engine.

    :raises EngineError: there is none.
    """
    return RUN_READERS.load(engine)()


def read_once(engine: str, folder: Path, name: str, root: Path, files: dict[str, str]) -> ProgramRun:
    """Read a run, or return what was read of the same files before; an import reads each run twice.

    :param files: MD5 of its files by name, as they were found.
    :raises RunFolderError: ``'input_changed'``, a file is another one now; or as :meth:`RunReader.read` does.
    """
    for file, md5 in files.items():
        text = read_text(folder / file, root)
        if text is None or md5_of(text) != md5:
            raise RunFolderError(FailureCode.INPUT_CHANGED, f'{file} is not what it was when the import began')
    key = (folder.resolve(), name, ''.join(sorted(files.values())))
    if key not in _READ_BEFORE:
        keep(reader_of(engine).read(folder, name, root), folder, name)
    return _READ_BEFORE[key]


def keep(run: ProgramRun, folder: Path, name: str) -> None:
    """Keep what was read of a run for :func:`read_once`."""
    while len(_READ_BEFORE) >= _KEPT_RUNS:
        del _READ_BEFORE[next(iter(_READ_BEFORE))]
    _READ_BEFORE[folder.resolve(), name, ''.join(sorted(run.files.values()))] = run


def source_of(engine: str, run: ProgramRun, vacuum_ang: float | None = None) -> LabelSource:
    """Return what made the label of a run.

    :param engine: its name.
    :param vacuum_ang: vacuum (Å) in the parameters of an isolated structure; None: that of the run.
    """
    kind = get_engine(engine)
    parameters = run.parameters
    if vacuum_ang is not None and not run.structure.pbc.any():
        values = parameters.model_dump() | {'vacuum_ang': vacuum_ang}
        parameters = kind.Parameters.model_validate(values)
    elements = set(run.structure.symbols)
    return LabelSource(
        engine=engine,
        version=run.version,
        title=kind(parameters).method,
        protocol=_protocol_of(engine, parameters),
        parameters=parameters.model_dump(),
        pseudopotentials={element: md5 for element, md5 in run.pseudopotentials.items() if element in elements},
    )


def _protocol_of(engine: str, parameters: EngineParameters) -> str:
    """Return the name of the protocol that has these parameters; ``custom`` if none has."""
    kind = get_engine(engine)
    return next((name for name in kind.protocols() if kind.parameters(name) == parameters), 'custom')


def _read_head(path: Path) -> str:
    """Return the beginning of a file, unpacked; empty for what cannot be read."""
    try:
        if not path.is_file():
            return ''
        with open_file(path) as handle:
            return handle.read(HEAD_BYTES).decode('utf-8', 'replace')
    except (OSError, *DAMAGED, ValueError):
        return ''
