"""Command groups: commands loaded on demand, faults of the input told in one line."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click
from aiida.cmdline.groups.verdi import VerdiContext
from aiida.common import exceptions

from aiida_nanoml.errors import NanomlError

NO_PROFILE = 'Make a profile with `verdi presto`, or everything that is needed with `aiida-nanoml doctor --fix`.'

USER_FAULTS = (
    NanomlError,
    exceptions.NotExistent,
    exceptions.MultipleObjectsError,
    exceptions.LockedProfileError,
    exceptions.InvalidOperation,
    OSError,
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for.

    :param lazy: ``module:command`` by name of the command, in the order of the help.
    """

    context_class = VerdiContext

    def __init__(self, *args: Any, lazy: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._lazy:
            return None
        module, _, name = self._lazy[cmd_name].partition(':')
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


class RootGroup(LazyGroup):
    """Tell a fault of the input in one line and exit with status 1; a traceback means a fault of the program."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except exceptions.ConfigurationError as error:
            raise click.ClickException(f'{one_line(error)} {NO_PROFILE}') from error
        except USER_FAULTS as error:
            raise click.ClickException(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """Put the message of an error into one line."""
    return ' '.join(str(error).split()) or type(error).__name__
