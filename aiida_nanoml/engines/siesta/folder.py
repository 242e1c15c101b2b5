"""Folders in which SIESTA was run: finding them, and reading a finished run out of one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from aiida_nanoml.densities import Density
from aiida_nanoml.engines.base import Engine
from aiida_nanoml.engines.finished_runs import RunFolderError, has_usual_name, plain_name, read_bytes, read_text
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.siesta.computed import RunTexts, is_given_elsewhere, read_computed, read_computed_steps
from aiida_nanoml.engines.siesta.engine import SiestaEngine
from aiida_nanoml.engines.siesta.fdf import Fdf, read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import geometry_flag, match_protocol
from aiida_nanoml.engines.siesta.mesh import read_density
from aiida_nanoml.engines.siesta.output import Run, read_run
from aiida_nanoml.engines.siesta.parameters import SiestaParameters, is_housekeeping
from aiida_nanoml.engines.siesta.run_files import (
    choose_output,
    find_outputs,
    is_echo,
    is_input,
    is_output,
    stem,
)
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode, StructureError
from aiida_nanoml.structures import Structure

PSEUDOPOTENTIALS = ('.psf', '.psml')
"""Endings of the pseudopotential files that SIESTA reads, as it looks for them."""

_WELCOME = re.compile(r'^ *\* +WELCOME TO SIESTA +\*', re.MULTILINE)
_HEAD = re.compile(r'^ *Siesta Version *:|^Executable *:', re.MULTILINE)


_UNNAMED = ('MESSAGES', 'time.json')
"""Files that every run writes under the same name: in a folder of several runs, those of the last one."""

_KEPT_RUNS = 300
_READ_BEFORE: dict[tuple[Path, str, float | None], FinishedRun] = {}


@dataclass(frozen=True)
class RunFolder:
    """A folder with the input and the output of one run.

    :param path: the folder.
    :param root: nothing outside this folder is read, whatever links say.
    :param input: name of the fdf file.
    :param output: name of the file with the standard output.
    :param fdf: content of the input, and of the files that it names.
    :param included: names of these files, as the input gives them.
    :param shared: the folder holds other runs, too.
    """

    path: Path
    root: Path
    input: str
    output: str
    fdf: Fdf
    included: tuple[str, ...] = ()
    shared: bool = False
    _texts: dict[str, str | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def prefix(self) -> str:
        """``SystemLabel``, how the names of the other files begin."""
        return self.fdf.get('SystemLabel') or 'siesta'

    @property
    def species(self) -> dict[str, int]:
        """Atomic number by label of the species."""
        rows = [line.split()[:3] for line in self.fdf.get_block('ChemicalSpeciesLabel') or ()]
        return {row[2]: abs(int(row[1])) for row in rows if len(row) == 3 and row[1].lstrip('-').isdigit()}

    def read(self, name: str) -> str | None:
        """Return the text of a file of the run, also of a compressed one, None if there is none.

        An output to which several runs were written is that of the last one.

        :raises RunFolderError: ``'outside'``, a link leads out of the tree; ``'unreadable'``.
        """
        if self.shared and name in _UNNAMED:
            return None
        if name not in self._texts:
            text = read_text(self.path / name, self.root)
            self._texts[name] = _last_run(text) if text is not None and name == self.output else text
        return self._texts[name]

    @property
    def pseudopotentials(self) -> dict[str, str]:
        """Names of the pseudopotential files of the species, by label; those that are gone are left out."""
        found = {}
        for label in self.species:
            for ending in PSEUDOPOTENTIALS:
                if (self.path / f'{label}{ending}').is_file():
                    found[label] = f'{label}{ending}'
        return found

    def files(self) -> dict[str, str]:
        """Return the MD5 of each file that decides about the result, by name.

        The file of k-points follows from the input, and is not among them: runs keep the identity under which they
        were imported before it was read. A compressed file counts as what it holds.
        """
        names = [self.input, self.output, f'{self.prefix}.EIG', f'{self.prefix}.xml', 'MESSAGES', *self.included]
        if is_given_elsewhere(self.fdf):
            names += [f'{self.prefix}.STRUCT_OUT', f'{self.prefix}.XV']
        if self.read(f'{self.prefix}.EIG') is None:
            names += [f'{self.prefix}.bands']
        contents = {name: self.read(name) for name in [*names, *self.pseudopotentials.values()]}
        return {
            plain_name(name): hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
            for name, content in contents.items()
            if content is not None
        }

    def density_files(self) -> dict[str, str]:
        """Return the MD5 of the two files that hold the density, by name.

        :raises RunFolderError: ``'no_density'``; or as :meth:`read` does.
        """
        return {
            name: hashlib.md5(content, usedforsecurity=False).hexdigest()
            for name, content in _read_meshes(self).items()
        }

    def digest(self) -> str:
        """Return the identity of the content of the run, wherever it lies: SHA-256 of :meth:`files`."""
        return digest_of_files(self.files())


def digest_of_files(files: Mapping[str, str]) -> str:
    """Return the identity of the content of a run.

    :param files: of :meth:`RunFolder.files`.
    """
    content = ''.join(f'{name} {md5}\n' for name, md5 in sorted(files.items()))
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class FinishedRun:
    """What a finished run says.

    :param structure: :func:`~aiida_nanoml.engines.siesta.fdf_recognition.read_structure` says what is isolated.
    :param parameters: of the engine.
    :param protocol: whose parameters these are, ``'custom'`` if of none.
    :param result: label, version, time.
    :param note: what the user should know about the label; empty if there is nothing to say.
    """

    structure: Structure
    parameters: SiestaParameters
    protocol: str
    result: Run
    note: str = ''


def find_run_folders(root: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """Find the folders below one that hold an input or an output of SIESTA; links to folders are not followed.

    :param root: the folder to begin with.
    :param unreadable: called with the error of a folder that cannot be looked into.
    """
    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders.sort()
        path = Path(folder)
        if any(map(is_input, names)) or any(has_usual_name(name) and is_output(path / name) for name in names):
            yield path


def open_run_folder(path: Path, root: Path, name: str = '') -> RunFolder:
    """Find the files of a run in a folder.

    The output is recognised by what is in it. Of several files, input and output of one name belong together.

    :param path: the folder.
    :param root: nothing outside this folder is read.
    :param name: of the input, where the folder holds several runs; see :func:`tell_runs_apart`.
    :raises RunFolderError: there is no input or no output, or more than one run.
    """
    inputs, outputs = _read_folder(path, root.resolve())
    if name:
        pairs = _pairs_of_one_name(path, inputs, outputs)
        found = inputs.get(name)
        if name not in pairs or found is None:
            raise RunFolderError(FailureCode.NO_INPUT, f'{name} and an output of this name are not there')
    else:
        name, output = _choose_pair(path, inputs, outputs)
        found, pairs = inputs[name], {name: output}
    if isinstance(found, RunFolderError):
        raise found
    return replace(found, output=pairs[name], shared=len(pairs) > 1)


def tell_runs_apart(path: Path, root: Path) -> list[str]:
    """Return the names of the inputs in a folder of several runs; none where it holds one, or they cannot be told.

    Two runs are told apart where each input has an output of its name, and a ``SystemLabel`` of its own: then all other
    files have one, too.

    :param path: the folder.
    :param root: nothing outside this folder is read.
    """
    try:
        if sum(is_input(entry.name) for entry in path.iterdir()) < 2:
            return []
        inputs, outputs = _read_folder(path, root.resolve())
    except (OSError, RunFolderError):
        return []
    pairs = _pairs_of_one_name(path, inputs, outputs)
    read = [found for name in pairs if isinstance(found := inputs[name], RunFolder)]
    apart = 1 < len(read) == len({found.prefix for found in read}) == len(pairs)
    return list(pairs) if apart else []


def _read_folder(path: Path, root: Path) -> tuple[dict[str, RunFolder | RunFolderError], list[str]]:
    """Return the inputs of a folder, and the names of its outputs."""
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise RunFolderError(FailureCode.UNREADABLE, f'the folder cannot be read: {error.strerror}') from error
    given = [name for name in names if is_input(name) and (plain_name(name) == name or plain_name(name) not in names)]
    if not given:
        raise RunFolderError(FailureCode.NO_INPUT, 'there is no input (.fdf) beside the output')
    outputs = find_outputs(path, names) or _named_outputs(names, given)
    if not outputs:
        raise RunFolderError(
            FailureCode.NO_OUTPUT,
            'there is no output: no file in the folder begins as the standard output of SIESTA does, so the run has '
            'not begun or its output is elsewhere',
        )
    return _read_inputs(path, root, given), outputs


def _pairs_of_one_name(
    path: Path, inputs: Mapping[str, RunFolder | RunFolderError], outputs: Sequence[str]
) -> dict[str, str]:
    """Return the output of each input that has one of its name; of several, the only one that came to its end."""
    pairs = {}
    for name in inputs:
        alike = choose_output(path, [output for output in outputs if stem(output) == stem(name)])
        if len(alike) == 1:
            pairs[name] = alike[0]
    return pairs


def _named_outputs(names: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """Return the outputs that have the name of an input, and do not begin as SIESTA's do: it wrote nothing."""
    return [name for name in names if has_usual_name(name) and stem(name) in map(stem, inputs)]


def _read_inputs(path: Path, root: Path, names: Sequence[str]) -> dict[str, RunFolder | RunFolderError]:
    """Read the inputs of a folder, without those that belong to another one, or that SIESTA wrote itself."""
    read: dict[str, RunFolder | RunFolderError] = {}
    used: set[str] = set()
    for name in names:
        text = read_text(path / name, root) or ''
        if len(names) > 1 and is_echo(text):
            continue
        included: list[str] = []
        try:
            fdf = read_fdf(text, _include(path, root, included))
            read[name] = RunFolder(path, root, name, '', fdf, tuple(included))
        except EngineError as error:
            read[name] = RunFolderError(FailureCode.INPUT_REFUSED, f'{name}: {error}')
        used |= {os.path.normpath(one) for one in included} - {name}
    return {name: found for name, found in read.items() if name not in used} or read


def _include(path: Path, root: Path, included: list[str]) -> Callable[[str], str | None]:
    """Return how the files that an input names are read; their names are added to a list."""

    def read(name: str) -> str | None:
        try:
            text = read_text(path / name, root)
        except RunFolderError as error:
            raise EngineError(f'{name}: {error.message}') from error
        if text is not None and name not in included:
            included.append(name)
        return text

    return read


def _choose_pair(
    path: Path, inputs: Mapping[str, RunFolder | RunFolderError], outputs: Sequence[str]
) -> tuple[str, str]:
    """Return the names of the input and the output that belong together.

    :raises RunFolderError: ``'ambiguous'``.
    """
    alike = [(name, other) for name in inputs for other in outputs if stem(name) == stem(other)]
    pairs = alike or [(name, other) for name in inputs for other in outputs]
    if len(pairs) > 1 and len({name for name, _ in alike}) < 2:
        ended = choose_output(path, [other for _, other in pairs])
        pairs = [pair for pair in pairs if pair[1] in ended]
        if len(pairs) > 1 and not alike:
            pairs = [pair for pair in pairs if _is_repeated(inputs[pair[0]], pair[1])] or pairs
    if len(pairs) > 1:
        raise RunFolderError(
            FailureCode.AMBIGUOUS,
            f'{", ".join(inputs)} and {", ".join(outputs)}: {_why_ambiguous(inputs)}',
        )
    return pairs[0]


def _why_ambiguous(inputs: Mapping[str, RunFolder | RunFolderError]) -> str:
    """Describe what keeps the runs of a folder from being told apart, and what to do."""
    labels = [found.prefix for found in inputs.values() if isinstance(found, RunFolder)]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        return f'several inputs have the SystemLabel {twice}, and so one file of levels: give each run its own folder'
    return 'keep one run in a folder, or name input and output of each run alike'


def _is_repeated(folder: RunFolder | RunFolderError, output: str) -> bool:
    """Return whether an output begins with a copy of an input, or names it."""
    if isinstance(folder, RunFolderError):
        return False
    run = replace(folder, output=output, _texts={})
    text = run.read(output) or ''
    named = re.search(r'^reinit: Reading from (?:file )?(\S+)', text, re.MULTILINE)
    if named is not None and named[1].endswith(folder.input):
        return True
    seen = _read_repeated(run)
    return seen is not None and seen == folder.fdf


def read_finished_run(folder: RunFolder, vacuum_ang: float | None = None) -> FinishedRun:
    """Read a finished run.

    :param folder: from :func:`open_run_folder`.
    :param vacuum_ang: vacuum that the parameters of an isolated structure are given in place of its own, so that runs
        in boxes of one size have the same parameters; the images must be at least so far apart.
    :raises EvaluationError: the run did not finish, it did something else than label a structure, or its structure is
        not physical; the code is one of :func:`~aiida_nanoml.engines.siesta.output.read_run`, or ``'input_refused'``,
        ``'input_changed'``, ``'vacuum'``, or of :meth:`~aiida_nanoml.engines.base.Engine.check`.
    """
    result = read_run(folder.read, prefix=folder.prefix, output=folder.output, imported=True)
    try:
        _check_input_unchanged(folder)
        computed = read_computed(_texts(folder))
    except (EngineError, StructureError) as error:
        raise RunFolderError(FailureCode.INPUT_REFUSED, f'{folder.input}: {error}') from error
    structure, parameters = computed.structure, computed.parameters
    if vacuum_ang is not None and not structure.pbc.any():
        if parameters.vacuum_ang < vacuum_ang:
            raise RunFolderError(
                FailureCode.VACUUM, f'the images are {parameters.vacuum_ang:g} Å apart, less than {vacuum_ang:g} Å'
            )
        parameters = parameters.model_copy(update={'vacuum_ang': vacuum_ang})
    # The engine itself would also look for its own pseudopotentials.
    Engine.check(SiestaEngine(parameters), structure)
    notes = (computed.note, result.note, _describe_unread(folder) if np.isnan(result.label.gap_ev) else '')
    return FinishedRun(structure, parameters, match_protocol(parameters), result, '; '.join(filter(None, notes)))


def _describe_unread(folder: RunFolder) -> str:
    """Describe the file of a run that could give levels by a calculation; empty without one."""
    names = (f'{folder.prefix}.{ending}' for ending in ('nc', 'HSX'))
    found = next((name for name in names if (folder.path / name).is_file()), None)
    return '' if found is None else f'{found} holds the Hamiltonian, but no levels'


def read_finished_once(folder: RunFolder, digest: str, vacuum_ang: float | None = None) -> FinishedRun:
    """Read a finished run as :func:`read_finished_run` does, or return what was read of the same content before.

    An import reads each run to sort it, and again in the process that keeps it.

    :param digest: of the content of the folder.
    """
    key = (folder.path.resolve(), digest, vacuum_ang)
    if key not in _READ_BEFORE:
        while len(_READ_BEFORE) >= _KEPT_RUNS:
            del _READ_BEFORE[next(iter(_READ_BEFORE))]
        _READ_BEFORE[key] = read_finished_run(folder, vacuum_ang)
    return _READ_BEFORE[key]


def read_finished_steps(folder: RunFolder, last: FinishedRun) -> dict[int, FinishedRun]:
    """Read the steps of a relaxation or a dynamics run before the last one, with energy and forces only.

    Steps that are not printed, did not converge, or are not physical are left out.

    :param folder: from :func:`open_run_folder`.
    :param last: the run itself; its parameters count for all steps.
    :returns: by the number of the step, from 0.
    :raises EvaluationError: a number of a step is not what it should be.
    """
    n_electrons, open_shell = last.result.label.n_electrons, last.result.label.open_shell
    steps = {}
    for number, (structure, label) in read_computed_steps(_texts(folder)).items():
        try:
            Engine.check(SiestaEngine(last.parameters), structure)
        except EvaluationError:
            continue
        counted = replace(label, n_electrons=n_electrons, open_shell=open_shell)
        result = replace(last.result, label=counted, wall_s=float('nan'), scf_s=float('nan'), note='')
        steps[number] = replace(last, structure=structure, result=result, note=f'step {number} of a run')
    return steps


def _texts(folder: RunFolder) -> RunTexts:
    return RunTexts(folder.fdf, folder.input, folder.output, folder.read)


def read_run_density(folder: RunFolder, structure: Structure) -> Density:
    """Read the density of a run, which ``SaveRho`` and ``SaveDeltaRho`` leave.

    :param folder: from :func:`open_run_folder`.
    :param structure: of the run, in its box.
    :raises RunFolderError: ``'no_density'``, the run did not save it.
    :raises DensityError: the files are damaged, or belong to another run.
    """
    (first, rho), (second, delta_rho) = _read_meshes(folder).items()
    return read_density(rho, delta_rho, structure, (first, second))


def source_of_run(run: FinishedRun, pseudopotentials: Mapping[str, str]) -> LabelSource:
    """Return what made the label of a run.

    :param pseudopotentials: MD5 by element.
    """
    elements = set(run.structure.symbols)
    return LabelSource(
        engine=SiestaEngine.name,
        version=run.result.version,
        title=SiestaEngine(run.parameters).method,
        protocol=run.protocol,
        parameters=run.parameters.model_dump(),
        pseudopotentials={element: md5 for element, md5 in pseudopotentials.items() if element in elements},
    )


def _read_repeated(folder: RunFolder) -> Fdf | None:
    """Read the input as SIESTA saw it, with which the outputs of many versions begin; None if this one does not."""
    text = folder.read(folder.output) or ''
    dump = re.search(r'\*+ Dump of input data file \*+\n(.*?)\n\*+ End of input data file', text, re.DOTALL)
    return None if dump is None else read_fdf(dump[1], _include(folder.path, folder.root, []))


def _check_input_unchanged(folder: RunFolder) -> None:
    """Check that the output belongs to the input.

    :raises RunFolderError: ``'input_changed'``.
    """
    seen = _read_repeated(folder)
    if seen is not None and seen != folder.fdf:
        # What is written, and with which density a run begins, may be changed for the next one.
        keys = [
            key
            for ours, theirs in ((folder.fdf.values, seen.values), (folder.fdf.blocks, seen.blocks))
            for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key) and not is_housekeeping(key)
        ]
        flags = geometry_flag(folder.fdf), geometry_flag(seen)
        keys = keys or [flag for flag in flags if flag is not None and flags[0] != flags[1]]
        if keys:
            raise RunFolderError(
                FailureCode.INPUT_CHANGED,
                f'{folder.input} is not the input of {folder.output}: {", ".join(keys[:3])} differs',
            )


def _last_run(text: str) -> str:
    """Return the output of the last of several runs that were written to one file."""
    welcomes = [match.start() for match in _WELCOME.finditer(text)]
    if len(welcomes) < 2:
        return text
    heads = [match.start() for match in _HEAD.finditer(text, welcomes[-2], welcomes[-1])]
    return text[heads[-1] :] if heads else text[welcomes[-1] :]


def _read_meshes(folder: RunFolder) -> dict[str, bytes]:
    found = {}
    for name in (f'{folder.prefix}.RHO', f'{folder.prefix}.DRHO'):
        content = read_bytes(folder.path / name, folder.root)
        if content is None:
            raise RunFolderError(
                FailureCode.NO_DENSITY,
                f'there is no {name}: the run did not save its density (SaveRho T, SaveDeltaRho T)',
            )
        found[name] = content
    return found
