"""Train a network on charge densities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from aiida_nanoml.actions.base import Estimate, JobAction, Result
from aiida_nanoml.actions.density_common import PROCESSES, DensityModelResult, NetworkFields
from aiida_nanoml.actions.fields import LEARNING, Densities, argument, option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode


class DensityTrain(NetworkFields, JobAction):
    """Train a network on DENSITIES, which an engine computed.

    It learns the difference of the self-consistent density to that of free atoms. The error is the NMAE, the integral
    of the absolute error over the number of electrons, beside that of the free atoms.
    """

    action: ClassVar[str] = 'density_train'
    command: ClassVar[tuple[str, ...]] = ('density', 'train')
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.density_model'}
    example: ClassVar[str] = (
        'aiida-nanoml density train labels-densities --test unseen-densities --set epochs=20 --name dense'
    )

    densities: Densities = argument('Densities to learn from.')
    test: Densities | None = option(None, 'Densities of other structures to evaluate on.', group=LEARNING)
    processes: int | None = PROCESSES

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the training."""
        from aiida.orm import Dict

        from aiida_nanoml.calculations.density_train import DensityTrainCalculation

        builder = DensityTrainCalculation.get_builder()
        builder.code = self.worker()
        builder.densities = self.load('densities')
        if self.test is not None:
            builder.test = self.load('test')
        settings = self.network_settings()
        if settings:
            builder.settings = Dict(settings)
        builder.metadata.options = self.job_options(self.processes)
        return builder

    def output_names(self) -> dict[str, str]:
        """Return the label of the model."""
        return {'model': self.name}

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Return the model."""
        return DensityModelResult(process.outputs.model, process)

    def estimate(self) -> Estimate:
        """Return the memory, from settings and meshes."""
        from aiida_nanoml.learning.density.architecture import DensitySettings
        from aiida_nanoml.learning.density.memory import training_memory_mb

        nodes = [node for node in (self.load('densities'), self.load('test')) if node is not None]
        settings = DensitySettings.from_dict(self.network_settings())
        cells = [cell for node in nodes for cell in node.structures.cells]
        shapes = [shape for node in nodes for shape in node.shapes.tolist()]
        basis = 'memory from the meshes and the points of a draw; no seconds: they depend on the computer'
        return Estimate(1, None, training_memory_mb(settings, cells, shapes), basis)
