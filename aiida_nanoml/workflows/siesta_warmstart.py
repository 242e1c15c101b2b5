"""Workchain to measure what a given density saves SIESTA: runs from free atoms and from the density, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ToContext, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import validate_rows
from aiida_nanoml.calculations.functions.siesta import node_of_structure
from aiida_nanoml.calculations.functions.starts import (
    STARTS,
    box_structures,
    compare_starts,
    row_name,
)
from aiida_nanoml.calculations.siesta import mesh_settings
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.engines.siesta.mesh import choose_mesh
from aiida_nanoml.errors import EngineError, NanomlError
from aiida_nanoml.workflows.base import failure_of, validate_positive
from aiida_nanoml.workflows.rolling import RollingWorkChain
from aiida_nanoml.workflows.siesta import SiestaWorkChain

SHARED_INPUTS = ('code', 'parameters', 'basis', 'source', 'kpoints', 'options', 'max_iterations', 'clean_workdir')
"""Inputs that all runs have from one protocol."""

ENERGY_TOLERANCE_EV = 1e-3
"""Energies that differ by more belong to two different states; the self-consistency converges to 1 % of it."""


class SiestaWarmstartWorkChain(RollingWorkChain):
    """Run each structure from free atoms and from its density, and compare iterations and seconds.

    Both runs must end at the same energy. A structure of which a run needed a cure is left out: its iterations say
    little about the start.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input(
            'densities',
            valid_type=DensitySetData,
            help='Densities to begin with, usually predicted ones, with their structures.',
        )
        spec.input(
            'rows',
            valid_type=orm.List,
            required=False,
            serializer=orm.to_aiida_type,
            help='Indices of the structures to run; all if absent.',
        )
        spec.expose_inputs(SiestaWorkChain, namespace='siesta', exclude=('structure', 'start'))
        spec.inputs['siesta'].help = 'Inputs of each run but for the structure; `pseudos` of all elements.'
        spec.input(
            'energy_tolerance_ev',
            valid_type=orm.Float,
            default=lambda: orm.Float(ENERGY_TOLERANCE_EV),
            serializer=orm.to_aiida_type,
            help='Maximum difference between the energies of a structure from the two starts, eV.',
        )
        spec.input(
            'max_concurrent',
            valid_type=orm.Int,
            default=lambda: orm.Int(1),
            validator=validate_positive,
            serializer=orm.to_aiida_type,
            help='Maximum number of runs at once; if they share cores, the seconds of each mean less.',
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.should_run_siesta)(
                cls.run_siesta,
                cls.inspect_siesta,
            ),
            cls.results,
        )
        spec.output('table', valid_type=orm.ArrayData, help='Iterations, seconds and energies of each structure.')
        spec.output('summary', valid_type=orm.Dict, help='Shares of the iterations and seconds that are saved.')
        spec.exit_code(401, 'ERROR_RUN_FAILED', message='Runs failed; the table lacks their structures: {reason}')
        spec.exit_code(510, 'ERROR_NO_ROW_FINISHED', message='No structure has both runs: {reason}')
        spec.exit_code(511, 'ERROR_ENERGIES_DIFFER', message='The starts do not end at the same energy: {reason}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        densities: DensitySetData,
        rows: Sequence[int] | None = None,
        pseudos: Mapping[str, orm.SinglefileData] | None = None,
        pseudo_family: str | None = None,
        protocol: str = 'paper',
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol of the engine ``siesta``.

        :param code: the executable of SIESTA, built with NetCDF.
        :param densities: densities to begin with.
        :param rows: structures to run; None: all.
        :param pseudos: pseudopotentials by element.
        :param pseudo_family: label of the family that has them, in place of ``pseudos``; None: the default one.
        :param protocol: ``paper``, or another one of the engine.
        :param overrides: parameters of the engine that replace those of the protocol.
        :param options: options of each run; without any, one process and one hour.
        :raises EngineError: unknown protocol or parameter, a pseudopotential that the family does not have, or
            structures that need different k-points.
        """
        from aiida_nanoml.calculations.pseudopotentials import family_pseudos
        from aiida_nanoml.engines.siesta.engine import SiestaEngine
        from aiida_nanoml.engines.siesta.k_points import monkhorst_pack_mesh

        chosen = densities.structures.select(slice(None) if rows is None else list(rows))
        settings = SiestaEngine.parameters(protocol, overrides)
        if len({repr(monkhorst_pack_mesh(settings, structure)) for structure in chosen}) > 1:
            raise EngineError('these structures need different k-points: run those of one cell at a time')
        if pseudos is None:
            pseudos = family_pseudos(pseudo_family, chosen.elements, SiestaEngine.pseudopotential_formats)
        one = SiestaWorkChain.get_builder_from_protocol(
            code, node_of_structure(chosen[0]), pseudos, protocol=protocol, overrides=overrides, options=options
        )
        builder = cls.get_builder()
        builder.siesta.pseudos = dict(pseudos)
        for name in SHARED_INPUTS:
            if name in one:
                builder.siesta[name] = one[name]
        builder.densities = densities
        if rows is not None:
            builder.rows = orm.List(list(rows))
        return builder

    def setup(self) -> ExitCode | None:
        """Make the structures in their boxes, and list the runs.

        - ``ctx.structures``: UUIDs of the structures, by name of the row.
        - ``ctx.waiting``, ``ctx.running``: runs with ``row`` and ``start``; running ones also with ``uuid``.
        - ``ctx.retrieved``: UUIDs of the retrieved files of finished runs, by name of the row and start.
        - ``ctx.failures``: descriptions of the runs that cannot be compared.
        """
        rows = chosen_rows(self.inputs)
        boxed, exit_code = self.run_function(box_structures, densities=self.inputs.densities, rows=orm.List(rows))
        if exit_code is not None:
            return exit_code
        self.ctx.structures = {name: structure.uuid for name, structure in boxed.items()}
        self.ctx.waiting = [{'row': row, 'start': start} for row in rows for start in STARTS]
        self.ctx.running = []
        self.ctx.retrieved = {}
        self.ctx.failures = []
        return None

    def should_run_siesta(self) -> bool:
        """Return whether runs wait or are at the computer."""
        return bool(self.ctx.waiting or self.ctx.running)

    def run_siesta(self) -> ToContext | None:
        """Submit runs until ``max_concurrent`` run, then wait until one of them ends."""
        while self.ctx.waiting and len(self.ctx.running) < self.inputs.max_concurrent.value:
            task, *self.ctx.waiting = self.ctx.waiting
            structure = orm.load_node(self.ctx.structures[row_name(task['row'])])
            inputs = self.exposed_inputs(SiestaWorkChain, namespace='siesta')
            inputs['structure'] = structure
            if 'pseudos' in inputs:
                inputs['pseudos'] = {kind.name: inputs['pseudos'][kind.symbol] for kind in structure.kinds}
            if task['start'] == 'density':
                inputs['start'] = self.inputs.densities
            inputs['metadata'] = {'label': f'structure {task["row"]} from {task["start"]}'}
            node = self.submit(SiestaWorkChain, **inputs)
            self.report(f'{node.process_label}<{node.pk}>: {node.label}')
            self.ctx.running = [*self.ctx.running, task | {'uuid': node.uuid}]
        return self.wait_for_any(task['uuid'] for task in self.ctx.running)

    def inspect_siesta(self) -> None:
        """Keep the files of runs that ended; if SIESTA refused one, drop the others: it would refuse them, too."""
        running = []
        for task in self.ctx.running:
            node = orm.load_node(task['uuid'])
            if not node.is_terminated:
                running.append(task)
                continue
            if node.is_finished_ok and len(node.called) == 1:
                name = f'{row_name(task["row"])}_{task["start"]}'
                self.ctx.retrieved = self.ctx.retrieved | {name: node.called[0].outputs.retrieved.uuid}
                continue
            if node.is_finished_ok:
                reason = f'{node.process_label}<{node.pk}>: it needed a cure, so that its iterations do not compare'
            else:
                reason = failure_of(node)
            self.report(f'{node.label}: {reason}')
            self.ctx.failures = [*self.ctx.failures, f'{node.label}: {reason}']
            if node.exit_status == SiestaWorkChain.exit_codes.ERROR_RUN_REFUSED.status:
                self.ctx.waiting = []
        self.ctx.running = running

    def results(self) -> ExitCode | None:
        """Output the comparison of the two runs of each structure that has both."""
        complete = [
            name
            for name in map(row_name, chosen_rows(self.inputs))
            if all(f'{name}_{start}' in self.ctx.retrieved for start in STARTS)
        ]
        if not complete:
            return self.exit_codes.ERROR_NO_ROW_FINISHED.format(reason=self.ctx.failures[0])
        keys = [f'{name}_{start}' for name in complete for start in STARTS]
        runs = {key: orm.load_node(self.ctx.retrieved[key]) for key in keys}
        made, exit_code = self.run_function(compare_starts, densities=self.inputs.densities, **runs)
        if exit_code is not None:
            return exit_code
        self.out_many(made)
        tolerance = self.inputs.energy_tolerance_ev.value
        differences = np.abs(made['table'].get_array('energy_difference_ev'))
        if not (differences <= tolerance).all():
            worst = int(made['table'].get_array('rows')[differences.argmax()])
            return self.exit_codes.ERROR_ENERGIES_DIFFER.format(
                reason=f'those of row {worst} differ by {differences.max():.3g} eV, more than {tolerance:g} eV'
            )
        if self.ctx.failures:
            return self.exit_codes.ERROR_RUN_FAILED.format(reason=self.ctx.failures[0])
        return None


def run_parameters(
    densities: DensitySetData, protocol: str | None, overrides: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return protocol and parameters of runs: those behind the densities, unless another protocol is named.

    :param densities: to begin with.
    :param protocol: of the engine ``siesta``; None: what computed the densities.
    :param overrides: parameters that replace those of the protocol.
    :raises EngineError: no protocol is named, and another engine computed the densities.
    """
    from aiida_nanoml.engines.siesta.engine import SiestaEngine

    if protocol is not None:
        return protocol, dict(overrides)
    source = densities.label_source
    if source.engine != SiestaEngine.name:
        raise EngineError(f'the densities rest on {source}, not on SIESTA: name a protocol of SIESTA')
    # The parameters hold what a protocol leaves out; those of runs made by hand belong to no protocol.
    known = source.protocol if source.protocol in SiestaEngine.protocols() else next(iter(SiestaEngine.protocols()))
    return known, dict(source.parameters) | dict(overrides)


def chosen_rows(inputs: Mapping[str, Any]) -> list[int]:
    """Return the rows to run, in their order."""
    if 'rows' in inputs:
        return sorted(inputs['rows'].get_list())
    return list(range(inputs['densities'].n_densities))


def validate_inputs(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Check rows, meshes and pseudopotentials, before anything is submitted."""
    densities, siesta = inputs.get('densities'), inputs.get('siesta') or {}
    if densities is None or 'parameters' not in siesta:
        return None  # the ports themselves complain
    if 'rows' in inputs:
        text = validate_rows(inputs['rows'].get_list(), densities.n_densities)
        if text is not None:
            return text
    chosen = densities.structures.select(chosen_rows(inputs))
    try:
        cutoff_ry, sub_points = mesh_settings(siesta['parameters'])
        for cell in chosen.cells:
            choose_mesh(cell, cutoff_ry, sub_points)
    except NanomlError as error:
        return str(error)
    missing = sorted(set(chosen.elements) - set(siesta.get('pseudos') or {}))
    if missing and 'pseudo_family' not in siesta:
        return f'there is no pseudopotential for {", ".join(missing)}'
    return None
