"""Finished runs of CP2K: what is read of them, and what is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiida_nanoml.engines.cp2k.engine import Cp2kEngine
from aiida_nanoml.engines.cp2k.input_reading import further_input, read_cell, read_input
from aiida_nanoml.engines.cp2k.output import read_forces, read_stress
from aiida_nanoml.engines.cp2k.run_reader import Cp2kRunReader
from aiida_nanoml.engines.finished_runs import HEAD_BYTES, ProgramRun, RunFolderError
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.testing.recordings import recordings_of
from tests.mutations import fuzzed, mutations

RUNS = Path(__file__).parents[2] / 'recorded' / 'cp2k'
ENERGY_EV = -30.6815
GAP_EV = 11.984

FROM_FILE = '&SUBSYS\n&TOPOLOGY\nCOORD_FILE_NAME ./h2.xyz\nCOORD_FILE_FORMAT XYZ\n&END TOPOLOGY'

Edit = Callable[[str], str]


def read(folder: Path, name: str = 'h2.out') -> ProgramRun:
    return Cp2kRunReader().read(folder, name, folder)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """Copy a run, and change its output."""

    def copy(name: str, edit: Edit, *, keep_input: bool = True) -> Path:
        folder = tmp_path / name
        shutil.copytree(RUNS / name, folder)
        if not keep_input:
            (folder / 'h2.inp').unlink()
        output = folder / 'h2.out'
        text = output.read_text()
        changed = edit(text)
        assert changed != text
        output.write_text(changed)
        return folder

    return copy


def refusal(folder: Path) -> RunFolderError:
    with pytest.raises(RunFolderError) as caught:
        read(folder)
    return caught.value


def test_outputs_are_recognised_by_what_they_hold() -> None:
    assert Cp2kRunReader.recognises((RUNS / 'lists' / 'h2.out').read_text()[:HEAD_BYTES])
    assert not Cp2kRunReader.recognises((RUNS / 'lists' / 'h2.inp').read_text())
    assert not Cp2kRunReader.recognises('SIESTA 4.1, compared with CP2K')


@pytest.mark.parametrize('name', ['lists', 'tables', 'kinds', 'twice', 'brief'])
def test_a_run_gives_its_label_and_complete_parameters(name: str) -> None:
    run = read(RUNS / name)
    label = run.label
    assert label.energy_ev == pytest.approx(ENERGY_EV, abs=1e-3)
    assert label.gap_ev == pytest.approx(GAP_EV, abs=2e-3)
    assert (label.n_electrons, label.open_shell) == (2, False)
    assert label.forces_ev_per_ang is not None
    np.testing.assert_allclose(label.forces_ev_per_ang.sum(axis=0), 0, atol=1e-3)
    assert run.structure.numbers.tolist() == [1, 1]
    assert not run.structure.pbc.any()
    assert np.linalg.norm(run.structure.positions[1] - run.structure.positions[0]) == pytest.approx(0.76, abs=1e-6)
    assert (run.version, set(run.files)) == ('2023.1', {'h2.out', 'h2.inp'})
    settings = run.parameters.model_dump()
    assert settings['functional'] == 'LDA-PADE'
    assert settings['pseudopotential_set'] == 'GTH-PADE'
    assert settings['basis_set'] == 'DZVP-MOLOPT-SR-GTH'
    assert settings['cutoff_ry'] == pytest.approx(120)
    assert settings['rel_cutoff_ry'] == pytest.approx(60, abs=21)
    assert settings['extra_input'] == {}
    assert 'known by their names only' in run.note
    assert ('run 2 of the 2' in run.note) == (name == 'twice')
    assert ('printed briefly' in run.note) == (name == 'brief')


def test_runs_of_the_engine_are_read_as_the_engine_reads_them() -> None:
    for recording in recordings_of(Cp2kEngine):
        if 'label' not in recording.about:
            continue
        run = Cp2kRunReader().read(recording.folder, 'aiida.out', recording.folder)
        for field in ('energy_ev', 'gap_ev', 'homo_ev', 'n_electrons', 'fermi_ev'):
            expected = recording.about['label'][field]
            assert getattr(run.label, field) == pytest.approx(expected, abs=1e-6), recording.folder.name
        assert run.structure.pbc.any() == (recording.about['cell_ang'] is not None)


def test_a_brief_output_takes_structure_and_settings_from_its_input_and_what_that_includes(tmp_path: Path) -> None:
    shutil.copytree(RUNS / 'brief', tmp_path / 'run')
    folder = tmp_path / 'run'
    text = (folder / 'h2.inp').read_text()
    atoms = re.findall(r'^ +H .*$', text, re.M)
    (folder / 'atoms.inc').write_text('\n'.join(atoms))
    first, last = text.index(atoms[0]), text.index(atoms[-1]) + len(atoms[-1])
    (folder / 'h2.inp').write_text(text[:first] + "@include 'atoms.inc'\n" + text[last:])
    assert read(folder).parameters == read(RUNS / 'brief').parameters
    (folder / 'h2.inp').write_text(text[:first] + text[last:])
    (folder / 'h2.inp').write_text((folder / 'h2.inp').read_text().replace('&SUBSYS', FROM_FILE))
    (folder / 'h2.xyz').write_text('2\n\n' + '\n'.join(atoms))
    assert read(folder).structure.positions == pytest.approx(read(RUNS / 'brief').structure.positions)
    (folder / 'h2.inp').write_text(text.replace(atoms[-1], 'SCALED'))
    assert refusal(folder).message == 'the output does not show the coordinates of the atoms'
    (folder / 'h2.inp').unlink()
    assert refusal(folder).code == FailureCode.NO_INPUT


def test_the_last_geometry_of_a_relaxation_counts(edited: Callable[..., Path]) -> None:
    run = read(RUNS / 'geometry')
    assert 'the last of' in run.note
    assert run.label.energy_ev < ENERGY_EV - 0.01
    bond = np.linalg.norm(run.structure.positions[1] - run.structure.positions[0])
    assert 0.7 < bond < 0.75, 'shorter than the 0.76 Å that it began with'
    folder = edited('geometry', lambda text: text.replace('PROGRAM RAN ON', 'PROGRAM RAN  ON'))
    (folder / 'h2-pos-1.xyz').unlink()
    first = read(folder)
    assert 'the first of' in first.note
    assert first.label.energy_ev == pytest.approx(ENERGY_EV, abs=1e-3)
    assert np.linalg.norm(np.diff(first.structure.positions, axis=0)) == pytest.approx(0.76, abs=1e-6)


def test_dispersion_makes_another_source_with_and_without_the_input(edited: Callable[..., Path]) -> None:
    with_input = read(RUNS / 'dispersion').parameters.model_dump()['extra_input']
    assert with_input['DFT/XC/VDW_POTENTIAL/PAIR_POTENTIAL/TYPE'] == 'DFTD3'
    folder = edited('dispersion', lambda text: text.replace('RAN BY', 'RAN  BY'), keep_input=False)
    printed = read(folder).parameters.model_dump()['extra_input']
    assert printed['DFT/XC/VDW_POTENTIAL/PRINTED_2'] == 'DFT-D3 (Version 3.1)'


def test_a_fixed_moment_has_no_gap_where_an_empty_level_lies_below() -> None:
    run = read(RUNS / 'triplet')
    assert np.isnan(run.label.gap_ev)
    assert 'an empty level lies below an occupied one' in run.note
    assert run.parameters.model_dump()['extra_input'] == {'DFT/MULTIPLICITY': '3'}


@pytest.mark.parametrize(
    ('name', 'code', 'sentence'),
    [
        ('unconverged', FailureCode.NOT_CONVERGED, 'though the run went on'),
        ('exit', FailureCode.NOT_CONVERGED, 'ended from outside, by EXIT'),
    ],
)
def test_runs_that_only_say_that_they_ended_are_refused(name: str, code: FailureCode, sentence: str) -> None:
    error = refusal(RUNS / name)
    assert error.code == code
    assert sentence in error.message


def _without_end(text: str) -> str:
    return text[: text.index('PROGRAM ENDED')]


@pytest.mark.parametrize(
    ('edit', 'code'),
    [
        (_without_end, FailureCode.TRUNCATED),
        (
            lambda text: text.replace('Run type' + ' ' * 48, 'Run type' + ' ' * 48).replace('ENERGY_FORCE', 'BAND'),
            FailureCode.INPUT_REFUSED,
        ),
        (lambda text: text.replace('( QS )', '( FIST )'), FailureCode.INPUT_REFUSED),
        (lambda text: re.sub(r'(?m)^ QS\| Method: .*$', ' QS| Method: xTB', text), FailureCode.INPUT_REFUSED),
        (lambda text: re.sub(r'(?m)(^ ENERGY\|.*:) .*$', r'\1  ****************', text), FailureCode.ENGINE_FAILURE),
        (
            lambda text: text.replace(
                'Number of electrons:                                                          2',
                'Number of electrons:                                                          3',
            ),
            FailureCode.INCONSISTENT,
        ),
        (lambda text: text.replace('PROGRAM STARTED', 'PROGRAM'), FailureCode.TRUNCATED),
        (lambda text: '\n'.join(line for line in text.splitlines() for _ in range(2)), FailureCode.AMBIGUOUS),
    ],
)
def test_runs_that_cannot_be_used_are_refused_for_the_true_reason(
    edited: Callable[..., Path], edit: Edit, code: FailureCode
) -> None:
    assert refusal(edited('lists', edit)).code == code


def test_levels_that_are_none_leave_the_energy(edited: Callable[..., Path]) -> None:
    def zeros(text: str) -> str:
        return re.sub(r'(?m)^( MO\| +\d+ +)-?\d+\.\d+( +)-?\d+\.\d+', r'\g<1>0.000000\g<2>0.000000', text)

    run = read(edited('tables', zeros))
    assert run.label.energy_ev == pytest.approx(ENERGY_EV, abs=1e-3)
    assert np.isnan(run.label.gap_ev)
    assert 'CP2K did not compute them' in run.note


def test_messages_inside_lists_and_tables_are_passed_over(edited: Callable[..., Path]) -> None:
    message = '\n *** WARNING in qs_scf.F:598 :: something happened ***\n'

    def into_list(text: str) -> str:
        place = text.index('unoccupied subspace')
        place = text.index('\n', text.index('\n', place) + 1)
        return text[:place] + message + text[place:]

    def into_table(text: str) -> str:
        place = text.index('\n MO|      2 ')
        return text[:place] + message + text[place:]

    for name, edit in (('lists', into_list), ('tables', into_table)):
        assert read(edited(name, edit)).label.gap_ev == pytest.approx(GAP_EV, abs=2e-3)


def test_forces_and_stress_are_read_in_the_spelling_of_each_version() -> None:
    newer = """ FORCES| Atomic forces [hartree/bohr]
 FORCES|   Atom     x               y               z               |f|
 FORCES|      1 -2.50000000E-02  0.00000000E+00  1.00000000E-02   2.69258240E-02
 FORCES|      2  2.50000000E-02  0.00000000E+00 -1.00000000E-02   2.69258240E-02
 FORCES| Sum     0.00000000E+00  0.00000000E+00  0.00000000E+00
"""
    older = """ ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      H1         -0.02500000     0.00000000     0.01000000
      2      2      H           0.02500000     0.00000000    -0.01000000
 SUM OF ATOMIC FORCES           0.00000000     0.00000000     0.00000000     0.00000000
"""
    in_ev_per_ang = 0.025 * 27.211386 / 0.5291772
    for text in (newer, older):
        forces = read_forces(text, 2)
        assert forces[:, 0] == pytest.approx([-in_ev_per_ang, in_ev_per_ang], rel=1e-6)
        with pytest.raises(EvaluationError, match='no forces of all 3 atoms'):
            read_forces(text, 3)
    stresses = (
        (' STRESS TENSOR [GPa]\n\n            X               Y               Z\n', '  '),
        (' STRESS| Analytical stress tensor [GPa]\n STRESS|           x           y           z\n', ' STRESS|      '),
    )
    for heading, margin in stresses:
        rows = ''.join(f'{margin}{name}      -7.95728223     -0.07686533      0.00049141\n' for name in 'XYZ')
        with pytest.raises(EvaluationError, match='not symmetric'):
            read_stress(heading + rows)
        rows = ''.join(f'{margin}{name}      2.00000000      2.00000000      2.00000000\n' for name in 'XYZ')
        assert read_stress(heading + rows) == pytest.approx(np.full((3, 3), -2 / 160.21766), rel=1e-6)


def test_bytes_that_are_no_text_are_survived(tmp_path: Path) -> None:
    content = (RUNS / 'lists' / 'h2.out').read_bytes().replace(b'PROGRAM RAN ON', b'PROGRAM RAN \xff\xe9')
    (tmp_path / 'h2.out').write_bytes(content)
    run = read(tmp_path)
    assert run.label.gap_ev == pytest.approx(GAP_EV, abs=2e-3)
    assert set(run.files) == {'h2.out'}


def test_an_input_is_read_by_path() -> None:
    text = """
    &FORCE_EVAL
      &DFT ! comment
        CHARGE 1
        &XC
          &XC_FUNCTIONAL PBE
          &END
          &HF
            FRACTION 0.25
          &END HF
        &END XC
      &END DFT
      &SUBSYS
        &CELL
          ABC [angstrom] 9.5 9.25 10.0
        &END CELL
        &KIND Fe1
          ELEMENT Fe
        &END
        &KIND Fe2
          MAGNETIZATION -2
        &END
      &END SUBSYS
    &END FORCE_EVAL
    """
    values = read_input(text)
    assert values is not None
    assert values['DFT/CHARGE'] == '1'
    assert further_input(values) == {'DFT/XC/HF/FRACTION': '0.25', 'SUBSYS/KIND[2]/MAGNETIZATION': '-2'}
    cell = read_cell(values)
    assert cell is not None
    assert np.diag(cell).tolist() == [9.5, 9.25, 10.0]
    assert read_input('@SET A 1\n' + text) is None
    assert read_input(text + text) is None
    assert read_input(text.replace('&END DFT', '')) is None


@fuzzed(batches=10)
def test_mutations_give_the_numbers_or_a_reason(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    source = RUNS / ('lists', 'tables')[seed % 2]
    content = (source / 'h2.out').read_bytes()
    folder = tmp_path_factory.mktemp('mutation')
    shutil.copy(source / 'h2.inp', folder)
    for mutation in mutations(content, seed):
        (folder / 'h2.out').write_bytes(mutation)
        try:
            run = read(folder)
        except RunFolderError:
            continue
        assert run.label.energy_ev == pytest.approx(ENERGY_EV, abs=0.06)
        assert run.label.gap_ev == pytest.approx(GAP_EV, abs=5e-3) or np.isnan(run.label.gap_ev)
        assert run.label.n_electrons in (0, 2)
        assert len(run.structure.numbers) == 2
