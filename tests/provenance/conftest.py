"""Graphs of known shape."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_nanoml.calculations.functions.datasets import assemble_dataset, split_dataset
from aiida_nanoml.calculations.functions.labels import merge_labels
from aiida_nanoml.calculations.functions.structures import generate_flake_set
from aiida_nanoml.data.density_model import DensityModelData
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.densities.free_atoms import FreeAtoms
from aiida_nanoml.learning.density.model_files import save_density_model
from aiida_nanoml.learning.density.network import DensityNetwork
from tests.conftest import gaussian_density
from tests.snapshots import EMPTY

QUADRUPLETS = {'name': 'quadruplets', 'params': {'unknown': 'drop'}}
PARAMETERS = {'family': 'z', 'size': 2, 'count': 12, 'seed': 7}


GRAPHS = {'pair': ('pair', 'dataset', 'generated'), 'dataset': ('dataset', 'generated')}
"""Fixtures whose graph is kept, the largest first, and the fixtures whose nodes are in it."""


@pytest.fixture(autouse=True)
def empty_profile(request, snapshots) -> None:
    """Some questions are about the whole profile: nothing of an earlier test may be in it.

    The graph of a fixture of which many tests ask is made once, before the other fixtures of a test store anything.
    """
    graph = next((name for name in GRAPHS if name in request.fixturenames), EMPTY)
    if graph in snapshots:
        snapshots.restore(graph)
    else:
        snapshots.restore(EMPTY)
        snapshots.take(graph, **{name: request.getfixturevalue(name) for name in GRAPHS[graph]})


@pytest.fixture
def generated(aiida_profile, flakes, snapshots):
    """The flakes of the fixtures, with the process that generates them."""
    if kept := snapshots.nodes('generated'):
        return kept[0]
    node = generate_flake_set(orm.Dict(PARAMETERS))
    assert node.structures == flakes
    return node


@pytest.fixture
def record_job(code):
    """Store a finished labelling job without running it."""

    def record(structures, labels, **inputs):
        job = orm.CalcJobNode(computer=code.computer, process_type='aiida.calculations:nanoml.label')
        job.set_process_label('LabelCalculation')
        job.set_option('resources', {'num_machines': 1})
        job.base.links.add_incoming(structures, LinkType.INPUT_CALC, 'structures')
        for name, node in {'code': code, **inputs}.items():
            job.base.links.add_incoming(node, LinkType.INPUT_CALC, name)
        job.store()
        node = LabelSetData(labels)
        node.base.links.add_incoming(job, LinkType.CREATE, 'labels')
        node.store()
        job.set_process_state('finished')
        job.set_exit_status(0)
        job.seal()
        return node

    return record


@pytest.fixture
def record_process(code):
    """Store a finished job, or function, without running it."""
    return partial(store_process, code)


def store_process(code, name, inputs, outputs, function=None, caller=None):
    """Store a finished job of a code, or a function, without running it."""
    process_type = f'aiida.calculations:{name}'
    if function is None:
        process = orm.CalcJobNode(computer=code.computer, process_type=process_type)
        process.set_option('resources', {'num_machines': 1})
        inputs = {'code': code, **inputs}
    else:
        process = orm.CalcFunctionNode(process_type=process_type)
    process.set_process_label(function or f'{name.removeprefix("nanoml.").title().replace("_", "")}Calculation')
    for key, node in inputs.items():
        process.base.links.add_incoming(node, LinkType.INPUT_CALC, key)
    if caller is not None:
        process.base.links.add_incoming(caller, LinkType.CALL_CALC, f'call_{process.process_label}')
    process.store()
    for key, node in outputs.items():
        node.base.links.add_incoming(process, LinkType.CREATE, key)
        node.store()
    process.set_process_state('finished')
    process.set_exit_status(0)
    process.seal()
    return process


@pytest.fixture
def dataset(generated, record_job, flake_labels, snapshots):
    """A split data set of labels from two jobs."""
    if kept := snapshots.nodes('dataset'):
        return kept[0]
    parts = [record_job(generated, flake_labels.select(np.arange(12)[part])) for part in (slice(0, 7), slice(7, 12))]
    labels = merge_labels(**{f'labels_{number}': part for number, part in enumerate(parts)})
    rows = assemble_dataset(generated, labels, orm.Dict(QUADRUPLETS))
    return split_dataset(rows, orm.Dict({}))


@pytest.fixture
def density_model(aiida_profile, tmp_path, boxed_flakes, flake_labels):
    """A density network of some weights, as a training saves it."""
    network = DensityNetwork(copies=1, radius=1.0, dilations=(1,), smoothing=(0.0,), group='C4v')
    network.free_atoms_ = FreeAtoms.fit(map(gaussian_density, boxed_flakes))
    layers = network.architecture.layers
    network.weights_ = [np.zeros(layer.n_weights, dtype=np.float32) for layer in layers]
    network.biases_ = [np.zeros(layer.n_biases, dtype=np.float32) for layer in layers]
    network.scale_, network.history_ = 1.0, {'loss': [1.0]}
    card = {'labels': flake_labels.source.to_dict(), 'hashes': boxed_flakes.hashes.tolist(), 'source_spacing_ang': 0.5}
    save_density_model(network, tmp_path / 'network', card)
    return DensityModelData(tmp_path / 'network')
