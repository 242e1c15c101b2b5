"""The desk: applications, last results, and what waits and why."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from aiida_nanoml.web.applications import all_applications
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.grants import granted_applications
from aiida_nanoml.web.graph import desk_facts
from aiida_nanoml.web.pages.actions import summaries
from aiida_nanoml.web.site import Site

N_RESULTS = 10
N_RUNS = 5
PATIENCE_S = 0.1
"""Seconds that the desk waits for the profile: the first page of a server is there before AiiDA is imported."""


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes: the desk, a page for each application, and the pages that an application brings."""

    async def desk(request: Request) -> Response:
        asked = asyncio.ensure_future(site.orm.run(desk_facts, N_RESULTS))
        await asyncio.wait([asked], timeout=None if site.orm.ready else PATIENCE_S)
        return site.page(
            request,
            'desk',
            applications=granted_applications(request.state.visitor.applications),
            facts=asked.result() if asked.done() else None,
            runs=await asyncio.to_thread(site.runs.newest, N_RUNS),
        )

    async def application(request: Request) -> Response:
        name = request.path_params['name']
        for one in all_applications():
            if one.name == name:
                return site.page(request, 'application', application=one, actions=summaries(one.actions))
        raise PageError(404, f'there is no application {name}')

    own = [
        Mount(f'/applications/{one.name}', routes=list(one.routes(site)))
        for one in all_applications()
        if one.routes is not None
    ]
    return [Route('/', desk), Route('/applications/{name}', application), *own]
