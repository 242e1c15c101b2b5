"""What ends a request with a page that says why."""

from __future__ import annotations

from aiida_nanoml.errors import NanomlError


class PageError(NanomlError):
    """A request that cannot be answered.

    :param status: HTTP status.
    :param message: for the person who asked.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
