"""Folders a second of ``siesta import`` in its usual way, and the largest error of a gap; prints one JSON line.

The whole command counts, from its start. Usage: ``python benchmarks/siesta_import.py [FOLDER…]``, with folders of runs,
where an ``index.jsonl`` may give the gaps by name; without any, the recorded runs of the tests.
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
        if folders:
            gaps = known_gaps(folders)
        else:
            folders = [Path(temporary) / 'runs']
            gaps = unpack_recorded(folders[0])
        run('verdi', 'presto', '-n')
        cold_s, answer = timed_import(folders)
        again_s, _ = timed_import(folders)
    errors = [
        abs(found['gap_ev'] - gaps[Path(found['folder']).name])
        for found in answer['runs']
        if found['gap_ev'] is not None and Path(found['folder']).name in gaps
    ]
    n_folders = len(answer['runs'])
    result = {
        'benchmark': 'siesta_import',
        'folders': n_folders,
        **answer['counts'],
        'wall_s': round(cold_s, 2),
        'folders_per_s': round(n_folders / cold_s, 2),
        'again_s': round(again_s, 2),
        'gaps_compared': len(errors),
        'max_gap_error_ev': max(errors, default=None),
    }
    print(json.dumps(result))


def timed_import(folders: list[Path]) -> tuple[float, dict[str, Any]]:
    """Import folders, and return the seconds and the answer."""
    start = time.perf_counter()
    output = run('aiida-nanoml', 'siesta', 'import', *map(str, folders), '--json')
    return time.perf_counter() - start, json.loads(output)


def run(program: str, *arguments: str) -> str:
    """Run a program of this environment, and return its output."""
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def known_gaps(folders: list[Path]) -> dict[str, float]:
    """Read the gaps that an index beside the runs gives."""
    lines = [line for folder in folders for index in folder.glob('index.jsonl') for line in index.open('rb')]
    return {found['name']: found['gap'] for found in map(json.loads, lines) if 'gap' in found}


def unpack_recorded(target: Path) -> dict[str, float]:
    """Make folders of the recorded runs of the tests, and return the gaps by name."""
    sys.path.insert(0, str(ROOT))
    from tests.stand_in.fixtures import recorded_runs

    runs = recorded_runs('flake', 'alloy')
    for recorded in runs.values():
        recorded.unpack(target)
    return {name: recorded.about['gap_ev'] for name, recorded in runs.items() if 'gap_ev' in recorded.about}


if __name__ == '__main__':
    main([Path(folder) for folder in sys.argv[1:]])
