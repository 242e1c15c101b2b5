"""The description of all routes for programs: OpenAPI 3.1, made from the routes and the fields of actions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from starlette.routing import BaseRoute, Mount, Route

from aiida_nanoml import __version__
from aiida_nanoml.actions.registry import action_names
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.pages.actions import find_action
from aiida_nanoml.web.site import TOKEN

_PARAMETER = re.compile(r'\{(\w+)(?::(\w+))?\}')
ACTION = '/actions/{name}'


def describe(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the document of all routes; each action has a path of its own."""
    paths: dict[str, Any] = {}
    for path, route in walk(routes):
        for method in sorted((route.methods or {'GET'}) - {'HEAD'}):
            if path.startswith(ACTION):
                for name in action_names():
                    try:
                        schema = find_action(name).json_schema()
                    except PageError:
                        continue
                    place = path.replace('{name}', name)
                    paths.setdefault(place, {})[method.lower()] = _operation(place, method, schema)
            else:
                place = _PARAMETER.sub(r'{\1}', path)
                paths.setdefault(place, {})[method.lower()] = _operation(path, method, None)
    return {'openapi': '3.1.0', 'info': {'title': 'aiida-nanoml', 'version': __version__}, 'paths': paths}


def walk(routes: Iterable[BaseRoute], prefix: str = '') -> list[tuple[str, Route]]:
    """Return all routes with their whole paths."""
    found: list[tuple[str, Route]] = []
    for route in routes:
        if isinstance(route, Mount):
            found += walk(route.routes, f'{prefix}{route.path}')
        elif isinstance(route, Route):
            found.append((f'{prefix}{route.path}', route))
    return found


def _operation(path: str, method: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        'parameters': [
            {
                'name': name,
                'in': 'path',
                'required': True,
                'schema': {'type': 'string'} | ({'format': 'uuid'} if kind == 'uuid' else {}),
            }
            for name, kind in _PARAMETER.findall(path)
        ],
        'responses': {'200': {'description': 'the page'}, '4XX': {'description': 'a page that says what is wrong'}},
    }
    if method == 'POST':
        fields = dict((schema or {}).get('properties', {})) | {TOKEN: {'type': 'string'}}
        if path == '/files':
            fields['file'] = {'type': 'string', 'format': 'binary'}
        required = [*(schema or {}).get('required', ()), TOKEN]
        kind = 'multipart/form-data' if path == '/files' else 'application/x-www-form-urlencoded'
        content = {kind: {'schema': {'type': 'object', 'properties': fields, 'required': required}}}
        operation['requestBody'] = {'required': True, 'content': content}
    return operation
