"""Nodes of earlier versions stay alive: an archive of version 0.1.0 is traced, audited, predicted from and reproduced.

``before_actions.json`` holds what the commands of that version printed about the same archive, by UUID.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import load_profile, orm
from aiida.tools.archive import import_archive
from click.testing import CliRunner

from aiida_nanoml.cli import root
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.density_model import DensityModelData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.learning.former_names import CURRENT_NAMES

ARCHIVE = Path(__file__).parents[1] / 'recorded' / 'archives' / 'before_actions.aiida'
BEFORE: dict[str, Any] = json.loads(ARCHIVE.with_suffix('.json').read_text(encoding='utf-8'))


@pytest.fixture
def empty_profile() -> None:
    """Keep what is in the profile, unlike the other tests of this folder: the archive is imported once."""


@pytest.fixture(scope='module')
def old(aiida_profile) -> Iterator[Callable[[str], Any]]:
    """Import the archive, and load its nodes by label."""
    aiida_profile.reset_storage()
    import_archive(ARCHIVE)

    def load(label: str) -> Any:
        [uuid] = [uuid for uuid, node in BEFORE['nodes'].items() if node['label'] == label]
        return orm.load_node(uuid)

    yield load
    aiida_profile.reset_storage()


def command(*arguments: Any, statuses: tuple[int, ...] = (0,)) -> dict[str, Any]:
    result = CliRunner().invoke(root, [*map(str, arguments), '--json'])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in statuses, result.output
    return json.loads(result.stdout)


REWORDED = ('question', 'told')
"""Keys of sentences for people: they may be put in other words."""


def losses(before: Any, now: Any, place: str = '') -> list[str]:
    """Return where something of before is missing or has changed; new keys may be there.

    Hyperparameters are found by their current names.
    """
    if isinstance(before, dict):
        before, now = (
            {CURRENT_NAMES.get(key, key): value for key, value in found.items() if key not in REWORDED}
            for found in (before, now)
        )
        missing = [f'{place}.{key} is gone' for key in before if key not in now]
        return missing + [
            loss for key in before if key in now for loss in losses(before[key], now[key], f'{place}.{key}')
        ]
    if isinstance(before, list):
        if len(before) != len(now):
            return [f'{place} has {len(now)} entries in place of {len(before)}']
        pairs = enumerate(zip(before, now, strict=True))
        return [loss for i, (one, other) in pairs for loss in losses(one, other, f'{place}[{i}]')]
    same = before == now or (before == 'nan' and np.isnan(now))
    return [] if same else [f'{place}: {before!r} -> {now!r}']


def test_every_node_loads_with_its_type_and_content(old) -> None:
    for uuid, node in BEFORE['nodes'].items():
        loaded = orm.load_node(uuid)
        assert (loaded.label, loaded.node_type) == (node['label'], node['type'])
        assert type(loaded).__name__ == node['type'].split('.')[-2]
        for name, values in BEFORE['values'].get(uuid, {}).items():
            array = loaded.get_array(name)
            if isinstance(values, list):
                assert losses(values, array.tolist(), f'{node["label"]} {name}') == []
            else:
                assert array.size == values['n']
                if 'sum' in values:
                    np.testing.assert_allclose(array.sum(), values['sum'], rtol=1e-12)
    read = [orm.load_node(uuid) for uuid in BEFORE['nodes']]
    kinds = [type(node) for node in read]
    for kind in (StructureSetData, LabelSetData, DatasetData, ModelData, PredictionData, DensitySetData):
        assert kind in kinds
    assert DensityModelData in kinds
    for node in read:
        if isinstance(node, LabelSetData):
            assert len(node.labels) == node.base.attributes.get('n_rows')
        elif isinstance(node, DatasetData):
            assert len(node.dataset.y) == node.base.attributes.get('n_rows')
    for uuid, (group, shown) in BEFORE['show'].items():
        assert losses(shown, command(group, 'show', uuid), shown['label']) == []


def test_traces_lead_to_the_same(old) -> None:
    for uuid, lineage in BEFORE['trace'].items():
        assert losses(lineage, command('trace', uuid), lineage['node']['label']) == []


def test_audits_find_the_same(old) -> None:
    for uuid, audit in BEFORE['audit'].items():
        now = command('audit', uuid, statuses=(0, 1))
        known = {check['check'] for check in audit['checks']}
        now['checks'] = [check for check in now['checks'] if check['check'] in known]
        assert losses(audit, now, audit['node']['label']) == []


def test_an_archive_is_asked_without_an_import(aiida_profile) -> None:
    [uuid] = [uuid for uuid, node in BEFORE['nodes'].items() if node['label'] == 'network-predictions']
    try:
        assert losses(BEFORE['trace'][uuid], command('trace', uuid, '--archive', ARCHIVE)) == []
    finally:
        load_profile(aiida_profile.name, allow_switch=True)


@pytest.mark.parametrize(('model', 'tolerance'), [('ridge', 1e-12), ('forest', 0.0), ('network', 1e-6)])
def test_models_predict_the_same(model: str, tolerance: float, old, code: orm.InstalledCode) -> None:
    before = old(f'{model}-predictions')
    made = command('predict', old(model).uuid, before.creator.inputs.structures.uuid, '--code', code.pk)
    now = orm.load_node(made['uuid'])
    assert now.base.attributes.get('model_fingerprint') == before.base.attributes.get('model_fingerprint')
    for name in before.get_arraynames():
        then, found = before.get_array(name), now.get_array(name)
        if then.dtype.kind == 'f':
            np.testing.assert_allclose(found, then, rtol=0, atol=tolerance)
        else:
            np.testing.assert_array_equal(found, then)


def test_a_prediction_comes_out_again_from_its_labels(old) -> None:
    # Another processor rounds differently: linear algebra has code of its own for each.
    answer = command('reproduce', old('ridge-predictions').uuid, '--from', 'labels', '--tolerance', 1e-12)
    assert answer['verdict'] in ('identical', 'within tolerance'), answer
    assert [step['type'] for step in answer['steps']] == ['assemble_dataset', 'TrainCalculation', 'PredictCalculation']


def test_a_loss_is_noticed() -> None:
    assert losses({'a': [1, {'b': 2}]}, {'a': [1, {'b': 2, 'c': 3}], 'd': 4}) == []
    assert losses({'a': [1, {'b': 2}]}, {'a': [1, {'b': 3}]}) == ['.a[1].b: 2 -> 3']
    assert losses({'a': [1]}, {'a': []}) == ['.a has 0 entries in place of 1']
    assert losses({'a': 1}, {}) == ['.a is gone']
