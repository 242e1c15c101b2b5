"""Fixtures that the whole suite shares: a temporary AiiDA profile, the worker as a code, and a few labelled flakes.

Every pytest-xdist worker has its own profile, with SQLite storage and no broker; the user's own configuration is out
of reach. Nodes are made anew for each test, since any test may empty the profile; what costs time is made once.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile

os.environ['AIIDA_PATH'] = tempfile.mkdtemp(prefix='nanoml-tests-')  # before anything imports aiida
# Before anything imports NumPy: tests run side by side, and each would start a thread on every core.
os.environ.update(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1')

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.manage import get_manager
from aiida.manage.configuration import Profile

from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.densities import Density
from aiida_nanoml.engines.label_set import ENERGIES, FINISHED, LEVELS, LabelSet, LabelSource, Ragged
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.features.registry import descriptor_identity, make_descriptor
from aiida_nanoml.learning.dataset import UNASSIGNED, Dataset
from aiida_nanoml.learning.distance import TrainingDomain
from aiida_nanoml.learning.model_files import save_model
from aiida_nanoml.learning.registry import make_model
from aiida_nanoml.learning.splits import split_rows
from aiida_nanoml.structures import FlakeParameters, Structure, StructureSet, generate_flakes, place
from tests.forked import environment as forked
from tests.forked.storage import spare_storage
from tests.snapshots import EMPTY, Snapshots

pytest_plugins = ['aiida.tools.pytest_fixtures', 'tests.stand_in.fixtures']

# The same examples in every run: what passes on one machine passes on the next. New ones are drawn with
# `pytest --hypothesis-profile default`.
hypothesis.settings.register_profile('repeatable', derandomize=True)
hypothesis.settings.load_profile('repeatable')

CONFIGURATION = Path(os.environ['AIIDA_PATH'])
THIRD_PARTY = Path(__file__).with_name('third_party')
POLL_S = 0.25
"""Seconds between two looks at jobs and at child processes: looking without a pause takes the core that they run on."""

LONGEST = (
    *('test_kills_lose_nothing', 'test_blocks_run', 'test_a_killed_campaign_goes_on_after', 'tests/remote'),
    *('tests/provenance/test_reproduce', 'tests/provenance/test_old_archive', 'tests/cli/test_alloys'),
    *('tests/cli/test_process', 'tests/cli/test_density', 'tests/calculations/test_density', 'tests/workflows'),
)
"""Tests that come first, the longest of all at the front: none of them is left alone at the end of a parallel run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--plain', action='store_true', help='run no program by a fork: slow')


def pytest_configure(config: pytest.Config) -> None:
    # AiiDA's own storage layer says this whenever a node is garbage collected before it is stored.
    config.addinivalue_line('filterwarnings', 'ignore:Object of type <Db')
    if not config.option.plain:
        spare_storage()
    several = bool(getattr(config.option, 'numprocesses', None))  # otherwise it is told by the number of tests
    if several and not hasattr(config, 'workerinput') and not config.option.plain:
        forked.start()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    alone = not hasattr(config, 'workerinput')
    if (
        alone
        and not config.option.plain
        and (len(items) > 100 or any('test_blocks_run' in item.name for item in items))
    ):
        forked.start()
    items.sort(key=lambda item: next((rank for rank, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what was imported stays: the collector need not look at it again and again


def pytest_unconfigure() -> None:
    forked.stop()
    shutil.rmtree(CONFIGURATION, ignore_errors=True)


@pytest.fixture(scope='session', autouse=True)
def aiida_profile(aiida_profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """The profile of AiiDA's fixtures, whose processes would ask after their children without a pause.

    It is emptied by bringing back its files, where AiiDA would drop all tables and make them again.
    """
    manager = get_manager()
    manager.create_runner = partial(manager.create_runner, poll_interval=POLL_S)
    aiida_profile.snapshots = Snapshots(aiida_profile, tmp_path_factory.mktemp('snapshots'))
    aiida_profile.snapshots.take(EMPTY)
    aiida_profile.reset_storage = partial(aiida_profile.snapshots.restore, EMPTY)
    return aiida_profile


@pytest.fixture(scope='session')
def snapshots(aiida_profile: Profile) -> Snapshots:
    """Contents of the profile that were kept."""
    return aiida_profile.snapshots


@pytest.fixture(scope='session')
def worker_command() -> Path:
    """The executable nanoml-worker of the interpreter that runs the tests."""
    path = Path(sys.executable).with_name('nanoml-worker')
    assert path.exists(), f'{path} is missing: install the package before testing it'
    return path


@pytest.fixture(scope='session')
def quick_worker_command(worker_command: Path) -> Path:
    """The same program, forked by a server that has imported TensorFlow and the rest, in a longer run of tests."""
    return forked.program('nanoml-worker') or worker_command


@pytest.fixture(scope='session')
def job_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the jobs of the test computer run."""
    return tmp_path_factory.mktemp('jobs')


@pytest.fixture
def code_factory(aiida_profile, job_root: Path) -> Callable[..., orm.InstalledCode]:
    """Make, or load, a code on the computer localhost."""

    def make(executable: Path, label: str, **kwargs: Any) -> orm.InstalledCode:
        try:
            return orm.load_code(f'{label}@localhost')
        except NotExistent:
            pass
        created, computer = orm.Computer.collection.get_or_create(
            label='localhost',
            hostname='localhost',
            workdir=str(job_root),
            transport_type='core.local',
            scheduler_type='core.direct',
        )
        if created:
            computer.store()
            computer.set_minimum_job_poll_interval(POLL_S)
            computer.set_default_mpiprocs_per_machine(1)
            computer.configure(safe_interval=0.0, use_login_shell=False)
        kwargs = {'default_calc_job_plugin': 'nanoml.label'} | kwargs
        return orm.InstalledCode(label=label, computer=computer, filepath_executable=str(executable), **kwargs).store()

    return make


@pytest.fixture
def code(code_factory: Callable[..., orm.InstalledCode], quick_worker_command: Path) -> orm.InstalledCode:
    """The code nanoml-worker@localhost."""
    return code_factory(quick_worker_command, 'nanoml-worker')


@pytest.fixture
def third_party_path(monkeypatch: pytest.MonkeyPatch) -> str:
    """Install the engine ``paced`` for this test: here, and in processes started from here."""
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    monkeypatch.setenv('PYTHONPATH', str(THIRD_PARTY), prepend=os.pathsep)
    return str(THIRD_PARTY)


@pytest.fixture
def paced_code(
    code_factory: Callable[..., orm.InstalledCode], quick_worker_command: Path, third_party_path: str
) -> orm.InstalledCode:
    """A worker on whose machine the engine ``paced`` is installed."""
    prepend = f'export PYTHONPATH={third_party_path}:$PYTHONPATH'
    return code_factory(quick_worker_command, 'paced-worker', prepend_text=prepend)


@pytest.fixture(scope='session')
def make_chains() -> Callable[..., StructureSet]:
    """Make chains of hydrogen atoms, 1 Å apart, for the engine ``paced``."""

    def make(*lengths: int) -> StructureSet:
        chains = [Structure(np.ones(n, dtype=int), np.outer(np.arange(n), [1.0, 0.0, 0.0])) for n in lengths]
        return StructureSet.from_structures(chains, names=np.array([f'chain {n}' for n in lengths]))

    return make


@pytest.fixture(scope='session')
def flakes() -> StructureSet:
    """Twelve flakes on the lattice of C24H12: some hundredths of a second each with xTB."""
    return generate_flakes(FlakeParameters(family='z', size=2, count=12, seed=7))


@pytest.fixture(scope='session')
def flake_labels(flakes: StructureSet) -> LabelSet:
    """Labels of the flakes, from GFN1-xTB."""
    engine_class = get_engine('xtb')
    engine = engine_class(engine_class.parameters('fast'))
    labels = [engine.evaluate(structure) for structure in flakes]
    return LabelSet(
        source=LabelSource('xtb', engine.version(), engine.method, 'fast', engine.settings.model_dump()),
        hashes=flakes.hashes,
        status=np.full(len(flakes), FINISHED),
        messages=np.full(len(flakes), ''),
        energies={name: np.array([getattr(label, name) for label in labels]) for name in ENERGIES},
        n_electrons=np.array([label.n_electrons for label in labels]),
        open_shell=np.array([label.open_shell for label in labels]),
        wall_s=np.full(len(flakes), 0.1),
    )


@pytest.fixture(scope='session')
def flake_descriptor() -> dict:
    """Identity of the descriptor behind the data set of the flakes."""
    return descriptor_identity(make_descriptor('quadruplets', classes=22, unknown='overflow'))


@pytest.fixture(scope='session')
def flake_dataset(flakes: StructureSet, flake_labels: LabelSet, flake_descriptor: dict) -> Dataset:
    """Quadruplets and gaps of the flakes, not split."""
    transformer = make_descriptor(flake_descriptor['name'], **flake_descriptor['params'])
    return Dataset(
        X=transformer.transform(flakes),
        y=flake_labels.energies['gap_ev'],
        hashes=flakes.hashes,
        names=flakes.names,
        families=flakes.families,
        split=np.full(len(flakes), UNASSIGNED, dtype='<U10'),
        feature_names=tuple(flake_descriptor['feature_names']),
    )


@pytest.fixture(scope='session')
def split_flakes(flake_dataset: Dataset) -> Dataset:
    """The data set of the flakes with a split: 8 rows to learn, 2 to validate, 2 to test."""
    return flake_dataset.with_split(split_rows(flake_dataset.hashes))


@pytest.fixture(scope='session')
def model_folder(
    tmp_path_factory: pytest.TempPathFactory, split_flakes: Dataset, flake_labels: LabelSet, flake_descriptor: dict
) -> Path:
    """A ridge model trained on the flakes, saved: read it, do not write into it."""
    folder = tmp_path_factory.mktemp('ridge') / 'model'
    X, y = split_flakes.part('train')
    card = {
        'kind': 'ridge',
        'feature_names': list(split_flakes.feature_names),
        'descriptor': flake_descriptor,
        'labels': flake_labels.source.to_dict(),
    }
    save_model(make_model('ridge').fit(X, y), folder, card, TrainingDomain().fit(X))
    return folder


SHIFT = 0.3
"""By how much the made-up cheap engine is too low, eV."""


@pytest.fixture(scope='session')
def cheap_labels(flake_labels: LabelSet) -> LabelSet:
    """Labels of the flakes as a cheap engine would give them: all gaps too low by the same amount."""
    source = LabelSource('cheap', '1.0', 'Cheap', 'fast')
    gaps = flake_labels.energies['gap_ev'] - SHIFT
    return LabelSet.from_arrays(source, flake_labels.to_arrays() | {'gap_ev': gaps})


@pytest.fixture(scope='session')
def corrected_flakes(split_flakes: Dataset, cheap_labels: LabelSet) -> Dataset:
    """The split data set of the flakes, with the cheap labels as baseline."""
    return replace(split_flakes, baseline=cheap_labels.energies['gap_ev'])


@pytest.fixture(scope='session')
def correction_folder(
    tmp_path_factory: pytest.TempPathFactory,
    corrected_flakes: Dataset,
    flake_labels: LabelSet,
    cheap_labels: LabelSet,
    flake_descriptor: dict,
) -> Path:
    """A ridge model that learnt the correction to the cheap labels, saved: read it, do not write into it."""
    folder = tmp_path_factory.mktemp('correction') / 'model'
    X, correction = corrected_flakes.part('train')
    card = {
        'kind': 'ridge',
        'feature_names': list(corrected_flakes.input_names),
        'descriptor': flake_descriptor,
        'labels': flake_labels.source.to_dict(),
        'baseline': cheap_labels.source.to_dict(),
    }
    save_model(make_model('ridge').fit(X, correction), folder, card, TrainingDomain().fit(X))
    return folder


METALS = {13: -30.0, 26: -60.0, 28: -90.0}
"""Made-up energies of isolated atoms of Al, Fe and Ni, eV."""


@pytest.fixture(scope='session')
def alloy_cells() -> StructureSet:
    """Twelve alloys of two atoms in two phases at three lattice constants, as another package might make them."""
    parts, names, phases = [], [], []
    elements = list(METALS)
    for alloy in range(12):
        numbers = np.array([elements[alloy % 3], elements[alloy // 3 % 3]])
        for phase in ('fcc', 'bcc'):
            height = 1.0 if phase == 'bcc' else 2**0.5
            for edge in (2.7, 2.8, 2.9):
                cell = (edge + 0.01 * alloy) * np.diag([1.0, 1.0, height])
                parts.append(Structure(numbers, np.array([np.zeros(3), cell.sum(axis=0) / 2]), cell, np.ones(3, bool)))
                names.append(f'alloy-{alloy:04d}')
                phases.append(phase)
    return StructureSet.from_structures(parts, np.array(names), np.array(phases))


def metal_labels(structures: StructureSet, energy_ev: np.ndarray, **more: Any) -> LabelSet:
    """Labels of an engine that knows no levels."""
    n = len(structures)
    return LabelSet(
        source=LabelSource('toy', '1.0', 'Toy', 'fast'),
        hashes=structures.hashes,
        status=np.full(n, FINISHED, dtype='<U20'),
        messages=np.full(n, ''),
        energies={'energy_ev': energy_ev} | {name: np.full(n, np.nan) for name in LEVELS},
        n_electrons=np.zeros(n, dtype=np.int64),
        open_shell=np.zeros(n, dtype=bool),
        wall_s=np.full(n, 0.1),
        **more,
    )


@pytest.fixture(scope='session')
def alloy_labels(alloy_cells: StructureSet) -> LabelSet:
    """Labels of the alloys, by a smooth law: cohesive energy 4 - (V/V0 - 1)² eV per atom, and pressures to match."""
    strain = np.linalg.det(alloy_cells.cells) / 24.0 - 1
    atoms = np.array([METALS[number] for number in alloy_cells.numbers.tolist()]).reshape(-1, 2).sum(axis=1)
    stress = (0.5 * strain)[:, None, None] * np.eye(3)
    return metal_labels(
        alloy_cells,
        atoms - 2 * (4.0 - strain**2),
        vectors={'stress_ev_per_ang3': Ragged.from_rows(list(stress))},
        numbers={'magnetic_moment_bohr': 2 * np.tanh(strain)},
    )


@pytest.fixture(scope='session')
def atom_labels() -> LabelSet:
    """Labels of the isolated atoms of the alloys."""
    alone = [Structure(np.array([number]), np.zeros((1, 3))) for number in METALS]
    return metal_labels(StructureSet.from_structures(alone), np.array(list(METALS.values())))


def gaussian_density(structure: Structure, points: int = 12) -> Density:
    """Made-up density of a structure in a box: atoms as Gaussian clouds, which bonding makes a little narrower."""
    grid = np.stack(np.meshgrid(*[np.arange(points) / points] * 3, indexing='ij'), axis=-1)[..., None, :]
    offsets = grid - structure.positions @ np.linalg.inv(structure.cell)
    distances = np.linalg.norm((offsets - np.rint(offsets)) @ structure.cell, axis=-1)
    free, bonded = (
        np.exp(-((distances / width) ** 2)) @ structure.numbers / (np.pi**1.5 * width**3) for width in (1.0, 0.95)
    )
    return Density(structure, free, bonded - free)


@pytest.fixture(scope='session')
def boxed_flakes(flakes: StructureSet) -> StructureSet:
    """Three of the flakes, each in a box."""
    some = flakes.select(slice(3))
    return StructureSet.from_structures([place(flake, 6.0) for flake in some], some.names, some.families)


@pytest.fixture
def densities_node(aiida_profile, boxed_flakes: StructureSet, flake_labels: LabelSet) -> DensitySetData:
    return DensitySetData(boxed_flakes, map(gaussian_density, boxed_flakes), flake_labels.source).store()


@pytest.fixture
def structures_node(aiida_profile, flakes: StructureSet) -> StructureSetData:
    return StructureSetData(flakes).store()


@pytest.fixture
def labels_node(aiida_profile, flake_labels: LabelSet) -> LabelSetData:
    return LabelSetData(flake_labels).store()


@pytest.fixture
def dataset_node(aiida_profile, split_flakes: Dataset, flake_labels: LabelSet, flake_descriptor: dict) -> DatasetData:
    return DatasetData(split_flakes, flake_descriptor, flake_labels.source.to_dict()).store()


@pytest.fixture
def model_node(aiida_profile, model_folder: Path) -> ModelData:
    return ModelData(model_folder).store()


@pytest.fixture
def baseline_node(aiida_profile, cheap_labels: LabelSet) -> LabelSetData:
    return LabelSetData(cheap_labels).store()


@pytest.fixture
def corrected_node(
    aiida_profile,
    corrected_flakes: Dataset,
    flake_labels: LabelSet,
    cheap_labels: LabelSet,
    flake_descriptor: dict,
) -> DatasetData:
    source, baseline = flake_labels.source.to_dict(), cheap_labels.source.to_dict()
    return DatasetData(corrected_flakes, flake_descriptor, source, baseline=baseline).store()


@pytest.fixture
def correction_node(aiida_profile, correction_folder: Path) -> ModelData:
    return ModelData(correction_folder).store()
