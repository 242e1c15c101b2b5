"""Every recorded end of SIESTA has its exit status and its label; none raises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.plugins import ParserFactory
from aiida.plugins.entry_point import format_entry_point_string

from aiida_nanoml.calculations.functions.siesta import node_of_structure
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.structures import StructureSet
from tests.stand_in.fixtures import RecordedRun, recorded_runs

RUNS = recorded_runs()


@pytest.fixture
def parse(siesta_code: orm.InstalledCode, siesta_pseudos: dict, tmp_path: Path) -> Callable[..., tuple[dict, int, str]]:
    """Parse what a recorded run left; returns outputs, exit status and message."""

    def run(
        recorded: RecordedRun,
        *,
        change: Callable[[Path], None] = lambda folder: None,
        scheduler_status: int | None = None,
        options: dict[str, Any] | None = None,
        **inputs: orm.Data,
    ) -> tuple[dict[str, Any], int, str]:
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
        return outputs, node.exit_status, node.exit_message

    return run


def label_of(outputs: dict[str, Any]) -> LabelSet:
    return outputs['labels'].labels


FAILURES = {  # exit status, status of the label
    'scf-not-converged': (450, 'not_converged'),
    'iron-not-converged': (450, 'not_converged'),
    'scf-oscillates': (450, 'not_converged'),
    'walltime-soft': (400, 'wall_time'),
    'killed-by-walltime': (310, 'truncated'),
    'killed-in-scf': (310, 'truncated'),
    'out-of-memory': (410, 'out_of_memory'),
    'disk-full': (420, 'disk_full'),
    'disk-full-early': (420, 'disk_full'),
    'file-too-large': (420, 'disk_full'),
    'missing-pseudopotential': (510, 'missing_pseudopotential'),
    'split-norm-too-small': (449, 'basis_error'),
    'polarization': (448, 'basis_error'),
}


@pytest.mark.parametrize(('name', 'status', 'code'), [(name, *end) for name, end in FAILURES.items()])
def test_a_recorded_failure_has_its_exit_status_and_a_failed_label(parse, name: str, status: int, code: str) -> None:
    outputs, found, message = parse(RUNS[name])
    assert found == status
    assert message
    labels = label_of(outputs)
    assert labels.status.tolist() == [code]
    assert len(labels.messages[0]) > 20
    assert labels.hashes.tolist() == StructureSet.from_structures([RUNS[name].structure]).hashes.tolist()


@pytest.mark.parametrize('name', ['h-0000', 's-0013', 'z-C24H12', 'scf-oscillates-recovered'])
def test_a_finished_run_is_read_as_aiida_siesta_does_and_labelled(parse, name: str) -> None:
    outputs, status, _ = parse(RUNS[name])
    assert status == 0
    labels = label_of(outputs)
    assert labels.status.tolist() == ['ok']
    assert outputs['output_parameters']['FreeE'] == pytest.approx(labels.energies['energy_ev'][0], abs=1e-3)
    forces = outputs['forces_and_stress'].get_array('forces').ravel()
    assert labels.vectors['forces_ev_per_ang'][0] == pytest.approx(forces, abs=1e-5)
    if 'gap_ev' in RUNS[name].about:
        assert labels.energies['gap_ev'][0] == pytest.approx(RUNS[name].about['gap_ev'], abs=1e-6)


def test_an_alloy_has_a_density_of_states_where_its_k_points_are_known(parse) -> None:
    outputs, status, _ = parse(RUNS['hea-00-fcc-2'])
    assert status == 0
    labels = label_of(outputs)
    assert labels.vectors['level_weights'][0].sum() == pytest.approx(2.0)
    assert labels.dos_fermi()[0] == pytest.approx(11.05, abs=0.1)
    assert labels.source.protocol == 'paper_alloys'
    outputs, status, _ = parse(RUNS['hea-00-fcc-3'], change=remove('aiida.KP'))
    assert status == 0
    assert np.isnan(label_of(outputs).dos_fermi()).all()
    assert np.isfinite(label_of(outputs).numbers['fermi_ev']).all()


def test_the_moment_of_a_polarised_run_is_in_its_label(parse) -> None:
    outputs, status, _ = parse(RUNS['iron-spin'])
    assert status == 0
    assert label_of(outputs).numbers['magnetic_moment_bohr'].tolist() == [5.74998]


def test_the_source_is_derived_from_the_input(parse) -> None:
    outputs, _, _ = parse(RUNS['h-0000'])
    source = label_of(outputs).source
    paper = get_engine('siesta').parameters('paper').model_dump()
    assert (source.engine, source.version, source.protocol) == ('siesta', '4.1-b4-133', 'paper')
    assert source.parameters == paper


def test_the_source_that_is_given_is_kept_and_the_message_says_what_was_changed(parse) -> None:
    paper = get_engine('siesta').parameters('paper').model_dump()
    outputs, status, _ = parse(
        RUNS['scf-oscillates-recovered'],
        source=orm.Dict({'protocol': 'paper', 'parameters': paper}),
        options={'recovery': 'mixing weight 0.05'},
    )
    assert status == 0
    labels = label_of(outputs)
    assert (labels.source.protocol, labels.source.parameters) == ('paper', paper)
    assert labels.messages.tolist() == ['recovered: mixing weight 0.05']


@pytest.mark.parametrize(
    ('scheduler', 'status', 'code'),
    [(110, 410, 'out_of_memory'), (120, 400, 'wall_time'), (140, 430, 'node_failure'), (None, 310, 'truncated')],
)
def test_the_scheduler_knows_why_an_output_ends(parse, scheduler: int | None, status: int, code: str) -> None:
    outputs, found, _ = parse(RUNS['killed-in-scf'], scheduler_status=scheduler)
    assert found == status
    assert label_of(outputs).status.tolist() == [code]


def test_the_output_knows_better_than_the_scheduler_what_siesta_refused(parse) -> None:
    assert parse(RUNS['split-norm-too-small'], scheduler_status=120)[1] == 449
    assert parse(RUNS['h-0000'], scheduler_status=120)[1] == 0


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


@pytest.mark.parametrize(
    ('change', 'status'),
    [
        (remove('aiida.out'), 300),
        (cut('aiida.out', 0), 300),
        (remove('aiida.xml'), 301),
        (cut('aiida.xml', 5000), 301),
        (cut('BASIS_ENTHALPY', 0), 301),
        (remove('aiida.EIG'), 310),
        (cut('aiida.EIG', 500), 310),
        (remove('time.json'), 0),
        (remove('BASIS_ENTHALPY'), 0),
    ],
)
def test_missing_and_cut_files_are_exit_codes(parse, change: Callable[[Path], None], status: int) -> None:
    assert parse(RUNS['h-0000'], change=change)[1] == status


def test_a_program_that_never_began_leaves_no_label_but_its_last_word(parse) -> None:
    def leave_word(folder: Path) -> None:
        (folder / 'aiida.out').unlink()
        (folder / '_scheduler-stderr.txt').write_text('bash: siesta: command not found\n')

    outputs, status, message = parse(RUNS['h-0000'], change=leave_word)
    assert status == 300
    assert 'command not found' in message
    assert 'labels' not in outputs


def test_a_relaxation_gives_no_label(parse) -> None:
    outputs, status, _ = parse(RUNS['geometry-not-converged'])
    assert status == 451
    assert 'labels' not in outputs


def test_basis_orbitals_are_read(parse) -> None:
    """aiida-siesta's node of them works with the sisl that is installed."""
    outputs, status, _ = parse(RUNS['z-C24H12'])
    assert status == 0
    assert outputs['ion_files']['H'].element == 'H'
