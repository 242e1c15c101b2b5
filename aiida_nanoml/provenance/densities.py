"""What the graph knows about densities: those that a prediction is compared with, and errors of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiida_nanoml.errors import DensityError

if TYPE_CHECKING:
    from aiida.orm import ArrayData

    from aiida_nanoml.data.densities import DensitySetData
    from aiida_nanoml.data.density_model import DensityModelData
    from aiida_nanoml.densities import Density


def known_density(
    densities: DensitySetData, row: int, against: DensitySetData | None = None
) -> tuple[Density, DensitySetData] | None:
    """Return the known density of the structure of a row, and the node that has it.

    :param densities: as a rule predicted ones.
    :param row: counted from 0.
    :param against: where to look; None: the densities that were predicted.
    :returns: None if nothing was named and the densities are not a prediction of known ones.
    :raises DensityError: ``against`` is predicted itself, or has no density of this structure.
    """
    if against is None:
        creator = densities.creator
        if densities.model_fingerprint is None or creator is None or 'known' not in creator.inputs:
            return None
        against = creator.inputs.known
    if against.model_fingerprint is not None:
        raise DensityError(f'pk {against.pk} is predicted: --against takes densities of an engine')
    places = (against.hashes == densities.hashes[row]).nonzero()[0]
    if not len(places):
        structures = densities.structures
        name = str(structures.names[row]) or structures.formulas[row]
        raise DensityError(f'pk {against.pk} has no density of {name}')
    return against.density(int(places[0])), against


def training_errors(model: DensityModelData) -> ArrayData:
    """Return the errors of the densities that a training evaluated its model on.

    :raises DensityError: the training is not in the graph.
    """
    training = model.creator
    if training is None or 'errors' not in training.outputs:
        raise DensityError(f'no training of the model pk {model.pk} is here: its errors are not known')
    return training.outputs.errors
