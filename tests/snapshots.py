"""Contents of the profile of the tests, brought back by copying files: faster than to make the same nodes again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from aiida import orm
from aiida.manage import get_manager
from aiida.manage.configuration import Profile

EMPTY = 'empty'
"""Name of the content that has nothing but the user."""


class Snapshots:
    """What was in the storage of a profile, by name; the storage is one of SQLite.

    :param profile: whose storage is read and replaced.
    :param folder: where the copies are kept, on the same disk.
    """

    def __init__(self, profile: Profile, folder: Path) -> None:
        self._storage = Path(profile.storage_config['filepath'])
        self._folder = folder
        self._uuids: dict[str, dict[str, list[str]]] = {}
        self._current = EMPTY

    def __contains__(self, name: str) -> bool:
        return name in self._uuids

    def take(self, name: str, **nodes: orm.Node | tuple[orm.Node, ...]) -> None:
        """Keep what is in the storage now; :meth:`nodes` finds the nodes by their keywords."""
        copy = self._folder / name
        copy.mkdir()
        shutil.copy(self._storage / 'database.sqlite', copy)
        _copy_container(self._storage / 'container', copy / 'container')
        self._uuids[name] = {
            key: [node.uuid for node in (some if isinstance(some, tuple) else (some,))] for key, some in nodes.items()
        }
        self._current = name

    def restore(self, name: str) -> None:
        """Bring back a content; all nodes that were loaded before are void."""
        get_manager().reset_profile()
        copy = self._folder / name
        shutil.rmtree(self._storage / 'container')
        _copy_container(copy / 'container', self._storage / 'container')
        new = self._storage / 'database.sqlite.new'
        shutil.copy(copy / 'database.sqlite', new)
        (self._storage / 'database.sqlite-journal').unlink(missing_ok=True)
        os.replace(new, self._storage / 'database.sqlite')
        self._current = name

    def nodes(self, key: str) -> list[orm.Node]:
        """Load nodes of the content that is there, none where it has no such ones."""
        return [orm.load_node(uuid) for uuid in self._uuids[self._current].get(key, ())]


def _copy_container(source: Path, target: Path) -> None:
    """Copy a repository; its single objects are never changed, so that they need no second place on the disk."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns('loose'))
    shutil.copytree(source / 'loose', target / 'loose', copy_function=os.link)
