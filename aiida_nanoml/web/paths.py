"""Paths in forms: what an action may read and write of the user's files."""

from __future__ import annotations

from aiida_nanoml.actions.fields import FieldSpec
from aiida_nanoml.web.files import UserFileError, UserFiles
from aiida_nanoml.web.forms import CheckPath


def path_checker(files: UserFiles) -> CheckPath:
    """Return the check of the paths in a form."""

    def check(spec: FieldSpec, path: str) -> None:
        exists = spec.display.exists
        try:
            if exists in ('file', 'folder'):
                files.check_exists(path, folder=exists == 'folder')
            else:
                files.check_new(path)
        except UserFileError as error:
            raise ValueError(str(error)) from error

    return check
