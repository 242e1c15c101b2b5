"""Command groups: commands loaded on demand, faults of the input reported in one line."""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.groups.verdi import VerdiContext
from aiida.common import exceptions

from aiida_nanoml.actions.errors import StoppedError
from aiida_nanoml.actions.faults import USER_FAULTS
from aiida_nanoml.actions.nodes import NO_PROFILE, one_line
from aiida_nanoml.cli.commands import EACH, SECTIONS, Group, known_actions
from aiida_nanoml.errors import NanomlError

if TYPE_CHECKING:
    from aiida_nanoml.actions.base import Action


class LazyGroup(click.Group):
    """A group whose commands are made when they are asked for: from actions, or imported.

    Actions of other packages appear in the group that their ``command`` names.

    :param path: words of the command of this group, below the root.
    :param lazy: name of an action, ``module:command`` or a group, by name of the command, in the order of the help.
    """

    context_class = VerdiContext

    def __init__(self, *args: Any, lazy: Mapping[str, str | Group], path: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy)
        self._path = path

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the table, then those of other packages."""
        named = (name for name in self._lazy if name != EACH)
        return [*self._choices(), *named, *sorted(self._foreign())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make or import a command."""
        entry = self._lazy.get(cmd_name) if cmd_name != EACH else None
        if entry is None and cmd_name in (choices := self._choices()):
            return self._choice_command(cmd_name, choices[cmd_name])
        entry = entry or self._foreign().get(cmd_name)
        if entry is None:
            return None
        if isinstance(entry, Group):
            return LazyGroup(cmd_name, help=entry.help, lazy=entry.commands, path=(*self._path, cmd_name))
        module, colon, name = entry.partition(':')
        if colon:
            command: click.Command = getattr(importlib.import_module(module), name)
            return command
        from aiida_nanoml.cli.parameters import action_command

        return action_command(entry, cmd_name)

    def _choices(self) -> dict[str, str]:
        """Return the choices that have a command in this group, by the name of the command."""
        if EACH not in self._lazy:
            return {}
        from aiida_nanoml.actions.base import choice_word
        from aiida_nanoml.actions.fields import fields_of

        action = self._action_of_choices()
        [spec] = [spec for spec in fields_of(action) if spec.name == action.choice_field]
        return {choice_word(choice): choice for choice in spec.choices}

    def _choice_command(self, cmd_name: str, choice: str) -> click.Command:
        from aiida_nanoml.cli.parameters import ActionCommand

        action = self._action_of_choices()
        return ActionCommand(action, cmd_name, {str(action.choice_field): choice})

    def _action_of_choices(self) -> type[Action]:
        from aiida_nanoml.actions.registry import action_class

        return action_class(str(self._lazy[EACH]))

    def _foreign(self) -> dict[str, str | Group]:
        """Return the actions of other packages that belong into this group."""
        from aiida_nanoml.actions.registry import action_class, action_names

        found: dict[str, str | Group] = {}
        for name in set(action_names()) - known_actions():
            try:
                action = action_class(name)
            except NanomlError:
                continue  # a broken package hides its own commands only
            words = action.command
            depth = len(self._path)
            if words[:depth] != self._path or len(words) <= depth or words[depth] in self._lazy:
                continue
            if len(words) > depth + 1:
                found[words[depth]] = Group('Commands of another package.', {})
            else:
                found[words[depth]] = name if action.choice_field is None else _group_of_choices(name, action)
        return found


def _group_of_choices(name: str, action: type[Action]) -> Group:
    from aiida_nanoml.actions.base import first_sentence

    return Group(f'{first_sentence(action.describe({}))}.', {EACH: name})


class RootGroup(LazyGroup):
    """Report a fault of the input in one line and exit with status 1; a traceback means a fault of the program."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, those of other packages last."""
        names = self.list_commands(ctx)
        shown = {name for section in SECTIONS.values() for name in section}
        sections = dict(SECTIONS) | {'Other packages': tuple(name for name in names if name not in shown)}
        width = max(map(len, names))
        for title, section in sections.items():
            commands = [(name.ljust(width), self.get_command(ctx, name)) for name in section]
            limit = formatter.width - width - 6
            rows = [(name, command.get_short_help_str(limit)) for name, command in commands if command is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except exceptions.ConfigurationError as error:
            raise click.ClickException(f'{one_line(error)} {NO_PROFILE}') from error
        except StoppedError as error:
            with contextlib.suppress(OSError):  # the terminal may be closed
                click.echo(str(error), err=True)
            ctx.exit(error.exit_status)
        except BrokenPipeError as error:
            if not _reader_is_gone():
                raise click.ClickException(one_line(error)) from error
            # Who reads has seen enough, as `head` has; Python would complain when it flushes at its end.
            for number in (sys.stdout.fileno(), sys.stderr.fileno()):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            ctx.exit()
        except USER_FAULTS as error:
            raise click.ClickException(one_line(error)) from error


def _reader_is_gone() -> bool:
    """Return whether nobody reads the standard output, or error, any more."""
    streams = select.poll()
    for stream in (sys.stdout, sys.stderr):
        streams.register(stream, 0)
    return any(events & select.POLLERR for _, events in streams.poll(0))
