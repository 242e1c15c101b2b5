"""Applications: the cards of the desk, each with the actions that belong to it.

Another package adds one with an entry point in the group ``aiida_nanoml.applications``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiida_nanoml.errors import NanomlError
from aiida_nanoml.plugins import Registry

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from aiida_nanoml.web.site import Site


class ApplicationError(NanomlError):
    """An application cannot be loaded."""


@dataclass(frozen=True)
class Application:
    """One field of work.

    :param name: name of its entry point.
    :param title: heading of its card.
    :param sentence: what it is for.
    :param actions: names of its actions, in the order of the work.
    :param routes: makes pages of its own, which are served below ``/applications/NAME``, the first one at ``/``;
        none: its actions are all.
    """

    name: str
    title: str
    sentence: str
    actions: Sequence[str]
    routes: Callable[[Site], Sequence[BaseRoute]] | None = None


def _check(name: str, found: Any) -> str | None:
    if not isinstance(found, Application):
        return 'is no aiida_nanoml.web.applications.Application'
    return None if found.name == name else f'calls itself {found.name!r}; the names must agree'


APPLICATIONS: Registry[Application] = Registry('aiida_nanoml.applications', 'application', ApplicationError, _check)


def all_applications() -> list[Application]:
    """Return ours in the order of the work, then those of other packages; a broken one hides its own card only."""
    ours = [application.name for application in OURS]
    names = APPLICATIONS.names()
    found = []
    for name in [*(name for name in ours if name in names), *(name for name in names if name not in ours)]:
        try:
            found.append(APPLICATIONS.load(name))
        except ApplicationError:
            continue
    return found


def _cbn_ann_routes(site: Site) -> Sequence[BaseRoute]:
    from aiida_nanoml.web.pages import cbn_ann  # its page lists the actions of this module

    return cbn_ann.routes(site)


def _rmatrix_routes(site: Site) -> Sequence[BaseRoute]:
    from aiida_nanoml.web.pages import rmatrix  # its pages list the actions of this module

    return rmatrix.routes(site)


CBN_ANN = Application(
    'cbn_ann',
    'CBN_ANN',
    'Gaps of C-BN nanoflakes: generate and label structures, train networks, predict, and check what they say.',
    (
        *('generate_flakes', 'generate', 'import_structures', 'show_structures', 'export_structures', 'label'),
        *('campaign_status', 'resume_campaign', 'retry_campaign', 'build_dataset', 'import_dataset', 'show_dataset'),
        *('select_features', 'export_dataset', 'train', 'show_model', 'export_model', 'predict', 'validate', 'plot'),
        *('active', 'study', 'show_study'),
    ),
    _cbn_ann_routes,
)
ENGINES = Application(
    'engines',
    'SIESTA and engines',
    'Runs of SIESTA and other programs: label with them, import runs that exist, keep pseudopotentials.',
    ('label', 'campaign_status', 'import_siesta_runs', 'import_runs', 'install_pseudos', 'list_pseudos', 'starter'),
)
RMATRIX = Application(
    'rmatrix',
    'R-MATRIX',
    'Transmission of one-dimensional potentials, with resonances, scans and figures.',
    (
        *('rmatrix_example', 'rmatrix', 'rmatrix_potential', 'rmatrix_import', 'rmatrix_siesta', 'rmatrix_scan'),
        'rmatrix_plot',
    ),
    _rmatrix_routes,
)
ALLOYS = Application(
    'alloys',
    'Alloys',
    'High-entropy alloys: lattice constants, phases, stress and strain.',
    (
        *('alloy_generate', 'alloy_section', 'alloy_name', 'alloy_scan', 'build_dataset', 'train', 'alloy_phase'),
        *('alloy_plot', 'alloy_study'),
    ),
)
DENSITIES = Application(
    'densities',
    'Densities',
    'Charge densities and the networks that predict them from those of free atoms.',
    (
        *('density_train', 'density_divide', 'density_predict', 'density_show', 'density_plot', 'density_export'),
        *('density_warmstart', 'density_run'),
    ),
)
PROVENANCE = Application(
    'provenance',
    'Provenance',
    'Where every number comes from: trace, audit, taint, reproduce, compare and publish.',
    (
        *('trace', 'audit', 'taint', 'reproduce', 'compare', 'publish', 'list_nodes', 'relabel', 'delete_nodes'),
        *('list_groups', 'add_to_group', 'remove_from_group', 'doctor'),
    ),
)
OURS = (CBN_ANN, ENGINES, RMATRIX, ALLOYS, DENSITIES, PROVENANCE)
"""Applications of this package, in the order of the desk."""
