"""Mutations of every file that is read from elsewhere: no traceback, no hang, no wrong number in silence.

Prints one JSON line: mutations, tracebacks, mutations that took more than a second, and those that were accepted and
changed a number which another file of the folder contradicts; all by reader. Faults are written into a folder, each
with its file. Usage: ``python benchmarks/fuzz.py [SECONDS] [--seed N] [--only READER] [--keep FOLDER]`` (default: 600
seconds), in a clone of the repository.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.mutations import mutations

SLOW_S = 1.0
HANG_S = 20
MEMORY_BYTES = 16 * 2**30

Files = dict[str, bytes]


@dataclass
class Reader:
    """A reader, and what it is tried on.

    :param files: content of each file, by name.
    :param mutated: names of the files that are changed, one at a time.
    :param read: reads the files in a folder, and returns the numbers that must not change.
    :param confirmed: whether a second file, or a second place in the file, tells these numbers.
    """

    files: Files
    mutated: tuple[str, ...]
    read: Callable[[Path], Any]
    confirmed: bool = False


class Hang(BaseException):
    """A reader did not come back."""


def main() -> None:
    """Try all readers in turn until the time is over, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('seconds', type=float, nargs='?', default=600.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', default='')
    parser.add_argument('--keep', type=Path, default=None)
    options = parser.parse_args()
    warnings.simplefilter('ignore')
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _hang)
    readers = {name: reader for name, reader in make_readers() if options.only in name}
    memory = Path('/dev/shm')  # noqa: S108
    kept = options.keep or Path(tempfile.mkdtemp(prefix='fuzz-faults-'))
    counts: dict[str, Counter[str]] = {name: Counter() for name in readers}
    started, seed = time.monotonic(), options.seed
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        right = {name: _right(reader, Path(scratch)) for name, reader in readers.items()}
        while time.monotonic() - started < options.seconds:
            for name, reader in readers.items():
                try_batch(name, reader, right[name], seed, Path(scratch), kept, counts[name])
            seed += 1
    total: Counter[str] = sum(counts.values(), Counter())
    keys = ('mutations', 'accepted', 'tracebacks', 'slow', 'silent')
    print(
        json.dumps(
            {
                'benchmark': 'fuzz',
                **{key: total[key] for key in keys},
                'seconds': round(time.monotonic() - started, 1),
                'seeds': [options.seed, seed - 1],
                'faults': str(kept) if any(total[key] for key in keys[2:]) else None,
                'readers': {name: {key: found[key] for key in keys} for name, found in counts.items()},
            }
        )
    )


def try_batch(
    name: str, reader: Reader, right: Any, seed: int, scratch: Path, kept: Path, counts: Counter[str]
) -> None:
    """Try some mutations of one file of a reader."""
    from aiida_nanoml.errors import EvaluationError, NanomlError

    chance = random.Random(f'{name} {seed}')  # noqa: S311
    file = chance.choice(reader.mutated)
    folder = scratch / f'{name}-folder'
    _write(reader.files, folder)
    for number, content in enumerate(mutations(reader.files[file], chance.randrange(2**32), 20)):
        (folder / file).write_bytes(content)
        began, fault = time.process_time(), ''
        signal.alarm(HANG_S)
        try:
            found = reader.read(folder)
            counts['accepted'] += 1
            if reader.confirmed and not _agree(found, right):
                fault = f'silent\n{right}\n{found}'
        except (NanomlError, EvaluationError):
            pass
        except (Exception, Hang):
            fault = f'tracebacks\n{traceback.format_exc()}'
        finally:
            signal.alarm(0)
        # Time of this process alone: others may keep the machine busy.
        took = time.process_time() - began
        if took > SLOW_S:
            fault = fault or f'slow\n{took:.1f} s'
        counts['mutations'] += 1
        if fault:
            counts[fault.partition('\n')[0]] += 1
            place = kept / f'{fault.partition(chr(10))[0]}-{name}-{seed}-{number}'
            place.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(content)
            (place / 'WHY.txt').write_text(fault, encoding='utf-8')


def make_readers() -> Iterator[tuple[str, Reader]]:
    """Return all readers by name."""
    yield from _run_readers()
    yield from _pseudopotential_readers()
    yield from _structure_readers()
    yield from _model_readers()
    yield from _mesh_readers()


def _run_readers() -> Iterator[tuple[str, Reader]]:
    from aiida_nanoml.engines.siesta.folder import open_run_folder, read_finished_run
    from tests.stand_in.fixtures import PSEUDOPOTENTIALS, recorded_runs

    def read(folder: Path) -> Any:
        run = read_finished_run(open_run_folder(folder, folder))
        label = run.result.label
        return {
            'energy': label.energy_ev, 'gap': label.gap_ev, 'electrons': label.n_electrons,
            'forces': label.forces_ev_per_ang, 'stress': label.stress_ev_per_ang3, 'levels': label.levels_ev,
            'weights': label.level_weights, 'positions': run.structure.positions, 'numbers': run.structure.numbers,
            'cell': run.structure.cell, 'pbc': run.structure.pbc,
        }  # fmt: skip

    for name in ('z-C24H12', 'hea-01-bcc-1', 'iron-spin'):
        recorded = recorded_runs()[name]
        with tempfile.TemporaryDirectory() as folder:
            unpacked = recorded.unpack(Path(folder))
            files = {path.name: path.read_bytes() for path in unpacked.iterdir()}
        for element in set(recorded.structure.symbols):
            files[f'{element}.psf'] = (PSEUDOPOTENTIALS / f'{element}.psf').read_bytes()
        mutated = [one for one in ('aiida.out', 'aiida.EIG', 'aiida.fdf', 'aiida.KP', 'aiida.xml') if one in files]
        yield f'run-{name}', Reader(files, tuple(mutated), read, confirmed=True)


def _pseudopotential_readers() -> Iterator[tuple[str, Reader]]:
    from aiida_nanoml.engines.pseudopotentials import read_header
    from aiida_nanoml.engines.siesta.identity import read_pseudopotential
    from tests.engines.siesta.test_pseudopotentials import PSML, small_psf

    psml = PSML.format(element='C', exchange=101, correlation=130) + '</pseudo-atom-spec></psml>'
    for kind, text in (('psf', small_psf()), ('psml', psml)):

        def read(folder: Path, kind: str = kind) -> Any:
            content = (folder / f'C.{kind}').read_text(encoding='utf-8', errors='replace')
            read_header(content)
            return read_pseudopotential(content, kind)

        yield kind, Reader({f'C.{kind}': text.encode()}, (f'C.{kind}',), read)


def _structure_readers() -> Iterator[tuple[str, Reader]]:
    from ase.build import bulk, molecule
    from ase.io import write

    from aiida_nanoml.structures import read_structures
    from tests.structures.test_files import FUZZED

    files = {name: text.encode() for name, text in FUZZED.items()}
    boxed = molecule('CH3OH', vacuum=4.0)
    boxed.pbc = True
    with tempfile.TemporaryDirectory() as folder:
        for name, atoms, settings in (
            ('f.cif', bulk('NaCl', 'rocksalt', a=5.6), {}), ('f.vasp', boxed, {}), ('f.gen', boxed, {}),
            ('f.pdb', boxed, {}), ('f.json', boxed, {}), ('f.xsf', boxed, {}), ('f.cube', boxed, {}),
        ):  # fmt: skip
            write(Path(folder) / name, atoms, **settings)
            files[name] = (Path(folder) / name).read_bytes()
    for name, content in files.items():
        yield (
            f'structures-{name[2:]}',
            Reader({name: content}, (name,), lambda folder, name=name: read_structures(folder / name)),
        )


def _model_readers() -> Iterator[tuple[str, Reader]]:
    from aiida_nanoml.learning.density.model_files import load_density_model
    from aiida_nanoml.learning.distance import TrainingDomain
    from aiida_nanoml.learning.exchange import read_xy
    from aiida_nanoml.learning.model_card import read_history
    from aiida_nanoml.learning.model_files import load_domain, load_model, save_model
    from aiida_nanoml.learning.registry import make_model
    from aiida_nanoml.worker.journal import read_journal
    from tests.learning.density.networks import save_random_network

    X = np.random.Generator(np.random.PCG64(0)).uniform(size=(40, 3))
    with tempfile.TemporaryDirectory() as folder:
        model = make_model('ridge').fit(X, X[:, 0])
        card = {'kind': 'ridge', 'feature_names': ['a', 'b', 'c']}
        save_model(model, Path(folder) / 'model', card, TrainingDomain().fit(X))
        files = {path.name: path.read_bytes() for path in (Path(folder) / 'model').iterdir()}

    def read_model(folder: Path) -> Any:
        loaded, _ = load_model(folder)
        domain = load_domain(folder)
        outside = {} if domain is None else {'distance': domain.distance(X), 'limit': domain.limit_}
        return {'values': loaded.predict(X)} | outside

    yield 'model', Reader(files, tuple(sorted(files)), read_model, confirmed=True)
    with tempfile.TemporaryDirectory() as folder:
        save_random_network(Path(folder))
        of_density = {path.name: path.read_bytes() for path in Path(folder).iterdir()}

    def read_density_model(folder: Path) -> Any:
        network, card = load_density_model(folder)
        return {'scale': network.scale_, 'weights': np.concatenate(network.weights_), 'n': card.n_weights}

    yield 'density-model', Reader(of_density, ('density_model.json', 'history.json'), read_density_model)
    yield (
        'history',
        Reader(
            {'history.json': b'{"loss": [1.0, 0.5], "val_loss": [2.0, 1.5]}'},
            ('history.json',),
            lambda folder: read_history(folder / 'history.json'),
        ),
    )
    journal = b'{"header": {"task": "label"}}\n{"row": 0, "status": "ok", "gap_ev": 1.5}\n{"row": 1, "status": "ok"}\n'
    yield (
        'journal',
        Reader({'journal.jsonl': journal}, ('journal.jsonl',), lambda folder: read_journal(folder / 'journal.jsonl')),
    )
    yield (
        'xy',
        Reader(
            {'x.dat': b'1.0 0.25 -3e-2\n0 1 2\n1e5 -0.5 7\n', 'y.dat': b'0.3333\n0.1\n-0.25\n'},
            ('x.dat', 'y.dat'),
            lambda folder: read_xy(folder / 'x.dat', folder / 'y.dat', n_features=3),
        ),
    )


def _mesh_readers() -> Iterator[tuple[str, Reader]]:
    from aiida_nanoml.engines.siesta.mesh import read_density, read_mesh
    from aiida_nanoml.transport.files import read_input
    from tests.stand_in.fixtures import recorded_runs
    from tests.transport.test_files import SMALL

    run = recorded_runs()['methanimine']
    with tempfile.TemporaryDirectory() as folder:
        unpacked = run.unpack(Path(folder))
        files = {name: (unpacked / name).read_bytes() for name in ('aiida.RHO', 'aiida.DRHO')}

    def read(folder: Path) -> Any:
        density = read_density(*((folder / name).read_bytes() for name in files), run.structure)
        return {'electrons': density.charge(density.total)}

    yield 'density', Reader(files, tuple(files), read)
    yield (
        'mesh',
        Reader(
            {'aiida.VH': files['aiida.RHO']},
            ('aiida.VH',),
            lambda folder: read_mesh((folder / 'aiida.VH').read_bytes(), 'aiida.VH'),
        ),
    )
    yield (
        'transmission',
        Reader({'in.txt': SMALL.encode()}, ('in.txt',), lambda folder: read_input(folder / 'in.txt').potential),
    )


def _right(reader: Reader, scratch: Path) -> Any:
    """Return what a reader reads of its whole files; None where these are no real ones."""
    folder = scratch / 'whole'
    _write(reader.files, folder)
    with contextlib.suppress(ValueError):
        found = reader.read(folder)
        for path in folder.iterdir():
            path.unlink()
        return found
    return None


def _write(files: Files, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _agree(found: Any, right: Any) -> bool:
    """Return whether numbers are the same within what files print; missing ones are no wrong ones."""
    for name, value in right.items():
        if found[name] is None or value is None:
            continue
        ours, theirs = np.asarray(found[name], dtype=float), np.asarray(value, dtype=float)
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-6, atol=2e-3, equal_nan=True):
            return False
    return True


def _hang(number: int, frame: Any) -> None:
    raise Hang


if __name__ == '__main__':
    main()
