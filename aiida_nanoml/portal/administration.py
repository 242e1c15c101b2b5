"""Pages of administrators: users, groups, grants, announcements and the log; the commands do the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from aiida_nanoml.portal.accounts import Grant, known_applications
from aiida_nanoml.portal.errors import PortalError
from aiida_nanoml.portal.front import Desk, signed_of
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.site import Change, Endpoint, change_route

USERS, GROUPS, GRANTS, ANNOUNCEMENTS, LOG = (
    f'/portal/admin/{name}' for name in ('users', 'groups', 'grants', 'announcements', 'log')
)
LOG_SHOWN = 200
GB = 10**9


def routes(desk: Desk) -> list[BaseRoute]:
    """Return the routes; for everybody else they are not there."""

    async def users(request: Request) -> Response:
        return _users(request)

    def _users(request: Request, error: str = '', done: str = '') -> Response:
        return desk.page(
            request,
            'users',
            422 if error else 200,
            users=desk.accounts.users(),
            default_quota=desk.config.quota_bytes / GB,
            error=error,
            done=done,
        )

    async def add_user(request: Request, form: FormData) -> Response:
        name, account = text_of(form, 'name'), text_of(form, 'account') or None
        try:
            password = await asyncio.to_thread(
                desk.accounts.add_user, desk.actor(request), name, account, admin='admin' in form
            )
        except PortalError as error:
            return _users(request, error=str(error))
        return _users(request, done=f'the password of {name}, which is shown once: {password}')

    async def change_user(request: Request, form: FormData) -> Response:
        name, what = request.path_params['name'], text_of(form, 'do')
        accounts, actor = desk.accounts, desk.actor(request)
        done = ''
        try:
            account = accounts.user(name).account
            if what == 'password':
                password = await asyncio.to_thread(accounts.reset_password, actor, name)
                done = f'the password of {name}, which is shown once: {password}'
            elif what in ('enable', 'disable'):
                accounts.set_active(actor, name, what == 'enable')
            elif what in ('admin', 'no admin'):
                accounts.set_admin(actor, name, what == 'admin')
            elif what == 'sessions':
                accounts.end_sessions(actor, name)
            elif what == 'account':
                accounts.set_account(actor, name, text_of(form, 'account') or None)
            elif what == 'quota':
                accounts.set_quota(actor, name, _bytes(text_of(form, 'quota')))
            else:
                raise PortalError(f'{what!r} is nothing that can be done with a user')
        except PortalError as error:
            return _users(request, error=str(error))
        if what in ('disable', 'account', 'quota', 'sessions') and account is not None:
            with suppress(PortalError):  # what it was started with holds no longer, and pages that are open end
                await desk.backends.stop(account)
        return _users(request, done=done) if done else desk.redirect(USERS)

    async def groups(request: Request) -> Response:
        return _groups(request)

    def _groups(request: Request, error: str = '') -> Response:
        names = [user.name for user in desk.accounts.users()]
        status = 422 if error else 200
        return desk.page(request, 'groups', status, groups=desk.accounts.groups(), names=names, error=error)

    async def change_groups(request: Request, form: FormData) -> Response:
        change = desk.accounts.remove_member if text_of(form, 'do') == 'remove' else desk.accounts.add_member
        try:
            change(desk.actor(request), text_of(form, 'group'), text_of(form, 'user'))
        except PortalError as error:
            return _groups(request, str(error))
        return desk.redirect(GROUPS)

    async def grants(request: Request) -> Response:
        accounts = desk.accounts
        holders = [*(('group', name) for name in accounts.groups()), *(('user', one.name) for one in accounts.users())]
        given = {cell_of(grant) for grant in accounts.grants()}
        return desk.page(request, 'grants', holders=holders, applications=known_applications(), given=given)

    async def change_grants(request: Request, form: FormData) -> Response:
        # What another administrator changed meanwhile stays: only boxes that were ticked or cleared here count.
        before, after = (set(map(str, form.getlist(name))) for name in ('before', 'after'))
        for cell in sorted(before ^ after):
            change = desk.accounts.grant if cell in after else desk.accounts.revoke
            change(desk.actor(request), grant_of(cell))
        return desk.redirect(GRANTS)

    async def announcements(request: Request) -> Response:
        return desk.page(request, 'announcements', error='')

    async def change_announcements(request: Request, form: FormData) -> Response:
        number = text_of(form, 'withdraw')
        try:
            if number:
                desk.accounts.withdraw(desk.actor(request), int(number) if number.isdecimal() else 0)
            else:
                desk.accounts.announce(desk.actor(request), text_of(form, 'text'))
        except PortalError as error:
            return desk.page(request, 'announcements', 422, error=str(error))
        return desk.redirect(ANNOUNCEMENTS)

    async def log(request: Request) -> Response:
        only = request.query_params.get('user') or None
        return desk.page(request, 'log', entries=desk.accounts.log(LOG_SHOWN, only), only=only)

    return [
        Route(USERS, for_administrators(users)),
        change_route(USERS, changes_for_administrators(add_user)),
        change_route(f'{USERS}/{{name}}', changes_for_administrators(change_user)),
        Route(GROUPS, for_administrators(groups)),
        change_route(GROUPS, changes_for_administrators(change_groups)),
        Route(GRANTS, for_administrators(grants)),
        change_route(GRANTS, changes_for_administrators(change_grants)),
        Route(ANNOUNCEMENTS, for_administrators(announcements)),
        change_route(ANNOUNCEMENTS, changes_for_administrators(change_announcements)),
        Route(LOG, for_administrators(log)),
    ]


def for_administrators(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Return a page that is not there for anybody else."""

    async def answer(request: Request) -> Response:
        _check(request)
        return await endpoint(request)

    return answer


def changes_for_administrators(endpoint: Change) -> Change:
    """Return a change that is not there for anybody else."""

    async def answer(request: Request, form: FormData) -> Response:
        _check(request)
        return await endpoint(request, form)

    return answer


def text_of(form: FormData, name: str) -> str:
    """Return the text of a field, without blanks around it; empty if it was not sent."""
    value = form.get(name, '')
    return value.strip() if isinstance(value, str) else ''


def cell_of(grant: Grant) -> str:
    """Return the value of a box in the table of grants."""
    return f'{grant.application} {grant.kind} {grant.holder}'


def grant_of(cell: str) -> Grant:
    """Return the grant of a box.

    :raises PortalError: it is none.
    """
    words = cell.split(' ')
    if len(words) != len(('application', 'kind', 'holder')) or words[1] not in ('user', 'group'):
        raise PortalError(f'{cell!r} is no grant')
    return Grant(*words)


def _check(request: Request) -> None:
    if not signed_of(request).user.admin:
        raise PageError(404, 'there is no such page')


def _bytes(text: str) -> int | None:
    if not text:
        return None
    try:
        return round(float(text) * GB)
    except (ValueError, OverflowError):
        raise PortalError(f'{text!r} is no size: write a number of GB') from None
