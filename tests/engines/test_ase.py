from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.eos import EquationOfState

from aiida_nanoml.engines import Engine, get_engine
from aiida_nanoml.errors import EngineError, EvaluationError
from aiida_nanoml.structures import Structure
from aiida_nanoml.testing.structures import BENZENE, FCC_ALUMINIUM
from aiida_nanoml.units import BOHR_ANG

GPA = 160.21766208
"""One eV/Å³ in GPa."""


def engine(calculator: str = 'emt', **options: Any) -> Engine:
    chosen = get_engine('ase')
    return chosen(chosen.parameters('fast', {'calculator': calculator, 'options': options}))


def structure_of(atoms: Any) -> Structure:
    return Structure(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)


def fit(engine: Engine, atoms: Any, scales: np.ndarray) -> tuple[float, float, float]:
    """Equilibrium volume, energy and bulk modulus of a cell, by Birch and Murnaghan."""
    volumes, energies = [], []
    for scale in scales:
        scaled = atoms.copy()
        scaled.set_cell(atoms.cell * scale, scale_atoms=True)
        volumes.append(scaled.get_volume())
        energies.append(engine.evaluate(structure_of(scaled)).energy_ev)
    return EquationOfState(volumes, energies, eos='birchmurnaghan').fit()


def test_emt_gives_the_curve_of_aluminium_that_ase_tests() -> None:
    """ASE's own test of its equations of state holds these three numbers (Å³, eV, eV/Å³)."""
    volume, energy, modulus = fit(engine(), bulk('Al', 'fcc', a=4.0, orthorhombic=True), np.linspace(0.98, 1.01, 5))
    assert volume == pytest.approx(31.8658700, abs=4e-4)
    assert energy == pytest.approx(-9.76187802e-3, abs=1e-6)
    assert modulus == pytest.approx(0.246812688, abs=2e-4)


@pytest.mark.parametrize(
    ('element', 'radius_bohr', 'cohesive_energy_ev'),
    [('Al', 3.00, 3.28), ('Ni', 2.60, 4.44), ('Cu', 2.67, 3.51), ('Pd', 2.87, 3.90), ('Ag', 3.01, 2.96)],
)
def test_emt_repeats_the_metals_it_was_made_for(element: str, radius_bohr: float, cohesive_energy_ev: float) -> None:
    """Wigner-Seitz radius and cohesive energy of Jacobsen et al. (1996); more than nearest neighbours shrink it."""
    expected_ang = radius_bohr * BOHR_ANG * (16 * np.pi / 3) ** (1 / 3)
    volume, energy, _ = fit(engine(), bulk(element, 'fcc', a=expected_ang), np.linspace(0.97, 1.01, 5))
    assert (4 * volume) ** (1 / 3) == pytest.approx(expected_ang, rel=0.02)
    atom = engine().evaluate(Structure(bulk(element).numbers, np.zeros((1, 3))))
    assert atom.energy_ev - energy == pytest.approx(cohesive_energy_ev, abs=0.02)
    assert atom.stress_ev_per_ang3 is None
    np.testing.assert_allclose(atom.forces_ev_per_ang, 0)


def test_silver_has_the_bulk_modulus_of_the_manual_of_ase() -> None:
    volume, _, modulus = fit(engine(), bulk('Ag', 'fcc', a=4.0), np.linspace(0.95, 1.05, 5))
    assert volume == pytest.approx(16.781, abs=0.01)
    assert modulus * GPA == pytest.approx(100.14, abs=0.5)


def test_only_elements_with_parameters_are_taken() -> None:
    emt = engine()
    assert [number for number in range(120) if emt.supports(number)] == [1, 6, 7, 8, 13, 28, 29, 46, 47, 78, 79]
    with pytest.raises(EvaluationError, match=r'EMT \(ASE\) does not treat Cr, Co') as caught:
        emt.evaluate(Structure([24, 27, 28], np.eye(3) * 2.5))
    assert caught.value.code == 'unsupported_element'
    pretrained = [number for number in range(120) if engine('chgnet').supports(number)]
    assert len(pretrained) == 89
    assert {24, 26, 27, 28, 13} <= set(pretrained)
    assert 84 not in pretrained, 'no polonium in the Materials Project'


def test_labels_say_which_potential() -> None:
    assert engine().method == 'EMT (ASE)'
    assert engine('lj').method == 'Lennard-Jones (ASE)'
    assert engine('chgnet').method == 'CHGNet (ASE)'
    assert engine('mace').method == 'MACE-MP (ASE)'
    assert engine('tblite.ase:TBLite').method == 'TBLite (ASE)'
    assert engine().version_in_use() == engine().version()


def test_lennard_jones_dimer_has_its_depth() -> None:
    """The well is one epsilon deep at 2^(1/6) sigma, but for the shift that lets the pair energy end at the cutoff."""
    pair = engine('lj', sigma=2.5, epsilon=0.3, rc=25.0).evaluate(
        Structure([28, 28], [[0, 0, 0], [0, 0, 2.5 * 2 ** (1 / 6)]])
    )
    assert pair.energy_ev == pytest.approx(-0.3, abs=1e-5)
    np.testing.assert_allclose(pair.forces_ev_per_ang, 0, atol=1e-9)


@pytest.mark.parametrize('name', ['emt', 'lj', 'morse'])
def test_calculators_of_ase_that_need_numbers_only(name: str) -> None:
    label = engine(name).evaluate(FCC_ALUMINIUM)
    assert np.isfinite(label.energy_ev)
    assert label.forces_ev_per_ang is not None


def test_a_calculator_of_another_package_is_taken_by_its_place(benzene: Structure) -> None:
    """The calculator of tblite is an independent way to the energy of the engine xtb."""
    through_ase = engine('tblite.ase:TBLite', method='GFN1-xTB', verbosity=0)
    xtb = get_engine('xtb')
    direct = xtb(xtb.parameters('balanced')).evaluate(benzene)
    label = through_ase.evaluate(benzene)
    assert label.energy_ev == pytest.approx(direct.energy_ev, abs=1e-5)
    np.testing.assert_allclose(label.forces_ev_per_ang, direct.forces_ev_per_ang, atol=1e-5)
    assert np.isnan(label.gap_ev)
    assert through_ase.version_in_use() == f'{xtb.version()} (ase {engine().version()})'


@pytest.mark.parametrize(
    ('calculator', 'options', 'message'),
    [
        ('nope', {}, r"no calculator 'nope' .* there are: chgnet, eam, emt, lj, mace, .*package.module:Class"),
        ('vasp', {}, r"no calculator 'vasp' that computes inside Python"),
        ('lj', {'depth': 1.0}, r'lj has no option depth; it has: epsilon, rc, ro, sigma, smooth'),
        ('emt', {'label': 'x'}, r'emt has no option label; it has: asap_cutoff'),
        ('lj', {'sigma': 'wide'}, r"lj with the options {'sigma': 'wide'} cannot be made: TypeError"),
        ('eam', {'potential': '/no/such.alloy'}, r'cannot be made: FileNotFoundError.*no/such.alloy'),
        ('eam', {'potential': 'ftp://host/file'}, r'potential of the calculator eam must name a file'),
        ('no_such_package:Thing', {}, r"No module named 'no_such_package'\): install its package where the jobs run"),
        ('os:Thing', {}, r'os:Thing cannot be imported'),
        ('subprocess:run', {'args': ['false']}, r'subprocess:run is no calculator of ASE'),
        ('subprocess:Popen', {'args': ['false']}, r'subprocess:Popen is no calculator of ASE'),
        ('ase.calculators.vasp:Vasp', {'command': 'touch x'}, r'Vasp drives a program by a command line'),
        ('ase.calculators.siesta:Siesta', {}, r'Siesta drives a program by a command line'),
    ],
)
def test_what_cannot_compute_is_refused_before_any_structure(
    calculator: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        engine(calculator, **options).version_in_use()


@pytest.mark.parametrize('option', [float('nan'), float('inf'), {'nested': 1}, [[1]], object()])
def test_options_are_numbers_texts_or_lists_of_them(option: Any) -> None:
    with pytest.raises(EngineError, match=r'options.sigma = .*a finite number, a text, a truth value'):
        engine('lj', sigma=option)


@pytest.mark.parametrize('name', ['chgnet', 'mace'])
def test_a_missing_extra_says_both_ways_out(name: str) -> None:
    if find_spec(name):
        pytest.skip(f'{name} is installed')
    with pytest.raises(EngineError, match=rf'pip install "aiida-nanoml\[{name}\]" .*protocol fast: EMT.*Al, Ni, Cu'):
        engine(name).version_in_use()


def test_the_graphics_processor_is_not_to_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked, and a fork cannot use the one of its parent."""
    package = tmp_path / 'chgnet' / 'model'
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / '__init__.py').touch()
    (package / 'dynamics.py').write_text(
        'from ase.calculators.calculator import Calculator\n'
        'class CHGNetCalculator(Calculator):\n'
        '    def __init__(self, model=None, *, use_device=None, on_isolated_atoms="warn", **kwargs):\n'
        '        assert (use_device, on_isolated_atoms) == ("cpu", "ignore")\n'
    )
    program = (
        'from aiida_nanoml.engines import get_engine\n'
        'chosen = get_engine("ase")\n'
        'print(chosen(chosen.parameters("balanced")).method)\n'
        'chosen(chosen.parameters("balanced"))._calculator()\n'
        'chosen(chosen.parameters("balanced", {"options": {"use_device": "cuda"}})).version_in_use()\n'
    )
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')]))
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=False)
    assert done.stdout == 'CHGNet (ASE)\n'
    assert done.stderr.splitlines()[-1].endswith('the calculator chgnet has no option use_device; it has: model')


def test_chgnet_knows_an_alloy() -> None:
    """Of fcc CoCrFeNi with the lattice constant near that of experiment, 3.57 Å."""
    pytest.importorskip('chgnet')
    chosen = get_engine('ase')
    chgnet = chosen(chosen.parameters('balanced'))
    assert chgnet.version_in_use().endswith(f'(ase {chgnet.version()})')
    alloy = bulk('Ni', 'fcc', a=3.57, cubic=True)
    alloy.set_chemical_symbols(['Co', 'Cr', 'Fe', 'Ni'])
    volume, energy, modulus = fit(chgnet, alloy, np.linspace(0.97, 1.03, 7))
    assert volume ** (1 / 3) == pytest.approx(3.57, abs=0.05)
    assert -8.0 < energy / 4 < -7.4
    assert 120 < modulus * GPA < 280
    step, energies = 2e-3, []
    for sign in (1, -1):
        strained = alloy.copy()
        strained.set_cell(alloy.cell * [[1 + sign * step], [1], [1]], scale_atoms=True)
        energies.append(chgnet.evaluate(structure_of(strained)).energy_ev)
    label = chgnet.evaluate(structure_of(alloy))
    assert label.stress_ev_per_ang3 is not None
    slope = (energies[0] - energies[1]) / (2 * step) / alloy.get_volume()
    assert label.stress_ev_per_ang3[0, 0] == pytest.approx(slope, abs=1e-3)
    assert label.magnetic_moment_bohr is None
    molecule = chgnet.evaluate(BENZENE)
    assert molecule.stress_ev_per_ang3 is None
    assert chgnet.evaluate(Structure(BENZENE.numbers, BENZENE.positions + 9.0)).energy_ev == pytest.approx(
        molecule.energy_ev, abs=1e-3
    )
