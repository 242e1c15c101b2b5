"""Import finished SIESTA runs that were made without AiiDA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.imported_runs import BATCH_SIZE, ImportedRuns, leading_letters
from aiida_nanoml.actions.session import Session, only_errors

if TYPE_CHECKING:
    from aiida_nanoml.calculations.importers.runs import FoundRun
    from aiida_nanoml.calculations.importers.sets import ImportedSet


class ImportSiestaRuns(NamedAction):
    """Import the finished runs in FOLDERS and below, made without AiiDA.

    A run is a folder with an input (.fdf), its output under any name, and the levels (.EIG); without levels only the
    energy is known. Runs that did not finish are listed with the reason and skipped. The command can be stopped and
    repeated: what was imported is recognised by its content. The structures and labels of all runs are joined for
    `dataset build`.
    """

    action: ClassVar[str] = 'import_siesta_runs'
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
        runs = find_runs(self.folders, leading_letters if self.family_from_name else lambda _: self.family or '')
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
