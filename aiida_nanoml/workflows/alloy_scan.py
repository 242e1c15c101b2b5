"""Workchain to scan the lattice constants of alloys, and to find their equations of state and equilibrium phases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ToContext, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.alloys.curves import USABLE
from aiida_nanoml.calculations.functions.alloys import (
    analyse_scan,
    extend_scan,
    generate_alloy_set,
    isolated_atom_set,
    scan_alloys,
    scanned,
)
from aiida_nanoml.calculations.functions.structures import merge_structures
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.errors import AlloyError, DatasetError, NanomlError
from aiida_nanoml.structures import AlloyParameters, generate_alloys
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS
from aiida_nanoml.workflows.base import NanomlWorkChain, failure_of, validate_positive
from aiida_nanoml.workflows.builders import label_inputs_with_codes
from aiida_nanoml.workflows.label import LabelWorkChain, join_labels
from aiida_nanoml.workflows.protocols import protocol_inputs, protocol_names

EITHER = 'give either alloys to generate or cells'


class AlloyScanWorkChain(NanomlWorkChain):
    """Scan the lattice constant of alloys in their candidate phases, and find the equilibrium phases.

    Either `alloys` are generated, or `cells` are given, one for each alloy and phase. All points are labelled in
    batches; if the energy still falls at an end of a scan, the scan is extended there. A point without an energy does
    not affect the others. The isolated atoms are labelled with the same engine and protocol, once: labels of them that
    the profile holds already are used.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input(
            'alloys',
            valid_type=orm.Dict,
            required=False,
            validator=validate_alloys,
            serializer=orm.to_aiida_type,
            help='Parameters of the alloys to generate (fields of AlloyParameters).',
        )
        spec.input(
            'cells',
            valid_type=StructureSetData,
            required=False,
            help='A cell for each alloy (its name) and phase (its family).',
        )
        spec.input(
            'scan',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            help='`factors` of the lattice constants, or `lattice_constants` in Å by phase.',
        )
        spec.input(
            'atoms',
            valid_type=LabelSetData,
            required=False,
            help='Labels of isolated atoms from the same engine and protocol.',
        )
        spec.input(
            'cohesive',
            valid_type=orm.Bool,
            default=lambda: orm.Bool(True),
            serializer=orm.to_aiida_type,
            help='Compute cohesive energies, for which isolated atoms are labelled.',
        )
        spec.input(
            'dos_width_ev',
            valid_type=orm.Float,
            serializer=orm.to_aiida_type,
            validator=validate_width,
            help='Gaussian width of the density of states at the Fermi level, eV.',
        )
        spec.input(
            'extension_points',
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            validator=validate_positive,
            help='Number of lattice constants that an extension adds to a curve.',
        )
        spec.input(
            'max_extensions',
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            validator=validate_not_negative,
            help='Maximum number of extensions of a scan.',
        )
        spec.expose_inputs(
            LabelWorkChain,
            namespace='label',
            exclude=('structures',),
            namespace_options={'help': 'How points are labelled.'},
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.should_run_labels)(
                cls.run_labels,
                cls.inspect_labels,
                cls.extend,
            ),
            cls.run_atom_labels,
            cls.inspect_atom_labels,
            cls.results,
        )
        spec.output('cells', valid_type=StructureSetData, help='One for each alloy and phase.')
        spec.output('structures', valid_type=StructureSetData, help='All points of the scan.')
        spec.output('labels', valid_type=LabelSetData, help='Labels of all points, failed ones included.')
        spec.output('atoms', valid_type=LabelSetData, required=False, help='Labels of the isolated atoms.')
        spec.output(
            'curves',
            valid_type=orm.ArrayData,
            required=False,
            help='Equations of state, a row for each alloy and phase.',
        )
        spec.output(
            'points',
            valid_type=orm.ArrayData,
            required=False,
            help='Energies, pressures and densities of states, a row for each point.',
        )
        spec.output(
            'phases', valid_type=orm.ArrayData, required=False, help='Equilibrium phases, a row for each alloy.'
        )
        spec.output('summary', valid_type=orm.Dict, required=False, help='Counts, and curves that were flagged.')
        spec.exit_code(401, 'ERROR_LABEL_FAILED', message='Labelling failed: {reason}')
        spec.exit_code(530, 'ERROR_NO_CURVE', message='No curve has an equation of state: {reason}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode | None,
        alloys: Mapping[str, Any] | None = None,
        cells: StructureSetData | None = None,
        engine: str = 'ase',
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        engine_code: orm.InstalledCode | None = None,
        pseudo_family: str | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        :param code: the executable ``nanoml-worker``; for an engine that runs a program, this program does as well.
        :param alloys: parameters of the alloys to generate.
        :param cells: cells to scan, in place of alloys.
        :param engine: registered name of the engine.
        :param protocol: ``fast``, ``balanced``, ``stringent``, or another one that the engine has.
        :param overrides: inputs that replace those of the protocol; under ``label``, those of ``nanoml.label``.
        :param options: scheduler options of each job.
        :param engine_code: the program of an engine that runs one.
        :param pseudo_family: label of the family that has the pseudopotentials of the elements; None: the default one.
        :raises ProtocolError: unknown protocol or override.
        :raises EngineError: the family does not exist or lacks an element.
        :raises StructureError: the alloys cannot be generated.
        :raises AlloyError: neither or both of alloys and cells are given.
        """
        known = protocol in protocol_names('alloy_scan')
        others = {key: value for key, value in (overrides or {}).items() if key != 'scan'}
        inputs = protocol_inputs('alloy_scan', protocol if known else None, others)
        # Factors and lattice constants exclude each other: they are replaced, not merged.
        inputs['scan'] = (overrides or {}).get('scan', inputs['scan'])
        if (alloys is None) == (cells is None):
            raise AlloyError(EITHER)
        elements = (
            cells.base.attributes.get('elements') if alloys is None else AlloyParameters.from_dict(alloys).elements
        )
        builder = cls.get_builder()
        builder.label = label_inputs_with_codes(
            code,
            engine=engine,
            elements=elements,
            protocol=protocol,
            overrides=inputs['label'],
            options=options,
            engine_code=engine_code,
            pseudo_family=pseudo_family,
        )
        if alloys is not None:
            builder.alloys = orm.Dict(AlloyParameters.from_dict(alloys).to_dict())
        if cells is not None:
            builder.cells = cells
        builder.scan = orm.Dict(inputs['scan'])
        builder.cohesive = orm.Bool(inputs['cohesive'])
        builder.dos_width_ev = orm.Float(inputs['dos_width_ev'])
        builder.extension_points = orm.Int(inputs['extension_points'])
        builder.max_extensions = orm.Int(inputs['max_extensions'])
        return builder

    def setup(self) -> ExitCode | None:
        """Generate the cells, or take the given ones; make the points of the scan and the isolated atoms.

        - ``ctx.cells``: a cell for each alloy and phase.
        - ``ctx.new``: points to label; None if there are no more.
        - ``ctx.structures``, ``ctx.labels``: all labelled points, and their labels.
        - ``ctx.extensions``: number of extensions so far.
        - ``ctx.isolated``: isolated atoms to label, if any; ``ctx.atoms``: their labels, or None.
        """
        self.ctx.structures = self.ctx.labels = None
        self.ctx.extensions = 0
        self.ctx.atoms = self.inputs.get('atoms')
        self.ctx.cells = self.inputs.get('cells')
        if self.ctx.cells is None:
            self.ctx.cells, exit_code = self.run_function(generate_alloy_set, parameters=self.inputs.alloys)
            if exit_code is not None:
                return exit_code
        self.ctx.new, exit_code = self.run_function(scan_alloys, structures=self.ctx.cells, scan=self.inputs.scan)
        if exit_code is not None:
            return exit_code
        self.out('cells', self.ctx.cells)
        if self.inputs.cohesive.value and self.ctx.atoms is None:
            elements = orm.List(self.ctx.cells.base.attributes.get('elements'))
            self.ctx.isolated, exit_code = self.run_function(isolated_atom_set, elements=elements)
        return exit_code

    def should_run_labels(self) -> bool:
        """Return whether there are points to label."""
        return self.ctx.new is not None

    def run_labels(self) -> ToContext:
        """Label the new points."""
        return ToContext(labelling=self._submit_labelling(self.ctx.new))

    def _submit_labelling(
        self, structures: StructureSetData, known: list[LabelSetData] | None = None
    ) -> orm.WorkChainNode:
        inputs = self.exposed_inputs(LabelWorkChain, namespace='label')
        inputs['structures'] = structures
        if known:
            inputs['known'] = {f'known_{number:03d}': node for number, node in enumerate(known)}
        return self.submit(LabelWorkChain, **inputs)

    def inspect_labels(self) -> ExitCode | None:
        """Join the new points and their labels with those of earlier rounds."""
        child = self.ctx.labelling
        if 'labels' not in child.outputs:
            if self.ctx.labels is None:
                return self.failed(self.exit_codes.ERROR_LABEL_FAILED, child)
            self.report(f'the extension of the scan has no labels: {failure_of(child)}')
            self.ctx.extensions = self.inputs.max_extensions.value
            return None
        if self.ctx.labels is None:
            self.ctx.structures, self.ctx.labels = self.ctx.new, child.outputs.labels
            return None
        self.ctx.structures, exit_code = self.run_function(
            merge_structures, set_0=self.ctx.structures, set_1=self.ctx.new
        )
        if exit_code is not None:
            return exit_code
        try:
            self.ctx.labels = join_labels([self.ctx.labels, child.outputs.labels])
        except DatasetError as error:
            return self.exit_codes.ERROR_STEP_REFUSED.format(reason=str(error))
        return None

    def extend(self) -> None:
        """Add points to curves whose energy still falls at an end of their scan."""
        self.ctx.new = None
        if self.ctx.extensions >= self.inputs.max_extensions.value:
            return
        self.ctx.extensions += 1
        added, _ = self.try_function(
            extend_scan,
            structures=self.ctx.structures,
            labels=self.ctx.labels,
            points=self.inputs.extension_points,
        )
        if added and 'structures' in added:
            self.ctx.new = added['structures']
            self.report(f'{self.ctx.new.n_structures} points are added to scans whose energy falls at an end')

    def run_atom_labels(self) -> ToContext | None:
        """Label the isolated atoms but for those that the profile has labels of, from the same source."""
        if 'isolated' not in self.ctx:
            return None
        known = atoms_of(self.ctx.labels.label_source, self.ctx.isolated)
        return ToContext(atom_labelling=self._submit_labelling(self.ctx.isolated, known))

    def inspect_atom_labels(self) -> None:
        """Keep the labels of the isolated atoms if all of them are finished."""
        if 'isolated' not in self.ctx:
            return
        child = self.ctx.atom_labelling
        labels = child.outputs.labels if 'labels' in child.outputs else None
        if labels is None or labels.base.attributes.get('failures'):
            reason = child.exit_message or 'not all of them could be labelled'
            self.report(f'there are no cohesive energies: isolated atoms, {child.process_label}<{child.pk}>: {reason}')
        else:
            self.ctx.atoms = labels

    def results(self) -> ExitCode | None:
        """Fit the equations of state, find the phases, and output both."""
        self.out('structures', self.ctx.structures)
        self.out('labels', self.ctx.labels)
        if self.ctx.atoms is not None:
            self.out('atoms', self.ctx.atoms)
        made, exit_code = self.run_function(
            analyse_scan,
            structures=self.ctx.structures,
            labels=self.ctx.labels,
            settings=orm.Dict({'dos_width_ev': self.inputs.dos_width_ev.value}),
            atoms=self.ctx.atoms,
        )
        if exit_code is not None:
            return exit_code
        self.out_many(made)
        summary = made['summary'].get_dict()
        self.report(f'{summary["n_alloys"]} alloys, phases: {summary["phases"]}, curves: {summary["curves"]}')
        if not set(summary['curves']) & set(USABLE):
            message = next(iter(summary['flagged'].values()))
            return self.exit_codes.ERROR_NO_CURVE.format(reason=message)
        return None


def atoms_of(source: LabelSource, isolated: StructureSetData) -> list[LabelSetData]:
    """Return labels of isolated atoms that the profile holds already.

    :param source: source of the labels that the atoms belong to.
    :param isolated: the atoms.
    :returns: sets of compatible source, the newest first; together they may lack some of the atoms.
    """
    filters = {
        'attributes.engine': source.engine,
        'attributes.engine_version': source.version,
        'attributes.protocol': source.protocol,
        'attributes.n_rows': {'<=': len(ATOMIC_NUMBERS)},
    }
    query = orm.QueryBuilder().append(LabelSetData, filters=filters, tag='labels')
    missing = set(isolated.structures.hashes.tolist())
    found: list[LabelSetData] = []
    for node in query.order_by({'labels': {'ctime': 'desc'}}).iterall():
        if not missing:
            break
        labels = node[0].labels
        present = missing & set(labels.hashes[labels.finished].tolist())
        if present and source.compatible(labels.source):
            source = source.joined(labels.source)
            found.append(node[0])
            missing -= present
    return found


def validate_alloys(alloys: orm.Dict | None, _: Any) -> str | None:
    """Check that the alloys can be generated."""
    try:
        if alloys is not None:
            AlloyParameters.from_dict(alloys.get_dict())
    except NanomlError as error:
        return str(error)
    return None


def validate_width(width: orm.Float, _: Any) -> str | None:
    """Check that a width is positive."""
    return None if width.value > 0 else f'must be above zero, got {width.value}'


def validate_not_negative(number: orm.Int, _: Any) -> str | None:
    """Check that a number is not negative."""
    return None if number.value >= 0 else f'must be at least 0, got {number.value}'


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Check that the scan can be made, before anything is computed."""
    if ('alloys' in inputs) == ('cells' in inputs):
        return EITHER
    if 'scan' not in inputs:
        return None  # the port itself complains
    try:
        if 'cells' in inputs:
            scanned(inputs['cells'].structures, inputs['scan'].get_dict())
        else:
            wanted = AlloyParameters.from_dict(inputs['alloys'].get_dict() | {'count': 1})
            scanned(generate_alloys(wanted), inputs['scan'].get_dict())
    except NanomlError as error:
        return str(error)
    return None
