"""Generators of potentials by name: barriers, wells, ramps, and any sequence of layers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.potential import (
    ENERGIES,
    LENGTHS,
    MASSES,
    Floats,
    Potential,
    PotentialSet,
    check_names,
    checked_number,
)

FLAT_CELLS = 512
"""Least number of cells of a potential that is constant in layers."""

COMMON_CELLS = 8192
"""Most cells that are taken to have a border wherever a layer ends."""

FINE_CELLS = 32768
"""Cells of layers whose thicknesses have no common cell."""

SLOPED_CELLS = 8192
"""Least number of cells of a potential with a slope, which becomes a staircase."""


def layers(sequence: Sequence[Sequence[float]], left: float = 0.0, right: float | None = None) -> Potential:
    """Put layers side by side between two leads.

    The cells have a border wherever a layer ends, if :data:`COMMON_CELLS` or fewer are enough for that. Else there are
    :data:`FINE_CELLS`, and those in which a layer ends have the mean over their width; their size, squared, is what is
    lost.

    :param sequence: (thickness in nm, energy in eV, effective mass in m0) of each layer, from left to right.
    :param left: potential of the left lead, in eV; its mass is that of the first layer.
    :param right: potential of the right lead, in eV; None: that of the left one. Its mass is that of the last layer.
    :raises TransportError: numbers that cannot be used.
    """
    if not sequence or any(len(layer) != 3 for layer in sequence):
        raise TransportError('layers are rows of three numbers: thickness in nm, energy in eV, effective mass in m0')
    thicknesses = [checked_number(layer[0], LENGTHS, 'the thickness of a layer', 'nm') for layer in sequence]
    heights = np.array([checked_number(layer[1], ENERGIES, 'the potential of a layer', 'eV') for layer in sequence])
    masses = np.array([checked_number(layer[2], MASSES, 'the effective mass of a layer', 'm0') for layer in sequence])
    counts = _common_cells(thicknesses)
    if counts is None:
        borders = np.cumsum([0.0, *thicknesses])
        values = _means(borders, heights)
        mass = masses[:1] if (masses == masses[0]).all() else _means(borders, masses)
    else:
        values, mass = np.repeat(heights, counts), np.repeat(masses, counts)
    return Potential(
        values,
        math.fsum(thicknesses),
        mass,
        left,
        left if right is None else right,
        left_mass=float(masses[0]),
        right_mass=float(masses[-1]),
    )


def barrier(height: float = 0.1, width: float = 10.0, mass: float = 0.067) -> Potential:
    """Make a rectangular barrier.

    :param height: in eV above the leads.
    :param width: in nm.
    :param mass: effective mass in m0.
    """
    return layers([(width, height, mass)])


def well(depth: float = 0.1, width: float = 10.0, mass: float = 0.067) -> Potential:
    """Make a rectangular well.

    :param depth: in eV below the leads.
    :param width: in nm.
    :param mass: effective mass in m0.
    """
    return layers([(width, -depth, mass)])


def double_barrier(height: float = 0.3, width: float = 4.0, separation: float = 8.0, mass: float = 0.067) -> Potential:
    """Make two equal barriers with a well between them, the resonant tunnelling diode.

    :param height: of the barriers, in eV above the leads.
    :param width: of each barrier, in nm.
    :param separation: width of the well, in nm.
    :param mass: effective mass in m0.
    """
    return layers([(width, height, mass), (separation, 0.0, mass), (width, height, mass)])


def step(height: float = 0.1, mass: float = 0.067) -> Potential:
    """Make a step between two leads.

    :param height: of the right lead, in eV above the left one.
    :param mass: effective mass in m0.
    """
    return layers([(1.0, 0.0, mass)], right=height)


def ramp(drop: float = 0.1, length: float = 10.0, mass: float = 0.067) -> Potential:
    """Make an even slope between two leads.

    :param drop: how much lower the right lead is, in eV.
    :param length: in nm.
    :param mass: effective mass in m0.
    """
    return Potential(np.zeros(SLOPED_CELLS), length, mass).biased(drop)


PRESETS: Mapping[str, Callable[..., Potential]] = {
    'barrier': barrier,
    'well': well,
    'double_barrier': double_barrier,
    'step': step,
    'ramp': ramp,
    'layers': layers,
}
"""Potentials that have a name."""

UNITS = {
    'height': 'eV', 'depth': 'eV', 'drop': 'eV', 'width': 'nm', 'separation': 'nm', 'length': 'nm', 'mass': 'm0',
    'bias': 'eV', 'scale': '',
}  # fmt: skip
"""Unit of each parameter that is a number."""

CHANGES = ('mass', 'bias', 'scale')
"""What can be changed of any potential."""


def preset_parameters(name: str) -> dict[str, Any]:
    """Return the parameters of a preset and their defaults.

    :raises TransportError: there is no such preset.
    """
    if name not in PRESETS:
        raise TransportError(f'there is no potential {name!r}: choose {", ".join(PRESETS)}')
    return {key: port.default for key, port in inspect.signature(PRESETS[name]).parameters.items()}


def make_potential(name: str, parameters: Mapping[str, Any]) -> Potential:
    """Make a potential by name.

    :param name: one of :data:`PRESETS`.
    :param parameters: arguments of the preset, and ``bias`` in eV, a voltage that drops evenly over the region.
    :raises TransportError: the name or a parameter is unknown, missing, or cannot be used.
    """
    known = preset_parameters(name)
    required = [key for key, default in known.items() if default is inspect.Parameter.empty]
    check_names(f'the potential {name} has the parameters', parameters, [*known, 'bias'], required)
    given = dict(parameters)
    bias = given.pop('bias', 0.0)
    try:
        potential = PRESETS[name](**given)
    except TypeError as error:
        raise TransportError(f'the potential {name} cannot be made of {given}: {error}') from error
    if bias:
        potential = _finer(potential).biased(bias)
    return potential.changed(name=name)


def change_potential(potential: Potential, parameter: str, value: float) -> Potential:
    """Change one parameter of a given potential.

    :param parameter: ``mass``, one for the region and the leads, in m0; ``bias``, in eV; or ``scale``, a factor of all
        differences to the left lead.
    :raises TransportError: there is no such parameter, or its value cannot be used.
    """
    if parameter == 'mass':
        return potential.with_mass(value)
    if parameter == 'bias':
        return _finer(potential).biased(value)
    if parameter == 'scale':
        return potential.scaled(value)
    raise TransportError(f'a given potential has no parameter {parameter!r}: choose {", ".join(CHANGES)}')


def vary_preset(name: str, parameters: Mapping[str, Any], parameter: str, values: Sequence[float]) -> PotentialSet:
    """Make a potential with several values of one parameter.

    :param parameters: of the preset; the varied one is replaced.
    :returns: potentials whose names end in ``, <parameter> = <value> <unit>``.
    :raises TransportError: as of :func:`make_potential`, and where a value is no number.
    """
    made = [make_potential(name, {**parameters, parameter: _value(parameter, value)}) for value in values]
    return PotentialSet(_add_titles(made, parameter, values))


def vary_potential(potential: Potential, parameter: str, values: Sequence[float]) -> PotentialSet:
    """Change one parameter of a given potential to several values.

    :returns: potentials whose names end in ``, <parameter> = <value> <unit>``.
    :raises TransportError: as of :func:`change_potential`, and where a value is no number.
    """
    made = [change_potential(potential, parameter, _value(parameter, value)) for value in values]
    return PotentialSet(_add_titles(made, parameter, values))


def _add_titles(potentials: Sequence[Potential], parameter: str, values: Sequence[float]) -> list[Potential]:
    unit = UNITS.get(parameter, '')
    return [
        potential.changed(name=f'{potential.name or "potential"}, {parameter} = {value:g} {unit}'.rstrip())
        for potential, value in zip(potentials, values, strict=True)
    ]


def _value(parameter: str, value: Any) -> float:
    if parameter not in UNITS:
        raise TransportError(f'{parameter!r} cannot be varied: choose a number such as {", ".join(UNITS)}')
    return checked_number(value, (-1e7, 1e7), parameter, UNITS[parameter])


def _finer(potential: Potential) -> Potential:
    """Divide cells, so that a slope becomes a fine staircase."""
    parts = math.ceil(SLOPED_CELLS / len(potential))
    return potential.changed(values=np.repeat(potential.values, parts), mass=np.repeat(potential.masses, parts))


def _common_cells(thicknesses: Sequence[float]) -> list[int] | None:
    """Return how many equal cells each layer takes, with borders where layers end; None where it takes too many."""
    exact = [Fraction(repr(thickness)) for thickness in thicknesses]
    denominator = math.lcm(*(thickness.denominator for thickness in exact))
    counts = [int(thickness * denominator) for thickness in exact]
    common = math.gcd(*counts)
    counts = [count // common for count in counts]
    if sum(counts) > COMMON_CELLS:
        return None
    parts = math.ceil(FLAT_CELLS / sum(counts))
    return [parts * count for count in counts]


def _means(borders: Floats, numbers: Floats) -> Floats:
    """Return the mean of a number of each layer over each of many equal cells."""
    edges = np.linspace(0.0, borders[-1], FINE_CELLS + 1)
    owners = np.clip(np.searchsorted(borders, edges, side='right') - 1, 0, len(numbers) - 1)
    integrals = np.concatenate([[0.0], np.cumsum(numbers * np.diff(borders))])
    averaged = np.diff(np.interp(edges, borders, integrals)) / np.diff(edges)
    means: Floats = np.where(owners[:-1] == owners[1:], numbers[owners[:-1]], averaged)
    return means
