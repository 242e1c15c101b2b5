"""Files of stored folders, written where a person wants them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiida.orm import FolderData


def write_file(folder: FolderData, name: str, path: Path) -> None:
    """Write one file of a folder.

    :param name: name in the folder.
    :param path: file to write.
    """
    with folder.base.repository.open(name, 'rb') as source, path.open('wb') as target:
        shutil.copyfileobj(source, target)


def write_files(folder: FolderData, output: Path) -> tuple[Path, ...]:
    """Write all files of a folder, sorted by name.

    :param output: folder to write them into; it is made if it does not exist.
    """
    output.mkdir(exist_ok=True)
    paths = []
    for name in sorted(folder.base.repository.list_object_names()):
        paths.append(output / name)
        write_file(folder, name, paths[-1])
    return tuple(paths)
