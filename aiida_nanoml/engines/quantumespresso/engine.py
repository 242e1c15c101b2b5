"""Engine ``quantumespresso``: write the input of pw.x for each structure, and read what the program left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from aiida_nanoml.engines.base import DFT, Label, Tolerances
from aiida_nanoml.engines.program import (
    ERROR_FILE,
    OUTPUT_FILE,
    WALL_TIME_SHARE,
    ProgramEngine,
    PseudopotentialRuntime,
    bundled_files,
    read_file,
)
from aiida_nanoml.engines.quantumespresso.input_writing import PREFIX, Species, input_namelists, write_input
from aiida_nanoml.engines.quantumespresso.label import check_agreement, label_of_run
from aiida_nanoml.engines.quantumespresso.output import Output, read_scf_errors, read_version
from aiida_nanoml.engines.quantumespresso.parameters import FUNCTIONALS, UNWRITTEN, QuantumEspressoParameters
from aiida_nanoml.engines.quantumespresso.xml import XmlRun, read_xml
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.structures.elements import SYMBOLS

if TYPE_CHECKING:
    from aiida_nanoml.structures import Structure

XML_FILE = f'{PREFIX}.save/data-file-schema.xml'
CRASH_FILE = 'CRASH'
STEADY_WEIGHT = 0.1
"""Mixing weight with which a self-consistency that oscillates is tried again."""


class QuantumEspressoEngine(ProgramEngine):
    """Density-functional theory with plane waves, as a program that is started for each structure.

    An isolated structure is placed in a box of its own with the vacuum of the parameters, whatever its cell. All
    numbers come from the XML file of the run and are compared with its standard output. The energy is the free energy.

    Source: Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017).
    """

    name = 'quantumespresso'
    title = 'Quantum ESPRESSO'
    theory = DFT
    program = 'pw.x of Quantum ESPRESSO'
    how_to_install = 'install Quantum ESPRESSO 6.5 or newer, for example the package quantum-espresso of Debian'
    url = 'https://www.quantum-espresso.org'
    references = ('quantumespresso2009', 'quantumespresso2017')
    properties = frozenset({'energy', 'gap', 'forces', 'stress', 'dos_fermi'})
    periodic = True
    box_dependent = True
    pseudopotential_formats = ('upf',)
    single_run = 'nanoml.program'
    results = (XML_FILE, CRASH_FILE)
    restart: ClassVar[Mapping[str, str]] = {f'{PREFIX}.save/charge-density.*': f'{PREFIX}.save/'}
    # The mesh lies otherwise in a molecule that moves; the number of plane waves changes with the cell.
    tolerances = Tolerances(gap_ev=1e-2, stress_ev_per_ang3=4e-3)

    Parameters = QuantumEspressoParameters

    class Runtime(PseudopotentialRuntime):
        """What pw.x finds on the machine.

        :param pseudopotentials: upf file of each element. Default: the bundled set.
        """

        executable: str = Field(default='pw.x', min_length=1)
        pseudopotentials: dict[str, str] = Field(default_factory=lambda: bundled_files('upf'))

    settings: QuantumEspressoParameters

    @property
    def method(self) -> str:
        """Return the names of functional, cutoff and code."""
        settings = self.settings
        spin = ', spin-polarised' if settings.spin == 'polarized' else ''
        return f'{settings.functional}/{settings.cutoff_ry:g} Ry{spin} (Quantum ESPRESSO)'

    @property
    def functional(self) -> tuple[str, str] | None:
        """Kind of exchange and correlation, and its authors; None where ``extra`` gives another one than the files."""
        return None if 'system.input_dft' in self.settings.extra else self.settings.kind_and_authors

    @classmethod
    def read_version(cls, output: str) -> str | None:
        """Return the version in the header of an output."""
        return read_version(output)

    def check(self, structure: Structure) -> None:
        """Check, before anything runs, that a structure can be computed.

        :raises EvaluationError: as every such engine does, and ``'wrong_pseudopotential'`` where a pseudopotential asks
            for a higher cutoff.
        """
        foreign = [word for word in UNWRITTEN if word in self.settings.extra]
        if foreign:
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE,
                f'the parameters are those of an imported run: {" and ".join(foreign)} in extra cannot be written',
            )
        super().check(structure)
        headers = {element: self.header(element) for element in dict.fromkeys(structure.symbols)}
        density_cutoff = self.settings.density_cutoff_ry(fine=any(one.fine_density for one in headers.values()))
        for element, header in headers.items():
            for what, asked, given, parameter in (
                ('wave functions', header.cutoff_ry, self.settings.cutoff_ry, 'cutoff_ry'),
                ('density', header.density_cutoff_ry, density_cutoff, 'density_cutoff_ratio'),
            ):
                if asked is not None and given < asked:
                    raise EvaluationError(
                        FailureCode.WRONG_PSEUDOPOTENTIAL,
                        f'the pseudopotential of {element} asks for a cutoff of the {what} of {asked:g} Ry, the '
                        f'parameters give {given:g} Ry; raise {parameter}',
                    )

    def files(self, structure: Structure) -> dict[str, str]:
        """Return the input."""
        return {self.input_file: write_input(structure, self.settings, self._species(structure))}

    def namelists(self, placed: Structure) -> dict[str, dict[str, str]]:
        """Return the namelists of the input of a structure in its box: the value of each word, as pw.x reads it."""
        return input_namelists(placed, self.settings, self._species(placed))

    def files_alone(
        self, structure: Structure, *, wall_time_s: float | None = None, continued: bool = False
    ) -> dict[str, str]:
        """Return the input, with the time after which pw.x stops itself, and the density to begin with."""
        text = self.files(structure)[self.input_file]
        if wall_time_s is not None:
            text = text.replace('&CONTROL\n', f'&CONTROL\n  max_seconds = {WALL_TIME_SHARE * wall_time_s:.0f}\n')
        if continued and 'electrons.startingpot' not in self.settings.extra:
            text = text.replace('&ELECTRONS\n', "&ELECTRONS\n  startingpot = 'file'\n")
        return {self.input_file: text}

    def residuals(self, folder: Path) -> list[float]:
        """Return the estimated error of the energy of each iteration in Ry."""
        return read_scf_errors(read_file(folder / OUTPUT_FILE) or '')

    def can_be_continued(self, folder: Path) -> bool:
        """Return whether pw.x stopped itself, when it writes the density."""
        return 'Maximum CPU time exceeded' in (read_file(folder / OUTPUT_FILE) or '')

    def steadier(self) -> dict[str, Any]:
        """Return a small mixing weight."""
        return {'mixing_weight': STEADY_WEIGHT} if self.settings.mixing_weight > STEADY_WEIGHT else {}

    def read(self, folder: Path, structure: Structure) -> Label:
        """Read energy, levels, forces and stress."""
        output = Output(read_file(folder / OUTPUT_FILE) or '', OUTPUT_FILE)
        messages = '\n'.join(read_file(folder / name) or '' for name in (ERROR_FILE, CRASH_FILE))
        output.check_end(messages)
        text = read_file(folder / XML_FILE)
        if text is None:
            raise EvaluationError(
                FailureCode.TRUNCATED, f'pw.x left no {XML_FILE}: its version is older than 6, or the disk is full'
            )
        run = read_xml(text, XML_FILE)
        self._check_run(run, structure)
        check_agreement(run, output.last_result(), OUTPUT_FILE)
        return label_of_run(run)

    def _species(self, structure: Structure) -> dict[str, Species]:
        species = {}
        for element in dict.fromkeys(structure.symbols):
            header, suffix = self.header(element), self._pseudopotential_files[element].suffix
            species[element] = Species(f'{element}{suffix}', header.valence_charge or 0.0, header.fine_density)
        return species

    def _check_run(self, run: XmlRun, structure: Structure) -> None:
        """Check that the program did what it was asked for."""
        if not run.converged:
            raise EvaluationError(FailureCode.NOT_CONVERGED, f'no self-consistency after {run.n_iterations} iterations')
        if run.scf_error_ry > self.settings.energy_tolerance_ry * 1.001:
            raise EvaluationError(
                FailureCode.NOT_CONVERGED,
                f'the estimated error of the energy is {run.scf_error_ry:.1e} Ry, more than the tolerance of '
                f'{self.settings.energy_tolerance_ry:.1e} Ry',
            )
        names = FUNCTIONALS.get(self.settings.functional)
        if 'system.input_dft' not in self.settings.extra and names and run.functional.upper() not in names:
            raise EvaluationError(
                FailureCode.WRONG_PSEUDOPOTENTIAL,
                f'pw.x took the functional {run.functional} from the pseudopotentials, the parameters say '
                f'{self.settings.functional}',
            )
        elements = [SYMBOLS[number] for number in structure.numbers.tolist()]
        if list(run.last.species) != elements:
            raise EvaluationError(FailureCode.INCONSISTENT, f'{XML_FILE} has other atoms than the structure')
