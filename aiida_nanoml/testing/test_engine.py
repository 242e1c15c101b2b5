"""What every engine must fulfil, built-in or not.

What is asked of an engine follows from what it declares: all owe an energy that is the same for the same structure, an
engine with ``gap`` levels that know chemistry, a periodic one crystals. Structures are those whose elements it treats;
engines that start a program get small ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from itertools import combinations_with_replacement

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aiida_nanoml.engines import Engine, EngineParameters, Label, engine_names
from aiida_nanoml.engines.base import PROPERTIES
from aiida_nanoml.engines.program import ProgramEngine, read_file
from aiida_nanoml.engines.pseudopotentials import FORMATS
from aiida_nanoml.errors import EngineError, EvaluationError
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.testing.conftest import fast
from aiida_nanoml.testing.recordings import recordings_of
from aiida_nanoml.testing.structures import METHYL, Samples, samples_for

LabelOf = Callable[[Engine, Structure], Label]


def code_of(engine: Engine, structure: Structure) -> str:
    """Return the code of the failure that a structure gives."""
    with pytest.raises(EvaluationError) as caught:
        engine.evaluate(structure)
    assert caught.value.message
    return caught.value.code


def test_there_are_structures_for_the_engine(declared_engine: Engine) -> None:
    engine = declared_engine
    found = samples_for(engine)
    assert found.molecules
    assert found.crystals or not engine.periodic
    assert found.gaps or 'gap' not in engine.properties


def test_an_engine_that_lacks_something_says_how_to_get_it(declared_engine: Engine) -> None:
    sentence = declared_engine.missing()
    assert sentence is None or 'install' in sentence
    assert declared_engine.protocols(), 'what it would do can be seen all the same'


def test_declaration(declared_engine: Engine) -> None:
    engine = declared_engine
    assert engine.name in engine_names()
    assert {'energy'} <= engine.properties <= PROPERTIES
    assert engine.title
    assert engine.theory != Engine.theory, 'the lineage of a label says what kind of theory made it'
    assert engine.method
    assert engine.url.startswith('https://'), 'a publication says where the code is found'
    assert set(engine.pseudopotential_formats) <= set(FORMATS)
    assert all(np.isfinite(value) and value > 0 for value in asdict(engine.tolerances).values())
    assert engine.runs_program == isinstance(engine, ProgramEngine)
    if engine.pseudopotential_formats:
        assert engine.functional is not None, 'pseudopotentials of another functional are refused'


def test_version(engine: Engine) -> None:
    assert re.match(r'\d+\.\d+', engine.version())


def test_recorded_runs_are_written_and_read(declared_engine: Engine) -> None:
    """An engine of a program shows, without it, what it writes, and that it reads labels and failures right."""
    kind = type(declared_engine)
    if not issubclass(kind, ProgramEngine):
        return
    recordings = list(recordings_of(kind))
    assert any('label' in recording.about for recording in recordings), 'record a run that gave a label'
    assert any('failure' in recording.about for recording in recordings), 'record a run that failed'
    for recording in recordings:
        engine = recording.engine(kind)
        for name, text in engine.files(recording.structure).items():
            kept = read_file(recording.folder / name)
            assert kept in (None, text), f'{recording.folder.name}/{name} is not what is written now'
        if 'failure' in recording.about:
            with pytest.raises(EvaluationError) as caught:
                engine.read(recording.folder, recording.structure)
            assert caught.value.code == recording.about['failure'], recording.folder.name
            continue
        label = engine.read(recording.folder, recording.structure)
        assert recording.about['label'].keys() >= {'energy_ev'}
        for field, value in recording.about['label'].items():
            assert getattr(label, field) == pytest.approx(value, abs=1e-6), f'{recording.folder.name}: {field}'


def test_every_protocol_gives_parameters(declared_engine: Engine) -> None:
    engine = declared_engine
    protocols = engine.protocols()
    assert set(protocols) >= {'fast', 'balanced', 'stringent'}
    assert engine.default_protocol() in protocols
    for name, protocol in protocols.items():
        assert len(protocol['description']) > 20
        parameters = engine.parameters(name)
        assert parameters.model_dump() == protocol['parameters'], 'a protocol must state every parameter'
    assert engine.parameters() == engine.parameters(engine.default_protocol())


def test_protocols_cannot_be_altered_by_a_caller(declared_engine: Engine) -> None:
    declared_engine.protocols()['fast']['parameters'].clear()
    assert declared_engine.parameters('fast').model_dump()


def test_override_replaces_one_parameter_only(declared_engine: Engine) -> None:
    protocols = [declared_engine.parameters(name).model_dump() for name in ('fast', 'balanced', 'stringent')]
    differing = [
        (name, value) for other in protocols[1:] for name, value in other.items() if value != protocols[0][name]
    ]
    assert differing
    for name, value in differing:
        changed = declared_engine.parameters('fast', {name: value}).model_dump()
        assert changed == {**protocols[0], name: value}


def test_wrong_parameters_are_refused_and_valid_ones_listed(declared_engine: Engine) -> None:
    valid = list(declared_engine.Parameters.model_fields)
    with pytest.raises(EngineError, match=r'no_such.*' + valid[0]):
        declared_engine.parameters('fast', {'no_such': 1})
    with pytest.raises(EngineError, match=r'no protocol .exact.; it has: .*fast'):
        declared_engine.parameters('exact')
    wrong = {float: (float('nan'), '1.0', None), str: (1.0, None), int: ('1', 1.5, None)}
    typed = [(name, type(value)) for name, value in declared_engine.parameters('fast').model_dump().items()]
    tried = [(name, value) for name, kind in typed for value in wrong.get(kind, ())]
    assert tried
    for name, value in tried:
        with pytest.raises(EngineError, match=name):
            declared_engine.parameters('fast', {name: value})


def test_constructor_refuses_foreign_parameters_and_no_threads(declared_engine: Engine) -> None:
    with pytest.raises(EngineError, match='takes parameters made by'):
        type(declared_engine)(EngineParameters())
    for threads in (0, True, 1.0):
        with pytest.raises(EngineError, match='threads'):
            type(declared_engine)(declared_engine.settings, threads=threads)  # type: ignore[arg-type]


def test_label_holds_what_is_declared(engine: Engine, samples: Samples, label_of: LabelOf) -> None:
    molecules, crystals = list(samples.molecules.values()), list(samples.crystals.values())
    for structure in [*molecules[:1], *(crystals[:1] if engine.periodic else [])]:
        label = label_of(engine, structure)
        assert np.isfinite(label.energy_ev)
        levels = [label.homo_ev, label.lumo_ev, label.gap_ev]
        if 'gap' in engine.properties:
            assert np.isfinite(levels).all()
            assert label.gap_ev == label.lumo_ev - label.homo_ev
            assert label.n_electrons > 0
        else:
            assert np.isnan(levels).all()
            assert label.levels_ev is None
            assert (label.n_electrons, label.open_shell) == (0, False)
        assert (label.forces_ev_per_ang is not None) == ('forces' in engine.properties)
        assert label.stress_ev_per_ang3 is None or 'stress' in engine.properties
        if np.all(structure.pbc):
            assert (label.stress_ev_per_ang3 is not None) == ('stress' in engine.properties)
            if 'dos_fermi' in engine.properties:
                assert label.fermi_ev is not None
                assert label.level_weights is not None
                assert label.level_weights.sum() == pytest.approx(2)
        assert label.n_iterations is None or label.n_iterations >= 1


def test_label_is_sane(gap_engine: Engine, molecule: Structure, label_of: LabelOf) -> None:
    label = label_of(gap_engine, molecule)
    core = 2 * int((molecule.numbers > 2).sum())
    assert label.n_electrons in (molecule.numbers.sum(), molecule.numbers.sum() - core), 'all, or the valence ones'
    assert not label.open_shell
    assert 4.0 < label.gap_ev < 15.0, 'eV: semilocal DFT says 5 to 8, Hartree-Fock more'
    assert -17.0 < label.homo_ev < -4.0
    assert label.energy_ev < -100.0, 'eV: valence electrons alone are as low as that'


def test_gaps_follow_chemistry(gap_engine: Engine, samples: Samples, label_of: LabelOf) -> None:
    """Boron nitride has a wider gap than carbon, a larger flake a smaller one, a triple bond more than a double one."""
    for narrow, wide, margin_ev in samples.gaps:
        label = label_of(gap_engine, narrow)
        assert 0.0 <= label.gap_ev < label_of(gap_engine, wide).gap_ev - margin_ev
        assert label.n_electrons % 2 == 0


def test_odd_electron_count_is_open_shell(gap_engine: Engine, label_of: LabelOf) -> None:
    label = label_of(gap_engine, METHYL)
    assert label.open_shell
    assert label.n_electrons % 2 == 1
    assert label.gap_ev > 1.0


def test_same_structure_same_label(engine: Engine, samples: Samples) -> None:
    """Neither an earlier structure nor the instance decides about a label."""
    structure, *_, other = samples.molecules.values()
    first = engine.evaluate(structure)
    engine.evaluate(other)
    for again in (engine.evaluate(structure), type(engine)(engine.settings).evaluate(structure)):
        assert again.energy_ev == pytest.approx(first.energy_ev, abs=1e-8)
        assert again.gap_ev == pytest.approx(first.gap_ev, abs=1e-8, nan_ok=True)
        assert again.n_iterations == first.n_iterations


def test_label_survives_motion_and_renumbering(engine: Engine, samples: Samples, seed: int, label_of: LabelOf) -> None:
    structure = list(samples.molecules.values())[-1]
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(structure.numbers))
    # The box of an isolated structure is turned along by quarter turns only.
    turn = (
        Rotation.create_group('O')[generator.integers(24)] if engine.box_dependent else Rotation.random(rng=generator)
    )
    moved = turn.apply(structure.positions) + generator.uniform(-20, 20, 3)
    label = label_of(engine, Structure(structure.numbers[order], moved[order]))
    reference = label_of(engine, structure)
    assert label.gap_ev == pytest.approx(reference.gap_ev, abs=engine.tolerances.gap_ev, nan_ok=True)
    assert label.energy_ev == pytest.approx(reference.energy_ev, abs=engine.tolerances.energy_ev * len(order))
    assert (label.n_electrons, label.open_shell) == (reference.n_electrons, reference.open_shell)


def test_box_of_an_isolated_structure_does_not_matter(engine: Engine, molecule: Structure, label_of: LabelOf) -> None:
    boxed = label_of(engine, Structure(molecule.numbers, molecule.positions, cell=np.eye(3) * 3.0))
    free = label_of(engine, molecule)
    assert boxed.energy_ev == pytest.approx(free.energy_ev, abs=1e-6)
    assert boxed.gap_ev == pytest.approx(free.gap_ev, abs=1e-8, nan_ok=True)


def test_forces_are_the_slope_of_the_energy(engine: Engine, molecule: Structure, label_of: LabelOf) -> None:
    if 'forces' not in engine.properties:
        pytest.skip(f'{engine.name} declares no forces')
    step = 1e-3
    energies = []
    for sign in (1, -1):
        positions = molecule.positions.copy()
        positions[0, 0] += sign * step
        energies.append(label_of(engine, Structure(molecule.numbers, positions)).energy_ev)
    forces = label_of(engine, molecule).forces_ev_per_ang
    assert forces is not None
    assert forces.shape == molecule.positions.shape
    assert forces[0, 0] == pytest.approx(
        -(energies[0] - energies[1]) / (2 * step), abs=engine.tolerances.force_ev_per_ang
    )
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=engine.tolerances.force_ev_per_ang)


def test_crystal_survives_motion(crystal_engine: Engine, crystal: Structure, seed: int, label_of: LabelOf) -> None:
    """Energies stay, forces and stress turn along, wherever the cell is cut and however it is turned."""
    generator = np.random.default_rng(seed)
    rotation = Rotation.random(rng=generator).as_matrix()
    lattice_steps = generator.integers(-2, 3, crystal.positions.shape)
    shifted = crystal.positions + generator.uniform(-5, 5, 3) + lattice_steps @ crystal.cell
    turned = Structure(crystal.numbers, shifted @ rotation.T, cell=crystal.cell @ rotation.T, pbc=crystal.pbc)
    label, reference = label_of(crystal_engine, turned), label_of(crystal_engine, crystal)
    assert label.energy_ev == pytest.approx(
        reference.energy_ev, abs=crystal_engine.tolerances.energy_ev * len(crystal.numbers)
    )
    if reference.forces_ev_per_ang is not None:
        np.testing.assert_allclose(label.forces_ev_per_ang, reference.forces_ev_per_ang @ rotation.T, atol=0.05)
    if reference.stress_ev_per_ang3 is not None:
        np.testing.assert_allclose(
            label.stress_ev_per_ang3, rotation @ reference.stress_ev_per_ang3 @ rotation.T, atol=2e-3
        )


def test_energy_is_extensive_and_stress_is_not(crystal_engine: Engine, crystal: Structure, label_of: LabelOf) -> None:
    """Two cells have twice the energy of one; two k-points along a cell are those of the doubled cell at Gamma."""
    doubled = Structure(
        np.tile(crystal.numbers, 2),
        np.concatenate([crystal.positions, crystal.positions + crystal.cell[0]]),
        cell=crystal.cell * [[2], [1], [1]],
        pbc=crystal.pbc,
    )
    single, double = crystal_engine, crystal_engine
    if 'k_grid' in crystal_engine.Parameters.model_fields:
        single, double = (fast(crystal_engine.name, k_grid=mesh) for mesh in ([2, 1, 1], [1, 1, 1]))
    label, reference = label_of(double, doubled), label_of(single, crystal)
    tolerance_ev = crystal_engine.tolerances.energy_ev * len(doubled.numbers)
    assert label.energy_ev == pytest.approx(2 * reference.energy_ev, abs=tolerance_ev)
    if reference.stress_ev_per_ang3 is not None:
        np.testing.assert_allclose(label.stress_ev_per_ang3, reference.stress_ev_per_ang3, atol=2e-3)


def test_stress_is_the_slope_of_the_energy(crystal_engine: Engine, crystal: Structure, label_of: LabelOf) -> None:
    if 'stress' not in crystal_engine.properties:
        pytest.skip(f'{crystal_engine.name} declares no stress')
    step = 1e-3
    components = ((0, 1),) if crystal_engine.runs_program else tuple(combinations_with_replacement(range(3), 2))
    stress = label_of(crystal_engine, crystal).stress_ev_per_ang3
    assert stress is not None
    slopes, volume = {}, abs(np.linalg.det(crystal.cell))
    for first, second in components:
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[first, second] += sign * step / 2
            strain[second, first] += sign * step / 2
            strained = Structure(
                crystal.numbers, crystal.positions @ strain, cell=crystal.cell @ strain, pbc=crystal.pbc
            )
            energies.append(label_of(crystal_engine, strained).energy_ev)
        slopes[first, second] = (energies[0] - energies[1]) / (2 * step) / volume
    assert max(map(abs, slopes.values())) > 5e-3, 'a crystal without stress proves nothing'
    tolerance = crystal_engine.tolerances.stress_ev_per_ang3
    assert {place: stress[place] for place in slopes} == pytest.approx(slopes, abs=tolerance)
    np.testing.assert_allclose(stress, stress.T, atol=1e-6)


def test_a_density_that_is_not_declared_is_refused(engine: Engine, molecule: Structure, label_of: LabelOf) -> None:
    assert label_of(engine, molecule).density is None, 'nobody asked for it'
    if 'density' in engine.properties:
        return
    with pytest.raises(EngineError, match='computes no density'):
        type(engine)(engine.settings, density=True)


def test_density_holds_the_electrons_of_the_label(density_engine: Engine, samples: Samples) -> None:
    structure = list(samples.molecules.values())[1]
    label = density_engine.evaluate(structure)
    assert label == type(density_engine)(density_engine.settings).evaluate(structure), 'asking changes no label'
    density = label.density
    assert density is not None
    assert density.charge(density.total) == pytest.approx(label.n_electrons, rel=1e-4)
    assert density.charge(density.difference) == pytest.approx(0, abs=1e-3)
    assert density.total.min() > -1e-6
    assert 0.02 < density.nmae(0) < 0.3, 'bonds hold a tenth or so of the electrons'
    boxed = density.structure
    assert StructureSet.from_structures([boxed]).hashes == StructureSet.from_structures([structure]).hashes
    edges = np.diag(boxed.cell)
    assert (boxed.positions > 2).all()
    assert (boxed.positions < edges - 2).all()


def test_density_is_where_the_atoms_are(density_engine: Engine) -> None:
    """A quarter turn and a shift of a molecule turn its density along, to what the mesh resolves."""
    quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    moments = []
    for rotation in (np.eye(3), quarter):
        structure = Structure(METHYL.numbers, (METHYL.positions + 3.0) @ rotation)
        density = density_engine.evaluate(structure).density
        assert density is not None
        grid = np.stack(np.meshgrid(*(np.arange(n) / n for n in density.shape), indexing='ij'), axis=-1)
        offsets = grid @ density.structure.cell - density.structure.positions[-1]
        moments.append(
            [
                np.einsum('ijk,ijka->a', values, offsets) * density.volume_element @ rotation.T
                for values in (density.free, density.difference)
            ]
        )
    np.testing.assert_allclose(moments[1], moments[0], atol=0.02)
    neutral_atoms = density.structure.positions - density.structure.positions[-1]
    valence = np.array([{1: 1, 6: 4}[number] for number in METHYL.numbers.tolist()])
    np.testing.assert_allclose(moments[1][0], valence @ neutral_atoms @ quarter.T, atol=0.02)


def test_unusable_structures_are_refused_before_running(engine: Engine, molecule: Structure) -> None:
    coincident = molecule.positions.copy()
    coincident[1] = coincident[0] + [0.0, 0.0, 0.3]
    assert code_of(engine, Structure(molecule.numbers, coincident)) == 'atoms_too_close'

    unknown = molecule.positions.copy()
    unknown[-1, 1] = np.nan
    assert code_of(engine, Structure(molecule.numbers, unknown)) == 'invalid_structure'

    assert code_of(engine, Structure(np.array([], dtype=np.uint8), np.zeros((0, 3)))) == 'invalid_structure'

    curium = Structure(np.array([96]), np.zeros((1, 3)))
    assert code_of(engine, curium) == 'unsupported_element'

    if not engine.periodic:
        crystal = Structure(molecule.numbers, molecule.positions, cell=np.eye(3) * 12.0, pbc=np.ones(3, dtype=bool))
        assert code_of(engine, crystal) == 'periodic_unsupported'


def test_images_of_a_crystal_may_not_come_too_close(crystal_engine: Engine, crystal: Structure) -> None:
    squeezed = Structure(crystal.numbers, crystal.positions * 0.4, cell=crystal.cell * 0.4, pbc=crystal.pbc)
    assert code_of(crystal_engine, squeezed) == 'atoms_too_close'


def test_exhausted_iterations_are_named(engine: Engine, samples: Samples) -> None:
    limits = {'max_iterations', 'max_scf_iterations'} & set(engine.Parameters.model_fields)
    if not limits:
        pytest.skip(f'{engine.name} has no limit of iterations')
    impatient = fast(engine.name, **dict.fromkeys(limits, 2))
    assert code_of(impatient, list(samples.molecules.values())[-1]) == 'not_converged'


def test_evaluation_is_quiet(engine: Engine, molecule: Structure, capfd: pytest.CaptureFixture[str]) -> None:
    engine.version_in_use()
    engine.evaluate(molecule)
    assert capfd.readouterr() == ('', '')
