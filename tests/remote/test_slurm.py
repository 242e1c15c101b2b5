"""Labelling through Slurm over SSH: the same labels, whatever the scheduler does to the jobs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.calculations.label import LabelCalculation
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import ENERGIES, FINISHED, LabelSet
from aiida_nanoml.structures import StructureSet
from tests.remote.cluster import PARTITION, Cluster
from tests.stand_in.fixtures import recorded_runs

LabelWorkChain = WorkflowFactory('nanoml.label')

OPTIONS = {
    'max_wallclock_seconds': 600,
    'queue_name': PARTITION,
    'import_sys_environment': False,  # what the user's login shell sets is no matter of the tests
}
ONE_CORE = {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
TWO_CORES = ONE_CORE | {'num_cores_per_mpiproc': 2}


@pytest.fixture
def worker(cluster_code_factory, worker_command: Path, third_party_path: str) -> orm.InstalledCode:
    """The worker on the cluster; the engine ``paced`` is installed there."""
    prepend = f'export PYTHONPATH={third_party_path}:$PYTHONPATH'
    return cluster_code_factory(worker_command, 'worker', prepend_text=prepend, default_calc_job_plugin='nanoml.label')


@pytest.fixture
def label(worker: orm.InstalledCode) -> Callable[..., tuple[LabelSet, orm.WorkChainNode]]:
    def run(structures: StructureSet, resources: dict = ONE_CORE, options: dict | None = None, **inputs: Any) -> Any:
        inputs['options'] = {'resources': resources} | OPTIONS | (options or {})
        outputs, node = run_get_node(LabelWorkChain, code=worker, structures=StructureSetData(structures), **inputs)
        assert node.is_finished_ok, node.exit_message
        return outputs['labels'].labels, node

    return run


def jobs_of(node: orm.WorkChainNode) -> list[orm.CalcJobNode]:
    """Jobs in the order of submission."""
    jobs = [job for job in node.called_descendants if isinstance(job, orm.CalcJobNode)]
    return sorted(jobs, key=lambda job: job.pk)


def test_labels_from_slurm_equal_local_ones(
    label, cluster: Cluster, flakes: StructureSet, flake_labels: LabelSet
) -> None:
    """Three batches of two flakes; the machine has room for one, the others wait in the queue."""
    chosen = slice(6)
    labels, node = label(
        flakes.select(chosen), TWO_CORES, engine='xtb', protocol='fast', batch_size=2, max_concurrent=3
    )
    assert labels.hashes.tolist() == flake_labels.hashes[chosen].tolist()
    assert set(labels.status) == {FINISHED}
    for name in ENERGIES:
        np.testing.assert_allclose(labels.energies[name], flake_labels.energies[name][chosen], rtol=0, atol=1e-9)
    assert labels.source == flake_labels.source

    jobs = jobs_of(node)
    assert {job.computer.transport_type for job in jobs} == {'core.ssh_async'}
    records = [cluster.history()[job.get_job_id()] for job in jobs]
    assert [record['JobState'] for record in records] == ['COMPLETED'] * 3
    assert [record['Partition'] for record in records] == [PARTITION] * 3
    assert [record['ProcCnt'] for record in records] == ['2'] * 3
    spans = sorted((moment(record['StartTime']), moment(record['EndTime'])) for record in records)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert min(moment(record['SubmitTime']) for record in records) < spans[1][0], 'the others waited'


def test_a_job_shares_its_cores_among_runs_of_siesta(
    label, cluster: Cluster, cluster_code_factory, siesta_stand_in: Path, siesta_pseudos: dict, tmp_path: Path
) -> None:
    """Two recorded flakes, each started with ``srun`` in the allocation of one job, wait for each other."""
    meeting = tmp_path / 'meeting'
    meeting.mkdir()
    program = tmp_path / 'siesta'
    program.write_text(
        f"""#!/bin/sh
given=$(mktemp)
cat > $given
if [ -s $given ]; then
    touch {meeting}/$SLURM_STEP_ID
    until [ $(ls {meeting} | wc -l) -eq 2 ]; do sleep 0.1; done
fi
exec {siesta_stand_in} < $given
"""
    )
    program.chmod(0o755)
    runs = [recorded_runs('flake')[name] for name in ('h-0000', 'h-0001')]
    structures = StructureSet.from_structures([run.structure for run in runs])
    labels, node = label(
        structures,
        TWO_CORES,
        {'max_memory_kb': 1_000_000},
        engine='siesta',
        protocol='paper',
        engine_code=cluster_code_factory(program, 'siesta', default_calc_job_plugin='nanoml.siesta', with_mpi=True),
        pseudos={element: siesta_pseudos[element] for element in structures.elements},
        time_limit_s=60.0,
        max_rounds=1,
    )
    (job,) = jobs_of(node)
    assert set(labels.status) == {FINISHED}
    np.testing.assert_allclose(labels.energies['gap_ev'], [run.about['gap_ev'] for run in runs], rtol=0, atol=1e-4)
    assert cluster.history()[job.get_job_id()]['ProcCnt'] == '2'


@pytest.mark.parametrize(
    ('interruption', 'state'),
    [
        # Slurm counts its limits in minutes; moving the end of the job spares the test one of them.
        ('scontrol update JobId=$SLURM_JOB_ID EndTime=$(date -d "1 second" +%FT%T)', 'TIMEOUT'),
        ('scancel $SLURM_JOB_ID', 'CANCELLED'),
    ],
    ids=['time limit', 'scancel'],
)
def test_what_a_stopped_job_owes_goes_on_in_another(
    label, cluster: Cluster, make_chains, tmp_path: Path, interruption: str, state: str
) -> None:
    """The third structure hangs in the first job, which Slurm then stops; the next job finds it cured."""
    hung = tmp_path / 'hung'
    watch = f'[ -e {hung} ] || (until [ -e {hung} ]; do sleep 0.1; done; sleep 1; {interruption}) &'
    parameters = {'hang_once': [4], 'hung_marker': str(hung)}
    chains = make_chains(2, 3, 4, 5)
    labels, node = label(
        chains, options={'prepend_text': watch}, engine='paced', protocol='quick', parameters=parameters
    )
    first, second = jobs_of(node)
    assert cluster.history()[first.get_job_id()]['JobState'] == state
    assert cluster.history()[second.get_job_id()]['JobState'] == 'COMPLETED'
    assert first.exit_status == LabelCalculation.exit_codes.ERROR_INTERRUPTED.status, first.exit_message
    kept = first.outputs.labels.labels
    assert kept.finished.tolist() == [True, True, False, False]
    assert labels.hashes.tolist() == chains.hashes.tolist()
    assert labels.finished.all()
    assert labels.wall_s[:2].tolist() == kept.wall_s[:2].tolist(), 'what was finished is not computed again'


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
