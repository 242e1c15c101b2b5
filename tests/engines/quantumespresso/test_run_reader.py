"""Finished runs of pw.x as people have them: a label, an energy, or the true reason why there is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from aiida_nanoml.engines.finished_runs import ProgramRun, RunFolderError
from aiida_nanoml.engines.pseudopotentials import bundled, digest
from aiida_nanoml.engines.quantumespresso.engine import QuantumEspressoEngine
from aiida_nanoml.engines.quantumespresso.parameters import QuantumEspressoParameters
from aiida_nanoml.engines.quantumespresso.run_reader import QuantumEspressoRunReader
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.units import RYDBERG_EV
from tests.engines.quantumespresso.recorded import HYDROGEN, HYDROGEN_CYANIDE, STRUCTURES, XML, folder_of
from tests.mutations import fuzzed, mutations

OUT = 'aiida.out'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / 'run'


def copy(name: str, folder: Path, *, xml: bool = True) -> Path:
    """Copy a recorded run as a stranger would have it: without the input."""
    shutil.copytree(folder_of(name), folder, ignore=shutil.ignore_patterns('aiida.in', 'about.json'))
    if not xml:
        shutil.rmtree(folder / 'pwscf.save')
    return folder


def read(folder: Path, name: str = OUT) -> ProgramRun:
    return QuantumEspressoRunReader().read(folder, name, folder.resolve())


def failure(folder: Path, name: str = OUT) -> RunFolderError:
    with pytest.raises(RunFolderError) as caught:
        read(folder, name)
    return caught.value


def settings_of(run: ProgramRun) -> QuantumEspressoParameters:
    assert isinstance(run.parameters, QuantumEspressoParameters)
    return run.parameters


def replace(path: Path, old: str, new: str, count: int = -1) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


@pytest.mark.parametrize('name', ['hcn', 'methyl-polarized', 'methyl-fixed-spin', 'h2-fixed', 'aluminium'])
def test_a_run_has_the_label_that_the_engine_gives(name: str, folder: Path) -> None:
    run = read(copy(name, folder))
    engine = QuantumEspressoEngine(QuantumEspressoEngine.parameters('fast'))
    known = engine.read(folder_of(name), STRUCTURES[name])
    assert run.label == known
    np.testing.assert_array_equal(run.label.forces_ev_per_ang, known.forces_ev_per_ang)
    assert run.version == '6.7MaX'
    assert set(run.files) == {OUT, XML}
    assert run.note == ''
    elements = set(STRUCTURES[name].symbols)
    assert run.pseudopotentials == {element: digest(bundled('upf')[element]) for element in elements}
    assert run.structure.pbc.any() == STRUCTURES[name].pbc.any()
    assert run.structure.symbols == STRUCTURES[name].symbols
    between = [one.positions - one.positions[0] for one in (run.structure, STRUCTURES[name])]
    np.testing.assert_allclose(*between, atol=1e-6)


def test_parameters_of_a_run_are_those_of_the_engine_that_made_it(folder: Path) -> None:
    found = settings_of(read(copy('hcn', folder)))
    asked = QuantumEspressoEngine.parameters('fast', {'cutoff_ry': 25.0, 'vacuum_ang': 5.0})
    assert found.model_dump(exclude={'fine_density_cutoff_ratio', 'starting_magnetization'}) == asked.model_dump(
        exclude={'fine_density_cutoff_ratio', 'starting_magnetization'}
    )
    mesh = settings_of(read(copy('aluminium', folder.parent / 'metal')))
    assert (mesh.k_grid, mesh.k_shift, mesh.electronic_temperature_kelvin) == ([4, 4, 4], [0.5, 0.5, 0.5], 1000.0)


def test_the_output_alone_is_enough(folder: Path) -> None:
    run, known = read(copy('hcn', folder, xml=False)), read(copy('hcn', folder.parent / 'whole'))
    assert set(run.files) == {OUT}
    assert run.label.energy_ev == pytest.approx(known.label.energy_ev, abs=1e-7)
    assert run.label.gap_ev == pytest.approx(known.label.gap_ev, abs=2e-4)
    np.testing.assert_allclose(run.label.forces_ev_per_ang, known.label.forces_ev_per_ang, atol=1e-6)
    np.testing.assert_allclose(run.label.stress_ev_per_ang3, known.label.stress_ev_per_ang3, atol=2e-6)
    np.testing.assert_allclose(run.structure.positions, known.structure.positions, atol=1e-5)
    assert settings_of(run).extra == {}
    several = read(copy('aluminium', folder.parent / 'metal', xml=False))
    assert several.label.level_weights is not None
    assert several.label.level_weights.sum() == pytest.approx(2)
    assert settings_of(several).extra['k_points'].startswith('K_POINTS tpiba\n10\n')


def test_the_xml_file_alone_is_enough(folder: Path) -> None:
    copy('hcn', folder)
    known = read(folder).label
    (folder / OUT).unlink()
    run = read(folder / 'pwscf.save', Path(XML).name)
    assert run.label == known
    assert run.note == (
        'there is no standard output to compare the XML file with; of the pseudopotentials only the names are known'
    )
    assert settings_of(run).extra == {'pseudopotentials': 'C.upf H.upf N.upf'}
    assert run.pseudopotentials == {}
    engine = QuantumEspressoEngine(settings_of(run))
    with pytest.raises(EvaluationError, match='pseudopotentials in extra cannot be written'):
        engine.check(HYDROGEN)


def test_outputs_come_before_xml_files() -> None:
    reader = QuantumEspressoRunReader()
    assert reader.choose(['aiida.out', 'pwscf.xml', 'scf.out.gz']) == ['aiida.out', 'scf.out.gz']
    assert reader.choose(['a.xml', 'b.xml.gz']) == ['a.xml', 'b.xml.gz']
    assert reader.recognises((folder_of('hcn') / OUT).read_text())
    assert reader.recognises((folder_of('hcn') / XML).read_text())
    assert not reader.recognises((folder_of('hcn') / 'aiida.in').read_text())


@pytest.mark.parametrize(
    ('name', 'code', 'reason'),
    [
        ('not-converged', FailureCode.NOT_CONVERGED, 'no self-consistency after 3 iterations'),
        ('killed', FailureCode.TRUNCATED, 'ends before "JOB DONE.": the run was killed'),
        ('disk-full', FailureCode.DISK_FULL, 'error writing file ./pwscf.save/charge-density'),
        ('out-of-memory', FailureCode.OUT_OF_MEMORY, 'the memory did not suffice'),
        ('wrong-input', FailureCode.ENGINE_FAILURE, 'pw.x stopped in read_namelists'),
        ('h2-bands', FailureCode.INPUT_REFUSED, 'bands of a fixed density'),
    ],
)
def test_runs_without_a_result_are_named(name: str, code: FailureCode, reason: str, folder: Path) -> None:
    caught = failure(copy(name, folder))
    assert caught.code == code
    assert reason in caught.message


def test_bands_in_an_xml_file_have_the_energy_of_another_run(folder: Path) -> None:
    copy('h2-bands', folder)
    assert 'its energy is that of another run' in failure(folder / 'pwscf.save', Path(XML).name).message


def test_an_unconverged_xml_file_is_refused(folder: Path) -> None:
    copy('not-converged', folder)
    assert failure(folder / 'pwscf.save', Path(XML).name).code == FailureCode.NOT_CONVERGED
    claimed = folder / XML
    replace(claimed, '<convergence_achieved>false', '<convergence_achieved>true')
    assert 'the estimated error of the energy' in failure(folder / 'pwscf.save', Path(XML).name).message


def test_an_xml_file_of_another_run_is_left_aside(folder: Path) -> None:
    copy('hcn', folder)
    shutil.copy(folder_of('not-converged') / XML, folder / XML)
    run = read(folder)
    assert set(run.files) == {OUT}
    assert run.label.gap_ev == pytest.approx(7.5359, abs=2e-4)


def test_levels_that_leave_no_lumo_give_an_energy(folder: Path) -> None:
    run = read(copy('too-few-bands', folder))
    assert np.isnan(run.label.gap_ev)
    assert run.label.energy_ev / RYDBERG_EV == pytest.approx(-2.22692, abs=1e-4)
    assert run.note == '1 levels leave no LUMO; the run needs more levels (nbnd): the gap is not known'


def test_a_relaxation_counts_with_its_last_geometry(folder: Path) -> None:
    run, alone = read(copy('h2-relaxed', folder)), read(copy('h2-relaxed', folder.parent / 'text', xml=False))
    assert run.label.energy_ev / RYDBERG_EV == pytest.approx(-2.21347559, abs=1e-8)
    for one in (run, alone):
        assert one.note == ''
        assert np.linalg.norm(one.structure.positions[1] - one.structure.positions[0]) == pytest.approx(
            0.8077, abs=2e-3
        )
        assert abs(one.label.forces_ev_per_ang).max() < 0.03  # type: ignore[arg-type,type-var]
    np.testing.assert_allclose(run.structure.positions, alone.structure.positions, atol=1e-4)


def test_a_relaxation_that_did_not_end_counts_with_the_geometry_of_its_energy(folder: Path) -> None:
    """After the last step, pw.x moves the atoms once more, and writes where they would go."""
    run = read(copy('h2-unrelaxed', folder))
    assert 'not relaxed within the allowed steps' in run.note
    assert run.label.energy_ev / RYDBERG_EV == pytest.approx(-2.21322279, abs=1e-8)
    text = (folder / OUT).read_text()
    computed, moved = (
        float(text.split('ATOMIC_POSITIONS')[number].splitlines()[2].split()[3])
        - float(text.split('ATOMIC_POSITIONS')[number].splitlines()[1].split()[3])
        for number in (1, 2)
    )
    length = np.linalg.norm(run.structure.positions[1] - run.structure.positions[0])
    assert length == pytest.approx(computed, abs=1e-6)
    assert length != pytest.approx(moved, abs=1e-3)


def test_a_relaxation_whose_last_step_did_not_converge_counts_with_the_one_before(folder: Path) -> None:
    copy('h2-relaxed', folder, xml=False)
    text = (folder / OUT).read_text()
    before, _, after = text.rpartition('convergence has been achieved')
    (folder / OUT).write_text(before + 'convergence NOT achieved' + after)
    run = read(folder)
    assert run.label.energy_ev / RYDBERG_EV == pytest.approx(-2.21346640, abs=1e-8)
    assert run.note == 'no self-consistency: the label is that of the last complete step'


def test_several_runs_in_one_file(folder: Path) -> None:
    copy('hcn', folder, xml=False)
    first, second = ((folder_of(name) / OUT).read_text() for name in ('h2-fixed', 'hcn'))
    (folder / OUT).write_text(first + second)
    run = read(folder)
    assert run.structure.symbols == HYDROGEN_CYANIDE.symbols
    assert run.note == 'aiida.out holds 2 runs: the label is that of number 2'
    (folder / OUT).write_text(second + (folder_of('killed') / OUT).read_text())
    assert read(folder).note == 'aiida.out holds 2 runs: the label is that of number 1'
    (folder / OUT).write_text(second + (folder_of('h2-bands') / OUT).read_text())
    assert read(folder).structure.symbols == HYDROGEN_CYANIDE.symbols


def test_a_hybrid_functional_has_the_energy_of_its_last_cycle(folder: Path) -> None:
    run = read(copy('h2-hybrid', folder, xml=False))
    assert run.label.energy_ev / RYDBERG_EV == pytest.approx(-2.23467723, abs=1e-8)
    assert settings_of(run).extra == {'system.input_dft': "'PBE0'", 'settings': 'EXX-fraction = 0.25'}
    assert QuantumEspressoEngine(settings_of(run)).functional is None
    replace(folder / OUT, 'EXX self-consistency reached', 'EXX self-consistency')
    assert failure(folder).message == 'the exact exchange did not converge'


def test_a_makov_payne_correction_is_told_apart(folder: Path) -> None:
    run = read(copy('h2-makov-payne', folder, xml=False))
    assert run.label.energy_ev / RYDBERG_EV == pytest.approx(-1.17724806, abs=1e-8)
    assert run.note == 'the Makov-Payne correction is not part of the energy'
    assert settings_of(run).extra == {'system.assume_isolated': "'makov-payne'", 'system.tot_charge': '1'}


def test_pseudopotentials_are_found_beside_an_output_without_their_sums(folder: Path) -> None:
    copy('h2-fixed', folder, xml=False)
    text = (folder / OUT).read_text()
    (folder / OUT).write_text('\n'.join(line for line in text.splitlines() if 'MD5' not in line) + '\n')
    unknown = read(folder)
    assert unknown.pseudopotentials == {}
    assert settings_of(unknown).extra == {'pseudopotentials': 'H.upf'}
    assert unknown.note == 'of the pseudopotentials only the names are known'
    shutil.copy(bundled('upf')['H'], folder / 'H.upf')
    known = read(folder)
    assert known.pseudopotentials == {'H': digest(bundled('upf')['H'])}
    assert settings_of(known).extra == {}
    assert set(known.files) == {OUT, 'H.upf'}


def test_other_bytes_than_utf8_survive(folder: Path) -> None:
    copy('hcn', folder, xml=False)
    content = (folder / OUT).read_bytes()
    (folder / OUT).write_bytes(b'\xff\xfe\xe9\n' + content.replace(b'open-source', b'\xe9\xff'))
    assert read(folder).label.gap_ev == pytest.approx(7.5359, abs=2e-4)


def test_mutated_outputs_give_a_reason_or_the_same_energy(folder: Path) -> None:
    """Without an XML file, what is printed once cannot be checked; the energy and the forces are printed twice."""
    copy('hcn', folder, xml=False)
    content, known = (folder / OUT).read_bytes(), read(folder)

    @fuzzed(batches=8)
    def mutate(seed: int) -> None:
        for changed in mutations(content, seed, 50):
            (folder / OUT).write_bytes(changed)
            try:
                run = read(folder)
            except RunFolderError:
                continue
            assert run.label.energy_ev == pytest.approx(known.label.energy_ev, abs=1e-5)
            if run.label.forces_ev_per_ang is not None:
                np.testing.assert_allclose(run.label.forces_ev_per_ang, known.label.forces_ev_per_ang, atol=0.05)

    mutate()


def test_a_relaxation_that_was_killed_counts_with_its_last_whole_step(folder: Path) -> None:
    copy('h2-relaxed', folder, xml=False)
    text = (folder / OUT).read_text()
    third = text.index('Forces acting on atoms', text.index('-2.21346640'))
    (folder / OUT).write_text(text[: third + 120])
    run = read(folder)
    assert run.label.energy_ev / RYDBERG_EV == pytest.approx(-2.21322279, abs=1e-8)
    assert run.note.startswith('aiida.out ends before "JOB DONE.": the run was killed')
    assert run.label.forces_ev_per_ang is not None
    (folder / OUT).write_text(text[: text.index('ATOMIC_POSITIONS') - 300])
    assert failure(folder).code == FailureCode.TRUNCATED
