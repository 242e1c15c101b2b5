"""Runs: places, progress of processes, and what their files tell."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from aiida import orm

from aiida_nanoml.web.places import Place
from aiida_nanoml.web.runs import RunFile, Runs, uuids_in


def test_a_run_waits_for_a_place_and_says_so(tmp_path: Path) -> None:
    notes: list[str] = []
    with Place(tmp_path, 'job', 2, notes.append), Place(tmp_path, 'job', 2, notes.append) as second:
        assert notes == []
        with Place(tmp_path, 'quick', 1, notes.append):
            assert notes == [], 'another kind does not wait'
        threading.Timer(0.3, second.leave).start()
        with Place(tmp_path, 'job', 2, notes.append):
            assert notes == ['waits until one of 2 other runs has ended']


def test_the_file_of_a_run_tells_what_became_of_it(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    name = runs.create('label', [('structures', '<b>')], estimates=False)
    assert runs.read(name).state == 'waiting'
    with RunFile(runs.path(name)) as file:
        file.write('begun', pid=1)
        file.write('note', text='one\ntwo')
        file.write('progress', step='labelling', done=1, total=3)
        file.write('progress', step='labelling', done=2, total=3)
        run = runs.read(name)
        assert (run.state, run.ended) == ('running', False)
        assert (run.form, run.notes, run.progress) == ([('structures', '<b>')], ['one\ntwo'], {'labelling': (2, 3)})
    assert runs.read(name).state == 'lost', 'nothing holds its lock any more'
    with RunFile(runs.path(name)) as file:
        file.write('failed', message='why')
    assert runs.read(name).state == 'failed'


def test_uuids_of_a_result_are_found() -> None:
    one, two = (str(node.store().uuid) for node in (orm.Int(1), orm.Int(2)))
    assert list(uuids_in({'a': [one, {'b': two}], 'c': 'not-a-uuid', 'd': 3})) == [one, two]


@pytest.mark.parametrize('name', ['', '..', 'x.jsonl', '20260101000000-0123456789ab/../x'])
def test_no_other_file_is_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(Exception, match='there is no run'):
        Runs(tmp_path).read(name)
