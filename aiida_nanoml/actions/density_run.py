"""From structures to evaluated predictions of their charge densities, in one workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aiida_nanoml.actions.base import JobAction, Result, given
from aiida_nanoml.actions.common import BatchFields, EngineFields
from aiida_nanoml.actions.density_common import PROCESSES, DensityModelResult, NetworkFields
from aiida_nanoml.actions.fields import ENGINE, Structures, argument, option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode


class DensityRun(EngineFields, NetworkFields, BatchFields, JobAction):
    """Label STRUCTURES and those to evaluate on with their densities, train a network, and predict unseen ones."""

    action: ClassVar[str] = 'density_run'
    command: ClassVar[tuple[str, ...]] = ('density', 'run')
    example: ClassVar[str] = (
        'aiida-nanoml density run flakes --unseen others --larger large --engine-code siesta@cluster'
    )
    short: ClassVar[str | None] = 'From structures to evaluated predictions, in one workflow'

    structures: Structures = argument('Structures to learn from.')
    unseen: Structures | None = option(None, 'Structures that are predicted only.')
    larger: Structures | None = option(None, 'Larger ones that are predicted only.')
    engine: str = option('siesta', 'Registered name of the engine: siesta, pyscf.', group=ENGINE)
    protocol: Literal['fast', 'balanced', 'stringent'] = option(
        'balanced', 'Protocol of engine and network.', group=ENGINE
    )
    engine_protocol: str | None = option(
        None, 'Another protocol of the engine, such as paper.', group=ENGINE, shown='that of the same name'
    )
    mesh_spacing: float | None = option(
        None, 'Mesh spacing of the densities of pyscf.', unit='Å', gt=0, le=2, group=ENGINE, shown='0.18'
    )
    processes: int | None = PROCESSES

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the workflow."""
        from aiida_nanoml.workflows.density import DensityWorkChain

        labelling = self.batches() | given(engine_protocol=self.engine_protocol, mesh_spacing_ang=self.mesh_spacing)
        return DensityWorkChain.get_builder_from_protocol(
            self.worker(),
            structures=self.load('structures'),
            judged=given(unseen=self.load('unseen'), larger=self.load('larger')) or None,
            engine=self.engine,
            protocol=self.protocol,
            overrides={'label': labelling, 'settings': self.network_settings()},
            options=self.job_options(self.processes),
            engine_code=self.load('engine_code'),
            pseudo_family=self.pseudo_family,
        )

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Label workflow, model and predictions."""
        if self.name:
            process.label = f'{self.name} workflow'
        model = process.outputs.model
        model.label = self.name
        predictions: dict[str, Any] = {}
        metrics: dict[str, Any] = {}
        for part in ('unseen', 'larger'):
            if getattr(self, part) is not None:
                found = process.outputs.judged[part]
                found.predictions.label = f'{self.name}-{part}' if self.name else ''
                predictions[part], metrics[part] = found.predictions, found.results['metrics']
        return DensityModelResult(model, process, predictions, metrics)
