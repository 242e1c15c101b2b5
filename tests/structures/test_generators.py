"""Generators by name, and the contract that all of them keep."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from aiida_nanoml.errors import StructureError
from aiida_nanoml.parameters import default_parameters
from aiida_nanoml.structures import (
    AlloyParameters,
    FlakeParameters,
    StructureSet,
    composition_section,
    generate_alloys,
    generate_flakes,
    generator_names,
    make_generator,
)
from aiida_nanoml.structures.generators import GENERATORS, Generator

SECTION = {'elements': ['Co', 'Cr', 'Al'], 'x': 'Co', 'y': 'Al', 'steps': 2, 'n_atoms': 8, 'seed': 4}
PARAMETERS: dict[str, dict[str, Any]] = {
    'flakes': {'family': 's', 'size': [5, 4], 'count': 5, 'seed': 3, 'n_domains': [1, 2]},
    'alloys': {'count': 3, 'seed': 3, 'elements': ['Co', 'Al'], 'phases': ['bcc'], 'lattice_constants': {'bcc': 2.9}},
    'alloy_section': SECTION,
    'chains': {'count': 4},
}
"""Parameters of each registered generator, as they come from JSON; the last one is of another package."""

pytestmark = pytest.mark.usefixtures('third_party_path')


def equal(one: StructureSet, other: StructureSet) -> bool:
    """Return whether two sets are the same, bit for bit."""
    first, second = one.to_arrays(), other.to_arrays()
    return all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_every_registered_generator_is_under_contract() -> None:
    assert generator_names() == sorted(PARAMETERS)


@pytest.mark.parametrize('name', sorted(PARAMETERS))
class TestContract:
    def test_it_generates_structures_that_parameters_alone_decide(self, name: str) -> None:
        parameters = json.loads(json.dumps(PARAMETERS[name]))
        generator = make_generator(name, parameters)
        assert isinstance(generator, Generator)
        found = generator.generate()
        assert isinstance(found, StructureSet)
        assert len(found) == parameters.get('count', len(found)) > 0
        assert equal(found, make_generator(name, parameters).generate())

    def test_all_parameters_are_json_and_make_the_same_generator(self, name: str) -> None:
        generator = make_generator(name, PARAMETERS[name])
        full = json.loads(json.dumps(asdict(generator)))
        assert set(full) == set(default_parameters(type(generator)))
        assert make_generator(name, full) == generator

    def test_it_has_a_name_and_one_line_of_description(self, name: str) -> None:
        kind = GENERATORS.load(name)
        assert kind.name == name
        assert kind.description
        assert '\n' not in kind.description
        assert not kind.description.endswith('.')

    def test_wrong_parameters_are_refused(self, name: str) -> None:
        with pytest.raises(StructureError, match=r"unknown parameter 'colour' of \w+Generator; valid: "):
            make_generator(name, PARAMETERS[name] | {'colour': 'red'})
        required = next(iter(PARAMETERS[name]))
        left_out = {key: value for key, value in PARAMETERS[name].items() if key != required}
        with pytest.raises(StructureError, match=rf"missing parameter '{required}' of \w+Generator"):
            make_generator(name, left_out)
        for key, value in PARAMETERS[name].items():
            with pytest.raises(StructureError):
                make_generator(name, PARAMETERS[name] | {key: [[value]]})


def test_built_in_generators_are_the_functions() -> None:
    """The same parameters give the same structures on either way, also those of stored nodes."""
    flakes, alloys = PARAMETERS['flakes'], PARAMETERS['alloys']
    assert equal(make_generator('flakes', flakes).generate(), generate_flakes(FlakeParameters.from_dict(flakes)))
    assert equal(make_generator('alloys', alloys).generate(), generate_alloys(AlloyParameters.from_dict(alloys)))
    assert equal(make_generator('alloy_section', SECTION).generate(), composition_section(**SECTION))


def test_unknown_generator_lists_the_known_ones() -> None:
    with pytest.raises(
        StructureError, match=r"no generator 'flake'; registered: alloy_section, alloys, chains, flakes"
    ):
        make_generator('flake', {})


def test_values_are_not_converted() -> None:
    for name, key, value in (('flakes', 'count', 5.0), ('flakes', 'size', ['5', 4]), ('alloy_section', 'steps', '2')):
        with pytest.raises(StructureError, match=key):
            make_generator(name, PARAMETERS[name] | {key: value})
