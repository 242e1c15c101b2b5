"""Parameters of a SIESTA label: what decides about its numbers, and nothing else."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from aiida_nanoml.engines.base import EngineParameters
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG

USUAL_VACUUM_ANG = 10.0
"""Vacuum (Å) in the parameters of a periodic structure, which has none."""


class SiestaDefaults(NamedTuple):
    """What SIESTA 4.1 takes where the input says nothing, in the units of :class:`SiestaParameters`."""

    xc_functional: str = 'LDA'
    xc_authors: str = 'PZ'
    basis_size: str = 'standard'
    mesh_cutoff_ry: float = 300.0
    electronic_temperature_kelvin: float = 300.0
    mixing_weight: float = 0.25
    mixing_history: int = 2
    max_scf_iterations: int = 1000
    coordinates_format: str = 'bohr'


SIESTA_DEFAULTS = SiestaDefaults()

AUTHORS: dict[str, tuple[str, ...]] = {
    'LDA': ('CA', 'PW92'),
    'GGA': ('PW91', 'PBE', 'revPBE', 'RPBE', 'WC', 'BLYP', 'PBEsol', 'AM05'),
    'VDW': ('DRSLL', 'LMKLL', 'KBM', 'C09', 'BH', 'VV'),
}
"""Exchange and correlation by kind and authors, as SIESTA spells them."""

OWNED = {
    'xcfunctional': 'xc_functional',
    'xcauthors': 'xc_authors',
    'paobasissize': 'basis_size',
    'paoenergyshift': 'energy_shift_ev',
    'paosplitnorm': 'split_norm',
    'meshcutoff': 'mesh_cutoff_ry',
    'electronictemperature': 'electronic_temperature_kelvin',
    'scfmixerweight': 'mixing_weight',
    'dmmixingweight': 'mixing_weight',
    'scfmixerhistory': 'mixing_history',
    'dmnumberpulay': 'mixing_history',
    'maxscfiterations': 'max_scf_iterations',
    'scfdmtolerance': 'density_tolerance',
    'dmtolerance': 'density_tolerance',
    'spin': 'spin',
    'spinpolarized': 'spin',
    'noncollinearspin': 'spin',
    'spinorbit': 'spin',
    'kgridmonkhorstpack': 'k_grid',
    'kgridcutoff': 'k_grid',
}
"""Canonical fdf keys that a parameter of :class:`SiestaParameters` represents."""

STRUCTURAL = frozenset(
    {
        'numberofatoms',
        'numberofspecies',
        'chemicalspecieslabel',
        'latticeconstant',
        'latticevectors',
        'latticeparameters',
        'atomiccoordinatesformat',
        'atomiccoordinatesandatomicspecies',
        'atomiccoordinatesorigin',
    }
)
"""Canonical fdf keys that describe the structure."""

_HOUSEKEEPING = re.compile(
    r'systemname|systemlabel|usetreetimer|maxwalltime.*|dmusesavedm|dmallow.*|geometrymustconverge|scfmustconverge'
    r'|scfread(deformation)?chargenetcdf'
    r'|write.*|xml.*|cml.*|save.*|timer.*|timing.*|alloc.*|longoutput|outputstructureonly|atomcoorformatout'
    r'|bandpoints|bandlines|bandlinesscale|wavefunckpoints|wavefunckpointsscale|projecteddensityofstates|pdos.*'
    r'|tshssave|tsdesave|localdensityofstates|lua.*|blocksize|processory|parallel.*|diagparalleloverk|diagmemory|directphi|savememory'
    r'|usesavedata|usestructfile|useparallelscratch|coop.*|sies2arb.*|newzmatrix|debug.*|usenewdiagk'
)

_RELAXING = re.compile(r'md.*|lua.*|geometryconstraints|supercell|zmatrix|zm.*|usestructfile|fc.*')


def canonical(key: str) -> str:
    """Return the canonical spelling of an fdf key: lower case, without ``-``, ``_`` and ``.``."""
    return re.sub(r'[-_.]', '', key).lower()


def is_housekeeping(key: str) -> bool:
    """Return whether a canonical fdf key affects only files, names, run time or the start, and not the label."""
    return _HOUSEKEEPING.fullmatch(key) is not None


def is_relaxing(key: str) -> bool:
    """Return whether a canonical fdf key can make SIESTA leave the given geometry."""
    return _RELAXING.fullmatch(key) is not None


Mesh = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
Supercell = Annotated[list[Annotated[list[int], Field(min_length=3, max_length=3)]], Field(min_length=3, max_length=3)]
Shift = Annotated[list[Annotated[float, Field(gt=-1, lt=1)]], Field(min_length=3, max_length=3)]


MESHES = ('k_grid', 'k_length_ang', 'k_density', 'k_supercell')
"""Parameters that ask for a mesh of k-points, at most one of them."""


class SiestaParameters(EngineParameters):
    """Parameters of the engine ``siesta``. None leaves a value to SIESTA's own default."""

    xc_functional: Literal['LDA', 'GGA', 'VDW'] = Field(description='kind of exchange and correlation')
    xc_authors: str = Field(description='its authors, for example CA or PBE')
    basis_size: Literal['SZ', 'SZP', 'DZ', 'DZP', 'TZ', 'TZP'] = Field(description='size of the numerical basis')
    energy_shift_ev: float | None = Field(gt=0, description='confinement of the orbitals')
    split_norm: float | None = Field(gt=0, lt=1, description='norm of the tail in the split-valence scheme')
    mesh_cutoff_ry: float = Field(gt=0, description='fineness of the real-space grid')
    electronic_temperature_kelvin: float = Field(gt=0, description='temperature of the occupations')
    mixing_weight: float = Field(gt=0, le=1, description='share of the new Hamiltonian in a step')
    mixing_history: int = Field(ge=0, description='steps that the Pulay mixer remembers')
    max_scf_iterations: int = Field(ge=1, description='limit of the self-consistency cycle')
    density_tolerance: float | None = Field(gt=0, description='change of the density matrix that ends the cycle')
    spin: Literal['none', 'polarized', 'non-collinear', 'spin-orbit'] = Field(
        description='whether the two spins may differ'
    )
    k_grid: Mesh | None = Field(description='Monkhorst-Pack mesh along periodic directions; None: Gamma, or another k_')
    k_length_ang: float | None = Field(gt=0, description='mesh of round(length / lattice vector), at least 1')
    k_density: float | None = Field(
        default=None, gt=0, description='k-points times atoms of a mesh that depends on the shape of the cell only'
    )
    k_supercell: Supercell | None = Field(
        default=None, description='mesh that is not diagonal: the supercell that it stands for, in lattice vectors'
    )
    k_shift: Shift = Field(description='displacement of the mesh in units of its step')
    vacuum_ang: float = Field(ge=MINIMUM_VACUUM_ANG, description='distance between the images of an isolated structure')
    extra_fdf: dict[str, str] = Field(description='further fdf input by canonical key; several lines make a block')

    @model_serializer(mode='wrap')
    def _leave_out_newer(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        if self.k_supercell is None:  # as it was before there was one, so that stored labels are found again
            values.pop('k_supercell', None)
        return values

    @field_validator('extra_fdf')
    @classmethod
    def _check_foreign_keys(cls, extra: dict[str, str]) -> dict[str, str]:
        for key, value in extra.items():
            if key != canonical(key) or not re.fullmatch(r'[a-z0-9]+', key):
                raise ValueError(f'write the fdf key {key!r} as {canonical(key)!r}')
            if key in OWNED:
                raise ValueError(f'the fdf key {key!r} belongs to the parameter {OWNED[key]}')
            if key in STRUCTURAL:
                raise ValueError(f'the fdf key {key!r} belongs to the structure')
            if is_relaxing(key):
                raise ValueError(f'the fdf key {key!r} moves atoms: a label belongs to the geometry that is given')
            if is_housekeeping(key):
                raise ValueError(f'the fdf key {key!r} does not change the label; leave it out')
            if '%' in value or '<' in value or not value.strip():
                raise ValueError(f'the value of the fdf key {key!r} is empty or holds one of % <')
        return extra

    @model_validator(mode='after')
    def _check_contradictions(self) -> SiestaParameters:
        if self.xc_authors not in AUTHORS[self.xc_functional]:
            known = ', '.join(AUTHORS[self.xc_functional])
            raise ValueError(f'xc_authors {self.xc_authors!r} are not those of {self.xc_functional}: {known}')
        meshes = {name: getattr(self, name) for name in MESHES}
        given = [name for name, value in meshes.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f'give one of {", ".join(meshes)} and leave the others None; got {", ".join(given)}')
        if not given and any(self.k_shift):
            raise ValueError(f'k_shift displaces a mesh: it needs one of {", ".join(meshes)}')
        return self
