"""Density networks on the disk: the same answers afterwards, and no way in for anything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.density.model_files import (
    CARD_FILE,
    WEIGHTS_FILE,
    DensityModelCard,
    density_fingerprint,
    load_density_model,
    read_density_card,
)
from aiida_nanoml.learning.density.network import DensityNetwork
from aiida_nanoml.learning.model_card import parse_card
from tests.densities.recorded import recorded_density
from tests.learning.density.networks import random_network, save_random_network
from tests.mutations import fuzzed, mutations


def test_a_saved_network_answers_as_before(tmp_path: Path) -> None:
    saved = save_random_network(tmp_path, neutral=False)
    network, card = load_density_model(tmp_path)
    assert card == saved == read_density_card(tmp_path)
    assert card.fingerprint == density_fingerprint(random_network(neutral=False))
    assert card.n_free_weights == network.architecture.n_free_weights
    assert card.electrons == pytest.approx({'H': 1, 'B': 3, 'C': 4, 'N': 5}, rel=5e-3)
    structure = recorded_density('z-0001').structure
    expected = random_network(neutral=False).predict(structure)
    found = network.predict(structure)
    np.testing.assert_array_equal(found.density.difference, expected.density.difference)
    assert np.abs(found.density.difference).max() > 0


def test_other_weights_and_settings_have_other_fingerprints() -> None:
    prints = [
        density_fingerprint(network) for network in (random_network(), random_network(1), random_network(neutral=False))
    ]
    assert len(set(prints)) == 3


def test_a_changed_or_damaged_model_is_refused(tmp_path: Path) -> None:
    save_random_network(tmp_path)
    with np.load(tmp_path / WEIGHTS_FILE) as archive:
        arrays = dict(archive)
    np.savez(tmp_path / WEIGHTS_FILE, **arrays | {'scale': np.array(1.0)})
    with pytest.raises(ModelError, match='it was changed'):
        load_density_model(tmp_path)
    np.savez(tmp_path / WEIGHTS_FILE, **arrays | {'weights_0': arrays['weights_0'][:-1]})
    with pytest.raises(ModelError, match='layer 0 has'):
        load_density_model(tmp_path)
    np.savez(tmp_path / WEIGHTS_FILE, scale=arrays['scale'])
    with pytest.raises(ModelError, match='is damaged'):
        load_density_model(tmp_path)
    np.savez(tmp_path / WEIGHTS_FILE, **arrays | {'weights_0': np.array([{}], dtype=object)})
    with pytest.raises(ModelError, match='is damaged'):
        load_density_model(tmp_path)
    (tmp_path / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match='is missing'):
        load_density_model(tmp_path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match='is missing'):
        load_density_model(tmp_path)
    save_random_network(tmp_path)
    card = json.loads((tmp_path / CARD_FILE).read_text())
    (tmp_path / CARD_FILE).write_text(json.dumps(card | {'code': 'import os'}))
    with pytest.raises(ModelError, match='code: Extra inputs'):
        load_density_model(tmp_path)
    (tmp_path / CARD_FILE).write_text('[]')
    with pytest.raises(ModelError, match='is not the card'):
        read_density_card(tmp_path)
    with pytest.raises(ModelError, match='not trained'):
        density_fingerprint(DensityNetwork())


@fuzzed(15)
def test_no_mutation_of_a_card_is_a_traceback(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.getbasetemp() / 'density-model'
    if not folder.exists():
        save_random_network(folder)
    for content in mutations((folder / CARD_FILE).read_bytes(), seed):
        try:
            card = parse_card(content, CARD_FILE, DensityModelCard)
        except ModelError:
            continue
        assert card.source_spacing_ang > 0
