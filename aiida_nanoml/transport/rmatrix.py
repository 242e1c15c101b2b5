"""Transmission of a one-dimensional potential by the R-matrix method, in a basis of cosines.

The Wigner-Eisenbud functions of the scattering region, eigenfunctions with zero slope at both of its ends, are expanded
in cosines. One diagonalisation gives their energies and their values at the ends, from which the S-matrix follows at
every energy (U. Wulf, J. Kucera, P. N. Racec, E. Sigmund, Phys. Rev. B 58, 16209 (1998)).

What the truncated basis lacks is added in two steps: the functions beyond it in the mean potential, as a closed series
(P. J. A. Buttle, Phys. Rev. 160, 719 (1967)), and their coupling to the basis and to each other by the potential in
first order (P.-O. Löwdin, J. Chem. Phys. 19, 1396 (1951)), which keeps the poles and needs no other diagonalisation.

An effective mass that depends on the position is taken into the coordinate, dy = m(x)/<m> dx. In y the equation of
D. J. BenDaniel and C. B. Duke, Phys. Rev. 152, 683 (1966), has one mass, and the energy a weight: the functions have no
kinks, and the series of cosines converges as for one mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dct
from scipy.linalg import LinAlgError, eigh, hankel, matmul_toeplitz, toeplitz
from scipy.special import zeta

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.potential import ENERGIES, Floats, Potential
from aiida_nanoml.transport.settings import CORRECTIONS, MOST_COSINES
from aiida_nanoml.units import HBAR2_OVER_2M0_EV_NM2

Complexes = NDArray[np.complex128]

COUPLED_PER_COSINE = 4
"""Functions beyond the basis whose coupling is taken into account, for each cosine of it."""

MOST_COUPLED = 8192
"""Such functions at most."""

TAIL_RATIO = 0.25
"""Largest energy above or below the mean potential, in units of the kinetic energy of the first missing cosine."""

_TAIL_TERMS = 28
"""Terms of the series of the tail: TAIL_RATIO to this power is below the rounding of a number."""

_LOOKED_AT = 100
"""Energies at which an error is estimated, at least."""

ENERGY_BLOCK = 4_000_000
"""Pole terms in memory at the same time."""


@dataclass(frozen=True, eq=False)
class Scattering:
    """Scattering of an electron between the leads.

    Lead 0 is the left one. Amplitudes are those of unit flux at the ends of the region; those of a closed lead, whose
    waves decay, are zero.

    :param energies: (n,) in eV.
    :param s_matrix: (n, 2, 2), symmetric.
    :param open_leads: (n, 2) whether a wave propagates in each lead.
    """

    energies: Floats
    s_matrix: Complexes
    open_leads: NDArray[np.bool_]

    @property
    def transmission(self) -> Floats:
        """(n,) probability of transmission, zero where a lead is closed."""
        return np.abs(self.s_matrix[:, 0, 1]) ** 2

    @property
    def reflection(self) -> Floats:
        """(n, 2) probability of reflection into each lead, NaN where it is closed."""
        found = np.abs(np.diagonal(self.s_matrix, axis1=1, axis2=2)) ** 2
        return np.where(self.open_leads, found, np.nan)

    @property
    def phase(self) -> Floats:
        """(n,) phase of the transmitted wave in rad, without jumps of 2π; NaN where a lead is closed."""
        both = self.open_leads[:, 0] & self.open_leads[:, 1]
        phase = np.full(both.shape, np.nan)
        phase[both] = np.unwrap(np.angle(self.s_matrix[both, 0, 1]))
        return phase

    @property
    def unitarity_defect(self) -> float:
        """Largest deviation of S†S from one, over all energies and open leads."""
        product = self.s_matrix.conj().transpose(0, 2, 1) @ self.s_matrix
        ones = np.eye(2) * self.open_leads[:, None, :]
        return float(np.abs(product - ones).max(initial=0.0))


@dataclass(frozen=True, eq=False)
class RMatrix:
    """The R-matrix of a scattering region, a meromorphic function of the energy, between its leads.

    With the outward flux F = ħ²/(2m) dψ/dn at both ends, ψ = R F and
    R(E) = sum_l γ_l γ_l^T / (ε_l - E) + C_0 + C_1 (E - E_0) + tail of the mean potential.

    :param potential: the region, without the flat ends that belong to the leads, and its leads.
    :param cut: (2,) flat ends that were given to the left and to the right lead, in nm.
    :param levels: (n_basis,) Wigner-Eisenbud energies ε_l in eV, ascending.
    :param amplitudes: (n_basis, 2) values γ_l of the functions at the left and at the right end, in nm^-1/2.
    :param centre: the energy E_0, in eV.
    :param constants: (2, 2, 2) the matrices C_0 and C_1, in 1/(eV nm) and 1/(eV² nm).
    :param tail: the functions beyond the basis; None: left out.
    """

    potential: Potential
    cut: Floats
    levels: Floats
    amplitudes: Floats
    centre: float
    constants: Floats
    tail: _Tail | None

    def scatter(self, energies: ArrayLike) -> Scattering:
        """Return the S-matrix at all energies.

        The two poles next to an energy are kept apart (Woodbury's identity): the result is as good on a pole as
        elsewhere.

        :param energies: (n,) in eV.
        :raises TransportError: energies that are not finite, or farther from the mean potential than the basis allows.
        """
        wanted = _energies(energies)
        _require_basis(self.potential, len(self.levels), wanted)
        s_matrix = np.empty((len(wanted), 2, 2), dtype=np.complex128)
        size = max(1, ENERGY_BLOCK // len(self.levels))
        for begin in range(0, len(wanted), size):
            s_matrix[begin : begin + size] = self._s_matrix(wanted[begin : begin + size])
        open_leads = wanted[:, None] > self.potential.leads
        numbers = self.wave_factors(wanted).real * self.potential.lead_masses / HBAR2_OVER_2M0_EV_NM2
        phases = np.exp(1j * numbers * self.cut)
        both = open_leads[:, :, None] & open_leads[:, None, :]
        s_matrix = np.where(both, s_matrix * phases[:, :, None] * phases[:, None, :], 0.0)
        return Scattering(wanted, s_matrix, open_leads)

    def wave_factors(self, energies: Any) -> Complexes:
        """Return ħ²k/(2m) of both leads in eV nm, (n, 2); in a closed lead k is positive imaginary.

        :param energies: (n,) in eV, real or complex.
        """
        kinetic = HBAR2_OVER_2M0_EV_NM2 / self.potential.lead_masses
        above = np.asarray(energies, dtype=np.complex128)[:, None] - self.potential.leads
        # The branch of decaying waves below the edge of a lead, and of outgoing ones above it.
        factors: Complexes = np.sqrt(kinetic) * np.where(above.real < 0, 1j * np.sqrt(-above), np.sqrt(above))
        return factors

    @property
    def rounding(self) -> float:
        """Rounding error of the levels, in eV: a few units in the last place of the largest one."""
        return float(4 * np.finfo(np.float64).eps * np.abs(self.levels).max())

    def background(self, energies: Any, skip: NDArray[np.intp]) -> tuple[Any, Any]:
        """Return the R-matrix without some of its poles, and the distances of those.

        :param energies: (n,) in eV, real or complex.
        :param skip: (n, m) the poles to leave out.
        :returns: (n, 2, 2) in 1/(eV nm), and (n, m) ε_l - E of the poles that were left out, in eV.
        """
        distances = self.levels - energies[:, None]
        left_out = np.take_along_axis(distances, skip, axis=1)
        np.put_along_axis(distances, skip, np.inf, axis=1)
        left, right = self.amplitudes.T
        sums = (1.0 / distances) @ np.stack([left * left, left * right, right * right], axis=1)
        matrix = sums[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
        matrix += self.constants[0] + (energies - self.centre)[:, None, None] * self.constants[1]
        if self.tail is not None:
            same, across = self.tail(energies)
            matrix += same[:, None, None] * np.eye(2) + across[:, None, None] * (1 - np.eye(2))
        return matrix, left_out

    def _s_matrix(self, energies: Floats) -> Complexes:
        first = np.clip(np.searchsorted(self.levels, energies) - 1, 0, len(self.levels) - 2)
        skip = np.stack([first, first + 1], axis=1)
        background, distances = self.background(energies, skip)
        coupling = self.amplitudes[skip].transpose(0, 2, 1)
        # A pole without any coupling adds nothing, and would leave nothing to divide by when it is hit.
        distances[(coupling == 0).all(axis=1)] = 1.0
        poles = distances[:, :, None] * np.eye(2)
        # Closed leads first, in real numbers: the shift of a pole by its decaying waves would else drown its width.
        open_leads = energies[:, None] > self.potential.leads
        roots = np.sqrt(np.abs(self.wave_factors(energies)))
        tails = np.where(open_leads, 0.0, roots)
        inside = np.eye(2) + tails[:, :, None] * background * tails[:, None, :]
        closed = tails[:, :, None] * inverses(inside) * tails[:, None, :]
        poles += coupling.transpose(0, 2, 1) @ closed @ coupling
        coupling = coupling - background @ closed @ coupling
        background = background - background @ closed @ background
        # Then each of the two poles by itself, so that the width of a narrow one is no difference of broad ones.
        angles = 0.5 * np.arctan2(2 * poles[:, 0, 1], poles[:, 0, 0] - poles[:, 1, 1])
        turns = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
        places = np.diagonal(turns.transpose(0, 2, 1) @ poles @ turns, axis1=1, axis2=2)
        waves = np.where(open_leads, roots, 0.0)
        inner = inverses(np.eye(2) - 1j * waves[:, :, None] * background * waves[:, None, :])
        coupling = waves[:, :, None] * coupling @ turns
        dressed = inner @ coupling
        poles = places[:, :, None] * np.eye(2) - 1j * coupling.transpose(0, 2, 1) @ dressed
        poles[~open_leads.any(axis=1)] = np.eye(2)  # nothing scatters, also not on a bound state
        total = inner + 1j * dressed @ inverses(poles) @ dressed.transpose(0, 2, 1)
        matrix: Complexes = np.eye(2) - 2 * total
        return matrix


def solve(
    potential: Potential,
    lowest: float,
    highest: float,
    n_basis: int = 512,
    correction: str = CORRECTIONS[0],
    n_coupled: int | None = None,
) -> RMatrix:
    """Find the R-matrix of a potential, for energies between two bounds.

    Flat ends of the region are taken as leads first: the fewer cosines go to waste, the better is what remains.

    :param potential: the region and its leads.
    :param lowest: lower bound of the energies, in eV.
    :param highest: upper bound of the energies, in eV.
    :param n_basis: number of cosines.
    :param correction: one of :data:`~aiida_nanoml.transport.settings.CORRECTIONS`.
    :param n_coupled: functions beyond the basis that ``coupled`` takes in; None: :data:`COUPLED_PER_COSINE` for each
        cosine, and :data:`MOST_COUPLED` at most.
    :raises TransportError: bounds, basis or correction that cannot be used.
    """
    bounds = _check_request(lowest, highest, n_basis, correction)
    potential, cut = potential.without_flat_ends()
    _require_basis(potential, n_basis, bounds)
    n_coupled = coupled_functions(n_basis, correction) if n_coupled is None else n_coupled
    centre = float(bounds.mean())
    numbers = np.arange(n_basis + n_coupled)
    kinetic_energies = _kinetic_energies(potential, numbers)
    ends = np.sqrt(np.where(numbers == 0, 1.0, 2.0) / potential.length)[:, None] * np.stack(
        [np.ones(len(numbers)), 1.0 - 2.0 * (numbers % 2)], axis=1
    )
    weights = None if potential.masses.max() == potential.masses.min() else _coefficients(potential, None, len(numbers))
    fields = _coefficients(potential, centre, len(numbers))

    hamiltonian = _inner_block(fields, n_basis)
    hamiltonian[np.diag_indices(n_basis)] += kinetic_energies[:n_basis]
    overlap = None if weights is None else _inner_block(weights, n_basis)
    values, slopes = ends[:n_basis], np.zeros((n_basis, 2))
    constants = np.zeros((2, 2, 2))
    if n_coupled:
        outer = kinetic_energies[n_basis:, None] + fields[0]
        far = ends[n_basis:] / outer
        coupling = _outer_block(fields, n_basis, n_coupled)
        scaled = coupling / outer.T
        hamiltonian -= scaled @ coupling.T
        values = values - coupling @ far
        slopes = -scaled @ far
        constants[0] = far.T @ (fields[0] * far - _far_product(fields, n_basis, far))
        if weights is not None and overlap is not None:
            weighted = _outer_block(weights, n_basis, n_coupled)
            crossed = scaled @ weighted.T
            # With all weights among the outer functions the overlap stays positive, however much the masses differ.
            overlap += scaled @ _far_product(weights, n_basis, scaled.T) - crossed - crossed.T
            slopes += weighted @ far
            constants[1] = far.T @ (_far_product(weights, n_basis, far) - weights[0] * far)
    try:
        shifts, functions = eigh(hamiltonian, overlap, driver='evd' if overlap is None else 'gvd', check_finite=False)
    except LinAlgError as error:
        raise TransportError(f'the levels cannot be found with {n_basis} cosines, take more: {error}') from error
    # The ends of a function depend on the energy, values + slopes (E - E_0); taken at its own level they are the
    # residue of the pole, and what remains is a constant and a linear term.
    slopes = functions.T @ slopes
    amplitudes = functions.T @ values + shifts[:, None] * slopes
    mixed = amplitudes.T @ slopes
    constants[0] += slopes.T @ (shifts[:, None] * slopes) - mixed - mixed.T
    constants[1] -= slopes.T @ slopes
    tail = _Tail(potential, n_basis) if correction != 'none' else None
    return RMatrix(potential, cut, centre + shifts, amplitudes, centre, constants, tail)


def _check_request(lowest: float, highest: float, n_basis: int, correction: str) -> Floats:
    """Check the arguments of :func:`solve`, and return the bounds of the energies (2,)."""
    bounds = _energies([lowest, highest])
    if lowest > highest:
        raise TransportError(f'the lowest energy, {lowest:g} eV, is above the highest, {highest:g} eV')
    if correction not in CORRECTIONS:
        raise TransportError(f'there is no correction {correction!r}: choose {", ".join(CORRECTIONS)}')
    if not 2 <= n_basis <= MOST_COSINES:
        raise TransportError(f'the basis must have 2 to {MOST_COSINES} cosines, got {n_basis}')
    return bounds


def coupled_functions(n_basis: int, correction: str) -> int:
    """Return how many functions beyond a basis are coupled to it."""
    return min(COUPLED_PER_COSINE * n_basis, MOST_COUPLED) if correction == 'coupled' else 0


@dataclass(frozen=True)
class Truncation:
    """What the finite basis costs, by estimate.

    :param error: largest error of a transmission.
    :param floor: transmissions at or below are noise; zero if there are none.
    """

    error: float
    floor: float


UNKNOWN = Truncation(1.0, 1.0)
"""Estimate for a basis that is too small for one: half of it cannot carry the energies, or resolve the potential."""


def estimate_truncation(
    potential: Potential, rmatrix: RMatrix, energies: ArrayLike, correction: str = CORRECTIONS[0]
) -> Truncation:
    """Estimate what the finite basis costs, by the change of the S-matrix against half of the basis.

    With the corrections the error falls with the third power of the basis: the estimate is some seven times too large.
    Where half of the basis cannot carry the energies, the change against a larger part is scaled for it. A transmission
    is noise where this change is as large as its amplitude.

    :param potential: that was solved.
    :param rmatrix: the solution with the whole basis.
    :param energies: (n,) in eV; of few, others between them are looked at as well.
    :param correction: as of :func:`solve`.
    """
    wanted = _energies(energies)
    lowest, highest = float(wanted.min()), float(wanted.max())
    looked_at = np.union1d(wanted, np.linspace(lowest, highest, _LOOKED_AT)) if len(wanted) < _LOOKED_AT else wanted
    n_basis = len(rmatrix.levels)
    part = max(n_basis // 2, cosines_needed(potential, wanted))
    if not 2 <= part < n_basis or not _resolves(potential, n_basis, wanted):
        return UNKNOWN
    n_coupled = coupled_functions(n_basis, correction) * part // n_basis
    found = rmatrix.scatter(looked_at)
    other = solve(potential, lowest, highest, part, correction, n_coupled).scatter(looked_at)
    scale = 7 / ((n_basis / part) ** 3 - 1)
    error = scale * np.abs(other.transmission - found.transmission).max()
    amplitudes = found.s_matrix[:, 0, 1]
    noisy = scale * np.abs(other.s_matrix[:, 0, 1] - amplitudes) >= np.abs(amplitudes)
    return Truncation(min(1.0, float(error)), float(found.transmission[noisy].max(initial=0.0)))


class _Tail:
    """The functions beyond the basis in the mean potential: a power series in the energy, for both kinds of elements.

    The sum over n >= N of 1/(n² - x) is that of x^p ζ(2p + 2, N) over p, with Hurwitz's zeta function.
    """

    def __init__(self, potential: Potential, n_basis: int) -> None:
        powers = 2.0 * np.arange(_TAIL_TERMS) + 2
        scale = 2 / (potential.length * _kinetic_energies(potential, 1)) * float(n_basis) ** (powers - 2)
        self.mean = potential.values.mean()
        self.scale = _kinetic_energies(potential, n_basis)
        self.same = scale * zeta(powers, n_basis)
        alternating = 2.0**-powers * (zeta(powers, n_basis / 2) - zeta(powers, (n_basis + 1) / 2))
        self.across = scale * alternating * (1 - 2 * (n_basis % 2))

    def __call__(self, energies: Any) -> tuple[Any, Any]:
        """Return the elements of equal and of different ends, each (n,), in 1/(eV nm)."""
        ratios = (energies - self.mean) / self.scale
        return np.polynomial.polynomial.polyval(ratios, self.same), np.polynomial.polynomial.polyval(
            ratios, self.across
        )


def _coefficients(potential: Potential, centre: float | None, n_functions: int) -> Floats:
    """Return the mean of f(y) cos(nπy/L) over the region for n = 0 … 2 n_functions, exactly.

    :param centre: f is the potential above this energy, times the weight <m>/m(y); None: the weight alone.
    """
    heights = np.ones(len(potential)) if centre is None else potential.values - centre
    numbers = np.arange(2 * n_functions + 1)
    mean_mass = potential.masses.mean()
    if potential.masses.max() == potential.masses.min():
        # Midpoints of equal cells: a discrete cosine transform, continued by its symmetry beyond the number of cells.
        transformed = dct(heights, type=2) / (2 * len(heights))
        period = np.concatenate([transformed, [0.0], -transformed[:0:-1]])
        turns, places = np.divmod(numbers, len(period))
        signs = 1.0 - 2.0 * (turns % 2)
        coefficients: Floats = signs * period[places] * np.sinc(numbers / len(period))
        return coefficients
    edges = np.concatenate([[0.0], np.cumsum(potential.masses / mean_mass)]) / len(potential)
    heights = heights * mean_mass / potential.masses
    steps = np.flatnonzero(np.diff(heights))
    coefficients = np.zeros(len(numbers))
    for begin in range(0, len(steps), 1 + ENERGY_BLOCK // len(numbers)):
        chosen = steps[begin : begin + 1 + ENERGY_BLOCK // len(numbers)]
        jumps = heights[chosen] - heights[chosen + 1]
        coefficients[1:] += np.sin(np.pi * numbers[1:, None] * edges[chosen + 1]) @ jumps
    coefficients[1:] /= np.pi * numbers[1:]
    coefficients[0] = heights @ np.diff(edges)
    return coefficients


def _inner_block(coefficients: Floats, n_basis: int) -> Floats:
    """Return the matrix of a field between the functions of the basis."""
    matrix: Floats = toeplitz(coefficients[:n_basis]) + hankel(
        coefficients[:n_basis], coefficients[n_basis - 1 : 2 * n_basis - 1]
    )
    matrix[0] *= np.sqrt(0.5)
    matrix[:, 0] *= np.sqrt(0.5)
    return matrix


def _outer_block(coefficients: Floats, n_basis: int, n_coupled: int) -> Floats:
    """Return the matrix of a field between the basis and the functions next to it, (n_basis, n_coupled)."""
    differences = sliding_window_view(coefficients[1:], n_coupled)[:n_basis][::-1]
    sums = sliding_window_view(coefficients[n_basis:], n_coupled)[:n_basis]
    matrix: Floats = differences + sums
    matrix[0] *= np.sqrt(0.5)
    return matrix


def _far_product(coefficients: Floats, n_basis: int, vectors: Floats) -> Floats:
    """Apply the matrix of a field among the functions beyond the basis to vectors (n_coupled, m)."""
    n = len(vectors)
    sums = coefficients[2 * n_basis : 2 * n_basis + 2 * n - 1]
    product: Floats = matmul_toeplitz(coefficients[:n], vectors)
    product += matmul_toeplitz((sums[n - 1 :], sums[n - 1 :: -1]), vectors[::-1])
    return product


def inverses(matrices: NDArray[Any]) -> Any:
    """Invert 2x2 matrices (n, 2, 2), real or complex, without a loop."""
    (a, b), (c, d) = matrices.transpose(1, 2, 0)
    return (np.array([[d, -b], [-c, a]]) / (a * d - b * c)).transpose(2, 0, 1)


def _energies(energies: ArrayLike) -> Floats:
    try:
        wanted = np.array(energies, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TransportError(f'energies must be numbers in eV: {error}') from error
    if wanted.ndim != 1 or not len(wanted):
        raise TransportError(f'energies must be one row of at least one number; the shape is {wanted.shape}')
    strange = wanted[~((ENERGIES[0] <= wanted) & (wanted <= ENERGIES[1]))]
    if len(strange):
        raise TransportError(f'an energy is {strange[0]:g}: it must be between {ENERGIES[0]:g} and {ENERGIES[1]:g} eV')
    return wanted


def cosines_needed(potential: Potential, energies: ArrayLike) -> int:
    """Return the size of the smallest basis that can carry some energies.

    :param energies: (n,) in eV.
    """
    region, _ = potential.without_flat_ends()
    farthest = float(np.abs(np.asarray(energies) - region.values.mean()).max())
    return int(np.ceil(np.sqrt(farthest / (TAIL_RATIO * _kinetic_energies(region, 1)))))


def _kinetic_energies(potential: Potential, numbers: Any) -> Any:
    """Return the kinetic energies of cosines in eV."""
    return HBAR2_OVER_2M0_EV_NM2 / potential.masses.mean() * (np.pi * numbers / potential.length) ** 2


def _resolves(potential: Potential, n_basis: int, energies: Floats) -> bool:
    """Return whether the cosines beyond a basis are faster than the potential is high, so that its effect is small."""
    region, _ = potential.without_flat_ends()
    weights = region.masses.mean() / region.masses
    heights = np.abs(weights * (region.values - 0.5 * (energies.min() + energies.max())))
    return bool(heights.max() <= _kinetic_energies(region, n_basis))


def _require_basis(potential: Potential, n_basis: int, energies: Floats) -> None:
    """Refuse energies that the basis cannot carry."""
    needed = cosines_needed(potential, energies)
    if n_basis < needed:
        advice = 'choose lower energies or a shorter region' if needed > MOST_COSINES else f'take at least {needed}'
        raise TransportError(
            f'{n_basis} cosines are too few for energies from {energies.min():.6g} to {energies.max():.6g} eV in a '
            f'region of {potential.length:g} nm with a mean potential of {potential.values.mean():.6g} eV: {advice}'
        )
