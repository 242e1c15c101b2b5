"""Errors of actions: what was asked for does not fit together, or could not be done."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiida_nanoml.errors import NanomlError

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

_FIELD = re.compile(r'\{(\w+)\}')


class ActionError(NanomlError):
    """An action could not be done."""


class StoppedError(ActionError):
    """A signal ended the command; says what becomes of the work.

    :param number: of the signal.
    :param process: that the daemon continues, if there is one.
    """

    def __init__(self, message: str, number: int, process: ProcessNode | None = None) -> None:
        super().__init__(message)
        self.exit_status = 128 + number
        self.process = process


class InputError(ActionError):
    """The fields of an action do not fit together, or one of them has a value that cannot be used.

    :param message: names fields in braces, ``'choose either {only} or {count}'``, so that each face can put the names
        that its users know.
    :param field: the field that is wrong, if it is one.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return self.render(lambda name: name)

    def render(self, name_of: Callable[[str], str]) -> str:
        """Return the message with the names of a face.

        :param name_of: returns the name that users know a field by.
        """
        return _FIELD.sub(lambda match: name_of(match[1]), self.message)
