"""Protocols give complete inputs; an override that does not exist is refused."""

from __future__ import annotations

import pytest
from aiida.plugins import WorkflowFactory

from aiida_nanoml.errors import NanomlError
from aiida_nanoml.workflows.protocols import ProtocolError, protocol_inputs


@pytest.mark.parametrize('workflow', ['label', 'gap', 'active'])
@pytest.mark.parametrize('protocol', [None, 'fast', 'balanced', 'stringent'])
def test_every_workflow_has_the_three_protocols(workflow: str, protocol: str | None) -> None:
    assert protocol_inputs(workflow, protocol)
    assert protocol_inputs(workflow, None) == protocol_inputs(workflow, 'balanced')


def test_overrides_are_merged_key_by_key() -> None:
    inputs = protocol_inputs('gap', 'fast', {'split': {'seed': 5}, 'hyperparameters': {'epochs': 3}, 'label': {'x': 1}})
    assert inputs['split'] == {'validation': 0.2, 'test': 0.2, 'seed': 5, 'by_family': True}
    assert inputs['hyperparameters'] == {'members': 2, 'epochs': 3}
    assert inputs['label'] == {'x': 1}


def test_another_descriptor_brings_its_own_parameters() -> None:
    other = {'name': 'clusters', 'params': {'per_radius': 3}}
    assert protocol_inputs('gap', None, {'descriptor': other})['descriptor'] == other
    same = protocol_inputs('gap', None, {'descriptor': {'name': 'quadruplets', 'params': {'classes': 26}}})
    assert same['descriptor']['params'] == {'classes': 26, 'unknown': 'drop'}


@pytest.mark.parametrize(
    ('protocol', 'overrides', 'message'),
    [
        ('perfect', {}, "no protocol 'perfect'; it has: fast, balanced, stringent"),
        ('fast', {'sead': 1}, 'no input sead to override'),
        ('fast', {'split': {'sead': 1}}, 'no input split.sead to override'),
    ],
)
def test_what_does_not_exist_is_refused(protocol: str, overrides: dict, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        protocol_inputs('gap', protocol, overrides)


def test_builders_are_complete_but_for_nothing(code, structures_node) -> None:
    label = WorkflowFactory('nanoml.label').get_builder_from_protocol(
        code, structures_node, protocol='stringent', overrides={'batch_size': 7}
    )
    assert label.protocol.value == 'stringent'
    assert label.time_limit_s.value == 1800.0
    assert label.batch_size.value == 7
    assert label._process_spec.inputs.validate(label._inputs(prune=True)) is None
    flakes = {'z': {'family': 'z', 'size': 2, 'count': 3, 'seed': 0}}
    gap = WorkflowFactory('nanoml.gap').get_builder_from_protocol(
        code, flakes=flakes, protocol='fast', overrides={'n_unseen': 2, 'label': {'batch_size': 3}}
    )
    assert gap.flakes['z'].get_dict() == flakes['z']
    assert gap.n_unseen.value == 2
    assert gap.label.batch_size.value == 3
    assert gap._process_spec.inputs.validate(gap._inputs(prune=True)) is None


def test_hyperparameters_of_a_protocol_go_with_its_kind(code) -> None:
    build = WorkflowFactory('nanoml.gap').get_builder_from_protocol
    assert build(code, protocol='fast').hyperparameters.get_dict() == {'members': 2}
    other = build(code, protocol='fast', overrides={'kind': 'ridge', 'hyperparameters': {'alpha': 0.5}})
    assert other.hyperparameters.get_dict() == {'alpha': 0.5}
    assert build(code, protocol='fast', overrides={'kind': 'ridge'}).hyperparameters is None


def test_a_baseline_is_corrected_by_the_kind_made_for_it(code) -> None:
    build = WorkflowFactory('nanoml.gap').get_builder_from_protocol
    flakes = {'z': {'family': 'z', 'size': 2, 'count': 3, 'seed': 0}}
    made = build(code, flakes=flakes, protocol='stringent', baseline='xtb', baseline_protocol='fast')
    assert (made.label.protocol.value, made.baseline.protocol.value) == ('stringent', 'fast')
    assert made.kind.value == 'correction'
    assert made._process_spec.inputs.validate(made._inputs(prune=True)) is None
    chosen = build(code, flakes=flakes, baseline='xtb', overrides={'kind': 'ridge', 'baseline': {'batch_size': 3}})
    assert chosen.kind.value == 'ridge'
    assert chosen.baseline.batch_size.value == 3
    assert 'engine' not in build(code, flakes=flakes).baseline


def test_overrides_of_the_labelling_are_checked(code) -> None:
    with pytest.raises(NanomlError, match='bach_size'):
        WorkflowFactory('nanoml.gap').get_builder_from_protocol(code, flakes={}, overrides={'label': {'bach_size': 3}})
