"""Descriptor of flakes by clusters: the neighbourhoods, up to some radius, of their heavy atoms."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SkipValidation

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.features.base import Descriptor
from aiida_nanoml.features.bonds import ELEMENTS, bonds_of, fractions, place
from aiida_nanoml.features.cluster_shapes import (
    LARGEST_RADIUS,
    Clusters,
    composition_text,
    embed,
    graph_clusters,
    lattice_clusters,
)
from aiida_nanoml.parameters import Count, Flag, Natural
from aiida_nanoml.structures.structure_set import StructureSet

Geometry = Literal['auto', 'lattice', 'graph']
"""How clusters are identified: on a honeycomb lattice, or by bonds alone; or as the structures need it."""

Radius = Annotated[int, Field(strict=True, ge=1, le=LARGEST_RADIUS)]

COMMON_SET: dict[str, Any] = {'radii': [1], 'per_radius': 25, 'common': True}
"""Parameters of the common set of 29 for transfer between families: 4 elements and 25 clusters of radius 1."""

_NAME = re.compile(r'k([1-9]):(g?)([0-9a-f]{16}):[HBCN]\|[HBCN0-9]*')


class ClusterDescriptor(Descriptor):
    """Descriptor that looks for clusters of atoms around the heavy atoms of a flake, at several radii.

    The cluster of radius k around a heavy atom holds all atoms, hydrogen included, within k bond lengths, and is
    identified up to the 12 point operations of the honeycomb lattice. ``fit`` learns which clusters there are; a column
    says if, or how often, a structure contains one of these. The fractions of H, B, C and N come first.

    A column is named ``k<radius>:<key>:<centre>|<others>``, for example ``k1:5f0c9a…:C|BC2``. The key of 16 hexadecimal
    digits identifies the cluster on every machine; it begins with one more letter, ``g``, if the cluster is identified
    by its bonds (``geometry='graph'``). One vocabulary has keys of one kind only.

    The default keeps 25 clusters at each of 8 radii: with the 4 fractions, 204 columns.

    :param radii: radii in bond lengths (1.42 Å), from 1 to 8.
    :param per_radius: how many clusters to draw at each radius, all if there are fewer; None keeps all.
    :param species: whether the fractions of the elements among all atoms come first.
    :param binary: 1 for a cluster that the structure contains and 0 for another; False for the number of atoms around
        which it is.
    :param common: keep only clusters that occur in every family of the training structures.
    :param seed: seed of the draws, an integer >= 0. A draw depends on the seed and on what clusters there are, not on
        the order of the structures.
    :param draw: ``'occurrence'`` draws a cluster in proportion to the number of heavy atoms around which it is in the
        training structures; ``'uniform'`` draws all alike, and so mostly those that occur once.
    :param geometry: ``'lattice'`` identifies clusters on the sites of a honeycomb
        (:func:`~aiida_nanoml.features.cluster_shapes.lattice_clusters`), ``'graph'`` by bonds
        (:func:`~aiida_nanoml.features.cluster_shapes.graph_clusters`). ``'auto'`` is ``'lattice'`` if all training
        structures are on a lattice, relaxed or not; else ``'graph'`` for all of them, with a warning if only some need
        it. A vocabulary decides for itself.
    :param sparse_output: return a SciPy sparse matrix, for vocabularies of many thousand clusters.
    :param vocabulary: names of the clusters to look for; then ``fit`` learns nothing.

    Attributes:
        ``known_``: the learnt vocabulary, set by :meth:`fit`; its names are those of the columns.

    >>> from aiida_nanoml.structures import StructureSet, flake_lattice
    >>> coronene = StructureSet.from_structures([flake_lattice('z', 2)])
    >>> descriptor = ClusterDescriptor(radii=[1], binary=False).fit(coronene)
    >>> descriptor.get_feature_names_out()[4:].tolist()  # after the fractions of the elements
    ['k1:f5d02646d3c11aef:C|HC2', 'k1:fbe38c8da5ac3c78:C|C3']
    >>> descriptor.transform(coronene)[0, 4:].tolist()
    [12.0, 12.0]
    """

    learns: ClassVar[bool] = True

    def __init__(
        self,
        radii: Annotated[Sequence[Radius], Field(min_length=1)] = (1, 2, 3, 4, 5, 6, 7, 8),
        per_radius: Count | None = 25,
        species: Flag = True,
        binary: Flag = True,
        common: Flag = False,
        seed: Natural = 0,
        draw: Literal['occurrence', 'uniform'] = 'occurrence',
        geometry: Geometry = 'auto',
        sparse_output: Flag = False,
        vocabulary: Annotated[Sequence[str] | None, SkipValidation] = None,
    ) -> None:
        self.radii = radii
        self.per_radius = per_radius
        self.species = species
        self.binary = binary
        self.common = common
        self.seed = seed
        self.draw = draw
        self.geometry = geometry
        self.sparse_output = sparse_output
        self.vocabulary = vocabulary

    def fit(self, structures: StructureSet, y: Any = None) -> ClusterDescriptor:
        """Learn the clusters of the training structures; with a given vocabulary, check the parameters only.

        :param structures: isolated flakes of H, B, C and N.
        :raises DescriptorError: if a parameter is out of range, there are no structures, fewer than two families with
            ``common``, or structures that the geometry cannot describe.
        """
        self._learn(structures)
        return self

    def fit_transform(self, structures: StructureSet, y: Any = None, **fit_params: Any) -> Any:
        """Learn the clusters of structures and describe these: :meth:`fit` and :meth:`transform` in one pass."""
        clusters = self._learn(structures)
        return (
            self.transform(structures)
            if clusters is None
            else self._count_clusters(structures, clusters, self._vocabulary())
        )

    def transform(self, structures: StructureSet) -> Any:
        """Describe structures.

        :returns: one row for each structure (n, ``len(get_feature_names_out())``), as an array or, with
            ``sparse_output``, as a SciPy CSR array. Clusters outside the vocabulary appear nowhere;
            :meth:`unknown_counts` counts them.
        :raises DescriptorError: before ``fit``, or if structures cannot be described.
        """
        known = self._vocabulary()
        return self._count_clusters(structures, _enumerate_clusters(structures, known.radii, known.geometry), known)

    def unknown_counts(self, structures: StructureSet) -> NDArray[np.int64]:
        """Count what the vocabulary does not have: pairs of a heavy atom and a radius, in each structure (n,).

        With ``per_radius=None`` these are clusters unseen in training. Where clusters were drawn, most are those that
        were seen and not drawn.

        :raises DescriptorError: as :meth:`transform`.
        """
        known = self._vocabulary()
        clusters = _enumerate_clusters(structures, known.radii, known.geometry)
        missing = np.zeros(len(structures), dtype=np.int64)
        for column, part in enumerate(known.parts):
            unseen = part.columns_of(clusters.keys[:, column]) < 0
            missing += np.bincount(clusters.rows[unseen], minlength=len(structures))
        return missing

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the name of each column: ``fraction_H`` and so on, then clusters by radius, the frequent ones first.

        :raises DescriptorError: before ``fit``.
        """
        known = self._vocabulary()
        fraction_names = [f'fraction_{element}' for element in ELEMENTS] if self.species else []
        return np.array([*fraction_names, *known.names()], dtype=object)

    def frozen(self) -> ClusterDescriptor:
        """Return a descriptor of the same columns whose parameters hold all that was learnt, in types of JSON.

        :raises DescriptorError: before ``fit``.
        """
        known = self._vocabulary()
        params = {**self.get_params(), 'radii': [int(radius) for radius in self.radii]}
        return ClusterDescriptor(**{**params, 'geometry': known.geometry, 'vocabulary': known.names()})

    def restricted(self, names: Iterable[str]) -> ClusterDescriptor:
        """Return a descriptor of some columns only; clusters of larger radii than these are then not enumerated.

        The fractions of the elements stay together: one among the names keeps all four.

        :param names: some of :meth:`get_feature_names_out`; the order of the columns remains.
        :raises DescriptorError: before ``fit``, or if there is no such column.
        """
        wanted = set(names)
        missing = sorted(wanted - set(self.get_feature_names_out()))
        if missing:
            raise DescriptorError(f'there is no column {missing[0]!r} among these clusters ({len(missing)} missing)')
        frozen = self.frozen()
        vocabulary = [name for name in frozen.vocabulary or () if name in wanted]
        has_fraction = any(name.startswith('fraction_') for name in wanted)
        frozen.set_params(vocabulary=vocabulary, species=has_fraction)
        return frozen

    def __sklearn_is_fitted__(self) -> bool:
        return self.vocabulary is not None or hasattr(self, 'known_')

    def _learn(self, structures: StructureSet) -> Clusters | None:
        """Learn from structures, and return their clusters; None if there was nothing to learn."""
        self._check_parameters()
        if self.vocabulary is not None:
            self._vocabulary()
            return None
        if not isinstance(structures, StructureSet) or len(structures) == 0:
            raise DescriptorError('clusters are learnt from a StructureSet with at least one structure')
        families = np.unique(structures.families)
        if self.common and (len(families) < 2 or '' in families):
            raise DescriptorError(
                'clusters common to all families need training structures of at least two families, each with its '
                f'family known; there are: {", ".join(repr(str(family)) for family in families)}'
            )
        radii = tuple(sorted(self.radii))
        clusters, geometry = _enumerate_as_needed(structures, radii, self.geometry)
        parts: list[_Part] = []
        compositions = [np.empty(0, dtype=np.uint64)]
        for column, radius in enumerate(radii):
            keys, first, amounts = np.unique(clusters.keys[:, column], return_index=True, return_counts=True)
            if self.common:
                family = structures.families[clusters.rows]
                shared = [np.isin(keys, clusters.keys[family == one, column]) for one in families]
                kept = np.flatnonzero(np.logical_and.reduce(shared))
                keys, first, amounts = keys[kept], first[kept], amounts[kept]
            chosen = self._draw(amounts, radius)
            ranking = np.argsort(-amounts[chosen], kind='stable')
            columns = np.empty(len(chosen), dtype=np.int64)
            columns[ranking] = np.arange(len(chosen)) + sum(map(len, compositions))
            if len(chosen):
                parts.append(_Part(radius, keys[chosen], columns))
                compositions.append(clusters.compositions[first[chosen[ranking]], column])
        if not parts:
            raise DescriptorError(f'no cluster of the radii {list(radii)} occurs in every family; take smaller radii')
        self.known_ = _Vocabulary(geometry, tuple(parts), np.concatenate(compositions))
        # Radii at which nothing is common have no part.
        columns_left = [radii.index(part.radius) for part in parts]
        return Clusters(clusters.rows, clusters.keys[:, columns_left], clusters.compositions[:, columns_left])

    def _draw(self, amounts: NDArray[np.int64], radius: int) -> NDArray[np.int64]:
        """Draw clusters (indices, ascending) by how many atoms have each."""
        if self.per_radius is None or len(amounts) <= self.per_radius:
            return np.arange(len(amounts))
        source = np.random.PCG64(np.random.SeedSequence([self.seed, radius]))
        weights = amounts.copy() if self.draw == 'occurrence' else np.ones_like(amounts)
        chosen = []
        for _ in range(self.per_radius):
            upto = np.cumsum(weights)
            pick = int(np.searchsorted(upto, int(source.random_raw()) % int(upto[-1]), side='right'))
            chosen.append(pick)
            weights[pick] = 0
        return np.sort(np.array(chosen))

    def _vocabulary(self) -> _Vocabulary:
        """Return what was learnt, or given as a vocabulary."""
        self._check_parameters()
        if self.vocabulary is not None:
            return _read_vocabulary(self.vocabulary, self.radii, self.geometry)
        if not hasattr(self, 'known_'):
            raise DescriptorError('the vocabulary of clusters is learnt in fit: fit the descriptor first')
        known: _Vocabulary = self.known_
        return known

    def _count_clusters(self, structures: StructureSet, clusters: Clusters, known: _Vocabulary) -> Any:
        """Count the known clusters of structures: one row for each (n, columns), dense or sparse."""
        from scipy.sparse import coo_array, csr_array, hstack

        n = len(structures)
        pairs = [np.empty((2, 0), dtype=np.int64)]
        for number, part in enumerate(known.parts):
            columns = part.columns_of(clusters.keys[:, number])
            pairs.append(np.stack([clusters.rows, columns])[:, columns >= 0])
        places = np.concatenate(pairs, axis=1)
        counted = csr_array(coo_array((np.ones(places.shape[1]), places), shape=(n, known.size)))
        counted.sum_duplicates()
        if self.binary:
            counted.data[:] = 1.0
        if not self.sparse_output:
            return np.hstack([fractions(structures), counted.toarray()]) if self.species else counted.toarray()
        return hstack([csr_array(fractions(structures)), counted], format='csr') if self.species else counted

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if len(set(self.radii)) < len(self.radii):
            raise DescriptorError(f'radii names a radius twice: {list(self.radii)!r}')


class _Part(NamedTuple):
    """The clusters of a vocabulary at one radius."""

    radius: int
    keys: NDArray[np.uint64]
    """Keys in ascending order."""
    columns: NDArray[np.int64]
    """Column of each among the clusters of all radii."""

    def columns_of(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the column of each key; -1 for a key outside the vocabulary."""
        nearest = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[nearest] == keys, self.columns[nearest], -1)


class _Vocabulary(NamedTuple):
    """Clusters to look for, by radius."""

    geometry: str
    parts: tuple[_Part, ...]
    compositions: NDArray[np.uint64] | None
    """Elements of the cluster of each column; None if names are given."""
    given: tuple[str, ...] = ()

    @property
    def radii(self) -> tuple[int, ...]:
        return tuple(part.radius for part in self.parts)

    @property
    def size(self) -> int:
        return sum(len(part.keys) for part in self.parts)

    def names(self) -> list[str]:
        """Return the names in the order of the columns; not kept, since a million of them takes seconds to make."""
        if self.compositions is None:
            return list(self.given)
        names = [''] * self.size
        mark = 'g' if self.geometry == 'graph' else ''
        compositions = self.compositions.tolist()
        for part in self.parts:
            for key, column in zip(part.keys.tolist(), part.columns.tolist(), strict=True):
                names[column] = f'k{part.radius}:{mark}{key:016x}:{composition_text(compositions[column])}'
        return names


def _read_vocabulary(names: Any, radii: Sequence[int], geometry: str) -> _Vocabulary:
    """Make a vocabulary of names, and check that they belong together."""
    if isinstance(names, str) or not isinstance(names, Sequence | np.ndarray):
        raise DescriptorError(f'vocabulary must be a list of names of clusters, not {type(names).__name__}')
    found: dict[int, tuple[list[int], list[int]]] = {}
    marks = set()
    for column, name in enumerate(names):
        match = _NAME.fullmatch(name) if isinstance(name, str) else None
        if match is None:
            raise DescriptorError(f'{name!r} in vocabulary is no name of a cluster, such as k1:0123456789abcdef:C|BC2')
        if int(match[1]) not in radii:
            raise DescriptorError(f'the cluster {name!r} in vocabulary has none of the radii {list(radii)!r}')
        marks.add(match[2])
        keys, columns = found.setdefault(int(match[1]), ([], []))
        keys.append(int(match[3], 16))
        columns.append(column)
    if len(marks) > 1:
        raise DescriptorError(
            'vocabulary mixes clusters identified on a lattice and by bonds (keys that begin with g), which cannot '
            'be compared; learn it again with geometry="graph"'
        )
    made_by = 'graph' if 'g' in marks else 'lattice'
    if marks and geometry not in ('auto', made_by):
        raise DescriptorError(f'vocabulary has clusters identified by geometry={made_by!r}, not {geometry!r}')
    parts = []
    for radius in sorted(found):
        values = np.array(found[radius][0], dtype=np.uint64)
        order = np.argsort(values)
        if (values[order][1:] == values[order][:-1]).any():
            raise DescriptorError(f'vocabulary names a cluster of radius {radius} twice')
        parts.append(_Part(radius, values[order], np.array(found[radius][1])[order]))
    return _Vocabulary(made_by, tuple(parts), None, tuple(names))


def _enumerate_clusters(structures: StructureSet, radii: tuple[int, ...], geometry: str) -> Clusters:
    """Enumerate clusters in one way; without radii, only check the structures."""
    if not radii:
        bonds_of(structures, 'clusters')
        return Clusters(np.empty(0, dtype=np.int64), *(np.empty((0, 0), dtype=np.uint64),) * 2)
    if geometry == 'graph':
        return graph_clusters(structures, radii)
    return lattice_clusters(structures, radii, embed(structures))


def _enumerate_as_needed(structures: StructureSet, radii: tuple[int, ...], geometry: str) -> tuple[Clusters, str]:
    """Enumerate the clusters of training structures; ``'auto'`` takes the lattice if all of them are on one."""
    if geometry == 'graph':
        return graph_clusters(structures, radii), 'graph'
    embedding = embed(structures)
    off = np.flatnonzero(embedding.fault >= 0)
    if geometry == 'lattice' or not len(off):
        return lattice_clusters(structures, radii, embedding), 'lattice'
    if len(off) < len(structures):
        row = int(off[0])
        warnings.warn(
            f'{len(off)} of {len(structures)} structures are not on a honeycomb lattice (first: '
            f'{place(structures, int(embedding.fault[row]))} {embedding.reason[row]}); all are described by their '
            'bonds instead; leave these out, or set geometry="graph"',
            stacklevel=4,
        )
    return graph_clusters(structures, radii), 'graph'
