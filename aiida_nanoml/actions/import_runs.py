"""Import finished SIESTA runs that were made without AiiDA."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import NamedAction, Result, Step, record, step
from aiida_nanoml.actions.describe import counts, identity_line
from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.session import Session, only_errors
from aiida_nanoml.text import aligned, counted

if TYPE_CHECKING:
    from aiida_nanoml.calculations.importers.runs import FoundRun
    from aiida_nanoml.calculations.importers.sets import ImportedSet

BATCH_SIZE = 100
SHOWN_REASONS = 20


class ImportRuns(NamedAction):
    """Import the finished runs in FOLDERS and below, made without AiiDA.

    A run is a folder with an input (.fdf), its output under any name, and the levels (.EIG); without levels only the
    energy is known. Runs that did not finish are listed with the reason and skipped. The command can be stopped and
    repeated: what was imported is recognised by its content. The structures and labels of all runs are joined for
    `dataset build`.
    """

    action: ClassVar[str] = 'import_runs'
    command: ClassVar[tuple[str, ...]] = ('siesta', 'import')
    makes: ClassVar[Mapping[str, str]] = {
        '-structures': 'nanoml.structures',
        '-labels': 'nanoml.labels',
        '-densities': 'nanoml.densities',
    }
    example: ClassVar[str] = 'aiida-nanoml siesta import runs --name dft'
    short: ClassVar[str] = 'Import finished run folders.'

    folders: tuple[Path, ...] = argument('Folders to search.', exists='folder')
    pseudo_family: str | None = option(
        None, 'Family of the pseudopotentials, where they are not beside the runs.', shown='ours'
    )
    batch_size: int | None = option(None, 'Runs that share a process.', ge=1, shown=str(BATCH_SIZE))
    single: bool = option(False, 'A process for each run, with its files; needs its XML file.')
    family: str | None = option(None, 'Family of all structures.')
    family_from_name: bool = option(False, 'Family: the letters with which the name of a folder begins.')
    vacuum: float | None = option(
        None, 'Vacuum in the parameters of isolated structures.', unit='Å', gt=0, shown='that of each run'
    )
    every_step: bool = option(False, 'The steps of relaxations and dynamics before the last, too, without levels.')
    densities: bool = option(False, 'Import the densities, too, of runs with SaveRho and SaveDeltaRho.')
    mesh_spacing: float | None = option(None, 'Keep the densities on a coarse mesh of this spacing.', unit='Å', gt=0)

    @model_validator(mode='after')
    def check_choices(self) -> Self:
        """Check that options do not contradict each other."""
        if self.single and self.batch_size is not None:
            raise InputError('choose one of {single} and {batch_size}')
        if self.single and self.every_step:
            raise InputError('choose one of {single} and {every_step}')
        if self.family is not None and self.family_from_name:
            raise InputError('choose one of {family} and {family_from_name}')
        if self.mesh_spacing is not None and not self.densities:
            raise InputError('{mesh_spacing} goes with {densities}')
        return self

    def perform(self, session: Session) -> Result:
        """Find the runs, import them, and join what they hold."""
        from aiida_nanoml.calculations.importers.pseudopotentials import PseudopotentialFinder
        from aiida_nanoml.calculations.importers.runs import RunImporter, find_runs
        from aiida_nanoml.calculations.importers.sets import collect
        from aiida_nanoml.calculations.local_worker import make_localhost

        computer, finder = make_localhost(), PseudopotentialFinder(self.pseudo_family)
        runs = find_runs(self.folders, _letters if self.family_from_name else lambda _: self.family or '')
        if not runs:
            places = ', '.join(map(str, self.folders))
            raise ActionError(f'there is no run in {places}: no folder holds an input (.fdf) or output (.out)')
        size = None if self.single else self.batch_size or BATCH_SIZE
        importer = RunImporter(computer, finder, size, self.vacuum, self.every_step)
        with only_errors():
            for _ in session.count('importing', importer.take(runs), len(runs)):
                pass
        sets = collect([*runs, *(step for run in runs for step in run.steps)], self.name)
        if self.densities:
            sets = self._add_densities(sets, runs, computer, finder)
        return ImportedRuns(runs, sets)

    def _add_densities(
        self, sets: list[ImportedSet], runs: list[FoundRun], computer: Any, finder: Any
    ) -> list[ImportedSet]:
        from aiida_nanoml.calculations.importers.sets import DensityImporter

        further = DensityImporter(computer, finder, self.vacuum, self.mesh_spacing)
        marks = ['', *(f'-{number}' for number in range(2, len(sets) + 1))]
        with only_errors():
            dense = [
                further.take(made, runs, f'{self.name}-densities{mark}' if self.name else '')
                for made, mark in zip(sets, marks, strict=False)
            ]
        if not any(made.densities for made in dense):
            raise ActionError('no run saved its density: SIESTA does with SaveRho T and SaveDeltaRho T')
        return dense


@dataclass(frozen=True)
class ImportedRuns(Result):
    """What became of each folder, and the sets that were joined.

    :param runs: all folders.
    :param sets: one for each source, the largest first.
    """

    runs: list[FoundRun]
    sets: list[ImportedSet]

    @property
    def exit_status(self) -> int:  # type: ignore[override]
        """0 only if a run was imported, or was there already."""
        return 0 if any(run.status in ('imported', 'present') for run in self.runs) else 1

    def to_dict(self) -> dict[str, Any]:
        """Return the first set, all sets, and every folder."""
        content: dict[str, Any] = dict.fromkeys(('uuid', 'pk', 'type', 'label', 'structures', 'labels'))
        content['label'] = ''
        if self.sets:
            first = self.sets[0]
            content |= record(first.labels, structures=first.structures.uuid, labels=first.labels.uuid)
        content['sets'] = [
            {
                'structures': record(made.structures, n_structures=made.structures.n_structures),
                'labels': record(made.labels, n_rows=len(made.labels.labels)),
                'densities': made.densities and record(made.densities, n_densities=made.densities.n_densities),
                'source': made.source.to_dict(),
            }
            for made in self.sets
        ]
        content['contradictions'] = [[str(run.folder) for run in runs] for runs in self._contradictions()]
        return content | {'counts': self._counts(), 'runs': [run.to_dict() for run in self.runs]}

    def lines(self) -> dict[str, object]:
        """Return counts, and nodes and source of each set."""
        lines: dict[str, object] = {'runs': f'{len(self.runs)} ({counts(self._counts())})'}
        for number, made in enumerate(self.sets, start=1):
            mark = f' {number}' if len(self.sets) > 1 else ''
            gaps = made.labels.labels.energies['gap_ev']
            lines |= {
                f'structures{mark}': identity_line(made.structures),
                f'labels{mark}': identity_line(made.labels),
                **({f'densities{mark}': identity_line(made.densities)} if made.densities else {}),
                f'source{mark}': f'{made.source}: {_describe_gaps(gaps)}',
            }
        contradictions = self._contradictions()
        if contradictions:
            lines['contradictions'] = (
                f'{counted(len(contradictions), "structure")} with runs that contradict each other: none of them is '
                'chosen, see the notes'
            )
        if _differ_in_vacuum_only(self.sets):
            narrowest = min(made.source.parameters['vacuum_ang'] for made in self.sets)
            lines['note'] = f'some sets differ in the vacuum only: --vacuum {narrowest:g} puts them together'
        return lines

    def table(self) -> str:
        """Return the folders that were skipped, with the reasons, and the notes about the others."""
        tables = []
        for title, statuses in (('skipped', ('skipped',)), ('notes', ('imported', 'present'))):
            rows = [
                (f'  {run.folder / run.input}', run.reason)
                for run in self.runs
                if run.status in statuses and run.reason
            ]
            if rows:
                more = [f'  and {len(rows) - SHOWN_REASONS} more, see --json'] if len(rows) > SHOWN_REASONS else []
                tables += [f'{title}:', aligned(rows[:SHOWN_REASONS]), *more]
        return '\n'.join(tables)

    def next_step(self) -> Step | None:
        """Build a data set from the largest set."""
        if not self.sets:
            return None
        return step('build_dataset', structures=[self.sets[0].structures], labels=[self.sets[0].labels])

    def _contradictions(self) -> list[list[FoundRun]]:
        return [runs for made in self.sets for runs in made.contradictions]

    def _counts(self) -> dict[str, int]:
        numbers = Counter(run.status for run in self.runs)
        return {status: numbers[status] for status in ('imported', 'present', 'skipped')}


def _describe_gaps(gaps: Any) -> str:
    known = [gap for gap in gaps.tolist() if not math.isnan(gap)]
    rest = f', {len(gaps) - len(known)} unknown' if len(known) < len(gaps) else ''
    span = f', {min(known):.3f} to {max(known):.3f} eV' if known else ''
    return f'{len(known)} gaps{span}{rest}'


def _letters(name: str) -> str:
    """Return the letters with which a name begins."""
    letters = re.match(r'[A-Za-z]+', name)
    return letters[0] if letters else ''


def _differ_in_vacuum_only(sets: list[ImportedSet]) -> bool:
    others = [
        json.dumps({key: value for key, value in made.source.parameters.items() if key != 'vacuum_ang'}, sort_keys=True)
        for made in sets
    ]
    return len(set(others)) < len(others)
