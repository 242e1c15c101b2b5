"""A storage that costs less: profiles of tests need not survive the loss of power, only the end of processes."""

from __future__ import annotations

import os
import sqlite3
from itertools import cycle
from typing import Any

import yaml
from aiida.orm import AuthInfo, Computer, Node, ProcessNode, User
from aiida.orm.nodes.links import NodeLinks
from aiida.orm.utils import serialize
from aiida.orm.utils.links import LinkTriple, validate_link
from aiida.storage.psql_dos.orm.querybuilder import joiner, main
from aiida.storage.psql_dos.orm.utils import ModelWrapper
from aiida.storage.sqlite_dos import backend
from aiida.storage.sqlite_dos.backend import SqliteDosStorage
from disk_objectstore import Container
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import aliased

ALIASES = 64
"""Aliases of one table: more than any query needs at once."""


def spare_storage() -> None:
    """Let the storage of this process, and of its forks, do less.

    Files and transactions of SQLite are not flushed to the disk. The index of the repository stays open, where AiiDA
    opens it anew for each file that it reads or looks for. The aliases of tables are used in turn, where AiiDA makes
    new ones, with all their columns, for each query. Statements are compiled once for all databases. After a
    transaction nothing is read again that cannot change. What can, such as attributes, is read again when another
    connection has changed the database, where AiiDA reads it at each access. Whether a new link closes a circle is not
    asked of nodes that are not stored: they lead nowhere. How a computer is reached is looked up once, where AiiDA
    asks whenever it looks at a job. So is what a stored process was given, among which AiiDA looks for monitors each
    time. Checkpoints are written and read by PyYAML's library in C. That is more than half of its engine's time.
    """
    os.fsync = os.fdatasync = lambda _: None
    event.listen(Engine, 'connect', _do_not_sync)
    _keep_container_open()
    _keep_aliases()
    _keep_statements()
    _keep_fields()
    _find_circles_of_stored_nodes()
    _keep_authinfos()
    _keep_inputs()
    _checkpoints_by_libyaml()
    initialise = SqliteDosStorage._initialise_session

    def initialise_once(storage: SqliteDosStorage) -> None:
        initialise(storage)
        storage._session_factory.configure(expire_on_commit=False)

    SqliteDosStorage._initialise_session = initialise_once


def _keep_container_open() -> None:
    clear, look_up = SqliteDosStorage._clear, Container.has_objects

    def get_container(storage: SqliteDosStorage) -> Container:
        return vars(storage).setdefault('_container', Container(str(storage.filepath_container)))

    def has_objects(container: Container, keys: list[str]) -> list[bool]:
        return [container._get_loose_path_from_hashkey(key).exists() or all(look_up(container, [key])) for key in keys]

    def clear_with_container(storage: SqliteDosStorage) -> None:
        vars(storage).pop('_container', None)
        clear(storage)

    Container.has_objects = has_objects
    Container.__exit__ = lambda *_: None  # it is closed when the storage is gone
    SqliteDosStorage.get_container = get_container
    SqliteDosStorage._clear = clear_with_container


def _keep_aliases() -> None:
    pools: dict[Any, cycle[Any]] = {}

    def next_alias(entity: Any) -> Any:
        if entity not in pools:
            pools[entity] = cycle([aliased(entity) for _ in range(ALIASES)])
        return next(pools[entity])

    main.aliased = joiner.aliased = next_alias


def _keep_statements() -> None:
    create = backend.create_sqla_engine
    model = create(':memory:')
    model.connect().close()  # what its dialect asks of a database is known afterwards
    model.dispose()

    def create_like_model(path: Any, **kwargs: Any) -> Engine:
        engine = create(path, **kwargs)
        engine.dialect, engine._compiled_cache = model.dialect, model._compiled_cache
        return engine

    backend.create_sqla_engine = create_like_model


def _keep_fields() -> None:
    read_again = ModelWrapper._ensure_model_uptodate

    def read_what_changed(wrapper: ModelWrapper, fields: tuple[str, ...]) -> None:
        connection = wrapper.session.connection().connection
        [[version]] = connection.execute('PRAGMA data_version')  # counts what other connections change
        now = (connection.info.setdefault('nanoml_tests', object()), version)
        seen = vars(wrapper).setdefault('_seen', {})
        if any(seen.get(field) != now for field in fields):
            read_again(wrapper, fields)
            seen.update(dict.fromkeys(fields, now))

    def is_saved(wrapper: ModelWrapper) -> bool:
        return vars(wrapper._model).get('id') is not None or ask(wrapper)

    ask = ModelWrapper.is_saved
    ModelWrapper._ensure_model_uptodate, ModelWrapper.is_saved = read_what_changed, is_saved


def _find_circles_of_stored_nodes() -> None:
    validate = NodeLinks.validate_incoming

    def validate_incoming(links: NodeLinks, source: Node, link_type: Any, link_label: str) -> None:
        if links._node.pk is None or source.pk is None:
            validate_link(source, links._node, link_type, link_label, backend=links._node.backend)
        else:
            validate(links, source, link_type, link_label)

    NodeLinks.validate_incoming = validate_incoming


def _keep_authinfos() -> None:
    look_up = Computer.get_authinfo

    def get_authinfo(computer: Computer, user: User) -> AuthInfo:
        kept = vars(computer.backend).setdefault('_authinfos_of_tests', {})
        key = (computer.uuid, user.pk)
        if key not in kept:
            kept[key] = look_up(computer, user)
        return kept[key]

    Computer.get_authinfo = get_authinfo


def _keep_inputs() -> None:
    look_up = NodeLinks.get_stored_link_triples

    def get_stored_link_triples(
        links: NodeLinks, node_class: Any = None, link_type: Any = (), *further: Any, **options: Any
    ) -> list[LinkTriple]:
        kept = vars(links).setdefault('_inputs_of_tests', {})
        key = (node_class, link_type, *further, *options.values())
        if key not in kept:
            found = look_up(links, node_class, link_type, *further, **options)
            if 'outgoing' in key or not (isinstance(links._node, ProcessNode) and links._node.is_stored):
                return found
            kept[key] = tuple(found)
        return list(kept[key])

    NodeLinks.get_stored_link_triples = get_stored_link_triples


def _checkpoints_by_libyaml() -> None:
    class Dumper(yaml.cyaml.CEmitter, serialize.AiiDADumper):
        __init__ = yaml.CDumper.__init__

    class Loader(yaml.cyaml.CParser, serialize.AiiDALoader):
        __init__ = yaml.CLoader.__init__

    serialize.AiiDADumper, serialize.AiiDALoader = Dumper, Loader


def _do_not_sync(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute('PRAGMA synchronous=OFF').close()
