"""Pages of single structures, and the way from a row of any node to its structure."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.rows import describe_structure, find_structure, structure_url
from aiida_nanoml.web.site import Site

MOST_DIGITS = 9


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes."""

    async def structure(request: Request) -> Response:
        page = await site.orm.run(
            describe_structure, str(request.path_params['uuid']), row_number(request.path_params['row'])
        )
        return site.page(request, 'structure', page=page)

    async def row(request: Request) -> Response:
        found = await site.orm.run(
            find_structure, str(request.path_params['uuid']), row_number(request.path_params['row'])
        )
        return RedirectResponse(structure_url(*found), status_code=303)

    return [Route('/structures/{uuid:uuid}/{row}', structure), Route('/nodes/{uuid:uuid}/rows/{row}', row)]


def row_number(text: str) -> int:
    """Return the row that an address names.

    :raises PageError: it is no number of a row.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
        raise PageError(404, f'{text[:20]!r} is no number of a row')
    return int(text)
