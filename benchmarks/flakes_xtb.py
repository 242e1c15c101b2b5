"""7,000 flakes with their GFN1-xTB gaps (one did not converge), for the benchmarks; as a program, it checks a sample.

``flakes_xtb.npz`` was made with these commands, and holds the gaps only: the generator makes the same flakes again.

    aiida-nanoml flakes generate --lattice C42H18 --count 3500 --seed 2026 --name h
    aiida-nanoml flakes generate --lattice C54H20 --count 3500 --seed 2026 --name s
    aiida-nanoml label h --engine xtb --protocol balanced
    aiida-nanoml label s --engine xtb --protocol balanced
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aiida_nanoml.engines import get_engine
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.learning.splits import split_rows
from aiida_nanoml.structures import FlakeParameters, StructureSet, generate_flakes

FILE = Path(__file__).with_suffix('.npz')
FLAKES = 3500
"""Flakes of each family."""
HELD_OUT = 250
"""Of these, those for validation, and as many for the test; 3,000 are for training."""


def load() -> tuple[StructureSet, npt.NDArray[np.float64], LabelSource]:
    """Make the flakes and read their gaps.

    :returns: n flakes of the families h and s, gaps (n,) in eV, and what gave them.
    :raises ValueError: the generator makes other flakes than those that were labelled.
    """
    with np.load(FILE, allow_pickle=False) as stored:
        gaps, identities = stored['gap_ev'], stored['identity']
        flakes, source = json.loads(str(stored['flakes'])), json.loads(str(stored['labels']))
    structures = StructureSet.concatenate([generate_flakes(FlakeParameters(**parameters)) for parameters in flakes])
    if not np.array_equal(_identities(structures), identities):
        raise ValueError(f'the flakes made now are not those of {FILE.name}: the generator has changed')
    labelled = np.flatnonzero(np.isfinite(gaps))
    return structures.select(labelled), gaps[labelled], LabelSource.from_dict(source)


def split(structures: StructureSet, seed: int = 0) -> npt.NDArray[np.str_]:
    """Divide the flakes: 250 of each family for validation and for the test, the others for training.

    :returns: part of each row (n,).
    """
    share = HELD_OUT / FLAKES
    return split_rows(structures.hashes, validation=share, test=share, seed=seed, strata=structures.families)


def _identities(structures: StructureSet) -> npt.NDArray[np.uint64]:
    """Shorten the hashes to 64 bits."""
    return np.array([int(value[:16], 16) for value in structures.hashes.tolist()], dtype=np.uint64)


def main() -> None:
    """Label a sample again and print one JSON line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--count', type=int, default=20, help='flakes to label again')
    count = parser.parse_args().count
    began = time.perf_counter()
    structures, gaps, source = load()
    seconds = time.perf_counter() - began
    engine_class = get_engine(source.engine)
    engine = engine_class(engine_class.parameters(source.protocol, source.parameters))
    rows = np.random.default_rng(0).choice(len(structures), count, replace=False)
    again = np.array([engine.evaluate(structures[row]).gap_ev for row in rows.tolist()])
    print(
        json.dumps(
            {
                'benchmark': 'flakes_xtb',
                'labels': str(source),
                'version_now': engine_class.version(),
                'flakes': dict(zip(*np.unique(structures.families, return_counts=True), strict=True)),
                'load_s': round(seconds, 2),
                'labelled_again': count,
                'max_difference_ev': float(np.abs(again - gaps[rows]).max()),
            },
            default=int,
        )
    )


if __name__ == '__main__':
    main()
