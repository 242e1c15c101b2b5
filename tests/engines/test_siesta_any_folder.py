"""Folders of SIESTA as people have them: names, files within files, forms of a structure, old and odd endings."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiida_nanoml.engines.siesta.computed import XV_PREVAILS, RunTexts, read_computed
from aiida_nanoml.engines.siesta.fdf import read_fdf
from aiida_nanoml.engines.siesta.folder import (
    FinishedRun,
    find_run_folders,
    open_run_folder,
    read_finished_run,
    read_finished_steps,
    tell_runs_apart,
)
from aiida_nanoml.engines.siesta.geometry import read_course, read_geometry_files
from aiida_nanoml.errors import EngineError, EvaluationError, StructureError
from tests.mutations import fuzzed, mutations

RECORDED = Path(__file__).resolve().parents[1] / 'recorded' / 'siesta_folders'
METHANE_GAP_EV = 16.28794446


def unpack(name: str, target: Path) -> Path:
    """Make the folder of a recorded run, with its output as plain text."""
    shutil.copytree(RECORDED / name, target)
    for path in target.glob('*.xz'):
        path.with_suffix('').write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    return target


@pytest.fixture
def methane(tmp_path: Path) -> Path:
    """CH4 in a box, without an XML file."""
    return unpack('ch4', tmp_path / 'ch4')


def read(folder: Path) -> FinishedRun:
    return read_finished_run(open_run_folder(folder, folder))


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text(encoding='utf-8')
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text, encoding='utf-8')


def edit_both(folder: Path, *changes: tuple[str, str]) -> None:
    """Change the input, and the copy of it with which the output begins."""
    for path in (folder / 'ch4.fdf', folder / 'ch4.out'):
        edit(path, *changes)


def refusal(folder: Path) -> EvaluationError:
    with pytest.raises(EvaluationError) as caught:
        read(folder)
    return caught.value


@pytest.mark.parametrize(
    'name', ['ch4.out', 'out', 'out.log', 'RUN.out', 'ch4.OUT', 'output', 'siesta.log', 'slurm-1.out']
)
def test_the_output_has_any_name(methane: Path, name: str) -> None:
    (methane / 'ch4.out').rename(methane / name)
    (methane / 'job.out').write_text('this is SIESTA version 4.1, welcome to siesta\n', encoding='utf-8')
    run = read(methane)
    assert run.result.label.gap_ev == pytest.approx(METHANE_GAP_EV, abs=1e-6)
    assert (len(run.structure), run.result.label.open_shell, run.note) == (5, False, '')


@pytest.mark.parametrize(('ending', 'pack'), [('.gz', gzip.compress), ('.xz', lzma.compress), ('.bz2', bz2.compress)])
def test_files_are_read_compressed(methane: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    plain = open_run_folder(methane, methane).digest()
    for name in ('ch4.out', 'ch4.EIG'):
        (methane / f'{name}{ending}').write_bytes(pack((methane / name).read_bytes()))
        (methane / name).unlink()
    assert read(methane).result.label.gap_ev == pytest.approx(METHANE_GAP_EV, abs=1e-6)
    assert open_run_folder(methane, methane).digest() == plain, 'a compressed run is the same run'
    (methane / f'ch4.EIG{ending}').write_bytes(pack((RECORDED / 'ch4' / 'ch4.EIG').read_bytes())[:-4])
    assert 'is damaged' in refusal(methane).message


def test_an_output_that_is_there_twice_is_one(methane: Path) -> None:
    (methane / 'ch4.out').rename(methane / 'out')
    shutil.copy(methane / 'out', methane / 'slurm-7.out')
    assert read(methane).result.label.gap_ev == pytest.approx(METHANE_GAP_EV, abs=1e-6)
    edit(methane / 'slurm-7.out', ('>> Start of run:  29', '>> Start of run:  28'))
    assert refusal(methane).code == 'ambiguous'
    whole = (methane / 'slurm-7.out').read_text(encoding='utf-8')
    (methane / 'slurm-7.out').write_text(whole[:9000], encoding='utf-8')
    assert read(methane).result.label.gap_ev == pytest.approx(METHANE_GAP_EV, abs=1e-6), 'one of them ended'


def test_of_two_runs_in_one_output_the_last_counts(methane: Path) -> None:
    whole = (methane / 'ch4.out').read_text(encoding='utf-8')
    first = whole[:12000].replace('1.19053', '9.99999')
    (methane / 'ch4.out').write_text(f'{first}\n{whole}', encoding='utf-8')
    assert read(methane).result.label.energy_ev == pytest.approx(-214.421989)


def test_folders_are_found_by_what_is_in_them(methane: Path, tmp_path: Path) -> None:
    only_input, only_output, neither = (tmp_path / name for name in ('a', 'b', 'c'))
    for folder in (only_input, only_output, neither):
        folder.mkdir()
    shutil.copy(methane / 'ch4.fdf', only_input / 'INPUT.FDF')
    (only_output / 'siesta.log.gz').write_bytes(gzip.compress((methane / 'ch4.out').read_bytes()))
    (neither / 'notes.out').write_text('nothing\n', encoding='utf-8')
    assert list(find_run_folders(tmp_path, pytest.fail)) == [only_input, only_output, methane]
    assert refusal(only_input).code == 'no_output'
    assert 'its output is elsewhere' in refusal(only_input).message
    assert refusal(only_output).code == 'no_input'


def test_what_siesta_wrote_down_of_the_input_is_none(methane: Path) -> None:
    (methane / 'ch4.fdf').rename(methane / 'methane.fdf')
    (methane / 'out.fdf').write_text('Spin none  # default value\n' * 4, encoding='utf-8')
    assert open_run_folder(methane, methane).input == 'methane.fdf'


def test_input_is_spread_over_files(methane: Path) -> None:
    """``%include``, ``key < file`` and ``%block key < file``; the output repeats the main file only."""
    text = (methane / 'ch4.fdf').read_text(encoding='utf-8')
    start = text.index('LatticeConstant')
    (methane / 'parts').mkdir()
    (methane / 'geometry.fdf').write_text(text[start:], encoding='utf-8')
    (methane / 'species.txt').write_text('1 6 C\n2 1 H\n', encoding='utf-8')
    (methane / 'parts' / 'mesh').write_text('Meshcutoff 100 Ry\nPAO.BasisSize TZP\n', encoding='utf-8')
    edit_both(
        methane,
        (text[start:].rstrip(), '%include geometry.fdf'),
        (
            '%block ChemicalSpeciesLabel\n1 6 C\n2 1 H\n%endblock ChemicalSpeciesLabel',
            '%block ChemicalSpeciesLabel < species.txt',
        ),
        ('MeshCutoff 100 Ry', 'Mesh_Cutoff < parts/mesh'),
    )
    run = read(methane)
    assert run.result.label.gap_ev == pytest.approx(METHANE_GAP_EV, abs=1e-6)
    assert (run.parameters.mesh_cutoff_ry, run.parameters.basis_size) == (100.0, 'SZ')
    digest = open_run_folder(methane, methane).digest()
    edit(methane / 'geometry.fdf', ('LatticeConstant 12.0', 'LatticeConstant 12.5'))
    assert open_run_folder(methane, methane).digest() != digest
    assert 'other lattice vectors' in refusal(methane).message
    (methane / 'geometry.fdf').unlink()
    assert 'geometry.fdf, which is not there' in refusal(methane).message
    (methane / 'geometry.fdf').write_text('%include geometry.fdf\n', encoding='utf-8')
    assert 'without an end' in refusal(methane).message


def test_a_cell_that_is_left_out_is_that_of_the_output(tmp_path: Path) -> None:
    run = read(unpack('ch4-nocell', tmp_path / 'ch4'))
    assert run.result.label.gap_ev == pytest.approx(16.28766897, abs=1e-6)
    assert np.diag(run.structure.cell) == pytest.approx([6.923284] * 3)
    assert run.parameters.vacuum_ang == pytest.approx(5.663, abs=1e-3)


def test_a_z_matrix_is_read_from_the_output(tmp_path: Path) -> None:
    run = read(unpack('ch4-zmatrix', tmp_path / 'ch4'))
    assert run.structure.numbers.tolist() == [6, 1]
    assert np.ptp(run.structure.positions[:, 2]) == pytest.approx(1.1, abs=1e-5)
    assert (run.result.label.gap_ev, run.result.label.open_shell) == (0.0, True)


def test_a_mesh_that_is_not_diagonal(tmp_path: Path) -> None:
    run = read(unpack('al', tmp_path / 'al'))
    assert run.result.label.gap_ev == pytest.approx(1.0116, abs=1e-4)
    assert run.parameters.k_supercell == [[-3, 3, 3], [3, -3, 3], [3, 3, -3]]
    assert (run.parameters.k_grid, run.structure.pbc.all()) == (None, True)
    assert run.result.label.level_weights.sum() == pytest.approx(2.0)


def test_the_geometry_that_was_computed_counts(methane: Path) -> None:
    """An input that gives another one is not that of the output, unless it says that a file replaces it."""
    edit_both(methane, ('0.63000000 0.63000000 0.63000000 2', '0.73000000 0.63000000 0.63000000 2'))
    error = refusal(methane)
    assert error.code == 'input_changed'
    assert 'atom 2 is at 0.7300 0.6300 0.6300 Å in ch4.fdf and at 0.6300 0.6300 0.6300 Å in ch4.out' in error.message
    edit_both(methane, ('MD.TypeOfRun CG', 'MD.UseSaveXV T\nMD.TypeOfRun CG'))
    assert read(methane).structure.positions.max() == pytest.approx(0.63, abs=1e-5)
    positions = [[1.190531, 1.190531, 1.190531]] * 5
    for row, signs in enumerate(((0, 0, 0), (1, 1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, -1))):
        positions[row] = [1.190531 * sign for sign in signs]
    cell = [[22.676734 if row == column else 0.0 for column in range(3)] + [0.0] * 3 for row in range(3)]
    atoms = [[1 + (row > 0), 6 if row == 0 else 1, *position, 0.0, 0.0, 0.0] for row, position in enumerate(positions)]
    lines = [' '.join(f'{number:.9f}' for number in row) for row in cell] + ['5']
    lines += [f'{row[0]} {row[1]} ' + ' '.join(f'{number:.9f}' for number in row[2:]) for row in atoms]
    (methane / 'ch4.XV').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    assert read(methane).structure.positions.max() == pytest.approx(1.190531 * 0.529177, abs=1e-6), (
        'all digits of the XV'
    )


STEP = """\
                        Begin CG opt. move =      {step}

outcell: Unit cell vectors (Ang):
       12.000000    0.000000    0.000000
        0.000000   12.000000    0.000000
        0.000000    0.000000   12.000000
"""
LAST = """\
outcoor: {kind} atomic coordinates (Ang):
    0.00000000    0.00000000    0.00000000   1       1  C
    0.64000000    0.63000000    0.63000000   2       2  H
   -0.63000000   -0.63000000    0.63000000   2       3  H
    0.63000000   -0.63000000   -0.63000000   2       4  H
   -0.63000000    0.63000000   -0.63000000   2       5  H

siesta: Program's energy decomposition (eV):
"""


def relax(folder: Path, kind: str) -> tuple[str, str]:
    """Make a relaxation with two steps of a single point; return the output before and after what is added."""
    edit_both(folder, ('MD.NumCGsteps 0', 'MD.NumCGsteps 5'))
    text = (folder / 'ch4.out').read_text(encoding='utf-8')
    head, tail = text.rsplit("siesta: Program's energy decomposition (eV):\n", 1)
    moved = STEP.format(step=1) + '\n' + LAST.format(kind=kind)
    (folder / 'ch4.out').write_text(head + moved + tail, encoding='utf-8')
    return head, tail


@pytest.mark.parametrize(('kind', 'note'), [('Relaxed', ''), ('Final (unrelaxed)', 'the geometry was not relaxed')])
def test_a_relaxation_gives_its_last_geometry(methane: Path, kind: str, note: str) -> None:
    head, tail = relax(methane, kind)
    (methane / 'MESSAGES').write_text('WARNING: GEOM_NOT_CONV: not relaxed\n' if note else '', encoding='utf-8')
    run = read(methane)
    assert run.structure.positions[1] == pytest.approx([0.64, 0.63, 0.63])
    assert run.note.startswith(note)
    assert bool(run.note) == bool(note)
    assert not any(key.startswith('md') for key in run.parameters.extra_fdf)
    (methane / 'ch4.out').write_text(head + STEP.format(step=1) + tail, encoding='utf-8')
    assert 'does not give the geometry of the last step' in refusal(methane).message


def test_steps_before_the_last_have_an_energy(methane: Path) -> None:
    relax(methane, 'Relaxed')
    folder = open_run_folder(methane, methane)
    last = read_finished_run(folder)
    steps = read_finished_steps(folder, last)
    assert list(steps) == [0]
    label = steps[0].result.label
    assert (label.energy_ev, label.n_electrons) == (pytest.approx(-214.4220, abs=1e-4), 8)
    assert np.isnan(label.gap_ev)
    assert steps[0].structure.positions[1] == pytest.approx([0.63, 0.63, 0.63], abs=1e-5)
    assert steps[0].parameters == last.parameters


def test_hostile_lines_take_no_time() -> None:
    for text in (
        'Begin ' + ' ' * 500_000,
        f'siesta: Atomic coordinates (Bohr) and species\nsiesta: 1.{"1" * 500_000}.1\n',
    ):
        assert read_course(text, None).last is None


def test_force_constants_are_no_geometry(methane: Path) -> None:
    edit_both(methane, ('MD.TypeOfRun CG', 'MD.TypeOfRun FC'))
    assert 'as no relaxation and no dynamics do' in refusal(methane).message


def test_old_outputs_end_with_the_time(methane: Path) -> None:
    edit(methane / 'ch4.out', ('Job completed\n', ''), ('v4.1-b4-133', '3.2'))
    assert read(methane).result.label.gap_ev == pytest.approx(METHANE_GAP_EV, abs=1e-6)
    edit(methane / 'ch4.out', ('>> End of run:', '>> The end:'))
    assert refusal(methane).code == 'truncated'


PRINTED = """\
siesta: Eigenvalues (eV):
  ik is       eps
   1  1  -18.4645  -10.8649  -10.8649  -10.8649    5.4230    5.8218    5.8218    5.8218
siesta: Fermi energy =      -6.321355 eV
"""
BANDS = ' -6.32\n 0.0 1.0\n -20.0 6.0\n 4 1 2\n 0.0 -18.0 -10.8 5.3 5.4\n 1.0 -18.0 -10.7 5.2 5.4\n 0\n'


def test_without_levels_the_energy_is_the_label(methane: Path) -> None:
    (methane / 'ch4.EIG').unlink()
    run = read(methane)
    assert np.isnan([run.result.label.gap_ev, run.result.label.homo_ev, run.result.label.lumo_ev]).all()
    assert (run.result.label.energy_ev, run.result.label.n_electrons) == (pytest.approx(-214.421989), 8)
    assert run.result.label.forces_ev_per_ang.shape == (5, 3)
    assert run.note == 'ch4.EIG is not there, and no other file holds the levels: the gap is not known'
    (methane / 'ch4.bands').write_text(BANDS, encoding='utf-8')
    run = read(methane)
    assert run.result.label.gap_ev == pytest.approx(5.2 + 10.7)
    assert (run.note, run.result.label.levels_ev) == (
        'ch4.EIG is not there: the gap is that along the bands of ch4.bands',
        None,
    )
    text = (methane / 'ch4.out').read_text(encoding='utf-8')
    head, tail = text.rsplit("siesta: Program's energy decomposition (eV):\n", 1)
    (methane / 'ch4.out').write_text(f"{head}{PRINTED}siesta: Program's energy decomposition (eV):\n{tail}")
    run = read(methane)
    assert run.result.label.gap_ev == pytest.approx(METHANE_GAP_EV, abs=1e-4)
    assert run.note == 'ch4.EIG is not there: the levels are those of ch4.out'


def fix_spin(folder: Path, spin: str, levels: str) -> None:
    edit_both(folder, ('MD.TypeOfRun CG', f'Spin polarized\nSpin.Fix T\nSpin.Total {spin}\nMD.TypeOfRun CG'))
    edit(
        folder / 'ch4.out',
        ('spin components                   = 1', 'spin components                   = 2'),
        (
            'redata: Fix the spin of the system                  =   F',
            f'redata: Fix the spin of the system                  =   T\n'
            f'redata: Total spin of the system (spin value)       =     {spin}',
        ),
        ('atoms, orbitals, and projectors:      5     8', 'atoms, orbitals, and projectors:      5     6'),
    )
    (folder / 'ch4.EIG').write_text(f' -6.32135498\n 6 2 1\n 1 {levels}\n', encoding='utf-8')


def test_a_fixed_spin_has_edges_by_spin(methane: Path) -> None:
    """Five electrons up and three down: together, the eight lowest levels would be other ones."""
    fix_spin(methane, '2.000000', '-18 -11 -10 -9 -3 6  -17 -10 -9.5 -2 5 7')
    label = read(methane).result.label
    assert (label.homo_ev, label.lumo_ev, label.gap_ev) == (-3.0, -2.0, 1.0)


def test_a_fixed_spin_without_a_gap_is_refused(methane: Path) -> None:
    fix_spin(methane, '2.000000', '-18 -11 -10 -9 -1 6  -17 -10 -9.5 -8 5 7')
    assert 'there is no gap' in refusal(methane).message


def test_a_ghost_is_named(intact: dict[str, str]) -> None:
    output = intact['ch4.out'].replace('Atomic number:    1 Label: H', 'Atomic number:   -1 Label: H')
    changed = {'ch4.fdf': intact['ch4.fdf'].replace('2 1 H', '2 -1 H'), 'ch4.out': output}
    with pytest.raises(StructureError, match=r'atom 2 is a ghost: species 2 \(atomic number -1\)'):
        read_computed(texts(changed))


def test_the_output_says_what_another_version_takes_by_default(methane: Path) -> None:
    edit_both(methane, ('MeshCutoff 100 Ry\n', ''))
    run = read(methane)
    assert (run.parameters.mesh_cutoff_ry, run.parameters.electronic_temperature_kelvin) == (100.0, 300.0)


def test_elements_are_compared(methane: Path) -> None:
    edit_both(methane, ('1 6 C', '1 7 C'))
    assert 'species 1 has the atomic number 7 in ch4.fdf and 6 in ch4.out' in refusal(methane).message


@pytest.fixture(scope='module')
def intact() -> dict[str, str]:
    """Texts of the files of the recorded run of methane."""
    texts = {path.name: path.read_bytes() for path in (RECORDED / 'ch4').iterdir()}
    texts['ch4.out'] = lzma.decompress(texts.pop('ch4.out.xz'))
    return {name: content.decode() for name, content in texts.items()}


@fuzzed(batches=20)
@pytest.mark.parametrize('file', ['ch4.fdf', 'ch4.out'])
def test_no_mutation_of_a_run_has_another_structure(intact: dict[str, str], file: str, seed: int) -> None:
    """Input and output hold the geometry twice: a change of one is refused, or changes nothing."""
    expected = read_computed(texts(intact))
    for content in mutations(intact[file].encode(), seed, count=25):
        try:
            found = read_computed(texts(intact | {file: content.decode('utf-8', 'replace')}))
        except (EngineError, StructureError, EvaluationError):
            continue
        assert found.structure.numbers.tolist() == expected.structure.numbers.tolist()
        np.testing.assert_allclose(found.structure.positions, expected.structure.positions, atol=2e-3)


def texts(files: dict[str, str]) -> RunTexts:
    return RunTexts(read_fdf(files['ch4.fdf'], files.get), 'ch4.fdf', 'ch4.out', files.get)


@pytest.mark.parametrize('name', ['ch4', 'al'])
def test_sisl_reads_the_same_geometry(tmp_path: Path, name: str) -> None:
    import sisl

    folder = unpack(name, tmp_path / name)
    known = sisl.get_sile(folder / f'{name}.fdf').read_geometry(order=['fdf'])
    structure = read(folder).structure
    np.testing.assert_allclose(structure.cell, known.cell, atol=1e-6)
    np.testing.assert_allclose(structure.positions, known.xyz, atol=1e-6)
    assert structure.numbers.tolist() == known.atoms.Z.tolist()
    known.write(folder / 'other.XV')
    known.write(folder / 'other.STRUCT_OUT')
    for again in read_geometry_files(lambda file: (folder / file).read_text(encoding='utf-8'), 'other'):
        np.testing.assert_allclose(again.cell, known.cell, atol=1e-6)
        np.testing.assert_allclose(again.positions, known.xyz, atol=1e-6)


def test_runs_with_names_and_labels_of_their_own_share_a_folder(methane: Path) -> None:
    other = methane / 'other'
    unpack('al', other)
    for path in other.iterdir():
        path.rename(methane / path.name)
    other.rmdir()
    (methane / 'MESSAGES').write_text('WARNING: SCF_NOT_CONV: of one of the two\n', encoding='utf-8')
    assert tell_runs_apart(methane, methane) == ['al.fdf', 'ch4.fdf']
    gaps = [
        read_finished_run(open_run_folder(methane, methane, name)).result.label.gap_ev for name in ('al.fdf', 'ch4.fdf')
    ]
    assert gaps == pytest.approx([1.01157209, METHANE_GAP_EV], abs=1e-6)
    edit(methane / 'al.fdf', ('SystemLabel al', 'SystemLabel ch4'))
    assert tell_runs_apart(methane, methane) == [], 'the file of levels is that of one of them'
    assert 'SystemLabel ch4' in refusal(methane).message


def test_what_is_written_may_change_after_the_run(methane: Path) -> None:
    edit(methane / 'ch4.fdf', ('SystemName x', 'SystemName methane\nDM.UseSaveDM T\nWriteForces T'))
    assert read(methane).result.label.gap_ev == pytest.approx(METHANE_GAP_EV, abs=1e-6)
    edit(methane / 'ch4.fdf', ('DM.UseSaveDM T', 'UseSaveData T'))
    assert 'UseSaveData differs' in refusal(methane).message


def test_a_run_that_was_asked_to_stop_was_not_killed(methane: Path) -> None:
    text = (methane / 'ch4.out').read_text(encoding='utf-8')
    (methane / 'ch4.out').write_text(text[:9000] + '\nS only\nRequested End of Run. Bye!!\n', encoding='utf-8')
    assert 'as its input asks' in refusal(methane).message


def test_geometry_of_a_file_that_the_output_announces(methane: Path) -> None:
    edit(
        methane / 'ch4.out', ('siesta: Atomic coordinates (Bohr)', f'{XV_PREVAILS}\nsiesta: Atomic coordinates (Bohr)')
    )
    edit_both(methane, ('0.63000000 0.63000000 0.63000000', '0.63 0.63 0.83'))
    assert read(methane).structure.positions[1] == pytest.approx([0.63, 0.63, 0.63], abs=1e-4)


def test_the_output_alone_says_that_a_density_did_not_converge(methane: Path) -> None:
    edit(methane / 'ch4.out', ('SCF cycle converged after', 'SCF_NOT_CONV: one step\nSCF cycle converged after'))
    assert refusal(methane).code == 'not_converged'


def test_a_compressed_input_is_an_input(methane: Path) -> None:
    (methane / 'ch4.fdf.gz').write_bytes(gzip.compress((methane / 'ch4.fdf').read_bytes()))
    assert open_run_folder(methane, methane).input == 'ch4.fdf', 'the same file twice'
    (methane / 'ch4.fdf').unlink()
    assert read(methane).result.label.gap_ev == pytest.approx(METHANE_GAP_EV, abs=1e-6)


@pytest.mark.parametrize(
    ('line', 'what'),
    [
        ('NetCharge 1.0', 'NetCharge is 1 in ch4.fdf and 0.0000 in ch4.out'),
        ('Spin polarised', 'spin components is 2 in ch4.fdf and 1 in ch4.out'),
        ('ElectronicTemperature 25 meV', 'ElectronicTemperature is 290.1'),
        ('Mesh_Cutoff = 2000 eV', 'MeshCutoff is 146.9'),
        ('SpinOrbit T', 'spin components is 4 in ch4.fdf'),
    ],
)
def test_the_output_has_the_settings_of_the_input(methane: Path, line: str, what: str) -> None:
    """Also where the output does not repeat its input."""
    edit(methane / 'ch4.out', ('Dump of input data file', 'Nothing'))
    edit(methane / 'ch4.fdf', ('MeshCutoff 100 Ry', line))
    error = refusal(methane)
    assert error.code == 'input_changed'
    assert what in error.message


def test_the_file_of_the_hamiltonian_gives_no_levels(methane: Path) -> None:
    (methane / 'ch4.EIG').unlink()
    (methane / 'ch4.nc').write_bytes(b'\x89HDF')
    assert read(methane).note.endswith('the gap is not known; ch4.nc holds the Hamiltonian, but no levels')
