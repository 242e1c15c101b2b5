"""Descriptors by name, and the identity that tells two sets of columns apart."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features import (
    QuadrupletDescriptor,
    describe,
    descriptor_identity,
    descriptor_names,
    freeze,
    make_descriptor,
)
from aiida_nanoml.features.registry import is_frozen, learns, mismatch
from aiida_nanoml.structures import (
    AlloyParameters,
    FlakeParameters,
    StructureSet,
    flake_lattice,
    generate_alloys,
    generate_flakes,
)

FLAKES = generate_flakes(FlakeParameters('h', 2, count=6, seed=5))
DESCRIBED = {
    'alloy': ({}, generate_alloys(AlloyParameters(count=3, seed=5))),
    'atom_count': ({'unit': 2}, FLAKES),
    'clusters': ({'radii': [1, 2]}, FLAKES),
    'combined': ({'parts': [{'name': 'quadruplets'}, {'name': 'shells'}]}, FLAKES),
    'formulas': ({}, FLAKES),
    'quadruplets': ({}, FLAKES),
    'shells': ({}, FLAKES),
    'tight_binding': ({'parameters': 'gfn1-xtb'}, FLAKES),
}
"""Parameters of each registered descriptor, and six structures that it can describe; two are of another package."""


def write_distribution(folder, monkeypatch, entry, module):
    """Install a small third-party distribution: metadata with one entry point, and a module."""
    info = folder / 'thirdparty-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text(f'[aiida_nanoml.descriptors]\n{entry}\n')
    (folder / 'thirdparty_descriptors.py').write_text(module)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, 'thirdparty_descriptors', raising=False)


COUNTER = """
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

class AtomCount(TransformerMixin, BaseEstimator):
    def __init__(self, unit=1):
        self.unit = unit
    def fit(self, structures, y=None):
        return self
    def transform(self, structures):
        return structures.counts[:, None] / self.unit
    def get_feature_names_out(self, input_features=None):
        return np.array(['n_atoms'], dtype=object)
"""


@pytest.fixture(scope='module')
def sized():
    """Flakes of 36, 60 and 72 atoms."""
    return StructureSet.from_structures(
        [flake_lattice(family, size) for family, size in (('z', 2), ('h', 2), ('z', 3))]
    )


def test_made_by_name():
    assert 'quadruplets' in descriptor_names()
    made = make_descriptor('quadruplets', classes=26, unknown='drop')
    assert isinstance(made, QuadrupletDescriptor)
    assert made.get_params() == {'classes': 26, 'unknown': 'drop'}


def test_all_registered_descriptors_are_held_to_the_contract(third_party_path):
    assert set(descriptor_names()) == {*DESCRIBED, 'forgetful'}, 'one breaks the contract on purpose'


@pytest.mark.parametrize('name', DESCRIBED)
def test_the_contract_of_descriptors(name, third_party_path):
    """A named column for each number, and rows that depend on their own structure only, in any order of its atoms."""
    params, structures = DESCRIBED[name]
    descriptor = freeze(make_descriptor(name, **params), structures)
    identity = json.loads(json.dumps(descriptor_identity(descriptor)))
    features = describe(identity, structures)
    assert features.shape == (6, identity['n_features'])
    assert len(set(identity['feature_names'])) == identity['n_features']
    assert np.isfinite(features).all()
    np.testing.assert_allclose(describe(identity, structures.select([4, 1])), features[[4, 1]], atol=1e-9)
    backwards = StructureSet.from_ase([atoms[::-1] for atoms in structures.to_ase()])
    np.testing.assert_allclose(describe(identity, backwards), features, atol=1e-9)


def test_unknown_names_and_parameters_are_refused():
    with pytest.raises(DescriptorError, match=r"no descriptor 'quads'; registered: .*quadruplets"):
        make_descriptor('quads')
    with pytest.raises(
        DescriptorError, match="unknown parameter 'bins' of QuadrupletDescriptor; valid: classes, unknown"
    ):
        make_descriptor('quadruplets', bins=3)
    with pytest.raises(DescriptorError, match='22 or 26'):
        make_descriptor('quadruplets', classes=23)


def test_identity_is_json_and_makes_the_same_descriptor():
    original = QuadrupletDescriptor(classes=26, unknown='overflow')
    identity = json.loads(json.dumps(descriptor_identity(original)))
    assert identity['name'] == 'quadruplets'
    assert identity['n_features'] == len(identity['feature_names']) == 31
    again = make_descriptor(identity['name'], **identity['params'])
    assert descriptor_identity(again) == identity
    assert descriptor_identity(QuadrupletDescriptor()) != identity


def test_how_two_identities_differ():
    """Identities may have thousands of columns: nobody wants to read them."""
    known = [f'C{number}' for number in range(500)]
    given = {'name': 'formulas', 'params': {'known': known}, 'feature_names': known}
    text = mismatch(given, given | {'feature_names': [*known[:3], *known[4:]]})
    assert text == (
        'the features come from the descriptor '
        "formulas (known=['C0', 'C1', 'C2', 'C3', 'C4', 'C5', ...]; 500 columns), "
        "the model was trained on formulas (known=['C0', 'C1', 'C2', 'C3', 'C4', 'C5', ...]; 499 columns), "
        "the first other column is 'C3' for 'C4'"
    )
    assert 'trained on None (; 0 columns)' in mismatch(given, {})


def test_an_unregistered_transformer_has_no_identity():
    with pytest.raises(DescriptorError, match='StandardScaler is not registered'):
        descriptor_identity(StandardScaler())


def test_a_descriptor_that_learns_is_frozen_into_its_parameters(third_party_path, sized):
    made = make_descriptor('formulas')
    assert learns(made)
    assert not is_frozen(made)
    frozen = freeze(made, sized.select([0, 1]))
    identity = json.loads(json.dumps(descriptor_identity(frozen)))
    assert identity['params'] == {'known': ['C24H12', 'C42H18']}
    assert describe(identity, sized).tolist() == [[1, 0], [0, 1], [0, 0]]
    again = make_descriptor('formulas', **identity['params'])
    assert freeze(again, sized) is again, 'what was learnt must not be learnt anew'


def test_what_was_learnt_and_not_frozen_has_no_identity(third_party_path, sized):
    with pytest.raises(DescriptorError, match="'formulas' learns from structures: fit it"):
        descriptor_identity(make_descriptor('formulas').fit(sized))
    with pytest.raises(DescriptorError, match=r'frozen\(\) of Forgetful keeps something outside'):
        freeze(make_descriptor('forgetful'), sized)


def test_some_of_the_columns_in_any_order(third_party_path, sized):
    for name, params in (('formulas', {'known': ['C24H12', 'C42H18', 'C54H18']}), ('quadruplets', {})):
        full = descriptor_identity(make_descriptor(name, **params))
        chosen = full['feature_names'][2::-2]
        np.testing.assert_array_equal(
            describe(full | {'feature_names': chosen}, sized), describe(full, sized)[:, [2, 0]], err_msg=name
        )
    with pytest.raises(DescriptorError, match=r"'quadruplets' has no column 'C\|XYZ'"):
        describe(full | {'feature_names': ['C|CCC', 'C|XYZ']}, sized)


def test_a_descriptor_that_learns_nothing_is_frozen_as_it_is(sized):
    made = make_descriptor('quadruplets')
    assert not learns(made)
    assert freeze(made, sized) is made


def test_third_party_descriptor(tmp_path, monkeypatch):
    write_distribution(tmp_path, monkeypatch, 'atom_count = thirdparty_descriptors:AtomCount', COUNTER)
    assert {'atom_count', 'quadruplets'} <= set(descriptor_names())
    assert descriptor_names() == sorted(descriptor_names())
    made = make_descriptor('atom_count', unit=2)
    assert descriptor_identity(made) == {
        'name': 'atom_count',
        'params': {'unit': 2},
        'feature_names': ['n_atoms'],
        'n_features': 1,
    }


def test_third_party_cannot_replace_a_built_in_descriptor(tmp_path, monkeypatch):
    write_distribution(tmp_path, monkeypatch, 'quadruplets = thirdparty_descriptors:AtomCount', COUNTER)
    with pytest.raises(DescriptorError, match=r"'quadruplets' is claimed by aiida_nanoml.* and thirdparty_descriptors"):
        make_descriptor('quadruplets')


def test_what_is_no_descriptor_is_refused(tmp_path, monkeypatch):
    write_distribution(
        tmp_path, monkeypatch, 'scaler = thirdparty_descriptors:Scaler', 'class Scaler:\n    def fit(self): ...\n'
    )
    with pytest.raises(DescriptorError, match=r"'scaler' .* is not a descriptor: .* transform and get_feature_names_o"):
        make_descriptor('scaler')


def test_a_broken_third_party_harms_only_itself(tmp_path, monkeypatch):
    write_distribution(
        tmp_path, monkeypatch, 'broken = thirdparty_descriptors:Nothing', 'raise RuntimeError("half installed")'
    )
    assert descriptor_identity(make_descriptor('quadruplets'))['name'] == 'quadruplets'
    with pytest.raises(DescriptorError, match=r'broken.*cannot be loaded: RuntimeError: half installed'):
        make_descriptor('broken')


def test_parameters_that_json_cannot_hold_have_no_identity(tmp_path, monkeypatch):
    write_distribution(tmp_path, monkeypatch, 'atom_count = thirdparty_descriptors:AtomCount', COUNTER)
    with pytest.raises(DescriptorError, match='do not fit into JSON'):
        descriptor_identity(make_descriptor('atom_count', unit=float('nan')))


@pytest.mark.parametrize('package', ['structures', 'features'])
def test_import_is_light(package):
    """`verdi` must not pay for scikit-learn or ASE before a descriptor or a file is wanted."""
    heavy = ['sklearn', 'scipy', 'ase', 'pymatgen', 'tensorflow', 'aiida']
    code = f'import sys, aiida_nanoml.{package}; print([name for name in {heavy} if name in sys.modules])'
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == '[]'
