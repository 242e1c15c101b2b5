"""Checks that the numbers of a finished run agree wherever its files hold them twice.

The standard output, the levels, the k-points and the XML file of one run tell many numbers more than once. Where two
of them contradict each other, a file belongs to another run or was damaged, and there is no way to know which: the run
has no label. Nothing is compared that a file does not hold.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.run_text import RunText, last_match
from aiida_nanoml.engines.siesta.identity import used_pseudopotentials
from aiida_nanoml.engines.siesta.levels import has_spinors
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.units import BOLTZMANN_EV_PER_K, GPA_PER_EV_PER_ANG3, SIESTA_RYDBERG_EV

LARGEST_ENERGY_EV = 1e9
LARGEST_FORCE_EV_PER_ANG = 1e6
LARGEST_STRESS_EV_PER_ANG3 = 1e4
"""Forces and stress beyond these are a mistake: atoms that nearly coincide have some 10,000 eV/Å."""

CLOSED_SHELLS = frozenset({0, 2, 10, 18, 28, 36, 46, 54, 60, 68, 78, 86})
"""Electrons in the cores that pseudopotentials of neutral atoms replace."""

IONS_KINETIC = r'^siesta: Ekinion *= *(\S+)'
FORCES_HEADING = r'^siesta: Atomic forces \(eV/Ang\):[ \t]*\n'
STRESS_HEADING = r'^siesta: Stress tensor \(static\) \(eV/Ang\*\*3\):[ \t]*\n'

_PRINTED = 1e-4
"""Numbers that are printed twice differ by less, in their unit."""

_ITERATION = re.compile(r' *scf: +\d+ +-?\d+\.\d+ +-?\d+\.\d+ +(-?\d+\.\d+)\s')
_CHANGE = re.compile(r' *scf: +\d+(?: +-?\d+\.\d+){3} +(\d{1,3}\.\d{1,12})\s')
SPECIES = re.compile(
    r'^ *Species number: +(\d{1,9}) +'
    r'(?:Atomic number: +(-?\d{1,9}) +Label: +(\S+)|Label: +(\S+) +Atomic number: +(-?\d{1,9}))',
    re.MULTILINE,
)
"""A species in the output: its number, and its atomic number and label in either order."""
_ATOMS = re.compile(
    r'^siesta: Atomic coordinates \(Bohr\) and species *\n((?:siesta:(?: +-?\d+\.\d+){3} +\d{1,9} +\d{1,9} *\n)+)',
    re.MULTILINE,
)
_SUM_OF_FORCES = re.compile(r'^(?:siesta:)? +Tot +(\S+) +(\S+) +(\S+) *$', re.MULTILINE)
_PRESSURE = re.compile(r'^siesta: +(?:Pressure \(\w+\):)? +(\S+)(?: +\S+)? +kBar *$', re.MULTILINE)


@dataclass(frozen=True)
class RunFiles:
    """The texts of a run.

    :param output: the standard output.
    :param eig: the levels.
    :param xml: the XML file, empty if there is none.
    :param kp: the k-points, empty if there are none.
    """

    output: RunText
    eig: RunText
    xml: RunText
    kp: RunText


def check_agreement(
    files: RunFiles, label: Label, levels: NDArray[np.float64] | None = None, fermi_ev: float = math.nan
) -> None:
    """Check that the numbers of a run agree with each other.

    :param label: of the run.
    :param levels: (S, K, L) at the k-points of the run, in eV; None: they are not known.
    :param fermi_ev: Fermi level that stands beside them.
    :raises EvaluationError: ``'inconsistent'``: two numbers contradict each other, both are named.
    """
    if levels is not None and files.eig.text:
        _check_levels(files, levels, fermi_ev)
    _check_electrons(files.output, label.n_electrons)
    if levels is not None:
        _check_occupations(files, label, levels, fermi_ev)
    _check_energy(files.output, label.energy_ev)
    _check_forces(files.output, label.forces_ev_per_ang)
    _check_pressure(files.output, label.stress_ev_per_ang3)
    if files.xml.text:
        _check_xml(files, label, levels)


def _contradiction(sentence: str) -> EvaluationError:
    return EvaluationError(FailureCode.INCONSISTENT, sentence)


def _check_levels(files: RunFiles, levels: NDArray[np.float64], fermi_ev: float) -> None:
    """Check that the levels belong to the output: their numbers and the Fermi level."""
    output, name = files.output, files.eig.name
    _, n_points, n_levels = levels.shape
    orbitals = _count(r'^initatomlists: Number of atoms, orbitals, and projectors: +\d+ +(\d+) ', output)
    fewer = re.search(r'^ *number-?_?\.?of-?_?\.?eigen-?_?\.?states\b', output.text, re.MULTILINE | re.IGNORECASE)
    if orbitals and has_spinors(files.eig):
        orbitals *= 2
    if orbitals and (n_levels > orbitals or (n_levels < orbitals and not fewer)):
        raise _contradiction(
            f'{name} has {n_levels} levels, {output.name} has {orbitals} orbitals: the levels are those of another run'
        )
    for pattern, ours, what in (
        (r'^redata: Number of spin components += +(\d+)', int(files.eig.words[2]), 'spins'),
        (r'^siesta: k-grid: Number of k-points += +(\d+)', n_points, 'k-points'),
    ):
        theirs = _count(pattern, output)
        if theirs and theirs != ours:
            raise _contradiction(
                f'{name} has {ours} {what}, {output.name} has {theirs}: the levels are those of another run'
            )
    fermi = output.last(r'^siesta: +Fermi += +(\S+)', 'the Fermi energy', LARGEST_ENERGY_EV)
    if fermi is not None and abs(fermi - fermi_ev) > _PRINTED:
        raise _contradiction(
            f'the Fermi level is {fermi_ev:g} eV in {name} and {fermi:g} eV in {output.name}: the levels are those of '
            'another run'
        )


def _count(pattern: str, output: RunText) -> int | None:
    found = last_match(pattern, output.text)
    return None if found is None else int(output.number(found[1], found.start(1), 'a count', 1e12))


def _check_electrons(output: RunText, n_electrons: int) -> None:
    """Check that the electrons are those that the pseudopotentials bring, less the net charge."""
    charges = {label: used.valence_charge for label, used in used_pseudopotentials(output.text).items()}
    species = {
        int(match[1]): (match[3] or match[4], int(match[2] or match[5])) for match in SPECIES.finditer(output.text)
    }
    atoms = _ATOMS.search(output.text)
    if atoms is None:
        return
    found = [species.get(int(line.split()[4]), ('', 0)) for line in atoms[1].splitlines()]
    brought = [_electrons_of(number, charges.get(label)) for label, number in found]
    if any(charge is None for charge in brought):
        return
    net = output.last(r'^redata: Net charge of the system += +(\S+)', 'the net charge', 1e6) or 0.0
    expected = sum(charge for charge in brought if charge is not None) - net
    if abs(expected - n_electrons) > 1e-3:
        raise _contradiction(
            f'{output.name} counts {n_electrons} electrons, the pseudopotentials that it names bring {expected:g}'
        )


def _electrons_of(number: int, charge: float | None) -> float | None:
    """Return the valence electrons of a neutral atom; None if the output does not tell.

    The output has the charge of the configuration that the pseudopotential was generated in. Where this leaves no
    closed shells, it was an ion, perhaps with semicore states: then the valence is another one.

    :param number: atomic number; negative for a ghost, which brings orbitals only.
    :param charge: valence charge in the output.
    """
    if number < 0:
        return 0.0
    return charge if charge is not None and number - charge in CLOSED_SHELLS else None


def _check_occupations(files: RunFiles, label: Label, levels: NDArray[np.float64], fermi_ev: float) -> None:
    """Check that the levels below the Fermi level hold the electrons."""
    temperature = _temperature_kelvin(files.output)
    fixed = re.search(r'^redata: Fix the spin of the system += +T', files.output.text, re.MULTILINE)
    plain = re.search(r'^stepf: Fermi-Dirac step function', files.output.text, re.MULTILINE)
    if label.level_weights is None or temperature is None or fixed or not plain:
        return
    filled = 0.5 + 0.5 * np.tanh((fermi_ev - levels) / (2 * BOLTZMANN_EV_PER_K * temperature))
    held = float((filled * label.level_weights[..., None]).sum())
    if abs(held - label.n_electrons) > 0.01 + 1e-5 * label.n_electrons:
        raise _contradiction(
            f'the levels in {files.eig.name} hold {held:.3f} electrons, {files.output.name} counts {label.n_electrons}'
        )
    _check_band_energy(files, label.n_electrons, float((filled * levels * label.level_weights[..., None]).sum()))


def _check_band_energy(files: RunFiles, n_electrons: int, sum_ev: float) -> None:
    """Check the sum of the filled levels by the energy of the bands, which belongs to the density before the last one.

    :param sum_ev: the sum.
    """
    output = files.output
    printed = output.last(r'^siesta: Ebs += +(\S+)', 'the energy of the bands', LARGEST_ENERGY_EV)
    last = last_match(r'^ *scf: +\d+ ', output.text)
    change = last and _CHANGE.match(output.text, last.start())
    if printed is None or not change:
        return
    # In 125 recorded runs, the two differ by 0.2 meV an electron at most; the density changed by some 1e-4 at the end.
    tolerance = 0.1 + 5e-4 * n_electrons * max(1.0, float(change[1]) / 1e-4)
    if abs(sum_ev - printed) > tolerance:
        raise _contradiction(
            f'the filled levels in {files.eig.name} add up to {sum_ev:.3f} eV, the energy of the bands is '
            f'{printed:.3f} eV in {output.name}: the levels are those of another run, or a level was changed'
        )


def _temperature_kelvin(output: RunText) -> float | None:
    found = last_match(r'^redata: Electronic Temperature += +(\S+) +(K|Ry)\b', output.text)
    if found is None:
        return None
    value = output.number(found[1], found.start(1), 'the electronic temperature', 1e9)
    return max(value * (1.0 if found[2] == 'K' else SIESTA_RYDBERG_EV / BOLTZMANN_EV_PER_K), 1e-3)


def _check_energy(output: RunText, energy_ev: float) -> None:
    """Check the free energy by that of the last iteration, and by the energy without the entropy."""
    last = last_match(r'^ *scf: +\d+ ', output.text)
    iteration = last and _ITERATION.match(output.text, last.start())
    last_ev = float(iteration[1]) if iteration else energy_ev
    if iteration and abs(last_ev - energy_ev) > max(0.1, 1e-5 * abs(energy_ev)):
        raise _contradiction(
            f'{output.name}: the free energy at the end is {energy_ev:.6f} eV, that of the last iteration '
            f'{last_ev:.6f} eV ({output.place(iteration.start())})'
        )
    total = output.last(r'^siesta: +Total += +(\S+)', 'the total energy', LARGEST_ENERGY_EV)
    kinetic = output.last(IONS_KINETIC, 'the kinetic energy of the ions', LARGEST_ENERGY_EV) or 0.0
    temperature = _temperature_kelvin(output)
    orbitals = _count(r'^initatomlists: Number of atoms, orbitals, and projectors: +\d+ +(\d+) ', output)
    if total is None or temperature is None or orbitals is None:
        return
    largest_heat = 2.0 * math.log(2.0) * BOLTZMANN_EV_PER_K * temperature * orbitals
    if abs(total - kinetic - energy_ev) > largest_heat + 0.01:
        raise _contradiction(
            f'{output.name}: the free energy is {energy_ev:.6f} eV and the energy {total - kinetic:.6f} eV, which the '
            'entropy of the electrons cannot explain'
        )


def _check_forces(output: RunText, forces: NDArray[np.float64] | None) -> None:
    """Check the forces by their number and their sum."""
    if forces is None:
        return
    n_atoms = _count(r'^initatomlists: Number of atoms, orbitals, and projectors: +(\d+) ', output)
    if n_atoms and len(forces) != n_atoms:
        raise _contradiction(f'{output.name} has {n_atoms} atoms and {len(forces)} forces')
    heading = last_match(FORCES_HEADING, output.text)
    found = heading and _SUM_OF_FORCES.search(output.text, heading.end())
    if found is None:
        return
    total = [output.number(found[axis], found.start(axis), 'the sum of the forces', 1e9) for axis in (1, 2, 3)]
    if np.abs(forces.sum(axis=0) - total).max() > 1e-5 + 1e-6 * len(forces):
        raise _contradiction(
            f'{output.name}: the forces add up to {_vector(forces.sum(axis=0))} eV/Å, not to the sum '
            f'{_vector(np.array(total))} that stands below them ({output.place(found.start())})'
        )


def _check_pressure(output: RunText, stress: NDArray[np.float64] | None) -> None:
    """Check the trace of the stress by the pressure."""
    heading = last_match(STRESS_HEADING, output.text)
    found = heading and _PRESSURE.search(output.text, heading.end())
    if stress is None or found is None:
        return
    pressure = output.number(found[1], found.start(1), 'the pressure', 1e9)
    ours = -float(np.trace(stress)) / 3 * 10 * GPA_PER_EV_PER_ANG3
    if abs(ours - pressure) > 0.005 + 1e-4 * abs(pressure):
        raise _contradiction(
            f'{output.name}: the stress tensor has the pressure {ours:.3f} kBar, the output says {pressure:.3f} '
            f'({output.place(found.start())})'
        )


def _vector(values: NDArray[np.float64]) -> str:
    return ' '.join(f'{value:.6f}' for value in values.tolist())


def _check_xml(files: RunFiles, label: Label, levels: NDArray[np.float64] | None) -> None:
    """Check energy, forces, stress, levels and weights by the XML file."""
    xml = files.xml
    kinetic = files.output.last(IONS_KINETIC, 'the kinetic energy of the ions', LARGEST_ENERGY_EV) or 0.0
    energy = xml.last(
        r'^ *<property dictRef="siesta:FreeEK">\s*<scalar[^>]*>\s*(\S+?)\s*(?:<|$)', 'the free energy', 1e300
    )
    # The energy and the stress of a dynamics run may or may not contain the motion of the ions.
    possible = () if energy is None else (energy, energy - kinetic)
    if possible and min(abs(one - label.energy_ev) for one in possible) > _PRINTED * 10:
        raise _contradiction(
            f'the free energy is {label.energy_ev:.6f} eV in {files.output.name} and {energy:.6f} eV in {xml.name}: '
            'one of them belongs to another run'
        )
    forces, stress = label.forces_ev_per_ang, None if kinetic else label.stress_ev_per_ang3
    for key, ours, what, unit in (('forces', forces, 'force', 'eV/Å'), ('stress', stress, 'stress', 'eV/Å³')):
        begin = xml.text.rfind(f'dictRef="siesta:{key}">')  # of several steps, the last
        pattern = rf'dictRef="siesta:{key}">(?:\s*<!--[^>]*-->)*\s*<matrix[^>]*>([^<]*)<'
        theirs = _xml_arrays(xml, pattern, what, begin) if begin >= 0 else []
        if ours is None or not theirs:
            continue
        values = theirs[-1]
        if values.size != ours.size or np.abs(values.reshape(ours.shape) - ours).max() > 1e-5:
            raise _contradiction(f'a {what} is another one in {files.output.name} than in {xml.name}, in {unit}')
    section = xml.text.rfind('<propertyList title="Eigenvalues">')
    if section < 0 or levels is None:
        return
    last = RunText(xml.name, xml.text[section:])
    bands = _xml_arrays(last, r'dictRef="siesta:eigenenergies">\s*<array[^>]*>([^<]*)<', 'a level')
    n_spins, n_points, n_levels = levels.shape
    if len(bands) == n_spins * n_points and all(len(band) == n_levels for band in bands):
        # The spins of a k-point stand together, or all k-points of a spin: only one of these fits.
        orders = levels.swapaxes(0, 1).reshape(-1, n_levels), levels.reshape(-1, n_levels)
        if min(np.abs(np.array(bands) - order).max() for order in orders) > _PRINTED:
            raise _contradiction(f'the levels in {files.eig.name} are other ones than in {xml.name}')
    words = RunText(xml.name, ' '.join(re.findall(r'<kpoint [^>]*weight=" *(\S+?) *"', last.text)))
    n_words = len(words.words)
    if label.level_weights is not None and n_words in (n_points, n_spins * n_points):
        numbers = words.numbers(range(n_words), 'the weight of a k-point', 1.0 + 1e-6)
        weights = label.level_weights[0] / label.level_weights[0].sum()
        rows = numbers.reshape(-1, n_points), numbers.reshape(n_points, -1).T
        if min(np.abs(one - weights).max() for one in rows) > _PRINTED:
            raise _contradiction(f'the weights of the k-points in {files.kp.name} are other ones than in {xml.name}')


def _xml_arrays(xml: RunText, pattern: str, what: str, begin: int = 0) -> list[NDArray[np.float64]]:
    """Return the numbers of each match of a pattern, whose first group they are, from a position on."""
    found = []
    for match in re.compile(pattern).finditer(xml.text, begin):
        # The empty lines give the words the lines of the whole file.
        array = RunText(xml.name, '\n' * xml.text.count('\n', 0, match.start(1)) + match[1])
        found.append(array.numbers(range(len(array.words)), what, 1e300))
    return found
