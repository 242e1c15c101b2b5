"""Files: extended XYZ keeps everything, other formats what they can, and unreadable ones are refused with a reason."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures import FlakeParameters, StructureSet, generate_flakes, read_structures, write_structures

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
