"""The stand-in for SIESTA as a code, and what was recorded."""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiida import orm

import aiida_nanoml
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.siesta.fdf import read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import read_parameters, read_structure
from aiida_nanoml.engines.siesta.mesh import read_density
from aiida_nanoml.structures import Structure, StructureSet

PROGRAM = Path(__file__).with_name('siesta')
PSEUDOPOTENTIALS = Path(aiida_nanoml.__file__).parent / 'engines' / 'pseudopotentials' / 'tm-lda-ca'
RECORDED = Path(__file__).resolve().parents[1] / 'recorded' / 'siesta'


@dataclass(frozen=True)
class RecordedRun:
    """One recorded run.

    :param folder: where it is kept.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Name of the recording, for example ``h-0000`` or ``scf-oscillates``."""
        return self.folder.name

    @property
    def about(self) -> dict[str, Any]:
        """Kind, exit status, how it was provoked, and for flakes HOMO, LUMO and gap in eV."""
        return json.loads((self.folder / 'run.json').read_text(encoding='utf-8'))

    @property
    def fdf(self) -> str:
        """The input."""
        return (self.folder / 'aiida.fdf').read_text(encoding='utf-8')

    @property
    def structure(self) -> Structure:
        """The structure of the input."""
        return read_structure(read_fdf(self.fdf))

    def unpack(self, folder: Path) -> Path:
        """Make a folder as the run left it, input included, pseudopotentials not."""
        target = folder / self.name
        target.mkdir(parents=True)
        with tarfile.open(self.folder / 'files.tar.xz') as archive:
            if hasattr(tarfile, 'data_filter'):
                archive.extraction_filter = tarfile.data_filter  # Python 3.11.2 of Debian 12 has none
            archive.extractall(target)  # noqa: S202  the archive is ours
        (target / 'aiida.fdf').write_text(self.fdf, encoding='utf-8')
        return target


def recorded_runs(*kinds: str) -> dict[str, RecordedRun]:
    """Give the recorded runs by name: all, or those of some kinds (``flake``, ``alloy``, ``atom``, ``crystal``, …)."""
    runs = [RecordedRun(path.parent) for path in sorted(RECORDED.glob('*/aiida.fdf'))]
    return {run.name: run for run in runs if not kinds or run.about['kind'] in kinds}


@pytest.fixture(scope='session')
def siesta_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An executable that replays the recorded runs of SIESTA; it runs with the interpreter of the tests."""
    path = tmp_path_factory.mktemp('stand-in') / 'siesta'
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I {PROGRAM} "$@"\n', encoding='utf-8')
    path.chmod(0o755)
    return path


@pytest.fixture
def siesta_code(code_factory: Callable[..., orm.InstalledCode], siesta_stand_in: Path) -> orm.InstalledCode:
    """The code siesta@localhost: the stand-in."""
    return code_factory(siesta_stand_in, 'siesta', default_calc_job_plugin='nanoml.siesta', with_mpi=False)


@pytest.fixture
def broken_siesta_code(
    code_factory: Callable[..., orm.InstalledCode], siesta_stand_in: Path, tmp_path: Path
) -> Callable[[str], orm.InstalledCode]:
    """Make a stand-in whose first run ends as a recorded failure, or ``killed``; later ones go through."""

    def make(failure: str, *, always: bool = False) -> orm.InstalledCode:
        order = failure if always else f'{failure}@{tmp_path / failure}'
        return code_factory(
            siesta_stand_in,
            f'siesta-{os.urandom(4).hex()}',
            default_calc_job_plugin='nanoml.siesta',
            with_mpi=False,
            prepend_text=f'export NANOML_STAND_IN_FAILURE={order}',
        )

    return make


@pytest.fixture
def methanimine_density(aiida_profile, tmp_path: Path) -> DensitySetData:
    """The recorded density that the run ``methanimine-started`` began with."""
    run = recorded_runs()['methanimine']
    folder = run.unpack(tmp_path / 'density')
    density = read_density((folder / 'aiida.RHO').read_bytes(), (folder / 'aiida.DRHO').read_bytes(), run.structure)
    settings = read_parameters(read_fdf(run.fdf)).model_dump()
    source = LabelSource('siesta', '4.1-b4-133', 'LDA-CA/DZP (SIESTA)', 'custom', settings)
    return DensitySetData(StructureSet.from_structures([run.structure], names=['CH2NH']), [density], source).store()


@pytest.fixture
def siesta_pseudos(aiida_profile) -> dict[str, orm.SinglefileData]:
    """The bundled pseudopotentials by element, with which the recorded runs were made."""
    from aiida_pseudo.data.pseudo import PsfData

    return {path.stem: PsfData.get_or_create(path).store() for path in sorted(PSEUDOPOTENTIALS.glob('*.psf'))}
