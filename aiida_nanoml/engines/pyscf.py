"""LDA density-functional theory through PySCF: an independent check of other labels, on any machine without SIESTA."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from aiida_nanoml.engines.base import DFT, Engine, EngineParameters, EngineRuntime, Label
from aiida_nanoml.engines.pyscf_density import density_on_mesh
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.units import BOLTZMANN_HARTREE_PER_K, HARTREE_EV

if TYPE_CHECKING:
    from aiida_nanoml.structures.structure_set import Structure

FUNCTIONAL = 'lda,pz'
"""Slater exchange and Perdew and Zunger's parametrisation of Ceperley and Alder, Phys. Rev. B 23, 5048 (1981)."""

PSEUDOPOTENTIAL = 'gth-pade'
"""Separable dual-space pseudopotentials made for LDA: Goedecker, Teter and Hutter, Phys. Rev. B 54, 1703 (1996)."""

FITTING_BASIS = 'def2-universal-jfit'
"""Auxiliary basis of the Coulomb term: Weigend, Phys. Chem. Chem. Phys. 8, 1057 (2006)."""

HEAVIEST_FITTED = 86

LAST_CYCLE_FACTOR = 10
"""So many times the tolerance, the diagonalisation after the last iteration may move the energy: PySCF's own limit."""


class PyscfEngine(Engine):
    """Spin-restricted LDA of an isolated structure: Gaussian basis, frozen cores, density fitting.

    Functional and frozen cores are of the kind of the group's SIESTA labels, so that electron counts and gaps can be
    compared. Levels are filled at an electronic temperature; the energy is the free energy. The three-centre integrals
    are kept for all iterations: about 1.3 GB for 60 atoms in ``gth-dzv``, on disk in PySCF's scratch folder when larger
    than the memory that ``PYSCF_MAX_MEMORY`` (MB) grants.
    """

    name = 'pyscf'
    title = 'LDA (PySCF)'
    url = 'https://pyscf.org'
    theory = DFT
    properties = frozenset({'energy', 'gap', 'density'})

    class Parameters(EngineParameters):
        """Parameters of :class:`PyscfEngine`."""

        basis: Literal['gth-szv', 'gth-dzv', 'gth-dzvp', 'gth-tzvp', 'gth-tzv2p'] = Field(description='Gaussian basis')
        grid_level: int = Field(ge=0, le=9, description="PySCF's quality of the integration grid")
        electronic_temperature_kelvin: float = Field(gt=0, description='temperature of the occupations')
        energy_tolerance_ev: float = Field(gt=0, description='energy change that ends the self-consistency')
        max_iterations: int = Field(ge=1, description='limit of the self-consistency cycle')

    class Runtime(EngineRuntime):
        """Where the density is evaluated, if it is asked for.

        :param mesh_spacing_ang: distance of neighbouring mesh points in Å. At the default, the charge of a molecule of
            30 valence electrons is off by less than 0.001.
        :param mesh_vacuum_ang: least distance between the images of the box in Å.
        """

        mesh_spacing_ang: float = Field(default=0.18, gt=0)
        mesh_vacuum_ang: float = Field(default=10.0, gt=0)

    settings: Parameters
    runtime: Runtime

    @property
    def method(self) -> str:
        """Return the names of functional, basis and code."""
        return f'LDA/{self.settings.basis.upper()} (PySCF)'

    @classmethod
    def missing(cls, runtime: Mapping[str, Any] | None = None) -> str | None:
        """Return how to install PySCF if it is absent."""
        return None if find_spec('pyscf') else 'the engine pyscf needs PySCF: pip install "aiida-nanoml[pyscf]"'

    @classmethod
    def version(cls) -> str:
        """Return the version of PySCF."""
        return version('pyscf')

    def supports(self, number: int) -> bool:
        """Return whether PySCF ships this basis and a pseudopotential for an element.

        :param number: atomic number.
        """
        if not 1 <= number <= HEAVIEST_FITTED:
            return False
        from pyscf.data.elements import ELEMENTS
        from pyscf.gto.basis import load, load_pseudo
        from pyscf.lib.exceptions import BasisNotFoundError

        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Basis may be available in basis-set-exchange')
            try:
                load(self.settings.basis, ELEMENTS[number])
                load_pseudo(PSEUDOPOTENTIAL, ELEMENTS[number])
            except BasisNotFoundError:
                return False
        return True

    def _check_last_cycle(self, energies: list[float], last: float, converged: bool) -> None:
        """Check that the energy stayed where the iterations left it.

        PySCF diagonalises once more after them, and calls the result converged if its gradient is small, however far
        this moved the energy: two free atoms can end in another state.

        :param energies: of each iteration, in hartree.
        :param last: of the diagonalisation after them.
        :raises EvaluationError: ``'not_converged'``.
        """
        change = abs(last - energies[-1]) * HARTREE_EV if converged and energies else 0.0
        if not change <= LAST_CYCLE_FACTOR * self.settings.energy_tolerance_ev:
            raise EvaluationError(
                FailureCode.NOT_CONVERGED,
                f'{self.method}: the diagonalisation after the last iteration moved the energy by {change:.6g} eV, '
                f'more than {LAST_CYCLE_FACTOR} times the tolerance of {self.settings.energy_tolerance_ev:g} eV',
            )

    def compute(self, structure: Structure) -> Label:
        """Run one self-consistency cycle.

        :param structure: isolated; positions in Å.
        :raises EvaluationError: ``'not_converged'`` or ``'engine_failure'``.
        """
        from pyscf import dft, gto, lib
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        settings = self.settings
        with (
            lib.with_omp_threads(self.threads),
            threadpool_limits(limits=self.threads),
            warnings.catch_warnings(),
        ):
            # PySCF's pseudopotential integrals give this harmless notice once per process.
            warnings.filterwarnings('ignore', message=r'Function int1e_r\d_origi_sph not found')
            molecule = gto.M(
                atom=list(zip(structure.numbers.tolist(), structure.positions.tolist(), strict=True)),
                unit='Angstrom',
                basis=settings.basis,
                pseudo=PSEUDOPOTENTIAL,
                spin=None,  # even counts are closed shells, odd ones a half-filled level
                verbose=0,
            )
            field = dft.RKS(molecule, xc=FUNCTIONAL)
            field = field.smearing(settings.electronic_temperature_kelvin * BOLTZMANN_HARTREE_PER_K, 'fermi')
            field = field.density_fit(auxbasis=FITTING_BASIS)
            field.grids.level = settings.grid_level
            field.conv_tol = settings.energy_tolerance_ev / HARTREE_EV
            field.max_cycle = settings.max_iterations
            # Otherwise PySCF computes the three-centre integrals again in every iteration: ten times the run time.
            field.with_df.build()
            energies: list[float] = []
            field.callback = lambda cycle: energies.append(float(cycle['e_tot']))
            field.kernel()
            field.callback = None
            self._check_last_cycle(energies, float(field.e_tot), bool(field.converged))
            if not field.converged:
                raise EvaluationError(
                    FailureCode.NOT_CONVERGED,
                    f'{self.method}: no self-consistency in {settings.max_iterations} iterations',
                )
            label = Label.from_levels(
                float(field.e_free) * HARTREE_EV,
                field.mo_energy * HARTREE_EV,
                int(molecule.nelectron),
                n_iterations=int(field.cycles),
            )
            if not self.density:
                return label
            runtime = self.runtime
            density = density_on_mesh(
                molecule, FUNCTIONAL, field.make_rdm1(), structure, runtime.mesh_spacing_ang, runtime.mesh_vacuum_ang
            )
            return replace(label, density=density)
