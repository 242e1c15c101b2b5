"""Label structures with an engine, in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aiida_nanoml.actions.base import Estimate, JobAction, Result, Step, given, part_names, record, step
from aiida_nanoml.actions.common import BatchFields, EngineFields, settings_option
from aiida_nanoml.actions.describe import counts, identity_line
from aiida_nanoml.actions.fields import ENGINE, JOB, Structures, argument, option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.orm import ProcessNode

    from aiida_nanoml.data.densities import DensitySetData
    from aiida_nanoml.data.labels import LabelSetData
    from aiida_nanoml.data.structures import StructureSetData


class Label(EngineFields, BatchFields, JobAction):
    """Compute labels of STRUCTURES with an engine, in batches: energies, gaps, forces and what else it computes.

    A structure that fails does not disturb the others. What is labelled stays: with caching on, the same command
    continues from there. With --engine siesta, --code names SIESTA; the worker on the same computer runs it in batches,
    and without a worker there, each structure has a run of its own.
    """

    action: ClassVar[str] = 'label'
    command: ClassVar[tuple[str, ...]] = ('label',)
    makes: ClassVar[Mapping[str, str]] = {'': 'nanoml.labels', '-densities': 'nanoml.densities'}
    example: ClassVar[str] = 'aiida-nanoml label flakes --engine xtb --protocol fast --name labels'
    follow: ClassVar[str] = 'campaign_status'
    labelled: ClassVar[bool] = True

    structures: Structures = argument('Structures to label.')
    parameters: dict[str, Any] = settings_option(
        'Parameter of the engine that replaces that of the protocol; repeatable.', group=ENGINE
    )
    densities: bool = option(False, 'Keep the density of each structure, too: engines siesta and pyscf.', group=ENGINE)
    mesh_spacing: float | None = option(
        None, 'Mesh spacing of the densities of pyscf.', unit='Å', gt=0, group=ENGINE, shown='0.18'
    )
    time_limit: float | None = option(None, 'Time that one structure may take.', unit='s', gt=0, group=JOB)
    mode: Literal['batch', 'single'] | None = option(None, 'Batches, or a run for each structure.', group=JOB)
    single_run: str | None = option(
        None, 'Workflow of runs for one structure, such as nanoml.quantumespresso.', group=JOB
    )
    processes: int | None = option(None, 'Structures that one job evaluates at the same time.', ge=1, group=JOB)
    program_processes: int | None = option(None, 'MPI processes of the program for one structure.', ge=1, group=JOB)

    def builder(self, session: Session) -> ProcessBuilder:
        """Return the labelling workflow."""
        from aiida_nanoml.engines.registry import get_engine
        from aiida_nanoml.workflows.label import LabelWorkChain

        structures, code, engine_code = (self.load(name) for name in ('structures', 'code', 'engine_code'))
        self.check_engine(self.parameters)
        if self.densities:
            get_engine(self.engine).require('density')
        overrides = self.batches() | given(
            time_limit_s=self.time_limit,
            program_processes=self.program_processes,
            mode=self.mode,
            single_run=self.single_run,
            densities=self.densities or None,
            mesh_spacing_ang=self.mesh_spacing,
        )
        return LabelWorkChain.get_builder_from_protocol(
            code if code is not None or engine_code is not None else self.worker(),
            structures,
            engine=self.engine,
            protocol=self.protocol,
            overrides=overrides | {'parameters': self.parameters},
            options=self.job_options(self.processes),
            engine_code=engine_code,
            pseudo_family=self.pseudo_family,
        )

    def output_names(self) -> dict[str, str]:
        """Return the labels of the labels, and of the densities if there are any."""
        return label_names(self.name)

    def collect(self, process: ProcessNode, session: Session) -> Result:
        """Return labels, and densities if there are any."""
        densities = process.outputs.densities if 'densities' in process.outputs else None
        return LabelResult(process, process.outputs.labels, process.inputs.structures, densities)

    def estimate(self) -> Estimate:
        """Return jobs and seconds, from what such labels took in this profile."""
        from aiida_nanoml.actions.costs import estimate_labels
        from aiida_nanoml.workflows.protocols import protocol_inputs

        inputs = protocol_inputs('label', None, self.batches())
        structures = self.load('structures').structures
        n_places = inputs['max_concurrent'] * (self.processes or 1)
        return estimate_labels(structures, self.engine, self.protocol, inputs['batch_size'], n_places)


NEWEST = 20
"""Sets of labels that are looked at for a next step."""


def label_names(name: str) -> dict[str, str]:
    """Return the label of each output of the labelling workflow."""
    return {'labels': name} | part_names(('densities',), name)


@dataclass(frozen=True)
class LabelResult(Result):
    """Labels of an engine.

    :param process: the workflow that made them.
    :param labels: one row for each distinct structure.
    :param structures: what was labelled.
    :param densities: densities of the structures, if they were asked for.
    """

    process: ProcessNode
    labels: LabelSetData
    structures: StructureSetData
    densities: DensitySetData | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return counts, failures, the range of the gaps or energies, and the time."""
        import numpy as np

        what, values, _ = self._values()
        return record(
            self.labels,
            process=self.process.uuid,
            labels=self.labels.label_source.to_dict(),
            **self._numbers(),
            **{f'{what}_min_ev': values.min().item(), f'{what}_mean_ev': values.mean().item()},
            **{f'{what}_max_ev': values.max().item()},
            **({} if self.densities is None else {'densities': self.densities.uuid}),
            wall_s=float(np.nansum(self.labels.labels.wall_s)),
        )

    def lines(self) -> dict[str, object]:
        """Return nodes, source, failures and range."""
        numbers = self._numbers()
        what, values, digits = self._values()
        low, mean, high = (f'{value:.{digits}f}' for value in (values.min(), values.mean(), values.max()))
        return {
            'labels': identity_line(self.labels),
            'source': self.labels.label_source,
            'finished': f'{numbers["n_finished"]} of {numbers["n_rows"]}, failures: {counts(numbers["failures"])}',
            **({} if self.densities is None else {'densities': identity_line(self.densities)}),
            what.replace('_', ' '): f'{low} to {high} eV, mean {mean} eV',
            **self._open_shell(),
        }

    def _open_shell(self) -> dict[str, object]:
        """Return how many rows have an odd number of electrons, if any: their gap is none of a closed shell."""
        n_open = self._numbers()['n_open_shell']
        if not n_open:
            return {}
        return {'open shell': f'{n_open}: an odd number of electrons; data sets of gaps leave such rows out'}

    def next_step(self) -> Step:
        """Build a data set: of what these labels could correct, where others of the structures are there."""
        costly = _labels_to_correct(self.labels, self.structures)
        if costly is not None:
            return step('build_dataset', structures=[self.structures], labels=[costly], baseline=[self.labels])
        return step('build_dataset', structures=[self.structures], labels=[self.labels])

    def _numbers(self) -> dict[str, Any]:
        attributes = self.labels.base.attributes
        return {key: attributes.get(key) for key in ('n_rows', 'n_finished', 'n_open_shell', 'failures')}

    def _values(self) -> tuple[str, Any, int]:
        """Return the gaps, or the energies for each atom where the engine computes no gap, in eV."""
        import numpy as np

        from aiida_nanoml.learning.dataset import positions_of

        labels, structures = self.labels.labels, self.structures.structures
        finished = labels.select(labels.finished)
        gaps = finished.energies['gap_ev']
        if not np.isnan(gaps).all():
            return 'gap', gaps, 3
        n_atoms = np.diff(structures.offsets)[positions_of(finished.hashes, structures.hashes)]
        return 'energy_per_atom', finished.energies['energy_ev'] / n_atoms, 4


def _labels_to_correct(cheap: LabelSetData, structures: StructureSetData) -> LabelSetData | None:
    """Return the newest labels of density-functional theory, with a name, of all structures with cheaper labels."""
    from aiida.orm import QueryBuilder

    from aiida_nanoml.data.labels import LabelSetData
    from aiida_nanoml.engines.base import DFT
    from aiida_nanoml.engines.registry import ENGINES

    def is_dft(engine: str) -> bool:
        return engine in ENGINES.names() and ENGINES.load(engine).theory == DFT

    if is_dft(cheap.label_source.engine):
        return None
    wanted = set(structures.structures.hashes.tolist())
    query = QueryBuilder().append(LabelSetData, filters={'label': {'!==': ''}}, tag='labels')
    for labels in query.order_by({'labels': {'id': 'desc'}}).limit(NEWEST).all(flat=True):
        if is_dft(labels.label_source.engine) and wanted <= set(labels.get_array('hashes').tolist()):
            found: LabelSetData = labels
            return found
    return None
