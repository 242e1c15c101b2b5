"""One publication for all tests, as plain data: the profile is emptied before each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm

from aiida_nanoml.calculations.functions.datasets import assemble_dataset, split_dataset
from aiida_nanoml.calculations.functions.labels import merge_labels
from aiida_nanoml.calculations.functions.structures import generate_flake_set
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.prediction import PredictionData
from aiida_nanoml.provenance.graph import ProvenanceGraph
from aiida_nanoml.provenance.lineage import starts, trace
from aiida_nanoml.provenance.publication import Person, Publication, publish
from tests.provenance.conftest import PARAMETERS, QUADRUPLETS, store_process

AUTHOR = Person('Ada Lovelace', 'ada@example.org', '0000-0002-1825-0097')
SIESTA = {'xc_functional': 'LDA', 'xc_authors': 'CA', 'basis_size': 'DZP', 'mesh_cutoff_ry': 150.0, 'k_grid': None}


@dataclass(frozen=True)
class Published:
    """A publication, and what its profile knew.

    :param lineage: of the node, as JSON has it.
    :param hashes: of the node and all its ancestors, by UUID.
    :param foreign: UUIDs of what has to stay out of the archive.
    """

    publication: Publication
    folder: Path
    lineage: dict[str, Any]
    hashes: dict[str, str]
    foreign: set[str]


@pytest.fixture(scope='session')
def make_prediction(flakes, flake_labels, model_folder) -> Callable[[], tuple[orm.Node, set[str]]]:
    """Make a prediction that rests on labels of two jobs, and beside it what has nothing to do with it."""

    def make() -> tuple[orm.Node, set[str]]:
        computer = orm.Computer('cluster', 'cluster.example.org', '', 'core.local', 'core.direct', '/scratch').store()
        code = orm.InstalledCode(computer, '/opt/nanoml-worker', label='nanoml-worker').store()
        process = partial(store_process, code)
        source = replace(
            flake_labels.source, engine='siesta', version='4.1.5', title='LDA-CA/DZP (SIESTA)', protocol='paper_50%'
        )
        source = replace(source, parameters=SIESTA, pseudopotentials={'C': 'c' * 32, 'H': '0' * 32})
        structures = generate_flake_set(orm.Dict(PARAMETERS))
        parts = {}
        for number, rows in enumerate((range(7), range(7, 12))):
            node = LabelSetData(replace(flake_labels.select(np.array(rows)), source=source))
            process('nanoml.label', {'structures': structures}, {'labels': node})
            parts[f'labels_{number}'] = node
        merged = merge_labels(**parts)
        dataset = split_dataset(assemble_dataset(structures, merged, orm.Dict(QUADRUPLETS)), orm.Dict({}))
        model, figures = ModelData(model_folder), orm.FolderData()
        figures.base.repository.put_object_from_bytes(b'a picture', 'learning_curve.png')
        workflow = orm.WorkChainNode().store()
        process('nanoml.train', {'dataset': dataset}, {'model': model, 'figures': figures}, caller=workflow)
        rows = dataset.dataset
        columns = {'hashes': rows.hashes, 'names': rows.names, 'families': rows.families, 'value': rows.y + 0.1}
        columns |= {name: np.zeros(len(rows)) for name in ('std', 'spread', 'distance')}
        columns['outside'] = np.zeros(len(rows), dtype=bool)
        card = {'target': 'gap', 'unit': 'eV', 'kind': 'ridge', 'fingerprint': model.card.fingerprint}
        prediction = PredictionData(columns, card | {'labels': source.to_dict()})
        prediction.label = 'gaps_&_more'
        process('nanoml.predict', {'dataset': dataset, 'model': model}, {'predictions': prediction})
        beside = LabelSetData(flake_labels)
        job = process('nanoml.label', {'structures': structures}, {'labels': beside}, caller=workflow)
        workflow.set_process_state('finished')
        workflow.seal()
        return prediction, {beside.uuid, job.uuid, workflow.uuid}

    return make


@pytest.fixture(scope='session')
def published(aiida_profile, make_prediction, tmp_path_factory) -> Published:
    """A published prediction."""
    prediction, foreign = make_prediction()
    folder = tmp_path_factory.mktemp('published') / 'gaps'
    graph = ProvenanceGraph.ancestors(starts(prediction))
    hashes = {record.uuid: orm.load_node(pk).base.caching.compute_hash() for pk, record in graph.nodes.items()}
    made = publish([prediction], folder, title='Gaps', authors=[AUTHOR], despite_audit=True)
    return Published(made, folder, trace(prediction).to_dict(), hashes, foreign)
