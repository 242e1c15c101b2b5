"""Planar averages of the potentials of SIESTA, as one-dimensional potentials.

SIESTA writes its potentials on a mesh, as the energy of an electron: the electrostatic one (``SystemLabel.VH``, with
``SaveElectrostaticPotential``) and, with exchange and correlation, the total one (``SystemLabel.VT``, with
``SaveTotalPotential``), which is the one that electrons move in. Their mean over the planes along a lattice vector is a
potential in one dimension. Its zero is arbitrary: count from the Fermi level, which is in the output and on the
first line of ``SystemLabel.EIG``.

A transmission through it is a model, and leaves out

- the non-local part of the pseudopotentials, which is not on the mesh: inside of a material the mean potential is not
  the edge of a band, and the effective mass is the caller's assumption;
- the structure within the planes: atoms, Bloch states and their symmetry, and motion along the planes;
- the image potential in front of a metal: in the local density approximation the potential in the vacuum approaches its
  level exponentially, and narrow barriers come out too high;
- the bias and the current: the potential is that of equilibrium, with the periodic images of the cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aiida_nanoml.engines.siesta.mesh import read_mesh
from aiida_nanoml.errors import DensityError, TransportError
from aiida_nanoml.transport.potential import ENERGIES, LENGTHS, Floats, Potential, check_names, checked_number
from aiida_nanoml.units import SIESTA_RYDBERG_EV

QUANTITIES = {'VH': 'electrostatic potential', 'VT': 'total potential'}
"""Potentials that can be averaged, by the ending of the file."""

SETTINGS = ('mass', 'axis', 'spin', 'periods', 'zero', 'start', 'end', 'lead')
"""What says how a potential is made of a file."""

LARGEST_FILE = 2 * 2**30
"""Files beyond this size (bytes) are not read."""

MOST_OBLIQUE = 1e-4
"""Cosine of the angle between lattice vectors up to which they are perpendicular."""


@dataclass(frozen=True, eq=False)
class PlanarAverage:
    """Mean of a periodic potential over the planes along one direction.

    Between the points it is the trigonometric polynomial through them, as in SIESTA's solution of Poisson's equation.

    :param values: (n,) potential energy of an electron in eV; value i is that at i/n of the length.
    :param length: one period, in nm.
    :param quantity: one of :data:`QUANTITIES`.
    :param name: what the potential is called.
    """

    values: Floats
    length: float
    quantity: str
    name: str = ''

    @property
    def positions(self) -> Floats:
        """(n,) places of the values, in nm."""
        return self.length * np.arange(len(self.values)) / len(self.values)

    def macroscopic(self, period: float) -> PlanarAverage:
        """Return the macroscopic average: at each place, the mean over a period of the lattice around it.

        It removes what repeats with the period, and is flat inside of a crystal; where two lattices meet, average with
        one period and then with the other (A. Baldereschi, S. Baroni, R. Resta, Phys. Rev. Lett. 61, 734 (1988)). The
        period need not be a whole number of points.

        :param period: along the direction, in nm.
        :raises TransportError: it is not positive, or longer than the cell.
        """
        period = checked_number(period, (LENGTHS[0], self.length), 'the period of a macroscopic average', 'nm')
        return replace(self, values=self._means(self.positions, period))

    def potential(
        self, mass: float, zero: float = 0.0, start: float = 0.0, end: float | None = None, lead: float = 0.0
    ) -> Potential:
        """Return the potential of a scattering region, with as many cells as there are points in it.

        The points are those of the mesh, the cells lie where the region is: each has the mean over its own width.

        :param mass: effective mass in m0, everywhere.
        :param zero: the energy of the values to count from, in eV; for example the Fermi level.
        :param start: left end of the region, in nm.
        :param end: right end of the region, in nm; None: one length behind the start. The potential is periodic: the
            region may begin before the cell, and end behind it.
        :param lead: stretch of the region at each of its ends whose mean is the potential of the lead, in nm, for
            example a period of the lattice; 0: the leads continue the first and the last cell.
        :raises TransportError: a number is not finite or out of bounds, or the region is longer than the cell, or
            shorter than its leads.
        """
        zero = checked_number(zero, ENERGIES, 'the zero of the energy', 'eV')
        start = checked_number(start, (-self.length, self.length), 'the start of the region', 'nm')
        length = self.length
        if end is not None:
            # An end that was added up may be off by a rounding.
            bounds = (start + LENGTHS[0], start + self.length * (1 + 1e-9))
            length = checked_number(end, bounds, 'the end of the region', 'nm') - start
        lead = checked_number(lead, (0.0, length / 2), 'the stretch of a lead', 'nm')
        n_cells = max(1, round(len(self.values) * length / self.length))
        width = length / n_cells
        cells = self._means(start + width * (np.arange(n_cells) + 0.5), width) - zero
        made = Potential(cells, length, mass, name=self.name)
        if not lead:
            return made
        left, right = self._means([start + lead / 2, start + length - lead / 2], lead) - zero
        return made.changed(left=left, right=right)

    def _means(self, centres: ArrayLike, width: float) -> Floats:
        """Return the means over stretches of one width, in nm, around some places, exactly."""
        n = len(self.values)
        coefficients = np.fft.rfft(self.values) / n * np.sinc(np.arange(n // 2 + 1) * width / self.length)
        coefficients[1 : (n + 1) // 2] *= 2
        waves = np.exp(2j * np.pi * np.asarray(centres) / self.length)
        means: Floats = np.polynomial.polynomial.polyval(waves, coefficients).real
        return means


def read_planar_average(path: Path | str, axis: int = 2, spin: int | None = None) -> PlanarAverage:
    """Read a potential that SIESTA wrote, and average it over planes.

    :param path: a file that ends in ``.VH`` or ``.VT``.
    :param axis: number of the lattice vector along which to go, 0 to 2.
    :param spin: 0 for electrons of spin up, 1 for down, in a calculation with collinear spin, where each has a total
        potential of its own; None: there is only one potential.
    :raises TransportError: the file cannot be read, or is no such potential; the lattice vector is not perpendicular to
        the other two; there are potentials for two spins and no choice, or a spin that there is not.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise TransportError(f'{path} cannot be read: there is no such file, or it is a folder')
        if path.stat().st_size > LARGEST_FILE:
            raise TransportError(f'{path} is larger than {LARGEST_FILE / 2**30:g} GB: average it elsewhere')
        content = path.read_bytes()
    except OSError as error:
        raise TransportError(f'{path} cannot be read: {error.strerror or error}') from error
    return parse_planar_average(content, path.name, axis, spin)


def parse_planar_average(content: bytes, name: str, axis: int = 2, spin: int | None = None) -> PlanarAverage:
    """Average the content of a file that SIESTA wrote.

    :param name: of the file; its ending says which potential it is.
    :raises TransportError: as of :func:`read_planar_average`.
    """
    stem, _, quantity = name.rpartition('.')
    if quantity not in QUANTITIES:
        known = ' and '.join(f'{title}s end in .{ending}' for ending, title in QUANTITIES.items())
        raise TransportError(f'{name} is no potential of SIESTA by its name: {known}')
    if axis not in (0, 1, 2):
        raise TransportError(f'there is no lattice vector {axis!r}: choose 0, 1 or 2')
    try:
        mesh = read_mesh(content, name)
    except DensityError as error:
        raise TransportError(str(error)) from error
    grids = mesh.values
    if len(grids) > 2:
        raise TransportError(
            f'{name} has {len(grids)} components: only collinear spin has a potential for each of its directions'
        )
    if spin is None and len(grids) == 2:
        raise TransportError(f'{name} has a potential for each spin: choose spin 0 (up) or 1 (down)')
    chosen = 0 if spin is None else spin
    if chosen not in range(len(grids)):
        raise TransportError(f'{name} has no spin {chosen!r}: there are {len(grids)}, counted from 0')
    cell = mesh.cell / 10  # in nm
    lengths = np.linalg.norm(cell, axis=1)
    cosines = np.abs(cell @ cell[axis]) / (lengths * lengths[axis])
    for other in {0, 1, 2} - {axis}:
        if cosines[other] > MOST_OBLIQUE:
            raise TransportError(
                f'{name}: lattice vectors {axis} and {other} are not perpendicular (their cosine is '
                f'{cosines[other]:.3g}): the planes along the first are no planes of the mesh; choose another axis'
            )
    others = tuple(other for other in range(3) if other != axis)
    with np.errstate(invalid='ignore'):
        values = SIESTA_RYDBERG_EV * grids[chosen].mean(axis=others, dtype=np.float64)
    strange = np.flatnonzero(~(np.abs(values) <= ENERGIES[1]))
    if len(strange):
        raise TransportError(
            f'{name}: the mean of plane {strange[0]} of {len(values)} is {values[strange[0]]:g} eV: the file is damaged'
        )
    return PlanarAverage(values, float(lengths[axis]), quantity, stem)


def make_average_potential(content: bytes, name: str, settings: Mapping[str, Any]) -> Potential:
    """Make a potential of the content of a file that SIESTA wrote.

    :param name: of the file.
    :param settings: ``mass`` in m0; if wanted ``axis`` and ``spin``, arguments of :func:`parse_planar_average`,
        ``periods`` in nm, for each of which a macroscopic average is taken, and ``zero``, ``start``, ``end`` and
        ``lead``, arguments of :meth:`PlanarAverage.potential`.
    :raises TransportError: the content cannot be read, or a setting is unknown, missing, or cannot be used.
    """
    check_names('an average has the settings', settings, SETTINGS, SETTINGS[:1])
    average = parse_planar_average(content, name, settings.get('axis', 2), settings.get('spin'))
    for period in settings.get('periods', []):
        average = average.macroscopic(period)
    return average.potential(
        **{key: settings[key] for key in ('mass', 'zero', 'start', 'end', 'lead') if key in settings}
    )
