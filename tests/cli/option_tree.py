"""Every command with its arguments and options, in a form that can be kept and compared.

Run as a program, it prints those of the installed package as JSON: so was ``options_before.json`` made.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from typing import Any

import click

from aiida_nanoml.cli import root


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Return every command below one, itself included, with the words that call it."""
    yield ' '.join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None, f'{path}: {name} is listed, and cannot be loaded'
            yield from commands(found, (*path, name))


def describe(parameter: click.Parameter, place: int | None = None) -> dict[str, Any]:
    """Describe an argument or option; the default is text, and None where there is none or it is computed.

    :param place: of an argument, its place among the arguments.
    """
    default = parameter.default
    unset = default is None or callable(default) or isinstance(default, enum.Enum)  # click's own mark is an Enum
    option = isinstance(parameter, click.Option)
    return {
        'name': parameter.name,
        'kind': parameter.param_type_name,
        'place': place,
        'opts': sorted([*parameter.opts, *parameter.secondary_opts]),
        'type': parameter.type.name,
        'nargs': parameter.nargs,
        'multiple': parameter.multiple,
        'required': parameter.required,
        'is_flag': option and parameter.is_flag,
        'default': None if unset else str(default),
        'shown': str(parameter.show_default) if option and parameter.show_default else None,
        'choices': [str(choice) for choice in getattr(parameter.type, 'choices', ())],
    }


def option_tree() -> dict[str, list[dict[str, Any]]]:
    """Describe the parameters of each command by its path; the command without words is ``aiida-nanoml`` itself."""
    tree = {}
    for path, command in sorted(commands(root)):
        arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
        options = sorted(
            (describe(parameter) for parameter in command.params if isinstance(parameter, click.Option)),
            key=lambda parameter: parameter['opts'],
        )
        tree[path] = [describe(argument, place) for place, argument in enumerate(arguments)] + options
    return tree


if __name__ == '__main__':
    written = (
        f'{json.dumps(path)}: [\n' + ',\n'.join(json.dumps(one, ensure_ascii=False) for one in parameters) + '\n]'
        for path, parameters in option_tree().items()
    )
    print('{\n' + ',\n'.join(written) + '\n}')
