"""Densities come out of a node one by one, as they went in; nodes are joined without reading them."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
from aiida import orm

from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.densities import Density
from aiida_nanoml.densities.density import write_density
from aiida_nanoml.engines.label_set import LabelSet, LabelSource
from aiida_nanoml.errors import DensityError
from aiida_nanoml.structures import Structure, StructureSet
from tests.conftest import gaussian_density

OTHER = LabelSource('pyscf', '2.6', 'LDA', 'fast')


def test_densities_come_back_equal(
    densities_node: DensitySetData, boxed_flakes: StructureSet, flakes: StructureSet
) -> None:
    node = orm.load_node(densities_node.uuid)
    given = [gaussian_density(flake) for flake in boxed_flakes]
    for density, stored in zip(given, node.iter_densities(), strict=True):
        np.testing.assert_array_equal(stored.free, density.free)
        np.testing.assert_array_equal(stored.difference, density.difference)
        np.testing.assert_array_equal(stored.structure.positions, density.structure.positions)
    np.testing.assert_array_equal(node.density(2).free, given[2].free)
    assert node.structures == boxed_flakes
    assert node.hashes.tolist() == flakes.hashes[:3].tolist(), 'a box changes nothing about a structure'
    with pytest.raises(IndexError, match='row 3 does not exist: there are 3'):
        node.density(3)


def test_a_source_without_pseudopotentials_names_none(densities_node: DensitySetData) -> None:
    bare = densities_node.clone()
    bare.base.attributes.delete('pseudopotentials')
    assert bare.label_source.pseudopotentials == {}


def test_attributes_summarise_the_meshes(
    densities_node: DensitySetData, boxed_flakes: StructureSet, flake_labels: LabelSet
) -> None:
    attributes = densities_node.base.attributes
    given = [gaussian_density(flake) for flake in boxed_flakes]
    assert densities_node.label_source == flake_labels.source
    assert attributes.get('kind') == 'computed'
    assert attributes.get('model_fingerprint') is None
    assert attributes.get('n_points') == 3 * 12**3
    assert attributes.get('names') == boxed_flakes.names.tolist()
    assert attributes.get('spacing_max_ang') == pytest.approx(max(density.spacing.max() for density in given))
    assert attributes.get('spacing_min_ang') == pytest.approx(min(density.spacing.min() for density in given))
    assert densities_node.shapes.tolist() == [[12, 12, 12]] * 3
    np.testing.assert_allclose(densities_node.electrons, [density.charge(density.total) for density in given])
    assert attributes.get('electrons') == pytest.approx(densities_node.electrons.sum())


def test_files_and_densities_make_the_same_node(
    tmp_path: Path, densities_node: DensitySetData, boxed_flakes: StructureSet, flake_labels: LabelSet
) -> None:
    """Equal content has equal bytes, so that caching finds it again."""
    files = [tmp_path / f'{row}.npz' for row in range(3)]
    for file, flake in zip(files, boxed_flakes, strict=True):
        write_density(file, gaussian_density(flake))
    node = DensitySetData(boxed_flakes, files, flake_labels.source).store()
    assert node.base.caching.get_hash() == densities_node.base.caching.get_hash()
    predicted = DensitySetData(boxed_flakes, files, flake_labels.source, model='abc').store()
    assert predicted.base.attributes.get('kind') == 'predicted'
    assert predicted.base.caching.get_hash() != node.base.caching.get_hash()


def test_only_one_density_is_held_at_a_time(boxed_flakes: StructureSet, flake_labels: LabelSet, aiida_profile) -> None:
    alive = []

    def stream():
        for flake in boxed_flakes:
            density = gaussian_density(flake)
            alive.append(weakref.ref(density.free))
            yield density
            del density
            assert sum(reference() is not None for reference in alive) <= 1

    assert DensitySetData(boxed_flakes, stream(), flake_labels.source).n_densities == 3


def test_joined_nodes_keep_the_first_of_equal_structures(
    densities_node: DensitySetData, boxed_flakes: StructureSet, flake_labels: LabelSet
) -> None:
    again = boxed_flakes.select([1])
    other = gaussian_density(again[0], points=14)
    node = DensitySetData.joined([DensitySetData(again, [other], flake_labels.source), densities_node]).store()
    assert node.structures == boxed_flakes.select([1, 0, 2])
    assert node.shapes.tolist() == [[14] * 3, [12] * 3, [12] * 3]
    assert [density.shape for density in node.iter_densities()] == [(14,) * 3, (12,) * 3, (12,) * 3]
    np.testing.assert_array_equal(node.density(2).free, densities_node.density(2).free)


@pytest.mark.parametrize(('source', 'model'), [(OTHER, None), (None, 'abc')])
def test_densities_of_different_origin_are_not_joined(
    densities_node: DensitySetData, boxed_flakes: StructureSet, source: LabelSource | None, model: str | None
) -> None:
    densities = map(gaussian_density, boxed_flakes)
    other = DensitySetData(boxed_flakes, densities, source or densities_node.label_source, model)
    with pytest.raises(DensityError, match='different origin'):
        DensitySetData.joined([densities_node, other])
    with pytest.raises(DensityError, match='no densities to join'):
        DensitySetData.joined([])


def test_densities_that_do_not_fit_their_structures_are_refused(
    boxed_flakes: StructureSet, flake_labels: LabelSet, tmp_path: Path
) -> None:
    source = flake_labels.source
    given = [gaussian_density(flake) for flake in boxed_flakes]
    for densities, message in (
        (given[:2], '2 densities do not belong to 3'),
        ([*given, given[0]], 'more densities than the 3'),
        (given[::-1], 'density 0 is in another box'),
        ([tmp_path / 'absent.npz'], 'no density that can be read'),
    ):
        with pytest.raises(DensityError, match=message):
            DensitySetData(boxed_flakes, densities, source)
    without_box = StructureSet.from_structures([Structure(flake.numbers, flake.positions) for flake in boxed_flakes])
    write_density(tmp_path / '0.npz', given[0])
    with pytest.raises(DensityError, match='no box'):
        DensitySetData(without_box, [tmp_path / '0.npz'] * 3, source)


def test_a_node_that_lost_a_file_is_not_stored(densities_node: DensitySetData) -> None:
    copy = densities_node.clone()
    copy.base.repository.delete_object('00001.npz')
    with pytest.raises(DensityError, match=r'00001\.npz'):
        copy.store()


def test_a_damaged_file_is_told(boxed_flakes: StructureSet, flake_labels: LabelSet) -> None:
    node = DensitySetData(boxed_flakes, map(gaussian_density, boxed_flakes), flake_labels.source)
    node.base.repository.delete_object('00000.npz')
    node.base.repository.put_object_from_bytes(b'nothing', '00000.npz')
    node.store()
    with pytest.raises(DensityError, match='no density that can be read'):
        node.density(0)
    assert isinstance(node.density(1), Density)
