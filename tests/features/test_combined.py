"""Several descriptors side by side."""

import json

import numpy as np
import pytest

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features import describe, descriptor_identity, freeze, make_descriptor
from aiida_nanoml.features.registry import is_electronic, is_frozen, learns

QUADRUPLETS = {'name': 'quadruplets', 'params': {'unknown': 'overflow'}}
FORMULAS = {'name': 'formulas'}


@pytest.fixture
def combined(third_party_path, flakes):
    """Quadruplets and formulas, which were learnt from the first four flakes."""
    return freeze(make_descriptor('combined', parts=[QUADRUPLETS, FORMULAS]), flakes.select(slice(4)))


def test_columns_stand_side_by_side(combined, flakes):
    names = list(combined.get_feature_names_out())
    assert names[0] == 'quadruplets/C|CCC'
    assert names[27:] == [f'formulas/{formula}' for formula in sorted(set(flakes.select(slice(4)).formulas))]
    features = combined.transform(flakes)
    quadruplets = make_descriptor('quadruplets', **QUADRUPLETS['params'])
    np.testing.assert_array_equal(features[:, :27], quadruplets.transform(flakes))
    unseen = (~features[:, 27:].any(axis=1)).astype(int)
    np.testing.assert_array_equal(combined.unknown_counts(flakes), quadruplets.unknown_counts(flakes) + unseen)


def test_a_combination_learns_if_a_part_does(third_party_path, flakes):
    alone = make_descriptor('combined', parts=[QUADRUPLETS])
    assert not learns(alone)
    assert not is_electronic(alone)
    assert freeze(alone, flakes) is alone
    both = make_descriptor('combined', parts=[QUADRUPLETS, FORMULAS])
    assert learns(both)
    assert not is_frozen(both)
    for use in (both.get_feature_names_out, both.frozen, lambda: both.transform(flakes)):
        with pytest.raises(DescriptorError, match="part 'formulas' learns from structures: fit"):
            use()


def test_identity_makes_the_same_columns_and_some_of_them(combined, flakes):
    identity = json.loads(json.dumps(descriptor_identity(combined)))
    features = combined.transform(flakes)
    np.testing.assert_array_equal(describe(identity, flakes), features)
    chosen = [29, 3, 27]
    some = identity | {'feature_names': [identity['feature_names'][column] for column in chosen]}
    np.testing.assert_array_equal(describe(some, flakes), features[:, chosen])
    only = combined.restricted([identity['feature_names'][28]])
    assert list(only.get_feature_names_out()) == [identity['feature_names'][28]]


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (None, 'needs parts'),
        ([], 'needs parts'),
        (['quadruplets'], r"parts=\['quadruplets'\] .* valid dictionary"),
        ([{'name': 'quadruplets', 'classes': 26}], 'a name and params, got'),
        ([QUADRUPLETS, QUADRUPLETS], "'quadruplets' is there twice"),
        ([{'name': 'coulomb'}], "no descriptor 'coulomb'"),
        ([{'name': 'quadruplets', 'params': {'classes': 23}}], '22 or 26'),
    ],
)
def test_parts_that_cannot_be_combined_are_refused(parts, message):
    with pytest.raises(DescriptorError, match=message):
        make_descriptor('combined', parts=parts)
