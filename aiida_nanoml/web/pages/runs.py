"""Pages of runs: how far each one is, and what it found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from aiida_nanoml.actions.fields import fields_of
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.events import event_stream
from aiida_nanoml.web.files import UserFileError
from aiida_nanoml.web.graph import known_nodes
from aiida_nanoml.web.pages.actions import command_of, find_action, form_page
from aiida_nanoml.web.runs import Run
from aiida_nanoml.web.site import SANDBOX, Site

QUICK_S = 1.5
"""Seconds that the page of a run waits for its result: most are there by then."""

LOOK_S = 0.1
POLL_S = 0.5
"""Seconds between two looks at a run whose progress is shown."""

SHOWN = 50
PICTURES = ('.png', '.svg')


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes."""

    async def show_all(request: Request) -> Response:
        return site.page(request, 'runs', runs=await asyncio.to_thread(site.runs.newest, SHOWN))

    async def show(request: Request) -> Response:
        name = request.path_params['name']
        run = await wait_briefly(site, name)
        action = find_action(run.action)
        if run.state == 'refused':
            return await form_page(site, request, action, run.form, {run.outcome['field']: run.outcome['message']})
        nodes = await site.orm.run(known_nodes, run.outcome['nodes']) if run.state == 'done' else []
        return site.page(
            request,
            'run',
            run=run,
            action=action,
            command=command_of(site, action, run.form) + (' --estimate' if run.estimates else ''),
            nodes=nodes,
            written=_written(site, run),
            has_paths=any(spec.kind == 'path' and spec.name in dict(run.form) for spec in fields_of(action)),
        )

    async def log(request: Request) -> Response:
        run = site.runs.read(request.path_params['name'])
        try:
            text = site.runs.log(run.name).read_text(errors='replace')
        except FileNotFoundError:
            raise PageError(404, 'this run has no log') from None
        return PlainTextResponse(text, headers=SANDBOX)

    async def events(request: Request) -> Response:
        name = request.path_params['name']
        site.runs.read(name)

        async def look() -> AsyncIterator[dict[str, Any]]:
            while True:
                run = site.runs.read(name)
                yield {'state': run.state, 'notes': run.notes, 'progress': run.progress, 'ended': run.ended}
                await asyncio.sleep(POLL_S)

        return event_stream(look())

    async def stop(request: Request, form: FormData) -> Response:
        name = request.path_params['name']
        site.runs.stop(name)
        return RedirectResponse(f'/runs/{name}', status_code=303)

    return [
        Route('/runs', show_all),
        Route('/runs/{name}', show),
        Route('/runs/{name}/log', log),
        Route('/runs/{name}/events', events),
        site.change('/runs/{name}/stop', stop),
    ]


async def wait_briefly(site: Site, name: str) -> Run:
    """Return a run that has ended, or that takes longer than a person should look at an empty page."""
    run = site.runs.read(name)
    end = time.monotonic() + (QUICK_S if time.time() - run.begun < QUICK_S else 0.0)
    while not run.ended and time.monotonic() < end:
        await asyncio.sleep(LOOK_S)
        run = site.runs.read(name)
    return run


def _written(site: Site, run: Run) -> list[tuple[str, bool]]:
    """Return the files that a run wrote, and whether each is a picture."""
    if run.state != 'done':
        return []
    new = {spec.name for spec in fields_of(find_action(run.action)) if (spec.display.exists or '').startswith('new')}
    found = []
    for field, path in run.form:
        if field in new and path:
            try:
                site.files.check_exists(path, folder=False)
            except UserFileError:
                continue
            found.append((path, path.endswith(PICTURES)))
    return found
