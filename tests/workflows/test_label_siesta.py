"""SIESTA through the label workflow: batches, single runs, and failed rows that are recovered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.calculations.pseudopotentials import install_family
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.errors import EngineError
from aiida_nanoml.provenance.campaign import campaign_status
from aiida_nanoml.provenance.lineage import trace
from aiida_nanoml.structures import Structure, StructureSet
from tests.stand_in.fixtures import RecordedRun, recorded_runs

LabelWorkChain = WorkflowFactory('nanoml.label')

FLAKES = ('h-0000', 's-0000', 'h-0001')
OSCILLATING = 'scf-oscillates'


def isolated(*runs: RecordedRun) -> StructureSet:
    structures = [Structure(run.structure.numbers, run.structure.positions) for run in runs]
    return StructureSet.from_structures(structures, names=np.array([run.name for run in runs]))


@pytest.fixture
def label(code: orm.InstalledCode, siesta_code: orm.InstalledCode, siesta_pseudos) -> Callable[..., Any]:
    def run(structures: StructureSet, *, mode: str = 'batch', **options: Any) -> tuple[dict, orm.WorkChainNode]:
        node = StructureSetData(structures)
        elements = node.base.attributes.get('elements')
        return run_get_node(
            LabelWorkChain,
            code=code,
            engine_code=options.pop('engine_code', siesta_code),
            pseudos={element: siesta_pseudos[element] for element in elements},
            structures=node,
            engine='siesta',
            protocol=options.pop('protocol', 'paper'),
            mode=mode,
            **options,
        )

    return run


def test_batches_and_single_runs_give_the_recorded_labels_row_by_row(label) -> None:
    recorded = recorded_runs('flake')
    runs = [recorded[name] for name in FLAKES]
    flakes = isolated(*runs)
    batch, node = label(flakes, batch_size=2)
    assert node.is_finished_ok, node.exit_message
    single, alone = label(flakes, mode='single', max_concurrent=2)
    assert alone.is_finished_ok, alone.exit_message
    assert {called.process_label for called in node.called} == {'LabelCalculation', 'merge_labels'}
    assert {called.process_label for called in alone.called} == {'SiestaWorkChain', 'place_structures', 'merge_labels'}
    expected = [run.about['gap_ev'] for run in runs]
    for outputs in (batch, single):
        labels = outputs['labels'].labels
        order = [labels.hashes.tolist().index(digest) for digest in flakes.hashes]
        np.testing.assert_allclose(labels.energies['gap_ev'][order], expected, atol=1e-6)
    first, second = batch['labels'].labels, single['labels'].labels
    assert first.source == second.source
    order = np.argsort(first.hashes), np.argsort(second.hashes)
    for name, column in first.to_arrays().items():
        if name != 'wall_s' and column.shape == first.hashes.shape:
            np.testing.assert_array_equal(column[order[0]], second.to_arrays()[name][order[1]], err_msg=name)


def test_alloys_and_their_atoms_have_densities_of_states_in_a_batch(label) -> None:
    runs = [recorded_runs()[name] for name in ('hea-01-fcc-1', 'hea-01-bcc-3')]
    atom = isolated(recorded_runs('atom')['atom-Ni'])[0]
    structures = StructureSet.from_structures([*(run.structure for run in runs), atom])
    outputs, node = label(structures, protocol='paper_alloys')
    assert node.is_finished_ok, node.exit_message
    labels = outputs['labels'].labels
    assert labels.source.protocol == 'paper_alloys'
    labels = labels.select(np.array([labels.hashes.tolist().index(digest) for digest in structures.hashes]))
    assert np.diff(labels.vectors['level_weights'].offsets).tolist() == [16, 10, 1]
    np.testing.assert_allclose(labels.dos_fermi(), [7.5, 9.8, 20.8], rtol=0.02)


def test_a_row_that_fails_in_a_batch_is_recovered_in_a_single_run(label) -> None:
    runs = [recorded_runs('flake')['h-0007'], recorded_runs('failure')[OSCILLATING]]
    outputs, node = label(isolated(*runs), batch_size=2)
    assert node.is_finished_ok, node.exit_message
    [single] = [called for called in node.called if called.process_label == 'SiestaWorkChain']
    assert len([called for called in single.called if called.exit_status]) >= 1
    labels = outputs['labels'].labels
    assert labels.finished.all()
    [recovered] = labels.messages[labels.messages != '']
    assert 'mixing weight 0.05' in recovered
    status = campaign_status(node)
    assert (status.n_done, status.n_recovered, status.failures) == (2, 1, ())
    [origin] = trace(outputs['labels']).labelling
    assert {job.type for job in origin.jobs} == {'LabelCalculation', 'SiestaCalculation'}
    assert set(origin.pseudopotentials) == {'H', 'B', 'C', 'N'}
    assert 'siesta@localhost' in trace(outputs['labels']).render()

    # 3,000 flakes in batches of 50, one in a hundred of them recovered like this one, cost at most 1,000 nodes.
    before = orm.QueryBuilder().append(orm.Node).count()
    _, again = label(isolated(runs[1]), batch_size=1)
    n_nodes = orm.QueryBuilder().append(orm.Node).count() - before
    own = {node.pk for called in single.called_descendants for node in called.base.links.get_outgoing().all_nodes()}
    recovery = len(own | {called.pk for called in single.called_descendants}) + 3  # structure, workflow, changed input
    around = n_nodes - recovery
    assert again.is_finished_ok
    assert around <= 30
    assert around + 5 * 3000 // 50 + recovery * 3000 // 100 <= 1000


def test_the_program_alone_names_the_computer(
    code, siesta_code, siesta_pseudos, aiida_profile, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker beside it runs batches; where there is none, each structure has a run of its own."""
    install_family()
    structures = StructureSetData(isolated(recorded_runs('flake')['h-0000'])).store()
    given = {'engine': 'siesta', 'protocol': 'paper'}
    builder = LabelWorkChain.get_builder_from_protocol(siesta_code, structures, **given)
    assert (builder.code.uuid, builder.engine_code.uuid) == (code.uuid, siesta_code.uuid)
    assert builder.mode.value == 'batch'
    assert sorted(builder.pseudos) == ['B', 'C', 'H', 'N']

    elsewhere = orm.Computer(
        label='elsewhere',
        hostname='localhost',
        workdir=str(tmp_path),
        transport_type='core.local',
        scheduler_type='core.direct',
    ).store()
    program = orm.InstalledCode(label='siesta', computer=elsewhere, filepath_executable='/opt/siesta').store()
    builder = LabelWorkChain.get_builder_from_protocol(program, structures, **given)
    assert builder.engine_code.uuid == program.uuid
    assert builder.code is None
    assert builder.mode.value == 'single'
    monkeypatch.setattr(get_engine('cp2k'), 'single_run', '')
    with pytest.raises(EngineError, match='cp2k is run by nanoml-worker, and no code of that name is on elsewhere'):
        LabelWorkChain.get_builder_from_protocol(program, structures, engine='cp2k', protocol='fast')

    worker = LabelWorkChain.get_builder_from_protocol(code, structures, **given)
    with pytest.raises(ValueError, match='name its code, such as siesta@cluster'):
        run_get_node(worker)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'engine_code': None}, 'runs a program'),
        ({'pseudos': {}}, 'no pseudopotential for B, C, H, N'),
        ({'program_processes': 0}, 'at least 1'),
    ],
)
def test_a_program_that_cannot_work_is_refused(
    code, siesta_code, siesta_pseudos, change: dict[str, Any], message: str
) -> None:
    inputs = {
        'code': code,
        'engine_code': siesta_code,
        'pseudos': {element: siesta_pseudos[element] for element in 'HBCN'},
        'structures': StructureSetData(isolated(recorded_runs('flake')['h-0000'])),
        'engine': 'siesta',
        'protocol': 'paper',
    } | change
    with pytest.raises(ValueError, match=message):
        run_get_node(LabelWorkChain, **{name: value for name, value in inputs.items() if value is not None})


def test_a_pseudopotential_of_another_element_is_refused(code, siesta_code, siesta_pseudos) -> None:
    pseudos = {element: siesta_pseudos[element] for element in 'HBCN'} | {'N': siesta_pseudos['C']}
    with pytest.raises(ValueError, match='of N is one of C'):
        run_get_node(
            LabelWorkChain,
            code=code,
            engine_code=siesta_code,
            pseudos=pseudos,
            structures=StructureSetData(isolated(recorded_runs('flake')['h-0000'])),
            engine='siesta',
            protocol='paper',
        )
