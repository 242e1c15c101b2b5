"""GFN-xTB tight binding through tblite: the embedded default, some tenths of a second for 60 to 100 atoms."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from aiida_nanoml.engines.base import Engine, EngineParameters, Label
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.units import BOHR_ANG, HARTREE_EV, TBLITE_BOLTZMANN_HARTREE_PER_K

if TYPE_CHECKING:
    from aiida_nanoml.structures.structure_set import Structure

HEAVIEST = 86
"""Both Hamiltonians are parametrised from hydrogen to radon."""


class XtbEngine(Engine):
    """GFN1-xTB or GFN2-xTB of an isolated structure.

    Levels are filled at an electronic temperature, which lets nearly metallic flakes converge; energy and forces are
    those of the free energy.

    Sources: GFN1, Grimme, Bannwarth and Shushkov, J. Chem. Theory Comput. 13, 1989 (2017); GFN2, Bannwarth, Ehlert and
    Grimme, J. Chem. Theory Comput. 15, 1652 (2019).
    """

    name = 'xtb'
    title = 'xTB (tblite)'
    url = 'https://github.com/tblite/tblite'
    theory = 'tight binding'
    properties = frozenset({'energy', 'gap', 'forces'})

    class Parameters(EngineParameters):
        """Parameters of :class:`XtbEngine`."""

        method: Literal['GFN1-xTB', 'GFN2-xTB'] = Field(description='Hamiltonian')
        accuracy: float = Field(gt=0, le=1000, description='tblite accuracy: 1 is usual, smaller is tighter')
        electronic_temperature_kelvin: float = Field(ge=0, description='temperature of the occupations')
        max_iterations: int = Field(ge=1, description='limit of the self-consistency cycle')
        mixer_damping: float = Field(gt=0, le=1, description='share of the new charges in a step')

    settings: Parameters

    @classmethod
    def missing(cls, runtime: Mapping[str, Any] | None = None) -> str | None:
        """Return how to install tblite if it is absent."""
        return None if find_spec('tblite') else 'the engine xtb needs tblite: pip install tblite'

    @classmethod
    def version(cls) -> str:
        """Return the version of tblite."""
        return version('tblite')

    @property
    def method(self) -> str:
        """Return the names of Hamiltonian and code."""
        return f'{self.settings.method} (tblite)'

    def supports(self, number: int) -> bool:
        """Return whether an element is parametrised: H to Rn.

        :param number: atomic number.
        """
        return 1 <= number <= HEAVIEST

    def compute(self, structure: Structure) -> Label:
        """Run one single point; one thread is as fast as two below some hundred atoms.

        :param structure: isolated; positions in Å.
        :raises EvaluationError: ``'not_converged'`` or ``'engine_failure'``.
        """
        from tblite.exceptions import TBLiteRuntimeError
        from tblite.interface import Calculator
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        settings = self.settings
        log: list[str] = []
        with threadpool_limits(limits=self.threads):
            try:
                calculator = Calculator(
                    settings.method,
                    np.asarray(structure.numbers, dtype=np.int32),
                    np.asarray(structure.positions) / BOHR_ANG,
                    color=False,
                    logger=log.append,
                )
                calculator.set('accuracy', settings.accuracy)
                calculator.set('temperature', settings.electronic_temperature_kelvin * TBLITE_BOLTZMANN_HARTREE_PER_K)
                calculator.set('max-iter', settings.max_iterations)
                calculator.set('mixer-damping', settings.mixer_damping)
                result = calculator.singlepoint()
            except TBLiteRuntimeError as error:
                unconverged = 'not converged' in str(error)
                code = FailureCode.NOT_CONVERGED if unconverged else FailureCode.ENGINE_FAILURE
                raise EvaluationError(code, f'{settings.method}: {error}') from error
            return Label.from_levels(
                float(result['energy']) * HARTREE_EV,
                result['orbital-energies'] * HARTREE_EV,
                round(float(np.sum(result['orbital-occupations']))),
                n_iterations=_count_cycles(log),
                forces_ev_per_ang=-result['gradient'] * (HARTREE_EV / BOHR_ANG),
            )


def _count_cycles(log: list[str]) -> int:
    """Count the cycles in tblite's messages, the only place where they stand: each opens with its number."""
    return sum(line.split(maxsplit=1)[0].isdigit() for line in log if line.strip())
