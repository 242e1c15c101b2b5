"""Calculation job to run SIESTA for one structure, with a label as output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida_siesta.calculations.siesta import SiestaCalculation as AiidaSiestaCalculation
from aiida_siesta.calculations.siesta import validate_inputs as validate_siesta_inputs
from aiida_siesta.utils.tkdict import FDFDict

from aiida_nanoml.calculations.base import define_run_failures, optional_value, validate_code
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines.pseudopotentials import PseudopotentialHeader, read_header
from aiida_nanoml.engines.siesta.fdf import Fdf
from aiida_nanoml.engines.siesta.fdf_recognition import read_mesh_settings
from aiida_nanoml.engines.siesta.mesh import (
    DEFORMATION_FILE,
    DEFORMATION_KEY,
    check_same_place,
    choose_mesh,
    write_start,
)
from aiida_nanoml.engines.siesta.parameters import SIESTA_DEFAULTS
from aiida_nanoml.errors import DensityError, EvaluationError, NanomlError
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG, measure_vacuum

LEVEL_ENDINGS = ('EIG', 'KP')
"""Endings of the files with the levels, and with the k-points that they belong to."""


class SiestaCalculation(AiidaSiestaCalculation):  # type: ignore[misc]
    """Run SIESTA for one structure: the calculation of aiida-siesta, with a label as output.

    Beyond aiida-siesta it retrieves the levels and k-points, gives every failure an exit code, refuses unphysical
    structures, which SIESTA would run, and can begin the self-consistency with a given density. Files of basis orbitals
    (``*.ion.xml``) become nodes only if ``settings`` ask for them with ``ADDITIONAL_RETRIEVE_LIST``.
    """

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Extend aiida-siesta's inputs, outputs and exit codes."""
        super().define(spec)
        spec.inputs['code'].validator = validate_code
        spec.inputs['code'].required = False  # a finished run is imported without one
        spec.input(
            'source',
            valid_type=orm.Dict,
            required=False,
            validator=validate_source,
            help='`protocol` and `parameters` that the label is to carry; derived from the input file if absent.',
        )
        spec.input(
            'start',
            valid_type=DensitySetData,
            required=False,
            help='Densities, one of them of this structure in this box, to begin the self-consistency with in place of '
            'free atoms; SIESTA must be built with NetCDF.',
        )
        options = spec.inputs['metadata']['options']
        options['parser_name'].default = 'nanoml.siesta'
        options['max_wallclock_seconds'].default = 3600  # aiida-siesta writes it into the input, and requires it
        options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        spec.inputs.validator = validate_inputs
        spec.output(
            'labels',
            valid_type=LabelSetData,
            required=False,
            help='The label of the structure in one row, with levels, forces and stress; also that of a failed run.',
        )
        define_run_failures(spec)
        spec.exit_code(510, 'ERROR_PSEUDOPOTENTIAL', message='A pseudopotential cannot be used: {reason}')
        spec.exit_code(520, 'ERROR_BASIS', message='The basis cannot be made: {reason}')
        spec.exit_code(530, 'ERROR_START', message='The density to begin with was not used: {reason}')

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the input as aiida-siesta does, and the density to begin with; a finished run is only retrieved.

        Levels and k-points are retrieved, too.
        """
        options = self.inputs.metadata.options
        if 'remote_folder' in self.inputs:
            calcinfo = CalcInfo()
            calcinfo.retrieve_list = [
                options.output_filename,
                *(f'{options.prefix}.{ending}' for ending in ('xml', *LEVEL_ENDINGS)),
                *(self._MESSAGES_FILE, self._JSON_FILE, self._BASIS_ENTHALPY_FILE),
            ]
            return calcinfo
        calcinfo = super().prepare_for_submission(folder)
        requested = optional_value(self.inputs, 'settings', {})
        additional = {key.upper(): value for key, value in requested.items()}.get('ADDITIONAL_RETRIEVE_LIST', [])
        kept = [name for name in calcinfo.retrieve_list if name != '*.ion.xml' or name in additional]
        calcinfo.retrieve_list = [*kept, *(f'{options.prefix}.{ending}' for ending in LEVEL_ENDINGS)]
        if 'start' in self.inputs:
            structure = structure_of_inputs(self.inputs.structure)
            density = self.inputs.start.density(row_of_start(self.inputs.start, structure))
            content = write_start(density, structure, *mesh_settings(self.inputs.parameters))
            with folder.open(DEFORMATION_FILE, 'wb') as handle:
                handle.write(content)
            with folder.open(options.input_filename, 'a', encoding='utf-8') as handle:
                handle.write(f'{DEFORMATION_KEY} T\n')
            # Not stored again: it can be rebuilt from the input density.
            calcinfo.provenance_exclude_list = [*(calcinfo.provenance_exclude_list or []), DEFORMATION_FILE]
        return calcinfo


def structure_of_inputs(structure: orm.StructureData) -> Structure:
    """Return the structure of a node.

    :raises NanomlError: the structure is not physical.
    """
    from aiida_nanoml.calculations.functions.siesta import structure_of_node

    found = structure_of_node(structure)
    StructureSet.from_structures([found])
    return found


def row_of_start(start: DensitySetData, structure: Structure) -> int:
    """Return the row of the density of a structure.

    :raises DensityError: there is none, or the structure is in another box or at another place.
    """
    structures = start.structures
    (rows,) = np.nonzero(structures.hashes == StructureSet.from_structures([structure]).hashes[0])
    if not len(rows):
        raise DensityError(f'none of the {len(structures)} densities is of this structure')
    row = int(rows[0])
    check_same_place(structures[row], structure)
    return row


def mesh_settings(parameters: orm.Dict) -> tuple[float, int]:
    """Return the mesh cutoff in Ry and the sub-points of a run that begins with a given density.

    :param parameters: fdf keys.
    :raises EngineError: a run with these parameters cannot begin with a given density.
    """
    return read_mesh_settings(Fdf.from_keywords(parameters.get_dict()))


def validate_source(source: orm.Dict, _: Any) -> str | None:
    """Check that the source has the two keys that are stored with a label."""
    from aiida_nanoml.engines.siesta.parameters import SiestaParameters

    content = source.get_dict()
    if set(content) != {'protocol', 'parameters'} or not isinstance(content['protocol'], str):
        return 'source needs exactly the keys `protocol`, a text, and `parameters`, a mapping'
    try:
        SiestaParameters.model_validate(content['parameters'])
    except ValueError as error:
        return f'source: {error}'
    return None


def validate_inputs(inputs: Mapping[str, Any], port: Any) -> str | None:
    """Check structure, pseudopotentials and density to begin with, before anything is submitted."""
    if 'structure' not in inputs or 'parameters' not in inputs:
        return None  # the ports themselves complain
    return validate_run(inputs, inputs.get('pseudos') or {}) or validate_siesta_inputs(inputs, port)


def validate_run(inputs: Mapping[str, Any], pseudos: Mapping[str, Any]) -> str | None:
    """Check the inputs of a run of SIESTA that aiida-siesta does not check.

    :param inputs: those of the calculation or the workflow, with ``structure`` and ``parameters``.
    :param pseudos: pseudopotentials by kind name.
    """
    text = validate_structure(inputs['structure'])
    if text is None and not inputs.get('ions'):
        text = validate_pseudos(inputs['structure'], pseudos, inputs['parameters'], inputs.get('basis'))
    if text is None and 'start' in inputs:
        text = validate_start(inputs['start'], inputs['structure'], inputs['parameters'])
    return text


def validate_structure(node: orm.StructureData) -> str | None:
    """Check that a structure is physical: SIESTA completes a job even if two atoms coincide.

    :param node: the structure as it is sent to SIESTA.
    """
    from aiida_nanoml.engines.base import check_atom_distances

    alchemical = [kind.name for kind in node.kinds if len(kind.symbols) > 1 or kind.has_vacancies]
    if alchemical:
        return f'the kind {alchemical[0]} is a mixture of elements or has vacancies; SIESTA needs one element a kind'
    try:
        structure = structure_of_inputs(node)
        check_atom_distances(structure)
        vacuum = measure_vacuum(structure)
    except NanomlError as error:
        return str(error)
    except EvaluationError as error:
        return f'{error.message}: nearer than atoms can be'
    for axis in range(3):
        if not structure.pbc[axis] and vacuum[axis] < MINIMUM_VACUUM_ANG:
            return (
                f'the structure is not periodic along lattice vector {axis + 1}, but there its images are only '
                f'{vacuum[axis]:.2f} Å apart; less than {MINIMUM_VACUUM_ANG:g} Å is no vacuum: put it into a larger '
                'box (calculation function nanoml.place_structures), or declare it periodic'
            )
    return None


def validate_start(start: DensitySetData, structure: orm.StructureData, parameters: orm.Dict) -> str | None:
    """Check that a run can begin with one of these densities.

    :param structure: as it is sent to SIESTA.
    :param parameters: fdf keys.
    """
    try:
        found = structure_of_inputs(structure)
        row_of_start(start, found)
        choose_mesh(found.cell, *mesh_settings(parameters))
    except NanomlError as error:
        return f'start: {error}'
    return None


def validate_pseudos(
    structure: orm.StructureData, pseudos: Mapping[str, Any], parameters: orm.Dict, basis: orm.Dict | None
) -> str | None:
    """Check that each kind has a pseudopotential of its element and of the functional of the run.

    :param structure: as it is sent to SIESTA.
    :param pseudos: node by kind name; those of floating sites included.
    :param parameters: fdf keys; they name the functional.
    :param basis: may name floating sites.
    """
    floating = (basis.get_dict() if basis is not None else {}).get('floating_sites') or []
    symbols = {kind.name: kind.symbol for kind in structure.kinds}
    symbols |= {site['name']: site['symbols'] for site in floating}
    used = {name: pseudo for name, pseudo in pseudos.items() if name in symbols}  # aiida-siesta checks the others
    return (
        _validate_no_pseudo_missing(symbols, pseudos)
        or _validate_elements(symbols, used)
        or _validate_functionals(parameters, used)
    )


def _validate_no_pseudo_missing(symbols: Mapping[str, str], pseudos: Mapping[str, Any]) -> str | None:
    missing = sorted(set(symbols) - set(pseudos))
    if not missing:
        return None
    return f'there is no pseudopotential for {", ".join(missing)}; there are: {", ".join(sorted(pseudos)) or "none"}'


def _validate_elements(symbols: Mapping[str, str], pseudos: Mapping[str, Any]) -> str | None:
    for name, pseudo in pseudos.items():
        if pseudo.element != symbols[name]:
            return (
                f'the pseudopotential {pseudo.filename} is for {pseudo.element}, but the kind {name} is {symbols[name]}'
            )
    return None


def _validate_functionals(parameters: orm.Dict, pseudos: Mapping[str, Any]) -> str | None:
    settings = FDFDict(parameters.get_dict())
    kind = str(settings.get('xc-functional', SIESTA_DEFAULTS.xc_functional))
    authors = str(settings.get('xc-authors', SIESTA_DEFAULTS.xc_authors))
    run = (kind.upper().replace('LSD', 'LDA'), authors.upper().replace('PZ', 'CA'))
    for name, pseudo in pseudos.items():
        header = _header_of_pseudo(pseudo)
        if header is None or header.functional is None:
            continue
        if (header.functional[0].upper(), header.functional[1].upper()) != run:
            return (
                f'the pseudopotential {pseudo.filename} of {name} was made with {"-".join(header.functional)}, but the '
                f'parameters say {"-".join(run)}: mixed functionals mean nothing'
            )
    return None


_HEADERS: dict[str, PseudopotentialHeader | None] = {}


def _header_of_pseudo(pseudo: Any) -> PseudopotentialHeader | None:
    """Return the header of a pseudopotential; a campaign checks the same few files thousands of times."""
    if pseudo.md5 not in _HEADERS:
        _HEADERS[pseudo.md5] = read_header(pseudo.get_content(mode='rb').decode('utf-8', errors='replace'))
    return _HEADERS[pseudo.md5]
