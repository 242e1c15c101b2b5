"""Import finished runs of any program that is known, made without AiiDA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from aiida_nanoml.actions.base import NamedAction, Result
from aiida_nanoml.actions.errors import ActionError, InputError
from aiida_nanoml.actions.fields import argument, option
from aiida_nanoml.actions.imported_runs import BATCH_SIZE, ImportedRuns, leading_letters
from aiida_nanoml.actions.session import Session, only_errors


class ImportRuns(NamedAction):
    """Import the finished runs of any known program in FOLDERS and below, made without AiiDA.

    Outputs of SIESTA, Quantum ESPRESSO (pw.x), ABINIT and CP2K are recognised by what they hold. Each run gives a
    label, or only its energy, or is listed with the reason why it gives none. The command can be stopped and repeated:
    what was imported is recognised by its content. Options that only SIESTA has are those of `siesta import`.
    """

    action: ClassVar[str] = 'import_runs'
    command: ClassVar[tuple[str, ...]] = ('import', 'runs')
    makes: ClassVar[Mapping[str, str]] = {'-structures': 'nanoml.structures', '-labels': 'nanoml.labels'}
    example: ClassVar[str] = 'aiida-nanoml import runs runs --name dft'
    short: ClassVar[str] = 'Import finished runs of any known program.'

    folders: tuple[Path, ...] = argument('Folders to search.', exists='folder')
    pseudo_family: str | None = option(
        None, 'Family of the pseudopotentials of SIESTA runs, where they are not beside them.', shown='ours'
    )
    batch_size: int | None = option(None, 'Runs that share a process.', ge=1, shown=str(BATCH_SIZE))
    family: str | None = option(None, 'Family of all structures.')
    family_from_name: bool = option(False, 'Family: the letters with which the name of a folder begins.')
    vacuum: float | None = option(
        None, 'Vacuum in the parameters of isolated structures.', unit='Å', gt=0, shown='that of each run'
    )

    @model_validator(mode='after')
    def check_choices(self) -> Self:
        """Check that options do not contradict each other."""
        if self.family is not None and self.family_from_name:
            raise InputError('choose one of {family} and {family_from_name}')
        return self

    def perform(self, session: Session) -> Result:
        """Find the runs, import them, and join what they hold."""
        from aiida_nanoml.calculations.importers.pseudopotentials import PseudopotentialFinder
        from aiida_nanoml.calculations.importers.runs import RunImporter, find_program_runs, find_runs
        from aiida_nanoml.calculations.importers.sets import collect
        from aiida_nanoml.calculations.local_worker import make_localhost

        def family(name: str) -> str:
            return leading_letters(name) if self.family_from_name else self.family or ''

        runs = find_runs(self.folders, family)
        runs += find_program_runs(self.folders, family, {run.folder.resolve() for run in runs})
        if not runs:
            raise ActionError(f'there is no output of a known program in {", ".join(map(str, self.folders))}')
        importer = RunImporter(
            make_localhost(), PseudopotentialFinder(self.pseudo_family), self.batch_size or BATCH_SIZE, self.vacuum
        )
        with only_errors():
            for _ in session.count('importing', importer.take(runs), len(runs)):
                pass
        return ImportedRuns(runs, collect(runs, self.name))
