"""``aiida-nanoml rmatrix``."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from aiida import orm
from aiida.plugins import CalculationFactory, WorkflowFactory

from aiida_nanoml.actions import rmatrix_common
from aiida_nanoml.actions.registry import action_class
from aiida_nanoml.actions.rmatrix_scan import format_variation, parse_variation
from aiida_nanoml.calculations.functions.validation import job_seconds
from aiida_nanoml.transport import settings
from aiida_nanoml.transport.files import EXAMPLE, read_input
from tests.transport import reference

SLAB = Path(__file__).parents[1] / 'recorded' / 'siesta_potential' / 'slab.VT.xz'


@pytest.fixture
def barrier(cli, tmp_path: Path) -> Path:
    """An input file of a barrier of 4 nm."""
    path = tmp_path / 'barrier.txt'
    arguments = ('--lowest', 0.01, '--highest', 0.5, '--energies', 60, '--basis', 96)
    text = cli('rmatrix', 'potential', 'barrier', '--set', 'width=4', *arguments, '-o', path).stdout
    assert text.endswith(f'next: aiida-nanoml rmatrix run {path} --no-store\n')
    return path


def test_a_plain_tool_without_a_profile(tmp_path: Path, barrier: Path) -> None:
    """No configuration of AiiDA is there, and none is needed."""
    output, figure = tmp_path / 'T.txt', tmp_path / 'T.svg'
    program = Path(sys.executable).parent / 'aiida-nanoml'
    command = [program, 'rmatrix', 'run', barrier, '--no-store', '-o', output, '--plot', figure, '--json']
    environment = os.environ | {'AIIDA_PATH': str(tmp_path / 'nothing')}
    (tmp_path / 'nothing').mkdir()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found['n_energies'], found['files']) == (60, [str(output), str(figure)])
    assert found['unitarity_defect'] < 1e-12
    table = np.loadtxt(output)
    content = read_input(barrier)
    assert np.abs(table[:, 1] - reference.transmission(content.potential, content.energies)).max() < 1e-5
    assert output.read_text(encoding='utf-8').splitlines()[-61] == '# E (eV)  T'
    assert figure.read_text(encoding='utf-8').startswith('<?xml')


def test_the_example_is_computed_and_its_input_written(cli, tmp_path: Path) -> None:
    text = cli('rmatrix', 'example', '--input', tmp_path / 'mine.txt', '--energies', 50).stdout
    assert '1024 cells' in text
    assert '50 from 0.0003 to 0.3 eV' in text
    assert text.endswith(f'next: aiida-nanoml rmatrix run {tmp_path / "mine.txt"} --no-store\n')
    assert (tmp_path / 'mine.txt').read_text(encoding='utf-8') == EXAMPLE.read_text(encoding='utf-8')
    assert 'exists already' in cli('rmatrix', 'example', '--input', tmp_path / 'mine.txt', status=1).output


def test_a_file_becomes_nodes(cli, cli_json, code, barrier: Path, tmp_path: Path) -> None:
    found = cli_json('rmatrix', 'run', barrier, '--name', 'stored', '--code', code.pk, '--basis', 128)
    node = orm.load_node(found['uuid'])
    assert (node.label, found['type']) == ('stored', 'core.array.xy')
    job = orm.load_node(found['process'])
    assert job.inputs.settings.get_dict() | {'n_basis': 128} == job.inputs.settings.get_dict()
    assert job.inputs.potentials.creator.inputs.file.get_content() == barrier.read_text(encoding='utf-8')
    cli('rmatrix', 'plot', node.pk, '-o', tmp_path / 'T.png')
    assert (tmp_path / 'T.png').stat().st_size > 10_000
    output = tmp_path / 'again.txt'
    plain = cli_json('rmatrix', 'run', barrier, '--no-store', '--basis', 128, '-o', output)
    np.testing.assert_allclose(np.loadtxt(output)[:, 1], node.get_y()[0][1], atol=1e-12)
    assert plain['resonances'] == pytest.approx(found['resonances'])


def test_a_node_is_resolved(cli, cli_json, code) -> None:
    made = cli_json('rmatrix', 'potential', 'double_barrier', '--set', 'separation=6', '--set', 'width=6')
    energies = ('--lowest', 0.01, '--highest', 0.3, '--energies', 50, '--basis', 128, '--code', code.pk)
    found = cli_json('rmatrix', 'run', made['uuid'], *energies, '--resolve')
    assert found['n_energies'] > 50
    assert found['largest_transmission'] > 0.99
    assert min(resonance['width_ev'] for resonance in found['resonances']) < 1e-3
    assert 'give --lowest and --highest' in cli('rmatrix', 'run', made['uuid'], status=2).output


def test_a_scan_is_drawn_and_drawn_again(cli, cli_json, code, tmp_path: Path) -> None:
    arguments = ('double_barrier', '--vary', 'separation=4:8:8', '--set', 'width=3', '--lowest', 0.01, '--highest', 0.4)
    options = ('--energies', 60, '--basis', 96, '--code', code.pk, '--name', 'scanned', '-o', tmp_path / 'map')
    found = cli_json('rmatrix', 'scan', *arguments, *options)
    assert (found['parameter'], found['n_values']) == ('separation', 8)
    assert {path.name for path in (tmp_path / 'map').iterdir()} == {
        'transmission.csv',
        'resonances.csv',
        'transmission.png',
    }
    assert 'exists already' in cli('rmatrix', 'scan', *arguments, *options, status=1).output
    cli('rmatrix', 'plot', found['uuid'], '-o', tmp_path / 'map.png', '--log')
    cli('rmatrix', 'plot', found['process'], '-o', tmp_path / 'one.png', '--row', 3)
    assert (
        '8 potentials' in cli('rmatrix', 'plot', found['uuid'], '-o', tmp_path / 'x.png', '--row', 8, status=2).output
    )


def test_a_file_is_scanned(cli_json, code, barrier: Path) -> None:
    found = cli_json('rmatrix', 'scan', barrier, '--vary', 'bias=0,0.05', '--code', code.pk)
    process = orm.load_node(found['process'])
    assert [potential.right for potential in process.outputs.potentials.potentials] == pytest.approx([0, -0.05])
    assert process.inputs.settings.get_dict()['n_energies'] == 60


def test_a_mesh_of_siesta_becomes_a_potential(cli, cli_json, tmp_path: Path) -> None:
    path = tmp_path / 'slab.VT'
    path.write_bytes(lzma.decompress(SLAB.read_bytes()))
    options = ('--mass', 1, '--period', 0.2025, '--zero', -4.755, '--lead', 0.2025)
    found = cli_json('rmatrix', 'siesta', path, *options, '--name', 'slab')
    potential = orm.load_node(found['uuid']).potentials[0]
    assert potential.left == pytest.approx(-14.83, abs=0.02)
    assert potential.values.max() == pytest.approx(4.4, abs=0.1)
    assert 'next: aiida-nanoml rmatrix run slab' in cli('rmatrix', 'siesta', path, *options, '--name', 'slab').stdout
    path.write_bytes(b'nothing of the kind')
    before = orm.QueryBuilder().append(orm.Node).count()
    assert 'no mesh of SIESTA' in cli('rmatrix', 'siesta', path, *options, status=1).output
    assert orm.QueryBuilder().append(orm.Node).count() == before


def test_what_is_not_converged_is_told_after_it_was_written(cli, barrier: Path, tmp_path: Path) -> None:
    result = cli('rmatrix', 'run', barrier, '--no-store', '--correction', 'none', '-o', tmp_path / 'T.txt', status=1)
    assert 'not converged' in result.output
    assert '--basis' in result.output
    assert (tmp_path / 'T.txt').exists()


def test_nodes_that_are_not_converged_are_written_and_told_too(cli, code, barrier: Path, tmp_path: Path) -> None:
    options = ('--correction', 'none', '--code', code.pk)
    result = cli('rmatrix', 'run', barrier, *options, '-o', tmp_path / 'T.txt', status=1)
    assert result.output.endswith('(--basis)\n')
    assert len(np.loadtxt(tmp_path / 'T.txt')) == 60
    folder = tmp_path / 'map'
    arguments = ('--vary', 'bias=0,0.1', '--basis', 24, '--correction', 'none', '--code', code.pk, '-o', folder)
    assert 'not converged' in cli('rmatrix', 'scan', barrier, *arguments, status=1).output
    assert (folder / 'transmission.csv').exists()


@pytest.mark.parametrize(
    ('arguments', 'status', 'reason'),
    [
        (('run', 'nothing.txt', '--no-store'), 2, 'no file nothing.txt'),
        (('run', 'nothing'), 2, "no node 'nothing'"),
        (('run', 'x', '--no-store', '--submit'), 2, '--submit goes without'),
        (('potential', 'barrier', '--set', 'depth=1'), 1, 'unknown: depth'),
        (('potential', 'barrier', '--lowest', 0), 2, 'into an input file'),
        (('potential', 'barrier', '-o', 'x.txt'), 1, 'missing: lowest, highest'),
        (('scan', 'barrier', '--vary', 'width=1:2'), 2, 'not of the form'),
        (('scan', 'barrier', '--vary', 'width=1,2'), 2, 'give --lowest and --highest'),
        (('scan', 'x', '--vary', 'bias=1,2', '--set', 'width=1'), 2, '--set goes with'),
    ],
)
def test_what_cannot_be_done_is_told(cli, arguments: tuple, status: int, reason: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in ' '.join(cli('rmatrix', *arguments, status=status).output.split())


def test_bounds_and_statuses_are_those_of_the_core() -> None:
    """They are written once more beside the fields, so that --help loads no solver."""
    assert get_args(rmatrix_common.Correction) == settings.CORRECTIONS
    bounds = rmatrix_common.MOST_COSINES, rmatrix_common.MOST_ENERGIES, rmatrix_common.MOST_EV
    assert bounds == (settings.MOST_COSINES, settings.MOST_ENERGIES, settings.ENERGIES[1])
    for factory, name in ((CalculationFactory, 'rmatrix'), (WorkflowFactory, 'rmatrix_scan')):
        assert factory(f'nanoml.{name}').exit_codes.ERROR_NOT_CONVERGED.status == rmatrix_common.NOT_CONVERGED


def test_a_variation_is_read_as_it_is_written() -> None:
    assert parse_variation('width = 0:0.3:4'.replace(' ', '')) == ('width', (0.0, 0.1, 0.2, 0.3))
    assert parse_variation(format_variation(('bias', (0.0, 0.05)))) == ('bias', (0.0, 0.05))


def test_costs_come_from_the_basis_and_from_jobs_of_this_profile(cli_json, code, barrier: Path) -> None:
    rmatrix = action_class('rmatrix')
    before = rmatrix(source=str(barrier)).estimate()
    assert (before.jobs, before.seconds) == (1, None)
    larger = rmatrix(source=str(barrier), n_basis=2048, n_energies=1000).estimate()
    assert larger.memory_mb == pytest.approx(496, rel=0.1), 'what a run with this basis took'
    job = orm.load_node(cli_json('rmatrix', 'run', barrier, '--code', code.pk)['process'])
    after = rmatrix(source=str(barrier)).estimate()
    assert after.seconds == pytest.approx(job_seconds(job.outputs.retrieved))
    assert rmatrix(source=str(barrier), no_store=True).estimate().jobs == 0


def test_an_input_file_that_cannot_be_read_makes_no_node(cli, tmp_path: Path) -> None:
    path = tmp_path / 'spoilt.txt'
    path.write_text('Effective_mass none\n', encoding='utf-8')
    before = orm.QueryBuilder().append(orm.Node).count()
    assert "spoilt.txt, line 1: Effective_mass is 'none'" in cli('rmatrix', 'run', path, status=1).output
    assert orm.QueryBuilder().append(orm.Node).count() == before
