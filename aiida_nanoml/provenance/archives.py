"""Archives of AiiDA: opened as read-only profiles, with clear messages if they cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiida.common import exceptions

from aiida_nanoml.errors import ProvenanceError


def open_archive(archive: Path) -> None:
    """Load an archive as a read-only profile.

    :param archive: path of the ``.aiida`` file.
    :raises ProvenanceError: it cannot be read, or needs a migration.
    """
    from aiida import load_profile
    from aiida.manage import get_manager
    from aiida.storage.sqlite_zip.backend import SqliteZipBackend

    with readable(archive):
        if not archive.is_file():
            raise ProvenanceError(f'there is no file {archive}')
        load_profile(SqliteZipBackend.create_profile(archive), allow_switch=True)
        get_manager().get_profile_storage()


@contextmanager
def readable(archive: Path) -> Iterator[None]:
    """Turn errors of reading an archive into messages that say what to do.

    :raises ProvenanceError: it cannot be read, or needs a migration.
    """
    from aiida.tools.archive.exceptions import ImportUniquenessError, ImportValidationError

    try:
        yield
    except exceptions.IncompatibleStorageSchema as error:
        raise ProvenanceError(
            f'{archive} was written by another version of aiida-core: if that was an older one, rewrite it with `verdi '
            f'archive migrate {archive} NEW` and use NEW, else update aiida-core'
        ) from error
    except (
        exceptions.CorruptStorage,
        exceptions.UnreachableStorage,
        ImportUniquenessError,
        ImportValidationError,
    ) as error:
        raise ProvenanceError(f'{archive} is no archive of AiiDA that can be read: {error}') from error


@contextmanager
def quiet_export(level: int) -> Iterator[None]:
    """Suppress the reports of an export below a level of logging; they would fill the screen."""
    from aiida.tools.archive.create import EXPORT_LOGGER

    before = EXPORT_LOGGER.level
    EXPORT_LOGGER.setLevel(level)
    try:
        yield
    finally:
        EXPORT_LOGGER.setLevel(before)
