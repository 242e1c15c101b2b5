"""Audits of graphs in which one thing is wrong, and of one in which nothing is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.orm.nodes.caching import NodeCaching
from aiida.tools import delete_nodes
from aiida_pseudo.data.pseudo import PsfData

from aiida_nanoml import __version__
from aiida_nanoml.calculations.functions.potentials import generate_potential
from aiida_nanoml.calculations.functions.siesta import node_of_structure
from aiida_nanoml.data.dataset import DatasetData
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.data.density_model import DensityModelData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.engines.pseudopotentials import bundled
from aiida_nanoml.errors import ProvenanceError
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.density.model_files import CARD_FILE
from aiida_nanoml.provenance.audit import CHECKS, Audit, Finding, audit
from aiida_nanoml.structures import FlakeParameters, Structure, StructureSet, generate_flakes, place
from tests.conftest import gaussian_density
from tests.provenance.conftest import store_process

N, N_TRAIN, N_VALIDATION = 60, 20, 10
PARAMETERS = {'family': 'z', 'size': 2, 'seed': 3}
GOOD = {'r2': 0.9, 'mae': 0.1, 'rmse': 0.12, 'n': 30, 'coverage_68': 0.7, 'coverage_95': 0.93, 'outside': 0}
CALIBRATION = {
    'part': 'validation', 'rows': 60, 'spread': 1.0, 'gap': 0.0, 'constant_ev': 0.1, 'factor_68': 1.0, 'factor_95': 2.0,
}  # fmt: skip
SOURCE = LabelSource('siesta', '4.1', 'LDA (SIESTA)', 'paper', {'mesh_cutoff_ry': 200}, {'C': 'a' * 32})
PARTS = np.repeat(['train', 'validation', 'test'], [N_TRAIN, N_VALIDATION, N - N_TRAIN - N_VALIDATION])
FIRST, WATCHED, TESTED = 0, N_TRAIN, N - 1
"""A row of each part."""


@dataclass
class Study:
    """Structures, labels, a data set, a model and a prediction; each part can be made wrong."""

    code: orm.InstalledCode
    folder: Path
    flakes: StructureSet
    model_folder: Path
    sources: tuple[LabelSource, ...] = (SOURCE,)
    codes: tuple[orm.InstalledCode, ...] = ()
    labels: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    unseen: StructureSet | None = None
    nodes: dict[str, Any] = field(default_factory=dict)

    def store(self) -> PredictionData:
        """Store all of it, and give the prediction."""
        record = partial(store_process, self.code)
        known = self.flakes.select(slice(N))
        unseen = self.flakes.select(slice(N, None)) if self.unseen is None else self.unseen
        structures, others = StructureSetData(known), StructureSetData(unseen)
        for node in (structures, others):
            parameters = orm.Dict({**PARAMETERS, 'count': len(node.get_array('names'))}).store()
            made = {'structures': node}
            record('nanoml.generate_flake_set', {'parameters': parameters}, made, 'generate_flake_set')
        sets = [LabelSetData(part) for part in self._labels(known)]
        jobs = [
            record(
                'nanoml.label',
                {
                    'structures': structures,
                    'engine': orm.Str('siesta').store(),
                    'protocol': orm.Str('paper').store(),
                    'engine_code': code,
                },
                {'labels': node},
            )
            for node, code in zip(sets, self.codes or [self.code] * len(sets), strict=True)
        ]
        rows = self._rows(known)
        descriptor = {'name': 'mine', 'params': {}, 'feature_names': list(rows.feature_names), 'n_features': 2}
        dataset = DatasetData(rows, descriptor, SOURCE.to_dict(), **self.dataset)
        inputs = {'structures': structures, 'descriptor': orm.Dict(descriptor).store()}
        inputs |= {'labels' if not number else f'labels_{number}': node for number, node in enumerate(sets)}
        record('nanoml.assemble_dataset', inputs, {'result': dataset}, 'assemble_dataset')
        model = ModelData(self._model(descriptor))
        training = record('nanoml.train', {'dataset': dataset, 'kind': orm.Str('ridge').store()}, {'model': model})
        predictions = PredictionData(self._columns(unseen), {**model.base.attributes.all, **self.told})
        job = record('nanoml.predict', {'model': model, 'structures': others}, {'predictions': predictions})
        for process in (*jobs, training, job):
            rewritten(process, 'version', {'core': '2', 'plugin': __version__})
        self.nodes = {
            'structures': structures, 'labels': sets, 'jobs': jobs, 'dataset': dataset, 'model': model,
            'training': training, 'prediction job': job, 'predictions': predictions,
        }  # fmt: skip
        return predictions

    def _labels(self, known: StructureSet) -> list[LabelSet]:
        n = len(known)
        gaps = np.linspace(1.0, 3.0, n)
        columns = {
            'hashes': known.hashes, 'status': np.full(n, 'ok', dtype='<U20'), 'messages': np.full(n, '', dtype='<U40'),
            'energy_ev': -gaps, 'homo_ev': -5.0 - gaps, 'lumo_ev': np.full(n, -5.0), 'gap_ev': gaps,
            'n_electrons': np.full(n, 100), 'open_shell': np.zeros(n, dtype=bool), 'wall_s': np.ones(n),
        }  # fmt: skip
        for name, (row, value) in self.labels.items():
            columns[name][row] = value
        return [LabelSet.from_arrays(source, columns) for source in self.sources]

    def _rows(self, known: StructureSet) -> Dataset:
        features = np.random.default_rng(0).normal(size=(N, 2))
        rows = Dataset(
            features, np.linspace(1.0, 3.0, N), known.hashes, known.names, known.families, PARTS, ('one', 'other')
        )
        columns = rows.to_arrays()
        for name, (row, value) in self.rows.items():
            columns[name] = columns[name].copy()
            columns[name][row] = value
        return Dataset.from_arrays(columns, rows.feature_names)

    def _model(self, descriptor: dict[str, Any]) -> Path:
        folder = self.folder / f'model-{len(list(self.folder.iterdir()))}'
        shutil.copytree(self.model_folder, folder)
        card = json.loads((folder / 'model.json').read_text())
        card |= {
            'labels': SOURCE.to_dict(), 'descriptor': descriptor, 'metrics': {'train': GOOD, 'test': GOOD},
            'calibration': CALIBRATION, 'versions': {'aiida-nanoml': __version__, 'numpy': '2'},
        }  # fmt: skip
        (folder / 'model.json').write_text(json.dumps(card | self.card))
        return folder

    def _columns(self, unseen: StructureSet) -> dict[str, Any]:
        n = len(unseen)
        columns = {
            'hashes': unseen.hashes, 'names': unseen.names, 'families': unseen.families, 'value': np.full(n, 2.0),
            'std': np.full(n, 0.1), 'spread': np.full(n, 0.1), 'distance': np.ones(n), 'outside': np.zeros(n, bool),
        }  # fmt: skip
        for name, (row, value) in self.columns.items():
            columns[name][row] = value
        return columns


@pytest.fixture(scope='module')
def many() -> StructureSet:
    """Flakes to learn from, and ten more."""
    return generate_flakes(FlakeParameters(**PARAMETERS, count=N + 10))


@pytest.fixture
def study(code, tmp_path, many, model_folder) -> Callable[..., Study]:
    return partial(Study, code, tmp_path, many, model_folder)


def found(report: Audit) -> dict[str, list[str]]:
    """Severities of the findings by check."""
    severities: dict[str, list[str]] = {}
    for finding in report.findings:
        severities.setdefault(finding.check, []).append(finding.severity)
    declared = {check.name: check.severities for check in CHECKS}
    assert all(set(severities[name]) <= set(declared[name]) for name in severities)
    return severities


def finding_of(report: Audit, check: str) -> Finding:
    [only] = [finding for finding in report.findings if finding.check == check]
    return only


def turned(structure: Structure) -> Structure:
    """The mirror image of a structure, turned, moved, numbered from the end, and a little bent."""
    turn = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]) * [1, -1, 1]
    bent = 0.02 * np.sin(np.arange(3 * len(structure)).reshape(-1, 3))
    return Structure(structure.numbers[::-1], (structure.positions @ turn + 7.0 + bent)[::-1])


def replaced(structures: StructureSet, row: int, structure: Structure) -> StructureSet:
    parts = [*structures]
    parts[row] = structure
    return StructureSet.from_structures(parts, structures.names, structures.families)


def test_a_clean_audit_says_what_was_checked(study):
    report = audit(study().store())
    assert [(check.check, check.told) for check in report.checks if check.outcome != 'clear'] == []
    assert report.findings == ()
    assert [check.check for check in report.checks] == [check.name for check in CHECKS]
    assert report.counts == {'error': 0, 'warning': 0, 'note': 0}
    text = report.render()
    assert 'nothing found' in text
    assert f'{len(CHECKS)} checks found nothing: shared-structures, same-isomers' in text
    assert 'same-isomers: Are two structures of different parts the same molecule' in report.render(all_checks=True)
    assert '70 structures as labelled' in report.render(all_checks=True)


def test_a_label_that_names_another_pseudopotential_than_its_input_is_an_error(generated, record_job, flake_labels):
    """An engine that was given one file and used another leaves a graph that names the wrong one."""
    carbon, nitrogen = (PsfData.get_or_create(bundled()[element]).store() for element in 'CN')
    used = {'C': carbon.md5, 'N': 'f' * 32, 'H': 'a' * 32}
    labels = replace(flake_labels, source=replace(flake_labels.source, pseudopotentials=used))
    node = record_job(generated, labels, pseudos__C=carbon, pseudos__N=nitrogen)
    found = [finding for finding in audit(node).findings if finding.check == 'other-pseudopotentials']
    assert [(finding.severity, finding.what) for finding in found] == [
        (
            'error',
            f'1 job had the pseudopotential {nitrogen.md5[:8]} of N as input, but its labels name ffffffff (MD5)',
        )
    ]
    assert [place.uuid for place in found[0].nodes] == [node.creator.uuid]


ODD = replace(SOURCE, protocol='fast', pseudopotentials={'C': 'b' * 32})
BETTER = replace(SOURCE, version='5.0', pseudopotentials={'N': 'b' * 32})
CASES: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {
    'unsafe labels': (
        {
            'labels': {
                'status': (TESTED, 'not_converged'),
                'messages': (FIRST, 'recovered: smaller mixing weight'),
                'open_shell': (WATCHED, True),
            },
            'rows': {'y': (FIRST, 0.05)},
            'dataset': {'excluded': {'failed': 6}},
        },
        {
            'unconverged-labels': ['error'],
            'recovered-labels': ['warning'],
            'open-shell': ['error'],
            'small-gaps': ['warning'],
            'excluded-rows': ['warning'],
        },
    ),
    'labels of two kinds': (
        {'sources': (SOURCE, ODD)},
        {'mixed-origins': ['error'], 'mixed-pseudopotentials': ['error']},
    ),
    'labels of two versions, few lost': (
        {'sources': (SOURCE, BETTER), 'dataset': {'excluded': {'failed': 1, 'repeated': 40}, 'unknown_classes': 3}},
        {'mixed-origins': ['warning'], 'excluded-rows': ['note', 'note']},
    ),
    'a model without evidence': (
        {
            'dataset': {'learnt_rows': N},
            'rows': {'split': (PARTS == 'test', 'train')},
            'card': {'allow_leakage': True, 'metrics': {}, 'calibration': None},
            'told': {'fingerprint': 'another', 'unit': 'meV'},
        },
        {
            'columns': ['error', 'warning'],
            'test-part': ['error'],
            'intervals': ['warning'],
            'mismatches': ['error', 'error'],
        },
    ),
    'a cross-validation that leaks': (
        {
            'dataset': {'learnt_rows': N - N_VALIDATION},
            'rows': {'split': (PARTS == 'test', 'train')},
            'card': {'metrics': {'held-out': GOOD}, 'calibration': {**CALIBRATION, 'rows': 20}},
        },
        {'columns': ['error'], 'test-part': ['warning'], 'intervals': ['note']},
    ),
    'a model without skill': (
        {
            'rows': {'split': (TESTED, 'train')},
            'card': {
                'metrics': {
                    'test': {**GOOD, 'r2': 0.0, 'coverage_95': 0.6},
                    'baseline/test': {**GOOD, 'mae': 0.09},
                }
            },
        },
        {'test-part': ['warning'], 'skill': ['error', 'error'], 'intervals': ['warning']},
    ),
    'a network with some skill': (
        {
            'card': {
                'kind': 'fast',
                'versions': {'aiida-nanoml': '0.0.1'},
                'parameters': {},
                'metrics': {
                    'test': GOOD,
                    'test/h': {**GOOD, 'r2': -1.0},
                    'train': {**GOOD, 'rmse': 0.03},
                    'baseline/test': {**GOOD, 'mae': 0.11},
                },
            },
            'columns': {'outside': (3, True)},
        },
        {
            'skill': ['warning', 'note'],
            'out-of-domain': ['warning'],
            'seeds': ['warning'],
            'nondeterminism': ['note'],
            'library-versions': ['warning'],
        },
    ),
    'no better than the mean, of other labels': (
        {
            'card': {
                'metrics': {'test': {**GOOD, 'mae': 3.0}},
                'labels': replace(SOURCE, protocol='fast').to_dict(),
            },
            'told': {'labels': SOURCE.to_dict()},
        },
        {'skill': ['warning'], 'mismatches': ['error', 'error']},
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_what_is_wrong_is_found_and_nothing_else(study, case):
    wrong, expected = CASES[case]
    assert found(audit(study(**wrong).store())) == expected


def test_structures_in_two_parts_are_found(study, many):
    """The same structure, the same molecule in another place, and predictions of what was learnt."""
    twin, known = N - 2, N_TRAIN - 1
    flakes = replaced(many, twin, turned(many[known]))
    unseen = replaced(replaced(many.select(slice(N, None)), 0, many[3]), 1, turned(many[4]))
    wrong = replace(
        study(),
        flakes=flakes,
        rows={'hashes': ([TESTED, WATCHED], [flakes.hashes[FIRST], flakes.hashes[FIRST + 1]])},
        unseen=unseen,
    )
    report = audit(wrong.store())
    assert found(report) == {
        'shared-structures': ['error', 'warning'],
        'same-isomers': ['error', 'warning'],
        'predicted-training-rows': ['warning'],
    }
    tested, watched = [one for one in report.findings if one.check == 'shared-structures']
    assert [row.names for row in tested.rows] == [(many.names[FIRST], many.names[TESTED])]
    assert [row.detail for row in watched.rows] == ['train, validation']
    assert [node.pk for node in tested.nodes] == [wrong.nodes['dataset'].pk]
    alike, predicted = [one for one in report.findings if one.check == 'same-isomers']
    assert [row.names for row in alike.rows] == [(many.names[known], many.names[twin])]
    assert alike.rows[0].hashes == (flakes.hashes[known], flakes.hashes[twin])
    assert [row.names for row in predicted.rows] == [(many.names[N + 1], many.names[4])]
    assert [row.names for row in finding_of(report, 'predicted-training-rows').rows] == [(many.names[N], many.names[3])]
    text = report.render()
    assert f'{many.names[FIRST]} = {many.names[TESTED]} (train, test)' in text
    assert json.loads(json.dumps(report.to_dict()))['counts'] == {'error': 2, 'warning': 3, 'note': 0}


def test_structures_that_relax_into_the_same_one_are_found(study, many, code):
    """Two flakes differ as they were labelled; a run of SIESTA relaxes one into the other."""
    node = study().store()
    boxes = [node_of_structure(place(many[row], 10.0)) for row in (TESTED, FIRST)]
    inputs = {'structure': boxes[0].store(), 'parameters': orm.Dict({'mdtypeofrun': 'cg'}).store()}
    store_process(code, 'nanoml.siesta', inputs, {'output_structure': boxes[1]})
    report = audit(node)
    assert found(report) == {'same-isomers': ['error']}
    assert [row.names for row in report.findings[0].rows] == [(many.names[FIRST], many.names[TESTED])]
    [check] = [check for check in report.checks if check.check == 'same-isomers']
    assert '70 structures as labelled, 1 of them relaxed; distances compared within 1 Å' in check.told


def test_how_processes_went_is_looked_at(study, code):
    """Executables, the cache, failures and versions."""
    siesta = [
        orm.InstalledCode(label=f'siesta-{n}', computer=code.computer, filepath_executable=f'/opt/{n}').store()
        for n in range(2)
    ]
    wrong = study(sources=(SOURCE, SOURCE), codes=tuple(siesta))
    node = wrong.store()
    first, second = wrong.nodes['jobs']
    first.base.extras.set(NodeCaching.CACHED_FROM_KEY, second.uuid)
    wrong.nodes['training'].base.extras.set(NodeCaching.CACHED_FROM_KEY, '00000000-0000-0000-0000-000000000000')
    for process, key, value in (
        (second, 'exit_status', 400),
        (second, 'version', {'plugin': '0.0.1'}),
        (second, 'resources', {'num_machines': 1, 'num_mpiprocs_per_machine': 8}),
        (wrong.nodes['prediction job'], 'exit_status', 302),
    ):
        rewritten(process, key, value)
    report = audit(node)
    assert found(report) == {
        'cached-results': ['warning', 'note'],
        'failed-processes': ['warning', 'note'],
        'mixed-executables': ['note'],
        'nondeterminism': ['note'],
        'plugin-versions': ['note'],
    }
    assert 'siesta-0@localhost (/opt/0): 1 job, siesta-1@localhost (/opt/1): 1 job' in report.render()
    lost, kept = [one for one in report.findings if one.check == 'cached-results']
    assert [place.pk for place in lost.nodes] == [wrong.nodes['training'].pk]
    assert [row.detail for row in kept.rows] == [f'cached from {second.uuid}']
    failed, _ = [one for one in report.findings if one.check == 'failed-processes']
    assert '1 PredictCalculation ended with exit status 302' in failed.what


def test_what_is_gone_from_the_graph_is_found(study, record_process):
    """A model outlives its training; an old archive brings a process without one of its inputs."""
    wrong = study()
    node = wrong.store()
    delete_nodes([wrong.nodes['training'].pk], dry_run=False, create_forward=False)
    report = audit(orm.load_node(node.uuid))
    assert found(report) == {'missing-processes': ['error']}
    assert finding_of(report, 'missing-processes').nodes[0].pk == wrong.nodes['model'].pk
    inputs = {'structures': wrong.nodes['structures'], 'descriptor': orm.Dict().store()}
    rows = DatasetData(wrong.nodes['dataset'].dataset, {}, SOURCE.to_dict())
    record_process('nanoml.assemble_dataset', inputs, {'result': rows}, 'assemble_dataset')
    report = audit(rows)
    assert found(report) == {'missing-inputs': ['error']}
    assert report.findings[0].what == '1 assemble_dataset lost the input labels'
    told = {check.check: check.told for check in report.checks if check.outcome == 'not made'}
    assert told['unconverged-labels'].startswith('no data set here has its labels in the graph')
    assert 'no labelling job' in told['mixed-origins']


def test_seeds_that_are_missing_or_not_given_are_told(dataset, record_process):
    assert found(audit(dataset))['seeds'] == ['note']
    split = DatasetData(dataset.dataset, {}, dataset.base.attributes.get('labels'))
    record_process('nanoml.split_dataset', {'dataset': dataset}, {'result': split}, 'split_dataset')
    report = audit(split)
    assert found(report)['seeds'] == ['warning', 'note']
    assert 'no seed is recorded of split_dataset' in report.render()


def test_labels_and_structures_are_audited_alone(labels_node, structures_node, flake_labels):
    assert found(audit(labels_node)) == {'claimed-labels': ['warning'], 'missing-processes': ['warning']}
    columns = flake_labels.to_arrays()
    columns['status'] = np.where(np.arange(12) == 0, 'wall_time', 'ok')
    columns['open_shell'] = np.arange(12) == 1
    report = audit(LabelSetData(LabelSet.from_arrays(flake_labels.source, columns)).store())
    assert found(report)['excluded-rows'] == ['warning']
    assert found(report)['open-shell'] == ['note']
    assert finding_of(report, 'open-shell').rows[0].hashes == (flake_labels.hashes[1],)
    assert found(audit(structures_node)) == {'missing-processes': ['note']}


def test_results_of_a_process_are_audited_and_rounds_that_only_chose_are_not(study, record_process):
    """The first model has no skill, but only chose what the second one learnt from."""
    first = study(card={'metrics': {'test': {**GOOD, 'r2': -1.0}}})
    predictions = first.store()
    assert found(audit(first.nodes['training'])) == {'skill': ['error']}
    fitted = record_process('nanoml.train', {'dataset': first.nodes['dataset']}, {'figures': orm.FolderData()})
    assert found(audit(fitted.outputs.figures))['missing-inputs'] == ['error']
    chosen = StructureSetData(first.flakes.select(slice(5)))
    record_process('nanoml.choose_structures', {'candidates': predictions}, {'structures': chosen}, 'choose_structures')
    assert 'skill' not in found(audit(chosen))


def test_densities_are_audited(densities_node, density_model, boxed_flakes, flake_labels, record_process):
    """A density that the network learnt from is predicted again."""
    test = DensitySetData(boxed_flakes.select([2]), [gaussian_density(boxed_flakes[2])], flake_labels.source).store()
    record_process('nanoml.density_train', {'densities': densities_node, 'test': test}, {'model': density_model})
    predicted = DensitySetData(
        boxed_flakes.select([1]), [gaussian_density(boxed_flakes[1])], flake_labels.source, density_model.fingerprint
    )
    structures = StructureSetData(boxed_flakes.select([1])).store()
    inputs = {'model': density_model, 'structures': structures}
    record_process('nanoml.density_predict', inputs, {'densities': predicted})
    report = audit(predicted)
    assert found(report)['shared-structures'] == ['error'], 'the third flake was learnt from and tested on'
    assert found(report)['predicted-training-rows'] == ['warning']
    assert found(report)['test-part'] == ['error'], 'its card has no errors of a test'
    assert {'intervals', 'skill', 'small-gaps', 'out-of-domain'} <= {
        check.check for check in report.checks if check.outcome == 'not made'
    }


def test_a_density_network_must_beat_free_atoms(density_model, record_process, tmp_path):
    card = json.loads((tmp_path / 'network' / CARD_FILE).read_text())
    for nmae, expected in ((0.02, ['error']), (0.01, None)):
        card['metrics'] = {'test': {'nmae': nmae, 'nmae_free': 0.015, 'n': 2}}
        (tmp_path / 'network' / CARD_FILE).write_text(json.dumps(card))
        worse = DensityModelData(tmp_path / 'network')
        record_process('nanoml.density_train', {}, {'model': worse})
        assert found(audit(worse)).get('skill') == expected
        assert 'test-part' not in found(audit(worse))


def test_transmissions_are_audited(record_process):
    potentials = generate_potential(orm.Str('barrier'), orm.Dict({'height': 0.2}))
    job = record_process('nanoml.rmatrix', {'potentials': potentials}, {'results': orm.Dict()})
    report = audit(job.outputs.results)
    assert found(report).keys() <= {'missing-inputs'}
    assert {check.told for check in report.checks if check.check == 'mixed-origins'} == {
        'no labelling job is in the graph'
    }


def test_what_cannot_be_audited_is_refused(code):
    with pytest.raises(ProvenanceError, match=r'nothing to audit in core\.code\.installed nanoml-worker pk'):
        audit(code)
    with pytest.raises(ProvenanceError, match='not stored'):
        audit(orm.Int(1))


def rewritten(process: orm.ProcessNode, key: str, value: Any) -> None:
    """Change what a sealed process says, as only another run would."""
    process.backend_entity.set_attribute(key, value)
