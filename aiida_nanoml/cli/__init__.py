"""The command line: ``aiida-nanoml``, and the same as ``verdi data nanoml``.

Most commands are made from actions; each loads the profile only when it needs nodes.
"""

from __future__ import annotations

import gc

import click
from aiida.cmdline.params import options, types

from aiida_nanoml import __version__
from aiida_nanoml.cli.commands import COMMANDS
from aiida_nanoml.cli.groups import RootGroup


@click.group('nanoml', cls=RootGroup, lazy=COMMANDS, context_settings={'help_option_names': ['--help', '-h']})
@options.PROFILE(type=types.ProfileParamType(load_profile=True), default=None, expose_value=False)  # type: ignore[untyped-decorator]
@click.version_option(__version__, package_name='aiida-nanoml')
def root() -> None:
    """Structures, labels, models, densities and transmissions of nanostructures, with the provenance of every number.

    The usual way: flakes generate, label, dataset build, train, predict, plot, trace. Each command prints the next
    one. Nodes are given by name, PK or UUID.
    """


def main() -> None:
    """Run the command ``aiida-nanoml``."""
    # The modules of AiiDA make many objects that stay: to look for garbage among them takes a sixth of the start.
    gc.set_threshold(100_000, 20, 20)
    root(prog_name='aiida-nanoml')
