"""Engine ``cp2k``: write the input for each structure, and read what the program left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from aiida_nanoml.engines.base import DFT, Label, Tolerances
from aiida_nanoml.engines.cp2k.input_writing import (
    FORCES_FILE,
    LEVELS_FILE,
    PROJECT,
    STRESS_FILE,
    k_points,
    write_input,
)
from aiida_nanoml.engines.cp2k.labels import make_label
from aiida_nanoml.engines.cp2k.levels import check_levels, join_tables, read_tables
from aiida_nanoml.engines.cp2k.output import (
    check_energies,
    check_finished,
    read_electrons,
    read_energy,
    read_forces,
    read_iterations,
    read_scf_changes,
    read_stress,
    read_version,
    stopped_in_time,
)
from aiida_nanoml.engines.cp2k.parameters import CUSTOM, Cp2kParameters
from aiida_nanoml.engines.program import ERROR_FILE, OUTPUT_FILE, ProgramEngine, ProgramRuntime, read_file
from aiida_nanoml.errors import EvaluationError, FailureCode

if TYPE_CHECKING:
    from aiida_nanoml.structures import Structure


STEADY_WEIGHT = 0.1
"""Mixing weight with which a self-consistency that oscillates is tried again."""


class Cp2kEngine(ProgramEngine):
    """Density-functional theory with Gaussians and plane waves, as a program that is started for each structure.

    An isolated structure is placed in a box of its own with the vacuum of the parameters, whatever its cell. HOMO and
    LUMO come from the file of molecular orbitals, the energy is the free energy. Bases and pseudopotentials are those
    that come with CP2K.

    Source: Kühne et al., J. Chem. Phys. 152, 194103 (2020).
    """

    name = 'cp2k'
    title = 'CP2K'
    theory = DFT
    program = 'CP2K'
    how_to_install = 'install CP2K 2023.1 or newer, for example the package cp2k of Debian'
    url = 'https://www.cp2k.org'
    references = ('cp2k2020', 'vandevondele2005', 'vandevondele2007', 'goedecker1996', 'krack2005')
    properties = frozenset({'energy', 'gap', 'forces', 'stress', 'dos_fermi'})
    periodic = True
    box_dependent = True
    pseudopotential_formats = ()
    single_run = 'nanoml.program'
    results = (LEVELS_FILE, FORCES_FILE, STRESS_FILE)
    restart: ClassVar[Mapping[str, str]] = {f'{PROJECT}-RESTART.*': './'}
    heaviest = 86  # radon: the sets of pseudopotentials end with it
    input_file = ''
    probe = ('--version',)
    # The grid is felt by atoms between its points: with the protocol fast, the forces of HCN sum up to 0.03 eV/Å.
    tolerances = Tolerances(force_ev_per_ang=5e-2)

    Parameters = Cp2kParameters

    class Runtime(ProgramRuntime):
        """What CP2K finds on the machine; where its data lie, it knows itself, or ``CP2K_DATA_DIR`` says."""

        executable: str = Field(default='cp2k', min_length=1)

    settings: Cp2kParameters

    @property
    def method(self) -> str:
        """Return the names of functional, basis and code."""
        settings = self.settings
        spin = '' if settings.spin == 'none' else ', spin-polarised'
        return f'{settings.functional}/{settings.basis_set}{spin} (CP2K)'

    @property
    def functional(self) -> tuple[str, str] | None:
        """Kind of exchange and correlation, and its authors; None of one that only the further input names."""
        return None if self.settings.functional == CUSTOM else self.settings.kind_and_authors

    @classmethod
    def read_version(cls, output: str) -> str | None:
        """Return the version in what CP2K says to ``--version``."""
        return read_version(output)

    def files(self, structure: Structure) -> dict[str, str]:
        """Return the input."""
        return {'aiida.inp': write_input(structure, self.settings)}

    def arguments(self) -> list[str]:
        """Return what follows the program on the command line."""
        return ['-i', 'aiida.inp']

    def files_alone(
        self, structure: Structure, *, wall_time_s: float | None = None, continued: bool = False
    ) -> dict[str, str]:
        """Return the input, with the time after which CP2K stops itself, and orbitals that are kept or begun with."""
        return {
            'aiida.inp': write_input(structure, self.settings, wall_time_s, keeps_orbitals=True, continued=continued)
        }

    def residuals(self, folder: Path) -> list[float]:
        """Return the change of the density matrix in each iteration."""
        return read_scf_changes(read_file(folder / OUTPUT_FILE) or '')

    def can_be_continued(self, folder: Path) -> bool:
        """Return whether CP2K stopped itself, when it writes the orbitals."""
        return stopped_in_time(read_file(folder / OUTPUT_FILE) or '')

    def steadier(self) -> dict[str, Any]:
        """Return a small mixing weight."""
        return {'mixing_weight': STEADY_WEIGHT} if self.settings.mixing_weight > STEADY_WEIGHT else {}

    def read(self, folder: Path, structure: Structure) -> Label:
        """Read energy, levels, forces and stress."""
        text = read_file(folder / OUTPUT_FILE) or ''
        try:
            check_finished(text, read_file(folder / ERROR_FILE) or '')
        except EvaluationError as error:
            if error.code == FailureCode.TRUNCATED and read_file(folder / LEVELS_FILE) == '':
                raise EvaluationError(
                    FailureCode.DISK_FULL, 'the files of the run are cut: the disk was full'
                ) from error
            raise
        n_iterations = read_iterations(text)
        energy = read_energy(text)
        check_energies(text, energy, len(structure.numbers))
        n_electrons = read_electrons(text)
        levels = join_tables(read_tables(_required(folder, LEVELS_FILE)))
        points = k_points(structure, self.settings)
        weights = np.ones(1) if points is None else points[1]
        if levels.levels_ev.shape[:2] != (1 if self.settings.spin == 'none' else 2, len(weights)):
            raise EvaluationError(
                FailureCode.INCONSISTENT,
                f'CP2K left levels of {levels.levels_ev.shape[0]} spins at {levels.levels_ev.shape[1]} k-points, not '
                f'those of {len(weights)} k-points that were asked for',
            )
        check_levels(levels, n_electrons, weights)
        label = make_label(energy, levels, weights, n_electrons, n_iterations)
        return replace(
            label,
            forces_ev_per_ang=read_forces(_required(folder, FORCES_FILE), len(structure.numbers)),
            stress_ev_per_ang3=read_stress(_required(folder, STRESS_FILE)) if structure.pbc.any() else None,
        )


def _required(folder: Path, name: str) -> str:
    text = read_file(folder / name)
    if text is None:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'CP2K left no file {name}; perhaps the disk was full')
    return text
