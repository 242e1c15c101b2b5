"""Parameters of a CP2K label: what decides about its numbers, and nothing else."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from aiida_nanoml.engines.dft_parameters import DftParameters
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS

CUSTOM = 'CUSTOM'
"""Functional that only the further input spells out."""

FUNCTIONALS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    'LDA-PADE': (('PADE',), ('GTH-PADE', 'GTH-LDA')),
    'GGA-PBE': (('PBE',), ('GTH-PBE',)),
    'GGA-BLYP': (('BLYP',), ('GTH-BLYP',)),
    'GGA-BP': (('BP',), ('GTH-BP',)),
    'GGA-OLYP': (('OLYP',), ('GTH-OLYP',)),
    'GGA-HCTH120': (('HCTH120',), ('GTH-HCTH120',)),
    'GGA-PBEsol': (('PBE', 'PBESOL'), ('GTH-PBESol',)),
}
"""Functionals that Goedecker-Teter-Hutter pseudopotentials were made for: CP2K's name of each, with the
parametrisation where that says more, and the sets of pseudopotentials."""

ALL_ELECTRON = 'ALL'
"""Potential of an atom without pseudopotential; it fits to each functional."""

SOLVERS = ('PERIODIC', 'MT', 'ANALYTIC', 'WAVELET')

_NAME = r'^[A-Za-z0-9][\w.+*()-]{0,79}$'
_PATH = re.compile(r'(?:[A-Z0-9_-]+(?:\[\d{1,3}\])?/)*[A-Z0-9_-]+')

Name = Annotated[str, Field(pattern=_NAME)]


class Cp2kParameters(DftParameters):
    """Parameters of the engine ``cp2k``."""

    functional: Literal[
        'LDA-PADE', 'GGA-PBE', 'GGA-BLYP', 'GGA-BP', 'GGA-OLYP', 'GGA-HCTH120', 'GGA-PBEsol', 'CUSTOM'
    ] = Field(description='exchange and correlation; CUSTOM: what extra_input says')
    pseudopotential_set: Name = Field(description='set of pseudopotentials that CP2K has, for example GTH-PADE')
    basis_set: Name = Field(description='Gaussian basis, for example DZVP-MOLOPT-SR-GTH')
    pseudopotential_by_element: dict[str, Name] = Field(description='elements with another pseudopotential')
    basis_by_element: dict[str, Name] = Field(description='elements with another basis')
    basis_file: Name = Field(description='file of the bases in the data folder of CP2K')
    pseudopotential_file: Name = Field(description='file of the pseudopotentials there')
    cutoff_ry: float = Field(gt=0, description='plane-wave cutoff of the finest grid')
    rel_cutoff_ry: float = Field(gt=0, description='cutoff that decides which grid a Gaussian goes to')
    eps_default: float = Field(gt=0, lt=1, description='threshold of all that Quickstep neglects')
    scf_tolerance: float = Field(gt=0, lt=1, description='change of the density matrix that ends the cycle')
    mixing: Literal['density_matrix', 'broyden'] = Field(description='what is mixed from step to step, and how')
    mixing_weight: float = Field(gt=0, le=1, description='share of the new density in a step')
    added_levels: int = Field(ge=-1, description='empty levels that are computed; -1: all that the basis has')
    initial_moments_bohr: dict[str, float] = Field(description='moment of an atom by element, with which spins begin')
    poisson_solver: Literal['PERIODIC', 'MT', 'ANALYTIC', 'WAVELET'] = Field(
        description='potential of an isolated structure; PERIODIC: that of the box repeated'
    )
    extra_input: dict[str, str] = Field(
        description='further input of FORCE_EVAL by path, for example DFT/XC/VDW_POTENTIAL/POTENTIAL_TYPE'
    )

    @field_validator('pseudopotential_by_element', 'basis_by_element', 'initial_moments_bohr')
    @classmethod
    def _check_elements(cls, values: dict[str, object]) -> dict[str, object]:
        unknown = [element for element in values if element not in ATOMIC_NUMBERS]
        if unknown:
            raise ValueError(f'{", ".join(unknown)}: no chemical symbols')
        return values

    @field_validator('extra_input')
    @classmethod
    def _check_paths(cls, extra: dict[str, str]) -> dict[str, str]:
        for path, value in extra.items():
            if not _PATH.fullmatch(path):
                raise ValueError(f'{path!r} is no path of an input in capitals, such as DFT/CHARGE')
            if not value.isascii() or not value.isprintable() or set(value) & set('&@$#!') or value != value.strip():
                raise ValueError(f'the value of {path} is not a line of plain text without & @ $ # and !')
        return extra

    @model_validator(mode='after')
    def _check_contradictions(self) -> Cp2kParameters:
        if self.functional == CUSTOM:
            if not any(path.startswith('DFT/XC/XC_FUNCTIONAL') for path in self.extra_input):
                raise ValueError('functional CUSTOM needs DFT/XC/XC_FUNCTIONAL in extra_input')
        else:
            fitting = FUNCTIONALS[self.functional][1]
            for name in (self.pseudopotential_set, *self.pseudopotential_by_element.values()):
                if set_of(name) not in (*fitting, ALL_ELECTRON):
                    raise ValueError(
                        f'the pseudopotentials {name} were not made with {self.functional}, which has: '
                        f'{", ".join(fitting)}; choose these, or the functional that they were made with'
                    )
        if self.spin == 'none' and self.initial_moments_bohr:
            raise ValueError('initial_moments_bohr needs spin polarized')
        if self.electronic_temperature_kelvin == 0 and (self.k_grid or self.k_density):
            raise ValueError('k-points need an electronic_temperature_kelvin above 0')
        return self

    @property
    def extra_functional(self) -> bool:
        """Whether the further input says something about the functional, which then has to be spelt out."""
        return any(path.startswith('DFT/XC/XC_FUNCTIONAL') for path in self.extra_input)

    def basis_of(self, element: str) -> str:
        """Return the name of the basis of an element."""
        return self.basis_by_element.get(element, self.basis_set)

    def pseudopotential_of(self, element: str) -> str:
        """Return the name of the pseudopotential of an element."""
        return self.pseudopotential_by_element.get(element, self.pseudopotential_set)


def set_of(pseudopotential: str) -> str:
    """Return the set that a pseudopotential belongs to: its name without the number of electrons."""
    return re.sub(r'-q\d{1,2}$', '', pseudopotential, flags=re.IGNORECASE)
