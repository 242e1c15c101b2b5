"""Codes by label, PK or UUID, and the default one: those that can run here."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.nodes import load_storage, one_line
from aiida_nanoml.worker import WORKER

if TYPE_CHECKING:
    from aiida.orm import AbstractCode


def load_code(identifier: str, field: str | None = None) -> Any:
    """Load a code by ``label@computer``, label, PK or UUID; a label is taken first.

    Of codes of one label, those that cannot run here, such as those of an imported archive, are left out.

    :raises InputError: there is no such code, or several.
    """
    from aiida.common import exceptions
    from aiida.orm.utils.loaders import CodeEntityLoader, IdentifierType

    if not identifier.strip():
        raise InputError('the identifier of a code cannot be empty', field)
    load_storage()
    query, _ = CodeEntityLoader.get_query_builder(identifier, IdentifierType.LABEL)
    found = query.all(flat=True)
    usable = [code for code in found if why_unusable(code) is None] or found
    if len(usable) == 1:
        return usable[0]
    if usable:
        raise InputError(f'there are several codes {identifier}: {_listed(usable)}; choose one by its PK', field)
    try:
        return CodeEntityLoader.load_entity(identifier)
    except (exceptions.NotExistent, exceptions.MultipleObjectsError, ValueError) as error:
        raise InputError(one_line(error), field) from error


def default_code() -> Any:
    """Return the only code named ``nanoml-worker`` that can run here.

    :raises ActionError: there is none, or there are several.
    """
    load_storage()
    known = worker_codes()
    codes = [code for code in known if why_unusable(code) is None]
    if not codes:
        reason = f' that can run here ({why_unusable(known[0])})' if known else ''
        raise ActionError(
            f'there is no code {WORKER}{reason}: make it with `aiida-nanoml doctor --fix`, or name another one with '
            '--code'
        )
    if len(codes) > 1:
        raise ActionError(f'there are several codes {WORKER}, choose one with --code: {_listed(codes)}')
    return codes[0]


def worker_codes() -> list[AbstractCode]:
    """Return all codes named ``nanoml-worker`` that are not hidden, also those of imported archives."""
    from aiida.orm import AbstractCode, QueryBuilder

    query = QueryBuilder().append(AbstractCode, filters={'label': WORKER}, tag='code')
    return [code for code in query.order_by({'code': 'id'}).all(flat=True) if not code.is_hidden]


def why_unusable(code: AbstractCode) -> str | None:
    """Return why a code cannot run here: its computer is not configured, or the program is not there; None: it can."""
    from aiida.orm import InstalledCode

    computer = code.computer
    if computer is None:
        return None
    if not computer.is_configured:
        return f'the computer {computer.label} of pk {code.pk} is not configured for the current user'
    local = type(code) is InstalledCode and computer.transport_type == 'core.local'
    if local and shutil.which(str(code.filepath_executable)) is None:
        return f'{code.full_label} (pk {code.pk}): {code.filepath_executable} is no program here'
    return None


def _listed(codes: list[Any]) -> str:
    return ', '.join(sorted(f'{code.full_label} (pk {code.pk})' for code in codes))
