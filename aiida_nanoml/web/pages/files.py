"""Pages of the user's files: list, look, download, upload, delete."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Callable, Iterator
from typing import BinaryIO, TypeVar

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.files import UserFileError
from aiida_nanoml.web.site import Site, attachment

T = TypeVar('T')

CHUNK = 2**16
"""Bytes that are read at once."""

PICTURES = frozenset({'image/png', 'image/svg+xml'})
"""Types that a page may show as pictures; everything else is bytes."""


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes."""

    async def show_all(request: Request) -> Response:
        return await _listing(site, request)

    async def view(request: Request) -> Response:
        path = request.path_params['path']
        picture = media_type(path) in PICTURES
        text, whole = ('', True) if picture else _found(lambda: site.files.read_text(path))
        return site.page(request, 'file', file=path, picture=picture, text=text, whole=whole)

    async def download(request: Request) -> Response:
        path = request.path_params['path']
        handle = _found(lambda: site.files.open(path))
        return StreamingResponse(_chunks(handle), media_type=media_type(path), headers=attachment(path))

    async def upload(request: Request, form: FormData) -> Response:
        uploads = [value for value in form.getlist('file') if isinstance(value, UploadFile) and value.filename]
        if not uploads:
            return await _listing(site, request, 'choose a file first', 422)
        for one in uploads:
            try:
                await site.files.write(str(one.filename), _parts(one))
            except UserFileError as error:
                return await _listing(site, request, str(error), 422)
        return RedirectResponse('/files', status_code=303)

    async def delete(request: Request, form: FormData) -> Response:
        path = request.path_params['path']
        _found(lambda: site.files.delete(path))
        return RedirectResponse('/files', status_code=303)

    return [
        Route('/files', show_all),
        site.change('/files', upload),
        Route('/files/view/{path:path}', view),
        Route('/files/download/{path:path}', download),
        site.change('/files/delete/{path:path}', delete),
    ]


def media_type(path: str) -> str:
    """Return the type under which a file is sent."""
    guessed = mimetypes.guess_type(path)[0]
    return guessed if guessed in PICTURES else 'application/octet-stream'


async def _listing(site: Site, request: Request, error: str = '', status: int = 200) -> Response:
    entries = await asyncio.to_thread(site.files.entries)
    used = sum(entry.size for entry in entries)
    return site.page(request, 'files', status, entries=entries, used=used, error=error)


def _found(ask: Callable[[], T]) -> T:
    """Ask for a file.

    :raises PageError: it is not there.
    """
    try:
        return ask()
    except UserFileError as error:
        raise PageError(404, str(error)) from error


async def _parts(upload: UploadFile) -> AsyncIterator[bytes]:
    while part := await upload.read(CHUNK):
        yield part


def _chunks(handle: BinaryIO) -> Iterator[bytes]:
    with handle:
        while chunk := handle.read(CHUNK):
            yield chunk
