"""What every registered engine that is installed must fulfil, built-in or not."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from aiida_nanoml.engines import Engine, EngineParameters, Label, engine_names, get_engine
from aiida_nanoml.engines.base import PROPERTIES
from aiida_nanoml.errors import EngineError, EvaluationError
from aiida_nanoml.structures import Structure

INSTALLED = [name for name in engine_names() if get_engine(name).missing() is None]

GAP_TOLERANCE_EV = 5e-3  # integration grids are not exactly isotropic
ENERGY_TOLERANCE_EV = 1e-2  # per atom


@pytest.fixture(params=INSTALLED)
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine, with the fast protocol."""
    chosen = get_engine(request.param)
    return chosen(chosen.parameters('fast'))


def code_of(engine: Engine, structure: Any) -> str:
    with pytest.raises(EvaluationError) as caught:
        engine.evaluate(structure)
    assert caught.value.message
    return caught.value.code


def test_built_in_engines_are_under_test() -> None:
    assert 'xtb' in INSTALLED


@pytest.mark.parametrize('name', sorted(set(engine_names()) - set(INSTALLED)))
def test_an_engine_that_lacks_something_says_how_to_get_it(name: str) -> None:
    sentence = get_engine(name).missing()
    assert sentence is not None
    assert 'install' in sentence
    assert get_engine(name).protocols(), 'what it would do can be seen all the same'


def test_declaration(engine: Engine) -> None:
    assert engine.name in engine_names()
    assert {'energy', 'gap'} <= engine.properties <= PROPERTIES
    assert engine.title
    assert engine.method
    assert re.match(r'\d+\.\d+', engine.version())


def test_every_protocol_gives_parameters(engine: Engine) -> None:
    protocols = engine.protocols()
    assert set(protocols) >= {'fast', 'balanced', 'stringent'}
    assert engine.default_protocol() in protocols
    for name, protocol in protocols.items():
        assert len(protocol['description']) > 20
        parameters = engine.parameters(name)
        assert parameters.model_dump() == protocol['parameters'], 'a protocol must state every parameter'
    assert engine.parameters() == engine.parameters(engine.default_protocol())


def test_protocols_cannot_be_altered_by_a_caller(engine: Engine) -> None:
    engine.protocols()['fast']['parameters'].clear()
    assert engine.parameters('fast').model_dump()


def test_override_replaces_one_parameter_only(engine: Engine) -> None:
    fast = engine.parameters('fast').model_dump()
    name, value = next((name, value) for name, value in fast.items() if type(value) is float)
    changed = engine.parameters('fast', {name: value * 0.5}).model_dump()
    assert changed == {**fast, name: value * 0.5}


def test_wrong_parameters_are_refused_and_valid_ones_listed(engine: Engine) -> None:
    valid = list(engine.Parameters.model_fields)
    with pytest.raises(EngineError, match=r'no_such.*' + valid[0]):
        engine.parameters('fast', {'no_such': 1})
    with pytest.raises(EngineError, match=r'no protocol .exact.; it has: .*fast'):
        engine.parameters('exact')
    floats = [name for name, value in engine.parameters('fast').model_dump().items() if type(value) is float]
    for wrong in (float('nan'), '1.0', None):
        with pytest.raises(EngineError, match=floats[0]):
            engine.parameters('fast', {floats[0]: wrong})


def test_constructor_refuses_foreign_parameters_and_no_threads(engine: Engine) -> None:
    with pytest.raises(EngineError, match='takes parameters made by'):
        type(engine)(EngineParameters())
    for threads in (0, True, 1.0):
        with pytest.raises(EngineError, match='threads'):
            type(engine)(engine.settings, threads=threads)  # type: ignore[arg-type]


def test_label_is_sane(engine: Engine, benzene: Structure) -> None:
    label = engine.evaluate(benzene)
    assert label.n_electrons >= 30  # 30 valence electrons, 42 with cores
    assert not label.open_shell
    assert label.gap_ev == label.lumo_ev - label.homo_ev
    assert 4.0 < label.gap_ev < 12.0, 'eV: semilocal DFT says 5, Hartree-Fock more'
    assert -15.0 < label.homo_ev < -4.0
    assert label.energy_ev < -200.0
    assert label.n_iterations is None or label.n_iterations >= 1


def test_boron_nitride_has_the_wider_gap(engine: Engine, benzene: Structure, borazine: Structure) -> None:
    assert engine.evaluate(borazine).gap_ev > engine.evaluate(benzene).gap_ev


def test_larger_flake_has_the_smaller_gap(engine: Engine, benzene: Structure, coronene: Structure) -> None:
    label = engine.evaluate(coronene)
    assert 0.0 <= label.gap_ev < engine.evaluate(benzene).gap_ev - 1.0
    assert label.n_electrons % 2 == 0


def test_same_structure_same_label(engine: Engine, borazine: Structure) -> None:
    first, second = engine.evaluate(borazine), type(engine)(engine.settings).evaluate(borazine)
    assert second.energy_ev == pytest.approx(first.energy_ev, abs=1e-8)
    assert second.gap_ev == pytest.approx(first.gap_ev, abs=1e-8)
    assert second.n_iterations == first.n_iterations


@pytest.mark.parametrize('name', INSTALLED)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_label_survives_motion_and_renumbering(name: str, borazine: Structure, seed: int) -> None:
    chosen = get_engine(name)
    engine = chosen(chosen.parameters('fast'))
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(borazine.numbers))
    moved = Rotation.random(rng=generator).apply(borazine.positions) + generator.uniform(-20, 20, 3)
    label = engine.evaluate(Structure(borazine.numbers[order], moved[order]))
    reference = engine.evaluate(borazine)
    assert label.gap_ev == pytest.approx(reference.gap_ev, abs=GAP_TOLERANCE_EV)
    assert label.energy_ev == pytest.approx(reference.energy_ev, abs=ENERGY_TOLERANCE_EV * len(order))
    assert (label.n_electrons, label.open_shell) == (reference.n_electrons, reference.open_shell)


def test_odd_electron_count_is_open_shell(engine: Engine, methyl: Structure) -> None:
    label = engine.evaluate(methyl)
    assert label.open_shell
    assert label.n_electrons % 2 == 1
    assert label.gap_ev > 1.0


def test_box_of_an_isolated_structure_does_not_matter(engine: Engine, benzene: Structure) -> None:
    boxed = Structure(benzene.numbers, benzene.positions, cell=np.eye(3) * 3.0)
    assert engine.evaluate(boxed).gap_ev == pytest.approx(engine.evaluate(benzene).gap_ev, abs=1e-8)


def test_forces_are_the_slope_of_the_energy(engine: Engine, benzene: Structure) -> None:
    if 'forces' not in engine.properties:
        assert engine.evaluate(benzene).forces_ev_per_ang is None
        return
    step = 1e-3
    energies = []
    for sign in (1, -1):
        positions = benzene.positions.copy()
        positions[0, 0] += sign * step
        energies.append(engine.evaluate(Structure(benzene.numbers, positions)).energy_ev)
    forces = engine.evaluate(benzene).forces_ev_per_ang
    assert forces is not None
    assert forces.shape == benzene.positions.shape
    assert forces[0, 0] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=5e-3)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-3)


def test_unusable_structures_are_refused_before_running(engine: Engine, benzene: Structure) -> None:
    coincident = benzene.positions.copy()
    coincident[3] = coincident[2] + [0.0, 0.0, 0.3]
    assert code_of(engine, Structure(benzene.numbers, coincident)) == 'atoms_too_close'

    unknown = benzene.positions.copy()
    unknown[5, 1] = np.nan
    assert code_of(engine, Structure(benzene.numbers, unknown)) == 'invalid_structure'

    assert code_of(engine, Structure(np.array([], dtype=np.uint8), np.zeros((0, 3)))) == 'invalid_structure'

    curium = Structure(np.array([96]), np.zeros((1, 3)))
    assert code_of(engine, curium) == 'unsupported_element'

    if not engine.periodic:
        crystal = Structure(benzene.numbers, benzene.positions, cell=np.eye(3) * 12.0, pbc=np.ones(3, dtype=bool))
        assert code_of(engine, crystal) == 'periodic_unsupported'


def test_exhausted_iterations_are_named(engine: Engine, borazine: Structure) -> None:
    if 'max_iterations' not in engine.Parameters.model_fields:
        pytest.skip(f'{engine.name} has no limit of iterations')
    impatient = type(engine)(engine.parameters('fast', {'max_iterations': 2}))
    assert code_of(impatient, borazine) == 'not_converged'


def test_evaluation_is_quiet(engine: Engine, benzene: Structure, capfd: pytest.CaptureFixture[str]) -> None:
    engine.evaluate(benzene)
    assert capfd.readouterr() == ('', '')


def test_label_rule_counts_two_electrons_a_level() -> None:
    even = Label.from_levels(-1.0, [3.0, -2.0, 0.5, -1.0], 4)
    assert (even.homo_ev, even.lumo_ev, even.gap_ev, even.open_shell) == (-1.0, 0.5, 1.5, False)
    odd = Label.from_levels(-1.0, [-2.0, -1.0, 0.5, 3.0], 5)
    assert (odd.homo_ev, odd.lumo_ev, odd.gap_ev, odd.open_shell) == (0.5, 3.0, 2.5, True)
    assert odd.levels_ev is not None
    assert odd.levels_ev.tolist() == [[-2.0, -1.0, 0.5, 3.0]]


def test_label_rule_counts_one_electron_a_level_of_either_spin() -> None:
    label = Label.from_levels(-1.0, [[-3.0, -2.0, 0.0], [1.0, -2.5, 0.5]], 3)
    assert (label.homo_ev, label.lumo_ev, label.gap_ev, label.open_shell) == (-2.0, 0.0, 2.0, True)
    assert label.levels_ev is not None
    assert label.levels_ev.tolist() == [[-3.0, -2.0, 0.0], [-2.5, 0.5, 1.0]]
    restricted = Label.from_levels(-1.0, [-3.0, -2.0, 0.0], 4)
    doubled = Label.from_levels(-1.0, [[-3.0, -2.0, 0.0]] * 2, 4)
    assert (doubled.homo_ev, doubled.lumo_ev) == (restricted.homo_ev, restricted.lumo_ev)


@pytest.mark.parametrize(
    ('energy', 'levels', 'electrons'),
    [
        (-1.0, [-2.0, -1.0], 4),  # no LUMO
        (-1.0, [-2.0, -1.0], 0),  # no HOMO
        (-1.0, [-2.0, float('nan'), 1.0], 2),
        (float('inf'), [-2.0, -1.0], 2),
    ],
)
def test_label_without_a_gap_is_a_failure(energy: float, levels: list[float], electrons: int) -> None:
    with pytest.raises(EvaluationError) as caught:
        Label.from_levels(energy, levels, electrons)
    assert caught.value.code == 'engine_failure'
