"""Engine ``abinit``: write the input for each structure, and read what the program left."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from aiida_nanoml.engines.abinit.input_writing import write_input
from aiida_nanoml.engines.abinit.levels import levels_of_netcdf, read_eig, read_netcdf
from aiida_nanoml.engines.abinit.output import (
    check_converged,
    check_finished,
    count_electrons,
    read_data_sets,
    read_label,
    read_residuals,
    read_version,
)
from aiida_nanoml.engines.abinit.parameters import AbinitParameters
from aiida_nanoml.engines.abinit.run_levels import join_levels
from aiida_nanoml.engines.base import DFT, Label, Tolerances
from aiida_nanoml.engines.program import (
    ERROR_FILE,
    OUTPUT_FILE,
    ProgramEngine,
    PseudopotentialRuntime,
    bundled_files,
    read_file,
)
from aiida_nanoml.engines.run_text import RunText
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.structures.elements import SYMBOLS

if TYPE_CHECKING:
    from aiida_nanoml.structures import Structure

INPUT = 'aiida.abi'
MAIN_OUTPUT = 'aiida.abo'
LEVELS, LEVELS_NETCDF = 'aiidao_EIG', 'aiidao_EIG.nc'

STEADY_DIEMIX = '0.2'
"""Share of the preconditioned residual in a step with which a self-consistency that oscillates is tried again."""

FULL_BYTES = 1 << 16
"""A disk with less room is full."""


class AbinitEngine(ProgramEngine):
    """Density-functional theory with plane waves, as a program that is started for each structure.

    An isolated structure is placed in a box of its own with the vacuum of the parameters, whatever its cell. The energy
    is the free energy. Levels have all digits where ABINIT was built with netCDF, else five (0.3 meV).

    Source: Gonze et al., Comput. Phys. Commun. 248, 107042 (2020).
    """

    name = 'abinit'
    title = 'ABINIT'
    theory = DFT
    program = 'ABINIT'
    how_to_install = 'install ABINIT 9 or newer, for example the package abinit of Debian or conda-forge'
    url = 'https://www.abinit.org'
    references = ('abinit2020', 'abinit2020overview')
    properties = frozenset({'energy', 'gap', 'forces', 'stress', 'dos_fermi'})
    periodic = True
    box_dependent = True
    pseudopotential_formats = ('psp8',)
    single_run = 'nanoml.program'
    results = (MAIN_OUTPUT, LEVELS, LEVELS_NETCDF)
    restart: ClassVar[Mapping[str, str]] = {'aiidao_DEN': 'aiidai_DEN'}
    input_file = ''
    probe = ('--version',)
    # The mesh lies otherwise in a molecule that moves, and the number of plane waves
    # jumps when a crystal is strained.
    tolerances = Tolerances(gap_ev=1e-2, stress_ev_per_ang3=4e-3)

    Parameters = AbinitParameters

    class Runtime(PseudopotentialRuntime):
        """What ABINIT finds on the machine.

        :param pseudopotentials: psp8 file of each element. Default: the bundled set.
        """

        executable: str = Field(default='abinit', min_length=1)
        pseudopotentials: dict[str, str] = Field(default_factory=lambda: bundled_files('psp8'))

    settings: AbinitParameters

    @property
    def method(self) -> str:
        """Return the names of functional, basis and code."""
        spin = '' if self.settings.spin == 'none' else ', spin-polarised'
        return f'{self.settings.functional}/plane waves {self.settings.cutoff_hartree:g} Ha{spin} (ABINIT)'

    @property
    def functional(self) -> tuple[str, str] | None:
        """Kind of exchange and correlation, and its authors; None of one that pseudopotentials are not made with."""
        kind, authors = self.settings.kind_and_authors
        return (kind, authors) if kind in ('LDA', 'GGA') and authors != 'Teter93' else None

    @classmethod
    def read_version(cls, output: str) -> str | None:
        """Return the version, which is all that the program writes when it is asked for it."""
        words = output.split()
        return words[0] if len(words) == 1 and words[0][:1].isdigit() and '.' in words[0] else None

    def arguments(self) -> list[str]:
        """Return the input, whose name all other files follow."""
        return [INPUT]

    def check(self, structure: Structure) -> None:
        """Check, before anything runs, that a structure can be computed.

        :raises EvaluationError: as programs do; ``'missing_pseudopotential'`` also where parameters of a finished run
            know the names of its pseudopotentials only.
        """
        if self.settings.pseudopotential_names:
            raise EvaluationError(
                FailureCode.MISSING_PSEUDOPOTENTIAL,
                'of the finished run with these parameters, only the names of the pseudopotentials are known; set '
                'pseudopotential_names to {} to compute with others',
            )
        super().check(structure)

    def files(self, structure: Structure) -> dict[str, str]:
        """Return the input."""
        charges = {
            number: self.header(SYMBOLS[number]).valence_charge or 0.0 for number in set(structure.numbers.tolist())
        }
        return {INPUT: write_input(structure, self.settings, charges)}

    def files_alone(
        self, structure: Structure, *, wall_time_s: float | None = None, continued: bool = False
    ) -> dict[str, str]:
        """Return the input, with a density that is kept, and the density to begin with."""
        text = self.files(structure)[INPUT].replace('\nprtden 0\n', '\nprtden 1\n')
        return {INPUT: text + ('irdden 1\n' if continued else '')}

    def version_of_run(self, folder: Path) -> str | None:
        """Return the version in the head of the main output."""
        return read_version(read_file(folder / MAIN_OUTPUT) or '')

    def residuals(self, folder: Path) -> list[float]:
        """Return the squared residual of the potential of each iteration."""
        return read_residuals(read_file(folder / MAIN_OUTPUT) or '')

    def steadier(self) -> dict[str, Any]:
        """Return small steps."""
        return {} if 'diemix' in self.settings.extra else {'extra': self.settings.extra | {'diemix': STEADY_DIEMIX}}

    def read(self, folder: Path, structure: Structure) -> Label:
        """Read energy, levels, forces and stress."""
        output = RunText(MAIN_OUTPUT, read_file(folder / MAIN_OUTPUT) or '')
        try:
            check_finished(output, read_file(folder / OUTPUT_FILE) or '', read_file(folder / ERROR_FILE) or '')
        except EvaluationError as error:
            # What ABINIT does not write on a full disk, it does not miss.
            if error.code == FailureCode.TRUNCATED and shutil.disk_usage(folder).free < FULL_BYTES:
                raise EvaluationError(FailureCode.DISK_FULL, f'the disk is full: {error.message}') from error
            raise
        data_set = read_data_sets(output)[-1]
        check_converged(data_set)
        kinds = sorted(set(structure.numbers.tolist()))
        n_electrons = count_electrons(data_set, [kinds.index(number) + 1 for number in structure.numbers.tolist()])
        printed = read_eig(RunText(LEVELS, read_file(folder / LEVELS) or ''))
        netcdf = folder / LEVELS_NETCDF
        exact = (
            levels_of_netcdf(read_netcdf(netcdf.read_bytes(), LEVELS_NETCDF), LEVELS_NETCDF)
            if netcdf.is_file()
            else None
        )
        if printed is None:
            raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{LEVELS} does not hold the levels')
        levels = join_levels(data_set, printed, LEVELS, exact, LEVELS_NETCDF)
        return read_label(data_set, levels, n_electrons=n_electrons)
