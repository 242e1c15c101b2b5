"""An engine with a reader of its runs, as a third party would register them: its outputs are written by hand.

An output begins with ``JOTTED <version>``; each further line holds a word and its values.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiida_nanoml.engines import EngineParameters, Label
from aiida_nanoml.engines.finished_runs import ProgramRun, RunFolderError, RunReader, md5_of, read_text
from aiida_nanoml.engines.program import ProgramEngine, ProgramRuntime
from aiida_nanoml.errors import FailureCode
from aiida_nanoml.structures import Structure


class JottedEngine(ProgramEngine):
    """Its program does not exist."""

    name = 'jotted'
    title = 'Jotted'
    theory = 'none'
    url = 'https://example.org'
    properties = frozenset({'energy', 'gap'})
    program = 'a pencil'
    how_to_install = 'install a pencil'

    class Parameters(EngineParameters):
        """What decides about a label."""

        vacuum_ang: float
        functional: str

    class Runtime(ProgramRuntime):
        """No program of this name exists."""

        executable: str = 'jotted-pencil'

    def supports(self, number: int) -> bool:
        return True

    def files(self, structure: Structure) -> dict[str, str]:
        return {self.input_file: f'{len(structure)} atoms\n'}

    def read(self, folder: Path, structure: Structure) -> Label:
        return JottedReader().read(folder, 'aiida.out', folder).label

    @classmethod
    def read_version(cls, output: str) -> str | None:
        return None


class JottedReader(RunReader):
    """Reads what was jotted down."""

    name = 'jotted'
    own_folders = ('.scratch',)

    @classmethod
    def recognises(cls, head: str) -> bool:
        return head.startswith('JOTTED ')

    def choose(self, names: list[str]) -> list[str]:
        return [name for name in names if not name.endswith('~')]

    def read(self, folder: Path, name: str, root: Path) -> ProgramRun:
        text = read_text(folder / name, root) or ''
        rows = [line.split() for line in text.splitlines()]
        values = {word: numbers for word, *numbers in rows if word != 'atom'}
        if 'END' not in values:
            raise RunFolderError(FailureCode.TRUNCATED, f'{name} ends before its END')
        atoms = np.array([row[1:] for row in rows if row[0] == 'atom'], dtype=float)
        energy_ev, note = float(values['energy_ev'][0]), ''
        if 'levels_ev' in values:
            label = Label.from_levels(energy_ev, np.array(values['levels_ev'], dtype=float), 2)
        else:
            label, note = Label.from_energy(energy_ev), 'no levels were jotted down: the gap is unknown'
        parameters = {'vacuum_ang': float(values['vacuum_ang'][0]), 'functional': 'LDA-CA'}
        return ProgramRun(
            Structure(atoms[:, 0].astype(np.uint8), atoms[:, 1:]),
            label,
            JottedEngine.Parameters.model_validate(parameters),
            values['JOTTED'][0],
            {name: md5_of(text)},
            dict([values['md5']] if 'md5' in values else []),
            note=note,
        )
