"""The command line: ``aiida-nanoml``, and the same as ``verdi data nanoml``.

Commands are loaded when they are called, and each loads the profile only when it needs nodes.
"""

from __future__ import annotations

import click
from aiida.cmdline.params import options, types

from aiida_nanoml import __version__
from aiida_nanoml.cli.groups import RootGroup

COMMANDS = {
    'quickstart': 'aiida_nanoml.cli.quickstart:quickstart',
    'doctor': 'aiida_nanoml.cli.doctor:doctor',
    'flakes': 'aiida_nanoml.cli.flakes:flakes',
    'alloys': 'aiida_nanoml.cli.alloys:alloys',
    'structures': 'aiida_nanoml.cli.structures:structures',
    'label': 'aiida_nanoml.cli.label:label',
    'campaign': 'aiida_nanoml.cli.campaign:campaign',
    'pseudos': 'aiida_nanoml.cli.pseudos:pseudos',
    'siesta': 'aiida_nanoml.cli.siesta:siesta',
    'starter': 'aiida_nanoml.cli.starter:starter',
    'dataset': 'aiida_nanoml.cli.dataset:dataset',
    'train': 'aiida_nanoml.cli.train:train',
    'study': 'aiida_nanoml.cli.study:study',
    'model': 'aiida_nanoml.cli.model:model',
    'predict': 'aiida_nanoml.cli.predict:predict',
    'validate': 'aiida_nanoml.cli.validate:validate',
    'active': 'aiida_nanoml.cli.active:active',
    'density': 'aiida_nanoml.cli.density:density',
    'rmatrix': 'aiida_nanoml.cli.rmatrix:rmatrix',
    'plot': 'aiida_nanoml.cli.plot:plot',
    'trace': 'aiida_nanoml.cli.trace:trace',
    'audit': 'aiida_nanoml.cli.audit:audit',
    'reproduce': 'aiida_nanoml.cli.reproduce:reproduce',
    'taint': 'aiida_nanoml.cli.taint:taint',
    'compare': 'aiida_nanoml.cli.compare:compare',
    'publish': 'aiida_nanoml.cli.publish:publish',
}
"""Commands in the order of the work, each with the place it is loaded from."""


@click.group('nanoml', cls=RootGroup, lazy=COMMANDS, context_settings={'help_option_names': ['--help', '-h']})
@options.PROFILE(type=types.ProfileParamType(load_profile=True), default=None, expose_value=False)
@click.version_option(__version__, package_name='aiida-nanoml')
def root() -> None:
    """Learn the gap of C-BN nanoflakes, with the provenance of every number.

    The usual way: flakes generate, label, dataset build, train, predict, plot, trace. Each command prints the next
    one. Nodes are given by PK, UUID or label.
    """


def main() -> None:
    """Run the command ``aiida-nanoml``."""
    root(prog_name='aiida-nanoml')
