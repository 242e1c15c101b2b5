"""Estimates of cost: jobs are counted, and seconds come from what was done before in the profile, or are unknown."""

from __future__ import annotations

import pytest

from aiida_nanoml.actions.active import Active
from aiida_nanoml.actions.alloy_phase import AlloyPhase
from aiida_nanoml.actions.build_dataset import BuildDataset
from aiida_nanoml.actions.density_run import DensityRun
from aiida_nanoml.actions.density_warmstart import DensityWarmstart
from aiida_nanoml.actions.predict import Predict
from aiida_nanoml.actions.study import Study
from aiida_nanoml.actions.train import Train
from aiida_nanoml.actions.validate import Validate


@pytest.fixture(autouse=True)
def empty_profile(aiida_profile_clean) -> None:
    """What earlier tests did must not be a basis."""


def test_features_are_estimated_by_the_same_descriptor(structures_node, labels_node) -> None:
    build = BuildDataset(structures=(structures_node,), labels=(labels_node,))
    assert build.estimate() is None, 'nothing is known yet'
    build.run()
    estimate = build.estimate()
    assert estimate is not None
    assert estimate.jobs == 0
    assert 0 < estimate.seconds < 600
    assert estimate.basis.startswith('data sets with the descriptor quadruplets in this profile (1)')
    twice = BuildDataset(structures=(structures_node, structures_node), labels=(labels_node,)).estimate()
    assert twice.seconds == pytest.approx(2 * estimate.seconds)
    other = BuildDataset(structures=(structures_node,), labels=(labels_node,), descriptor='quadruplets+shells')
    assert other.estimate() is None


def test_a_training_is_estimated_by_equal_ones(dataset_node, code) -> None:
    train = Train(dataset=dataset_node, kind='ridge', hyperparameters={'alpha': 0.5})
    unknown = train.estimate()
    assert (unknown.jobs, unknown.seconds) == (1, None)
    assert unknown.basis == 'there are no trainings of ridge with the same hyperparameters in this profile'
    model = train.run().model
    known = train.estimate()
    assert known.jobs == 1
    assert known.seconds > 0
    assert 'in this profile (1), scaled by the number of rows' in known.basis
    assert Train(dataset=dataset_node, kind='ridge').estimate().seconds is None
    assert Train(dataset=dataset_node, kind='ridge', hyperparameters={'alpha': 0.5}, folds=3).estimate().seconds is None

    predict = Predict(model=model, rows=dataset_node)
    assert predict.estimate().seconds is None
    predict.run()
    assert predict.estimate().seconds > 0


@pytest.mark.parametrize(
    ('fields', 'labelled', 'rounds'),
    [
        ({'budget': 6}, 4 + 6, 3),
        ({'rounds': 2}, 4 + 3 + 2, 2),
        ({'target_mae': 0.1}, 12, 4),
        ({'budget': 6, 'compare': True}, 4 + 2 * 6, 3),
    ],
)
def test_active_learning_counts_what_it_does_at_most(structures_node, fields, labelled, rounds) -> None:
    """Of 12 structures, 4 are held out, 3 are labelled in the first round and 2 in each further one."""
    active = Active(pool=structures_node, n_held_out=4, n_initial=3, per_round=2, **fields)
    estimate = active.estimate()
    repeats = 2 if fields.get('compare') else 1
    assert estimate.jobs == 1 + repeats * rounds * 3, 'of each round, a labelling, a training and a prediction'
    assert estimate.seconds is None, 'no label of the engine is known'
    assert f'at most {labelled} structures in {rounds} rounds' in estimate.basis


def test_a_study_has_a_job_for_each_seed_and_family(structures_node, labels_node) -> None:
    fields = {'structures': (structures_node,), 'labels': (labels_node,), 'seeds': 4}
    assert Study(study='learning_curve', **fields).estimate().jobs == 4
    n_families = len(structures_node.base.attributes.get('families'))
    assert Study(study='selection', **fields).estimate().jobs == 4 * n_families


def test_given_labels_cost_nothing() -> None:
    assert Validate(predictions='1', labels='2').estimate() is None


def test_a_density_workflow_counts_the_labels_of_all_sets_a_training_and_predictions(structures_node) -> None:
    run = DensityRun(structures=structures_node, unseen=structures_node, engine='pyscf', batch_size=5)
    estimate = run.estimate()
    assert (estimate.jobs, estimate.seconds) == (2 * 3 + 2, None), 'of 12 structures, 5 in a job'
    assert 'no label of pyscf with the protocol balanced' in estimate.basis


def test_a_comparison_of_starts_has_two_runs_for_each_density(densities_node) -> None:
    assert DensityWarmstart(densities=densities_node, code='1').estimate().jobs == 2 * densities_node.n_densities
    some = DensityWarmstart(densities=densities_node, code='1', rows=(0, 2), wallclock=60).estimate()
    assert some.jobs == 4
    assert some.basis.endswith('60 s a run at most')


def test_phases_cost_a_prediction_if_a_model_makes_them(structures_node, model_node) -> None:
    assert AlloyPhase(node=structures_node).estimate() is None
    estimate = AlloyPhase(node=structures_node, model=model_node, points=10).estimate()
    assert (estimate.jobs, estimate.seconds) == (1, None)
    assert 'there are no predictions of models of the kind' in estimate.basis
