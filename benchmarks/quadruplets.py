"""Time of the quadruplet vectors of 3,000 flakes of 166 atoms against a plain loop; prints one line of JSON.

Run on one core: ``OMP_NUM_THREADS=1 python benchmarks/quadruplets.py``. The flakes are displaced at random, so that no
two share a geometry. The peer builds one ``scipy.spatial.cKDTree`` per flake and loops over its atoms; both must agree.
"""

from __future__ import annotations

import json
import platform
import time

import numpy as np
from scipy.spatial import cKDTree

from aiida_nanoml.features import QuadrupletDescriptor
from aiida_nanoml.features.bonds import ELEMENTS
from aiida_nanoml.features.quadruplets import CLASSES
from aiida_nanoml.structures import FlakeParameters, StructureSet, generate_flakes

N_FLAKES = 3000
N_REPEATS = 5


def plain_loop(structures: StructureSet) -> np.ndarray:
    """Describe flake by flake and atom by atom."""
    rows = []
    for flake in structures:
        symbols = flake.symbols
        _, near = cKDTree(flake.positions).query(flake.positions, k=4)
        amounts = dict.fromkeys(CLASSES, 0)
        for atom, symbol in enumerate(symbols):
            if symbol != 'H':
                amounts[f'{symbol}|{"".join(sorted(symbols[other] for other in near[atom, 1:]))}'] += 1
        n_heavy = len(symbols) - symbols.count('H')
        shares = [amount / n_heavy for amount in amounts.values()]
        rows.append([*shares, *(symbols.count(element) / len(symbols) for element in ELEMENTS)])
    return np.array(rows)


def main() -> None:
    """Measure and print."""
    begin = time.perf_counter()
    planar = generate_flakes(FlakeParameters('s', (11, 12), N_FLAKES, seed=7))
    generation = time.perf_counter() - begin
    moved = planar.positions + np.random.default_rng(0).uniform(-0.05, 0.05, planar.positions.shape)
    flakes = StructureSet.from_arrays({**planar.to_arrays(), 'positions': moved})

    descriptor = QuadrupletDescriptor(classes=26)
    descriptor.transform(flakes.select([0]))
    ours = []
    for _ in range(N_REPEATS):
        begin = time.perf_counter()
        values = descriptor.transform(flakes)
        ours.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    expected = plain_loop(flakes)
    peer = time.perf_counter() - begin
    np.testing.assert_allclose(values, expected, atol=1e-12)

    report = {
        'benchmark': 'quadruplets',
        'n_structures': N_FLAKES,
        'atoms_per_structure': 166,
        'seconds': round(float(np.median(ours)), 3),
        'peer': 'one scipy.spatial.cKDTree per flake and a loop over its atoms',
        'peer_seconds': round(peer, 2),
        'times_faster_than_peer': round(peer / float(np.median(ours)), 1),
        'generation_seconds': round(generation, 3),
        'machine': f'{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}',
    }
    print(json.dumps(report))


if __name__ == '__main__':
    main()
