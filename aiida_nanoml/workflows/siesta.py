"""Workchain to run SIESTA for one structure, with automated error handling and restarts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.hashing import make_hash
from aiida.engine import ExitCode, ProcessBuilder, ProcessHandlerReport, process_handler
from aiida.engine.processes.workchains.workchain import WorkChainSpec
from aiida_siesta.utils.tkdict import FDFDict
from aiida_siesta.workflows.base import SiestaBaseWorkChain
from aiida_siesta.workflows.base import validate_inputs as validate_siesta_inputs

from aiida_nanoml.calculations.pseudopotentials import family_pseudos
from aiida_nanoml.calculations.siesta import SiestaCalculation, validate_run
from aiida_nanoml.data.densities import DensitySetData
from aiida_nanoml.engines.siesta.engine import SiestaEngine
from aiida_nanoml.engines.siesta.fdf import Fdf
from aiida_nanoml.engines.siesta.parameters import SIESTA_DEFAULTS
from aiida_nanoml.errors import EngineError, NanomlError
from aiida_nanoml.workflows.builders import single_run_options
from aiida_nanoml.workflows.recovery import CAREFUL_TEMPERATURE_K, GROWTH, LARGEST_GROWTH, RecoveringWorkChain

CAREFUL_WEIGHT = 0.05
"""Mixing weight of the first cure for a self-consistency that oscillates."""

CAREFUL_HISTORY = 8
"""Pulay history of this cure."""

USUAL_ENERGY_SHIFT_RY = 0.02
"""SIESTA's default energy shift: orbitals of a smaller one can be too wide to be polarized."""

SPLIT_NORM_STEP = 0.001
"""How much the split norm exceeds the least possible one."""

_CODES = SiestaCalculation.exit_codes


class SiestaWorkChain(RecoveringWorkChain, SiestaBaseWorkChain):  # type: ignore[misc]
    """Run SIESTA for one structure, and again with a cure if there is one for its failure."""

    _process_class = SiestaCalculation
    _proc_exit_cod = SiestaCalculation.exit_codes

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Extend aiida-siesta's inputs, outputs and exit codes."""
        super().define(spec)
        spec.expose_inputs(SiestaCalculation, exclude=('metadata',))
        spec.expose_outputs(SiestaCalculation)
        spec.inputs['max_iterations'].default = lambda: orm.Int(10)
        spec.inputs['options'].help = 'Options of each run: resources, wall time (needed), queue, …'
        spec.inputs['pseudo_family'].help = 'Label of the family that has the pseudopotentials, in place of `pseudos`.'
        spec.inputs.validator = validate_inputs
        spec.exit_code(511, 'ERROR_BASIS_REFUSED', message='SIESTA cannot make the basis: {reason}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        pseudos: Mapping[str, orm.SinglefileData] | None = None,
        pseudo_family: str | None = None,
        protocol: str = 'paper',
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        start: DensitySetData | None = None,
        engine: str = SiestaEngine.name,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol of the engine ``siesta``.

        :param code: the executable of SIESTA.
        :param structure: in a box with vacuum if it is isolated, see ``nanoml.place_structures``.
        :param pseudos: pseudopotentials by element.
        :param pseudo_family: label of the family that has them, in place of ``pseudos``; None: the default one.
        :param protocol: ``paper``, or another one of the engine.
        :param overrides: parameters of the engine that replace those of the protocol.
        :param options: options of each run; without any, one process and one hour.
        :param start: densities to begin with; one of them belongs to the structure.
        :param engine: registered name of the engine, which is ``siesta``.
        :raises EngineError: another engine, unknown protocol or parameter, or a pseudopotential that the family does
            not have.
        """
        from aiida_nanoml.calculations.functions.siesta import structure_of_node
        from aiida_nanoml.engines.siesta.fdf_writing import to_keywords
        from aiida_nanoml.engines.siesta.k_points import monkhorst_pack_mesh

        if engine != SiestaEngine.name:
            raise EngineError(f'the workflow nanoml.siesta runs the engine {SiestaEngine.name}, not {engine}')
        settings = SiestaEngine.parameters(protocol, overrides)
        general, basis = to_keywords(settings)
        found = structure_of_node(structure)
        builder = cls.get_builder()
        builder.code = code
        builder.structure = structure
        builder.parameters = shared(orm.Dict(general))
        builder.basis = shared(orm.Dict(basis))
        builder.source = shared(orm.Dict({'protocol': protocol, 'parameters': settings.model_dump()}))
        sampling = monkhorst_pack_mesh(settings, found)
        if sampling is not None:
            kpoints = orm.KpointsData()
            kpoints.set_kpoints_mesh(sampling[0], offset=sampling[1])
            builder.kpoints = shared(kpoints)
        if pseudos is None:
            pseudos = family_pseudos(pseudo_family, found.symbols, SiestaEngine.pseudopotential_formats)
        builder.pseudos = {kind.name: pseudos[kind.symbol] for kind in structure.kinds if kind.symbol in pseudos}
        builder.options = shared(orm.Dict(single_run_options(code, options)))
        builder.max_iterations = shared(orm.Int(10))
        builder.clean_workdir = shared(orm.Bool(False))
        if start is not None:
            builder.start = start
        return builder

    def prepare_inputs(self) -> None:
        """Prepare the inputs of the first run."""
        super().prepare_inputs()
        for name in ('source', 'start'):
            if name in self.inputs:
                self.ctx.inputs[name] = self.inputs[name]

    def postprocess(self) -> None:
        """Output the basis orbitals, if requested."""
        node = self.ctx.children[self.ctx.iteration - 1]
        if 'ion_files' in node.outputs:
            self.out('ion_files', dict(node.outputs.ion_files.items()))

    @process_handler(priority=80, exit_codes=_CODES.SCF_NOT_CONV)
    def handle_error_scf_not_conv(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Continue if the SCF still converges; else mix more carefully; else raise the electronic temperature."""
        settings = FDFDict(self.ctx.inputs['parameters'].get_dict())
        limit = int(_number(settings, 'max-scf-iterations', SIESTA_DEFAULTS.max_scf_iterations))
        asked = int(
            _number(
                FDFDict(self.inputs.parameters.get_dict()), 'max-scf-iterations', SIESTA_DEFAULTS.max_scf_iterations
            )
        )
        residuals = scf_residuals(read_output(node))
        if len(residuals) > 1 and residuals[-1] == min(residuals) and limit * GROWTH <= asked * LARGEST_GROWTH:
            settings['max-scf-iterations'] = limit * GROWTH
            return self._change(
                node,
                'SCF still converging',
                {'iterations': f'{limit * GROWTH}, going on from the density matrix'},
                parameters=settings,
                continued=True,
            )
        weight = _number(
            settings, 'scf-mixer-weight', _number(settings, 'dm-mixing-weight', SIESTA_DEFAULTS.mixing_weight)
        )
        history = _number(
            settings, 'scf-mixer-history', _number(settings, 'dm-number-pulay', SIESTA_DEFAULTS.mixing_history)
        )
        if weight > CAREFUL_WEIGHT or history < CAREFUL_HISTORY:
            settings['scf-mixer-weight'] = min(weight, CAREFUL_WEIGHT)
            settings['scf-mixer-history'] = max(int(history), CAREFUL_HISTORY)
            changes = {
                'mixing weight': f'{settings["scf-mixer-weight"]:g}',
                'Pulay history': f'{settings["scf-mixer-history"]}',
            }
            return self._change(node, 'SCF oscillates', changes, parameters=settings, continued=False)
        if temperature_kelvin(settings) < CAREFUL_TEMPERATURE_K:
            settings['electronic-temperature'] = f'{CAREFUL_TEMPERATURE_K:g} K'
            changes = {'electronic temperature': f'{CAREFUL_TEMPERATURE_K:g} K'}
            return self._change(node, 'SCF oscillates', changes, parameters=settings, continued=False)
        return self._give_up(self.exit_codes.ERROR_SCF_NOT_CONVERGED, node)

    @process_handler(priority=70, exit_codes=_CODES.GEOM_NOT_CONV)
    def handle_error_geom_not_conv(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Continue the relaxation from where it ended."""
        if 'output_structure' in node.outputs:
            self.ctx.inputs['structure'] = node.outputs.output_structure
        return self._change(node, 'geometry not relaxed', {'relaxation': 'continued'}, continued=True)

    @process_handler(priority=90, exit_codes=_CODES.SPLIT_NORM)
    def handle_error_split_norm(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Set the least split norm that SIESTA accepts; if none was requested, let SIESTA choose it."""
        basis = FDFDict(self.ctx.inputs['basis'].get_dict() if 'basis' in self.ctx.inputs else {})
        least = re.findall(r'Minimum split_norm parameter:\s*([\d.]+\d)', read_output(node))
        if 'pao-split-norm' in basis and least:
            basis['pao-split-norm'] = round(float(least[-1]) + SPLIT_NORM_STEP, 5)
            changes = {'split norm': f'{basis["pao-split-norm"]:g}'}
        elif 'pao-split-tail-norm' not in basis:
            basis['pao-split-tail-norm'] = True
            changes = {'split tail norm': 'on'}
        else:
            return self._give_up(self.exit_codes.ERROR_BASIS_REFUSED, node)
        return self._change(node, 'split norm too small', changes, basis=basis)

    @process_handler(priority=89, exit_codes=_CODES.BASIS_POLARIZ)
    def handle_error_basis_pol(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Confine the orbitals by SIESTA's default energy shift, if the basis requests a smaller one."""
        basis = FDFDict(self.ctx.inputs['basis'].get_dict() if 'basis' in self.ctx.inputs else {})
        shift = energy_shift_ry(basis)
        if '%block pao-basis' in basis or shift is None or shift >= USUAL_ENERGY_SHIFT_RY:
            return self._give_up(self.exit_codes.ERROR_BASIS_REFUSED, node)
        basis['pao-energy-shift'] = f'{USUAL_ENERGY_SHIFT_RY:g} Ry'
        changes = {'energy shift': f'{USUAL_ENERGY_SHIFT_RY:g} Ry'}
        return self._change(node, 'orbitals too wide to be polarized', changes, basis=basis)

    @process_handler(priority=60, exit_codes=_CODES.ERROR_WALL_TIME)
    def handle_wall_time(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Double the wall time, up to a limit, and continue from the density matrix if there is one."""
        longer = self._longer_wall_time()
        if longer is None:
            return self._give_up(self.exit_codes.ERROR_WALL_TIME_EXHAUSTED, node)
        continued = len(scf_residuals(read_output(node))) > 1
        changes = {'wall time': f'{longer} s' + (', going on from the density matrix' if continued else '')}
        return self._change(node, 'wall time exceeded', changes, continued=continued or None)

    @process_handler(priority=50, exit_codes=_CODES.UNEXPECTED_TERMINATION)
    def handle_unexpected_termination(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Submit the same run again, once."""
        return self._run_again(node, 'UNEXPECTED_TERMINATION', 1)

    @process_handler(
        priority=40,
        exit_codes=[_CODES[name] for name in ('ERROR_STOPPED', 'ERROR_PSEUDOPOTENTIAL', 'ERROR_BASIS', 'ERROR_START')],
    )
    def handle_refusal(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Stop: SIESTA would refuse the same run again."""
        refused = node.exit_status == _CODES.ERROR_BASIS.status
        code = self.exit_codes.ERROR_BASIS_REFUSED if refused else self.exit_codes.ERROR_RUN_REFUSED
        return self._give_up(code, node)

    def _change(
        self,
        node: orm.CalcJobNode,
        what: str,
        changes: Mapping[str, str],
        *,
        parameters: FDFDict | None = None,
        basis: FDFDict | None = None,
        continued: bool | None = None,
    ) -> ProcessHandlerReport:
        """Set the inputs of the next run, and the changes that its label states.

        :param node: the failed run.
        :param what: its failure, for the report.
        :param changes: new value of each quantity that is changed.
        :param parameters: fdf keys of the next run, if they change.
        :param basis: fdf keys of its basis, if they change.
        :param continued: whether it begins with the density matrix of the failed run; None: it begins as that one did.
        """
        for name, content in (('parameters', parameters), ('basis', basis)):
            if content is not None:
                self.ctx.inputs[name] = orm.Dict(dict(content.get_untranslated_dict()))
        if continued:
            self.ctx.inputs['parent_calc_folder'] = node.outputs.remote_folder
        elif continued is False:
            self.ctx.inputs.pop('parent_calc_folder', None)
        if continued is not None:
            # The given density is not used again: it led nowhere, or would replace the density matrix.
            self.ctx.inputs.pop('start', None)
        return self._cure(node, what, changes)

    def _give_up(self, code: ExitCode, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """End the workchain; a density that was not used is a reason that the label does not state."""
        if node.exit_status == _CODES.ERROR_START.status:
            return ProcessHandlerReport(True, code.format(reason=node.exit_message))
        return super()._give_up(code, node)


def read_output(node: orm.CalcJobNode) -> str:
    """Return the standard output of a run; an empty text if it was not retrieved."""
    try:
        content: bytes = node.outputs.retrieved.base.repository.get_object_content(
            node.get_option('output_filename'), mode='rb'
        )
    except FileNotFoundError:
        return ''
    return content.decode('utf-8', errors='replace')


def scf_residuals(text: str) -> list[float]:
    """Return the largest change of the Hamiltonian (eV) in each iteration of the last self-consistency cycle.

    :param text: standard output of SIESTA.
    """
    cycle = text.rpartition('iscf')[2]
    return [float(value) for value in re.findall(r'^\s*scf:\s+\d+(?:\s+\S+){5}\s+(\d\S*)$', cycle, re.MULTILINE)]


def energy_shift_ry(basis: Mapping[str, Any]) -> float | None:
    """Return the energy shift of a basis in Ry; None if there is none, or its unit is unknown.

    :param basis: fdf keys.
    """
    try:
        return Fdf.from_keywords(basis).get_quantity('PAO.EnergyShift', 'Ry')
    except EngineError:
        return None


def temperature_kelvin(settings: Mapping[str, Any]) -> float:
    """Return the electronic temperature of an input in K; SIESTA's default if there is none.

    :param settings: fdf keys.
    :returns: infinity if the unit is unknown: such a temperature must not be lowered.
    """
    try:
        return Fdf.from_keywords(settings).get_quantity(
            'ElectronicTemperature', 'K', SIESTA_DEFAULTS.electronic_temperature_kelvin
        )
    except EngineError:
        return math.inf


def shared(node: orm.Data) -> orm.Data:
    """Return the stored node with the same content, if there is one: many runs have the same inputs.

    AiiDA has a public way to find equal nodes for stored nodes only (``base.caching.get_all_same_nodes``): the extra in
    which it keeps the hash is private, and was checked with aiida-core 2.9.4.

    :param node: not stored.
    """
    same = orm.QueryBuilder().append(
        type(node),
        filters={'extras._aiida_hash': make_hash(node.base.caching.get_objects_to_hash())},
        subclassing=False,
    )
    found = same.first(flat=True)
    return node if found is None else found


def validate_inputs(inputs: Mapping[str, Any], port: Any) -> str | None:
    """Check structure, pseudopotentials and density to begin with, before anything is submitted."""
    if 'structure' not in inputs or 'parameters' not in inputs:
        return None  # the ports themselves complain
    try:
        text = validate_run(inputs, _pseudos_by_kind(inputs))
    except NanomlError as error:
        return str(error)
    text = text or validate_siesta_inputs(inputs, port)
    return None if text is None else str(text)


def _pseudos_by_kind(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pseudopotentials that are given, or those of the family."""
    pseudos = dict(inputs.get('pseudos') or {})
    if pseudos or 'pseudo_family' not in inputs or inputs.get('ions'):
        return pseudos
    kinds = inputs['structure'].kinds
    found = family_pseudos(
        inputs['pseudo_family'].value, {kind.symbol for kind in kinds}, SiestaEngine.pseudopotential_formats
    )
    return {kind.name: found[kind.symbol] for kind in kinds}


def _number(settings: Mapping[str, Any], key: str, default: float) -> float:
    return float(str(settings[key]).split()[0]) if key in settings else default
