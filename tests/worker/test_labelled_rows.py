"""What became of a structure goes into a journal and comes out unchanged."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from aiida_nanoml.densities import Density
from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import EvaluationError
from aiida_nanoml.structures import Structure, StructureSet
from aiida_nanoml.worker.labelled_rows import LabelledRow, read_rows, tabulate

SOURCE = LabelSource('chain', '1', 'Chain', 'fast')
LABEL = replace(Label.from_levels(-3.0, [[-5.0, -1.0]], 2, forces_ev_per_ang=np.full((1, 3), 1 / 3)), fermi_ev=-2.0)


def test_a_row_comes_back_from_a_journal() -> None:
    box = Structure([1], [[1.0, 2.0, 3.0]], np.diag([4.0, 5.0, 6.0]))
    density = Density(box, np.ones((1, 1, 1)), np.zeros((1, 1, 1)))
    for row in (
        LabelledRow.from_label(LABEL, 1.5),
        LabelledRow.from_label(replace(LABEL, density=density), 1.5, 'recovered: more iterations'),
        LabelledRow.from_error(EvaluationError('not_converged', 'too hard'), 2.0),
    ):
        entry = json.loads(json.dumps(row.to_entry(7)))
        assert entry['row'] == 7
        assert LabelledRow.from_entry(entry) == row


def test_the_entry_of_a_journal_has_the_keys_of_always() -> None:
    entry = LabelledRow.from_label(LABEL, 1.5).to_entry(0)
    assert list(entry) == [
        *('row', 'status', 'message', 'wall_s', 'energy_ev', 'homo_ev', 'lumo_ev', 'gap_ev', 'n_electrons'),
        *('open_shell', 'fermi_ev', 'levels_ev', 'forces_ev_per_ang'),
    ]
    assert (entry['status'], entry['message'], entry['gap_ev']) == ('ok', '', 4.0)
    assert entry['forces_ev_per_ang'] == [0.333333333] * 3


def test_rows_without_entry_are_interrupted() -> None:
    structures = StructureSet.from_structures([Structure([1], [[0, 0, z]]) for z in (0.0, 1.0, 2.0)])
    labels = tabulate(SOURCE, structures, read_rows({1: LabelledRow.from_label(LABEL, 1.5).to_entry(1)}))
    assert labels.status.tolist() == ['interrupted', 'ok', 'interrupted']
    assert labels.wall_s.tolist() == [0.0, 1.5, 0.0]
    assert labels.numbers['fermi_ev'].tolist()[1] == -2.0
    assert labels.vectors['levels_ev'][1].tolist() == [-5.0, -1.0]
