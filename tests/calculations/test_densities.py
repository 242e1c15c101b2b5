"""Calculation functions of densities: joining them, and taking them out of the folders of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm

from aiida_nanoml.calculations.functions.base import INPUT_REFUSED
from aiida_nanoml.calculations.functions.densities import (
    divide_densities,
    import_siesta_densities,
    merge_densities,
)
from aiida_nanoml.calculations.functions.siesta import manifest
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.engines.siesta.folder import open_run_folder
from aiida_nanoml.structures import StructureSet
from tests.conftest import gaussian_density
from tests.stand_in.fixtures import recorded_runs

RUN = recorded_runs()['methanimine']


@pytest.fixture
def inputs(tmp_path: Path, code: orm.InstalledCode) -> dict[str, Any]:
    """A finished run that saved its density, as the input of its import."""
    folder = open_run_folder(RUN.unpack(tmp_path), tmp_path)
    run = {'folder': RUN.name, 'name': 'methanimine', 'family': 'imines'}
    run['files'] = folder.files() | folder.density_files()
    return {
        'remote_folder': orm.RemoteData(remote_path=str(tmp_path), computer=code.computer).store(),
        'runs': manifest([run], None).store(),
    }


def test_merged_densities_come_from_both_nodes(densities_node: DensitySetData, boxed_flakes: StructureSet) -> None:
    first = DensitySetData(
        boxed_flakes.select([2]), [gaussian_density(boxed_flakes[2])], densities_node.label_source
    ).store()
    merged, node = merge_densities.run_get_node(densities_000=first, densities_001=densities_node)
    assert node.is_finished_ok
    assert merged.structures == boxed_flakes.select([2, 0, 1])
    other = DensitySetData(
        boxed_flakes, map(gaussian_density, boxed_flakes), densities_node.label_source, model='abc'
    ).store()
    _, node = merge_densities.run_get_node(densities_000=densities_node, densities_001=other)
    assert node.exit_status == INPUT_REFUSED
    assert 'different origin' in node.exit_message


def test_densities_are_divided_by_chance_and_a_seed(boxed_flakes: StructureSet, densities_node: DensitySetData) -> None:
    parts, node = divide_densities.run_get_node(densities=densities_node, n_test=orm.Int(1), seed=orm.Int(3))
    assert node.is_finished_ok, node.exit_message
    train, test = parts['train'], parts['test']
    assert (train.n_densities, test.n_densities) == (densities_node.n_densities - 1, 1)
    assert {*train.hashes, *test.hashes} == set(densities_node.hashes)
    row = densities_node.hashes.tolist().index(test.hashes[0])
    np.testing.assert_array_equal(test.density(0).difference, densities_node.density(row).difference)
    assert test.electrons == pytest.approx(densities_node.electrons[[row]])
    again, _ = divide_densities.run_get_node(densities=densities_node, n_test=orm.Int(1), seed=orm.Int(3))
    assert again['test'].base.caching.get_hash() == test.base.caching.get_hash()
    for wanted in (0, densities_node.n_densities):
        _, node = divide_densities.run_get_node(densities=densities_node, n_test=orm.Int(wanted), seed=orm.Int(3))
        assert node.exit_status == INPUT_REFUSED


def test_the_density_of_a_finished_run_is_imported(inputs: dict[str, Any]) -> None:
    densities, node = import_siesta_densities.run_get_node(**inputs)
    assert node.is_finished_ok, node.exit_message
    assert densities.base.attributes.get('engine') == 'siesta'
    assert densities.base.attributes.get('names') == ['methanimine']
    assert densities.shapes.tolist() == [RUN.about['mesh']]
    assert densities.electrons == pytest.approx([RUN.about['electrons']], rel=1e-3)
    np.testing.assert_allclose(densities.density(0).structure.cell, RUN.structure.cell)


@pytest.mark.parametrize('name', ['aiida.out', 'aiida.RHO'])
def test_a_folder_that_changed_is_refused(inputs: dict[str, Any], tmp_path: Path, name: str) -> None:
    with (tmp_path / RUN.name / name).open('ab') as handle:
        handle.write(b'more')
    _, node = import_siesta_densities.run_get_node(**inputs)
    assert node.exit_status == INPUT_REFUSED
    assert 'methanimine is not what it was' in node.exit_message
