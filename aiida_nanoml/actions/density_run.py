"""From structures to evaluated predictions of their charge densities, in one workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aiida_nanoml.actions.base import Estimate, JobAction, Result, given
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
    makes: ClassVar[Mapping[str, str]] = {
        '': 'nanoml.density_model',
        '-unseen': 'nanoml.densities',
        '-larger': 'nanoml.densities',
    }
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

    def estimate(self) -> Estimate:
        """Return jobs and seconds of the labels, and the number of the other jobs."""
        from aiida_nanoml.actions.costs import estimate_labels
        from aiida_nanoml.workflows.protocols import protocol_inputs

        inputs = protocol_inputs('label', None, self.batches())
        n_places = inputs['max_concurrent'] * (self.processes or 1)
        sets = [node.structures for node in map(self.load, ('structures', 'unseen', 'larger')) if node is not None]
        protocol = self.engine_protocol or self.protocol
        found = [estimate_labels(one, self.engine, protocol, inputs['batch_size'], n_places) for one in sets]
        seconds = None if found[0].seconds is None else sum(one.seconds or 0.0 for one in found)
        jobs = sum(one.jobs for one in found) + len(sets)  # a training, and a prediction for each of the other sets
        return Estimate(jobs, seconds, None, f'the time is that of the labels: {found[0].basis}')

    def process_name(self) -> str:
        """Return the label of the workflow, which is not that of the model."""
        return f'{self.name} workflow' if self.name else ''

    def output_names(self) -> dict[str, str]:
        """Return the labels of model and predictions."""
        predicted = {f'judged.{part}.predictions': f'{self.name}-{part}' for part in ('unseen', 'larger') if self.name}
        return {'model': self.name} | predicted

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Return model, predictions and their errors."""
        model = process.outputs.model
        predictions: dict[str, Any] = {}
        metrics: dict[str, Any] = {}
        for part in ('unseen', 'larger'):
            if getattr(self, part) is not None:
                found = process.outputs.judged[part]
                predictions[part], metrics[part] = found.predictions, found.results['metrics']
        return DensityModelResult(model, process, predictions, metrics)
