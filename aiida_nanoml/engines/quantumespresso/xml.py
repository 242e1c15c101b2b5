"""Reader of ``data-file-schema.xml``, the file in which pw.x leaves its results with all digits."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import RunText
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.text import quoted
from aiida_nanoml.units import BOHR_ANG, HARTREE_EV

LARGEST = 1e9
"""Numbers beyond this, in atomic units, are no results."""

MOST_ATOMS = 1_000_000
_ORDER_TOLERANCE_EV = 1e-3


@dataclass(frozen=True)
class XmlLevels:
    """Levels of a run.

    :param levels_ev: (S, K, L) in eV.
    :param occupations: (S, K, L), from 0 to 1.
    :param weights: (K,) of the k-points, with the sum 1.
    :param k_points: (K, 3) in units of 2 pi / ``alat``.
    :param spinors: each level holds one electron, whose spin has no direction of its own.
    :param n_electrons: electrons in the levels.
    :param fermi_ev: Fermi level; None where occupations are fixed, or each spin has its own.
    :param spin_fermi_ev: those of both spins; None where there is one for both.
    """

    levels_ev: NDArray[np.float64]
    occupations: NDArray[np.float64]
    weights: NDArray[np.float64]
    k_points: NDArray[np.float64]
    spinors: bool
    n_electrons: float
    fermi_ev: float | None
    spin_fermi_ev: tuple[float, float] | None


@dataclass(frozen=True)
class XmlStep:
    """Geometry and energy of one step of a relaxation.

    :param energy_ev: total energy in eV.
    :param species: name of the species of each atom.
    :param positions_ang: (A, 3) in Å.
    :param cell_ang: (3, 3) lattice vectors as rows in Å.
    """

    energy_ev: float
    species: tuple[str, ...]
    positions_ang: NDArray[np.float64]
    cell_ang: NDArray[np.float64]


@dataclass(frozen=True)
class XmlRun:
    """Content of the file.

    :param root: its elements, for what only an imported run needs.
    :param version: of pw.x.
    :param calculation: ``scf``, ``relax``, ``nscf`` and so on.
    :param converged: whether the last self-consistency converged.
    :param scf_error_ry: estimated error of the energy at its end.
    :param tolerance_ry: what it was to fall below.
    :param n_iterations: of the last self-consistency.
    :param last: last geometry, and its energy.
    :param files: pseudopotential by species.
    :param functional: exchange and correlation as pw.x names them.
    :param cutoff_ry: of the wave functions.
    :param density_cutoff_ry: of the density.
    :param levels: levels and their occupations.
    :param band_energy_ev: sum of the filled levels.
    :param forces_ev_per_ang: (A, 3); None without forces.
    :param stress_ev_per_ang3: (3, 3), the derivative of the energy by the strain for each volume; None without stress.
    :param moment_bohr: total spin moment; None without collinear spin.
    """

    root: Element
    version: str
    calculation: str
    converged: bool
    scf_error_ry: float
    tolerance_ry: float
    n_iterations: int
    last: XmlStep
    files: dict[str, str]
    functional: str
    cutoff_ry: float
    density_cutoff_ry: float
    levels: XmlLevels
    band_energy_ev: float
    forces_ev_per_ang: NDArray[np.float64] | None
    stress_ev_per_ang3: NDArray[np.float64] | None
    moment_bohr: float | None


def read_xml(text: str, name: str) -> XmlRun:
    """Read the file.

    :param text: its content.
    :param name: of the file, for messages.
    :raises EvaluationError: ``'truncated'``: it is cut, or has no result; ``'engine_failure'``: it holds something
        else than finite numbers.
    """
    return _XmlReader(parse(text, name), name).read()


def parse(text: str, name: str) -> Element:
    """Return the root of an XML file of pw.x.

    :raises EvaluationError: ``'truncated'``.
    """
    # A document type is where an XML file can name others, or grow without end; pw.x writes none.
    if '<!DOCTYPE' in text or '<!ENTITY' in text:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{name} has a document type, which pw.x writes never')
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - see above
    except (ElementTree.ParseError, ValueError) as error:
        raise EvaluationError(FailureCode.TRUNCATED, f'{name} is cut or damaged: {error}') from error
    if not root.tag.endswith('}espresso'):
        raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{name} is no XML file of pw.x since version 6')
    return root


class _XmlReader:
    """Takes values out of the elements of a file, and checks each."""

    def __init__(self, root: Element, name: str) -> None:
        self.root = root
        self.name = name

    def read(self) -> XmlRun:
        output = self.element(self.root, 'output')
        creator = self.element(self.root, 'general_info/creator')
        convergence = self.element(output, 'convergence_info/scf_conv')
        species, positions, cell = self.geometry(output)
        levels = self.levels(self.element(output, 'band_structure'))
        basis = self.element(output, 'basis_set')
        magnetic = self.flag(output, 'magnetization/lsda')
        return XmlRun(
            root=self.root,
            version=creator.get('VERSION', 'unknown').strip(),
            calculation=self.word(self.root, 'input/control_variables/calculation'),
            converged=self.flag(convergence, 'convergence_achieved') if self.has(convergence) else True,
            scf_error_ry=2 * self.number(convergence, 'scf_error'),
            tolerance_ry=2 * self.number(self.root, 'input/electron_control/conv_thr'),
            n_iterations=self.count(convergence, 'n_scf_steps'),
            last=XmlStep(HARTREE_EV * self.number(output, 'total_energy/etot'), species, positions, cell),
            files={
                one.get('name', ''): self.word(one, 'pseudo_file')
                for one in self.element(output, 'atomic_species').findall('species')
            },
            functional=self.word(output, 'dft/functional'),
            cutoff_ry=2 * self.number(basis, 'ecutwfc'),
            density_cutoff_ry=2 * self.number(basis, 'ecutrho'),
            levels=levels,
            band_energy_ev=HARTREE_EV * self.number(output, 'total_energy/eband'),
            forces_ev_per_ang=self.optional(output, 'forces', (len(species), 3), HARTREE_EV / BOHR_ANG),
            stress_ev_per_ang3=self.optional(output, 'stress', (3, 3), -HARTREE_EV / BOHR_ANG**3),
            moment_bohr=self.number(output, 'magnetization/total') if magnetic else None,
        )

    def steps(self) -> list[XmlStep]:
        """Return the steps of a relaxation."""
        return [
            XmlStep(HARTREE_EV * self.number(step, 'total_energy/etot'), *self.geometry(step))
            for step in self.root.findall('step')
        ]

    def has(self, convergence: Element) -> bool:
        """Return whether the file says if the cycle converged: version 6.0 did not."""
        return convergence.find('convergence_achieved') is not None

    def geometry(self, parent: Element) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
        """Return species (A,), positions (A, 3) and cell (3, 3) in Å."""
        found = self.element(parent, 'atomic_structure')
        atoms = found.findall('atomic_positions/atom')
        if not 0 < len(atoms) <= MOST_ATOMS or found.get('nat', '').strip() != str(len(atoms)):
            raise self.fault(f'{found.get("nat")!r} atoms are announced, {len(atoms)} positions given')
        places = np.array([self.values(atom, 'a position', 3) for atom in atoms])
        cell = np.array([self.values(self.element(found, f'cell/a{axis}'), 'the cell', 3) for axis in (1, 2, 3)])
        return tuple(atom.get('name', '') for atom in atoms), places * BOHR_ANG, cell * BOHR_ANG

    def levels(self, bands: Element) -> XmlLevels:
        """Return the levels."""
        polarized, spinors = self.flag(bands, 'lsda'), self.flag(bands, 'noncolin')
        n_spins = 2 if polarized else 1
        rows = bands.findall('ks_energies')
        if len(rows) != self.count(bands, 'nks'):
            raise self.fault(f'{self.word(bands, "nks")} k-points are announced, {len(rows)} given')
        energies = [self.values(self.element(row, 'eigenvalues'), 'a level') for row in rows]
        filled = [self.values(self.element(row, 'occupations'), 'an occupation') for row in rows]
        n_levels = len(energies[0]) // n_spins
        announced = [self.count(bands, key) for key in ('nbnd', 'nbnd_up', 'nbnd_dw') if bands.find(key) is not None]
        sizes = {len(row) for row in energies + filled}
        if (
            sizes != {n_spins * n_levels}
            or n_levels == 0
            or set(announced) not in ({n_levels}, {2 * n_levels, n_levels})
        ):
            raise self.fault(f'{announced} levels are announced, {sorted(sizes)} given')
        shape = (len(rows), n_spins, n_levels)
        levels = np.ascontiguousarray(np.reshape(energies, shape).swapaxes(0, 1)) * HARTREE_EV
        if (np.diff(levels, axis=2) < -_ORDER_TOLERANCE_EV).any():
            raise self.fault('the levels do not ascend')
        places = [self.element(row, 'k_point') for row in rows]
        weights = np.array([self.text_number(place.get('weight', ''), 'the weight of a k-point') for place in places])
        if (weights <= 0).any():
            raise self.fault('the weight of a k-point is not positive')
        fermi, both = (self.maybe_values(bands, key, n) for key, n in (('fermi_energy', 1), ('two_fermi_energies', 2)))
        # With fixed occupations, the highest filled level stands in the place of the Fermi level.
        fixed = self.word(bands, 'occupations_kind') == 'fixed'
        return XmlLevels(
            levels_ev=levels,
            occupations=np.ascontiguousarray(np.reshape(filled, shape).swapaxes(0, 1)),
            weights=weights / weights.sum(),
            k_points=np.array([self.values(place, 'a k-point', 3) for place in places]),
            spinors=spinors,
            n_electrons=self.number(bands, 'nelec'),
            fermi_ev=None if fermi is None or fixed else HARTREE_EV * float(fermi[0]),
            spin_fermi_ev=None if both is None else (HARTREE_EV * float(both[0]), HARTREE_EV * float(both[1])),
        )

    def optional(self, parent: Element, path: str, shape: tuple[int, int], unit: float) -> NDArray[np.float64] | None:
        found = parent.find(path)
        return None if found is None else self.values(found, path, shape[0] * shape[1]).reshape(shape) * unit

    def maybe_values(self, parent: Element, path: str, count: int) -> NDArray[np.float64] | None:
        found = parent.find(path)
        return None if found is None else self.values(found, path, count)

    def values(self, element: Element, what: str, count: int | None = None) -> NDArray[np.float64]:
        """Return the numbers in an element.

        :param count: how many there must be; None: any number.
        """
        text = RunText(self.name, element.text or '')
        if count is not None and len(text.words) != count:
            raise self.fault(f'{what} has {len(text.words)} numbers in place of {count}')
        return np.array([self.text_number(word, what) for word in text.words], dtype=np.float64)

    def text_number(self, word: str, what: str) -> float:
        try:
            return RunText(self.name, word).number(word.strip(), 0, what, LARGEST)
        except EvaluationError as error:
            raise self.fault(f'{what} is {quoted(word.strip())}, which is no result') from error

    def number(self, parent: Element, path: str) -> float:
        return self.text_number(self.word(parent, path), path.rpartition('/')[2])

    def count(self, parent: Element, path: str) -> int:
        word = self.word(parent, path)
        if not (word.isascii() and word.isdigit() and len(word) < 10):
            raise self.fault(f'{path} is {quoted(word)}, which is no count')
        return int(word)

    def flag(self, parent: Element, path: str) -> bool:
        word = self.word(parent, path)
        if word not in ('true', 'false'):
            raise self.fault(f'{path} is {quoted(word)}, neither true nor false')
        return word == 'true'

    def word(self, parent: Element, path: str) -> str:
        return (self.element(parent, path).text or '').strip()

    def element(self, parent: Element, path: str) -> Element:
        found = parent.find(path)
        if found is None:
            raise EvaluationError(FailureCode.TRUNCATED, f'{self.name} has no {path}: the run left no whole result')
        return found

    def fault(self, sentence: str) -> EvaluationError:
        return EvaluationError(FailureCode.ENGINE_FAILURE, f'{self.name}: {sentence}')


def read_steps(run: XmlRun, name: str) -> list[XmlStep]:
    """Return geometry and energy of each step of a relaxation; empty for a single point."""
    return _XmlReader(run.root, name).steps()
