"""Command ``quickstart``: it starts itself again in an environment in which AiiDA sees its folder only."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from aiida_nanoml.actions.quickstart import Quickstart
from aiida_nanoml.cli.parameters import ActionCommand


class QuickstartCommand(ActionCommand):
    """The command of the action, in an environment of its own."""

    def invoke(self, ctx: click.Context) -> Any:
        """Enter the environment, then run the action; Ctrl-C ends it with status 130."""
        enter(ctx.params['folder'].absolute())
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(130) from None


def enter(folder: Path) -> None:
    """Start the program again where AiiDA does not see the folder of the quickstart alone.

    AiiDA reads these variables when it is imported.
    """
    from aiida_nanoml.actions.installation import daemon_environment

    if os.pathsep in str(folder):
        raise click.ClickException(
            f'the path {folder} has a {os.pathsep!r}, which AiiDA cannot read: use another --folder'
        )
    folder.mkdir(parents=True, exist_ok=True)
    inside = {'AIIDA_PATH': str(folder), 'NANOML_QUICKSTART': str(folder)}
    if not inside.items() <= os.environ.items():
        environment = daemon_environment(folder) | inside
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606


quickstart = QuickstartCommand(Quickstart, 'quickstart')
