"""Base class of electronic-structure engines: parameters, protocols, and the evaluation of one structure."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode

if TYPE_CHECKING:
    from aiida_nanoml.densities import Density
    from aiida_nanoml.structures.structure_set import Structure

DFT = 'density-functional theory'
"""What an engine of density-functional theory calls its theory."""

PROPERTIES = frozenset({'energy', 'gap', 'forces', 'stress', 'dos_fermi', 'density'})
"""Everything that an engine can declare to compute."""

CLOSEST_APPROACH = 0.6
"""Two atoms nearer than this share of the sum of their covalent radii are refused."""


@dataclass(frozen=True)
class Label:
    """What an engine found for one structure.

    :param energy_ev: total energy in eV; the free energy where levels are filled at an electronic temperature. Zero and
        core treatment differ between engines: compare labels of one engine and protocol only.
    :param homo_ev: level ceil(N/2) (1-based) of the N electrons, spin-restricted, in eV; NaN, like the next two, from
        an engine without levels.
    :param lumo_ev: the next level, in eV.
    :param gap_ev: ``lumo_ev - homo_ev``.
    :param n_electrons: number of electrons that the engine treats (valence electrons where cores are frozen); 0 from an
        engine without electrons.
    :param open_shell: whether the number of electrons is odd. The restricted gap of such a structure means little.
    :param n_iterations: iterations to self-consistency, None if the engine does not report them.
    :param forces_ev_per_ang: forces ``(A, 3)`` in eV/Å, None where the engine does not compute them.
    :param stress_ev_per_ang3: stress ``(3, 3)`` in eV/Å³, the derivative of the energy by the strain for each volume,
        None where the engine does not compute it.
    :param levels_ev: levels ``(S, L)`` in eV: one row for restricted levels, two for the two spins; the levels of
        several k-points follow each other.
    :param level_weights: electrons that a level holds, for each spin and k-point ``(S, K)``; they sum up to 2. None
        where the engine does not compute a density of states.
    :param fermi_ev: Fermi level in eV, None if the engine does not report it.
    :param magnetic_moment_bohr: total spin moment of the structure in Bohr magnetons, None without spin.
    :param density: density of the valence electrons, None where it was not asked for.
    """

    energy_ev: float
    homo_ev: float
    lumo_ev: float
    gap_ev: float
    n_electrons: int
    open_shell: bool
    n_iterations: int | None = None
    forces_ev_per_ang: NDArray[np.float64] | None = field(default=None, compare=False)
    stress_ev_per_ang3: NDArray[np.float64] | None = field(default=None, compare=False)
    levels_ev: NDArray[np.float64] | None = field(default=None, compare=False)
    level_weights: NDArray[np.float64] | None = field(default=None, compare=False)
    fermi_ev: float | None = None
    magnetic_moment_bohr: float | None = None
    density: Density | None = field(default=None, compare=False)

    @classmethod
    def from_energy(
        cls,
        energy_ev: float,
        *,
        forces_ev_per_ang: NDArray[np.float64] | None = None,
        stress_ev_per_ang3: NDArray[np.float64] | None = None,
        magnetic_moment_bohr: float | None = None,
    ) -> Label:
        """Make the label of an engine that knows no levels.

        :param energy_ev: total energy in eV.
        :param forces_ev_per_ang: forces ``(A, 3)`` in eV/Å.
        :param stress_ev_per_ang3: stress ``(3, 3)`` in eV/Å³.
        :param magnetic_moment_bohr: total spin moment in Bohr magnetons.
        :raises EvaluationError: ``'engine_failure'`` on a number that is not finite.
        """
        given = (energy_ev, forces_ev_per_ang, stress_ev_per_ang3, magnetic_moment_bohr)
        if not all(np.isfinite(value).all() for value in given if value is not None):
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE, 'the engine returned a non-finite energy, force or stress'
            )
        return cls(
            energy_ev=float(energy_ev),
            homo_ev=float('nan'),
            lumo_ev=float('nan'),
            gap_ev=float('nan'),
            n_electrons=0,
            open_shell=False,
            forces_ev_per_ang=forces_ev_per_ang,
            stress_ev_per_ang3=stress_ev_per_ang3,
            magnetic_moment_bohr=magnetic_moment_bohr,
        )

    @classmethod
    def from_levels(
        cls,
        energy_ev: float,
        levels_ev: ArrayLike,
        n_electrons: int,
        *,
        n_iterations: int | None = None,
        forces_ev_per_ang: NDArray[np.float64] | None = None,
        stress_ev_per_ang3: NDArray[np.float64] | None = None,
    ) -> Label:
        """Make the label from the levels, in any order.

        Spin-restricted levels count two electrons each: HOMO is level ceil(N/2). The levels of two spins are put
        together and count one each: HOMO is level N.

        :param energy_ev: total energy in eV.
        :param levels_ev: spin-restricted levels ``(L,)`` or ``(1, L)``, or those of both spins ``(2, L)``, in eV.
        :param n_electrons: number of electrons in these levels.
        :param n_iterations: iterations to self-consistency.
        :param forces_ev_per_ang: forces ``(A, 3)`` in eV/Å.
        :param stress_ev_per_ang3: stress ``(3, 3)`` in eV/Å³.
        :raises EvaluationError: ``'engine_failure'`` on numbers that are not finite, and when no level is left empty.
        """
        by_spin = np.sort(np.atleast_2d(np.asarray(levels_ev, dtype=np.float64)), axis=1)
        levels = np.sort(by_spin, axis=None)
        given = (energy_ev, levels, forces_ev_per_ang, stress_ev_per_ang3)
        if not all(np.isfinite(value).all() for value in given if value is not None):
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE, 'the engine returned a non-finite energy, level, force or stress'
            )
        homo = (n_electrons + 1) // 2 - 1 if len(by_spin) == 1 else n_electrons - 1
        if not 0 <= homo < len(levels) - 1:
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE,
                f'{n_electrons} electrons in {len(levels)} levels leave no HOMO or no LUMO; use a larger basis',
            )
        return cls(
            energy_ev=float(energy_ev),
            homo_ev=float(levels[homo]),
            lumo_ev=float(levels[homo + 1]),
            gap_ev=float(levels[homo + 1] - levels[homo]),
            n_electrons=n_electrons,
            open_shell=n_electrons % 2 == 1,
            n_iterations=n_iterations,
            forces_ev_per_ang=forces_ev_per_ang,
            stress_ev_per_ang3=stress_ev_per_ang3,
            levels_ev=by_spin,
        )


@dataclass(frozen=True)
class Tolerances:
    """How exactly an engine keeps the laws that all engines are tested for.

    :param energy_ev: energy an atom in eV when a structure is moved, turned, or its atoms are renumbered.
    :param gap_ev: gap in eV in the same cases.
    :param force_ev_per_ang: forces in eV/Å against the slope of the energy, and their sum.
    :param stress_ev_per_ang3: stress in eV/Å³ against the slope of the energy by the strain.
    """

    energy_ev: float = 1e-2
    gap_ev: float = 5e-3
    force_ev_per_ang: float = 5e-3
    stress_ev_per_ang3: float = 1e-3


def edges_at_fermi(levels: NDArray[np.float64], fermi: float) -> tuple[float, float] | None:
    """Return the highest level that does not exceed the Fermi level, and the lowest one above it.

    :param levels: in any order and shape, in the unit of the Fermi level.
    :returns: None if all levels are on one side.
    """
    below, above = levels[levels <= fermi], levels[levels > fermi]
    return (float(below.max()), float(above.min())) if len(below) and len(above) else None


class EngineParameters(BaseModel):
    """Base of every engine's parameters: unknown names, wrong types and NaN are refused; names contain the units."""

    model_config = ConfigDict(extra='forbid', frozen=True, strict=True, allow_inf_nan=False)


class EngineRuntime(BaseModel):
    """What an engine finds on the machine where it runs. It does not decide about a label. By default nothing."""

    model_config = ConfigDict(extra='forbid', frozen=True, strict=True, allow_inf_nan=False)

    def relative_to(self, folder: Path) -> Self:
        """Resolve relative paths against the folder of a job."""
        return self


class Engine(ABC):
    """An electronic-structure method behind one interface.

    A subclass sets the class variables, overrides :meth:`missing`, :meth:`version`, :meth:`supports` and
    :meth:`compute`, and puts ``protocols/<name>.yaml`` beside its module. It is registered as an entry point ``<name>``
    in the group ``aiida_nanoml.engines``. An instance can be pickled, and may be used for any number of structures.

    :param parameters: from :meth:`parameters`.
    :param threads: threads that one evaluation may use. It is no parameter: the label does not depend on it.
    :param runtime: what the machine provides, as the model :attr:`Runtime` of the engine wants it.
    :param density: whether labels contain the density, which is large. The rest of a label does not depend on it.
    :raises EngineError: parameters of another engine, fewer than one thread, a runtime that does not fit, or a density
        from an engine without.
    """

    name: ClassVar[str]
    """Name of the entry point."""

    title: ClassVar[str]
    """Short name of method and code for lists, for example ``xTB (tblite)``; :attr:`method` is the exact one."""

    theory: ClassVar[str] = 'a theory that its engine does not name'
    """Kind of theory of the labels, in words; only ``density-functional theory`` counts as such."""

    properties: ClassVar[frozenset[str]]
    """What the engine computes, a subset of :data:`PROPERTIES`."""

    periodic: ClassVar[bool] = False
    """Whether the engine takes periodic structures."""

    runs_program: ClassVar[bool] = False
    """Whether the engine runs a program of its own, which a job has to name."""

    box_dependent: ClassVar[bool] = False
    """Whether the numbers of an isolated structure depend on the box that the engine puts it in."""

    pseudopotential_formats: ClassVar[tuple[str, ...]] = ()
    """Formats of the pseudopotential files that a job has to give, of those that
    :mod:`~aiida_nanoml.engines.pseudopotentials` reads; empty: the engine takes no files."""

    single_run: ClassVar[str] = ''
    """Entry point of the workflow that computes one structure in a process of its own; empty: there is none. An engine
    that runs a program can have ``nanoml.program``."""

    url: ClassVar[str] = ''
    """Home page of the code."""

    references: ClassVar[tuple[str, ...]] = ()
    """What to cite for the code: keys of the references of this package, or DOIs."""

    tolerances: ClassVar[Tolerances] = Tolerances()
    """How exactly the engine keeps the laws that the contract of engines tests."""

    Parameters: ClassVar[type[EngineParameters]]
    """Model of the engine's parameters."""

    Runtime: ClassVar[type[EngineRuntime]] = EngineRuntime
    """Model of what the engine finds on the machine."""

    settings: EngineParameters

    def __init__(
        self,
        parameters: EngineParameters,
        *,
        threads: int = 1,
        runtime: Mapping[str, Any] | None = None,
        density: bool = False,
    ) -> None:
        if not isinstance(parameters, self.Parameters):
            raise EngineError(
                f'engine {self.name!r} takes parameters made by {type(self).__name__}.parameters(), '
                f'not {type(parameters).__qualname__}'
            )
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise EngineError(f'engine {self.name!r}: threads must be an integer of at least 1, not {threads!r}')
        if density:
            self.require('density')
        self.settings = parameters
        self.threads = threads
        self.density = density
        self.runtime = self.read_runtime(runtime)

    @classmethod
    def require(cls, name: str) -> None:
        """Check that the engine computes a property.

        :param name: one of :data:`PROPERTIES`.
        :raises EngineError: it does not; the message lists what it computes.
        """
        if name not in cls.properties:
            raise EngineError(
                f'engine {cls.name!r} computes no {name}, only: {", ".join(sorted(cls.properties))}; '
                'choose an engine that does'
            )

    @classmethod
    def read_runtime(cls, runtime: Mapping[str, Any] | None) -> EngineRuntime:
        """Check what the machine provides.

        :raises EngineError: unknown names, or values of the wrong type.
        """
        try:
            return cls.Runtime.model_validate(dict(runtime or {}))
        except ValidationError as error:
            faults = '; '.join(f'{".".join(map(str, fault["loc"]))}: {fault["msg"]}' for fault in error.errors())
            raise EngineError(f'engine {cls.name!r} cannot use this runtime: {faults}') from error

    @property
    def method(self) -> str:
        """What plots and tables call labels made with these parameters, for example ``GFN1-xTB (tblite)``."""
        return self.title

    @classmethod
    @abstractmethod
    def missing(cls, runtime: Mapping[str, Any] | None = None) -> str | None:
        """Return how to install what the engine needs, as one sentence, or None if the engine can be used.

        :param runtime: what the machine provides.
        """

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return the version of the code that computes; called only if nothing is :meth:`missing`."""

    def version_in_use(self) -> str:
        """Return the version of the code that this instance computes with."""
        return self.version()

    @property
    def functional(self) -> tuple[str, str] | None:
        """Kind and authors of exchange and correlation, for example ``('GGA', 'PBE')``; None where there is none.

        Pseudopotentials that were made with another one are refused.
        """
        return None

    def pseudopotentials(self) -> dict[str, str]:
        """Return the MD5 of the pseudopotential file of each element that this instance has one for."""
        return {}

    def stop(self) -> None:  # noqa: B027
        """End what runs, for good: each evaluation in progress raises an error. May be called from any thread."""

    @classmethod
    def protocols(cls) -> dict[str, dict[str, Any]]:
        """Return the protocols, ``{name: {'description': str, 'parameters': dict}}``.

        :raises EngineError: the engine's YAML file is absent or malformed.
        """
        return copy.deepcopy(_read_protocols(cls._protocol_file())[1])

    @classmethod
    def default_protocol(cls) -> str:
        """Return the name of the default protocol."""
        return _read_protocols(cls._protocol_file())[0]

    @classmethod
    def _protocol_file(cls) -> Path:
        return Path(inspect.getfile(cls)).parent / 'protocols' / f'{cls.name}.yaml'

    @classmethod
    def parameters(cls, protocol: str | None = None, overrides: Mapping[str, Any] | None = None) -> EngineParameters:
        """Make parameters from a protocol and what differs from it.

        :param protocol: name of a protocol; None: the default one.
        :param overrides: parameters that replace those of the protocol; nested mappings are merged key by key.
        :raises EngineError: unknown protocol, unknown parameter or a value that does not fit; it says what is valid.
        """
        protocols = cls.protocols()
        name = cls.default_protocol() if protocol is None else protocol
        if name not in protocols:
            raise EngineError(f'engine {cls.name!r} has no protocol {name!r}; it has: {", ".join(protocols)}')
        values = _merge(protocols[name]['parameters'], overrides or {})
        try:
            return cls.Parameters.model_validate(values)
        except ValidationError as error:
            _raise_parameter_error(cls, error)

    def check(self, structure: Structure) -> None:
        """Check, before anything runs, that the engine can treat a structure.

        :param structure: positions and cell in Å.
        :raises EvaluationError: ``'invalid_structure'`` (no atoms, shapes, numbers that are not finite),
            ``'unsupported_element'``, ``'periodic_unsupported'`` or ``'atoms_too_close'`` (nearer than 0.6 times the
            sum of the covalent radii: some codes report success even when two atoms coincide).
        """
        numbers = np.asarray(structure.numbers)
        positions = np.asarray(structure.positions)
        if not len(numbers) or positions.shape != (len(numbers), 3):
            raise EvaluationError(
                FailureCode.INVALID_STRUCTURE,
                f'{numbers.shape} atomic numbers and {positions.shape} positions do not make a structure',
            )
        if not (np.isfinite(positions).all() and np.isfinite(structure.cell).all()):
            raise EvaluationError(FailureCode.INVALID_STRUCTURE, 'a position or cell vector is not finite')
        refused = [int(number) for number in np.unique(numbers) if not self.supports(int(number))]
        if refused:
            raise EvaluationError(FailureCode.UNSUPPORTED_ELEMENT, f'{self.method} does not treat {_symbols(refused)}')
        if np.any(structure.pbc) and not self.periodic:
            raise EvaluationError(
                FailureCode.PERIODIC_UNSUPPORTED,
                f'{self.title} treats isolated structures only; this one is periodic: a molecule in a box is '
                'imported with structures import --isolated',
            )
        check_atom_distances(structure)

    def evaluate(self, structure: Structure) -> Label:
        """Check a structure and compute its label.

        :param structure: positions and cell in Å.
        :raises EvaluationError: as :meth:`check` does, and ``'not_converged'`` or ``'engine_failure'``.
        """
        self.check(structure)
        try:
            label = self.compute(structure)
        except EvaluationError:
            raise
        except Exception as error:  # whatever the library raises must not end a batch
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE, f'{self.method}: {type(error).__name__}: {error}'
            ) from error
        if self.density and label.density is None:
            raise EvaluationError(FailureCode.ENGINE_FAILURE, f'{self.method} gave no density, which was asked for')
        return label

    @abstractmethod
    def supports(self, number: int) -> bool:
        """Return whether an element can be treated with these parameters.

        :param number: atomic number.
        """

    @abstractmethod
    def compute(self, structure: Structure) -> Label:
        """Compute the label of a structure that passed :meth:`check`. Callers use :meth:`evaluate`.

        :param structure: positions and cell in Å.
        :raises EvaluationError: ``'not_converged'`` or ``'engine_failure'``.
        """


@cache
def _read_protocols(path: Path) -> tuple[str, dict[str, dict[str, Any]]]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EngineError(f'the protocols in {path} cannot be read: {error}') from error
    protocols = content.get('protocols') if isinstance(content, dict) else None
    if not isinstance(protocols, dict) or content.get('default_protocol') not in protocols:
        raise EngineError(f"{path} needs 'protocols' and a 'default_protocol' that is one of them")
    for name, protocol in protocols.items():
        if (
            not isinstance(protocol, dict)
            or set(protocol) != {'description', 'parameters'}
            or not isinstance(protocol['parameters'], dict)
        ):
            raise EngineError(f"{path}: protocol {name!r} needs exactly 'description' and a mapping 'parameters'")
    return content['default_protocol'], protocols


def _merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        nested = merged.get(key)
        both_mappings = isinstance(nested, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(nested, value) if both_mappings else value  # type: ignore[arg-type]
    return merged


def _raise_parameter_error(engine: type[Engine], error: ValidationError) -> NoReturn:
    faults = '; '.join(
        f'{".".join(map(str, fault["loc"])) or "parameters"} = {fault["input"]!r}: {fault["msg"]}'
        for fault in error.errors()
    )
    valid = ', '.join(engine.Parameters.model_fields)
    raise EngineError(f'engine {engine.name!r}: {faults} (valid parameters: {valid})') from error


def _symbols(numbers: list[int]) -> str:
    from ase.data import chemical_symbols

    known = range(1, len(chemical_symbols))
    return ', '.join(chemical_symbols[number] if number in known else f'Z = {number}' for number in numbers)


def check_atom_distances(structure: Structure) -> None:
    """Check that no atoms are nearer than :data:`CLOSEST_APPROACH`, periodic images included.

    :param structure: positions and cell in Å.
    :raises EvaluationError: ``'atoms_too_close'``, with the nearest pair.
    """
    from ase.data import covalent_radii

    from aiida_nanoml.structures.neighbours import near_pairs

    radii = CLOSEST_APPROACH * covalent_radii[np.asarray(structure.numbers, dtype=np.int64)]
    reach, positions = 2.0 * float(radii.max()), np.asarray(structure.positions, dtype=np.float64)
    if np.any(structure.pbc):
        from ase.neighborlist import primitive_neighbor_list

        first, second, distances = primitive_neighbor_list(
            'ijd', np.asarray(structure.pbc), np.asarray(structure.cell), positions, reach
        )
    else:
        first, second, distances = near_pairs(positions, np.array([0, len(positions)]), reach)
    shortfalls = distances - radii[first] - radii[second]
    if len(shortfalls) and shortfalls.min() < 0:
        worst = int(np.argmin(shortfalls))
        pair = sorted((int(first[worst]), int(second[worst])))
        elements = [_symbols([int(structure.numbers[atom])]) for atom in pair]
        raise EvaluationError(
            FailureCode.ATOMS_TOO_CLOSE,
            f'atoms {pair[0]} ({elements[0]}) and {pair[1]} ({elements[1]}) are {distances[worst]:.3f} Å apart',
        )
