"""Reading and writing SIESTA's input."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.engines import get_engine
from aiida_nanoml.engines.siesta.fdf import Fdf, read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import (
    match_protocol,
    parameters_of_structure,
    read_parameters,
    read_structure,
)
from aiida_nanoml.engines.siesta.fdf_writing import to_keywords, write_fdf
from aiida_nanoml.engines.siesta.k_points import mesh_of_cutoff, monkhorst_pack_mesh
from aiida_nanoml.engines.siesta.parameters import SiestaParameters, is_housekeeping
from aiida_nanoml.errors import EngineError, EvaluationError, StructureError
from aiida_nanoml.structures import Structure, StructureSet, place
from aiida_nanoml.structures.elements import SYMBOLS
from aiida_nanoml.units import BOHR_ANG
from tests.mutations import fuzzed, mutations
from tests.stand_in.fixtures import recorded_runs

RUNS = recorded_runs()
FLAKES = recorded_runs('flake')
ALLOYS = recorded_runs('alloy')
ATOMS = recorded_runs('atom')


def parameters(protocol: str = 'paper', **overrides: Any) -> SiestaParameters:
    made = get_engine('siesta').parameters(protocol, overrides)
    assert isinstance(made, SiestaParameters)
    return made


def content_hash(structure: Structure) -> str:
    return str(StructureSet.from_structures([structure]).hashes[0])


def comparable(fdf: Fdf) -> tuple[dict[str, list[Any]], dict[str, list[list[Any]]]]:
    """Numbers as numbers, and nothing that does not decide about the result."""

    def words(text: str, columns: int | None = None) -> list[Any]:
        if text == '0.02 Ry':
            text = '0.272114 eV'  # how the engine gives the energy shift
        found: list[Any] = []
        for word in text.split()[:columns]:
            try:
                found.append(round(float(word), 6))
            except ValueError:
                found.append(word.lower())
        return found

    return (
        {key: words(value) for key, value in fdf.values.items() if not is_housekeeping(key)},
        {
            name: [words(line, 4 if 'coordinates' in name else None) for line in lines]
            for name, lines in fdf.blocks.items()
        },
    )


WATER_LIKE = """
# two hydrogens and a carbon
SystemLabel   molecule      ; another comment
Number_of_Species = 2
NumberOfAtoms : 3
%block Chemical.Species-Label
  1   6  C_surface   # a name of its own
  2   1  H
%endblock Chemical.Species-Label
"""


def test_keys_have_one_spelling_and_the_first_line_counts() -> None:
    fdf = read_fdf('Mesh-Cutoff 200 Ry\nmesh_cutoff 300 Ry\nSpinPolarized\nXC.Authors "PBE" # GGA\nA = 1 ! no\n')
    assert fdf.values == {'meshcutoff': '200 Ry', 'spinpolarized': '', 'xcauthors': 'PBE', 'a': '1'}
    fdf = read_fdf(WATER_LIKE)
    assert fdf.values['numberofatoms'] == '3'
    assert fdf.blocks == {'chemicalspecieslabel': ('1   6  C_surface', '2   1  H')}


def test_keywords_of_aiida_siesta_are_read_like_a_file() -> None:
    general, basis = to_keywords(parameters('stringent', extra_fdf={'paobasis': 'C 2\nn=2 0 2\n', 'netcharge': '1'}))
    text = '\n'.join(f'{key} {value}' for key, value in (general | basis).items())
    assert Fdf.from_keywords(general | basis) == read_fdf(text)


def test_values_are_found_in_any_spelling() -> None:
    fdf = read_fdf(
        'Mesh.Cutoff 2 Hartree\nlattice_constant 2\nDM.NumberPulay 3\nNumberOfAtoms 4.5\nSpin\n'
        '%block A-b\n1 x 2\n%endblock'
    )
    assert fdf.get_quantity('meshCutoff', 'Ry') == pytest.approx(4)
    assert fdf.get_quantity('LatticeConstant', 'Ang') == pytest.approx(2 * BOHR_ANG), 'a length without unit is in bohr'
    assert fdf.get_quantity('ElectronicTemperature', 'K') is None
    assert fdf.get_quantity('ElectronicTemperature', 'K', 300.0) == 300.0
    assert fdf.get_number('SCF.Mixer.History', 'DM.NumberPulay') == 3
    assert fdf.get_number('MaxSCFIterations', default=1000) == 1000
    assert (fdf.get_flag('spin'), fdf.get_flag('SpinOrbit')) == (True, False)
    assert fdf.get_table('AB', 2).tolist() == [[1, 2]]
    assert ('a.b' in fdf, 'Spin' in fdf, 'Zmatrix' in fdf) == (True, True, False)
    for read, reason in (
        (lambda: fdf.get_integer('NumberOfAtoms'), 'NumberOfAtoms in the fdf input is no integer'),
        (lambda: fdf.get_number('Spin'), 'Spin in the fdf input is no number'),
        (lambda: fdf.get_table('AB', 3), 'fewer than 3 numbers'),
        (lambda: fdf.get_table('LatticeVectors', 3), 'no block LatticeVectors'),
        (lambda: fdf.get_quantity('MeshCutoff', 'Ang'), 'MeshCutoff in the fdf input is not understood'),
    ):
        with pytest.raises(EngineError, match=reason):
            read()


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('%include other.fdf', 'another file'),
        ('MeshCutoff < other.fdf', 'another file'),
        ('%block LatticeVectors < cell.fdf', 'another file'),
        ('%block LatticeVectors\n1 0 0', 'does not end'),
        ('%nonsense', 'not understood'),
    ],
)
def test_input_that_is_elsewhere_or_broken_is_refused(text: str, reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        read_fdf(text)


ARTIFICIAL = Structure(
    np.array([6, 1, 1]),
    np.array([[0.5, 0.25, 0.1], [1.5, 0.5, 0.2], [0.25, 1.5, 3.0]]),
    np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]),
    np.ones(3, dtype=bool),
)


def form_of(structure: Structure, form: str, cell_form: str, constant: float) -> str:
    """Write a structure in one of the forms of the manual."""
    cell, positions = structure.cell, structure.positions
    unit = 'Bohr' if 'bohr' in form.lower() else 'Ang'
    alat = constant * (BOHR_ANG if unit == 'Bohr' else 1.0)
    points = {
        'Bohr': positions / BOHR_ANG,
        'NotScaledCartesianBohr': positions / BOHR_ANG,
        'Ang': positions,
        'NotScaledCartesianAng': positions,
        'ScaledCartesian': positions / alat,
        'LatticeConstant': positions / alat,
        'Fractional': positions @ np.linalg.inv(cell),
        'ScaledByLatticeVectors': positions @ np.linalg.inv(cell),
    }[form]
    lines = [f'LatticeConstant {constant!r} {unit}', f'AtomicCoordinatesFormat {form}']
    if cell_form == 'vectors':
        rows = [' '.join(f'{value:.14f}' for value in row) for row in (cell / alat).tolist()]
        lines += ['%block LatticeVectors', *rows, '%endblock LatticeVectors']
    else:
        lengths = np.linalg.norm(cell, axis=1)
        angles = [
            math.degrees(math.acos(cell[i] @ cell[j] / lengths[i] / lengths[j])) for i, j in ((1, 2), (0, 2), (0, 1))
        ]
        row = ' '.join(f'{value:.14f}' for value in [*(lengths / alat), *angles])
        lines += ['%block LatticeParameters', row, '%endblock LatticeParameters']
    species = sorted(set(structure.numbers.tolist()))
    lines += ['%block ChemicalSpeciesLabel']
    lines += [f'{index} {number} {SYMBOLS[number]}' for index, number in enumerate(species, 1)]
    lines += ['%endblock', '%block AtomicCoordinatesAndAtomicSpecies']
    for number, point in zip(structure.numbers.tolist(), points.tolist(), strict=True):
        lines.append(' '.join(f'{value:.14f}' for value in point) + f' {species.index(number) + 1} 12.011')
    return '\n'.join([*lines, '%endblock'])


FORMS = [
    'Bohr',
    'NotScaledCartesianBohr',
    'Ang',
    'NotScaledCartesianAng',
    'ScaledCartesian',
    'LatticeConstant',
    'Fractional',
    'ScaledByLatticeVectors',
]


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    cell_form=st.sampled_from(['vectors', 'parameters']),
    constant=st.floats(0.5, 12.0),
    lengths=st.tuples(*[st.floats(3.0, 6.0)] * 3),
    angles=st.tuples(*[st.floats(70.0, 110.0)] * 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_form_of_the_manual_gives_the_structure(
    form: str, cell_form: str, constant: float, lengths: Any, angles: Any, seed: int
) -> None:
    alpha, beta, gamma = np.radians(angles)
    slant = (math.cos(alpha) - math.cos(beta) * math.cos(gamma)) / math.sin(gamma)
    cell = np.array(
        [
            [lengths[0], 0, 0],
            [lengths[1] * math.cos(gamma), lengths[1] * math.sin(gamma), 0],
            [
                lengths[2] * math.cos(beta),
                lengths[2] * slant,
                lengths[2] * math.sqrt(math.sin(beta) ** 2 - slant**2),
            ],
        ]
    )
    generator = np.random.default_rng(seed)
    corners = np.array([[0.1, 0.1, 0.1], [0.6, 0.1, 0.1], [0.1, 0.6, 0.1], [0.1, 0.1, 0.6]])
    points = (corners + generator.uniform(-0.05, 0.05, (4, 3))) @ cell
    given_structure = Structure(generator.choice([1, 5, 6, 13], 4), points, cell, np.ones(3, dtype=bool))
    found = read_structure(read_fdf(form_of(given_structure, form, cell_form, constant)))
    np.testing.assert_array_equal(found.numbers, given_structure.numbers)
    np.testing.assert_allclose(found.positions, given_structure.positions, atol=1e-9)
    np.testing.assert_allclose(found.cell, cell, atol=1e-9)
    assert found.pbc.all(), 'no direction has 5 Å of vacuum'


def test_defaults_of_the_structure_are_those_of_siesta() -> None:
    """Bohr, a cubic cell of the lattice constant, and the number of atoms from the block."""
    text = '%block ChemicalSpeciesLabel\n1 13 Al\n%endblock\nLatticeConstant 4.05 Ang\n'
    text += '%block AtomicCoordinatesAndAtomicSpecies\n0 0 1.0 1\n%endblock'
    found = read_structure(read_fdf(text))
    np.testing.assert_allclose(found.cell, 4.05 * np.eye(3))
    np.testing.assert_allclose(found.positions, [[0, 0, BOHR_ANG]])
    assert not read_structure(read_fdf(text.replace('LatticeConstant 4.05 Ang', ''))).cell.any()


def test_an_origin_is_added_in_the_unit_of_the_coordinates() -> None:
    text = form_of(ARTIFICIAL, 'Bohr', 'vectors', 1.0)
    text += '\n%block AtomicCoordinatesOrigin\n 1.0 0.0 -0.5\n%endblock'
    shifted = read_structure(read_fdf(text)).positions - ARTIFICIAL.positions
    np.testing.assert_allclose(shifted, np.tile([BOHR_ANG, 0, -BOHR_ANG / 2], (3, 1)), atol=1e-9)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (('1 1 H', '1 -1 H'), 'ghost'),
        (('1 1 H', '1 201 H'), 'synthetic'),
        (('1 1 H', '1 H'), 'not understood'),
        (('Format Ang', 'Format Inch'), 'Inch'),
        (('LatticeConstant 1.0 Ang', 'NumberOfAtoms 4\nLatticeConstant 1.0 Ang'), 'announces 4 atoms and gives 3'),
        (('LatticeConstant 1.0 Ang', 'AtomicCoordinatesOrigin COP\nLatticeConstant 1.0 Ang'), 'three numbers'),
        (('%block LatticeVectors', '%block Zmatrix\nmolecule\n%endblock\n%block LatticeVectors'), 'block Zmatrix'),
        (('%block LatticeVectors', '%block SuperCell\n2 0 0\n%endblock\n%block LatticeVectors'), 'block SuperCell'),
        (('0.00000000000000 4.0', '4.00000000000000 0.0'), 'no volume'),
        ((' 2 12.011', ' 7 12.011'), 'species 7'),
    ],
)
def test_structures_that_are_not_read_are_refused(change: tuple[str, str], reason: str) -> None:
    text = form_of(ARTIFICIAL, 'Ang', 'vectors', 1.0)
    assert change[0] in text
    with pytest.raises(StructureError, match=reason):
        read_structure(read_fdf(text.replace(*change)))


def test_coordinates_in_lattice_constants_need_one() -> None:
    text = form_of(ARTIFICIAL, 'ScaledCartesian', 'vectors', 2.0).replace('LatticeConstant 2.0 Ang', '')
    with pytest.raises(StructureError, match='LatticeConstant'):
        read_structure(read_fdf(text))


def test_a_molecule_is_isolated_wherever_its_cell_cuts_it(benzene: Structure) -> None:
    reference = place(benzene, 8.0)
    for shift in ([0, 0, 0], [6.0, 1.0, 0.3], [-3.0, 9.9, 100.0]):
        wrapped = (reference.positions + shift) % np.diag(reference.cell)
        text = form_of(Structure(reference.numbers, wrapped, reference.cell), 'Ang', 'vectors', 1.0)
        found = read_structure(read_fdf(text))
        assert not found.pbc.any()
        assert content_hash(found) == content_hash(benzene)


def test_vacuum_and_k_points_decide_what_repeats(benzene: Structure) -> None:
    sheet = Structure(np.array([6, 6]), np.array([[0, 0, 1.0], [1.23, 0.71, 1.0]]), np.diag([2.46, 4.26, 12.0]))
    text = form_of(sheet, 'Ang', 'vectors', 1.0)
    assert read_structure(read_fdf(text)).pbc.tolist() == [True, True, False]
    mesh = '\n%block kgrid_Monkhorst_Pack\n3 0 0 0.\n0 2 0 0.\n0 0 2 0.\n%endblock'
    assert read_structure(read_fdf(text + mesh)).pbc.all()
    boxed = form_of(place(benzene, 8.0), 'Ang', 'vectors', 1.0)
    assert read_structure(read_fdf(boxed + '\nkgrid_cutoff 10 Ang')).pbc.all()
    gamma = '\n%block kgrid_Monkhorst_Pack\n1 0 0 0.\n0 1 0 0.\n0 0 1 0.\n%endblock'
    assert not read_structure(read_fdf(boxed + gamma)).pbc.any()
    assert match_protocol(read_parameters(read_fdf(write_fdf(benzene, parameters()) + gamma))) == 'paper'


@pytest.mark.parametrize('name', FLAKES)
def test_recorded_flakes_are_written_as_they_were(name: str) -> None:
    fdf = read_fdf(FLAKES[name].fdf)
    structure, found = read_structure(fdf), read_parameters(fdf)
    assert not structure.pbc.any()
    # Coronene is one of the runs whose density was kept, on a coarser grid.
    cutoff = 100.0 if name == 'z-C24H12' else 150.0
    assert found == parameters(mesh_cutoff_ry=cutoff)
    assert match_protocol(found) == ('paper' if cutoff == 150.0 else 'custom')
    assert comparable(read_fdf(write_fdf(structure, found))) == comparable(fdf)
    moved = Structure(structure.numbers, structure.positions - 7.0)
    assert comparable(read_fdf(write_fdf(moved, found))) == comparable(fdf), 'an isolated structure has no position'


@pytest.mark.parametrize('name', ALLOYS)
def test_recorded_alloys_share_parameters_that_name_a_length(name: str) -> None:
    common = parameters('paper_alloys')
    fdf = read_fdf(ALLOYS[name].fdf)
    structure = read_structure(fdf)
    assert structure.pbc.all()
    assert read_parameters(fdf) == common
    assert match_protocol(common) == 'paper_alloys'
    mesh, shift = monkhorst_pack_mesh(common, structure) or ([], [])
    _, _, phase, step = name.split('-')
    assert mesh == ([2, 4, 4] if phase == 'fcc' else [3, 3, 5] if int(step) < 3 else [2, 2, 5])
    explicit = common.model_copy(update={'k_length_ang': None, 'k_grid': mesh, 'k_shift': shift})
    assert read_parameters(fdf, [explicit]) == explicit, 'what is known comes before the protocols'
    for known in (explicit, common):
        assert comparable(read_fdf(write_fdf(structure, known))) == comparable(fdf)


@pytest.mark.parametrize('name', ATOMS)
def test_recorded_atoms_have_the_input_of_the_alloys_protocol(name: str) -> None:
    """Wherever an isolated atom stands, and without a mesh: energies of alloys may be compared with theirs."""
    fdf = read_fdf(ATOMS[name].fdf)
    assert not read_structure(fdf).pbc.any()
    assert match_protocol(read_parameters(fdf)) == 'paper_alloys'
    bare = Structure(read_structure(fdf).numbers, np.array([[7.0, -1.0, 0.0]]))
    assert comparable(read_fdf(write_fdf(bare, parameters('paper_alloys')))) == comparable(fdf)


@pytest.mark.parametrize('scan', sorted({name.rpartition('-')[0] for name in ALLOYS}))
@pytest.mark.parametrize('protocol', ['metal_fast', 'metal', 'metal_stringent'])
def test_a_scan_has_one_mesh_and_every_point_the_protocol(scan: str, protocol: str) -> None:
    settings = parameters(protocol)
    structures = [run.structure for name, run in ALLOYS.items() if name.startswith(scan)]
    assert len(structures) == 5
    meshes = [monkhorst_pack_mesh(settings, structure) for structure in structures]
    assert all(mesh == meshes[0] for mesh in meshes)
    assert meshes[0] is not None
    assert settings.k_density is not None
    assert math.prod(meshes[0][0]) * 8 == pytest.approx(settings.k_density, rel=0.5)
    for structure in structures:
        assert match_protocol(read_parameters(read_fdf(write_fdf(structure, settings)))) == protocol


def test_the_recorded_iron_is_a_protocol_with_spin() -> None:
    polarised = parameters('metal_fast', spin='polarized')
    fdf = read_fdf(RUNS['iron-spin'].fdf)
    assert comparable(read_fdf(write_fdf(read_structure(fdf), polarised))) == comparable(fdf)
    assert read_parameters(fdf, [polarised]) == polarised
    assert match_protocol(read_parameters(fdf)) == 'custom'


MOVING = [name for name, run in RUNS.items() if 'mdtypeofrun' in read_fdf(run.fdf).values]


@pytest.mark.parametrize('name', [name for name in RUNS if name not in MOVING])
def test_every_recorded_input_is_read_and_written(name: str) -> None:
    fdf = read_fdf(RUNS[name].fdf)
    assert comparable(read_fdf(write_fdf(read_structure(fdf), read_parameters(fdf)))) == comparable(fdf)


def test_a_relaxation_is_no_label() -> None:
    assert 'geometry-not-converged' in MOVING
    for name in MOVING:
        with pytest.raises(EngineError, match='moves atoms'):
            read_parameters(read_fdf(RUNS[name].fdf))


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        parameters,
        protocol=st.sampled_from(['fast', 'balanced', 'stringent', 'paper']),
        xc_authors=st.sampled_from(['CA', 'PW92']),
        basis_size=st.sampled_from(['SZ', 'SZP', 'DZ', 'DZP', 'TZ', 'TZP']),
        energy_shift_ev=st.none() | st.sampled_from([0.01, 0.05, 0.272114]),
        split_norm=st.none() | st.sampled_from([0.15, 0.3]),
        mesh_cutoff_ry=st.sampled_from([100.0, 250.5]),
        electronic_temperature_kelvin=st.sampled_from([5.0, 50.0, 300.0, 1234.5]),
        density_tolerance=st.none() | st.sampled_from([1e-4, 2.5e-6]),
        mixing_weight=st.sampled_from([0.05, 0.25, 1.0]),
        spin=st.sampled_from(['none', 'polarized']),
        vacuum_ang=st.sampled_from([5.0, 10.0, 12.345]),
        extra_fdf=st.dictionaries(
            st.sampled_from(['netcharge', 'scfmixermethod', 'paobasis', 'slabdipolecorrection']),
            st.sampled_from(['T', '0.5 eV', 'C 2\nn=2 0 2\n']),
        ),
    )
)
def test_parameters_survive_the_input(made: SiestaParameters) -> None:
    structure = Structure(np.array([6, 6, 1]), np.array([[0, 0, 0], [1.2, 0, 0], [-1.1, 0.2, 0]]))
    text = write_fdf(structure, made)
    assert read_parameters(read_fdf(text)) == made
    assert content_hash(read_structure(read_fdf(text))) == content_hash(structure)


def test_what_an_input_leaves_out_is_the_default_of_siesta(benzene: Structure) -> None:
    """Values of the manual of SIESTA 4.1."""
    found = read_parameters(read_fdf(form_of(place(benzene, 8.0), 'Ang', 'vectors', 1.0)))
    assert found.model_dump() == {
        'xc_functional': 'LDA',
        'xc_authors': 'CA',
        'basis_size': 'DZP',
        'energy_shift_ev': None,
        'split_norm': None,
        'mesh_cutoff_ry': 300.0,
        'electronic_temperature_kelvin': 300.0,
        'mixing_weight': 0.25,
        'mixing_history': 2,
        'max_scf_iterations': 1000,
        'density_tolerance': None,
        'spin': 'none',
        'k_grid': None,
        'k_length_ang': None,
        'k_density': None,
        'k_shift': [0.0, 0.0, 0.0],
        'vacuum_ang': 8.0,
        'extra_fdf': {},
    }


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('ElectronicTemperature 25 meV', {'electronic_temperature_kelvin': 290.113}),
        ('ElectronicTemperature 0.002 Ry', {'electronic_temperature_kelvin': 315.775}),
        ('MeshCutoff 2.0 keV', None),
        ('MeshCutoff 1000 eV', {'mesh_cutoff_ry': 73.4986}),
        ('Mesh.Cutoff 100. Hartree', {'mesh_cutoff_ry': 200.0}),
        ('PAO.EnergyShift 0.02 Ry', {'energy_shift_ev': 0.272114}),
        ('DM.NumberPulay 4\nDM.MixingWeight 2.d-2', {'mixing_history': 4, 'mixing_weight': 0.02}),
        ('SpinPolarized .true.', {'spin': 'polarized'}),
        ('Spin non-polarized', {'spin': 'none'}),
        ('Spin non-collinear', None),
        ('SpinOrbit T', None),
        ('XC.functional GGA\nXC.authors pbe', {'xc_functional': 'GGA', 'xc_authors': 'PBE'}),
        ('XC.authors PBE', None),
        ('PAO.BasisSize standard', {'basis_size': 'DZP'}),
        ('PAO.BasisSize huge', None),
        ('MD.TypeOfRun CG\nMD.NumCGsteps 0', {}),
        ('MD.NumCGsteps 20', None),
        ('MD.TypeOfRun Verlet', None),
        ('NetCharge 1.0', {'extra_fdf': {'netcharge': '1.0'}}),
        ('WriteMullikenPop 1\nSaveRho T\nMaxWalltime 3600', {}),
        ('MaxSCFIterations many', None),
    ],
)
def test_values_are_read_with_their_units(benzene: Structure, line: str, expected: dict[str, Any] | None) -> None:
    fdf = read_fdf(form_of(place(benzene, 8.0), 'Ang', 'vectors', 1.0) + '\n' + line)
    if expected is None:
        with pytest.raises(EngineError):
            read_parameters(fdf)
        return
    base = read_parameters(read_fdf(form_of(place(benzene, 8.0), 'Ang', 'vectors', 1.0))).model_dump()
    found = read_parameters(fdf).model_dump()
    for name, value in (base | expected).items():
        assert found[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), name


def test_a_cell_that_is_left_to_siesta_has_no_known_vacuum(benzene: Structure) -> None:
    text = form_of(place(benzene, 8.0), 'Ang', 'vectors', 1.0).replace('LatticeConstant 1.0 Ang', '')
    with pytest.raises(EngineError, match='vacuum is not known'):
        read_parameters(read_fdf(text))


@pytest.mark.parametrize(
    ('overrides', 'reason'),
    [
        ({'extra_fdf': {'Mesh-Cutoff': '100 Ry'}}, "as 'meshcutoff'"),
        ({'extra_fdf': {'meshcutoff': '100 Ry'}}, 'mesh_cutoff_ry'),
        ({'extra_fdf': {'dmnumberpulay': '3'}}, 'mixing_history'),
        ({'extra_fdf': {'latticeconstant': '1 Ang'}}, 'structure'),
        ({'extra_fdf': {'mdnumcgsteps': '10'}}, 'moves atoms'),
        ({'extra_fdf': {'saverho': 'T'}}, 'does not change the label'),
        ({'extra_fdf': {'paobasis': '%block x'}}, 'holds one of'),
        ({'extra_fdf': {'netcharge': ' '}}, 'empty'),
        ({'k_grid': [2, 2, 2], 'k_length_ang': 10.0}, 'give one of .*got k_grid, k_length_ang'),
        ({'k_grid': [2, 2, 2], 'k_density': 100}, 'give one of .*got k_grid, k_density'),
        ({'k_length_ang': 14.0, 'k_density': 100.0}, 'give one of .*got k_length_ang, k_density'),
        ({'k_density': 0}, 'k_density'),
        ({'k_shift': [0.5, 0.5, 0.5]}, 'needs one of k_grid, k_length_ang, k_density'),
        ({'k_grid': [2, 2]}, 'k_grid'),
        ({'xc_functional': 'GGA'}, 'not those of GGA: .*PBE'),
        ({'vacuum_ang': 4.9}, 'vacuum_ang'),
        ({'basis_size': 'dzp'}, 'basis_size'),
        ({'electronic_temperature_kelvin': 0.0}, 'electronic_temperature_kelvin'),
    ],
)
def test_parameters_that_contradict_are_refused(overrides: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        parameters(**overrides)


def test_meshes_follow_the_cell_and_leave_open_directions_alone() -> None:
    sampled = parameters(k_length_ang=14.0, k_shift=[0.5, 0.5, 0.5])
    cell = [5.24, 2.62, 30.0]
    assert monkhorst_pack_mesh(sampled, orthogonal(cell)) == ([3, 5, 1], [0.5, 0.5, 0.0])
    assert monkhorst_pack_mesh(sampled, orthogonal(cell, [True, False, False])) == ([3, 1, 1], [0.5, 0.0, 0.0])
    assert monkhorst_pack_mesh(sampled, orthogonal(cell, [False] * 3)) is None
    assert monkhorst_pack_mesh(parameters(), orthogonal(cell)) is None
    assert monkhorst_pack_mesh(parameters(k_grid=[1, 1, 1]), orthogonal(cell)) is None
    assert monkhorst_pack_mesh(parameters(k_grid=[2, 2, 2]), orthogonal(cell)) == ([2, 2, 2], [0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ('density', 'lengths', 'pbc', 'n_atoms', 'mesh'),
    [
        (128, [2.75] * 3, [True] * 3, 2, [4, 4, 4]),  # 64 points in a cube
        (1000, [2.5, 2.5, 2.5], [True] * 3, 1, [10, 10, 10]),
        (256, [7.0, 3.5, 3.5], [True] * 3, 8, [2, 4, 4]),  # 32 points in a cell twice as long
        (256, [2.46, 4.92, 20.0], [True, True, False], 8, [8, 4, 1]),  # a sheet: 32 points in two directions
        (60, [20.0, 20.0, 4.0], [False, False, True], 6, [1, 1, 10]),
        (256, [9.0] * 3, [True] * 3, 1000, None),  # one point, which is not displaced
        (256, [9.0] * 3, [False] * 3, 1, None),
    ],
)
def test_a_density_of_k_points_is_shared_out_by_the_shape(
    density: int, lengths: list[float], pbc: list[bool], n_atoms: int, mesh: list[int] | None
) -> None:
    settings = parameters(k_density=density, k_shift=[0.5] * 3)
    expected = None if mesh is None else (mesh, [0.5 if n > 1 else 0.0 for n in mesh])
    assert monkhorst_pack_mesh(settings, orthogonal(lengths, pbc, n_atoms)) == expected


@settings(deadline=None)
@given(
    density=st.floats(1.0, 5000.0),
    lengths=st.tuples(*[st.floats(2.0, 20.0)] * 3),
    n_atoms=st.integers(1, 108),
    scale=st.floats(0.8, 1.25),
    copies=st.integers(2, 3),
)
def test_the_mesh_ignores_the_volume_and_shrinks_in_a_supercell(
    density: float, lengths: tuple[float, ...], n_atoms: int, scale: float, copies: int
) -> None:
    settings = parameters(k_density=density)
    mesh, _ = monkhorst_pack_mesh(settings, orthogonal(lengths, n_atoms=n_atoms)) or ([1, 1, 1], None)
    scaled, _ = monkhorst_pack_mesh(settings, orthogonal([scale * a for a in lengths], n_atoms=n_atoms)) or (
        [1, 1, 1],
        None,
    )
    assert scaled == mesh
    longer = [copies * lengths[0], *lengths[1:]]
    larger, _ = monkhorst_pack_mesh(settings, orthogonal(longer, n_atoms=copies * n_atoms)) or ([1, 1, 1], None)
    assert larger[1:] == mesh[1:]
    assert abs(larger[0] - mesh[0] / copies) < 1


def orthogonal(lengths: Any, pbc: Any = (True, True, True), n_atoms: int = 1) -> Structure:
    """Atoms in an orthogonal cell; where they stand does not matter for its mesh."""
    return Structure(np.full(n_atoms, 26), np.zeros((n_atoms, 3)), np.diag(lengths), np.array(pbc))


def test_keywords_are_split_as_aiida_siesta_wants_them() -> None:
    general, basis = to_keywords(
        parameters('stringent', spin='polarized', extra_fdf={'paobasis': 'C 2\nn=2 0 2\n', 'netcharge': '1'})
    )
    assert basis == {
        'pao-basis-size': 'DZP',
        'pao-energy-shift': '0.05 eV',
        '%block paobasis': '\nC 2\nn=2 0 2\n%endblock paobasis',
    }
    assert general['mesh-cutoff'] == '350 Ry'
    assert general['spin'] == 'polarized'
    assert general['netcharge'] == '1'
    assert not [key for key in general if 'pao' in key]


def test_the_layout_is_that_of_aiida_siesta(benzene: Structure) -> None:
    text = write_fdf(benzene, parameters())
    heads = re.findall(r'^# -- (.*) follows', text, re.MULTILINE)
    assert heads == ['Basis Set Info', 'Structural Info']
    assert '    1     6      C\n    2     1      H\n' in text
    coordinates = text.split('%block atomiccoordinatesandatomicspecies\n')[1].splitlines()
    assert re.fullmatch(r'( +\d+\.\d{10}){3}    1      C      1', coordinates[0])
    assert text.isascii()


def test_a_density_to_begin_with_belongs_to_no_label() -> None:
    """Where a self-consistency begins does not decide where it ends."""
    begun = RUNS['methanimine-started'].fdf
    assert 'scfreaddeformationchargenetcdf' in begun
    assert read_parameters(read_fdf(begun)) == read_parameters(read_fdf(RUNS['methanimine'].fdf))
    with pytest.raises(ValueError, match='does not change the label'):
        parameters(extra_fdf={'scfreadchargenetcdf': 'T'})


IN_A_BOX = """\
NumberOfSpecies 2
%block ChemicalSpeciesLabel
 1 5 B
 2 7 N
%endblock ChemicalSpeciesLabel
LatticeConstant 1.0 Ang
%block LatticeVectors
 15 0 0
 0 15 0
 0 0 15
%endblock LatticeVectors
AtomicCoordinatesFormat Ang
%block AtomicCoordinatesAndAtomicSpecies
 0.0 0.0 0.0 1
 1.45 0.0 0.0 2
%endblock AtomicCoordinatesAndAtomicSpecies
"""


@pytest.mark.parametrize(
    ('line', 'mesh', 'repeats'),
    [
        ('kgrid.Cutoff 0.0 Ang', None, False),
        ('kgrid.Cutoff 5.0 Ang', None, False),
        ('kgrid.Cutoff 7.49 Ang', None, False),
        ('kgrid.Cutoff 7.51 Ang', [2, 2, 2], True),
        ('kgrid.MonkhorstPack [1 1 1]', None, False),
        ('kgrid_Monkhorst_Pack [9 9 1]', [9, 9, 1], None),
        ('kgrid.MonkhorstPack [9, 9, 1]', [9, 9, 1], None),
        ('%block kgrid.MonkhorstPack\n 9\n 9\n 1\n%endblock', [9, 9, 1], None),
        ('%block kgrid.MonkhorstPack\n 2 0 0\n 0 2 0\n 0 0 2\n%endblock', [2, 2, 2], True),
        ('%block kgrid.MonkhorstPack\n 0 3 0 0.\n 0 0 5 0.\n -4 0 0 0.5\n%endblock', [4, 3, 5], True),
        ('%block kgrid.MonkhorstPack\n 1\n 1\n 1\n%endblock\nkgrid.Cutoff 9 Ang', [1, 1, 1], False),
    ],
)
def test_forms_of_a_mesh(line: str, mesh: list[int] | None, repeats: bool | None) -> None:
    fdf = read_fdf(f'{IN_A_BOX}{line}\n')
    assert read_parameters(fdf).k_grid == mesh
    pbc = read_structure(fdf).pbc.tolist()
    assert pbc == ([True, True, False] if repeats is None else [repeats] * 3)


def test_the_mesh_of_a_cutoff_follows_the_shortest_vectors() -> None:
    """A primitive cell of aluminium has three vectors of one length; a skewed one has the same lattice."""
    primitive = 2.025 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    skewed = np.array([[1, 0, 0], [3, 1, 0], [0, 2, 1]]) @ primitive
    for cell in (primitive, skewed):
        mesh = mesh_of_cutoff(11.0, cell)
        supercell = np.array(mesh.supercell) @ cell
        assert np.linalg.norm(supercell, axis=1) == pytest.approx([8 * 2.8637824638] * 3)
        assert mesh.shift == (0.5, 0.5, 0.5)
    assert mesh_of_cutoff(11.0, primitive).divisions == [8, 8, 8]


def test_a_mesh_that_is_not_diagonal_is_kept_as_it_is() -> None:
    fdf = read_fdf(IN_A_BOX + '%block kgrid.MonkhorstPack\n 2 -2 0 0.\n 2 2 0 0.\n 0 0 1 0.\n%endblock\n')
    found = read_parameters(fdf)
    assert (found.k_grid, found.k_supercell) == (None, [[2, -2, 0], [2, 2, 0], [0, 0, 1]])
    assert read_structure(fdf).pbc.tolist() == [True, True, False]
    assert SiestaParameters.model_validate(found.model_dump()) == found
    assert read_parameters(read_fdf(write_fdf(read_structure(fdf), found))) == found
    with pytest.raises(EngineError, match='not diagonal'):
        monkhorst_pack_mesh(found, read_structure(fdf))


def test_a_less_than_sign_refers_to_a_file() -> None:
    """Within quotes it is a letter, and in a title where there is no such file."""
    files = {'spin.fdf': 'Spin polarized\n', 'b': 'SystemName another\n'}
    assert read_fdf('SystemName a<b\n' + IN_A_BOX, {}.get).get('SystemName') == 'a < b'
    assert read_fdf('SystemName < b\n' + IN_A_BOX, files.get).get('SystemName') == 'another'
    assert read_fdf('SystemName "a < b"\n').get('SystemName') == 'a < b'
    assert read_parameters(read_fdf('SystemName a<c\nSpin < spin.fdf\n' + IN_A_BOX, files.get)).spin == 'polarized'
    with pytest.raises(EngineError, match=r'takes Spin from b, which does not have it'):
        read_fdf('Spin < b\n', files.get)
    with pytest.raises(EngineError, match=r'refers to c, which is not there'):
        read_fdf('Spin < c\n', files.get)


def test_geometry_of_an_earlier_run_is_not_in_the_input() -> None:
    for flag in ('MD.UseSaveXV T', 'UseSaveData', 'UseStructFile .true.'):
        with pytest.raises(StructureError, match='only the output says which one'):
            read_structure(read_fdf(f'{flag}\n{IN_A_BOX}'))
    assert len(read_structure(read_fdf(f'MD.UseSaveXV F\n{IN_A_BOX}'))) == 2


def test_a_supercell_is_the_cell_repeated() -> None:
    fdf = read_fdf(IN_A_BOX + '%block SuperCell\n 2 0 0\n 0 1 0\n 0 0 3\n%endblock\n')
    structure = read_structure(fdf)
    assert structure.numbers.tolist() == [5, 7] * 6
    assert np.diag(structure.cell).tolist() == [30.0, 15.0, 45.0]
    expected = [[0, 0, 0], [1.45, 0, 0], [15, 0, 0], [16.45, 0, 0], [0, 0, 15], [1.45, 0, 15]]
    np.testing.assert_allclose(structure.positions[:6], expected, atol=1e-9)
    with pytest.raises(StructureError, match='more than 1000000 atoms'):
        read_structure(read_fdf(IN_A_BOX + '%block SuperCell\n 9e9 0 0\n 0 9e9 0\n 0 0 9e9\n%endblock\n'))
    with pytest.raises(StructureError, match='is not diagonal'):
        read_structure(read_fdf(IN_A_BOX + '%block SuperCell\n 1 1 0\n 0 1 0\n 0 0 1\n%endblock\n'))


def test_ghosts_and_synthetic_atoms_are_named() -> None:
    for number, what in ((-7, 'ghost'), (201, 'synthetic')):
        with pytest.raises(StructureError, match=rf'atom 2 is (a )?{what}: species 2'):
            read_structure(read_fdf(IN_A_BOX.replace('2 7 N', f'2 {number} N')))
    assert (
        len(read_structure(read_fdf(IN_A_BOX.replace('1.45 0.0 0.0 2', '1.45 0.0 0.0 1').replace('2 7', '2 -7')))) == 2
    )


SMALL_INPUT = b"""\
SystemLabel water
NumberOfAtoms 3
NumberOfSpecies 2
LatticeConstant 10.0 Ang
%block LatticeVectors
  1.0 0.0 0.0
  0.0 1.1 0.0
  0.0 0.0 0.9
%endblock LatticeVectors
%block kgrid_Monkhorst_Pack
  2 0 0 0.5
  0 1 0 0.0
  0 0 1 0.0
%endblock kgrid_Monkhorst_Pack
%block ChemicalSpeciesLabel
 1 8 O
 2 1 H
%endblock ChemicalSpeciesLabel
AtomicCoordinatesFormat Ang
%block AtomicCoordinatesAndAtomicSpecies
  0.000 0.000 0.000 1
  0.757 0.586 0.000 2
 -0.757 0.586 0.000 2
%endblock AtomicCoordinatesAndAtomicSpecies
MeshCutoff 200 Ry
PAO.EnergyShift 0.01 Ry
ElectronicTemperature 300 K
XC.functional GGA
XC.authors PBE
%include water.fdf
MD.Steps 0
"""


@fuzzed()
def test_no_mutation_of_an_input_is_a_traceback(seed: int) -> None:
    for content in mutations(SMALL_INPUT, seed):
        text = content.decode('utf-8', 'replace')
        try:
            fdf = read_fdf(text, {'water.fdf': 'Spin polarized\n'}.get)
            structure = read_structure(fdf)
            parameters_of_structure(fdf, structure)
        except (EngineError, StructureError, EvaluationError):
            continue
        assert np.isfinite(structure.positions).all()
        assert np.isfinite(structure.cell).all()
