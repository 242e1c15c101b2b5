"""Workflow ``nanoml.label``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ProcessBuilder, ToContext, WorkChain, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import validate_resources
from aiida_nanoml.calculations.functions.labels import merge_labels
from aiida_nanoml.calculations.label import LabelCalculation, validate_inputs
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.worker.label import INTERRUPTED, TIMED_OUT
from aiida_nanoml.workflows.protocols import protocol_inputs

RETRIED = (INTERRUPTED, TIMED_OUT, 'engine_crash')
"""Failures of the machine rather than of the structure: such rows are labelled once more."""

MERGE_WIDTH = 100
"""The cost of a calculation function grows with the square of its links: merging goes through a tree of this width."""


class LabelWorkChain(WorkChain):
    """Label structures in batches; rows that failed for no fault of their own are labelled again.

    Finished batches stay usable whatever happens later: with caching on, a second run takes them from the graph.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(LabelCalculation, exclude=('rows', 'metadata'))
        spec.input(
            'options',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            serializer=orm.to_aiida_type,
            validator=validate_options,
            help='Options of each batch: resources, wall time, queue, …',
        )
        for name, default, text in (
            ('batch_size', 100, 'Structures in one job.'),
            ('max_concurrent', 4, 'Jobs that are submitted at the same time.'),
            ('max_rounds', 3, 'Times that a row may be submitted.'),
        ):
            spec.input(name, valid_type=orm.Int, default=lambda value=default: orm.Int(value), help=text,
                       serializer=orm.to_aiida_type, validator=validate_positive)  # fmt: skip
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.has_pending)(
                cls.submit_batches,
                cls.inspect_batches,
            ),
            cls.merge,
            cls.finalize,
        )
        spec.output('labels', valid_type=LabelSetData, help='One row for each distinct structure, failed or not.')
        spec.exit_code(400, 'ERROR_BATCHES_FAILED', message='Batches failed and gave no labels: {reason}')
        spec.exit_code(410, 'ERROR_MERGE_REFUSED', message='The batches cannot be joined: {reason}')
        spec.exit_code(510, 'ERROR_NO_ROW_FINISHED', message='No structure could be labelled: {reason}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structures: StructureSetData,
        engine: str = 'xtb',
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        :param code: the executable ``nanoml-worker``.
        :param structures: the structures to label.
        :param engine: registered name of the engine.
        :param protocol: ``fast``, ``balanced`` or ``stringent``.
        :param overrides: inputs that replace those of the protocol.
        :param options: scheduler options of each batch.
        :raises ProtocolError: unknown protocol or override.
        """
        builder = cls.get_builder()
        builder.code = code
        builder.structures = structures
        for name, value in label_inputs(engine, protocol, overrides).items():
            builder[name] = value
        builder.options = orm.Dict(dict(options or {}))
        return builder

    def setup(self) -> None:
        """Take every distinct structure once."""
        hashes = self.inputs.structures.structures.hashes
        first = np.sort(np.unique(hashes, return_index=True)[1])
        self.ctx.pending = first.tolist()
        self.ctx.rounds = dict.fromkeys(self.ctx.pending, 0)
        self.ctx.label_uuids = []
        self.ctx.failure = 'there is nothing to label'

    def has_pending(self) -> bool:
        """Whether rows wait for a job."""
        return bool(self.ctx.pending)

    def submit_batches(self) -> ToContext:
        """Submit as many batches as may run at the same time."""
        size = self.inputs.batch_size.value
        wave = self.ctx.pending[: size * self.inputs.max_concurrent.value]
        self.ctx.pending = self.ctx.pending[len(wave) :]
        n_batches = -(-len(wave) // size)
        self.ctx.batches = [batch.tolist() for batch in np.array_split(wave, n_batches)]
        self.report(f'{len(self.ctx.batches)} batches with {len(wave)} structures, {len(self.ctx.pending)} wait')
        children = {}
        for number, rows in enumerate(self.ctx.batches):
            inputs = AttributeDict(self.exposed_inputs(LabelCalculation))
            inputs.rows = orm.List(rows)
            inputs.metadata = {'options': self.inputs.options.get_dict(), 'label': f'label {len(rows)} structures'}
            children[f'batch_{number}'] = self.submit(LabelCalculation, **inputs)
            for row in rows:
                self.ctx.rounds[row] += 1
        return ToContext(**children)

    def inspect_batches(self) -> None:
        """Keep what was labelled and queue again what failed for no fault of its own."""
        retry: list[int] = []
        for number, rows in enumerate(self.ctx.batches):
            calculation = self.ctx[f'batch_{number}']
            if not calculation.is_finished_ok:
                self.ctx.failure = (
                    f'{calculation.process_label}<{calculation.pk}> {calculation.exit_message or "failed"}'
                )
                self.report(self.ctx.failure)
            if 'labels' not in calculation.outputs:
                failed = rows
            else:
                self.ctx.label_uuids.append(calculation.outputs.labels.uuid)
                statuses = calculation.outputs.labels.get_array('status')
                failed = [row for row, status in zip(rows, statuses, strict=True) if status in RETRIED]
            retry += [row for row in failed if self.ctx.rounds[row] < self.inputs.max_rounds.value]
        if retry:
            self.report(f'{len(retry)} structures are labelled again')
            self.ctx.pending = retry + self.ctx.pending

    def merge(self) -> Any:
        """Join the labels of all batches, through a tree."""
        nodes = [orm.load_node(uuid) for uuid in self.ctx.label_uuids]
        if not nodes:
            return self.exit_codes.ERROR_BATCHES_FAILED.format(reason=self.ctx.failure)
        while len(nodes) > 1:
            merged = []
            for start in range(0, len(nodes), MERGE_WIDTH):
                group = {
                    f'labels_{position:03d}': node for position, node in enumerate(nodes[start : start + MERGE_WIDTH])
                }
                joined, process = merge_labels.run_get_node(**group)
                if not process.is_finished_ok:
                    return self.exit_codes.ERROR_MERGE_REFUSED.format(reason=process.exit_message)
                merged.append(joined)
            nodes = merged
        self.ctx.labels = nodes[0]
        return None

    def finalize(self) -> Any:
        """Hand out the labels, even when some rows failed."""
        labels = self.ctx.labels
        self.out('labels', labels)
        attributes = labels.base.attributes
        n_structures = len(self.ctx.rounds)
        self.report(
            f'{attributes.get("n_finished")} of {n_structures} structures labelled; {attributes.get("failures")}'
        )
        if attributes.get('n_finished') == 0:
            messages = LabelSet.from_arrays(labels.label_source, labels.arrays).messages
            return self.exit_codes.ERROR_NO_ROW_FINISHED.format(reason=str(messages[0]))
        return None


def label_inputs(
    engine: str, protocol: str | None = None, overrides: Mapping[str, Any] | None = None
) -> dict[str, orm.Data]:
    """Return the inputs of the workflow that a protocol decides.

    :param engine: registered name of the engine.
    :param protocol: ``fast``, ``balanced`` or ``stringent``.
    :param overrides: inputs that replace those of the protocol.
    :raises ProtocolError: unknown protocol or override.
    """
    inputs = protocol_inputs('label', protocol, overrides)
    nodes: dict[str, orm.Data] = {
        'engine': orm.Str(engine),
        'protocol': orm.Str(inputs['engine_protocol']),
        'time_limit_s': orm.Float(inputs['time_limit_s']),
    }
    if inputs['parameters']:
        nodes['parameters'] = orm.Dict(inputs['parameters'])
    return nodes | {name: orm.Int(inputs[name]) for name in ('batch_size', 'max_concurrent', 'max_rounds')}


def validate_options(options: orm.Dict, port: Any) -> str | None:
    """Refuse options that no job can have."""
    return validate_resources(options.get_dict().get('resources'), port)


def validate_positive(number: orm.Int, _: Any) -> str | None:
    """Refuse numbers below one."""
    return None if number.value >= 1 else f'must be at least 1, got {number.value}'
