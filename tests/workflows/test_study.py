"""Studies of a few real flakes, with provenance."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory, WorkflowFactory

from aiida_nanoml.calculations.functions.base import INPUT_REFUSED
from aiida_nanoml.calculations.functions.studies import study_of, tabulate_study
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.learning.studies.base import FAILED, chosen
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.workflows.study import DEFAULT_SPLIT, completed_split, rows_by_family, validate_split, with_seed
from tests.conftest import SHIFT

StudyCalculation = CalculationFactory('nanoml.study')
StudyWorkChain = WorkflowFactory('nanoml.study')
QUADRUPLETS = {'name': 'quadruplets', 'params': {'classes': 22, 'unknown': 'overflow'}}


@pytest.fixture
def two_families(aiida_profile, flakes: StructureSet) -> StructureSetData:
    """The flakes under the names of two families."""
    names = np.array(['h', 's'] * (len(flakes) // 2))
    return StructureSetData(StructureSet.from_arrays(flakes.to_arrays() | {'families': names})).store()


def make_builder(code: orm.InstalledCode, structures: StructureSetData, labels: LabelSetData, **changes: Any):
    given = {'study': 'learning_curve', 'settings': {'rows': [4, 6]}, 'kind': 'linear', 'descriptor': QUADRUPLETS}
    seeds = changes.pop('seeds', [0, 1])
    builder = StudyWorkChain.get_builder_for(code=code, structures=structures, labels=labels, **(given | changes))
    builder.seeds = orm.List(seeds)
    return builder


def test_from_labelled_structures_to_table_and_figure(code, structures_node, labels_node) -> None:
    outputs, node = run_get_node(make_builder(code, structures_node, labels_node))
    assert node.is_finished_ok, node.exit_message
    table, summary, files = (outputs[name] for name in ('table', 'summary', 'files'))
    assert table.get_array('seed').tolist() == [0, 0, 1, 1]
    assert table.get_array('n_train').tolist() == [4, 6, 4, 6]
    r2 = table.get_array('r2_test')
    np.testing.assert_allclose(summary.get_array('r2_test'), [r2[[0, 2]].mean(), r2[[1, 3]].mean()])
    for made in (table, summary):
        assert made.base.attributes.get('labels')['title'] == 'GFN1-xTB (tblite)'
        assert made.base.attributes.get('labels')['protocol'] == 'fast'
    assert sorted(files.base.repository.list_object_names()) == [
        'learning_curve.png',
        'learning_curve_curve.csv',
        'learning_curve_rows.csv',
        'learning_curve_summary.csv',
    ]
    assert files.base.repository.get_object_content('learning_curve.png', mode='rb').startswith(b'\x89PNG')
    written = list(csv.DictReader(io.StringIO(files.base.repository.get_object_content('learning_curve_rows.csv'))))
    assert [float(row['r2_test']) for row in written] == pytest.approx(r2.tolist())
    assert {row['labels'] for row in written} == {str(labels_node.label_source)}
    attributes = table.base.attributes
    made = study_of({key: attributes.get(key) for key in ('study', 'settings', 'kind', 'hyperparameters')})
    assert [line[0] for line in made.tables(table.arrays)['curve']] == ['rows', '4', '6']
    # Both seeds have a data set of their own, and the table leads back to the labels.
    query = orm.QueryBuilder().append(orm.Data, filters={'uuid': table.uuid}, tag='end')
    query.append(orm.CalcJobNode, with_descendants='end', tag='job')
    jobs = query.all(flat=True)
    assert sorted(job.inputs.seed.value for job in jobs) == [0, 1]
    splits = [job.inputs.dataset.get_array('split').tolist() for job in jobs]
    assert splits[0] != splits[1]
    assert all(job.inputs.dataset.creator.inputs.labels.uuid == labels_node.uuid for job in jobs)


def test_a_study_of_single_families_has_a_data_set_for_each(code, two_families, labels_node) -> None:
    """The quadruplets have no radii, so that RCR fails; the rest does not."""
    settings = {'methods': ['random', 'rcr'], 'n_features': [3]}
    builder = make_builder(code, two_families, labels_node, study='selection', settings=settings, seeds=[4])
    builder.split = orm.Dict({'validation': 0.34, 'test': 0.34})
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    table = outputs['table'].arrays
    assert table['family'].tolist() == ['h'] * 3 + ['s'] * 3
    assert (chosen(table, method='random')['n_features'] == 3).all()
    assert chosen(table, method='rcr')['status'].tolist() == [FAILED] * 2
    assert all(chosen(table, method='rcr')['message'])
    for job in node.called:
        if isinstance(job, orm.CalcJobNode):
            assert len(job.inputs.dataset.base.attributes.get('families')) == 1


def test_a_baseline_is_part_of_the_data_sets(code, structures_node, labels_node, baseline_node) -> None:
    builder = make_builder(code, structures_node, labels_node, seeds=[0])
    builder.baseline = baseline_node
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert outputs['table'].base.attributes.get('baseline')['title'] == 'Cheap'
    np.testing.assert_allclose(outputs['table'].get_array('mae_test_baseline_ev'), SHIFT)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'settings': {'row': [4]}}, "no setting 'row'"),
        ({'settings': {'rows': []}}, 'setting rows'),
        ({'settings': {'rows': [4, 100]}}, 'needs 100 training rows, there are 7'),
        ({'study': 'transfer', 'settings': {}}, 'needs two families, there is: z'),
        ({'study': 'alchemy', 'settings': {}}, "no study 'alchemy'"),
        ({'kind': 'oracle'}, "'oracle'"),
        ({'hyperparameters': {'depth': 2}}, 'depth'),
        ({'descriptor': {'name': 'runes'}}, "no descriptor 'runes'"),
        ({'descriptor': {'names': 'runes'}}, 'chosen by `name` and `params`'),
        ({'seeds': []}, 'seeds must be different whole numbers'),
        ({'seeds': [1, 1]}, 'seeds must be different whole numbers'),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    code, structures_node, labels_node, changes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_get_node(make_builder(code, structures_node, labels_node, **changes))


def test_a_step_that_refuses_its_input_ends_the_study_with_520(code, two_families, flake_labels: LabelSet) -> None:
    """Half of the structures have no label."""
    labels = LabelSetData(flake_labels.select(np.arange(6)))
    _, node = run_get_node(make_builder(code, two_families, labels))
    assert node.exit_status == StudyWorkChain.exit_codes.ERROR_STEP_REFUSED.status
    assert 'have no label' in node.exit_message


def test_rows_of_different_engines_are_not_put_into_one_table(aiida_profile) -> None:
    def rows(title: str) -> orm.ArrayData:
        node = orm.ArrayData({'status': np.array(['ok']), 'family': np.array(['']), 'n_rows': np.array([4.0])})
        source = {'engine': 'e', 'version': '1', 'title': title, 'protocol': 'p', 'parameters': {}}
        node.base.attributes.set('labels', source | {'pseudopotentials': {}})
        return node

    study = orm.Dict({'study': 'learning_curve', 'settings': {}, 'kind': 'linear', 'hyperparameters': {}})
    _, node = tabulate_study.run_get_node(study=study, a=rows('one'), b=rows('other'))
    assert node.exit_status == INPUT_REFUSED
    assert 'different origin' in node.exit_message


def test_seeds_reach_what_is_drawn_unless_chosen() -> None:
    assert with_seed({'name': 'clusters', 'params': {'radii': [1]}}, 3)['params'] == {'radii': [1], 'seed': 3}
    assert with_seed({'name': 'clusters', 'params': {'seed': 8}}, 3)['params'] == {'seed': 8}
    assert with_seed(QUADRUPLETS, 3) == QUADRUPLETS
    combined = with_seed({'name': 'combined', 'params': {'parts': [QUADRUPLETS, {'name': 'clusters'}]}}, 3)
    assert combined['params']['parts'] == [QUADRUPLETS, {'name': 'clusters', 'params': {'seed': 3}}]


def test_rows_are_counted_by_family(two_families: StructureSetData) -> None:
    assert rows_by_family(two_families) == {'h': 6, 's': 6}


def test_a_killed_job_goes_on_from_its_journal(
    code_factory, worker_command: Path, tmp_path: Path, structures_node, labels_node
) -> None:
    """The worker is killed when the first model is in the journal; a second job trains the others."""
    script = tmp_path / 'killed-once'
    script.write_text(
        f"""#!/bin/sh
[ -e journal.jsonl ] && exec {worker_command} "$@"
{worker_command} "$@" &
until [ -e journal.jsonl ] && [ "$(wc -l < journal.jsonl)" -ge 2 ]; do sleep 0.05; done
kill -9 $!
""",
        encoding='utf-8',
    )
    script.chmod(0o755)
    settings = {'grid': {'n_trees': [1, 3000, 2]}, 'sampling': 'grid'}
    builder = make_builder(
        code_factory(script, 'killed-once'),
        structures_node,
        labels_node,
        study='hyperparameters',
        settings=settings,
        kind='forest',
        seeds=[0],
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    killed, resumed = (job for job in node.called if isinstance(job, orm.CalcJobNode))
    assert killed.exit_status == StudyCalculation.exit_codes.ERROR_INTERRUPTED.status
    assert 'killed after' in killed.exit_message
    assert resumed.inputs.parent_folder.creator.uuid == killed.uuid
    table = outputs['table']
    assert table.get_array('n_trees').tolist() == [1, 3000, 2]
    assert table.get_array('wall_s')[0] == killed.outputs.rows.get_array('wall_s')[0], 'it was not trained again'


def test_another_target_is_studied_in_its_own_unit(
    code, third_party_path, aiida_profile, alloy_cells, alloy_labels, atom_labels
) -> None:
    formulas = {'name': 'formulas', 'params': {}}
    builder = make_builder(
        code, StructureSetData(alloy_cells), LabelSetData(alloy_labels), seeds=[0], descriptor=formulas, kind='ridge',
        settings={'rows': [10, 30]}, targets={'target': 'pressure', 'others': ['cohesive_energy']},
    )  # fmt: skip
    builder.atoms = LabelSetData(atom_labels)
    builder.split = orm.Dict({'group': 'alloy'})
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    table = outputs['table']
    assert {'mae_test_gpa', 'rmse_train_gpa', 'r2_test'} <= set(table.arrays)
    assert not [name for name in table.arrays if name.endswith('_ev')]
    attributes = table.base.attributes
    assert (attributes.get('target'), attributes.get('unit')) == ('pressure', 'GPa')
    keys = ('study', 'settings', 'kind', 'hyperparameters', 'target')
    made = study_of({key: attributes.get(key) for key in keys})
    assert made.tables(table.arrays)['curve'][0][-1] == 'MAE test (GPa)'
    dataset = next(job.inputs.dataset for job in node.called if isinstance(job, orm.CalcJobNode))
    assert (dataset.split_by, dataset.others) == ('alloy', {'cohesive_energy': 'eV/atom'})


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'targets': {'target': 'colour'}}, "no target 'colour'"),
        ({'targets': {'others': ['pressure']}, 'kind': 'svm'}, 'SvmEstimator learns one target'),
    ],
)
def test_targets_that_cannot_be_studied_are_refused(code, structures_node, labels_node, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        run_get_node(make_builder(code, structures_node, labels_node, **changes))


def test_splits_of_a_study_may_keep_alloys_together() -> None:
    assert completed_split({}) == DEFAULT_SPLIT
    assert completed_split({'group': 'alloy', 'test': 0.3}) == {
        'validation': 0.2,
        'test': 0.3,
        'by_family': False,
        'group': 'alloy',
    }
    assert 'no parameter seed' in validate_split(orm.Dict({'seed': 1}), None)
    assert "no group 'phase'" in validate_split(orm.Dict({'group': 'phase'}), None)
