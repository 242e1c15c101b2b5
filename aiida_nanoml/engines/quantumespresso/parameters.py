"""Parameters of a label of pw.x: what decides about its numbers, and nothing else."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from aiida_nanoml.engines.dft_parameters import DftParameters

FUNCTIONALS = {
    'LDA-CA': ('SLA PZ NOGX NOGC', 'PZ', 'LDA'),
    'LDA-PW92': ('SLA PW NOGX NOGC', 'PW'),
    'GGA-PBE': ('SLA PW PBX PBC', 'SLA PW PBE PBE', 'PBE'),
    'GGA-revPBE': ('SLA PW REVX PBC', 'SLA PW REV PBC', 'REVPBE'),
    'GGA-PBEsol': ('SLA PW PSX PSC', 'PBESOL'),
    'GGA-PW91': ('SLA PW GGX GGC', 'PW91'),
    'GGA-BLYP': ('SLA LYP B88 BLYP', 'B88 LYP B88 BLYP', 'BLYP'),
    'GGA-WC': ('SLA PW WCX PBC', 'WC'),
}
"""Exchange and correlation, and how pw.x spells each: four words of its output, and a short name."""

OWNED = {
    'control.tprnfor': 'the engine',
    'control.tstress': 'the engine',
    'control.calculation': 'the engine',
    'system.ecutwfc': 'cutoff_ry',
    'system.ecutrho': 'density_cutoff_ratio',
    'system.nspin': 'spin',
    'system.nbnd': 'the engine',
    'electrons.conv_thr': 'energy_tolerance_ry',
    'electrons.electron_maxstep': 'max_scf_iterations',
    'electrons.mixing_beta': 'mixing_weight',
}
"""Words of the input that a parameter represents, or that the engine needs."""

OCCUPATIONS = ('system.occupations', 'system.smearing', 'system.degauss')
"""Words of the input that give occupations other than those of Fermi and Dirac."""

_STRUCTURAL = re.compile(r'system\.(?:ibrav|celldm\(\d\)|[abc]|cos[abc]{2}|nat|ntyp|starting_magnetization\(\d+\))')
_PHYSICAL = re.compile(
    r'system\.\w+(?:\(\d+(?:,\d+){0,3}\))?|control\.(?:tefield|dipfield|lelfield|gate|lfcp|lberry)'
    r'|electrons\.(?:efield|efield_cart\(\d\)|tqr|real_space|startingpot)|pseudopotentials|settings|k_points|hubbard'
)
_VALUE = re.compile(r"[\w.,:;+\-*'(){}%@= ]+", re.ASCII)

CARDS = ('k_points', 'hubbard')
"""Cards of the input in ``extra``; their values have several lines."""

UNWRITTEN = ('pseudopotentials', 'settings')
"""What ``extra`` holds of an imported run without being input: names of pseudopotentials whose content is not known,
and lines of an output about settings that have no words here. Runs that differ in them have different sources."""


class QuantumEspressoParameters(DftParameters):
    """Parameters of the engine ``quantumespresso``."""

    cutoff_ry: float = Field(gt=0, description='cutoff of the wave functions')
    density_cutoff_ratio: float = Field(ge=1, description='cutoff of the density divided by that of the wave functions')
    fine_density_cutoff_ratio: float = Field(
        ge=1, description='the same with a partial core, an ultrasoft or a PAW pseudopotential, as of boron'
    )
    energy_tolerance_ry: float = Field(gt=0, description='estimated error of the energy that ends the cycle')
    mixing_weight: float = Field(gt=0, le=1, description='share of the new density in a step')
    starting_magnetization: float = Field(
        ge=-1, le=1, description='spin polarisation of the free atoms with which a polarized run begins'
    )
    extra: dict[str, str] = Field(
        description='further input by namelist and word, for example system.tot_charge, as pw.x reads it'
    )

    @field_validator('extra')
    @classmethod
    def _check_words(cls, extra: dict[str, str]) -> dict[str, str]:
        for word, value in extra.items():
            if word in OWNED:
                raise ValueError(f'the word {word!r} belongs to {OWNED[word]}')
            if _STRUCTURAL.fullmatch(word):
                raise ValueError(f'the word {word!r} belongs to the structure')
            if not _PHYSICAL.fullmatch(word) or word != word.lower():
                raise ValueError(
                    f'{word!r} is no word that changes a label: write it as namelist.word in small letters, for '
                    'example system.tot_charge'
                )
            lines = value.splitlines() if word in CARDS else [value]
            if not lines or not all(map(_VALUE.fullmatch, lines)):
                raise ValueError(f'the value of {word!r} is no value of an input of pw.x')
        return extra

    @model_validator(mode='after')
    def _check_contradictions(self) -> QuantumEspressoParameters:
        if self.functional not in FUNCTIONALS and 'system.input_dft' not in self.extra:
            raise ValueError(
                f'functional {self.functional!r} is none of {", ".join(FUNCTIONALS)}; another one is named by '
                'system.input_dft in extra as well'
            )
        own = any(word in self.extra for word in OCCUPATIONS)
        if own and self.electronic_temperature_kelvin:
            raise ValueError('occupations in extra take electronic_temperature_kelvin 0')
        fixed = not own and not self.electronic_temperature_kelvin
        if fixed and self.spin == 'polarized' and 'system.tot_magnetization' not in self.extra:
            raise ValueError(
                'a polarized run with fixed occupations needs system.tot_magnetization in extra, or an electronic '
                'temperature'
            )
        if any(step not in (0.0, 0.5) for step in self.k_shift):
            raise ValueError('pw.x displaces a mesh by half of a step or not at all: k_shift is 0 or 0.5')
        if 'k_points' in self.extra and (self.k_grid is not None or self.k_density is not None):
            raise ValueError('k_points in extra take k_grid and k_density None')
        return self

    def density_cutoff_ry(self, *, fine: bool) -> float:
        """Return the cutoff of the density in Ry.

        :param fine: whether a pseudopotential has a partial core, or is ultrasoft or PAW.
        """
        ratio = max(self.fine_density_cutoff_ratio, self.density_cutoff_ratio) if fine else self.density_cutoff_ratio
        return self.cutoff_ry * ratio
