"""Compute a result again from the graph alone, and compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aiida_nanoml.actions.base import ArchiveAction, Result, Step, step
from aiida_nanoml.actions.fields import AnyNode, argument, option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.provenance.reproduce import Reproduction

Boundary = Literal['inputs', 'dataset', 'labels', 'structures', 'start']


class Reproduce(ArchiveAction):
    """Compute NODE again from the graph alone, in a fresh profile, and compare it with what is recorded.

    NODE is a prediction, a model, a data set, or anything else that a calculation made. Its calculation runs once more
    on this machine, without the cache; with --from also those before it, each with the recomputed results of the
    others. Runs of SIESTA are never repeated: their labels are taken as recorded. The profile stays as it is.

    The exit status is 1 when NODE differs.
    """

    action: ClassVar[str] = 'reproduce'
    command: ClassVar[tuple[str, ...]] = ('reproduce',)
    example: ClassVar[str] = 'aiida-nanoml reproduce PREDICTION --from labels'

    node: AnyNode = argument('Node to compute again.')
    since: Boundary = option(
        'inputs',
        'What is taken as recorded: the inputs of the last calculation, everything up to the data set, the labels or '
        'the structures, or nothing that can be computed again (start).',
        options=('--from',),
    )
    tolerance: float = option(
        0.0,
        'Largest difference of a real number that counts as none, each in its own unit.',
        ge=0.0,
        shown='0, bit for bit',
    )

    def perform(self, session: Session) -> Result:
        """Run the calculations again, and compare."""
        from aiida_nanoml.provenance.reproduce import reproduce

        return ReproduceResult(reproduce(self.load('node'), self.since, self.tolerance, session.note), self.archive)


@dataclass(frozen=True)
class ReproduceResult(Result):
    """A node that was computed again.

    :param reproduction: calculations, differences and verdict.
    :param archive: archive that was asked.
    """

    reproduction: Reproduction
    archive: Path | None

    @property
    def exit_status(self) -> int:  # type: ignore[override]
        """Return 1 if the node differs."""
        return int(self.reproduction.verdict == 'differs')

    def to_dict(self) -> dict[str, Any]:
        """Return every calculation with every quantity."""
        return self.reproduction.to_dict()

    def lines(self) -> str:
        """Return calculations, differences and verdict as text."""
        return self.reproduction.render()

    def next_step(self) -> Step:
        """Begin earlier; if nothing is earlier, or the node differs, see where it comes from."""
        found = self.reproduction
        if found.verdict != 'differs' and found.earlier is not None:
            return step('reproduce', node=found.uuid, since=found.earlier, archive=self.archive)
        return step('trace', node=found.uuid, archive=self.archive)
