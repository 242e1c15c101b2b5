"""All commands, in the order of the work: which action each one fills, or where a command that is no action stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

EACH = '*'
"""In the place of the name of a command: see :class:`Group`."""


@dataclass(frozen=True)
class Group:
    """A group of commands.

    :param help: what they are about.
    :param commands: name of an action, ``module:command``, or a group, by the name of the command; under
        :data:`EACH`, an action that has a command for each choice of its ``choice_field``.
    """

    help: str
    commands: Mapping[str, str | Group]


COMMANDS: Mapping[str, str | Group] = MappingProxyType(
    {
        'quickstart': 'aiida_nanoml.cli.commands.quickstart:quickstart',
        'doctor': 'doctor',
        'flakes': Group('C-BN nanoflakes.', {'generate': 'generate_flakes'}),
        'alloys': Group(
            'High-entropy alloys: lattice scans, phases, stress and strain.\n\n'
            'The usual way: alloys generate, alloys scan, dataset build, train, alloys phase, alloys plot; or all of '
            'it by alloys study.',
            {
                'generate': 'alloy_generate',
                'section': 'alloy_section',
                'name': 'alloy_name',
                'scan': 'alloy_scan',
                'study': 'alloy_study',
                'phase': 'alloy_phase',
                'plot': 'alloy_plot',
            },
        ),
        'structures': Group(
            'Sets of structures.',
            {
                'generate': 'generate',
                'import': 'import_structures',
                'export': 'export_structures',
                'show': 'show_structures',
            },
        ),
        'label': 'label',
        'campaign': Group(
            'Follow the labelling of many structures, and continue it after a stop.',
            {'status': 'campaign_status', 'resume': 'resume_campaign', 'retry': 'retry_campaign'},
        ),
        'pseudos': Group('Families of pseudopotentials.', {'install': 'install_pseudos', 'list': 'list_pseudos'}),
        'import': Group('Runs that exist already, of any known program.', {'runs': 'import_runs'}),
        'siesta': Group('Runs of SIESTA that exist already.', {'import': 'import_siesta_runs'}),
        'starter': 'starter',
        'dataset': Group(
            'Data sets: features, targets and split.',
            {
                'build': 'build_dataset',
                'import': 'import_dataset',
                'select': 'select_features',
                'export': 'export_dataset',
                'show': 'show_dataset',
            },
        ),
        'train': 'train',
        'study': Group(
            'Studies: how well gaps, or other targets, are learnt, over repeated seeds, as tables and figures.',
            {EACH: 'study', 'show': 'show_study'},
        ),
        'model': Group('Trained models.', {'show': 'show_model', 'export': 'export_model'}),
        'predict': 'predict',
        'validate': 'validate',
        'active': 'active',
        'density': Group(
            'Charge densities, and networks that predict them from those of free atoms.\n\n'
            'The usual way: label --densities, density train, density predict, density plot, and with SIESTA '
            'density warmstart.',
            {
                'train': 'density_train',
                'divide': 'density_divide',
                'predict': 'density_predict',
                'run': 'density_run',
                'show': 'density_show',
                'plot': 'density_plot',
                'export': 'density_export',
                'warmstart': 'density_warmstart',
            },
        ),
        'rmatrix': Group(
            'Transmission of one-dimensional potentials by the R-matrix method.\n\n'
            'With a profile, potentials and transmissions are nodes with their provenance. With --no-store, run is a '
            'plain tool that reads a file and writes a file.',
            {
                'run': 'rmatrix',
                'example': 'rmatrix_example',
                'potential': 'rmatrix_potential',
                'import': 'rmatrix_import',
                'siesta': 'rmatrix_siesta',
                'scan': 'rmatrix_scan',
                'plot': 'rmatrix_plot',
            },
        ),
        'plot': 'plot',
        'trace': 'trace',
        'audit': 'audit',
        'reproduce': 'reproduce',
        'taint': 'taint',
        'compare': 'compare',
        'publish': 'publish',
        'list': 'list_nodes',
        'relabel': 'relabel',
        'delete': 'delete_nodes',
        'groups': Group(
            'Groups of nodes.', {'list': 'list_groups', 'add': 'add_to_group', 'remove': 'remove_from_group'}
        ),
        'web': 'aiida_nanoml.web.command:web',
        'portal': Group(
            "A centre's portal: pages for several people, each with files and jobs of their own.",
            {
                'serve': 'aiida_nanoml.portal.command:serve',
                'user': Group(
                    'Users of the portal.',
                    {
                        'add': 'portal_add_user',
                        'list': 'portal_list_users',
                        'disable': 'portal_disable_user',
                        'enable': 'portal_enable_user',
                        'password': 'portal_reset_password',
                        'account': 'portal_set_account',
                        'quota': 'portal_set_quota',
                    },
                ),
                'group': Group(
                    'Groups of users.',
                    {
                        'add': 'portal_add_member',
                        'remove': 'portal_remove_member',
                        'list': 'portal_list_members',
                    },
                ),
                'grant': 'portal_grant',
                'revoke': 'portal_revoke',
                'announce': 'portal_announce',
                'log': 'portal_log',
            },
        ),
        'actions': Group(
            'What can be asked of the package, for programs.',
            {
                'list': 'aiida_nanoml.cli.commands.actions:list_',
                'schema': 'aiida_nanoml.cli.commands.actions:schema',
            },
        ),
    }
)

SECTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        'Start': ('quickstart', 'starter', 'web', 'portal'),
        'Structures': ('structures', 'flakes'),
        'Labels': ('label', 'campaign', 'import', 'siesta', 'pseudos'),
        'Learning': ('dataset', 'train', 'study', 'model', 'predict', 'validate', 'active', 'plot'),
        'Alloys': ('alloys',),
        'Densities': ('density',),
        'Transport': ('rmatrix',),
        'Provenance': ('trace', 'audit', 'reproduce', 'taint', 'compare', 'publish'),
        'Housekeeping': ('doctor', 'list', 'relabel', 'delete', 'groups', 'actions'),
    }
)
"""What the help of the program shows together."""


def known_actions(commands: Mapping[str, str | Group] = COMMANDS) -> set[str]:
    """Return the names of the actions that have a command here."""
    found: set[str] = set()
    for entry in commands.values():
        if isinstance(entry, Group):
            found |= known_actions(entry.commands)
        elif ':' not in entry:
            found.add(entry)
    return found
