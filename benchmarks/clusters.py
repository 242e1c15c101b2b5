"""Time and memory of cluster features of 1,000 flakes of 132 heavy atoms at all eight radii; prints one line of JSON.

Run on one core: ``OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/clusters.py``. The time is that of learning all
clusters of the set and of making the rows; it is taken for lattice keys, with all atoms displaced at random so that no
two flakes share a geometry, and for the graph way on a part of the flakes. The peer is a plain loop: for every atom the
neighbours of one ``scipy.spatial.cKDTree`` per flake, brought to the least of their 12 images, as keys of a Python set.
It takes a part of the flakes, and must find the same clusters.
"""

from __future__ import annotations

import json
import platform
import resource
import time

import numpy as np
from scipy.spatial import cKDTree

from aiida_nanoml.features.cluster_shapes import embed, lattice_clusters
from aiida_nanoml.features.clusters import ClusterDescriptor
from aiida_nanoml.structures import FlakeParameters, StructureSet, generate_flakes

N_FLAKES = 1000
N_PEER = 5
N_GRAPH = 50
N_REPEATS = 3
BOND = 1.42
RADII = range(1, 9)


def operations() -> np.ndarray:
    """The 12 point operations as matrices (12, 2, 2)."""
    angles = np.arange(6) * np.pi / 3
    turns = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)], axis=1).reshape(6, 2, 2)
    return np.concatenate([turns, turns @ np.diag([1, -1])])


def plain_loop(flakes: StructureSet) -> list[list[bytes]]:
    """Describe ideal flakes atom by atom: for each radius the clusters of all heavy atoms, as bytes."""
    images = operations()
    found: list[list[bytes]] = [[] for _ in RADII]
    for flake in flakes:
        points, numbers = flake.positions[:, :2].copy(), flake.numbers
        heavy = np.flatnonzero(numbers > 1)
        _, hosts = cKDTree(points[heavy]).query(points[numbers == 1])
        bonds = points[numbers == 1] - points[heavy[hosts]]
        lengths = np.linalg.norm(bonds, axis=1, keepdims=True)
        points[numbers == 1] = points[heavy[hosts]] + bonds * BOND / lengths
        tree = cKDTree(points)
        for centre in heavy:
            for column, radius in enumerate(RADII):
                near = np.array(tree.query_ball_point(points[centre], radius * BOND + 0.01))
                turned = np.rint((points[near] - points[centre]) @ images / (BOND / 2)).astype(np.int16)
                forms = []
                for image in turned:
                    content = np.column_stack([image, numbers[near]])
                    forms.append(content[np.lexsort(content.T)].tobytes())
                found[column].append(min(forms))
    return found


def peak_megabytes() -> float:
    """Largest memory that this process had until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    planar = generate_flakes(FlakeParameters('s', (11, 12), N_FLAKES, seed=7))
    moved = planar.positions + np.random.default_rng(0).uniform(-0.05, 0.05, planar.positions.shape)
    flakes = StructureSet.from_arrays({**planar.to_arrays(), 'positions': moved})
    ClusterDescriptor().fit(planar.select([0]))

    before = peak_megabytes()
    seconds = []
    for _ in range(N_REPEATS):
        descriptor = ClusterDescriptor(per_radius=None, sparse_output=True)
        begin = time.perf_counter()
        rows = descriptor.fit_transform(flakes)
        seconds.append(time.perf_counter() - begin)
    memory = peak_megabytes() - before
    names = descriptor.get_feature_names_out()
    amounts = np.bincount([int(name[1]) for name in names if name.startswith('k')], minlength=9)[1:]

    some = planar.select(slice(0, N_PEER))
    begin = time.perf_counter()
    expected = plain_loop(some)
    peer = (time.perf_counter() - begin) / N_PEER
    keys = lattice_clusters(some, tuple(RADII), embed(some)).keys
    for column, clusters in enumerate(expected):
        together = len(set(zip(keys[:, column].tolist(), clusters, strict=True)))
        if not len(set(keys[:, column].tolist())) == len(set(clusters)) == together:
            raise SystemExit(f'The two ways find different clusters of radius {RADII[column]}.')

    begin = time.perf_counter()
    ClusterDescriptor(per_radius=None, sparse_output=True, geometry='graph').fit(flakes.select(slice(0, N_GRAPH)))
    graph = (time.perf_counter() - begin) / N_GRAPH

    per_flake = float(np.median(seconds)) / N_FLAKES
    report = {
        'benchmark': 'clusters',
        'n_structures': N_FLAKES,
        'heavy_atoms_per_structure': 132,
        'radii': list(RADII),
        'seconds': round(float(np.median(seconds)), 2),
        'peak_memory_increase_mb': round(memory),
        'n_clusters': amounts.tolist(),
        'n_columns': rows.shape[1],
        'peer': 'one scipy.spatial.cKDTree per flake, the least of 12 images of each cluster, in a loop over atoms',
        'peer_seconds_per_structure': round(peer, 3),
        'times_faster_than_peer': round(peer / per_flake),
        'graph_seconds_per_structure': round(graph, 4),
        'machine': f'{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}',
    }
    print(json.dumps(report))


if __name__ == '__main__':
    main()
