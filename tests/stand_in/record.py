"""Add runs of a real SIESTA to the recorded ones: ``python tests/stand_in/record.py FOLDER NAME [KEY=VALUE…]``.

``FOLDER`` holds a run with the system label ``aiida``, its input in ``aiida.fdf``, its standard output in ``aiida.out``
and its standard error in ``_scheduler-stderr.txt``. The keys end in ``run.json``: ``kind``, ``exit_status`` (negative:
the signal), ``provoked`` (how), ``density_matrix`` (whether one was left), ``kept`` (files beyond the usual ones) and
``when.…`` (what it met, see ``siesta``).
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

RECORDED = Path(__file__).resolve().parents[1] / 'recorded' / 'siesta'
KEPT = (
    'BASIS_ENTHALPY',
    'BASIS_HARRIS_ENTHALPY',
    'MESSAGES',
    '_scheduler-stderr.txt',
    'aiida.EIG',
    'aiida.KP',
    'aiida.out',
    'aiida.xml',
    'structure.extxyz',
    'time.json',
)


def record(folder: Path, target: Path, about: dict) -> None:
    """Keep what the tests need of a run.

    :param folder: the run.
    :param target: folder to make; its name is that of the recording.
    :param about: content of ``run.json``.
    """
    target.mkdir(parents=True)
    (target / 'run.json').write_text(json.dumps({'when': {}} | about, indent=2, sort_keys=True) + '\n')
    if (folder / 'aiida.fdf').exists():
        (target / 'aiida.fdf').write_bytes((folder / 'aiida.fdf').read_bytes())
    with tarfile.open(target / 'files.tar.xz', 'w:xz', preset=9) as archive:
        for name in (*KEPT, *about.get('kept', ())):
            if (folder / name).exists():
                content = (folder / name).read_bytes()
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def main(arguments: list[str]) -> None:
    """Record the run that the command line names."""
    folder, name, *pairs = arguments
    about: dict = {'when': {}}
    for pair in pairs:
        key, _, value = pair.partition('=')
        place = about['when'] if key.startswith('when.') else about
        try:
            place[key.removeprefix('when.')] = json.loads(value)
        except json.JSONDecodeError:
            place[key.removeprefix('when.')] = value
    record(Path(folder), RECORDED / name, about)


if __name__ == '__main__':
    main(sys.argv[1:])
