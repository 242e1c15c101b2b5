"""A journal loses at most the row that was being written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.worker.journal import Journal, read_journal

HEADER = {'engine': 'xtb', 'parameters': {'accuracy': 1.0}}
TEXTS = st.text(max_size=20)
ENTRIES = st.lists(
    st.builds(
        lambda row, text, value: {'row': row, 'status': 'ok', 'message': text, 'gap_ev': value},
        st.integers(0, 1000),
        TEXTS,
        st.floats(allow_nan=False),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda entry: entry['row'],
)


def write(path: Path, entries: list[dict]) -> None:
    path.unlink(missing_ok=True)
    with Journal(path, HEADER) as journal:
        for entry in entries:
            journal.append(entry)


@given(entries=ENTRIES, data=st.data())
@settings(deadline=None, max_examples=60)
def test_truncation_at_any_byte_loses_at_most_the_last_row(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / 'truncated.jsonl'
    write(path, entries)
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])

    header, rows, whole = read_journal(path)

    n_lines = content[:cut].count(b'\n')
    assert header == (HEADER if n_lines else None)
    assert list(rows.values()) == entries[: max(n_lines - 1, 0)]
    assert content[:whole].endswith(b'\n') or whole == 0
    assert b'\n' not in content[whole:cut]


@given(entries=ENTRIES, data=st.data())
@settings(deadline=None, max_examples=60)
def test_going_on_after_truncation_gives_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / 'resumed.jsonl'
    write(path, entries)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    with Journal(path, HEADER) as journal:
        for entry in entries:
            if entry['row'] not in journal.rows:
                journal.append(entry)

    assert path.read_bytes() == content


@pytest.mark.parametrize('garbage', [b'\x00\x00\n', b'{"row": 1\n', b'[]\n', b'{"status": "ok"}\n', b'\xff\xfe\n'])
def test_a_line_that_is_no_entry_ends_what_is_believed(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / 'journal.jsonl'
    write(path, [{'row': 0}])
    path.write_bytes(path.read_bytes() + garbage + b'{"row": 2}\n')
    assert list(read_journal(path)[1]) == [0]
    with Journal(path, HEADER) as journal:
        journal.append({'row': 5})
    assert list(read_journal(path)[1]) == [0, 5]


def test_an_absent_file_is_an_empty_journal(tmp_path: Path) -> None:
    assert read_journal(tmp_path / 'journal.jsonl') == (None, {}, 0)


def test_an_entry_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    with Journal(tmp_path / 'journal.jsonl', HEADER) as journal:
        journal.append({'row': 3, 'wall_s': float('nan')})
        last = (tmp_path / 'journal.jsonl').read_text(encoding='utf-8').splitlines()[-1]
    assert json.loads(last)['row'] == 3
    assert math.isnan(json.loads(last)['wall_s'])


def test_a_journal_of_another_job_is_refused(tmp_path: Path) -> None:
    write(tmp_path / 'journal.jsonl', [{'row': 0}])
    with pytest.raises(DatasetError, match='start in a fresh folder'):
        Journal(tmp_path / 'journal.jsonl', {**HEADER, 'engine': 'pyscf'})
    assert list(read_journal(tmp_path / 'journal.jsonl')[1]) == [0]
