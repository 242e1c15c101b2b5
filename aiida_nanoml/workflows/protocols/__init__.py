"""Protocols of the workflows: named sets of inputs in YAML files beside this module."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml

from aiida_nanoml.errors import NanomlError


class ProtocolError(NanomlError):
    """A protocol is unknown, or an override does not exist in it."""


def protocol_inputs(workflow: str, protocol: str | None, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the inputs of a workflow by a protocol.

    :param workflow: name of the YAML file, for example ``gap``.
    :param protocol: name of the protocol; None takes the default one.
    :param overrides: values that replace those of the protocol; nested mappings are merged key by key, unless
        they name something else, such as another descriptor.
    :raises ProtocolError: unknown protocol, or an override whose key the protocol does not have.
    """
    content = _read(workflow)
    name = protocol or content['default_protocol']
    if name not in content['protocols']:
        known = ', '.join(content['protocols'])
        raise ProtocolError(f'the workflow nanoml.{workflow} has no protocol {name!r}; it has: {known}')
    inputs = _merge(content['default_inputs'], content['protocols'][name]['inputs'])
    _check_overrides(content['default_inputs'], overrides or {}, '')
    return _merge(inputs, overrides or {})


def protocol_names(workflow: str) -> list[str]:
    """Return the names of the protocols of a workflow.

    :param workflow: name of the YAML file, for example ``gap``.
    """
    return list(_read(workflow)['protocols'])


def _read(workflow: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(files(__name__).joinpath(f'{workflow}.yaml').read_text(encoding='utf-8'))
    return content


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        nested = nested and not _is_another(merged[key], value)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def _check_overrides(inputs: Mapping[str, Any], overrides: Mapping[str, Any], where: str) -> None:
    """Check that each override exists in the protocol; ``where`` is the path of the inputs."""
    for key, value in overrides.items():
        if key not in inputs:
            raise ProtocolError(f'there is no input {where}{key} to override; there are: {", ".join(inputs)}')
        # An empty mapping stands for free content, such as hyperparameters.
        if isinstance(inputs[key], Mapping) and inputs[key] and isinstance(value, Mapping):
            if _is_another(inputs[key], value):
                continue
            _check_overrides(inputs[key], value, f'{where}{key}.')


def _is_another(base: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Return whether a choice by name, such as a descriptor, names another one: the parameters belong to the name."""
    return 'name' in base and changes.get('name', base['name']) != base['name']
