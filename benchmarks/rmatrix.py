"""Time and accuracy of the R-matrix kernel, 1,000 energies with 512 cosines; prints one line of JSON.

Run on one core: ``OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/rmatrix.py``. The time is that of ``solve`` and
``scatter``. Accuracy is measured against the closed form of a rectangular barrier, which fills its region of 100 nm
(the source's example, 1024 cells, 0.1 eV, 0.023 m0), or is 10 nm in the middle of 50 nm: once with flat ends, which the
kernel gives to the leads, and once with ends of 1e-16 eV, which it cannot. The matrix of the example is diagonal, from
which its diagonalisation profits: the time of a rough barrier, another height in each of the 1024 cells, is that of
potentials in general. ``report_seconds`` is the time of all that a command reports: also the resonances, and half the
basis for the estimate of the error.

There are two peers. One is kwant (``pip install kwant``; without it its part is null): a chain of finite differences,
``kwant.smatrix`` at each energy, with the solver that its installation has. The chain covers the barrier of 10 nm
alone, whose ends lie on sites of half the height, while the kernel has the 50 nm whose ends it cannot give away;
building the chain is not counted; it is the coarsest of a list that reaches an accuracy, as judged at few of the
energies; its time is extrapolated from these. The time of the coarsest of all bounds what another linear solver could
save. The other peer is a composition of scattering matrices, vectorised over the energies, cell by cell, and with
equal neighbours merged into one.
"""

from __future__ import annotations

import json
import platform
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from aiida_nanoml.transport.potential import Potential, PotentialSet
from aiida_nanoml.transport.rmatrix import Scattering, solve
from aiida_nanoml.transport.settings import CORRECTIONS, TransmissionSettings
from aiida_nanoml.transport.transmissions import transmit
from aiida_nanoml.units import HBAR2_OVER_2M0_EV_NM2

HEIGHT = 0.1
MASS = 0.023
N_BASIS = 512
N_REPEATS = 7
ENERGIES = np.linspace(0.0005, 0.3, 1000)
SOME = ENERGIES[::25]
SITES = (50, 100, 200, 400, 700, 1000, 2000, 5000, 10_000, 20_000)
BASES = (16, 32, 64, 128, 256, 512)
ACCURACIES = (1e-5, 1e-6, 3e-8)


def barrier_transmission(energies: NDArray[Any], width: float) -> NDArray[Any]:
    """The closed form, below and above the top of the barrier."""
    q = np.sqrt((HEIGHT - energies + 0j) * MASS / HBAR2_OVER_2M0_EV_NM2)
    ratio = np.divide(np.sinh(q * width), q, out=np.full_like(q, width), where=q != 0).real
    return 1 / (1 + HEIGHT**2 * ratio**2 * MASS / (4 * HBAR2_OVER_2M0_EV_NM2 * energies))


def compose(potential: Potential, energies: NDArray[Any], merge: bool) -> NDArray[Any]:
    """Transmission by composition of scattering matrices: steps and the ways between them."""
    values = potential.values
    ends = np.append(np.flatnonzero(np.diff(values)), len(values) - 1) if merge else np.arange(len(values))
    widths = np.diff(potential.edges[ends + 1], prepend=0.0)
    outer = np.sqrt((energies - potential.left + 0j) * MASS / HBAR2_OVER_2M0_EV_NM2)
    before, through, right = outer, np.ones_like(outer), np.zeros_like(outer)
    for height, width in zip([*values[ends], potential.right], [*widths, 0.0], strict=True):
        k = np.sqrt((energies - height + 0j) * MASS / HBAR2_OVER_2M0_EV_NM2)
        there = (before - k) / (before + k)
        repeated = 1 / (1 - right * there)
        way = np.exp(1j * k * width)
        through = through * repeated * way * (1 + there)
        right = (right * (1 - there**2) * repeated - there) * way**2
        before = k
    transmission: NDArray[Any] = np.abs(through) ** 2 * before.real / outer.real
    return transmission


def median_seconds(call: Callable[[], Any]) -> float:
    """Median time of some calls, after one to warm up."""
    call()
    seconds = []
    for _ in range(N_REPEATS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def kernel(potential: Potential, n_basis: int = N_BASIS, correction: str = CORRECTIONS[0]) -> Scattering:
    """What is measured."""
    return solve(potential, ENERGIES[0], ENERGIES[-1], n_basis, correction).scatter(ENERGIES)


def largest_error(transmission: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest deviation, in two digits."""
    return float(f'{np.abs(transmission - expected).max():.1e}')


def chain(kwant: Any, n_bonds: int, width: float) -> Any:
    """The barrier as a chain of finite differences between flat leads."""
    spacing = width / n_bonds
    hopping = HBAR2_OVER_2M0_EV_NM2 / MASS / spacing**2
    lattice = kwant.lattice.chain(spacing, norbs=1)
    builder = kwant.Builder()
    heights = np.full(n_bonds + 1, HEIGHT)
    heights[[0, -1]] = HEIGHT / 2
    for site, height in enumerate(heights.tolist()):
        builder[lattice(site)] = 2 * hopping + height
    builder[lattice.neighbors()] = -hopping
    lead = kwant.Builder(kwant.TranslationalSymmetry((-spacing,)))
    lead[lattice(0)] = 2 * hopping
    lead[lattice.neighbors()] = -hopping
    builder.attach_lead(lead)
    builder.attach_lead(lead.reversed())
    return builder.finalized()


def against_kwant(potential: Potential, width: float) -> dict[str, Any] | None:
    """Compare at several accuracies, and with the best that the chain reaches in double precision."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', RuntimeWarning)  # that it has no MUMPS, which the report says
            import kwant
            from kwant.solvers import default
    except ImportError:
        return None
    expected = barrier_transmission(ENERGIES, width)
    chains = []
    for n_bonds in SITES:
        system = chain(kwant, n_bonds, width)
        kwant.smatrix(system, SOME[0])
        begin = time.perf_counter()
        found = np.array([kwant.smatrix(system, energy).transmission(1, 0) for energy in SOME.tolist()])
        seconds = (time.perf_counter() - begin) / len(SOME) * len(ENERGIES)
        chains.append((largest_error(found, expected[::25]), n_bonds + 1, seconds))
    ours = [
        (
            largest_error(kernel(potential, n_basis).transmission, expected),
            n_basis,
            median_seconds(lambda n_basis=n_basis: kernel(potential, n_basis)),
        )
        for n_basis in BASES
    ]
    compared = []
    for accuracy in (*ACCURACIES, ours[-1][0]):
        row: dict[str, Any] = {'accuracy': accuracy}
        for name, way in (('kwant_sites', chains), ('n_basis', ours)):
            error, size, seconds = next((entry for entry in way if entry[0] <= accuracy), (None, None, None))
            row |= {
                name: size,
                f'{name}_error': error,
                f'{name}_seconds': None if seconds is None else round(seconds, 4),
            }
        peer = row['kwant_sites_seconds']
        row['times_faster'] = None if peer is None else round(peer / row['n_basis_seconds'], 1)
        row['times_faster_with_512_cosines'] = None if peer is None else round(peer / ours[-1][2], 1)
        compared.append(row)
    best = min(chains)
    return {
        'version': kwant.__version__,
        'solver': default.smatrix.__self__.__class__.__module__,
        'extrapolated_from_n_energies': len(SOME),
        'region_nm': width,
        'coarsest_sites': chains[0][1],
        'coarsest_seconds': round(chains[0][2], 2),
        'best_error': best[0],
        'best_error_sites': best[1],
        'best_error_seconds': round(best[2], 2),
        'times_faster_than_best': round(best[2] / ours[-1][2], 1),
        'compared': compared,
    }


def main() -> None:
    """Measure and print."""
    example = Potential(np.full(1024, HEIGHT), 100.0, MASS, 0.0, 0.0)
    flat, middle = (
        Potential(np.repeat([end, HEIGHT, end], [400, 200, 400]), 50.0, MASS, 0.0, 0.0) for end in (0.0, 1e-16)
    )
    rough = example.changed(values=HEIGHT + np.random.default_rng(0).uniform(-0.02, 0.02, 1024))
    errors, defect = {}, 0.0
    for name, potential, width in (
        ('fills_the_region', example, 100.0),
        ('within_flat_ends', flat, 10.0),
        ('within_the_region', middle, 10.0),
    ):
        expected = barrier_transmission(ENERGIES, width)
        found = {correction: kernel(potential, correction=correction) for correction in CORRECTIONS}
        errors[name] = {
            correction: largest_error(scattering.transmission, expected) for correction, scattering in found.items()
        }
        errors[name]['composition'] = largest_error(compose(potential, ENERGIES, False), expected)
        defect = max(defect, *(scattering.unitarity_defect for scattering in found.values()))
    settings = TransmissionSettings(ENERGIES[0], ENERGIES[-1], len(ENERGIES), N_BASIS)
    solved = solve(example, ENERGIES[0], ENERGIES[-1], N_BASIS)
    seconds = median_seconds(lambda: kernel(example))
    rough_seconds = median_seconds(lambda: kernel(rough))
    cell_by_cell = median_seconds(lambda: compose(rough, ENERGIES, False))
    merged = median_seconds(lambda: compose(example, ENERGIES, True))
    libraries = f'numpy {np.__version__}, scipy {scipy.__version__}'
    report = {
        'benchmark': 'rmatrix',
        'n_energies': len(ENERGIES),
        'n_basis': N_BASIS,
        'seconds': round(seconds, 4),
        'scatter_seconds': round(median_seconds(lambda: solved.scatter(ENERGIES)), 4),
        'seconds_buttle': round(median_seconds(lambda: kernel(example, correction='buttle')), 4),
        'seconds_rough': round(rough_seconds, 4),
        'report_seconds': round(median_seconds(lambda: transmit(PotentialSet([rough]), settings)), 4),
        'largest_error': errors,
        'largest_difference_rough': largest_error(kernel(rough).transmission, compose(rough, ENERGIES, True)),
        'unitarity_defect': float(f'{defect:.1e}'),
        'composition_cell_by_cell_seconds': round(cell_by_cell, 4),
        'times_faster_than_cell_by_cell_rough': round(cell_by_cell / rough_seconds, 2),
        'composition_merged_seconds': round(merged, 5),
        'times_faster_than_merged_example': float(f'{merged / seconds:.2g}'),
        'kwant': against_kwant(middle, 10.0),
        'machine': f'{platform.machine()}, Python {platform.python_version()}, {libraries}',
    }
    print(json.dumps(report))
    if report['kwant'] is None:
        print('kwant is not installed (pip install kwant): its part of the report is null', file=sys.stderr)


if __name__ == '__main__':
    main()
