"""Page of CBN_ANN: the steps from structures to predictions, each with a form that is filled with the newest nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from aiida_nanoml.web.applications import CBN_ANN
from aiida_nanoml.web.files import Entry
from aiida_nanoml.web.forms import Form
from aiida_nanoml.web.pages.actions import summaries
from aiida_nanoml.web.site import Site
from aiida_nanoml.web.workbench import Workbench, find_workbench

PAPER = 'paper'
"""Kind of the network with the 14 layers of the source."""

STRUCTURE_ENDINGS = ('.xyz', '.extxyz', '.cif', '.pdb', '.mol', '.sdf', '.fdf', '.xsf', '.vasp')
TABLES = ('x.dat', 'y.dat')
"""Names of the source's tables of features and gaps."""

FILES_SHOWN = 30


@dataclass(frozen=True)
class Offer:
    """A filled form.

    :param text: of the link to it.
    """

    text: str
    action: str
    form: Form


@dataclass(frozen=True)
class StepShown:
    """A step of the work.

    :param makes: name of what it makes, as in :data:`~aiida_nanoml.web.workbench.STEPS`.
    :param missing: what must be there first; empty if it is.
    """

    title: str
    sentence: str
    makes: str
    offers: Sequence[Offer]
    missing: str = ''


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes, below those of the application."""

    async def overview(request: Request) -> Response:
        found = await site.orm.run(find_workbench)
        entries = [entry for entry in await asyncio.to_thread(site.files.entries) if not entry.folder]
        return site.page(
            request,
            'cbn_ann',
            application=CBN_ANN,
            found=found,
            steps=steps_of(found, [entry.path for entry in entries]),
            files=[(entry, offers_for(entry)) for entry in entries[:FILES_SHOWN]],
            n_files=len(entries),
            actions=summaries(CBN_ANN.actions),
        )

    return [Route('/', overview)]


def steps_of(found: Workbench, files: Sequence[str]) -> list[StepShown]:
    """Return the steps, from structures to a comparison.

    :param files: paths of the user's files.
    """
    pks = {step: str(node.pk) for step, node in found.newest.items()}
    structures, labels, dataset = (pks.get(step, '') for step in ('structures', 'labels', 'dataset'))
    labelled = structures if found.labelled is None else str(found.labelled)
    tables = {path.rpartition('/')[2][0]: path for path in files if path.rpartition('/')[2] in TABLES}
    predicting = _given(model=pks.get('model', ''), rows=structures)
    return [
        StepShown(
            'Structures',
            'Generate flakes, or read them from a file.',
            'structures',
            [Offer('Generate flakes', 'generate_flakes', ()), Offer('Read a file', 'import_structures', ())],
        ),
        StepShown(
            'Labels',
            'Compute all gaps in one campaign, in batches that can be stopped and continued.',
            'labels',
            [Offer('Label all', 'label', _given(structures=structures))],
            '' if structures else 'structures',
        ),
        StepShown(
            'Data set',
            'Put the gaps beside features, and split the rows; or read tables of features and gaps.',
            'dataset',
            [
                *([Offer('Build it', 'build_dataset', _given(structures=labelled, labels=labels))] if labels else []),
                Offer('Read x.dat and y.dat', 'import_dataset', _given(**tables)),
            ],
        ),
        StepShown(
            'Training',
            'Train a network: the default for so many rows, or the 14 layers of the source.',
            'model',
            [
                Offer('Train the default', 'train', _given(dataset=dataset)),
                Offer('Train the 14 layers', 'train', _given(dataset=dataset, kind=PAPER)),
            ],
            '' if dataset else 'a data set',
        ),
        StepShown(
            'Prediction',
            'Predict structures, with deviations and the domain of the model.',
            'predictions',
            [Offer('Predict', 'predict', predicting)],
            '' if 'model' in pks else 'a model',
        ),
        StepShown(
            'Check',
            'Label some of the predicted structures, and compare.',
            '',
            [Offer('Validate', 'validate', _given(predictions=pks.get('predictions', '')))],
            '' if 'predictions' in pks else 'predictions',
        ),
    ]


def offers_for(entry: Entry) -> list[Offer]:
    """Return what can be done with a file."""
    if entry.name in TABLES:
        return [Offer('Read as data set', 'import_dataset', ((entry.name[0], entry.path),))]
    if entry.name.lower().endswith(STRUCTURE_ENDINGS):
        return [Offer('Read structures', 'import_structures', (('file', entry.path),))]
    return []


def _given(**fields: str) -> Form:
    return [(name, value) for name, value in fields.items() if value]
