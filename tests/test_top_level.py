"""The short top level of the package, and how its objects show themselves in notebooks."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms

import aiida_nanoml as nm
from aiida_nanoml.engines.label_set import ENERGIES, LabelSet, LabelSource
from aiida_nanoml.text import html_table

CO = Atoms('CO', [[0, 0, 0], [0, 0, 1.1]])


@pytest.fixture(scope='module')
def flakes() -> nm.StructureSet:
    return nm.generate_flakes(nm.FlakeParameters(family='z', size=2, count=10, seed=4))


def test_names_of_the_top_level_are_there() -> None:
    for name in nm.__all__:
        assert getattr(nm, name) is not None
    assert set(nm.__all__) <= set(dir(nm))
    assert all(f'``{name}``' in nm.__doc__ for name in nm.__all__ if not name.startswith('_'))
    with pytest.raises(AttributeError, match="no attribute 'flake'"):
        nm.flake  # noqa: B018


def test_flakes_are_made_without_aiida_and_without_what_is_slow_to_import() -> None:
    program = """
import sys
import aiida_nanoml as nm
print(*sorted({'numpy', 'pydantic'} & set(sys.modules)))
nm.generate_flakes(nm.FlakeParameters(family='z', size=2, count=1, seed=4))
print(*sorted({'aiida', 'sklearn', 'pandas', 'tensorflow', 'ase', 'pymatgen', 'matplotlib'} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, '-c', program], check=True, capture_output=True, text=True)
    assert found.stdout == '\n\n'


def test_a_set_is_made_of_one_structure_of_another_library() -> None:
    from pymatgen.core import Molecule

    expected = nm.StructureSet.from_ase([CO])
    node = SimpleNamespace(get_ase=lambda: CO)  # as StructureData of AiiDA
    for given in (CO, node, [node]):
        assert nm.StructureSet.from_ase(given) == expected
    assert nm.StructureSet.from_pymatgen(Molecule('CO', CO.positions)) == expected


def test_sets_as_data_frames(flakes: nm.StructureSet) -> None:
    frame = flakes.to_dataframe()
    assert frame.columns.tolist() == ['name', 'family', 'formula', 'n_atoms', 'periodic', 'odd_electrons', 'hash']
    assert frame['n_atoms'].tolist() == [36] * 10
    assert frame['hash'].tolist() == flakes.hashes.tolist()
    labels = _labels(flakes)
    assert labels.to_dataframe()['gap_ev'].tolist() == list(range(10))
    dataset = _dataset(flakes)
    frame = dataset.to_dataframe()
    assert frame[list(dataset.feature_names)].to_numpy().tolist() == dataset.X.tolist()
    assert frame['gap'].tolist() == dataset.y.tolist()
    assert frame['baseline_gap_ev'].tolist() == dataset.baseline.tolist()


def test_sets_show_themselves(flakes: nm.StructureSet) -> None:
    shown = (
        (flakes, '<StructureSet: 10 structures, 360 atoms, B-C-H-N>', 8),
        (_labels(flakes), '<LabelSet: 10 rows, 10 finished, GFN1-xTB 0.4, protocol fast>', 8),
        (_dataset(flakes), '<Dataset: 10 rows, 2 features, target gap, with a baseline>', 8),
    )
    for found, text, rows in shown:
        assert repr(found) == text
        assert found._repr_html_().count('<tr>') == 1 + rows
    assert repr(nm.StructureSet.from_ase(CO)[0]) == '<Structure: CO, 2 atoms, periodic along 0 vectors>'
    picture = nm.StructureSet.from_ase(CO)[0]._repr_html_()
    assert (picture.count('<circle'), picture.count('<line')) == (2, 1)
    assert '<b>' not in html_table('<b>', ['<b>'], [['<b>']])


def _labels(structures: nm.StructureSet) -> LabelSet:
    n = len(structures)
    return LabelSet(
        source=LabelSource('xtb', '0.4', 'GFN1-xTB', 'fast'),
        hashes=structures.hashes,
        status=np.array(['ok'] * n),
        messages=np.array([''] * n),
        energies={name: np.arange(float(n)) for name in ENERGIES},
        n_electrons=np.full(n, 8),
        open_shell=np.zeros(n, dtype=bool),
        wall_s=np.ones(n),
    )


def _dataset(structures: nm.StructureSet) -> nm.Dataset:
    n = len(structures)
    return nm.Dataset(
        X=np.arange(2.0 * n).reshape(n, 2),
        y=np.arange(float(n)),
        hashes=structures.hashes,
        names=structures.names,
        families=structures.families,
        split=np.array(['train'] * n),
        feature_names=('a', 'b'),
        baseline=np.ones(n),
    )
