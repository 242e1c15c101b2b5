"""Pages of the front for everybody: sign-in, sign-out, and the account."""

from __future__ import annotations

import asyncio

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from aiida_nanoml.portal.accounts import hash_of
from aiida_nanoml.portal.errors import PortalError
from aiida_nanoml.portal.front import SIGN_IN, Desk, signed_of
from aiida_nanoml.portal.limits import address_key
from aiida_nanoml.web.applications import all_applications
from aiida_nanoml.web.site import change_route

REFUSED = 'name or password is not right, or the account is disabled'
HASHES_AT_ONCE = 4
"""Passwords that are checked side by side: each takes 64 MB."""


def routes(desk: Desk) -> list[BaseRoute]:
    """Return the routes."""
    hashing = asyncio.Semaphore(HASHES_AT_ONCE)

    async def show_sign_in(request: Request) -> Response:
        if request.state.visitor is not None:
            return desk.redirect('/')
        return desk.page(request, 'sign_in', error='')

    async def sign_in(request: Request) -> Response:
        # There is no session yet whose token a form could bring back: Host, Origin and Sec-Fetch-Site are checked.
        async with request.form(max_fields=10, max_files=0) as form:
            name, password = str(form.get('name', '')).strip(), str(form.get('password', ''))
        address = desk.address(request)
        if not desk.tries.allow(f'user {name}', f'address {address_key(address)}'):
            return desk.page(request, 'sign_in', 429, error='these were too many tries: wait for a minute')
        cookie = request.cookies.get(desk.config.cookie)
        async with hashing:
            secret = await asyncio.to_thread(
                desk.accounts.sign_in, name, password, address, hash_of(cookie) if cookie else None
            )
        if secret is None:
            return desk.page(request, 'sign_in', 401, error=REFUSED)
        response = desk.redirect('/')
        response.set_cookie(
            desk.config.cookie, secret, httponly=True, samesite='strict', secure=desk.config.secure, path='/'
        )
        return response

    async def sign_out(request: Request, form: FormData) -> Response:
        desk.accounts.sign_out(desk.actor(request), signed_of(request).session)
        response = desk.redirect(SIGN_IN)
        response.delete_cookie(
            desk.config.cookie, httponly=True, samesite='strict', secure=desk.config.secure, path='/'
        )
        return response

    async def account(request: Request) -> Response:
        return _account(request)

    def _account(request: Request, error: str = '', done: str = '') -> Response:
        granted = signed_of(request).applications
        return desk.page(
            request,
            'account',
            422 if error else 200,
            applications=[one.title for one in all_applications() if one.name in granted],
            error=error,
            done=done,
        )

    async def password(request: Request, form: FormData) -> Response:
        old, new, again = (str(form.get(name, '')) for name in ('old', 'new', 'again'))
        signed = signed_of(request)
        if new != again:
            return _account(request, 'the new password was not typed the same twice')
        if not desk.tries.allow(f'user {signed.user.name}'):
            return _account(request, 'these were too many tries: wait for a minute')
        try:
            async with hashing:
                await asyncio.to_thread(desk.accounts.change_password, desk.actor(request), signed, old, new)
        except PortalError as error:
            return _account(request, str(error))
        return _account(request, done='the password was changed, and all other sessions were ended')

    async def end_sessions(request: Request, form: FormData) -> Response:
        desk.accounts.end_sessions(desk.actor(request), signed_of(request).user.name)
        return desk.redirect(SIGN_IN)

    return [
        Route(SIGN_IN, show_sign_in),
        Route(SIGN_IN, sign_in, methods=['POST']),
        change_route('/portal/sign-out', sign_out),
        Route('/portal/account', account),
        change_route('/portal/account/password', password),
        change_route('/portal/account/sessions', end_sessions),
    ]
