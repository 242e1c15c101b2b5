"""Structure and parameters of a finished run of ABINIT, from the variables that it echoes."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.abinit.output import DataSet
from aiida_nanoml.engines.abinit.parameters import CRITERIA, K_POINTS, OWNED, AbinitParameters, functional_of
from aiida_nanoml.engines.finished_runs import RunFolderError
from aiida_nanoml.engines.run_text import fortran_number
from aiida_nanoml.errors import FailureCode
from aiida_nanoml.structures import Structure
from aiida_nanoml.structures.elements import SYMBOLS
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG, gather_atoms, measure_vacuum
from aiida_nanoml.units import BOHR_ANG, BOLTZMANN_HARTREE_PER_K

USUAL_VACUUM_ANG = 10.0
"""Vacuum (Å) in the parameters of a periodic structure, which has none."""

DEFAULT_STEPS = 30
DEFAULT_SMEARING_HARTREE = 0.01

_SAME_PLACE_ANG = 1e-5
_PRINTED_ANG = 1e-6
_NOISE = 1e-8
_IXC = re.compile(r'\bixc ?= {0,5}(-?\d{1,7})')
_PSPXC = re.compile(r'^[- ] {1,8}\d{1,2} {1,8}(-?\d{1,7})(?: {1,9}\S{1,20}){3,4} {1,9}pspcod,pspxc', re.MULTILINE)
_END_POSITIONS = re.compile(r'^ cartesian coordinates \(angstrom\) at end:[ \t]*\n', re.MULTILINE)

_HOUSEKEEPING = re.compile(
    r'prt\w*|ecuteps|ecutsigx|ecutwfn|nfreq\w*|freq\w*|gw\w*|bs_\w*|nkptgw|kptgw|ppm\w*|mbpt_sciss|mdf_epsinf|zcut|'
    r'inclvkb|symsigma|symchi|spmeth|nomegas\w*|omegas\w*|awtr|rf\w*|qpt\w*|dipdip|iprcch|get\w*|ird\w*|np\w*|paral\w*|chk\w*|iomode\w*|accesswff|autoparal|max_ncpus|mem_test|timopt|'
    r'timlim|cpu\w*|fftalg|fftcache|fft_opt_lob|ngfft\w*|nfft\w*|istwfk|mkmem|mkqmem|mk1mem|mffmem|mqgrid\w*|'
    r'nloalg|wfoptalg|use_gemm\w*|use_gpu\w*|use_slk|useylm|bandpp|ortalg|nline|nnsclo|nbdbuf|nbdblock|iscf|'
    r'iprcel|iprcfc|iprctfvw|diecut|diegap|dielam|dielng|diemac|diemix\w*|densfor_pred|npulayit|isecur|'
    r'optforces|optstress|optcell|ionmov|ntime|dtion|tolmx\w|tolsym|strprecon|strfact|strtarget|restartxf|'
    r'delayperm|vis|noseinert|bmass|mdtemp|mdwall|nnos|qmass|friction|signperm|natfix\w*|iatfix\w*|natcon|'
    r'nconeq|iatcon|wtatcon|geoopt|moldyn|hist\w*|nsym|symrel|tnons|symafm|spgroup\w*|spgaxor|spgorig|brvltt|'
    r'genafm|ptgroupma|symmorphi|maxnsym|nband|bdgw|kptbounds|kptrlen|kptrlatt_orig|nshiftk_orig|shiftk_orig|'
    r'kptns\w*|ngkpt|nkpath|ndivk|ndivsm|kssform|amu|etotal|fcart|strten|occ|spinat|magnetization|jdtset|'
    r'ndtset|udtset|outdata_prefix|indata_prefix|tmpdata_prefix|output_file|pseudos|pp_dirpath|structure|natrd|'
    r'optdriver|enunit|localrdwf|gpu\w*|ratsph|nberry|bdberry|kberry|iatsph|natsph|vprtrb|prepanl|'
    r'lotf_\w*|vel\w*|dynimage|nimage|ntimimage|tolimg|mep_\w*|fermie_nest|wtq|nqpt|gwmem|xclevel|mgfft|'
    r'delta\w*|dosdeltae|builtintest|write_files|expert_user|useria|userib|useric|userid|userie|userra|userrb|'
    r'userrc|userrd|userre|mpi\w*|cachesize|slk_rankpp|pw_unbal_thresh|invol_blk_sliced|wfmix|prtcif|lenstr|'
    r'vdwtmp|npwarr|mpw|mgfftdg|gwpara'
)
"""Variables that only affect files, run time, the way to the same end, or geometries that are read from the output."""


_KEPT = (
    *(
        'natom',
        'ntypat',
        'typat',
        'znucl',
        'ecut',
        'ixc',
        'nsppol',
        'nspinor',
        'nspden',
        'occopt',
        'tsmear',
        'charge',
        'nband',
    ),
    *(
        'nkpt',
        'kpt',
        'kptopt',
        'kptrlatt',
        'nshiftk',
        'shiftk',
        'tolvrs',
        'toldfe',
        'toldff',
        'tolrff',
        'tolwfr',
        'nstep',
    ),
)
"""Variables that a run does not change: they are echoed twice."""

_VECTORS = re.compile(r'^ R\(([123])\)= ?(.{11})(.{11})(.{11})', re.MULTILINE)


def check_echoes(data_set: DataSet) -> None:
    """Check that the variables of a data set are the same before and after the computation.

    :raises RunFolderError: ``'inconsistent'``, one is not.
    """
    if data_set.after is None:
        return
    number = data_set.number
    # ABINIT moves atoms onto symmetric places, and a cell only where optcell says so.
    for name in (*_KEPT, *(() if data_set.before.integer('optcell', number, 0) else ('acell', 'rprim'))):
        first, last = (variables.words(name, number) for variables in (data_set.before, data_set.after))
        if first != last and not _are_close(first, last):
            raise RunFolderError(
                FailureCode.INCONSISTENT,
                f'{data_set.text.name}: {name} is not the same before and after the computation',
            )


def _are_close(first: list[str] | None, last: list[str] | None) -> bool:
    """Return whether words stand for the same numbers, to what is noise in printed ones."""
    if first is None or last is None or len(first) != len(last):
        return False
    pairs = [(fortran_number(one), fortran_number(other)) for one, other in zip(first, last, strict=True)]
    return all(
        one is not None and other is not None and abs(one - other) <= _NOISE * max(1.0, abs(one))
        for one, other in pairs
    )


def read_structure(data_set: DataSet) -> Structure:
    """Read the structure that the energy of a data set belongs to, in Å.

    It is isolated where vacuum is all around and Gamma the only k-point.

    :raises RunFolderError: mixed or unknown kinds of atoms, or two places of the output that contradict each other.
    :raises StructureError: a cell without volume.
    """
    number = data_set.number
    variables = data_set.after or data_set.before
    n_atoms = variables.integer('natom', number, 1)
    n_kinds = variables.integer('ntypat', number, 1)
    charges = variables.numbers('znucl', number)
    kinds = read_kinds(data_set)
    if charges is None or len(charges) != n_kinds or variables.integer('npsp', number, n_kinds) != n_kinds:
        raise RunFolderError(FailureCode.INPUT_REFUSED, 'kinds of atoms are mixtures, or are not told: no elements')
    strange = [charge for charge in charges if charge != round(charge) or not 0 < charge < len(SYMBOLS)]
    if strange:
        raise RunFolderError(
            FailureCode.INPUT_REFUSED, f'a kind of atom has the nuclear charge {strange[0]:g}: no element'
        )
    for kind, used in data_set.pseudopotentials.items():
        if kind <= n_kinds and abs(used.nuclear_charge - charges[kind - 1]) > 1e-6:
            raise RunFolderError(
                FailureCode.INCONSISTENT,
                f'{data_set.text.name}: kind {kind} of the atoms has the nuclear charge {charges[kind - 1]:g}, its '
                f'pseudopotential {used.nuclear_charge:g}',
            )
    lengths = variables.numbers('acell', number, 3)
    vectors = variables.numbers('rprim', number, 9)
    cell = np.eye(3) if vectors is None else vectors.reshape(3, 3)
    cell = cell * (np.ones(3) if lengths is None else lengths)[:, None] * BOHR_ANG
    _check_cell(data_set, cell)
    fractions = variables.numbers('xred', number, 3 * n_atoms)
    cartesian = variables.numbers('xcart', number, 3 * n_atoms)
    if fractions is not None:
        positions = fractions.reshape(-1, 3) @ cell
    elif cartesian is not None:
        positions = cartesian.reshape(-1, 3) * BOHR_ANG
    elif n_atoms == 1:  # at the origin, which is not echoed
        positions = np.zeros((1, 3))
    else:
        raise RunFolderError(FailureCode.NO_INPUT, f'{data_set.text.name} does not tell the positions')
    angstrom = variables.numbers('xangst', number, 3 * n_atoms)
    if angstrom is not None and np.abs(angstrom.reshape(-1, 3) - positions).max() > _SAME_PLACE_ANG:
        raise RunFolderError(FailureCode.INCONSISTENT, f'xred and xangst in {data_set.text.name} contradict each other')
    if cartesian is not None and np.abs(cartesian.reshape(-1, 3) * BOHR_ANG - positions).max() > _SAME_PLACE_ANG:
        raise RunFolderError(FailureCode.INCONSISTENT, f'xred and xcart in {data_set.text.name} contradict each other')
    _check_positions(data_set, positions)
    numbers = np.array([round(float(charges[kind - 1])) for kind in kinds])
    vacuum, whole = gather_atoms(positions, cell)
    isolated = bool((vacuum > MINIMUM_VACUUM_ANG - _PRINTED_ANG).all()) and is_gamma_only(data_set)
    if isolated:
        return Structure(numbers, whole, cell, np.zeros(3, dtype=bool))
    return Structure(numbers, positions, cell, np.ones(3, dtype=bool))


def read_kinds(data_set: DataSet) -> list[int]:
    """Return the kind of each atom, from 1.

    :raises RunFolderError: a kind that does not exist, or another number of them than of atoms.
    """
    number = data_set.number
    n_atoms = data_set.before.integer('natom', number, 1)
    kinds = data_set.before.integers('typat', number) or [1] * n_atoms
    if len(kinds) != n_atoms or not all(1 <= kind <= data_set.before.integer('ntypat', number, 1) for kind in kinds):
        raise RunFolderError(
            FailureCode.INCONSISTENT, f'{data_set.text.name}: typat has {len(kinds)} kinds for {n_atoms} atoms'
        )
    return kinds


def _check_cell(data_set: DataSet, cell: NDArray[np.float64]) -> None:
    """Check that the cell is the one of the computation, where it stays the same."""
    text = data_set.text
    found = {int(match[1]): match for match in _VECTORS.finditer(text.text)}
    if data_set.before.integer('optcell', data_set.number, 0) or set(found) != {1, 2, 3}:
        return
    for axis, match in found.items():
        vector = [text.number(match[group].strip(), match.start(group), 'a lattice vector', 1e6) for group in (2, 3, 4)]
        if np.abs(np.array(vector) * BOHR_ANG - cell[axis - 1]).max() > _SAME_PLACE_ANG:
            raise RunFolderError(
                FailureCode.INCONSISTENT,
                f'{text.place(match.start())}: this is not the lattice vector of acell and rprim',
            )


def _check_positions(data_set: DataSet, positions: NDArray[np.float64]) -> None:
    """Check that the positions are those to which the forces belong."""
    text = data_set.text
    heads = list(_END_POSITIONS.finditer(text.text))
    if not heads:
        return
    rows = []
    for line in text.text[heads[-1].end() :].split('\n', len(positions))[: len(positions)]:
        words = line.split()
        if len(words) != 4:
            return  # long outputs leave them out
        rows.append([text.number(word, heads[-1].end(), 'a position', 1e6) for word in words[1:]])
    # The bohr of ABINIT changed by 4e-9 with its versions.
    if np.abs(np.array(rows) - positions).max() > _SAME_PLACE_ANG:
        raise RunFolderError(
            FailureCode.INCONSISTENT,
            f'{text.place(heads[-1].start())}: these positions are not those of the variables at the end',
        )


def is_gamma_only(data_set: DataSet) -> bool:
    """Return whether Gamma is the only k-point."""
    variables, number = data_set.before, data_set.number
    k_points = variables.numbers('kpt', number)
    return variables.integer('nkpt', number, 1) == 1 and (k_points is None or not k_points.any())


def read_parameters(data_set: DataSet, structure: Structure, names: dict[str, str]) -> AbinitParameters:
    """Read the parameters of a data set.

    :param structure: that was computed.
    :param names: of the pseudopotentials that nothing else is known of, by element.
    :raises RunFolderError: a setting that no parameter can express.
    :raises pydantic.ValidationError: a value that no parameter can have.
    """
    variables, number = data_set.before, data_set.number
    values: dict[str, object] = {
        'functional': functional_of(_read_ixc(data_set)),
        'spin': 'polarized' if variables.integer('nsppol', number, 1) == 2 else 'none',
        'max_scf_iterations': variables.integer('nstep', number, DEFAULT_STEPS),
        'cutoff_hartree': variables.number('ecut', number),
        'potential_residual': variables.number('tolvrs', number) or None,
        'pseudopotential_names': names,
        'k_grid': None,
        'k_density': None,
        'k_shift': [0.0, 0.0, 0.0],
        'vacuum_ang': USUAL_VACUUM_ANG if structure.pbc.any() else round(float(measure_vacuum(structure).min()), 3),
    }
    extra: dict[str, str] = {}
    scheme = variables.integer('occopt', number, 1)
    if scheme >= 3:
        smearing = variables.number('tsmear', number, DEFAULT_SMEARING_HARTREE) or 0.0
        values['electronic_temperature_kelvin'] = round(smearing / BOLTZMANN_HARTREE_PER_K, 4)
    else:
        values['electronic_temperature_kelvin'] = 0.0
    if scheme not in (1, 3):
        extra['occopt'] = str(scheme)
        if scheme in (0, 2) and (filling := _canonical(variables.words('occ', number))):
            extra['occ'] = filling
    for name in variables.names(number):
        if name in OWNED or name in K_POINTS or name == 'occopt' or _HOUSEKEEPING.fullmatch(name):
            continue
        words = variables.words(name, number)
        if name in CRITERIA and not variables.number(name, number):
            continue
        if text := _canonical(words):
            extra[name] = text
    if extra.get('nspden') == str(variables.integer('nsppol', number, 1)):
        del extra['nspden']
    moments = variables.numbers('spinat', number)
    if moments is not None and (moments.min() < 0 < moments.max() or 'nspinor' in extra):
        # Opposite moments lead to another state than equal ones.
        extra['spinat'] = _canonical(variables.words('spinat', number))
    if not is_gamma_only(data_set):
        _add_k_points(data_set, values, extra)
    return AbinitParameters.model_validate(values | {'extra': extra})


def _add_k_points(data_set: DataSet, values: dict[str, object], extra: dict[str, str]) -> None:
    variables, number = data_set.before, data_set.number
    lattice = variables.integers('kptrlatt', number)
    shifts = variables.numbers('shiftk', number)
    n_shifts = variables.integer('nshiftk', number, 1)
    if variables.integer('kptopt', number, 1) == 0 or lattice is None or len(lattice) != 9:
        extra |= {
            name: text
            for name in ('nkpt', 'kpt', 'kptnrm', 'wtk')
            if (text := _canonical(variables.words(name, number)))
        }
        extra['kptopt'] = '0'
        return
    mesh = np.reshape(lattice, (3, 3))
    # ABINIT displaces a mesh by half a step where the input says nothing.
    shift = [0.5, 0.5, 0.5] if shifts is None else [float(value) for value in shifts]
    diagonal = np.diag(np.diag(mesh))
    if n_shifts == 1 and (mesh == diagonal).all() and (np.diag(mesh) > 0).all() and max(map(abs, shift)) < 1:
        values['k_grid'] = [int(step) for step in np.diag(mesh)]
        values['k_shift'] = shift
        return
    extra |= {'kptopt': '2', 'kptrlatt': ' '.join(map(str, lattice)), 'nshiftk': str(n_shifts)}
    extra['shiftk'] = ' '.join(f'{value:.10g}' for value in shift)


def _canonical(words: list[str] | None) -> str:
    """Return the words of a variable with numbers as short as they are."""
    texts = []
    for word in words or []:
        value = fortran_number(word)
        texts.append(word if value is None else f'{value:.10g}')
    return ' '.join(text for text in texts if re.fullmatch(r'[A-Za-z0-9+\-.*/]+', text))


def _read_ixc(data_set: DataSet) -> int:
    found = data_set.before.integer('ixc', data_set.number, 0)
    if found:
        return found
    for pattern in (_IXC, _PSPXC):
        if match := pattern.search(data_set.text.text):
            return int(match[1])
    if data_set.before.find('ixc', data_set.number) is not None:
        return 0
    raise RunFolderError(FailureCode.INPUT_REFUSED, f'{data_set.text.name} does not tell the functional (ixc)')
