"""What a picture of a lineage shows."""

from __future__ import annotations

import re

import matplotlib.image
import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_nanoml.data.model import ModelData
from aiida_nanoml.errors import DatasetError, ProvenanceError
from aiida_nanoml.provenance.picture import draw_lineage


@pytest.fixture
def model(dataset, record_process, model_folder):
    made = ModelData(model_folder, label='gap-model')
    record_process('nanoml.train', {'dataset': dataset, 'kind': orm.Str('ridge').store()}, {'model': made})
    return made


def words(path):
    """What is written, line by line."""
    return re.findall(r'<text[^>]*>(.*?)</text>', path.read_text(encoding='utf-8'))


def test_nodes_of_one_part_are_one_box(model, tmp_path, flake_labels):
    path = tmp_path / 'lineage.svg'
    n_boxes = draw_lineage(model, path)
    text = words(path)
    source = flake_labels.source
    for told in (
        'generate flake set',
        'set of structures',
        '2 × labelling job',
        f'{source.title} {source.version}',
        'protocol fast',
        '2 × labels',
        'merge labels',
        'assemble dataset',
        'split dataset',
        'training',
        'kind ridge',
        'model',
    ):
        assert told in text, told
    # generator and flakes, jobs and labels, join and labels, rows and data set twice, training and model
    assert n_boxes == 12
    assert 'core.dict' not in ' '.join(text)
    caption = ' '.join(text)
    assert 'What the model gap-model rests on' in caption
    assert '12 structures were labelled in 2 jobs. This model has no provenance to DFT' in caption
    assert 'is tight binding' in caption


def test_the_same_graph_gives_the_same_file_on_one_page(model, tmp_path):
    for name in ('a.svg', 'b.svg', 'a.pdf', 'b.pdf', 'a.png'):
        draw_lineage(model, tmp_path / name)
    for ending in ('svg', 'pdf'):
        assert (tmp_path / f'a.{ending}').read_bytes() == (tmp_path / f'b.{ending}').read_bytes()
    height, width, _ = matplotlib.image.imread(tmp_path / 'a.png').shape
    assert width == 7 * 300
    assert height < 10 * 300


def test_results_from_the_cache_are_counted(dataset, tmp_path):
    labels = dataset.creator.inputs.dataset.creator.inputs.labels.creator.inputs.labels_0
    labels.creator.base.extras.set('_aiida_cached_from', dataset.uuid)
    draw_lineage(dataset, tmp_path / 'lineage.svg')
    assert '1 of them from the cache' in words(tmp_path / 'lineage.svg')


def test_a_workflow_is_drawn_by_what_it_returned(model, tmp_path):
    workflow = orm.WorkChainNode()
    workflow.set_process_label('GapWorkChain')
    workflow.store()
    model.base.links.add_incoming(workflow, LinkType.RETURN, 'model')
    assert draw_lineage(workflow, tmp_path / 'workflow.svg') == draw_lineage(model, tmp_path / 'model.svg')
    assert 'GapWorkChain' in ' '.join(words(tmp_path / 'workflow.svg'))


def test_a_node_alone_is_a_box(aiida_profile, tmp_path):
    assert draw_lineage(orm.Int(1).store(), tmp_path / 'number.svg') == 1


def test_what_cannot_be_drawn(aiida_profile, tmp_path):
    with pytest.raises(DatasetError, match='nothing'):
        draw_lineage(orm.Int(1).store(), tmp_path / 'lineage.nothing')
    with pytest.raises(ProvenanceError, match='not stored'):
        draw_lineage(orm.Int(1), tmp_path / 'lineage.svg')
