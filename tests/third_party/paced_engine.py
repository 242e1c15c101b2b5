"""An engine as a third party would register it; it takes its time, hangs, fails or crashes on request.

The number of atoms of a structure decides what happens to it.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from aiida_nanoml.densities import Density
from aiida_nanoml.engines import Engine, EngineParameters, Label
from aiida_nanoml.errors import EvaluationError
from aiida_nanoml.structures import Structure, place


class PacedEngine(Engine):
    """The gap is a tenth of an eV for each atom, the density is flat."""

    name = 'paced'
    title = 'Paced'
    properties = frozenset({'energy', 'gap', 'density'})

    class Parameters(EngineParameters):
        """Numbers of atoms at which something happens."""

        wait_s: float
        hang: list[int]
        hang_once: list[int]
        fail: list[int]
        crash: list[int]
        kill_worker: list[int]
        killed_marker: str
        hung_marker: str
        meet: list[int]
        meeting: str

    settings: Parameters

    @classmethod
    def missing(cls) -> None:
        return None

    @classmethod
    def version(cls) -> str:
        return '1.0'

    def supports(self, number: int) -> bool:
        return number == 1

    def compute(self, structure: Structure) -> Label:
        settings, n_atoms = self.settings, len(structure.numbers)
        hangs = n_atoms in settings.hang
        if n_atoms in settings.hang_once and not Path(settings.hung_marker).exists():
            Path(settings.hung_marker).touch()
            hangs = True
        time.sleep(3600 if hangs else settings.wait_s)
        if n_atoms in settings.meet:
            self.meet(n_atoms)
        if n_atoms in settings.crash:
            os.kill(os.getpid(), signal.SIGKILL)
        if n_atoms in settings.kill_worker and not Path(settings.killed_marker).exists():
            time.sleep(1)  # the worker may still be writing down the rows before
            Path(settings.killed_marker).touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        if n_atoms in settings.fail:
            raise EvaluationError('not_converged', f'{n_atoms} atoms never converge')
        levels = [-5.0] * ((n_atoms + 1) // 2) + [-5.0 + 0.1 * n_atoms]
        label = Label.from_levels(-10.0 * n_atoms, levels, n_atoms)
        return replace(label, density=self.flat_density(structure)) if self.density else label

    def flat_density(self, structure: Structure) -> Density:
        """An electron for each atom, evenly over the box."""
        boxed = place(structure, 4.0)
        free = np.full((2, 3, 4), len(structure) / np.linalg.det(boxed.cell))
        return Density(boxed, free, np.zeros_like(free))

    def meet(self, n_atoms: int) -> None:
        """Wait for all the others that are to meet here."""
        settings = self.settings
        Path(settings.meeting, str(n_atoms)).touch()
        until = time.monotonic() + 120
        while not all(Path(settings.meeting, str(other)).exists() for other in settings.meet):
            if time.monotonic() > until:
                raise EvaluationError('not_converged', f'{n_atoms} atoms met nobody')
            time.sleep(0.05)
