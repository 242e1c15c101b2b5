"""Errors that tell a person what is wrong: faces show them in a line; any other one is a fault of the program."""

from __future__ import annotations

from aiida.common import exceptions

from aiida_nanoml.errors import NanomlError

USER_FAULTS = (
    NanomlError,
    exceptions.NotExistent,
    exceptions.MultipleObjectsError,
    exceptions.LockedProfileError,
    exceptions.InvalidOperation,
    OSError,
)
