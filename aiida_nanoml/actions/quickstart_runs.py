"""Processes of the quickstart: those of an earlier run that was asked for the same, else run by the daemon."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

from aiida_nanoml.actions.session import Session, raise_if_failed

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.manage.configuration import Profile
    from aiida.orm import Node, ProcessNode

REQUEST = 'nanoml_request'
"""Extra of a process: the digest of all that it was asked for, and of the software that was installed then."""


class Runs:
    """Runs the processes of the quickstart, and sends none to the daemon again that an earlier run has finished.

    An earlier process is taken if it finished without a fault, and if its inputs, the source of this package and the
    versions of all packages that it needs were the same as now.

    :param profile: of the quickstart; its daemon is started with the first process that has to run.
    :param session: follows the processes.
    :param fresh: take nothing from earlier runs.

    ``used`` has all processes of this run, ``reused`` those of them that an earlier run made.
    """

    def __init__(self, profile: Profile, session: Session, fresh: bool = False) -> None:
        self.session = session
        self.used: list[ProcessNode] = []
        self.reused: list[ProcessNode] = []
        self._profile = profile
        self._fresh = fresh

    def find(self, builder: ProcessBuilder) -> ProcessNode | None:
        """Return the finished process of an earlier run that did what a builder asks for, or None."""
        return self._find(_digest(builder))

    def submit(self, builder: ProcessBuilder) -> ProcessNode:
        """Give a process to the daemon, and note what it was asked for."""
        from aiida.engine import submit

        self.start_daemon()
        digest = _digest(builder)
        process = submit(builder)
        process.base.extras.set(REQUEST, digest)
        self.used.append(process)
        return process

    def run(self, builder: ProcessBuilder) -> ProcessNode:
        """Return a process that has finished: of an earlier run, or submitted and followed.

        :raises ActionError: it failed.
        """
        process = self.find(builder)
        if process is None:
            process = self.submit(builder)
            self.session.follow(process)
            raise_if_failed(process)
        return process

    def run_function(self, function: Any, **inputs: Any) -> Any:
        """Run a calculation function, or take what it made in an earlier run.

        :returns: the node that it made, or nodes by name.
        :raises ActionError: the function refused its input.
        """
        digest = _digest({'function': function.__qualname__, **inputs})
        process = self._find(digest)
        if process is None:
            made = self.session.run_function(function, **inputs)
            creator = (next(iter(made.values())) if isinstance(made, dict) else made).creator
            creator.base.extras.set(REQUEST, digest)
            self.used.append(creator)
            return made
        outputs: Mapping[str, Node] = {name: process.outputs[name] for name in process.outputs}
        return outputs['result'] if set(outputs) == {'result'} else outputs

    def take_up(self, process: ProcessNode) -> None:
        """Let the daemon go on with a process of an earlier run that has not ended."""
        self.start_daemon()
        self.used.append(process)

    def start_daemon(self) -> None:
        """Start the daemon unless it runs."""
        from aiida_nanoml.actions.installation import start_daemon

        if start_daemon(self._profile):
            self.session.note(f'daemon of the profile {self._profile.name} started')

    def summarise(self) -> dict[str, Any]:
        """Return how many calculations this run has, and where they come from, in types of JSON."""
        calculations = _calculations(self.used)
        reused = _calculations(self.reused)
        cached = [
            node
            for uuid, node in calculations.items()
            if uuid not in reused and node.base.caching.is_created_from_cache
        ]
        return {
            'cached': len(cached) + len(reused) == len(calculations),
            'calculations': len(calculations),
            'calculations_from_cache': len(cached),
            'calculations_reused': len(reused),
            'reused': [
                {
                    'process': node.process_label,
                    'pk': node.pk,
                    'uuid': node.uuid,
                    'begun': f'{node.ctime.astimezone():%Y-%m-%d %H:%M}',
                }
                for node in self.reused
            ],
        }

    def _find(self, digest: str) -> ProcessNode | None:
        from aiida import orm

        if self._fresh:
            return None
        query = orm.QueryBuilder().append(
            orm.ProcessNode,
            filters={
                f'extras.{REQUEST}': digest,
                'attributes.process_state': 'finished',
                'attributes.exit_status': 0,
            },
            tag='process',
        )
        process: ProcessNode | None = query.order_by({'process': {'ctime': 'desc'}}).first(flat=True)
        if process is not None:
            self.used.append(process)
            self.reused.append(process)
        return process


def _calculations(processes: Iterable[ProcessNode]) -> dict[str, ProcessNode]:
    """Return some processes and those that they called, without workflows, by UUID."""
    from aiida.orm import CalculationNode

    nodes = [node for process in processes for node in (process, *process.called_descendants)]
    return {node.uuid: node for node in nodes if isinstance(node, CalculationNode)}


def _digest(inputs: Mapping[str, Any]) -> str:
    """Return a digest of the inputs of a process, by content, and of the installed software."""
    process = getattr(inputs, 'process_class', None)
    content = [_software(), '' if process is None else process.__qualname__, _contents(inputs)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _contents(value: Any) -> Any:
    from aiida.common.hashing import make_hash
    from aiida.orm import Node

    if isinstance(value, Node):
        return make_hash(value.base.caching.get_objects_to_hash())
    if isinstance(value, Mapping):
        return {name: _contents(inner) for name, inner in value.items() if inner is not None}
    return value


@functools.cache
def _software() -> str:
    """Return a digest of the files of this package, and of the versions of the packages that it needs."""
    digest = hashlib.sha256()
    for requirement in sorted(requires('aiida-nanoml') or ()):
        name = re.match(r'[\w.-]+', requirement)
        try:
            installed = version(name.group()) if name else ''
        except PackageNotFoundError:
            installed = ''
        digest.update(f'{requirement} {installed}\n'.encode())
    _add_files(digest, files('aiida_nanoml'))
    return digest.hexdigest()


def _add_files(digest: Any, folder: Traversable) -> None:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            if entry.name != '__pycache__':
                _add_files(digest, entry)
        else:
            digest.update(f'{entry.name}\n'.encode() + entry.read_bytes())
