"""What became of folders of finished runs, and the sets that were joined from them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_nanoml.actions.base import Result, Step, record, step
from aiida_nanoml.actions.describe import counts, identity_line
from aiida_nanoml.learning.registry import FEW_ROWS
from aiida_nanoml.text import aligned, counted

if TYPE_CHECKING:
    from aiida_nanoml.calculations.importers.runs import FoundRun
    from aiida_nanoml.calculations.importers.sets import ImportedSet

BATCH_SIZE = 100
SHOWN_REASONS = 20
FEWEST_ROWS = 10
"""Gaps below which nothing can be learnt."""


def leading_letters(name: str) -> str:
    """Return the letters with which a name begins."""
    letters = re.match(r'[A-Za-z]+', name)
    return letters[0] if letters else ''


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
        """Build a data set from the largest set; where gaps are few, label it with a cheap engine to begin with."""
        if not self.sets:
            return None
        if _asks_for_baseline(self.sets[0]):
            return step('label', structures=self.sets[0].structures, engine='xtb')
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


def _differ_in_vacuum_only(sets: list[ImportedSet]) -> bool:
    others = [
        json.dumps({key: value for key, value in made.source.parameters.items() if key != 'vacuum_ang'}, sort_keys=True)
        for made in sets
    ]
    return len(set(others)) < len(others)


def _asks_for_baseline(made: ImportedSet) -> bool:
    """Return whether gaps are few, of isolated structures: a model learns more from them as corrections to xTB."""
    n_gaps = int(np.isfinite(made.labels.labels.energies['gap_ev']).sum())
    return FEWEST_ROWS <= n_gaps < FEW_ROWS and not made.structures.structures.pbc.any()
