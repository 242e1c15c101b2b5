"""Which application a page needs: the rule that a centre's front and a user's server both keep.

Pages of runs, files, nodes and processes are for everybody who is signed in; a page of an action is for those who have
an application of it, and a page of an application for those who have that one.
"""

from __future__ import annotations

from collections.abc import Collection

from aiida_nanoml.web.applications import Application, all_applications

OTHERS = 'others'
"""Stands for the actions that belong to no application."""


NOT_GRANTED = 'this application is not granted to you: ask the administrators of the portal for it'


def allows(path: str, applications: Collection[str] | None) -> bool:
    """Return whether a path may be asked for.

    :param path: of a request, decoded.
    :param applications: names of those that are granted; None: all of them.
    """
    if applications is None:
        return True
    _, kind, name, *_ = *path.split('/'), '', ''
    if kind == 'actions' and name:
        return not applications_of(name).isdisjoint(applications)
    if kind == 'applications' and name:
        return name in applications
    return True


def applications_of(action: str) -> set[str]:
    """Return the names of the applications to which an action belongs."""
    return {one.name for one in all_applications() if action in one.actions} or {OTHERS}


def granted_applications(applications: Collection[str] | None) -> list[Application]:
    """Return those that are granted, in the order of the desk.

    :param applications: their names; None: all of them.
    """
    return [one for one in all_applications() if applications is None or one.name in applications]
