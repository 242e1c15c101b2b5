"""Node of the valence densities of many structures, one file a structure."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiida.orm import FolderData
from aiida.orm.pydantic import OrmMetadataField
from numpy.typing import NDArray

from aiida_nanoml.data.source import LabelSourceMixin, source_attributes
from aiida_nanoml.densities.density import Density, mesh_spacing, read_density, write_density
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import DensityError
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.schemas import STRUCTURES_FILE, density_file

MESHES_FILE = 'meshes.npz'
"""What is asked of all densities at once: points along each lattice vector, and electrons."""

COMPUTED, PREDICTED = 'computed', 'predicted'

SHOWN = 10
"""Number of names in the attributes."""

UNITS = {'free': 'electrons/Å³', 'difference': 'electrons/Å³', 'spacing': 'Å', 'electrons': 'e'}


class DensitySetData(LabelSourceMixin, FolderData):  # type: ignore[misc]
    """N densities of N structures in their boxes; each is read alone, so that never all are in memory.

    :param structures: the structures, each in the box of its density; positions in Å.
    :param densities: the density of each structure, in this order, or the file that
        :func:`~aiida_nanoml.densities.density.write_density` wrote of it; taken one by one.
    :param source: engine, version, protocol, parameters and pseudopotentials; of predicted densities those that the
        model learnt from.
    :param model: fingerprint of the model that predicted them; None: the engine computed them.
    :raises DensityError: there are none, their number is not that of the structures, a structure has no box or another
        one than its density, or a file cannot be read.
    """

    class AttributesModel(FolderData.AttributesModel):  # type: ignore[misc]
        n_densities: int = OrmMetadataField(description='Number of densities')
        kind: str = OrmMetadataField(description='computed or predicted')
        elements: list[str] = OrmMetadataField(description='Chemical symbols that occur, sorted')
        names: list[str] = OrmMetadataField(description='Names of the first ten structures')
        engine: str = OrmMetadataField(description='Registered name of the engine')
        engine_version: str = OrmMetadataField(description='Version of the engine')
        engine_title: str = OrmMetadataField(description='Name of the engine in plots and tables')
        protocol: str = OrmMetadataField(description='Name of the protocol')
        parameters: dict[str, Any] = OrmMetadataField(description='Every parameter of the engine')
        pseudopotentials: dict[str, str] = OrmMetadataField(
            description='MD5 of the pseudopotential file of each element'
        )
        model_fingerprint: str | None = OrmMetadataField(
            None, description='sha256 over the model that predicted them; None of computed ones'
        )
        n_points: int = OrmMetadataField(description='Mesh points of all densities together')
        largest_mesh: list[int] = OrmMetadataField(description='Points along each vector of the mesh with most points')
        spacing_min_ang: float = OrmMetadataField(description='Smallest distance of neighbouring points, in Å')
        spacing_max_ang: float = OrmMetadataField(description='Largest distance of neighbouring points, in Å')
        electrons: float = OrmMetadataField(description='Integral of all densities together')
        units: dict[str, str] = OrmMetadataField(description='Unit of each quantity')

    def __init__(
        self,
        structures: StructureSet | None = None,
        densities: Iterable[Density | Path] = (),
        source: LabelSource | None = None,
        model: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if structures is None or source is None:
            return
        shapes, electrons = [], []
        boxes = iter(structures)
        for row, given in enumerate(densities):
            box = next(boxes, None)
            if box is None:
                raise DensityError(f'there are more densities than the {len(structures)} structures')
            density = read_density(given, box) if isinstance(given, Path) else given
            if not np.array_equal(density.structure.cell, box.cell):
                raise DensityError(f'density {row} is in another box than its structure')
            shapes.append(density.shape)
            electrons.append(density.charge(density.total))
            if isinstance(given, Path):
                self.base.repository.put_object_from_file(str(given.absolute()), density_file(row))
            else:
                buffer = io.BytesIO()
                write_density(buffer, density)
                buffer.seek(0)
                self.base.repository.put_object_from_filelike(buffer, density_file(row))
        self._describe(structures, np.array(shapes, dtype=np.int64), np.array(electrons), source, model)

    def _describe(
        self,
        structures: StructureSet,
        shapes: NDArray[np.int64],
        electrons: NDArray[np.float64],
        source: LabelSource,
        model: str | None,
    ) -> None:
        """Write everything but the densities themselves."""
        if not len(structures) or len(shapes) != len(structures):
            raise DensityError(f'{len(shapes)} densities do not belong to {len(structures)} structures')
        for name, arrays in (
            (STRUCTURES_FILE, structures.to_arrays()),
            (MESHES_FILE, {'shapes': shapes, 'electrons': electrons}),
        ):
            self._put_arrays(name, arrays)
        points = shapes.prod(axis=1)
        spacings = [mesh_spacing(cell, tuple(shape)) for cell, shape in zip(structures.cells, shapes, strict=True)]
        self.base.attributes.set_many(
            {
                'n_densities': len(structures),
                'kind': COMPUTED if model is None else PREDICTED,
                'elements': list(structures.elements),
                'names': structures.names[:SHOWN].tolist(),
                **source_attributes(source),
                'model_fingerprint': model,
                'n_points': int(points.sum()),
                'largest_mesh': shapes[points.argmax()].tolist(),
                'spacing_min_ang': float(np.min(spacings)),
                'spacing_max_ang': float(np.max(spacings)),
                'electrons': float(electrons.sum()),
                'units': dict(UNITS),
            }
        )

    @classmethod
    def joined(cls, nodes: Sequence[DensitySetData]) -> DensitySetData:
        """Join densities of one origin, without reading them; of equal structures the first density counts.

        :raises DensityError: there is nothing to join, or engines, parameters or models differ.
        """
        if not nodes:
            raise DensityError('there are no densities to join')
        source, model = nodes[0].label_source, nodes[0].model_fingerprint
        for number, node in enumerate(nodes[1:], start=1):
            if node.model_fingerprint != model or not source.compatible(node.label_source):
                raise DensityError(
                    f'densities of different origin cannot be in one node: those of node 0 are from {source} and '
                    f'model {model}, those of node {number} from {node.label_source} and model {node.model_fingerprint}'
                )
            source = source.joined(node.label_source)
        every = StructureSet.concatenate([node.structures for node in nodes])
        kept = np.sort(np.unique(every.hashes, return_index=True)[1])
        origins = [(node, row) for node in nodes for row in range(node.n_densities)]
        shapes, electrons = (
            np.concatenate(columns)[kept] for columns in zip(*(n._meshes() for n in nodes), strict=True)
        )
        made = cls()
        made._copy([origins[row] for row in kept.tolist()])
        made._describe(every.select(kept), shapes, electrons, source, model)
        return made

    def select(self, rows: Sequence[int]) -> DensitySetData:
        """Return some of the densities, without reading them.

        :param rows: counted from 0.
        :returns: an unstored node.
        :raises DensityError: there are no rows, or one that there is not.
        """
        if not rows or not set(rows) <= set(range(self.n_densities)):
            raise DensityError(f'rows {list(rows)} cannot be taken from {self.n_densities} densities, counted from 0')
        chosen = list(rows)
        shapes, electrons = self._meshes()
        made = type(self)()
        made._copy([(self, row) for row in chosen])
        made._describe(
            self.structures.select(chosen), shapes[chosen], electrons[chosen], self.label_source, self.model_fingerprint
        )
        return made

    def _copy(self, origins: Sequence[tuple[DensitySetData, int]]) -> None:
        """Copy the files of densities, in this order."""
        for position, (node, row) in enumerate(origins):
            with node.base.repository.open(density_file(row), 'rb') as handle:
                self.base.repository.put_object_from_filelike(handle, density_file(position))

    @property
    def structures(self) -> StructureSet:
        """The structures in the boxes of their densities.

        :raises StructureError: the stored arrays are damaged.
        """
        return StructureSet.from_arrays(self._get_arrays(STRUCTURES_FILE))

    @property
    def hashes(self) -> NDArray[np.str_]:
        """Content hash of each structure (N,); the box of an isolated one does not enter."""
        return self.structures.hashes

    @property
    def shapes(self) -> NDArray[np.int64]:
        """Points along each lattice vector, (N, 3)."""
        return self._meshes()[0]

    @property
    def electrons(self) -> NDArray[np.float64]:
        """Integral of each self-consistent density, (N,)."""
        return self._meshes()[1]

    @property
    def n_densities(self) -> int:
        """Number of densities."""
        return int(self.base.attributes.get('n_densities'))

    @property
    def model_fingerprint(self) -> str | None:
        """Fingerprint of the model that predicted them; None of computed ones."""
        found: str | None = self.base.attributes.get('model_fingerprint')
        return found

    def density(self, row: int) -> Density:
        """Read one density.

        :param row: counted from 0.
        :raises IndexError: there is no such row.
        :raises DensityError: the stored file is damaged.
        """
        if not 0 <= row < self.n_densities:
            raise IndexError(f'row {row} does not exist: there are {self.n_densities} densities')
        return self._read(row, self.structures)

    def iter_densities(self) -> Iterator[Density]:
        """Read one density after the other, in the order of the structures.

        :raises DensityError: a stored file is damaged.
        """
        structures = self.structures
        return (self._read(row, structures) for row in range(len(structures)))

    def _read(self, row: int, structures: StructureSet) -> Density:
        with self.base.repository.open(density_file(row), 'rb') as handle:
            return read_density(handle, structures[row])

    def _meshes(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        arrays = self._get_arrays(MESHES_FILE)
        return arrays['shapes'], arrays['electrons']

    def _put_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        buffer.seek(0)
        self.base.repository.put_object_from_filelike(buffer, name)

    def _get_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        content = self.base.repository.get_object_content(name, mode='rb')
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    def _validate(self) -> bool:
        super()._validate()
        if 'n_densities' not in self.base.attributes.all:
            raise DensityError('a node of densities is made from structures and their densities; this one is empty')
        wanted = {STRUCTURES_FILE, MESHES_FILE, *map(density_file, range(self.n_densities))}
        found = set(self.base.repository.list_object_names())
        if found != wanted:
            raise DensityError(f'a node of densities has other files than it should: {sorted(found ^ wanted)[:3]}')
        if not len(self.structures) == len(self.shapes) == len(self.electrons) == self.n_densities:
            raise DensityError(f'{self.n_densities} densities do not belong to {len(self.structures)} structures')
        return True
