"""Show what rests on something that turned out to be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import ArchiveAction, Result, Step, step
from aiida_nanoml.actions.errors import InputError
from aiida_nanoml.actions.fields import AnyNode, argument, option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.provenance.taint import Taint as Affected


class Taint(ArchiveAction):
    """Show what rests on NODE, which turned out to be wrong, and what must be rerun.

    NODE is a pseudopotential, a code, a run, a workflow, or any data. The same file of a pseudopotential, the same
    executable, and results that were taken from the cache are followed as well.
    """

    action: ClassVar[str] = 'taint'
    command: ClassVar[tuple[str, ...]] = ('taint',)
    example: ClassVar[str] = 'aiida-nanoml taint RUN\naiida-nanoml taint --engine siesta --engine-version 4.1-b4-133'

    nodes: tuple[AnyNode, ...] = argument('What is wrong.', (), metavar='NODE...')
    engine: str | None = option(
        None, 'In place of NODE: an engine, with --engine-version; all its labelling runs are followed.'
    )
    engine_version: str | None = option(None, 'Version of the engine, as `trace` shows it.')

    @model_validator(mode='after')
    def check_choice(self) -> Self:
        """Check that either nodes or a version of an engine are given."""
        if (self.engine is None) != (self.engine_version is None) or bool(self.nodes) == (self.engine is not None):
            raise InputError('name what is wrong: either NODE, or both {engine} and {engine_version}')
        return self

    def perform(self, session: Session) -> Result:
        """Follow everything that rests on it."""
        from aiida_nanoml.provenance.taint import taint, taint_version

        if self.nodes:
            return TaintResult(taint(*self.load_all('nodes')), self.archive)
        return TaintResult(taint_version(str(self.engine), str(self.engine_version)), self.archive)


@dataclass(frozen=True)
class TaintResult(Result):
    """Everything that rests on something wrong.

    :param affected: what is affected, and what must be rerun.
    :param archive: archive that was asked.
    """

    affected: Affected
    archive: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Return all affected nodes."""
        return self.affected.to_dict()

    def lines(self) -> str:
        """Return what is affected and what must be rerun as text."""
        return self.affected.render()

    def next_step(self) -> Step | None:
        """Trace the first model that is affected."""
        models = self.affected.models
        return step('trace', node=models[0].node.pk, archive=self.archive) if models else None
