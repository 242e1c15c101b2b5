"""Targets that models can learn from labels, each with its unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.errors import DatasetError
from aiida_nanoml.learning.arrays import Floats
from aiida_nanoml.learning.dataset import GAP, positions_of
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.structures.elements import SYMBOLS
from aiida_nanoml.units import GPA_PER_EV_PER_ANG3

Evaluate = Callable[[LabelSet, StructureSet, LabelSet | None], Floats]


@dataclass(frozen=True)
class Target:
    """Quantity that models predict.

    :param name: key in :data:`TARGETS`.
    :param unit: as figures and tables show it.
    :param suffix: the unit at the end of names of columns and fields, for example ``ev``.
    :param title: begins titles of figures and names of their files.
    :param description: what it is, in one sentence.
    :param evaluate: gives the (n,) values of n labels, their structures, and labels of isolated atoms; NaN where a row
        has none.
    :param closed_shell: whether rows with an odd electron count are left out.
    :param from_structures: whether the value depends on the structure, not on its label alone.
    :param digits: decimals that tables show.
    """

    name: str
    unit: str
    suffix: str
    title: str
    description: str
    evaluate: Evaluate
    closed_shell: bool = False
    from_structures: bool = True
    digits: int = 3

    @property
    def noun(self) -> str:
        """Name with unit, for axes and sentences."""
        return self.name if self.name == GAP else self.title[0].lower() + self.title[1:]


def _gap(labels: LabelSet, structures: StructureSet, atoms: LabelSet | None) -> Floats:
    return labels.energies['gap_ev']


def _energy_per_atom(labels: LabelSet, structures: StructureSet, atoms: LabelSet | None) -> Floats:
    return labels.energies['energy_ev'] / structures.counts


def _cohesive_energy(labels: LabelSet, structures: StructureSet, atoms: LabelSet | None) -> Floats:
    """Energy of the isolated atoms minus that of the structure, by atom."""
    if atoms is None:
        raise DatasetError('a cohesive energy needs the labels of the isolated atoms')
    if not atoms.source.compatible(labels.source):
        raise DatasetError(
            f'the isolated atoms are from {atoms.source}, the structures from {labels.source}: energies of different '
            'origin have no common zero; label the atoms with the engine, protocol and parameters of the structures'
        )
    elements = np.unique(structures.numbers)
    energies = _energies_of_atoms(elements, atoms)
    of_atoms = np.bincount(
        structures.rows, energies[np.searchsorted(elements, structures.numbers)], minlength=len(structures)
    )
    return np.asarray((of_atoms - labels.energies['energy_ev']) / structures.counts)


def _energies_of_atoms(numbers: NDArray[np.uint8], atoms: LabelSet) -> Floats:
    """Energy of an isolated atom of each element, (elements,), eV."""
    alone = StructureSet.from_structures([Structure(np.array([number]), np.zeros((1, 3))) for number in numbers])
    finished = atoms.select(atoms.finished)
    positions = positions_of(alone.hashes, finished.hashes)
    missing = [SYMBOLS[number] for number in numbers[positions < 0].tolist()]
    if missing:
        raise DatasetError(
            f'the labels of the isolated atoms lack a finished one of {", ".join(missing)}: label a single atom of '
            'each element, not periodic, with the engine and protocol of the structures'
        )
    return finished.energies['energy_ev'][positions]


def _dos_fermi(labels: LabelSet, structures: StructureSet, atoms: LabelSet | None) -> Floats:
    return labels.dos_fermi() / structures.counts


def _pressure(labels: LabelSet, structures: StructureSet, atoms: LabelSet | None) -> Floats:
    """Minus a third of the trace of the stress, of structures that repeat in all directions."""
    found = np.full(len(labels), np.nan)
    stress = labels.vectors.get('stress_ev_per_ang3')
    if stress is not None:
        known = (np.diff(stress.offsets) == 9) & structures.pbc.all(axis=1)
        first = stress.offsets[:-1][known]
        found[known] = -sum(stress.values[first + step] for step in (0, 4, 8)) / 3 * GPA_PER_EV_PER_ANG3
    return found


def _magnetic_moment(labels: LabelSet, structures: StructureSet, atoms: LabelSet | None) -> Floats:
    return labels.numbers.get('magnetic_moment_bohr', np.full(len(labels), np.nan)) / structures.counts


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for target in (
            Target(
                GAP,
                'eV',
                'ev',
                'Energy gap',
                'LUMO minus HOMO of a structure with an even electron count',
                _gap,
                closed_shell=True,
                from_structures=False,
            ),
            Target(
                'energy_per_atom',
                'eV/atom',
                'ev',
                'Energy per atom',
                'total energy divided by the number of atoms; its zero is that of the engine',
                _energy_per_atom,
                digits=4,
            ),
            Target(
                'cohesive_energy',
                'eV/atom',
                'ev',
                'Cohesive energy',
                'energy of the isolated atoms minus that of the structure, divided by the number of atoms; positive '
                'when bound',
                _cohesive_energy,
                digits=4,
            ),
            Target(
                'dos_fermi',
                'states/eV/atom',
                'per_ev',
                'Density of states at the Fermi level',
                'states of both spins at the Fermi level for each eV and atom, every level broadened by a Gaussian',
                _dos_fermi,
            ),
            Target(
                'pressure',
                'GPa',
                'gpa',
                'Pressure',
                "minus a third of the trace of the engine's stress tensor; positive when compressed",
                _pressure,
                digits=2,
            ),
            Target(
                'magnetic_moment',
                'µB/atom',
                'bohr',
                'Magnetic moment',
                'total spin moment divided by the number of atoms',
                _magnetic_moment,
            ),
        )
    }
)
"""Targets by name."""


def find_target(name: str) -> Target:
    """Return a target by its name.

    :param name: key of :data:`TARGETS`.
    :raises DatasetError: unknown name; the message lists the known ones.
    """
    if name not in TARGETS:
        raise DatasetError(f'there is no target {name!r}; there are: {", ".join(TARGETS)}')
    return TARGETS[name]


def choose_targets(wanted: Mapping[str, object]) -> tuple[Target, tuple[Target, ...]]:
    """Read what is to be learnt.

    :param wanted: ``target``, a key of :data:`TARGETS` (``'gap'`` if absent), and ``others``, a list of such keys of
        what is learnt beside it (none if absent).
    :returns: the target, and the others in alphabetical order.
    :raises DatasetError: unknown or repeated targets, or another entry.
    """
    unknown = sorted(set(wanted) - {'target', 'others'})
    names = [wanted.get('target', GAP), *_listed(wanted.get('others', []))]
    if unknown or not all(isinstance(name, str) for name in names):
        raise DatasetError(f'targets are chosen by `target`, a name, and `others`, a list of names; got {dict(wanted)}')
    chosen = [find_target(str(name)) for name in names]
    if len(set(names)) < len(names):
        raise DatasetError(f'each target is learnt once; got {", ".join(target.name for target in chosen)}')
    return chosen[0], tuple(sorted(chosen[1:], key=lambda target: target.name))


def _listed(names: object) -> list[object]:
    return list(names) if isinstance(names, list | tuple) else [None]


def evaluate_target(
    name: str, labels: LabelSet, structures: StructureSet | None, atoms: LabelSet | None = None
) -> Floats:
    """Evaluate a target of structures from their labels.

    :param name: key of :data:`TARGETS`.
    :param labels: n labels, in the order of the structures.
    :param structures: n structures; ``None``: unknown, which is enough for a target that does not depend on them.
    :param atoms: labels of isolated atoms, wherever they stand, from the engine and protocol of the structures.
    :returns: (n,), in the unit of the target; NaN where a label failed or does not tell.
    :raises DatasetError: unknown target, rows that do not belong together, structures that are needed, or isolated
        atoms that are missing or of another origin.
    """
    target = find_target(name)
    if structures is None and target.from_structures:
        raise DatasetError(f'the target {name!r} depends on the structures, not on labels alone: give them')
    if structures is not None and not np.array_equal(labels.hashes, structures.hashes):
        raise DatasetError('labels and structures must be the same rows in the same order')
    # Those that look at the structures have them.
    values = np.asarray(target.evaluate(labels, cast(StructureSet, structures), atoms), dtype=np.float64)
    return np.where(labels.finished, values, np.nan)


def find_values(
    name: str,
    labels: LabelSet,
    hashes: NDArray[np.str_],
    structures: StructureSet | None = None,
    atoms: LabelSet | None = None,
) -> Floats:
    """Evaluate a target of rows whose labels and structures are somewhere in sets, in any order.

    :param name: key of :data:`TARGETS`.
    :param labels: labels of some of the rows, and perhaps others.
    :param hashes: shape (n,), content hashes of the rows.
    :param structures: structures of some of the rows, and perhaps others; ``None``: as in :func:`evaluate_target`.
    :param atoms: labels of isolated atoms; ``None``: they are looked for among ``labels``.
    :returns: (n,), in the unit of the target; NaN where there is no structure or no finished label, or it does not
        tell.
    :raises DatasetError: as :func:`evaluate_target`.
    """
    positions = positions_of(hashes, labels.hashes)
    known, chosen = positions >= 0, None
    if structures is not None:
        rows = positions_of(hashes, structures.hashes)
        known &= rows >= 0
        chosen = structures.select(rows[known])
    values = np.full(len(hashes), np.nan)
    if known.any():
        found = labels.select(positions[known])
        values[known] = evaluate_target(name, found, chosen, labels if atoms is None else atoms)
    return values


def check_target_values(
    name: str, labels: LabelSet, structures: StructureSet, values: Floats, atoms: LabelSet | None = None
) -> None:
    """Check that finished labels hold a target; the message lists those that they hold.

    :param name: key of :data:`TARGETS`.
    :param labels: n labels, in the order of the structures.
    :param structures: n structures.
    :param values: (n,), from :func:`evaluate_target`.
    :param atoms: labels of isolated atoms.
    :raises DatasetError: there are finished labels, and none of them has a value.
    """
    if not labels.finished.any() or np.isfinite(values).any():
        return
    others = [other for other in TARGETS if other != name and _has_values(other, labels, structures, atoms)]
    why = 'computes no levels' if name == GAP else 'does not give it'
    raise DatasetError(
        f'no label has the target {name!r}: {labels.source} {why}; '
        f'targets of these labels: {", ".join(others) or "none"}'
    )


def _has_values(name: str, labels: LabelSet, structures: StructureSet, atoms: LabelSet | None) -> bool:
    try:
        return bool(np.isfinite(evaluate_target(name, labels, structures, atoms)).any())
    except DatasetError:  # isolated atoms are missing
        return False
