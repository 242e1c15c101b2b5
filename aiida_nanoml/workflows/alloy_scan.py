"""Workflow ``nanoml.alloy_scan``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder, ToContext, WorkChain, while_
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
from aiida_nanoml.structures import AlloyParameters, generate_alloys, isolated_atoms
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS
from aiida_nanoml.workflows.label import LabelWorkChain, join_labels, validate_positive
from aiida_nanoml.workflows.protocols import protocol_inputs, protocol_names

EITHER = 'give either alloys to generate or cells'


class AlloyScanWorkChain(WorkChain):
    """Scan the lattice constant of alloys in their candidate phases, and find the equilibrium phases.

    Either `alloys` are generated, or `cells` are given, one for each alloy and phase. All points are labelled in
    batches; where the energy still falls at an end of a scan, the scan goes on beyond it. A point without an energy
    does not disturb the others. The isolated atoms are labelled with the same engine and protocol, once: labels of them
    that the profile holds already are used.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input('alloys', valid_type=orm.Dict, required=False, validator=validate_alloys,
                   serializer=orm.to_aiida_type,
                   help='Parameters of the alloys to generate (fields of AlloyParameters).')  # fmt: skip
        spec.input('cells', valid_type=StructureSetData, required=False,
                   help='A cell for each alloy (its name) and phase (its family).')  # fmt: skip
        spec.input('scan', valid_type=orm.Dict, serializer=orm.to_aiida_type,
                   help='`factors` of the lattice constants, or `lattice_constants` in Å by phase.')  # fmt: skip
        spec.input('atoms', valid_type=LabelSetData, required=False,
                   help='Labels of isolated atoms from the same engine and protocol.')  # fmt: skip
        spec.input('cohesive', valid_type=orm.Bool, default=lambda: orm.Bool(True), serializer=orm.to_aiida_type,
                   help='Compute cohesive energies, for which isolated atoms are labelled.')  # fmt: skip
        spec.input('dos_width_ev', valid_type=orm.Float, serializer=orm.to_aiida_type, validator=validate_width,
                   help='Gaussian width of the density of states at the Fermi level.')  # fmt: skip
        spec.input('extension_points', valid_type=orm.Int, serializer=orm.to_aiida_type, validator=validate_positive,
                   help='Lattice constants that an extension adds to a curve.')  # fmt: skip
        spec.input('max_extensions', valid_type=orm.Int, serializer=orm.to_aiida_type, validator=validate_not_negative,
                   help='Times that a scan is extended beyond its ends at the most.')  # fmt: skip
        spec.expose_inputs(
            LabelWorkChain,
            namespace='label',
            exclude=('structures',),
            namespace_options={'help': 'How points are labelled.'},
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.prepare,
            while_(cls.has_points)(
                cls.label,
                cls.collect,
                cls.extend,
            ),
            cls.label_atoms,
            cls.analyse,
        )
        spec.output('cells', valid_type=StructureSetData, help='One for each alloy and phase.')
        spec.output('structures', valid_type=StructureSetData, help='All points of the scan.')
        spec.output('labels', valid_type=LabelSetData, help='Of all points, failed ones included.')
        spec.output('atoms', valid_type=LabelSetData, required=False, help='Of the isolated atoms.')
        spec.output('curves', valid_type=orm.ArrayData, required=False,
                    help='Equations of state, a row for each alloy and phase.')  # fmt: skip
        spec.output('points', valid_type=orm.ArrayData, required=False,
                    help='Energies, pressures and densities of states, a row for each point.')  # fmt: skip
        spec.output('phases', valid_type=orm.ArrayData, required=False,
                    help='Equilibrium phases, a row for each alloy.')  # fmt: skip
        spec.output('summary', valid_type=orm.Dict, required=False, help='Counts, and what was flagged.')
        spec.exit_code(401, 'ERROR_LABEL_FAILED', message='Labelling failed, {reason}')
        spec.exit_code(520, 'ERROR_STEP_REFUSED', message='A step refused its input: {reason}')
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
        labelling = LabelWorkChain.get_builder_from_protocol(
            code, StructureSetData(isolated_atoms(elements)), engine, protocol, inputs['label'], options, engine_code,
            pseudo_family,
        )  # fmt: skip
        builder.label = {name: labelling[name] for name in labelling if name not in ('structures', 'metadata')}
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

    def prepare(self) -> Any:
        """Generate the cells, or take the given ones; make the points of the scan and the isolated atoms."""
        self.ctx.cells = self.inputs.get('cells')
        if self.ctx.cells is None:
            refusal = self._make('cells', generate_alloy_set, parameters=self.inputs.alloys)
            if refusal is not None:
                return refusal
        refusal = self._make('new', scan_alloys, structures=self.ctx.cells, scan=self.inputs.scan)
        if refusal is not None:
            return refusal
        self.ctx.structures, self.ctx.labels = None, None
        self.ctx.extensions = 0
        self.out('cells', self.ctx.cells)
        if self.inputs.cohesive.value and 'atoms' not in self.inputs:
            elements = orm.List(self.ctx.cells.base.attributes.get('elements'))
            return self._make('isolated', isolated_atom_set, elements=elements)
        return None

    def has_points(self) -> bool:
        """Whether there are points to label."""
        return self.ctx.new is not None

    def label(self) -> ToContext:
        """Label the points that are new."""
        return ToContext(labelling=self._submit_labelling(self.ctx.new))

    def label_atoms(self) -> ToContext | None:
        """Label the isolated atoms, unless labels of the same origin as those of the points are there."""
        if 'isolated' not in self.ctx:
            return None
        known = atoms_of(self.ctx.labels.label_source, self.ctx.isolated)
        return ToContext(atom_labelling=self._submit_labelling(self.ctx.isolated, known))

    def _submit_labelling(self, structures: StructureSetData, known: list[LabelSetData] | None = None) -> Any:
        inputs = self.exposed_inputs(LabelWorkChain, namespace='label')
        inputs['structures'] = structures
        if known:
            inputs['known'] = {f'known_{number:03d}': node for number, node in enumerate(known)}
        return self.submit(LabelWorkChain, **inputs)

    def collect(self) -> Any:
        """Put the new points and their labels beside those that are there."""
        child = self.ctx.labelling
        if 'labels' not in child.outputs:
            reason = f'{child.process_label}<{child.pk}> {child.exit_message or child.exception or "was killed"}'
            if self.ctx.labels is None:
                return self.exit_codes.ERROR_LABEL_FAILED.format(reason=reason)
            self.report(f'the extension of the scan gave nothing: {reason}')
            self.ctx.extensions = self.inputs.max_extensions.value
            return None
        if self.ctx.labels is None:
            self.ctx.structures, self.ctx.labels = self.ctx.new, child.outputs.labels
            return None
        sets = {'set_0': self.ctx.structures, 'set_1': self.ctx.new}
        refusal = self._make('structures', merge_structures, **sets)
        if refusal is not None:
            return refusal
        try:
            self.ctx.labels = join_labels([self.ctx.labels, child.outputs.labels])
        except DatasetError as error:
            return self.exit_codes.ERROR_STEP_REFUSED.format(reason=str(error))
        return None

    def extend(self) -> None:
        """Add points where the energy of a curve still falls at an end of its scan."""
        self.ctx.new = None
        if self.ctx.extensions >= self.inputs.max_extensions.value:
            return
        self.ctx.extensions += 1
        added, node = extend_scan.run_get_node(
            structures=self.ctx.structures, labels=self.ctx.labels, points=self.inputs.extension_points
        )
        if node.is_finished_ok and 'structures' in added:
            self.ctx.new = added['structures']
            self.report(f'{self.ctx.new.n_structures} points are added where the energy falls at an end of a scan')

    def analyse(self) -> Any:
        """Fit the equations of state and find the phases."""
        self.out('structures', self.ctx.structures)
        self.out('labels', self.ctx.labels)
        inputs = {'structures': self.ctx.structures, 'labels': self.ctx.labels}
        atoms = self._atoms()
        if atoms is not None:
            self.out('atoms', atoms)
            inputs['atoms'] = atoms
        settings = orm.Dict({'dos_width_ev': self.inputs.dos_width_ev.value})
        made, node = analyse_scan.run_get_node(settings=settings, **inputs)
        if not node.is_finished_ok:
            return self._refused(node)
        self.out_many(made)
        summary = made['summary'].get_dict()
        self.report(f'{summary["n_alloys"]} alloys, phases: {summary["phases"]}, curves: {summary["curves"]}')
        if not set(summary['curves']) & set(USABLE):
            message = next(iter(summary['flagged'].values()))
            return self.exit_codes.ERROR_NO_CURVE.format(reason=message)
        return None

    def _atoms(self) -> LabelSetData | None:
        """Labels of the isolated atoms, if all of them are finished."""
        if 'atoms' in self.inputs:
            return self.inputs.atoms
        if 'isolated' not in self.ctx:
            return None
        child = self.ctx.atom_labelling
        labels = child.outputs.labels if 'labels' in child.outputs else None
        if labels is None or labels.base.attributes.get('failures'):
            reason = child.exit_message or 'not all of them could be labelled'
            self.report(f'there are no cohesive energies: isolated atoms, {child.process_label}<{child.pk}>: {reason}')
            return None
        return labels

    def _make(self, name: str, function: Any, **inputs: Any) -> Any:
        """Run a calculation function and keep its result in the context."""
        made, node = function.run_get_node(**inputs)
        if not node.is_finished_ok:
            return self._refused(node)
        self.ctx[name] = made
        return None

    def _refused(self, node: orm.ProcessNode) -> Any:
        reason = f'{node.process_label}<{node.pk}>: {node.exit_message or node.exception}'
        return self.exit_codes.ERROR_STEP_REFUSED.format(reason=reason)


def atoms_of(source: LabelSource, isolated: StructureSetData) -> list[LabelSetData]:
    """Find labels of isolated atoms that the profile holds already.

    :param source: origin of the labels that the atoms go with.
    :param isolated: the atoms.
    :returns: sets of compatible origin, the newest first; together they may lack some of the atoms.
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
        there = missing & set(labels.hashes[labels.finished].tolist())
        if there and source.compatible(labels.source):
            source = source.joined(labels.source)
            found.append(node[0])
            missing -= there
    return found


def validate_alloys(alloys: orm.Dict | None, _: Any) -> str | None:
    """Refuse alloys that cannot be generated."""
    try:
        if alloys is not None:
            AlloyParameters.from_dict(alloys.get_dict())
    except NanomlError as error:
        return str(error)
    return None


def validate_width(width: orm.Float, _: Any) -> str | None:
    """Refuse a width that is not above zero."""
    return None if width.value > 0 else f'must be above zero, got {width.value}'


def validate_not_negative(number: orm.Int, _: Any) -> str | None:
    """Refuse numbers below zero."""
    return None if number.value >= 0 else f'must be at least 0, got {number.value}'


def validate_inputs(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse a scan that cannot be made before anything is computed."""
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
