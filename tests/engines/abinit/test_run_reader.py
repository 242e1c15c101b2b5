"""Finished runs of ABINIT: labels, energies without levels, and reasons to refuse."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from aiida_nanoml.engines.abinit.engine import AbinitEngine
from aiida_nanoml.engines.abinit.parameters import AbinitParameters
from aiida_nanoml.engines.abinit.run_reader import AbinitRunReader
from aiida_nanoml.engines.finished_runs import ProgramRun, RunFolderError, read_text
from aiida_nanoml.engines.pseudopotentials import bundled, digest
from aiida_nanoml.engines.registry import RUN_READERS
from aiida_nanoml.engines.run_search import find_outputs, source_of
from aiida_nanoml.errors import FailureCode
from aiida_nanoml.structures import StructureSet, place
from aiida_nanoml.structures.vacuum import measure_vacuum
from tests.engines.abinit.runs import RUNS, change, copy_run
from tests.mutations import fuzzed, mutations

FINISHED = Path(__file__).parents[2] / 'recorded' / 'abinit'


def copy_finished(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(FINISHED / name, folder / name))


def read(folder: Path, name: str = 'run.abo') -> ProgramRun:
    return AbinitRunReader().read(folder, name, folder.resolve())


def refusal(folder: Path, name: str = 'run.abo') -> RunFolderError:
    with pytest.raises(RunFolderError) as caught:
        read(folder, name)
    return caught.value


def parameters_of(run: ProgramRun) -> AbinitParameters:
    assert isinstance(run.parameters, AbinitParameters)
    return run.parameters


def test_it_is_registered() -> None:
    assert RUN_READERS.load('abinit') is AbinitRunReader


@pytest.mark.parametrize('name', ['hydrogen-cyanide', 'methyl', 'bh3', 'aluminium'])
def test_runs_of_the_engine_are_read_as_the_engine_reads_them(name: str) -> None:
    recorded = RUNS[name]
    run = read(recorded.folder, 'aiida.abo')
    for field, value in recorded.about['label'].items():
        assert getattr(run.label, field) == pytest.approx(value, abs=1e-9), field
    expected = recorded.engine(AbinitEngine).settings.model_dump()
    names = {'pseudopotential_names': {symbol: f'{symbol}.psp8' for symbol in set(run.structure.symbols)}}
    if name == 'aluminium':  # which mesh was asked for is not told, only the one that came of it
        expected |= {'k_density': None, 'k_grid': [4, 4, 4], 'vacuum_ang': 10.0}
    assert run.parameters.model_dump() == expected | names
    assert run.structure.pbc.any() == (name == 'aluminium')
    given = StructureSet.from_structures([recorded.structure])
    assert StructureSet.from_structures([run.structure]).hashes == given.hashes
    assert run.version == '9.6.2'
    assert run.wall_s is not None
    assert 'only the names are known' in run.note
    assert set(run.files) == {'aiida.abo', 'aiidao_EIG', 'aiidao_EIG.nc'}
    assert source_of('abinit', run).title.endswith('(ABINIT)')


def test_pseudopotentials_beside_the_run_are_known(tmp_path: Path) -> None:
    folder = copy_run('hydrogen-cyanide', tmp_path)
    for element in ('C', 'H', 'N'):
        shutil.copy(bundled('psp8')[element], folder)
    run = read(folder, 'aiida.abo')
    assert run.pseudopotentials == {element: digest(bundled('psp8')[element]) for element in ('C', 'H', 'N')}
    assert parameters_of(run) == RUNS['hydrogen-cyanide'].engine(AbinitEngine).settings
    assert run.note == ''


def test_a_log_tells_the_pseudopotentials() -> None:
    run = read(FINISHED / 'two-cutoffs')
    assert run.pseudopotentials == {'H': digest(bundled('psp8')['H'])}
    assert parameters_of(run).pseudopotential_names == {}


def test_of_several_data_sets_the_last_that_converged_counts() -> None:
    """The second one, with 6 Ha, stopped after three iterations."""
    run = read(FINISHED / 'two-cutoffs')
    assert parameters_of(run).cutoff_hartree == 5.0
    assert parameters_of(run).max_scf_iterations == 30
    assert run.note.startswith('data set 1 of 2, the last ground state that converged')
    text = read_text(FINISHED / 'two-cutoffs' / 'run.abo', FINISHED.resolve())
    assert text is not None
    printed = re.findall(r'^ +etotal1 +(\S+)', text, re.MULTILINE)
    assert run.label.energy_ev == pytest.approx(float(printed[0]) * 27.211386245988, abs=1e-6)
    assert set(run.files) == {'run.abo', 'runo_DS1_EIG'}


def test_bands_after_the_ground_state_are_none() -> None:
    run = read(FINISHED / 'bands')
    assert run.note.startswith('data set 1 of 2')
    assert run.label.gap_ev == pytest.approx(9.5055, abs=1e-3)


def test_bands_alone_are_refused(tmp_path: Path) -> None:
    folder = copy_finished('bands', tmp_path)
    text = (folder / 'run.abo').read_text()
    first, second = text.index('== DATASET  1'), text.index('== DATASET  2')
    (folder / 'run.abo').write_text(text[:first] + text[second:])
    failure = refusal(folder)
    assert failure.code == FailureCode.NO_OUTPUT
    assert 'no self-consistent ground state' in failure.message


def test_a_relaxation_gives_its_last_geometry() -> None:
    run = read(FINISHED / 'relaxation')
    assert not run.structure.pbc.any()
    bond = float(np.linalg.norm(run.structure.positions[0] - run.structure.positions[1]))
    assert bond == pytest.approx(0.80, abs=0.05)
    assert abs(bond - 1.45 * 0.529177210903) > 1e-3, 'it began with another one'
    assert run.label.forces_ev_per_ang is not None
    assert np.abs(run.label.forces_ev_per_ang).max() < 1e-3 * 51.43
    assert parameters_of(run).extra == {}
    assert run.label.gap_ev > 5


def test_a_relaxation_that_did_not_end_is_told(tmp_path: Path) -> None:
    folder = copy_finished('relaxation', tmp_path)
    change(
        folder / 'run.abo',
        ' ----iterations',
        '  ntime=    8 was not enough Broyd/MD steps to converge gradients: \n ----',
    )
    assert 'was not relaxed' in read(folder).note


def test_filled_levels_only_give_an_energy() -> None:
    run = read(FINISHED / 'occupied-only')
    assert np.isnan(run.label.gap_ev)
    assert run.label.levels_ev is None
    assert run.label.n_electrons == 2
    assert run.label.energy_ev == pytest.approx(-29.29855, abs=1e-4)
    assert 'leave no HOMO or no LUMO' in run.note


def test_the_first_k_point_only_gives_an_energy(tmp_path: Path) -> None:
    folder = copy_run('aluminium', tmp_path)
    (folder / 'aiidao_EIG').unlink()
    (folder / 'aiidao_EIG.nc').unlink()
    run = read(folder, 'aiida.abo')
    assert np.isnan(run.label.gap_ev)
    assert run.label.energy_ev == pytest.approx(RUNS['aluminium'].about['label']['energy_ev'])
    assert 'prints the levels of some k-points only' in run.note


def test_levels_of_netcdf_alone_do(tmp_path: Path) -> None:
    folder = copy_run('hydrogen-cyanide', tmp_path)
    (folder / 'aiidao_EIG').unlink()
    assert read(folder, 'aiida.abo').label.gap_ev == RUNS['hydrogen-cyanide'].about['label']['gap_ev']


def test_levels_in_the_output_alone_do(tmp_path: Path) -> None:
    folder = copy_run('methyl', tmp_path)
    (folder / 'aiidao_EIG').unlink()
    (folder / 'aiidao_EIG.nc').unlink()
    assert read(folder, 'aiida.abo').label.gap_ev == pytest.approx(RUNS['methyl'].about['label']['gap_ev'], abs=3e-4)


def test_a_fermi_level_of_asterisks_is_none(tmp_path: Path) -> None:
    folder = copy_run('hydrogen-cyanide', tmp_path)
    for name in ('aiida.abo', 'aiidao_EIG'):
        text = (folder / name).read_text()
        text = re.sub(r'energy \(hartree\) = +-\d\.\d+', 'energy (hartree) =********', text)
        (folder / name).write_text(re.sub(r'fermie +: .*\n', '', text))
    run = read(folder, 'aiida.abo')
    assert run.label.fermi_ev is None
    assert run.label.gap_ev == RUNS['hydrogen-cyanide'].about['label']['gap_ev']


@pytest.mark.parametrize(
    ('name', 'code', 'reason'),
    [
        ('not-converged', 'not_converged', 'did not converge (3 iterations)'),
        ('killed', 'truncated', 'the run was killed'),
        ('wrong-input', 'engine_failure', 'TOLVARS'),
        ('missing-pseudopotential', 'missing_pseudopotential', 'N.psp8'),
        ('out-of-memory', 'out_of_memory', 'the memory is exhausted'),
    ],
)
def test_runs_without_a_result_are_refused(name: str, code: str, reason: str) -> None:
    failure = refusal(RUNS[name].folder, 'aiida.abo')
    assert failure.code == code
    assert reason in failure.message


@pytest.mark.parametrize(
    ('old', 'new', 'reason'),
    [
        (
            '           znucl        1.00000',
            '           znucl        1.50000',
            'a kind of atom has the nuclear charge 1.5',
        ),
        ('           natom           2', '           natom           3', 'typat has 2 kinds for 3 atoms'),
        ('             ixc           2', '             ixc          2x', "ixc is '2x'"),
        (
            '           znucl        1.00000',
            '           znucl        7.00000',
            'the nuclear charge 7, its pseudopotential 1',
        ),
        ('             ixc           2', '     xcart_1img           2', 'several images of a path'),
    ],
)
def test_what_is_not_understood_is_refused(old: str, new: str, reason: str, tmp_path: Path) -> None:
    folder = copy_finished('occupied-only', tmp_path)
    text = (folder / 'run.abo').read_text()
    assert old in text
    (folder / 'run.abo').write_text(text.replace(old, new))
    assert reason in refusal(folder).message


@pytest.mark.parametrize(
    ('old', 'new', 'reason'),
    [
        ('ecut      6.0', 'ecut      7.0', 'ecut is not the same before and after'),
        ('acell      1.6', 'acell      1.7', 'acell is not the same before and after'),
        ('xcart      7.0', 'xcart      7.1', 'xred and xcart'),
        ('    1      3.70', '    1      3.90', 'these positions are not those of the variables'),
        (' R(1)= 16.0', ' R(1)= 17.0', 'this is not the lattice vector of acell'),
    ],
)
def test_a_number_that_is_told_twice_is_the_same(old: str, new: str, reason: str, tmp_path: Path) -> None:
    folder = copy_finished('occupied-only', tmp_path)
    change(folder / 'run.abo', old, new)
    assert reason in refusal(folder).message


def test_other_physics_is_another_source(tmp_path: Path) -> None:
    folder = copy_finished('occupied-only', tmp_path)
    plain = parameters_of(read(folder))
    text = (folder / 'run.abo').read_text()
    for added, expected in (
        ('          vdw_xc           7', {'vdw_xc': '7'}),
        ('          charge  1.00000000E-01', {'charge': '0.1'}),
        ('            ntime           5', {}),
    ):
        mark = '             ixc           2\n'
        (folder / 'run.abo').write_text(text.replace(mark, f'{mark}{added}\n'))
        if 'charge' in added:
            assert 'the pseudopotentials that it names bring 1.9' in refusal(folder).message
            continue
        assert parameters_of(read(folder)).extra == expected
    (folder / 'run.abo').write_text(text.replace('ixc           2', 'ixc          41'))
    assert parameters_of(read(folder)).functional == 'HYB-PBE0'
    assert plain.functional == 'LDA-CA'


def test_bytes_that_are_no_text_and_line_ends_of_windows_survive(tmp_path: Path) -> None:
    folder = copy_finished('relaxation', tmp_path)
    expected = read(folder).label
    content = (folder / 'run.abo').read_bytes().replace(b'\n', b'\r\n')
    (folder / 'run.abo').write_bytes(content.replace(b'.Copyright', b'.Copyright \xe9\xff'))
    assert read(folder).label == expected


def test_outputs_are_found_by_what_they_hold(tmp_path: Path) -> None:
    folder = copy_finished('two-cutoffs', tmp_path)
    (folder / 'run.abo').rename(folder / 'odd.name')
    (folder / 'other.out').write_text('Siesta Version  : v4.1-b4\n')
    found = list(find_outputs(tmp_path, lambda error: None))
    assert [outputs.readers['odd.name'] for outputs in found] == ['abinit']
    assert 'log' not in found[0].readers, 'it repeats the main output'
    assert AbinitRunReader().choose(['log']) == ['log']


def test_an_isolated_structure_is_whole_and_has_its_vacuum() -> None:
    run = read(RUNS['bh3'].folder, 'aiida.abo')
    boxed = place(RUNS['bh3'].structure, 5.0)
    assert measure_vacuum(run.structure) == pytest.approx(measure_vacuum(boxed), abs=1e-6)
    assert parameters_of(run).vacuum_ang == 5.0


def test_fixed_occupations_of_two_spins_need_their_difference(tmp_path: Path) -> None:
    folder = copy_run('methyl', tmp_path)
    text = (folder / 'aiida.abo').read_text()
    fixed = re.sub(r'( +)occopt +3\n', r'\1occopt           1\n', text)
    assert fixed != text
    (folder / 'aiida.abo').write_text(fixed)
    run = read(folder, 'aiida.abo')
    assert np.isnan(run.label.gap_ev)
    assert 'leave no HOMO or no LUMO' in run.note
    mark = '           occopt           1\n'
    (folder / 'aiida.abo').write_text(fixed.replace(mark, f'{mark}   spinmagntarget  1.00000000E+00\n'))
    run = read(folder, 'aiida.abo')
    assert run.label.gap_ev == pytest.approx(RUNS['methyl'].about['label']['gap_ev'], abs=1e-9)
    assert parameters_of(run).extra == {'spinmagntarget': '1'}


def test_versions_that_were_never_tried_are_told(tmp_path: Path) -> None:
    folder = copy_finished('occupied-only', tmp_path)
    change(folder / 'run.abo', '.Version 9.6.2', '.Version 6.12.4')
    run = read(folder)
    assert run.version == '6.12.4'
    assert 'runs of ABINIT 6.12.4 were never tried here' in run.note


@pytest.mark.parametrize('name', ['two-cutoffs', 'relaxation', 'bands', 'occupied-only'])
@fuzzed(6)
def test_no_mutation_of_a_run_gives_a_wrong_number(name: str, seed: int) -> None:
    expected = read(FINISHED / name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_finished(name, Path(temporary))
        files = sorted(path for path in folder.iterdir() if path.name.startswith('run') and path.suffix != '.abi')
        file = files[seed % len(files)]
        for mutation in mutations(file.read_bytes(), seed, 90):
            file.write_bytes(mutation)
            check_mutated(folder, expected)


def check_mutated(folder: Path, expected: ProgramRun) -> None:
    """The label is the same, or that of the other data set, or there is a reason."""
    try:
        run = read(folder)
    except RunFolderError:
        return
    if run.note.startswith('data set 2'):
        return
    assert run.label.energy_ev == pytest.approx(expected.label.energy_ev, abs=1e-3)
    if not np.isnan(run.label.gap_ev):
        assert run.label.gap_ev == pytest.approx(expected.label.gap_ev, abs=1e-3)
    assert run.label.n_electrons == expected.label.n_electrons
    assert run.structure.numbers.tolist() == expected.structure.numbers.tolist()
    np.testing.assert_allclose(run.structure.positions, expected.structure.positions, atol=1e-4)
    np.testing.assert_allclose(run.structure.cell, expected.structure.cell, atol=1e-4)
    for name in ('functional', 'spin', 'k_grid'):
        assert getattr(run.parameters, name) == getattr(expected.parameters, name)
    for name in ('cutoff_hartree', 'electronic_temperature_kelvin'):
        assert getattr(run.parameters, name) == pytest.approx(getattr(expected.parameters, name), rel=1e-4), name
