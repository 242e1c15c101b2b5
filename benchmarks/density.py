"""Accuracy, speed and use of density networks on recorded runs of SIESTA; prints one line of JSON a figure.

``--data DIR`` holds the runs, each in a folder NAME at any depth with ``aiida.fdf``, ``aiida.RHO`` and ``aiida.DRHO``.
Runs that are not trained on are tested, each on SIESTA's own mesh; errors are NMAE, the integral of the absolute error
over that of the density. Peers, in the same run: the superposition of free atoms, and a network of the same width and
settings without ties of its weights. Throughput is that of the whole prediction (superposition, smoothing, network) on
the mesh of the network: for the largest test flake, for its box repeated to ten million points, and for flakes stacked
so densely that hardly a point is empty. It is the best of some repetitions; the seconds of all cores together stand
beside, as others may use the machine too. The peak of memory is that of a process of its own. With ``--siesta EXE
--pseudos DIR`` each test flake is run from the atoms, from the predicted density, and from the exact one: iterations
and seconds, whose ratio to those from the atoms is the saving.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from aiida_nanoml.densities import Density
from aiida_nanoml.engines.siesta.fdf import read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import read_structure
from aiida_nanoml.engines.siesta.mesh import DEFORMATION_FILE, DEFORMATION_KEY, read_density, write_deformation
from aiida_nanoml.learning.density.model_files import load_density_model, save_density_model
from aiida_nanoml.learning.density.network import DensityNetwork, metrics_of
from aiida_nanoml.structures import Structure

TRAINED = ('z-0000', 'z-0001', 'z-0002', 'z-0003')
MANY_POINTS = 10_000_000
DENSE_STACK_ANG = 3.35


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, help='folder of the recorded runs')
    parser.add_argument('--train', nargs='+', default=TRAINED, metavar='NAME', help='runs to learn from')
    parser.add_argument('--test', nargs='+', metavar='NAME', help='runs to test on; default: all others')
    parser.add_argument('--set', nargs='*', default=[], metavar='KEY=JSON', help='settings of the network')
    parser.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--repeat', type=int, default=5, help='predictions that are timed; the best counts')
    parser.add_argument('--model', type=Path, help='folder of a trained network; made if it is missing')
    parser.add_argument('--alone', action='store_true', help='without the network whose weights are free')
    parser.add_argument('--siesta', type=Path, metavar='EXE', help='executable with NetCDF')
    parser.add_argument('--pseudos', type=Path, metavar='DIR', help='folder of its pseudopotentials')
    options = parser.parse_args()
    if (options.siesta is None) != (options.pseudos is None):
        parser.error('--siesta and --pseudos need each other')
    runs = run_folders(options.data)
    tested = options.test or [name for name in runs if name not in options.train]
    if unknown := [name for name in (*options.train, *tested) if name not in runs]:
        parser.error(f'{options.data} holds no run {", ".join(unknown)}, only {", ".join(runs)}')
    learnt = [runs[name] for name in options.train]
    settings = {key: json.loads(value) for key, _, value in (one.partition('=') for one in options.set)}

    folder = options.model or Path(tempfile.mkdtemp(prefix='nanoml-density-')) / 'model'
    network, seconds = trained(learnt, settings, folder)
    free, unconstrained = network.architecture.n_free_weights, network.architecture.n_weights
    show('network', **network.get_params(), trained_on=list(options.train), train_seconds=seconds)
    show('weights', free=free, unconstrained=unconstrained, share=round(free / unconstrained, 3))
    peer = None
    if not options.alone:
        peer, seconds = trained(learnt, {**network.get_params(), 'group': 'none'}, folder.with_name('unconstrained'))
        show('unconstrained', weights=peer.architecture.n_free_weights, train_seconds=seconds)
    for name in tested:
        accuracy(runs[name], network, peer, options.threads)
    largest = max(tested, key=lambda name: len(recorded(runs[name]).structure))
    speed(runs[largest], network, folder, options.threads, options.repeat)
    if options.siesta is not None:
        for name in tested:
            iterations(options, runs[name], network)


def show(figure: str, **values: Any) -> None:
    """Print one figure."""
    print(json.dumps({'benchmark': 'density', 'figure': figure, **values}), flush=True)


def run_folders(data: Path) -> dict[str, Path]:
    """Where the files of each run lie."""
    found = {
        path.parent.name: path.parent for path in data.glob('**/aiida.DRHO') if (path.parent / 'aiida.RHO').is_file()
    }
    return dict(sorted(found.items()))


def recorded(folder: Path) -> Density:
    """The density of a recorded run."""
    structure = read_structure(read_fdf((folder / 'aiida.fdf').read_text(encoding='utf-8')))
    return read_density((folder / 'aiida.RHO').read_bytes(), (folder / 'aiida.DRHO').read_bytes(), structure)


def trained(runs: list[Path], settings: dict[str, Any], folder: Path) -> tuple[DensityNetwork, float]:
    """Train a network, or load it, and the seconds that the training took (0: loaded)."""
    if folder.exists():
        return load_density_model(folder)[0], 0.0
    densities = [recorded(run) for run in runs]
    begin = time.perf_counter()
    network = DensityNetwork(**settings).fit(densities)
    seconds = time.perf_counter() - begin
    spacing = float(np.mean([density.spacing for density in densities]))
    save_density_model(
        network,
        folder,
        {'labels': {'engine': 'siesta'}, 'hashes': [run.name for run in runs], 'source_spacing_ang': spacing},
    )
    return network, round(seconds, 1)


def accuracy(run: Path, network: DensityNetwork, peer: DensityNetwork | None, threads: int) -> None:
    """Errors of one flake."""
    known = recorded(run)
    found = metrics_of(known, network.predict(known.structure, known.shape, threads))
    row = {key: float(f'{value:.4g}') for key, value in found.items()}
    if peer is not None:
        free = metrics_of(known, peer.predict(known.structure, known.shape, threads))['nmae']
        row |= {'nmae_unconstrained': float(f'{free:.4g}'), 'ratio_unconstrained': round(free / found['nmae'], 2)}
    show('accuracy', structure=run.name, atoms=len(known.structure), **row)


def repeated(structure: Structure, times: tuple[int, int, int]) -> Structure:
    """The box of a structure, so many times along each lattice vector."""
    steps = np.stack(np.meshgrid(*(np.arange(n) for n in times), indexing='ij'), axis=-1).reshape(-1, 3)
    positions = (structure.positions[None] + (steps @ structure.cell)[:, None]).reshape(-1, 3)
    return Structure(np.tile(structure.numbers, len(steps)), positions, structure.cell * np.array(times)[:, None])


def stacked(structure: Structure) -> Structure:
    """The flake in a box that ends where it does: nothing is empty."""
    low, high = structure.positions.min(axis=0), structure.positions.max(axis=0)
    lengths = high - low + [1.4, 1.4, DENSE_STACK_ANG]
    return Structure(structure.numbers, structure.positions - low, np.diag(lengths))


def speed(run: Path, network: DensityNetwork, folder: Path, threads: int, repeat: int) -> None:
    """Throughput and peaks of memory."""
    flake = recorded(run).structure
    spacing = network.settings.spacing_ang
    fitting = np.round(np.diag(flake.cell) / spacing) * spacing
    flake = Structure(flake.numbers, flake.positions, np.diag(fitting))
    dense = stacked(flake)
    dense = Structure(dense.numbers, dense.positions, np.diag(np.ceil(np.diag(dense.cell) / spacing) * spacing))
    points = [np.prod(np.diag(one.cell) / spacing) for one in (flake, dense)]
    side = int(np.ceil(np.sqrt(MANY_POINTS / points[0])))
    deep = int(np.ceil(MANY_POINTS / points[1]))
    for kind, structure, times in (
        ('flake', flake, repeat),
        ('many points', repeated(flake, (side, side, 1)), 2),
        ('dense', repeated(dense, (1, 1, deep)), 1),
    ):
        found = in_own_process(measured, folder, structure, threads, times)
        show('throughput', mesh=kind, structure=run.name, atoms=len(structure), threads=threads, **found)


def in_own_process(function: Any, *arguments: Any) -> Any:
    """Call in a new process, whose peak of memory is that of the call alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *arguments).result()


def measured(folder: Path, structure: Structure, threads: int, repeat: int) -> dict[str, Any]:
    """Predict, and tell how fast and in how much memory."""
    network, _ = load_density_model(folder)
    before = peak_mib()
    seconds, cpu_seconds = [], []
    for _ in range(repeat):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        predicted = network.predict(structure, threads=threads).density
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - begin_cpu)
    size = predicted.free.size
    return {
        'points': size,
        'occupied': round(float(np.mean(predicted.free > network.settings.floor)), 3),
        'seconds': round(min(seconds), 3),
        'cpu_seconds': round(min(cpu_seconds), 3),
        'million_points_per_second': round(size / min(seconds) / 1e6, 2),
        'peak_memory_mib': round(peak_mib()),
        'libraries_mib': round(before),
    }


def peak_mib() -> float:
    """Largest memory of this process until now: that of ``getrusage`` would be inherited from the parent."""
    status = Path('/proc/self/status').read_text(encoding='utf-8')
    return int(re.findall(r'^VmHWM:\s+(\d+) kB', status, re.M)[0]) / 1024


def iterations(options: argparse.Namespace, run: Path, network: DensityNetwork) -> None:
    """Iterations and seconds of SIESTA from three starts."""
    known = recorded(run)
    predicted = network.predict(known.structure, known.shape, options.threads).density
    starts = {'atomic': None, 'predicted': predicted.difference, 'exact': known.difference}
    row: dict[str, Any] = {}
    for start, difference in starts.items():
        with tempfile.TemporaryDirectory(prefix='nanoml-siesta-') as folder:
            row[f'iterations_{start}'], row[f'seconds_{start}'] = siesta_run(options, run, difference, Path(folder))
    for start in ('predicted', 'exact'):
        row[f'saved_{start}'] = round(1 - row[f'iterations_{start}'] / row['iterations_atomic'], 3)
    show('scf', structure=run.name, **row)


def siesta_run(options: argparse.Namespace, run: Path, difference: Any, folder: Path) -> tuple[int, float]:
    """Iterations and seconds of one run; a difference of None: SIESTA's own start."""
    text = (run / 'aiida.fdf').read_text(encoding='utf-8')
    structure = read_structure(read_fdf(text))
    if difference is not None:
        text += f'\n{DEFORMATION_KEY} T\n'
        (folder / DEFORMATION_FILE).write_bytes(write_deformation(difference, structure.cell))
    for symbol in set(structure.symbols):
        (folder / f'{symbol}.psf').symlink_to((options.pseudos / f'{symbol}.psf').resolve())
    begin = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [options.siesta.resolve()],
        input=text,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        check=True,
    )
    seconds = time.perf_counter() - begin
    return int(re.findall(r'^SCF cycle converged after\s+(\d+) iterations', done.stdout, re.M)[-1]), round(seconds, 1)


if __name__ == '__main__':
    main()
