"""Pages of actions: the list of all, and the form of each, which starts a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from aiida_nanoml.actions.base import Action, command_line, fill, first_sentence
from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.fields import FieldSpec, fields_of
from aiida_nanoml.actions.registry import action_class, action_names
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.forms import Choices, Form, name_in, read_form, widgets_of
from aiida_nanoml.web.grants import allows, granted_applications
from aiida_nanoml.web.graph import offered_nodes
from aiida_nanoml.web.paths import path_checker
from aiida_nanoml.web.site import Site, texts_of


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes."""

    async def show_all(request: Request) -> Response:
        return site.page(request, 'actions', sections=sections(request.state.visitor.applications))

    async def show_form(request: Request) -> Response:
        action = find_action(request.path_params['name'])
        known = {spec.name for spec in fields_of(action)}
        form = [(name, value) for name, value in request.query_params.multi_items() if name in known]
        return await form_page(site, request, action, form, {})

    async def run(request: Request, form: FormData) -> Response:
        return await _start(site, request, texts_of(form), estimates=False)

    async def estimate(request: Request, form: FormData) -> Response:
        return await _start(site, request, texts_of(form), estimates=True)

    return [
        Route('/actions', show_all),
        Route('/actions/{name}', show_form),
        site.change('/actions/{name}', run),
        site.change('/actions/{name}/estimate', estimate),
    ]


def find_action(name: str) -> type[Action]:
    """Return an action that has a page.

    :raises PageError: there is none of this name, or it has no page.
    """
    if name not in action_names():
        raise PageError(404, f'there is no action {name}')
    try:
        action = action_class(name)
    except ActionError as error:
        raise PageError(404, str(error)) from error
    if action.in_terminal_only:
        raise PageError(404, f'{name} makes sense on a command line alone: aiida-nanoml {" ".join(action.command)}')
    return action


def summaries(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return name, command and first sentence of those of some actions that have a page."""
    found = []
    for name in names:
        try:
            action = find_action(name)
        except PageError:
            continue  # a broken package hides its own actions only
        found.append((name, ' '.join(action.command), action.short or first_sentence(action.describe({}))))
    return found


def sections(granted: Collection[str] | None) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return the actions that may be asked for and have a page, by application; each is there once.

    :param granted: names of applications; None: all of them.
    """
    names = [name for name in action_names() if allows(f'/actions/{name}', granted)]
    rest = {row[0]: row for row in summaries(names)}
    found = []
    for application in granted_applications(granted):
        rows = [rest.pop(name) for name in application.actions if name in rest]
        if rows:
            found.append((application.title, rows))
    return [*found, ('Others', list(rest.values()))] if rest else found


async def form_page(
    site: Site, request: Request, action: type[Action], form: Form, errors: Mapping[str, str], status: int = 200
) -> Response:
    """Return the page with the form of an action, filled in, with what is wrong with it."""
    nodes = await site.orm.run(_offered, action)
    groups = widgets_of(action, form, errors, _choices(site, nodes))
    return site.page(
        request,
        'action',
        status,
        action=action,
        text=action.describe({}),
        groups=groups,
        errors=errors,
        general=errors.get('', ''),
        estimable=action.estimate is not Action.estimate,
    )


def command_of(site: Site, action: type[Action], form: Form) -> str:
    """Return the command that does the same as a form; empty if the form cannot be read."""
    values, errors = read_form(action, form, path_checker(site.files))
    return '' if errors else f'{site.settings.program} {command_line(action, values)}'


async def _start(site: Site, request: Request, form: Form, *, estimates: bool) -> Response:
    action = find_action(request.path_params['name'])
    errors = await site.orm.run(_check, site, action, form)
    if errors:
        return await form_page(site, request, action, form, errors, 422)
    name = site.runs.create(action.action, form, estimates=estimates)
    await site.begin(name)
    return RedirectResponse(f'/runs/{name}', status_code=303)


def _check(site: Site, action: type[Action], form: Form) -> dict[str, str]:
    """Return what is wrong with a form by the name of the field."""
    values, errors = read_form(action, form, path_checker(site.files))
    if not errors:
        try:
            fill(action, values)
        except InputError as error:
            errors[error.field or ''] = error.render(name_in(action))
    return errors


def _offered(action: type[Action]) -> dict[str, Sequence[tuple[str, str]]]:
    """Return the nodes that the fields of an action offer."""
    return {spec.name: offered_nodes(spec) for spec in fields_of(action) if spec.kind == 'node'}


def _choices(site: Site, nodes: Mapping[str, Sequence[tuple[str, str]]]) -> Choices:
    def choices(spec: FieldSpec) -> Sequence[tuple[str, str]]:
        if spec.kind == 'node':
            return nodes[spec.name]
        if spec.kind == 'path':
            entries = site.files.entries(folders=spec.display.exists == 'folder')
            return [(entry.path, entry.path) for entry in entries]
        return [(choice, choice) for choice in spec.choices]

    return choices
