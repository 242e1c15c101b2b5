"""Engine ``siesta``: write the input for each structure, and read what the program left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from aiida_nanoml.engines.base import DFT, Label
from aiida_nanoml.engines.program import (
    ERROR_FILE,
    ProgramEngine,
    PseudopotentialRuntime,
    bundled_files,
    read_file,
)
from aiida_nanoml.engines.siesta.fdf_writing import write_fdf
from aiida_nanoml.engines.siesta.mesh import read_density
from aiida_nanoml.engines.siesta.output import read_run, read_version
from aiida_nanoml.engines.siesta.parameters import SiestaParameters
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.structures import place

if TYPE_CHECKING:
    from aiida_nanoml.densities import Density
    from aiida_nanoml.structures import Structure


class SiestaEngine(ProgramEngine):
    """Density-functional theory with numerical atomic orbitals, as a program that is started for each structure.

    An isolated structure is placed in a box of its own with the vacuum of the parameters, whatever its cell. HOMO and
    LUMO come from the file of levels, the energy is the free energy.

    Source: Soler et al., J. Phys.: Condens. Matter 14, 2745 (2002).
    """

    name = 'siesta'
    title = 'SIESTA'
    theory = DFT
    program = 'SIESTA'
    how_to_install = 'install SIESTA 4.1 or newer, for example from conda-forge'
    url = 'https://siesta-project.org'
    references = ('siesta2002', 'siesta2020')
    properties = frozenset({'energy', 'gap', 'forces', 'stress', 'dos_fermi', 'density'})
    periodic = True
    box_dependent = True
    pseudopotential_formats = ('psf', 'psml')
    single_run = 'nanoml.siesta'
    input_file = 'aiida.fdf'

    Parameters = SiestaParameters

    class Runtime(PseudopotentialRuntime):
        """What SIESTA finds on the machine.

        :param pseudopotentials: psf or psml file of each element. Default: the bundled set.
        """

        executable: str = Field(default='siesta', min_length=1)
        pseudopotentials: dict[str, str] = Field(default_factory=lambda: bundled_files('psf'))

    settings: SiestaParameters

    @property
    def method(self) -> str:
        """Return the names of functional, basis and code."""
        settings = self.settings
        spin = {'none': '', 'polarized': ', spin-polarised'}.get(settings.spin, f', {settings.spin}')
        return f'{settings.xc_functional}-{settings.xc_authors}/{settings.basis_size}{spin} (SIESTA)'

    @property
    def functional(self) -> tuple[str, str]:
        """Kind of exchange and correlation, and its authors."""
        return self.settings.xc_functional, self.settings.xc_authors

    @classmethod
    def read_version(cls, output: str) -> str | None:
        """Return the version in the header of an output."""
        return read_version(output)

    def files(self, structure: Structure) -> dict[str, str]:
        """Return the input."""
        return {self.input_file: write_fdf(structure, self.settings, densities=self.density)}

    def read(self, folder: Path, structure: Structure) -> Label:
        """Read levels, energy, forces and stress, and the density where it is wanted."""
        run = read_run(lambda name: read_file(folder / name), scheduler_stderr=read_file(folder / ERROR_FILE) or '')
        label = run.label
        return replace(label, density=self._density(folder, structure)) if self.density else label

    def _density(self, folder: Path, structure: Structure) -> Density:
        names = 'aiida.RHO', 'aiida.DRHO'
        try:
            rho, delta_rho = ((folder / name).read_bytes() for name in names)
        except OSError as error:
            raise EvaluationError(FailureCode.ENGINE_FAILURE, f'SIESTA left no density: {error.strerror}') from error
        return read_density(rho, delta_rho, place(structure, self.settings.vacuum_ang))
