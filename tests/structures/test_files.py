"""Files: extended XYZ keeps everything, other formats what they can, and unreadable ones are refused with a reason."""

import bz2
import gzip
import lzma
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures import (
    FlakeParameters,
    StructureSet,
    generate_flakes,
    isolate,
    read_structures,
    write_structures,
)
from tests.mutations import fuzzed, mutations

DATA = Path(__file__).parent / 'data'


@pytest.mark.parametrize('suffix', ['.extxyz', '.xyz'])
def test_extended_xyz_keeps_everything(tmp_path, suffix):
    flakes = generate_flakes(FlakeParameters('h', 2, 12, 8))
    copper = StructureSet.from_ase([bulk('Cu') * (2, 1, 1)], names=['copper'], families=['fcc'])
    boxed = StructureSet.from_ase([molecule('H2O', vacuum=5.0)], names=['water'], families=['box'])
    everything = StructureSet.concatenate([flakes, copper, boxed])
    path = tmp_path / f'set{suffix}'
    write_structures(everything, path)
    assert read_structures(path) == everything


@settings(deadline=None, max_examples=60)
@given(
    name=st.one_of(
        st.sampled_from(
            ['0001', 'T', '1.5', '1e3', 'a b', 'x"y', 'back\\slash', '[1, 2]', "it's", '{1 2}', 'a=b', '_JSON 1']
        ),
        st.text(st.characters(exclude_characters='\0', exclude_categories=['Cs']), min_size=1, max_size=12),
    )
)
def test_any_name_survives(tmp_path_factory, name):
    """Readers of the comment line guess types; a name must stay the text that it was."""
    named = StructureSet([8, 1], [[0, 0, 0], [0, 0, 1]], [0, 2], names=[name])
    path = tmp_path_factory.mktemp('names') / 'one.extxyz'
    write_structures(named, path)
    assert read_structures(path).names.tolist() == named.names.tolist()


@pytest.mark.parametrize('name', ['007', '1e5', 'T', '1.0', '1,2'])
def test_names_of_other_programs_stay_texts(tmp_path, name):
    path = tmp_path / 'names.xyz'
    for written in (f'name={name} family=3', f'family = "3" name="{name}"'):
        path.write_text(f'1\nProperties=species:S:1:pos:R:3 {written}\nHe 0 0 0\n')
        found = read_structures(path)
        assert (found.names.tolist(), found.families.tolist()) == ([name], ['3'])


def test_other_formats_go_through_ase(tmp_path):
    copper = StructureSet.from_ase([bulk('Cu', cubic=True)])
    path = tmp_path / 'copper.cif'
    write_structures(copper, path)
    again = read_structures(path)
    assert again.names.tolist() == ['copper']
    assert again.formulas == ['Cu4']
    np.testing.assert_allclose(again.cells, copper.cells, atol=1e-6)


def test_index_and_default_names(tmp_path):
    path = tmp_path / 'many.extxyz'
    write_structures(StructureSet.from_ase([molecule('H2O'), molecule('CO2'), molecule('C6H6')]), path)
    assert read_structures(path).names.tolist() == ['many-0000', 'many-0001', 'many-0002']
    assert read_structures(path, '1:').formulas == ['CO2', 'C6H6']
    assert read_structures(path, -1).formulas == ['C6H6']


def test_recorded_flakes_can_be_read():
    flake = read_structures(DATA / 's-0000.extxyz')
    assert flake.formulas == ['C44H20B6N4']
    assert not flake.pbc.any()


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(StructureError, match='no file'):
        read_structures(tmp_path / 'absent.xyz')
    with pytest.raises(StructureError, match='no file'):
        read_structures(tmp_path)
    broken = tmp_path / 'broken.xyz'
    broken.write_text('3\n\nH 0 0 0\nH 0 zero 1\n')
    with pytest.raises(StructureError, match=r'broken\.xyz cannot be read'):
        read_structures(broken)
    unknown = tmp_path / 'notes.nothing'
    unknown.write_text('no structure at all')
    with pytest.raises(StructureError, match=r'notes\.nothing cannot be read'):
        read_structures(unknown)
    with pytest.raises(StructureError, match='at the index'):
        read_structures(DATA / 's-0000.extxyz', '5:')


def test_unphysical_content_is_refused_with_the_file(tmp_path):
    path = tmp_path / 'close.xyz'
    path.write_text('2\n\nH 0 0 0\nH 0 0 0.1\n')
    with pytest.raises(StructureError, match=r'close\.xyz: structure 0 \(close\): atom 0 and atom 1'):
        read_structures(path)


def test_what_cannot_be_written_is_refused(tmp_path):
    water = StructureSet.from_ase([molecule('H2O')])
    with pytest.raises(StructureError, match='cannot be written'):
        write_structures(water, tmp_path / 'water.nothing')
    with pytest.raises(StructureError, match='cannot be written'):
        write_structures(water, tmp_path / 'absent' / 'water.extxyz')
    with pytest.raises(StructureError, match='no structure to write'):
        write_structures(water.select([]), tmp_path / 'none.extxyz')


CIF = """\
data_x
_cell_length_a 3.57
_cell_length_b 3.57
_cell_length_c 3.57
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
_symmetry_Int_Tables_number 225
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
SDF = """\
methylene
  own

  3  0  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0  0  0  0  0
    0.0000    0.9000    0.6000 H   0  0  0  0  0  0
    0.0000   -0.9000    0.6000 H   0  0  0  0  0  0
M  END
$$$$

  own

  2  0  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0  0  0  0  0
    0.0000    0.0000    1.1300 O   0  0  0  0  0  0
M  END
> <property>
1.0

$$$$
"""


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding='utf-8')
    return path


@pytest.mark.parametrize(
    ('name', 'content', 'reason'),
    [
        (
            'hea.cif',
            CIF + ''.join(f'{one}1 {one} 0 0 0 0.2\n' for one in ('Al', 'Co', 'Cr', 'Fe', 'Ni')),
            r'structure 0 \(hea\): site 0 is shared by Al 0.2, Co 0.2, Cr 0.2, Fe 0.2, Ni 0.2: .* an ordered cell',
        ),
        ('vacancy.cif', CIF + 'Ni1 Ni 0 0 0 0.75\n', r'site 0 is partly filled by Ni 0.75'),
        (
            'half.pdb',
            'ATOM      1  C   MOL     1       0.000   0.000   0.000  0.50  0.00           C\nEND\n',
            'atom 0 is there by 0.5 only',
        ),
        ('ion.extxyz', '1\nProperties=species:S:1:pos:R:3 charge=1\nN 0 0 0\n', r'a net charge of \+1 is stated'),
        ('ion.xyz', '1\ntotal_charge=-2\nO 0 0 0\n', r'a net charge of -2 is stated'),
        ('ion.mol', SDF.partition('$$$$')[0].replace('M  END', 'M  CHG  1   1   1\nM  END'), r'a net charge of \+1 is'),
        ('ion.sdf', SDF.replace('O   0  0', 'O   0  5'), r'structure 1 \(ion-0001\): a net charge of -1 is stated'),
        (
            'partial.extxyz',
            '2\nProperties=species:S:1:pos:R:3:initial_charges:R:1\nN 0 0 0 0.6\nO 0 0 1.1 0.4\n',
            r'a net charge of \+1 is stated',
        ),
        *(
            (
                f'{column}.extxyz',
                f'2\nProperties=species:S:1:pos:R:3:{column}:R:1\nN 0 0 0 0.6\nO 0 0 1.1 0.4\n',
                r'a net charge of \+1 is stated',
            )
            for column in ('charges', 'formal_charges', 'charge')
        ),
        ('triplet.xyz', '2\nmultiplicity=3\nO 0 0 0\nO 0 0 1.2\n', 'the spin multiplicity 3 is stated'),
        (
            'ghost.XV',
            ' 20 0 0 0 0 0\n 0 20 0 0 0 0\n 0 0 20 0 0 0\n 2\n 1 1 10. 10. 10. 0 0 0\n 2 -1 11. 10. 12. 0 0 0\n',
            r'atom 1 is a ghost \(atomic number -1\)',
        ),
        ('spaces.xyz', '1\nCharge = -1\nO 0 0 0\n', 'a net charge of -1 is stated, which'),
        ('colon.xyz', '1\n{"charge": 1}\nN 0 0 0\n', r'a net charge of \+1 is stated, which'),
        ('words.xyz', '1\na cation of charge 2+\nO 0 0 0\n', r'a net charge of \+2 is stated, which'),
        ('fraction.xyz', '1\ncharge=0.5\nO 0 0 0\n', r'a net charge of \+0.5 is stated, which'),
        (
            'pair.xyz',
            '1\n\nO 0 0 0\n1\n-1 2\nO 0 0 0\n',
            r"1 \(pair-0001\): a net charge of -1 is stated in '-1 2', ch",
        ),
        ('spin.xyz', '2\n0 3\nO 0 0 0\nO 0 0 1.2\n', "the spin multiplicity 3 is stated in '0 3', charge and"),
        (
            'ion.com',
            '#p hf\n\nx\n\n1 1\nN 0.0 0.0 0.0\nO 0.0 0.0 1.06\n\n',
            r"a net charge of \+1 is stated in '1 1', charge and",
        ),
        (
            'ion.pdb',
            'HETATM    1  NA  ION     1       0.000   0.000   0.000  1.00  0.00          NA1+\nEND\n',
            r'a net charge of \+1 is stated, which',
        ),
        (
            'place.cif',
            CIF.replace('_atom_site_occupancy\n', '') + 'Ni1 Ni 0 0 0\nCo1 Co 0.5 0.5 0\n',
            r'place.cif: site 0 is shared by Ni and Co \(site 1\): a mean site is no structure',
        ),
        ('heavy.xyz', '2\n\nC 0 0 0\nD 0 0 1.1\n', "'D' on line 4 is the isotope 2 of hydrogen, which .*: write H"),
        ('heavy.cif', CIF + 'D1 D 0 0 0 1.0\n', 'atom 0 is the isotope 2 of hydrogen'),
        ('heavy.sdf', SDF.replace('M  END', 'M  ISO  1   2   2\nM  END'), r'record 1: isotopes are stated \(M  ISO\)'),
        ('dummy.xyz', '2\n\nX-H 0 0 0\nC 0 0 1.1\n', "'X-H' on line 3 is no element"),
        ('label.sdf', SDF.replace(' O ', ' O1'), "record 2: 'O1' is no element"),
        ('many.sdf', SDF.replace('  3  0', ' 30  0'), 'record 1: 30 atoms are announced, 3 follow'),
        ('few.sdf', SDF.replace('  3  0', '  2  0'), 'record 1: 2 atoms are announced, 3 follow'),
        ('huge.extxyz', '2000000000\n\nC 0 0 0\n', "line 1: '2000000000' atoms are announced, 1 lines follow"),
        ('huge.xyz', f'1\n\nC 0 0 0\n{"9" * 30}\n\nC 0 0 0\n', 'line 4: .* atoms are announced, 1 lines follow'),
        (
            'columns.extxyz',
            '1\nProperties=species:S:99999999999:pos:R:3\nC 0 0 0\n',
            'line 2: Properties announce the columns 99999999999, 3, 4 words follow',
        ),
        ('huge.gen', '2000000000 C\nC\n1 1 0 0 0\n', "line 1: '2000000000' atoms are announced, 1 follow"),
        ('huge.vasp', 'x\n1.0\n1 0 0\n0 1 0\n0 0 1\nC\n2000000000\nDirect\n0 0 0\n', "line 7: '2000000000' atoms"),
        ('huge.cube', f'a\nb\n {"9" * 20} 0 0 0\n2 1 0 0\n2 0 1 0\n2 0 0 1\n', 'line 3: .* are announced'),
        ('gap.xyz', '1\n\nC 0 0 0\n\n1\n\nC 0 0 0\n', 'line 4: an empty line, and content after it'),
        (
            'nested.extxyz',
            f'1\nProperties=species:S:1:pos:R:3 a="_JSON {"[" * 20000}"\nC 0 0 0\n',
            'nested|cannot be read',
        ),
    ],
)
def test_what_a_set_cannot_hold_is_refused_by_name(tmp_path, name, content, reason):
    path = written(tmp_path, name, content)
    started = time.monotonic()
    with pytest.raises(StructureError, match=reason) as caught:
        read_structures(path)
    assert name in str(caught.value)
    assert time.monotonic() - started < 1


def test_every_record_of_an_sdf_file_is_read(tmp_path):
    path = written(tmp_path, 'two.sdf', SDF)
    both = read_structures(path)
    assert both.formulas == ['CH2', 'CO']
    assert both.names.tolist() == ['methylene', 'two-0001']
    assert read_structures(path, -1).formulas == ['CO']
    assert read_structures(path, '1:').formulas == ['CO']


def test_neutral_structures_with_charges_are_taken(tmp_path):
    path = written(
        tmp_path,
        'salt.extxyz',
        '2\nProperties=species:S:1:pos:R:3:initial_charges:R:1 charge=0 mult=1\nNa 0 0 0 0.9\nCl 0 0 2.4 -0.9\n',
    )
    assert read_structures(path).formulas == ['ClNa']
    for number, comment in enumerate(('0 1', 'charge: 0 mult: 1', 'no charge', 'charges of 3 atoms', 'step 1 2')):
        named = written(tmp_path, f'neutral{number}.xyz', f'2\n{comment}\nC 0 0 0\nO 0 0 1.1\n')
        assert read_structures(named).formulas == ['CO'], comment
    radical = written(tmp_path, 'radical.xyz', '1\nmultiplicity=2\nH 0 0 0\n')
    assert read_structures(radical).formulas == ['H']
    zwitterion = SDF.replace('O   0  0', 'O   0  3').replace('1.1300 O', '1.1300 O').replace('C   0  0', 'C   0  5')
    assert len(read_structures(written(tmp_path, 'z.sdf', zwitterion.split('$$$$\n')[1]))) == 1


def test_a_molecule_of_a_pdb_file_has_no_cell(tmp_path):
    atom = 'HETATM    1  N   MOL     1       0.000   0.000   0.000  1.00  0.00           N  \nEND\n'
    dummy = 'CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n'
    alone, crystal = (
        read_structures(written(tmp_path, f'{name}.pdb', head + atom))[0]
        for name, head in (('alone', dummy), ('crystal', dummy.replace('1.000 ', '9.000 ')))
    )
    assert not alone.pbc.any()
    assert not alone.cell.any()
    assert crystal.pbc.all()


@pytest.mark.parametrize(('labels', 'reason'), [('', '1 labels of orbitals .* 0 follow'), ('9 1 2\n', '9 .* 2 follow')])
def test_a_cube_without_the_labels_that_it_announces_ends(tmp_path, labels, reason):
    cube = FUZZED['f.cube'].replace('2 0 0 0', '-2 0 0 0', 1).replace(' 1.0 2.0\n', labels)
    with pytest.raises(StructureError, match=f'line 9: {reason}'):
        read_structures(written(tmp_path, 'f.cube', cube))


def test_a_compressed_file_is_checked_as_its_content(tmp_path):
    named = FUZZED['f.extxyz'].replace('pbc=', 'name=007 pbc=')
    for name, module in (('co.extxyz.gz', gzip), ('co.extxyz.xz', lzma), ('co.extxyz.bz2', bz2)):
        (tmp_path / name).write_bytes(module.compress(named.encode()))
        assert read_structures(tmp_path / name).names.tolist() == ['007']
    (tmp_path / 'co.sdf.gz').write_bytes(gzip.compress(SDF.encode()))
    assert len(read_structures(tmp_path / 'co.sdf.gz')) == len(read_structures(written(tmp_path, 'co.sdf', SDF)))
    (tmp_path / 'big.xyz.gz').write_bytes(gzip.compress(b'2000000000\n\nC 0 0 0\n'))
    with pytest.raises(
        StructureError, match=r'big.xyz.gz cannot be read.* line 1: .2000000000. atoms are announced, 1 '
    ):
        read_structures(tmp_path / 'big.xyz.gz')
    (tmp_path / 'bad.xyz.gz').write_bytes(b'2\n\nC 0 0 0\nC 0 0 1.4\n')
    with pytest.raises(StructureError, match='not compressed as its name says'):
        read_structures(tmp_path / 'bad.xyz.gz')


def test_a_molecule_in_a_box_is_isolated_on_demand(tmp_path):
    water = molecule('H2O', vacuum=6.0)
    water.pbc = True
    water.positions -= [0, 0, 6.5]  # the face of the box divides it
    water.wrap()
    boxed = StructureSet.from_ase([water], names=['water'])
    found = isolate(boxed)
    assert not found.pbc.any()
    assert found.cells.any()
    assert found.hashes.tolist() == StructureSet.from_ase([molecule('H2O')]).hashes.tolist()
    assert isolate(found) == found
    crystal = StructureSet.from_ase([bulk('Cu', cubic=True)], names=['copper'])
    with pytest.raises(
        StructureError, match=r'copper\) is no isolated one in a box: its images are 1.8\d Å apart along'
    ):
        isolate(crystal)


FUZZED = {
    'f.extxyz': '2\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="F F F"\nC 0 0 0\nO 0 0 1\n',
    'f.xyz': '2\n\nC 0 0 0\nO 0 0 1.1\n2\n\nN 0 0 0\nN 0 0 1.1\n',
    'f.XV': ' 20. 0 0 0 0 0\n 0 20. 0 0 0 0\n 0 0 20. 0 0 0\n 2\n 1 6 10. 10. 10. 0 0 0\n 2 8 11. 10. 12. 0 0 0\n',
    'f.gen': '2 C\nC O\n1 1 0.0 0.0 0.0\n2 2 0.0 0.0 1.1\n',
    'f.vasp': 'CO\n1.0\n9 0 0\n0 9 0\n0 0 9\nC O\n1 1\nCartesian\n0 0 0\n0 0 1.1\n',
    'f.cube': 'a\nb\n2 0 0 0\n2 8.5 0 0\n1 0 8.5 0\n1 0 0 8.5\n6 0 0 0 0\n8 0 0 0 2.1\n 1.0 2.0\n',
    'f.sdf': SDF,
}


@pytest.fixture(scope='module')
def memory_folder(tmp_path_factory):
    """A folder in memory, where the system has one: most of the time would go into opening files."""
    memory = Path('/dev/shm')  # noqa: S108
    if not os.access(memory, os.W_OK):
        yield tmp_path_factory.mktemp('files')
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.mark.parametrize('name', FUZZED)
@fuzzed(15)
def test_no_mutation_of_a_file_of_structures_is_a_traceback(memory_folder, name, seed):
    path = memory_folder / name
    for content in mutations(FUZZED[name].encode(), seed):
        path.write_bytes(content)
        try:
            found = read_structures(path)
        except StructureError:
            continue
        assert np.isfinite(found.positions).all()
        assert len(found.numbers) >= 1
