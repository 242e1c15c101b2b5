"""Densities in a job folder: each is whole and on the disk before its row counts as done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aiida_nanoml.densities.density import read_density
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.journal import read_journal
from aiida_nanoml.worker.labelled_rows import LabelledRow, find_densities, read_rows
from aiida_nanoml.worker.main import main
from aiida_nanoml.worker.schemas import DENSITIES_FOLDER, JOURNAL_FILE
from tests.worker.conftest import read_report


def label(folder: Path) -> dict[int, LabelledRow]:
    main(['label', '--folder', str(folder)])
    return read_rows(read_journal(folder / JOURNAL_FILE)[1])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / DENSITIES_FOLDER).iterdir())


def test_finished_rows_have_a_density(label_job, make_chains: Callable[..., StructureSet]) -> None:
    chains = make_chains(2, 3, 4)
    folder = label_job(chains, densities=True, fail=[3])
    boxed, files = find_densities(folder / DENSITIES_FOLDER, chains, label(folder))
    assert names(folder) == [file.name for file in files] == ['00000.npz', '00002.npz']
    assert boxed.names.tolist() == ['chain 2', 'chain 4']
    assert boxed.hashes.tolist() == chains.hashes[[0, 2]].tolist()
    for file, structure in zip(files, boxed, strict=True):
        density = read_density(file, structure)
        assert density.shape == (2, 3, 4)
        np.testing.assert_allclose(density.charge(density.total), len(structure), rtol=1e-6)


def test_a_job_that_wants_none_has_none(label_job, make_chains) -> None:
    chains = make_chains(2, 3)
    folder = label_job(chains)
    boxed, files = find_densities(folder / DENSITIES_FOLDER, chains, label(folder))
    assert (len(boxed), files) == (0, [])
    assert not (folder / DENSITIES_FOLDER).exists()


def test_only_rows_without_density_are_evaluated_again(label_job, make_chains) -> None:
    """One file was lost, one row was finished when nobody asked for densities, one failed for good."""
    folder = label_job(make_chains(2, 3, 4, 5), densities=True, fail=[5])
    label(folder)
    (folder / DENSITIES_FOLDER / '00001.npz').unlink()
    journal = folder / JOURNAL_FILE
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    next(line for line in lines if line.get('row') == 2).pop('box')
    journal.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    kept = (folder / DENSITIES_FOLDER / '00000.npz').stat().st_mtime_ns
    label(folder)
    added = [json.loads(line)['row'] for line in journal.read_text().splitlines()[len(lines) :]]
    assert sorted(added) == [1, 2]
    assert names(folder) == ['00000.npz', '00001.npz', '00002.npz']
    assert (folder / DENSITIES_FOLDER / '00000.npz').stat().st_mtime_ns == kept


def test_an_engine_without_densities_is_refused(label_job, make_chains) -> None:
    folder = label_job(make_chains(2), engine='xtb', protocol='fast', densities=True)
    assert main(['label', '--folder', str(folder)]) != 0
    report = read_report(folder)
    assert (report.status, report.code) == ('error', 'EngineError')
    assert "engine 'xtb' computes no density" in report.message
