"""Calculators of ASE that compute inside Python: classical potentials, and pretrained ones that replace DFT."""

from __future__ import annotations

import inspect
import io
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions, version
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from aiida_nanoml.engines.base import Engine, EngineParameters, Label
from aiida_nanoml.errors import EngineError
from aiida_nanoml.structures.elements import SYMBOLS

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_nanoml.structures.structure_set import Structure


def _check_option(value: Any) -> Any:
    for entry in value if isinstance(value, list) else [value]:
        number = isinstance(entry, int | float) and math.isfinite(entry)
        if not (number or entry is None or isinstance(entry, str)):
            raise ValueError('an option is a finite number, a text, a truth value or nothing, or a list of these')
    return value


Option = Annotated[Any, AfterValidator(_check_option)]

OWN = {'eam': 'EAM', 'emt': 'EMT', 'lj': 'Lennard-Jones', 'morse': 'Morse', 'tip3p': 'TIP3P', 'tip4p': 'TIP4P'}
"""Calculators that come with ASE and need nothing but numbers or a file, with their titles."""

MATERIALS_PROJECT = frozenset(range(1, 84)) | frozenset(range(89, 95))
"""The 89 elements of the Materials Project, whose trajectories both pretrained potentials have learnt from."""

WIDEST_CUTOFF_ANG = 12.0
"""Images of a structure in a box are so far apart (Å): twice the reach of an edge in either pretrained potential."""


@dataclass(frozen=True)
class Pretrained:
    """A potential from a package of its own.

    :param path: what makes the calculator, as ``package.module:name``.
    :param title: name in tables.
    :param fixed: arguments that are always given: a forked process cannot use a GPU that its parent has used.
    :param boxed: whether isolated structures have to be put into a periodic box.
    """

    path: str
    title: str
    fixed: dict[str, Any] = field(default_factory=dict)
    boxed: bool = False


PRETRAINED = {
    'chgnet': Pretrained(
        'chgnet.model.dynamics:CHGNetCalculator',
        'CHGNet',
        {'use_device': 'cpu', 'on_isolated_atoms': 'ignore'},
        boxed=True,
    ),
    'mace': Pretrained('mace.calculators:mace_mp', 'MACE-MP', {'device': 'cpu'}),
}
"""Potentials whose weights come with a package, or are downloaded by it. Each is an extra of the same name."""

NOT_OPTIONS = frozenset(
    {'self', 'atoms', 'directory', 'ignore_bad_restart_file', 'label', 'restart', 'return_raw_model'}
)
"""Arguments that do not decide about an energy, but read or write files or give something else than a calculator."""


class AseEngine(Engine):
    """Any calculator of ASE that computes inside Python.

    None of them knows levels: labels have an energy, forces and, of a crystal, a stress, but no gap. Atomic moments of
    CHGNet are magnitudes; their sum is no moment of the cell, so that labels have none.

    Sources: ASE, Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017); EMT, Jacobsen, Stoltze and Nørskov, Surf.
    Sci. 366, 394 (1996); CHGNet, Deng et al., Nat. Mach. Intell. 5, 1031 (2023); MACE-MP, Batatia et al.,
    arXiv:2401.00096 (2024).
    """

    name = 'ase'
    title = 'ASE'
    url = 'https://ase-lib.org'
    theory = 'a calculator of ASE'
    properties = frozenset({'energy', 'forces', 'stress'})
    periodic = True

    class Parameters(EngineParameters):
        """Parameters of :class:`AseEngine`."""

        calculator: str = Field(
            pattern=r'^[a-z0-9]+$|^[A-Za-z_][\w.]*:[A-Za-z_]\w*$',
            description='name of a calculator, or package.module:Class of one that is installed where jobs run',
        )
        options: dict[str, Option] = Field(description='arguments of its constructor')

    settings: Parameters

    @property
    def method(self) -> str:
        """Return the names of the potential and of ASE."""
        name = self.settings.calculator
        if name in PRETRAINED:
            return f'{PRETRAINED[name].title} (ASE)'
        return f'{OWN.get(name, name.rpartition(":")[2])} (ASE)'

    @classmethod
    def missing(cls, runtime: Mapping[str, Any] | None = None) -> str | None:
        """Return None: ASE comes with this package; :meth:`version_in_use` asks for the package of a potential."""
        return None

    @classmethod
    def version(cls) -> str:
        """Return the version of ASE."""
        return version('ase')

    def version_in_use(self) -> str:
        """Make the calculator, and return the version of the package that computes.

        :raises EngineError: the calculator is unknown, its package is missing, or an option does not fit.
        """
        package = type(self._calculator()).__module__.partition('.')[0]
        if package == 'ase':
            return self.version()
        distributions = packages_distributions().get(package)
        own = version(distributions[0]) if distributions else f'{package}, which has no version'
        return f'{own} (ase {self.version()})'

    def supports(self, number: int) -> bool:
        """Return whether an element has parameters; if only the calculator knows, it raises the error itself.

        :param number: atomic number.
        """
        name = self.settings.calculator
        if name in PRETRAINED:
            return number in MATERIALS_PROJECT
        if name == 'emt':
            from ase.calculators.emt import parameters

            return 1 <= number < len(SYMBOLS) and SYMBOLS[number] in parameters
        return 1 <= number < len(SYMBOLS)

    def compute(self, structure: Structure) -> Label:
        """Run one single point.

        :param structure: positions and cell in Å. Only a structure periodic in all directions has a stress.
        :raises EvaluationError: ``'engine_failure'`` on an energy, force or stress that is not finite.
        """
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        atoms = self._atoms(structure)
        with threadpool_limits(limits=self.threads), _quiet():
            calculator = self._calculator()
            calculator.reset()  # a label must not depend on what was computed before
            known = calculator.implemented_properties
            energy = calculator.get_property('free_energy' if 'free_energy' in known else 'energy', atoms)
            forces = calculator.get_property('forces', atoms) if 'forces' in known else None
            crystal = 'stress' in known and bool(np.all(structure.pbc))
            stress = calculator.get_property('stress', atoms) if crystal else None
        return Label.from_energy(
            float(energy),
            forces_ev_per_ang=None if forces is None else np.asarray(forces, dtype=np.float64),
            stress_ev_per_ang3=None if stress is None else _full(np.asarray(stress, dtype=np.float64)),
        )

    def _calculator(self) -> Any:
        settings = self.settings
        return _make_calculator(settings.calculator, json.dumps(settings.options, sort_keys=True), self.threads)

    def _atoms(self, structure: Structure) -> Atoms:
        from ase import Atoms

        pbc = np.asarray(structure.pbc)
        atoms = Atoms(np.asarray(structure.numbers), positions=np.asarray(structure.positions), pbc=pbc)
        if pbc.any():
            atoms.set_cell(np.asarray(structure.cell))
        name = self.settings.calculator
        if name in PRETRAINED and PRETRAINED[name].boxed and not pbc.all():
            atoms.center(vacuum=WIDEST_CUTOFF_ANG / 2, axis=np.flatnonzero(~pbc))
            atoms.set_pbc(True)
        return atoms


@cache
def _make_calculator(name: str, options: str, threads: int) -> Any:
    """Make a calculator once for each process: reading the weights of a potential takes seconds.

    :param options: as JSON.
    :raises EngineError: the calculator cannot be made.
    """
    fixed = PRETRAINED[name].fixed if name in PRETRAINED else {}
    with _quiet():
        factory = _find(name)
        given = json.loads(options)
        _check_options(name, factory, given, fixed)
        _limit_torch(threads)
        try:
            return factory(**fixed, **given)
        except Exception as error:  # a constructor may fail in any way
            causes = f'{type(error).__name__}: {error}' + (f' ({error.__cause__})' if error.__cause__ else '')
            raise EngineError(f'the calculator {name} with the options {given} cannot be made: {causes}') from error


def _find(name: str) -> Callable[..., Any]:
    """Import what makes a calculator.

    :raises EngineError: no such calculator, its package is missing, or it is no calculator.
    """
    from ase.calculators.calculator import BaseCalculator, get_calculator_class

    if name in OWN:
        factory: Callable[..., Any] = get_calculator_class(name)
        return factory
    module, colon, attribute = (PRETRAINED[name].path if name in PRETRAINED else name).partition(':')
    if not colon:
        raise EngineError(
            f'there is no calculator {name!r} that computes inside Python; there are: '
            f'{", ".join(sorted([*OWN, *PRETRAINED]))}; name another one that is installed as package.module:Class'
        )
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        way_out = (
            f'pip install "aiida-nanoml[{name}]" where the jobs run, or take the protocol fast: EMT, which comes with '
            f'ASE, and treats {", ".join(_emt_elements())}'
            if name in PRETRAINED
            else 'install its package where the jobs run'
        )
        raise EngineError(f'the calculator {name} cannot be imported ({error}): {way_out}') from error
    if name not in PRETRAINED and not (isinstance(found, type) and issubclass(found, BaseCalculator)):
        raise EngineError(f'{name} is no calculator of ASE; name one as package.module:Class')
    if name not in PRETRAINED and _drives_program(found):
        raise EngineError(
            f'{name} drives a program by a command line, which a job must not choose; the engine ase computes inside '
            'Python only'
        )
    made: Callable[..., Any] = found
    return made


def _drives_program(calculator: type) -> bool:
    """Return whether a class is, or extends, one of ASE's drivers of programs: all of its own calculators but a few."""
    inside = {f'ase.calculators.{module}' for module in ('abc', 'calculator', *OWN)}
    return any(
        base.__name__ == 'FileIOCalculator' or (base.__module__.startswith('ase.') and base.__module__ not in inside)
        for base in calculator.__mro__
    )


def _check_options(
    name: str, factory: Callable[..., Any], options: Mapping[str, Any], fixed: Mapping[str, Any]
) -> None:
    """Check that a calculator has the options: most take any name and ignore it.

    :raises EngineError: the valid options are listed.
    """
    from ase.calculators.calculator import BaseCalculator, Calculator

    general = (Calculator, BaseCalculator, object)
    makers = (
        [vars(base)['__init__'] for base in factory.__mro__ if '__init__' in vars(base) and base not in general]
        if isinstance(factory, type)
        else [factory]
    )
    named = {
        argument.name
        for maker in makers
        for argument in inspect.signature(maker).parameters.values()
        if argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
    }
    valid = (named | set(getattr(factory, 'default_parameters', {}))) - NOT_OPTIONS - set(fixed)
    if unknown := sorted(set(options) - valid):
        raise EngineError(
            f'the calculator {name} has no option {", ".join(unknown)}; it has: {", ".join(sorted(valid)) or "none"}'
        )
    if remote := sorted(key for key, value in options.items() if isinstance(value, str) and '://' in value):
        raise EngineError(f'option {remote[0]} of the calculator {name} must name a file or a model, not an address')


def _limit_torch(threads: int) -> None:
    if 'torch' in sys.modules:
        sys.modules['torch'].set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what calculators print while they load and compute."""
    with (
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter('ignore')
        yield


def _emt_elements() -> list[str]:
    from ase.calculators.emt import parameters

    return [symbol for symbol in SYMBOLS if symbol in parameters]


def _full(stress: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a stress (3, 3) from one in the order of Voigt, xx, yy, zz, yz, xz, xy."""
    return stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]] if stress.shape == (6,) else stress
