"""Pages of nodes and processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from aiida_nanoml.actions.base import first_sentence
from aiida_nanoml.actions.fields import fields_of
from aiida_nanoml.actions.registry import action_names
from aiida_nanoml.web.audits import last_audit
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.events import event_stream
from aiida_nanoml.web.graph import (
    NodeLink,
    ProcessWatch,
    describe_node,
    describe_process,
    newest_processes,
    read_node_file,
)
from aiida_nanoml.web.pages.actions import find_action
from aiida_nanoml.web.pages.files import media_type
from aiida_nanoml.web.pages.rows import row_number
from aiida_nanoml.web.results import describe_model, describe_prediction
from aiida_nanoml.web.site import Site, attachment

RESULTS: dict[str, tuple[str, Callable[..., Any]]] = {
    'nanoml.model': ('model', describe_model),
    'nanoml.prediction': ('prediction', describe_prediction),
}
"""Kinds of nodes that show more than others: their template, and what asks for it."""

Offer = tuple[str, str, list[tuple[str, str]]]

SHOWN = 50
POLL_S = 1.0
"""Seconds between two looks at a process whose progress is shown."""


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes."""

    async def node(request: Request) -> Response:
        page = await site.orm.run(describe_node, str(request.path_params['uuid']))
        shown: dict[str, Any] = {'page': page, 'node': page.node, 'following': following(page.node)}
        if page.node.kind not in RESULTS:
            return site.page(request, 'node', **shown)
        template, describe = RESULTS[page.node.kind]
        chosen = (
            [row_number(request.query_params['row'])]
            if template == 'prediction' and 'row' in request.query_params
            else []
        )
        result = await site.orm.run(describe, page.node.uuid, *chosen)
        audit = await asyncio.to_thread(last_audit, site.runs, page.node.uuid)
        return site.page(request, template, **shown, result=result, audit=audit)

    async def node_file(request: Request) -> Response:
        name = request.path_params['name']
        content = await site.orm.run(read_node_file, str(request.path_params['uuid']), name)
        return Response(content, media_type=media_type(name), headers=attachment(name))

    async def processes(request: Request) -> Response:
        return site.page(request, 'processes', processes=await site.orm.run(newest_processes, SHOWN))

    async def process(request: Request) -> Response:
        page = await site.orm.run(describe_process, str(request.path_params['uuid']))
        return site.page(request, 'process', page=page, node=page.node, following=following(page.node))

    async def events(request: Request) -> Response:
        watch = await site.orm.run(ProcessWatch, str(request.path_params['uuid']))

        async def look() -> AsyncIterator[dict[str, Any]]:
            while True:
                yield await site.orm.run(watch.look)
                await asyncio.sleep(POLL_S)

        return event_stream(look())

    return [
        Route('/nodes/{uuid:uuid}', node),
        Route('/nodes/{uuid:uuid}/files/{name:path}', node_file),
        Route('/processes', processes),
        Route('/processes/{uuid:uuid}', process),
        Route('/processes/{uuid:uuid}/events', events),
    ]


def following(node: NodeLink) -> list[Offer]:
    """Return the actions whose first argument a node can be: name, first sentence, and the form.

    Those that take its kind alone come first, then those that take any node.
    """
    found: list[tuple[bool, Offer]] = []
    for name in action_names():
        try:
            action = find_action(name)
        except PageError:
            continue
        for spec in fields_of(action):
            if spec.display.positional and spec.node is not None and not spec.node.code:
                takes_any = not spec.node.entry_points
                if takes_any or node.kind in spec.node.entry_points:
                    form = [(spec.name, str(node.pk))]
                    found.append((takes_any, (name, action.short or first_sentence(action.describe({})), form)))
                break
    return [offer for _, offer in sorted(found, key=lambda one: one[0])]
