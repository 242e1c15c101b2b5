"""Node of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiida.orm import FolderData
from aiida.orm.nodes.caching import NodeCaching
from aiida.orm.pydantic import OrmMetadataField

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.model_card import CARD_FILE, ModelCard, read_card

ATTRIBUTES = (
    'kind', 'target', 'unit', 'others', 'descriptor', 'labels', 'baseline', 'feature_names', 'n_features', 'metrics',
    'allow_leakage', 'calibration', 'domain_limit', 'parameters', 'fingerprint', 'versions',
)  # fmt: skip


class ModelCaching(NodeCaching):  # type: ignore[misc]
    """Keras archives carry a date: two trainings that end in the same weights must have the same hash."""

    def get_objects_to_hash(self) -> dict[str, Any]:
        """Return the fingerprint of hyperparameters and weights in place of the files."""
        objects: dict[str, Any] = super().get_objects_to_hash()
        del objects['repository_hash']
        objects['attributes'] = {
            key: objects['attributes'].get(key)
            for key in (
                'fingerprint',
                'descriptor',
                'labels',
                'baseline',
                'target',
                'unit',
                'others',
                'calibration',
                'domain_limit',
            )
        }
        return objects


class ModelData(FolderData):  # type: ignore[misc]
    """A trained model as the folder that :func:`aiida_nanoml.learning.model_files.save_model` writes.

    :param folder: that folder.
    :raises ModelError: the folder holds no readable model card.
    """

    _CLS_NODE_CACHING = ModelCaching

    class AttributesModel(FolderData.AttributesModel):  # type: ignore[misc]
        kind: str = OrmMetadataField(description='Kind of model')
        target: str = OrmMetadataField(description='What is predicted')
        unit: str = OrmMetadataField(description='Unit of the prediction')
        others: dict[str, str] | None = OrmMetadataField(
            None, description='Targets that are predicted beside it, and their units'
        )
        descriptor: dict[str, Any] | None = OrmMetadataField(None, description='Identity of the descriptor')
        labels: dict[str, Any] | None = OrmMetadataField(None, description='Engine, version and protocol of the labels')
        baseline: dict[str, Any] | None = OrmMetadataField(
            None, description='Engine, version and protocol of the baseline that is corrected'
        )
        feature_names: list[str] | None = OrmMetadataField(None, description='Names of the features, in order')
        n_features: int = OrmMetadataField(description='Number of features')
        allow_leakage: bool | None = OrmMetadataField(
            None, description='Whether structures in two parts of the split were accepted'
        )
        metrics: dict[str, Any] = OrmMetadataField(
            description='r2, mae, rmse (in the unit), n, coverage of the intervals and rows outside, by part and family'
        )
        calibration: dict[str, Any] | None = OrmMetadataField(
            None, description='What makes a standard deviation of the spread'
        )
        domain_limit: float | None = OrmMetadataField(None, description='Distance beyond which a row is outside')
        parameters: dict[str, Any] = OrmMetadataField(description='Hyperparameters')
        fingerprint: str = OrmMetadataField(description='sha256 over hyperparameters and weights')
        versions: dict[str, str] = OrmMetadataField(description='Versions of the libraries that trained it')

    def __init__(self, folder: Path | str | None = None, **kwargs: Any) -> None:
        if folder is None:
            super().__init__(**kwargs)
            return
        card = read_card(Path(folder)).model_dump()
        super().__init__(tree=Path(folder).absolute(), **kwargs)
        self.base.attributes.set_many({name: card[name] for name in ATTRIBUTES})

    @property
    def card(self) -> ModelCard:
        """What the model is, what it was trained on and how good it is."""
        return ModelCard.model_validate_json(self.base.repository.get_object_content(CARD_FILE))

    def _validate(self) -> bool:
        super()._validate()
        if CARD_FILE not in self.base.repository.list_object_names():
            raise ModelError(f'a model node needs {CARD_FILE}; make it from a folder written by a training')
        return True
