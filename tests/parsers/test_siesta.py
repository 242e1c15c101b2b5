"""Every recorded end of SIESTA has its exit status and its label; none raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.plugins import ParserFactory
from aiida.plugins.entry_point import format_entry_point_string

from aiida_nanoml.calculations.functions.siesta import node_of_structure
from aiida_nanoml.calculations.siesta import SiestaCalculation
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.structures import StructureSet
from tests.stand_in.fixtures import RecordedRun, recorded_runs

RUNS = recorded_runs()


@dataclass(frozen=True)
class Parsed:
    """What the parser made of a run; ``exit_code`` is the name, None if there is none."""

    outputs: dict[str, Any]
    exit_code: str | None
    message: str | None

    @property
    def labels(self) -> LabelSet:
        """The label of the run."""
        labels: LabelSet = self.outputs['labels'].labels
        return labels


@pytest.fixture
def parse(siesta_code: orm.InstalledCode, siesta_pseudos: dict, tmp_path: Path) -> Callable[..., Parsed]:
    """Parse what a recorded run left."""

    def run(
        recorded: RecordedRun,
        *,
        change: Callable[[Path], None] = lambda folder: None,
        scheduler_status: int | None = None,
        options: dict[str, Any] | None = None,
        **inputs: orm.Data,
    ) -> Parsed:
        folder = recorded.unpack(tmp_path / 'left')
        change(folder)
        structure = node_of_structure(recorded.structure)
        name = format_entry_point_string('aiida.calculations', 'nanoml.siesta')
        job = orm.CalcJobNode(computer=siesta_code.computer, process_type=name)
        defaults = {'input_filename': 'aiida.fdf', 'output_filename': 'aiida.out', 'prefix': 'aiida'}
        for key, value in (defaults | {'scheduler_stderr': '_scheduler-stderr.txt'} | (options or {})).items():
            job.set_option(key, value)
        pseudos = {f'pseudos__{kind.name}': siesta_pseudos[kind.symbol] for kind in structure.kinds}
        for label, node in ({'structure': structure} | pseudos | inputs).items():
            job.base.links.add_incoming(node.store(), LinkType.INPUT_CALC, label)
        job.base.repository.put_object_from_file(str(folder / 'aiida.fdf'), 'aiida.fdf')
        job.store()
        if scheduler_status is not None:
            job.set_exit_status(scheduler_status)
        retrieved = orm.FolderData()
        for path in folder.iterdir():
            if path.name not in ('aiida.fdf', 'structure.extxyz'):
                retrieved.base.repository.put_object_from_file(str(path), path.name)
        retrieved.base.links.add_incoming(job, LinkType.CREATE, 'retrieved')
        retrieved.store()
        outputs, node = ParserFactory('nanoml.siesta').parse_from_node(job, store_provenance=False)
        assert node.is_finished, node.exception
        names = {code.status: name for name, code in SiestaCalculation.exit_codes.items()}
        return Parsed(outputs, names[node.exit_status] if node.exit_status else None, node.exit_message)

    return run


FAILURES = {  # exit code, status of the label
    'scf-not-converged': ('SCF_NOT_CONV', 'not_converged'),
    'iron-not-converged': ('SCF_NOT_CONV', 'not_converged'),
    'scf-oscillates': ('SCF_NOT_CONV', 'not_converged'),
    'walltime-soft': ('ERROR_WALL_TIME', 'wall_time'),
    'killed-by-walltime': ('ERROR_OUTPUT_TRUNCATED', 'truncated'),
    'killed-in-scf': ('ERROR_OUTPUT_TRUNCATED', 'truncated'),
    'out-of-memory': ('ERROR_OUT_OF_MEMORY', 'out_of_memory'),
    'disk-full': ('ERROR_DISK_FULL', 'disk_full'),
    'disk-full-early': ('ERROR_DISK_FULL', 'disk_full'),
    'file-too-large': ('ERROR_DISK_FULL', 'disk_full'),
    'missing-pseudopotential': ('ERROR_PSEUDOPOTENTIAL', 'missing_pseudopotential'),
    'split-norm-too-small': ('SPLIT_NORM', 'basis_error'),
    'polarization': ('BASIS_POLARIZ', 'basis_error'),
}


@pytest.mark.parametrize(('name', 'exit_code', 'status'), [(name, *end) for name, end in FAILURES.items()])
def test_a_recorded_failure_has_its_exit_status_and_a_failed_label(
    parse, name: str, exit_code: str, status: str
) -> None:
    found = parse(RUNS[name])
    assert found.exit_code == exit_code
    assert found.message
    labels = found.labels
    assert labels.status.tolist() == [status]
    assert len(labels.messages[0]) > 20
    assert labels.hashes.tolist() == StructureSet.from_structures([RUNS[name].structure]).hashes.tolist()


@pytest.mark.parametrize('name', ['h-0000', 's-0013', 'z-C24H12', 'scf-oscillates-recovered'])
def test_a_finished_run_is_read_as_aiida_siesta_does_and_labelled(parse, name: str) -> None:
    found = parse(RUNS[name])
    assert found.exit_code is None, found.message
    labels = found.labels
    assert labels.status.tolist() == ['ok']
    assert found.outputs['output_parameters']['FreeE'] == pytest.approx(labels.energies['energy_ev'][0], abs=1e-3)
    forces = found.outputs['forces_and_stress'].get_array('forces').ravel()
    assert labels.vectors['forces_ev_per_ang'][0] == pytest.approx(forces, abs=1e-5)
    if 'gap_ev' in RUNS[name].about:
        assert labels.energies['gap_ev'][0] == pytest.approx(RUNS[name].about['gap_ev'], abs=1e-6)


def test_an_alloy_has_a_density_of_states_where_its_k_points_are_known(parse) -> None:
    found = parse(RUNS['hea-00-fcc-2'])
    assert found.exit_code is None, found.message
    labels = found.labels
    assert labels.vectors['level_weights'][0].sum() == pytest.approx(2.0)
    assert labels.dos_fermi()[0] == pytest.approx(11.05, abs=0.1)
    assert labels.source.protocol == 'paper_alloys'
    found = parse(RUNS['hea-00-fcc-3'], change=remove('aiida.KP'))
    assert found.exit_code is None, found.message
    assert np.isnan(found.labels.dos_fermi()).all()
    assert np.isfinite(found.labels.numbers['fermi_ev']).all()


def test_the_moment_of_a_polarised_run_is_in_its_label(parse) -> None:
    found = parse(RUNS['iron-spin'])
    assert found.exit_code is None, found.message
    assert found.labels.numbers['magnetic_moment_bohr'].tolist() == [5.74998]


def test_the_source_is_derived_from_the_input(parse) -> None:
    found = parse(RUNS['h-0000'])
    source = found.labels.source
    paper = get_engine('siesta').parameters('paper').model_dump()
    assert (source.engine, source.version, source.protocol) == ('siesta', '4.1-b4-133', 'paper')
    assert source.parameters == paper


def test_the_source_that_is_given_is_kept_and_the_message_says_what_was_changed(parse) -> None:
    paper = get_engine('siesta').parameters('paper').model_dump()
    found = parse(
        RUNS['scf-oscillates-recovered'],
        source=orm.Dict({'protocol': 'paper', 'parameters': paper}),
        options={'recovery': 'mixing weight 0.05'},
    )
    assert found.exit_code is None, found.message
    labels = found.labels
    assert (labels.source.protocol, labels.source.parameters) == ('paper', paper)
    assert labels.messages.tolist() == ['recovered: mixing weight 0.05']


@pytest.mark.parametrize(
    ('scheduler', 'exit_code', 'status'),
    [
        (110, 'ERROR_OUT_OF_MEMORY', 'out_of_memory'),
        (120, 'ERROR_WALL_TIME', 'wall_time'),
        (140, 'ERROR_NODE_FAILURE', 'node_failure'),
        (None, 'ERROR_OUTPUT_TRUNCATED', 'truncated'),
    ],
)
def test_the_scheduler_knows_why_an_output_ends(parse, scheduler: int | None, exit_code: str, status: str) -> None:
    found = parse(RUNS['killed-in-scf'], scheduler_status=scheduler)
    assert found.exit_code == exit_code
    assert found.labels.status.tolist() == [status]


def test_the_output_knows_better_than_the_scheduler_what_siesta_refused(parse) -> None:
    assert parse(RUNS['split-norm-too-small'], scheduler_status=120).exit_code == 'SPLIT_NORM'
    assert parse(RUNS['h-0000'], scheduler_status=120).exit_code is None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


@pytest.mark.parametrize(
    ('change', 'exit_code'),
    [
        (remove('aiida.out'), 'ERROR_OUTPUT_MISSING'),
        (cut('aiida.out', 0), 'ERROR_OUTPUT_MISSING'),
        (remove('aiida.xml'), 'ERROR_OUTPUT_INVALID'),
        (cut('aiida.xml', 5000), 'ERROR_OUTPUT_INVALID'),
        (cut('BASIS_ENTHALPY', 0), 'ERROR_OUTPUT_INVALID'),
        (remove('aiida.EIG'), 'ERROR_OUTPUT_TRUNCATED'),
        (cut('aiida.EIG', 500), 'ERROR_OUTPUT_TRUNCATED'),
        (remove('time.json'), None),
        (remove('BASIS_ENTHALPY'), None),
    ],
)
def test_missing_and_cut_files_are_exit_codes(parse, change: Callable[[Path], None], exit_code: str | None) -> None:
    assert parse(RUNS['h-0000'], change=change).exit_code == exit_code


def test_a_program_that_never_began_leaves_no_label_but_its_last_word(parse) -> None:
    def leave_word(folder: Path) -> None:
        (folder / 'aiida.out').unlink()
        (folder / '_scheduler-stderr.txt').write_text('bash: siesta: command not found\n')

    found = parse(RUNS['h-0000'], change=leave_word)
    assert found.exit_code == 'ERROR_OUTPUT_MISSING'
    assert 'command not found' in found.message
    assert 'labels' not in found.outputs


def test_a_relaxation_gives_no_label(parse) -> None:
    found = parse(RUNS['geometry-not-converged'])
    assert found.exit_code == 'GEOM_NOT_CONV'
    assert 'labels' not in found.outputs


def test_basis_orbitals_are_read(parse) -> None:
    """aiida-siesta's node of them works with the sisl that is installed."""
    found = parse(RUNS['z-C24H12'])
    assert found.exit_code is None, found.message
    assert found.outputs['ion_files']['H'].element == 'H'
