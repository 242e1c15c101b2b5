"""Node of a trained density network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiida.orm import FolderData
from aiida.orm.nodes.caching import NodeCaching
from aiida.orm.pydantic import OrmMetadataField

from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.density.model_files import CARD_FILE, DensityModelCard, read_density_card

ATTRIBUTES = (
    'labels', 'hashes', 'source_spacing_ang', 'vacuum_ang', 'metrics', 'parameters', 'elements', 'electrons',
    'free_atoms_residual', 'n_free_weights', 'n_weights', 'fingerprint', 'versions',
)  # fmt: skip


class DensityModelCaching(NodeCaching):  # type: ignore[misc]
    """Two trainings that end in the same weights have the same hash, whatever versions their cards name."""

    def get_objects_to_hash(self) -> dict[str, Any]:
        """Return the fingerprint of settings and weights in place of the files."""
        objects: dict[str, Any] = super().get_objects_to_hash()
        del objects['repository_hash']
        kept = ('fingerprint', 'labels', 'hashes', 'source_spacing_ang', 'vacuum_ang')
        objects['attributes'] = {key: objects['attributes'].get(key) for key in kept}
        return objects


class DensityModelData(FolderData):  # type: ignore[misc]
    """A trained density network as the folder that :func:`~.model_files.save_density_model` writes.

    :param folder: that folder.
    :raises ModelError: the folder holds no readable card.
    """

    _CLS_NODE_CACHING = DensityModelCaching

    class AttributesModel(FolderData.AttributesModel):  # type: ignore[misc]
        labels: dict[str, Any] = OrmMetadataField(description='Engine, version and protocol of the densities')
        hashes: list[str] = OrmMetadataField(description='Content hash of each structure that was learnt from')
        source_spacing_ang: float = OrmMetadataField(description='Mean mesh spacing of the densities, in Å')
        vacuum_ang: float | None = OrmMetadataField(
            None, description='Distance between the images of isolated structures, in Å'
        )
        metrics: dict[str, Any] = OrmMetadataField(
            description='Mean errors by part: nmae, nmae_free, ratio, charge defect, n'
        )
        parameters: dict[str, Any] = OrmMetadataField(description='Settings of the network')
        elements: list[str] = OrmMetadataField(description='Chemical symbols that were learnt')
        electrons: dict[str, float] = OrmMetadataField(description='Integral of each free atom')
        free_atoms_residual: float = OrmMetadataField(description='Share of the charge that spherical atoms leave out')
        n_free_weights: int = OrmMetadataField(description='Free weights and biases')
        n_weights: int = OrmMetadataField(description='Weights and biases of an unconstrained network of this size')
        fingerprint: str = OrmMetadataField(description='sha256 over settings, weights and free atoms')
        versions: dict[str, str] = OrmMetadataField(description='Versions of the libraries that trained it')

    def __init__(self, folder: Path | str | None = None, **kwargs: Any) -> None:
        if folder is None:
            super().__init__(**kwargs)
            return
        card = read_density_card(folder).model_dump()
        super().__init__(tree=Path(folder).absolute(), **kwargs)
        self.base.attributes.set_many({name: card[name] for name in ATTRIBUTES})

    @property
    def card(self) -> DensityModelCard:
        """What the network is, what it was trained on and how good it is."""
        return DensityModelCard.model_validate_json(self.base.repository.get_object_content(CARD_FILE))

    @property
    def label_source(self) -> LabelSource:
        """Engine, version, protocol and parameters of the densities that were learnt from."""
        return LabelSource.from_dict(self.base.attributes.get('labels'))

    @property
    def fingerprint(self) -> str:
        """sha256 over settings, weights and free atoms."""
        found: str = self.base.attributes.get('fingerprint')
        return found

    def _validate(self) -> bool:
        super()._validate()
        if CARD_FILE not in self.base.repository.list_object_names():
            raise ModelError(f'the node of a density model needs {CARD_FILE}; make it from a folder of a training')
        return True
