"""Labels as nodes: vectors and pseudopotentials, and nodes from before there were any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from aiida import orm

from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines.label_set import VECTORS, LabelSet, Ragged


@pytest.fixture
def rich_labels(flake_labels: LabelSet) -> LabelSet:
    """Labels with levels in every row, forces in the first one, and the pseudopotential of carbon."""
    n_rows = len(flake_labels)
    return replace(
        flake_labels,
        source=replace(flake_labels.source, pseudopotentials={'C': 'f9df97ee'}),
        vectors={
            'levels_ev': Ragged.from_rows([np.arange(row + 1) - 5.0 for row in range(n_rows)]),
            'forces_ev_per_ang': Ragged.from_rows([np.ones((4, 3)) if row == 0 else () for row in range(n_rows)]),
        },
    )


def test_vectors_and_pseudopotentials_come_out_as_they_went_in(rich_labels: LabelSet, aiida_profile) -> None:
    node = orm.load_node(LabelSetData(rich_labels).store().pk)
    assert node.label_source == rich_labels.source
    assert node.base.attributes.get('pseudopotentials') == {'C': 'f9df97ee'}
    for name, array in rich_labels.to_arrays().items():
        np.testing.assert_array_equal(node.get_array(name), array)
    assert node.labels.vectors['forces_ev_per_ang'][0].tolist() == [1.0] * 12
    units = node.base.attributes.get('units')
    assert units['levels_ev'] == 'eV'
    assert units['forces_ev_per_ang'] == VECTORS['forces_ev_per_ang'] == 'eV/Å'
    assert 'stress_ev_per_ang3' not in units


def test_nodes_from_before_load(flake_labels: LabelSet, aiida_profile) -> None:
    """They have neither vectors nor pseudopotentials, and can be joined with new ones."""
    plain = replace(flake_labels, vectors={})
    node = LabelSetData(plain)
    node.base.attributes.delete('pseudopotentials')
    old = orm.load_node(node.store().pk)
    assert old.label_source.pseudopotentials == {}
    assert old.labels.vectors == {}
    new = replace(plain, source=replace(plain.source, pseudopotentials={'C': 'f9df97ee'}))
    assert len(LabelSet.concatenate([old.labels, new])) == len(plain)
