"""Folders a second of ``siesta import`` in its usual way, and the largest error of a gap; prints one JSON line.

Usage: ``python benchmarks/siesta_import.py [FOLDER…]``, with folders of runs, where an ``index.jsonl`` may give the gaps
by name; without any, the recorded runs of the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main(folders: list[Path]) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix='nanoml-') as temporary:
        os.environ['AIIDA_PATH'] = temporary
        os.environ['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
        gaps = known_gaps(folders)
        if not folders:
            folders = [Path(temporary) / 'runs']
            gaps = unpack_recorded(folders[0])
        subprocess.run(['verdi', 'presto', '-n'], check=True, capture_output=True)
        start = time.perf_counter()
        done = subprocess.run(
            ['aiida-nanoml', 'siesta', 'import', *map(str, folders), '--json'], capture_output=True, text=True
        )
        wall_s = time.perf_counter() - start
        start = time.perf_counter()
        subprocess.run(['aiida-nanoml', 'siesta', 'import', *map(str, folders)], capture_output=True)
        again_s = time.perf_counter() - start
    answer: dict[str, Any] = json.loads(done.stdout)
    errors = [
        abs(run['gap_ev'] - gaps[Path(run['folder']).name])
        for run in answer['runs']
        if run['gap_ev'] is not None and Path(run['folder']).name in gaps
    ]
    print(
        json.dumps(
            {
                'benchmark': 'siesta_import',
                'folders': len(answer['runs']),
                **answer['counts'],
                'wall_s': round(wall_s, 2),
                'folders_per_s': round(len(answer['runs']) / wall_s, 2),
                'again_s': round(again_s, 2),
                'gaps_compared': len(errors),
                'max_gap_error_ev': max(errors, default=None),
            }
        )
    )


def known_gaps(folders: list[Path]) -> dict[str, float]:
    """Read the gaps that an index beside the runs gives."""
    lines = [
        line for folder in folders for index in folder.glob('index.jsonl') for line in index.open(encoding='utf-8')
    ]
    return {run['name']: run['gap'] for run in map(json.loads, lines) if 'gap' in run}


def unpack_recorded(target: Path) -> dict[str, float]:
    """Make folders of the recorded runs of the tests, and return the gaps by name."""
    sys.path.insert(0, str(ROOT))
    from tests.stand_in.fixtures import recorded_runs

    runs = recorded_runs('flake', 'alloy')
    for run in runs.values():
        run.unpack(target)
    return {name: run.about['gap_ev'] for name, run in runs.items() if 'gap_ev' in run.about}


if __name__ == '__main__':
    main([Path(folder) for folder in sys.argv[1:]])
