"""Parameters of an ABINIT label: what decides about its numbers, and nothing else."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from aiida_nanoml.engines.dft_parameters import DftParameters

FUNCTIONALS: dict[str, int] = {
    'LDA-Teter93': 1,
    'LDA-CA': 2,
    'LDA-PW92': 7,
    'GGA-PBE': 11,
    'GGA-revPBE': 14,
    'GGA-RPBE': 15,
    'GGA-WC': 23,
    'GGA-PBEsol': -116133,
    'GGA-PW91': -109134,
    'GGA-BLYP': -106131,
    'HYB-PBE0': 41,
    'HYB-B3LYP': -402,
    'HYB-HSE03': -427,
    'HYB-HSE06': -428,
}
"""``ixc`` by kind and authors; further codes are written as ``IXC-17``, those of libxc as ``LIBXC-101_130``."""

SAME_FUNCTIONALS = {
    -1009: 2,
    -9001: 2,
    -1012: 7,
    -101130: 11,
    -130101: 11,
    -102130: 14,
    -117130: 15,
    -118130: 23,
    -406: 41,
}
"""Codes of libxc, and the code of ABINIT that means the same."""

SPIN_POLARISED = {2: -1009}
"""``ixc`` with spin, where the code of ABINIT knows none; without spin both agree to 1e-12 Ha."""

OWNED = frozenset(
    {
        *('natom', 'ntypat', 'typat', 'znucl', 'acell', 'rprim', 'angdeg', 'xred'),
        *('xcart', 'xangst', 'nband', 'nsppol', 'tsmear', 'ecut', 'ixc', 'ngkpt'),
        *('nstep', 'tolvrs', 'optforces', 'optstress', 'pseudos', 'pp_dirpath', 'ndtset', 'jdtset'),
        *('udtset', 'nsym'),
    }
)
"""Variables that a parameter stands for, or that belong to the structure."""

K_POINTS = frozenset({'kptopt', 'kptrlatt', 'nshiftk', 'shiftk', 'nkpt', 'kpt', 'kptnrm', 'wtk'})
"""Variables of meshes that are not diagonal and of lists of k-points; they take the place of ``k_grid``."""

CRITERIA = ('toldfe', 'toldff', 'tolrff', 'tolwfr')
"""Other ends of the self-consistency than ``tolvrs``."""

_VARIABLE = re.compile(r'[a-z][a-z0-9_]{0,31}')
_VALUE = re.compile(r'[A-Za-z0-9+\-.*/ ]{1,20000}')


def functional_of(ixc: int) -> str:
    """Return the name of the functional that a code of ABINIT stands for."""
    code = SAME_FUNCTIONALS.get(ixc, ixc)
    for name, known in FUNCTIONALS.items():
        if known == code:
            return name
    return f'IXC-{ixc}' if ixc >= 0 else f'LIBXC-{-ixc // 1000:03d}_{-ixc % 1000:03d}'


class AbinitParameters(DftParameters):
    """Parameters of the engine ``abinit``."""

    functional: str = Field(
        pattern=rf'^({"|".join(FUNCTIONALS)}|IXC-\d{{1,3}}|LIBXC-\d{{3}}_\d{{3}})$',
        description='exchange and correlation: one of ' + ', '.join(FUNCTIONALS) + ', or a code of ABINIT or libxc',
    )
    cutoff_hartree: float = Field(gt=0, description='kinetic energy of the plane waves, ecut')
    potential_residual: float | None = Field(
        gt=0, description='squared residual of the potential that ends the self-consistency, tolvrs; None: as in extra'
    )
    extra: dict[str, str] = Field(description='further variables of the input, by name, as they are written there')
    pseudopotential_names: dict[str, str] = Field(
        description='names of the pseudopotentials of a finished run that left nothing else of them; else empty'
    )

    @field_validator('extra')
    @classmethod
    def _check_extra(cls, extra: dict[str, str]) -> dict[str, str]:
        for name, value in extra.items():
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f'{name!r} is no name of a variable: small letters, digits and _')
            if not _VALUE.fullmatch(value) or ' '.join(value.split()) != value:
                raise ValueError(f'the value of {name} has to be one line of numbers and words with single blanks')
            if name in OWNED or (name == 'occopt' and value in ('1', '3')):
                raise ValueError(f'{name} belongs to the structure, or another parameter stands for it')
        return dict(sorted(extra.items()))

    @model_validator(mode='after')
    def _check_criterion(self) -> AbinitParameters:
        criteria = set(CRITERIA) & set(self.extra)
        if len(criteria) + (self.potential_residual is not None) != 1:
            raise ValueError(
                'give potential_residual, or leave it None and give one of toldfe, toldff, tolrff and tolwfr in extra'
            )
        if K_POINTS & set(self.extra) and (self.k_grid, self.k_density) != (None, None):
            raise ValueError('k-points in extra take the place of k_grid and k_density: leave these None')
        return self

    @property
    def ixc(self) -> int:
        """Code of the functional."""
        code = FUNCTIONALS.get(self.functional)
        if code is None:
            kind, _, number = self.functional.partition('-')
            code = int(number) if kind == 'IXC' else -int(number.replace('_', ''))
        return SPIN_POLARISED.get(code, code) if self.spin == 'polarized' else code
