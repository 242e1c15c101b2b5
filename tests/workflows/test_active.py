"""Rounds of active learning on a few real flakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from aiida.plugins import WorkflowFactory

from aiida_nanoml.calculations.functions.active import ROUND_COLUMNS, draw_rounds
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.structures import StructureSet

ActiveWorkChain = WorkflowFactory('nanoml.active')
OVERRIDES = {
    'n_per_round': 2,
    'strategy': 'distance',
    'validation': 0.0,
    'kind': 'ridge',
    'descriptor': {'params': {'unknown': 'overflow'}},
}


@pytest.fixture
def builder(code: orm.InstalledCode, flakes: StructureSet) -> Callable[..., Any]:
    """A builder for quick rounds: eight flakes in the pool, four held out, four to begin with."""

    def make(known: LabelSet | None = None, stop: dict[str, Any] | None = None, **overrides: Any) -> Any:
        made = ActiveWorkChain.get_builder_from_protocol(
            code,
            StructureSetData(flakes.select(slice(8))),
            held_out=StructureSetData(flakes.select(slice(8, None))),
            initial=StructureSetData(flakes.select(slice(4))),
            protocol='fast',
            overrides=OVERRIDES | overrides,
        )
        if known is not None:
            made.label.known = {'labels': LabelSetData(known)}
        for name, value in ({'max_rounds': 2} if stop is None else stop).items():
            made[name] = orm.to_aiida_type(value)
        return made

    return make


def jobs(node: orm.WorkChainNode, process: str) -> list[orm.CalcJobNode]:
    return [called for called in node.called_descendants if called.process_label == process]


def test_two_rounds_and_the_random_choice_beside_them(builder, flakes: StructureSet, flake_labels: LabelSet) -> None:
    """Of the eight flakes in the pool, one failed, one has an odd electron count, and one was never labelled."""
    status, open_shell = flake_labels.status.astype('<U20'), flake_labels.open_shell.copy()
    status[1] = 'not_converged'
    open_shell[2] = True
    energies = {name: np.where(status == 'ok', column, np.nan) for name, column in flake_labels.energies.items()}
    labels = replace(flake_labels, status=status, open_shell=open_shell, energies=energies)
    made = builder(labels.select(np.delete(np.arange(12), 5)), {'budget': 7, 'target_mae': 1e-6}, n_per_round=5)
    made.compare = orm.Bool(True)
    with enable_caching(identifier='aiida.calculations:nanoml.train'):
        outputs, node = run_get_node(made)
    assert node.is_finished_ok, node.exit_message
    summary, table = outputs['summary'].get_dict(), outputs['table']
    assert summary['stopped_by'] == 'budget'
    columns = {name: table.get_array(name).tolist() for name in ROUND_COLUMNS}
    assert columns['n_asked'] == [4, 7]
    assert columns['n_left'] == [4, 1]
    assert columns['n_learnt'] == [2, 5]
    assert columns['n_failed'] == columns['n_open_shell'] == [1, 1]
    asked = outputs['structures'].structures
    assert asked.hashes[:4].tolist() == flakes.hashes[:4].tolist()
    assert len(set(asked.hashes.tolist())) == 7, 'no flake is asked for twice, whatever became of it'

    # Held-out flakes are judged, and never learnt from.
    held_out = flakes.hashes[8:]
    for training in jobs(node, 'TrainCalculation'):
        assert not np.isin(held_out, training.inputs.dataset.dataset.hashes).any()
    rows = np.isin(outputs['predictions'].get_array('hashes'), held_out)
    error = outputs['predictions'].get_array('value')[rows] - flake_labels.energies['gap_ev'][8:]
    assert outputs['metrics']['all']['n'] == 4
    assert summary['mae'] == pytest.approx(np.abs(error).mean())
    assert columns['mae'][-1] == summary['mae']

    # Only the label that was not known was computed, and that at most once.
    computed = [
        job.inputs.structures.structures.hashes[job.inputs.rows.get_list()].tolist()
        for job in jobs(node, 'LabelCalculation')
    ]
    assert computed in ([], [[flakes.hashes[5]]])

    # The random choice begins with the same flakes and asks for as many.
    [random] = [called for called in node.called if called.process_label == 'ActiveWorkChain']
    assert random.inputs.strategy.value == 'random'
    assert random.outputs.table.get_array('n_asked').tolist() == [4, 7]
    assert random.outputs.table.get_array('mae')[0] == columns['mae'][0]
    assert summary['random_mae'] == outputs['random_table'].get_array('mae')[-1]
    figures = outputs['figures'].base.repository
    assert sorted(figures.list_object_names()) == ['active_learning.png', 'rounds.csv']
    assert figures.get_object_content('rounds.csv').splitlines()[1].startswith('4,2,1,1,4,')
    axes = draw_rounds(outputs['table'], width='double')
    assert axes.figure.get_figwidth() == 7.0
    assert [list(line.get_ydata()) for line in axes.lines[:2]] == [
        columns['mae'],
        outputs['random_table'].get_array('mae').tolist(),
    ]


def refuse(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        run_get_node(make)


def test_what_cannot_work_is_refused_before_a_label_is_paid_for(
    builder, flakes: StructureSet, flake_labels: LabelSet, cheap_labels: LabelSet
) -> None:
    refuse(builder(stop={}), 'say when to stop')
    with pytest.raises(ValueError, match='must be above 0'):
        builder(stop={'budget': 0})
    with pytest.raises(ValueError, match="the strategy is one of std, distance, mixed, random, not 'best'"):
        builder(strategy='best')
    refuse(builder(kind='oracle'), "there is no kind of model 'oracle'")
    refuse(builder(descriptor={'name': 'oracle', 'params': {}}), 'oracle')
    refuse(builder(cheap_labels), 'label.known.labels is from Cheap 1.0')
    both = builder()
    both.n_held_out = orm.Int(3)
    refuse(both, 'give either `held_out` or `n_held_out`')
    leaking = builder()
    leaking.held_out = StructureSetData(flakes.select([7, 8]))
    refuse(leaking, '1 held-out structures are in `pool` as well')
    partial = builder()
    partial.baseline = LabelSetData(cheap_labels.select(np.arange(5)))
    refuse(partial, '3 of 8 structures have no finished label in the baseline')


def test_held_out_structures_are_drawn_and_a_baseline_is_corrected(
    code: orm.InstalledCode, flakes: StructureSet, flake_labels: LabelSet, cheap_labels: LabelSet
) -> None:
    """The correction is the same for all flakes here, so that the first round reaches the target."""
    made = ActiveWorkChain.get_builder_from_protocol(
        code,
        StructureSetData(flakes),
        protocol='fast',
        overrides=OVERRIDES
        | {'n_held_out': 4, 'n_initial': 4, 'strategy': 'random', 'hyperparameters': {'alpha': 1e-6}},
    )
    made.label.known = {'labels': LabelSetData(flake_labels)}
    made.baseline = LabelSetData(cheap_labels)
    made.max_rounds, made.target_mae = orm.Int(1), orm.Float(1e-3)
    outputs, node = run_get_node(made)
    assert node.is_finished_ok, node.exit_message
    held_out = set(outputs['held_out'].structures.hashes.tolist())
    asked = set(outputs['structures'].structures.hashes.tolist())
    assert (len(held_out), len(asked)) == (4, 4)
    assert not held_out & asked
    assert outputs['summary']['stopped_by'] == 'target_mae', 'the first reason that holds'
    assert outputs['summary']['n_left'] == 4
