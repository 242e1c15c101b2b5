"""Run folders as users leave them: what is found, what is read, what is refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from aiida_nanoml.engines.finished_runs import RunFolderError
from aiida_nanoml.engines.pseudopotentials import bundled
from aiida_nanoml.engines.siesta.folder import (
    find_run_folders,
    open_run_folder,
    read_finished_run,
    read_run_density,
    source_of_run,
)
from aiida_nanoml.engines.siesta.identity import disagreement, read_pseudopotential, used_pseudopotentials
from aiida_nanoml.errors import EngineError, EvaluationError
from tests.stand_in.fixtures import recorded_runs

FLAKE = recorded_runs('flake')['h-0000']
REASONS = {
    'atoms-too-close': 'atoms_too_close',
    'missing-pseudopotential': 'missing_pseudopotential',
    'scf-not-converged': 'not_converged',
    'scf-oscillates': 'not_converged',
    'split-norm-too-small': 'basis_error',
    'walltime-soft': 'wall_time',
}

PSML = '<?xml version="1.0"?><psml version="1.1" uuid="{uuid}"><pseudo-atom-spec atomic-label="C"/></psml>'
PSML_OUTPUT = """
---- Processing specs for species: C
Ground state valence configuration:   2s02  2p02
Reading pseudopotential information in PSML from:
  C.psml
PSML file version: 1.1
PSML uuid: 124D3920-be63-11e7-41c0-f3027dc3db3e
"""


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """The files of a finished run."""
    return FLAKE.unpack(tmp_path)


def truncate(path: Path) -> None:
    path.write_text(path.read_text(encoding='utf-8')[:20000], encoding='utf-8')


def output_of(name: str, tmp_path: Path) -> str:
    return (recorded_runs()[name].unpack(tmp_path) / 'aiida.out').read_text(encoding='utf-8')


def test_a_finished_run_is_read(run_folder, tmp_path):
    folder = open_run_folder(run_folder, tmp_path)
    run = read_finished_run(folder)
    assert (folder.input, folder.output, folder.prefix) == ('aiida.fdf', 'aiida.out', 'aiida')
    assert run.result.label.gap_ev == pytest.approx(FLAKE.about['gap_ev'], abs=1e-6)
    assert (run.protocol, run.result.version, len(run.structure)) == ('paper', '4.1-b4-133', 60)
    assert not run.structure.pbc.any()
    source = source_of_run(run, {'C': 'c' * 32, 'Fe': 'f' * 32})
    assert source.pseudopotentials == {'C': 'c' * 32}, 'an element that does not occur says nothing'
    assert (source.engine, source.protocol) == ('siesta', 'paper')


def test_runs_of_an_alloy_have_one_source_and_weights(tmp_path):
    """Their meshes differ; the protocol and its parameters do not."""
    runs = [recorded_runs('alloy')[name] for name in ('hea-00-bcc-2', 'hea-00-bcc-3')]
    finished = [read_finished_run(open_run_folder(run.unpack(tmp_path), tmp_path)) for run in runs]
    assert [run.protocol for run in finished] == ['paper_alloys'] * 2
    assert source_of_run(finished[0], {}) == source_of_run(finished[1], {})
    weights = [run.result.label.level_weights for run in finished]
    assert [made.shape for made in weights] == [(1, 27), (1, 10)]
    assert [made.sum() for made in weights] == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize(('name', 'code'), REASONS.items())
def test_failed_runs_are_refused_with_their_reason(name, code, tmp_path):
    """SIESTA itself calls the first of them completed."""
    folder = recorded_runs()[name].unpack(tmp_path)
    with pytest.raises(EvaluationError) as caught:
        read_finished_run(open_run_folder(folder, tmp_path))
    assert caught.value.code == code


def test_names_are_the_users(run_folder, tmp_path):
    """Only the endings, and SystemLabel in the input, tell which files belong together."""
    text = (run_folder / 'aiida.fdf').read_text(encoding='utf-8')
    for old, new in (('aiida.fdf', 'input.fdf'), ('aiida.out', 'run_17.out'), ('aiida.EIG', 'flake.EIG')):
        (run_folder / old).rename(run_folder / new)
    for name in ('input.fdf', 'run_17.out'):
        path = run_folder / name
        path.write_text(path.read_text(encoding='utf-8').replace('systemlabel aiida', 'SystemLabel flake'))
    assert 'systemlabel aiida' in text
    (run_folder / 'slurm-1.out').write_text('no output of the program that is meant\n', encoding='utf-8')
    folder = open_run_folder(run_folder, tmp_path)
    assert (folder.input, folder.output, folder.prefix) == ('input.fdf', 'run_17.out', 'flake')
    assert read_finished_run(folder).result.label.gap_ev == pytest.approx(FLAKE.about['gap_ev'], abs=1e-6)


@pytest.mark.parametrize(
    ('break_it', 'code'),
    [
        (lambda folder: (folder / 'aiida.fdf').unlink(), 'no_input'),
        (lambda folder: (folder / 'aiida.out').unlink(), 'no_output'),
        (lambda folder: (folder / 'MESSAGES').unlink() or truncate(folder / 'aiida.out'), 'truncated'),
        (lambda folder: (folder / 'aiida.EIG').write_text(' -3.4\n 636 1 1\n 1 -25.5\n'), 'truncated'),
        (
            lambda folder: shutil.copy(folder / 'aiida.out', folder / 'b.out') and (folder / 'b.fdf').touch(),
            'ambiguous',
        ),
        (lambda folder: (folder / 'aiida.fdf').write_text('%include /etc/passwd\n'), 'input_refused'),
        (lambda folder: (folder / 'aiida.fdf').write_text('MD.NumCGsteps 5\n' + FLAKE.fdf), 'input_changed'),
        (lambda folder: (folder / 'aiida.fdf').write_text(FLAKE.fdf.replace('150 Ry', '200 Ry')), 'input_changed'),
    ],
)
def test_broken_folders_are_refused(run_folder, tmp_path, break_it, code):
    break_it(run_folder)
    with pytest.raises(EvaluationError) as caught:
        read_finished_run(open_run_folder(run_folder, tmp_path))
    assert caught.value.code == code


def test_nothing_outside_the_tree_is_read(run_folder, tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    (run_folder / 'aiida.EIG').rename(elsewhere / 'aiida.EIG')
    (run_folder / 'aiida.EIG').symlink_to(elsewhere / 'aiida.EIG')
    assert read_finished_run(open_run_folder(run_folder, tmp_path)).result.label.gap_ev > 0
    with pytest.raises(RunFolderError, match='leads out of') as caught:
        read_finished_run(open_run_folder(run_folder, run_folder))
    assert caught.value.code == 'outside'


def test_folders_are_found_once_and_links_are_not_followed(run_folder, tmp_path):
    deep = tmp_path / 'a' / 'b'
    deep.mkdir(parents=True)
    shutil.copytree(run_folder, deep / 'copy')
    (deep / 'round').symlink_to(tmp_path)
    (tmp_path / 'notes').mkdir()
    (tmp_path / 'notes' / 'job.out').write_text('no run', encoding='utf-8')
    found = list(find_run_folders(tmp_path, pytest.fail))
    assert found == [deep / 'copy', run_folder]


def test_the_digest_follows_the_content_only(run_folder, tmp_path):
    other = tmp_path / 'elsewhere' / 'renamed'
    shutil.copytree(run_folder, other)
    (other / 'notes.txt').write_text('of no weight', encoding='utf-8')
    digests = [open_run_folder(folder, tmp_path).digest() for folder in (run_folder, other)]
    assert digests[0] == digests[1]
    (other / 'aiida.KP').write_text('1\n1 0.0 0.0 0.0 1.0\n', encoding='utf-8')
    assert open_run_folder(other, tmp_path).digest() == digests[0], 'imported before the k-points were read'
    with (other / 'aiida.EIG').open('a', encoding='utf-8') as handle:
        handle.write('\n')
    assert open_run_folder(other, tmp_path).digest() != digests[0]


def test_the_density_of_a_run_is_read_where_it_was_saved(run_folder, tmp_path):
    saved = open_run_folder(recorded_runs()['methanimine'].unpack(tmp_path), tmp_path)
    assert set(saved.density_files()) == {'aiida.RHO', 'aiida.DRHO'}
    finished = read_finished_run(saved)
    density = read_run_density(saved, finished.structure)
    assert density.charge(density.total) == pytest.approx(finished.result.label.n_electrons, rel=1e-3)
    without = open_run_folder(run_folder, tmp_path)
    for ask in (without.density_files, lambda: read_run_density(without, FLAKE.structure)):
        with pytest.raises(RunFolderError, match='SaveRho T, SaveDeltaRho T') as caught:
            ask()
        assert caught.value.code == 'no_density'


def test_a_common_vacuum_can_be_declared(run_folder, tmp_path):
    folder = open_run_folder(run_folder, tmp_path)
    assert read_finished_run(folder).parameters.vacuum_ang == 10.0
    declared = read_finished_run(folder, 8.0)
    assert (declared.parameters.vacuum_ang, declared.protocol) == (8.0, 'custom')
    with pytest.raises(RunFolderError, match='less than 12 Å'):
        read_finished_run(folder, 12.0)


def test_the_output_recognises_the_pseudopotentials_of_every_recorded_run(tmp_path):
    """How they were generated, and where each potential ends, stands in the output with four digits."""
    files = {element: read_pseudopotential(path.read_text(), 'psf') for element, path in bundled().items()}
    seen = set()
    for name in ('h-0000', 'hea-00-bcc-0'):
        for label, used in used_pseudopotentials(output_of(name, tmp_path)).items():
            fitting = [element for element, file in files.items() if disagreement(used, file) is None]
            assert fitting == [label]
            seen.add(label)
    assert seen == set(bundled())


@pytest.mark.parametrize(
    ('pattern', 'replacement', 'told'),
    [
        (r'2s 2\.00  r= 1\.49', '2s 2.00  r= 1.50', 'shells'),
        (r' C  ca nrl', ' C  ca rel', 'relativity'),
        (r'Improved', 'Ordinary', 'method'),
        (r'4\.00000000000    \n Radial', '3.00000000000    \n Radial', 'valence charge'),
        (r'-0\.80\d+E\+01\n', '-0.85000000000E+01\n', 'radii'),
    ],
)
def test_a_file_that_differs_is_not_taken(pattern, replacement, told, tmp_path):
    content = bundled()['C'].read_text(encoding='utf-8')
    changed = re.sub(pattern, replacement, content)
    if told == 'radii':
        changed = stretched(content)
    assert changed != content
    used = used_pseudopotentials(output_of('h-0000', tmp_path))['C']
    assert told in (disagreement(used, read_pseudopotential(changed, 'psf')) or '')


def stretched(content: str) -> str:
    """Move the points of the radial grid by a thousandth."""
    head, grid, rest = re.split(r'( Radial grid follows\n|(?<=\n) Pseudopotential follows)', content, maxsplit=2)[::2]
    lines = [
        ''.join(f'{float(line[start : start + 20]) * 1.001:20.12E}' for start in range(0, len(line.rstrip()), 20))
        for line in grid.splitlines()
    ]
    separators = re.findall(r' Radial grid follows\n| Pseudopotential follows', content)
    return head + separators[0] + '\n'.join(lines) + '\n' + separators[1] + rest


def test_psml_files_are_recognised_by_their_uuid():
    used = used_pseudopotentials(PSML_OUTPUT)['C']
    assert used.file == 'C.psml'
    right = read_pseudopotential(PSML.format(uuid='124d3920-be63-11e7-41c0-f3027dc3db3e'), 'psml')
    wrong = read_pseudopotential(PSML.format(uuid='00000000-be63-11e7-41c0-f3027dc3db3e'), 'psml')
    psf = read_pseudopotential(bundled()['C'].read_text(encoding='utf-8'), 'psf')
    assert disagreement(used, right) is None
    assert 'UUID' in disagreement(used, wrong)
    assert 'format' in disagreement(used, psf)


def test_hostile_pseudopotential_files_are_refused():
    bomb = '<!DOCTYPE psml [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><psml uuid="&b;"/>'
    for content, kind in ((bomb, 'psml'), ('<psml', 'psml'), ('', 'psf'), (' C ca nrl nc\n\n\n 1 2 3\n', 'psf')):
        with pytest.raises(EngineError):
            read_pseudopotential(content, kind)


def test_an_output_without_a_word_about_pseudopotentials_decides_nothing():
    psf = read_pseudopotential(bundled()['C'].read_text(encoding='utf-8'), 'psf')
    used = used_pseudopotentials('atom: Called for C   (Z =   6)\n')['C']
    assert np.all([not used.is_known, 'cannot be recognised' in disagreement(used, psf)])
