"""Single runs of the programs of engines: real ones and recorded ones, each failure to its cure or its final code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.calculations.functions.siesta import node_of_structure
from aiida_nanoml.calculations.pseudopotentials import NODE_TYPES
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.engines.pseudopotentials import bundled
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.parsers.program import is_converging
from aiida_nanoml.provenance.campaign import campaign_status
from aiida_nanoml.provenance.lineage import trace
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.testing.recordings import Recording, recordings_of
from aiida_nanoml.worker.label import label_structures
from aiida_nanoml.workflows.program import ProgramWorkChain

LabelWorkChain = WorkflowFactory('nanoml.label')

STAND_IN = Path(__file__).resolve().parents[1] / 'stand_in' / 'recorded_program'
HYDROGEN = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]]))
SMALL: dict[str, dict[str, Any]] = {
    'quantumespresso': {'cutoff_ry': 25.0, 'vacuum_ang': 5.0},
    'abinit': {'cutoff_hartree': 12.5, 'vacuum_ang': 5.0},
    'cp2k': {'cutoff_ry': 100.0, 'vacuum_ang': 5.0},
}
RECORDED = {'quantumespresso': 'hcn', 'abinit': 'hydrogen-cyanide', 'cp2k': 'hydrogen'}
"""A recorded run of each engine that gave a label."""


def needs_program(engine: str) -> Any:
    """Skip a test where the program of an engine is missing, and say how to install it."""
    missing = get_engine(engine).missing()
    return pytest.param(engine, marks=pytest.mark.skipif(missing is not None, reason=str(missing)))


WITH_PROGRAM = [needs_program(engine) for engine in SMALL]


def recordings(engine: str) -> dict[str, Recording]:
    return {one.folder.name: one for one in recordings_of(get_engine(engine))}


def pseudos_of(engine: str, structure: Structure) -> dict[str, orm.SinglefileData]:
    formats = get_engine(engine).pseudopotential_formats
    if not formats:
        return {}
    files = bundled(formats[0])
    return {symbol: NODE_TYPES[formats[0]].get_or_create(files[symbol]) for symbol in set(structure.symbols)}


@pytest.fixture
def start(code_factory) -> Callable[..., Any]:
    """Make a builder for a structure, and the real program of an engine."""

    def make(engine: str, structure: Structure = HYDROGEN, overrides: dict[str, Any] | None = None, **kwargs: Any):
        program = shutil.which(get_engine(engine).read_runtime(None).executable) or '/missing'
        return ProgramWorkChain.get_builder_from_protocol(
            kwargs.pop('code', None) or code_factory(program, engine, default_calc_job_plugin='nanoml.program'),
            node_of_structure(structure),
            engine,
            pseudos=pseudos_of(engine, structure),
            protocol='fast',
            overrides=SMALL[engine] | (overrides or {}),
            **kwargs,
        )

    return make


@pytest.fixture
def stand_in(code_factory, tmp_path: Path) -> Callable[..., orm.InstalledCode]:
    """Make a code that replays recorded runs of an engine, one after the other, the last one again and again."""

    def make(engine: str, *names: str) -> orm.InstalledCode:
        folders = ':'.join(str(recordings(engine)[name].folder) for name in names)
        label = '-'.join(['recorded', engine, *names, tmp_path.name])
        count = tmp_path / label
        return code_factory(
            STAND_IN,
            label,
            default_calc_job_plugin='nanoml.program',
            prepend_text=f'export NANOML_RECORDINGS={folders} NANOML_RECORDINGS_COUNT={count}',
        )

    return make


@pytest.fixture
def replay(start, stand_in) -> Callable[..., orm.WorkChainNode]:
    """Run the workflow on recorded runs of an engine."""

    def run(engine: str, *names: str, **kwargs: Any) -> orm.WorkChainNode:
        recording = recordings(engine)[names[0]]
        overrides = recording.about['parameters']
        return run_get_node(start(engine, recording.structure, overrides, code=stand_in(engine, *names), **kwargs)).node

    return run


def label_of(node: orm.WorkChainNode) -> LabelSet:
    return node.outputs.labels.labels


def jobs(node: orm.WorkChainNode) -> list[orm.CalcJobNode]:
    return sorted(node.called, key=lambda called: called.pk)


def codes(node: orm.WorkChainNode) -> list[int]:
    return [job.exit_status for job in jobs(node)]


def in_a_batch(engine: str, tmp_path: Path) -> LabelSet:
    """Label hydrogen as a batch does."""
    structures = StructureSet.from_structures([HYDROGEN])
    return label_structures(structures, engine, 'fast', SMALL[engine], runtime={'folder': str(tmp_path)})


@pytest.mark.parametrize('engine', WITH_PROGRAM)
def test_a_single_run_gives_the_label_of_a_batch(engine: str, start, tmp_path: Path) -> None:
    expected = in_a_batch(engine, tmp_path)
    node = run_get_node(start(engine)).node
    assert (node.exit_status, codes(node)) == (0, [0])
    found = label_of(node)
    assert found.hashes.tolist() == expected.hashes.tolist()
    assert found.messages.tolist() == ['']
    source, wanted = found.source.to_dict(), expected.source.to_dict()
    used = source.pop('pseudopotentials')
    assert used == {symbol: md5 for symbol, md5 in wanted.pop('pseudopotentials').items() if symbol == 'H'}
    assert source == wanted
    assert found.source.joined(expected.source)
    for name, column in expected.energies.items():
        np.testing.assert_allclose(found.energies[name], column, atol=1e-5)
    for name, rows in expected.vectors.items():
        np.testing.assert_allclose(found.vectors[name][0], rows[0], atol=1e-4)
    if used:
        assert jobs(node)[0].inputs.pseudos.H.md5 == used['H']


@pytest.mark.parametrize('engine', WITH_PROGRAM)
def test_too_few_iterations_are_doubled_until_they_suffice(engine: str, start, tmp_path: Path) -> None:
    few, statuses = {'quantumespresso': (3, [450, 0]), 'abinit': (4, [450, 450, 0]), 'cp2k': (5, [450, 0])}[engine]
    expected = in_a_batch(engine, tmp_path)
    node = run_get_node(start(engine, overrides={'max_scf_iterations': few})).node
    assert (node.exit_status, codes(node)) == (0, statuses)
    found = label_of(node)
    taken = few * 2 ** (len(statuses) - 1)
    assert found.messages.tolist() == [f'recovered: iterations {taken}, going on from the failed run']
    assert found.source.parameters['max_scf_iterations'] == few
    assert jobs(node)[-1].inputs.changed_parameters.get_dict() == {'max_scf_iterations': taken}
    for name, column in expected.energies.items():
        # A cycle that ends elsewhere within its tolerance; the empty level of this box is the loosest.
        np.testing.assert_allclose(found.energies[name], column, atol=1e-4 if name == 'energy_ev' else 3e-3)


@pytest.mark.parametrize('engine', SMALL)
def test_a_recorded_run_gives_its_label(engine: str, replay) -> None:
    recording = recordings(engine)[RECORDED[engine]]
    node = replay(engine, RECORDED[engine])
    assert (node.exit_status, codes(node)) == (0, [0])
    found = label_of(node)
    for name in ('energy_ev', 'homo_ev', 'lumo_ev', 'gap_ev'):
        assert found.energies[name][0] == pytest.approx(recording.about['label'][name], abs=1e-6)
    assert found.source.version == recording.about['version']
    assert found.source.parameters == recording.about['parameters']
    assert found.source.pseudopotentials.keys() == (set(recording.structure.symbols) if engine != 'cp2k' else set())


CURES = [
    pytest.param(
        'abinit',
        ('not-converged', 'hydrogen-cyanide'),
        [450, 0],
        'recovered: iterations 6, going on from the failed run',
        id='more iterations',
    ),
    pytest.param(
        'quantumespresso',
        ('out-of-time', 'hcn'),
        [440, 0],
        'recovered: wall time 7200 s, going on from the failed run',
        id='time and the density',
    ),
    pytest.param(
        'cp2k',
        ('out-of-time', 'hydrogen'),
        [440, 0],
        'recovered: wall time 7200 s, going on from the failed run',
        id='time and the orbitals',
    ),
    pytest.param(
        'abinit',
        ('killed', 'hydrogen-cyanide'),
        [310, 0],
        'recovered: run again after an output that ended in the middle',
        id='again',
    ),
]


BEGINS = {
    'quantumespresso': ('aiida.in', "startingpot = 'file'"),
    'cp2k': ('aiida.inp', 'SCF_GUESS RESTART'),
    'abinit': ('aiida.abi', 'irdden 1'),
}
"""What the input of a run says that begins with what another one left."""

LIMITS = {'quantumespresso': 'max_seconds = {}\n', 'cp2k': 'WALLTIME {}\n'}
"""How programs are told when to stop themselves."""


@pytest.mark.parametrize(('engine', 'names', 'statuses', 'message'), CURES)
def test_a_failure_is_cured_and_the_label_says_how(
    engine: str, names: tuple[str, ...], statuses: list[int], message: str, replay
) -> None:
    node = replay(engine, *names)
    assert (node.exit_status, codes(node)) == (0, statuses)
    found = label_of(node)
    assert found.messages.tolist() == [message]
    assert found.finished.all()
    assert found.source.parameters == recordings(engine)[names[0]].about['parameters'], 'the requested ones'
    if 'going on' in message:
        first, second = jobs(node)
        assert second.inputs.parent_folder.uuid == first.outputs.remote_folder.uuid
        name, begin = BEGINS[engine]
        texts = [job.base.repository.get_object_content(name) for job in (first, second)]
        assert [begin in text for text in texts] == [False, True]
        if engine in LIMITS:
            hours = [job.get_option('max_wallclock_seconds') for job in (first, second)]
            limits = [LIMITS[engine].format(round(0.9 * seconds)) for seconds in hours]
            assert [limit in text for limit, text in zip(limits, texts, strict=True)] == [True, True]


HOPELESS = [
    pytest.param(
        'cp2k',
        'oscillates',
        [460, 460],
        'ERROR_SCF_NOT_CONVERGED',
        'within the allowed iterations (25) (after: mixing weight 0.1, iterations 50)',
        id='oscillates',
    ),
    pytest.param(
        'abinit',
        'not-converged',
        [450, 450, 450, 450],
        'ERROR_SCF_NOT_CONVERGED',
        'the self-consistency did not converge (3 iterations) (after: iterations 12, diemix 0.2)',
        id='never converges',
    ),
    pytest.param('abinit', 'killed', [310, 310], 'ERROR_MACHINE_FAILED', 'was killed', id='killed twice'),
    pytest.param('abinit', 'out-of-memory', [410], 'ERROR_MEMORY_EXHAUSTED', 'memory', id='memory'),
    pytest.param('abinit', 'wrong-input', [500], 'ERROR_RUN_REFUSED', 'ABINIT', id='refused'),
    pytest.param('abinit', 'missing-pseudopotential', [510], 'ERROR_RUN_REFUSED', 'N.psp8', id='pseudopotential'),
]


@pytest.mark.parametrize(('engine', 'name', 'statuses', 'code', 'reason'), HOPELESS)
def test_a_failure_without_a_cure_ends_with_its_reason(
    engine: str, name: str, statuses: list[int], code: str, reason: str, replay
) -> None:
    node = replay(engine, name)
    assert codes(node) == statuses
    assert node.exit_status == ProgramWorkChain.exit_codes[code].status
    assert reason in node.exit_message
    found = label_of(node)
    assert not found.finished.any()
    assert reason in found.messages[0]


def test_a_full_disk_ends_the_runs_and_a_run_without_version_has_no_label(replay) -> None:
    node = replay('abinit', 'disk-full-at-start')
    assert codes(node) == [420]
    assert node.exit_status == ProgramWorkChain.exit_codes.ERROR_DISK_FULL.status
    assert 'disk' in node.exit_message
    assert 'labels' not in node.outputs


@pytest.mark.parametrize('engine', [needs_program('cp2k')])
def test_a_cycle_that_oscillates_is_made_steadier(engine: str, start) -> None:
    structure = recordings(engine)['oscillates'].structure
    cycle = {'mixing_weight': 1.0, 'max_scf_iterations': 25, 'poisson_solver': 'PERIODIC'}
    node = run_get_node(start(engine, structure, cycle)).node
    assert (node.exit_status, codes(node)) == (0, [460, 0])
    assert label_of(node).messages.tolist() == ['recovered: mixing weight 0.1, iterations 50']


def test_more_memory_is_asked_for_up_to_a_limit(replay) -> None:
    options = {'max_memory_kb': 1_000_000, 'max_wallclock_seconds': 600}
    node = replay('abinit', 'out-of-memory', 'out-of-memory', 'hydrogen-cyanide', options=options)
    assert (node.exit_status, codes(node)) == (0, [410, 410, 0])
    assert [job.get_option('max_memory_kb') for job in jobs(node)] == [1_000_000, 2_000_000, 4_000_000]
    assert label_of(node).messages.tolist() == ['recovered: memory 4000000 kB']


def test_a_row_that_fails_in_a_batch_is_recovered_in_a_single_run(code, stand_in) -> None:
    good, bad = (recordings('abinit')[name] for name in ('hydrogen-cyanide', 'not-converged'))
    structures = StructureSetData(StructureSet.from_structures([bad.structure]))
    inputs = {
        'code': code,
        'engine_code': stand_in('abinit', 'not-converged', 'not-converged', 'hydrogen-cyanide'),
        'pseudos': pseudos_of('abinit', bad.structure),
        'structures': structures,
        'engine': 'abinit',
        'protocol': 'fast',
        'parameters': bad.about['parameters'],
    }
    outputs, node = run_get_node(LabelWorkChain, **inputs)
    assert node.is_finished_ok, node.exit_message
    labels = outputs['labels'].labels
    assert labels.messages.tolist() == ['recovered: iterations 6, going on from the failed run']
    assert labels.energies['gap_ev'][0] == pytest.approx(good.about['label']['gap_ev'], abs=1e-6)
    assert labels.source.parameters == bad.about['parameters']
    status = campaign_status(node)
    assert (status.n_done, status.n_recovered, status.failures) == (1, 1, ())
    [origin] = trace(outputs['labels']).labelling
    assert {job.type for job in origin.jobs} == {'LabelCalculation', 'ProgramCalculation'}
    assert set(origin.pseudopotentials) == {'H', 'C', 'N'}


def test_what_cannot_be_recovered_leaves_the_other_rows(stand_in) -> None:
    good = recordings('abinit')['hydrogen-cyanide']
    moved = Structure(good.structure.numbers, good.structure.positions + np.array([[0.02, 0, 0], [0, 0, 0], [0, 0, 0]]))
    structures = StructureSetData(StructureSet.from_structures([good.structure, moved]))
    outputs, node = run_get_node(
        LabelWorkChain,
        engine_code=stand_in('abinit', 'hydrogen-cyanide', 'not-converged'),
        pseudos=pseudos_of('abinit', moved),
        structures=structures,
        engine='abinit',
        protocol='fast',
        parameters=good.about['parameters'],
        mode='single',
        max_concurrent=1,
    )
    assert node.is_finished_ok, node.exit_message
    labels = outputs['labels'].labels
    assert labels.status.tolist() == ['ok', 'not_converged']
    assert labels.messages[1] == (
        'the self-consistency did not converge (3 iterations) (after: iterations 400, diemix 0.2)'
    )


def test_a_single_run_that_is_refused_ends_no_campaign_with_an_exception(stand_in) -> None:
    good = recordings('abinit')['hydrogen-cyanide']
    node = run_get_node(
        LabelWorkChain,
        engine_code=stand_in('abinit', 'hydrogen-cyanide'),
        pseudos=pseudos_of('abinit', good.structure),
        structures=StructureSetData(StructureSet.from_structures([good.structure])),
        engine='abinit',
        protocol='fast',
        mode='single',
        single_run='nanoml.siesta',
    ).node
    assert node.exit_status == LabelWorkChain.exit_codes.ERROR_BATCHES_FAILED.status
    assert node.exit_message == (
        'Batches failed and gave no labels: the single run of structure 0 was refused: the workflow nanoml.siesta runs '
        'the engine siesta, not abinit'
    )


def test_refusals_come_before_anything_is_stored(start, stand_in) -> None:
    code = stand_in('abinit', 'hydrogen-cyanide')
    builder = start('abinit', code=code)
    builder.pseudos = {}
    with pytest.raises(ValueError, match='no pseudopotential for H'):
        run_get_node(builder)
    builder = start('abinit', code=code)
    builder.engine = 'xtb'
    with pytest.raises(ValueError, match='the engine xtb runs no program'):
        run_get_node(builder)
    near = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.1]]))
    with pytest.raises(ValueError, match='atoms_too_close'):
        run_get_node(start('abinit', near, code=code))


@pytest.mark.parametrize(
    ('residuals', 'converging'),
    [
        ([], False),
        ([1.0], False),
        ([1.0, 0.4], True),
        ([1.0, 0.6], False),
        ([20.1, 4.9, 1.7, 2.1], True),
        ([1.0, 0.1, 0.5, 0.2, 0.4, 0.11], False),
    ],
)
def test_a_cycle_converges_if_its_second_half_is_nearer(residuals: list[float], converging: bool) -> None:
    assert is_converging(residuals) is converging
