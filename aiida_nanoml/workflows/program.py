"""Workchain to run the program of an engine for one structure, with automated error handling and restarts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ProcessBuilder, ProcessHandlerReport, process_handler, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.base import optional_value, run_failure
from aiida_nanoml.calculations.functions.siesta import structure_of_node
from aiida_nanoml.calculations.program import ProgramCalculation, engine_of_inputs, validate_inputs
from aiida_nanoml.calculations.pseudopotentials import family_pseudos
from aiida_nanoml.engines.program import THREAD_VARIABLES
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.workflows.base import validate_options
from aiida_nanoml.workflows.builders import single_run_options
from aiida_nanoml.workflows.recovery import CAREFUL_TEMPERATURE_K, GROWTH, LARGEST_GROWTH, RecoveringWorkChain

_CODES = ProgramCalculation.exit_codes

ITERATIONS = 'max_scf_iterations'
TEMPERATURE = 'electronic_temperature_kelvin'


class ProgramWorkChain(RecoveringWorkChain):
    """Run the program of an engine for one structure, and again with a cure if there is one for its failure."""

    _process_class = ProgramCalculation

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define inputs, outline and outputs."""
        super().define(spec)
        spec.expose_inputs(ProgramCalculation, exclude=('metadata', 'parent_folder', 'changed_parameters'))
        spec.input(
            'options',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_options,
            help='Options of each run: resources, wall time (needed), queue, …',
        )
        spec.inputs['max_iterations'].default = lambda: orm.Int(10)
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(
                cls.run_process,
                cls.inspect_process,
            ),
            cls.results,
        )
        spec.expose_outputs(ProgramCalculation)

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        engine: str,
        pseudos: Mapping[str, orm.SinglefileData] | None = None,
        pseudo_family: str | None = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol of an engine.

        :param code: the program.
        :param structure: isolated ones are put into a box by the engine.
        :param engine: registered name of the engine.
        :param pseudos: pseudopotentials by element.
        :param pseudo_family: label of the family that has them, in place of ``pseudos``; None: the default one.
        :param protocol: a protocol of the engine; None: the default one.
        :param overrides: parameters of the engine that replace those of the protocol.
        :param options: options of each run; without any, one process with one thread, and one hour.
        :raises EngineError: unknown engine, or a pseudopotential that the family does not have.
        """
        kind = get_engine(engine)
        symbols = set(structure_of_node(structure).symbols)
        if kind.pseudopotential_formats and pseudos is None:
            pseudos = family_pseudos(pseudo_family, symbols, kind.pseudopotential_formats)
        one_thread = {'environment_variables': dict.fromkeys(THREAD_VARIABLES, '1')}
        builder = cls.get_builder()
        builder.code = code
        builder.structure = structure
        builder.engine = engine
        builder.protocol = kind.default_protocol() if protocol is None else protocol
        if overrides:
            builder.parameters = dict(overrides)
        if pseudos:
            builder.pseudos = {element: node for element, node in pseudos.items() if element in symbols}
        builder.options = one_thread | single_run_options(code, options)
        return builder

    def setup(self) -> None:
        """Prepare the inputs of the first run."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(ProgramCalculation))
        self.ctx.inputs.metadata = {'options': self.inputs.options.get_dict()}

    @process_handler(priority=80, exit_codes=[_CODES.ERROR_SCF_UNFINISHED, _CODES.ERROR_SCF_NOT_CONVERGED])
    def handle_not_converged(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Continue if the SCF still converges; else make it steadier; else raise the electronic temperature."""
        with engine_of_inputs(self.ctx.inputs) as engine, engine_of_inputs(self.inputs) as asked:
            settings, steadier, requested = engine.settings.model_dump(), engine.steadier(), asked.settings.model_dump()
        # An engine of another package may have other parameters: a missing one is no cure.
        more, most = settings.get(ITERATIONS, 0) * GROWTH, requested.get(ITERATIONS, 0) * LARGEST_GROWTH
        if node.exit_status == _CODES.ERROR_SCF_UNFINISHED.status and 0 < more <= most:
            changes = {'iterations': str(more)}
            return self._change(node, 'SCF still converging', changes, {ITERATIONS: more}, continued=True)
        if steadier:
            # Small steps need more iterations.
            changes = describe_changes(settings, steadier)
            if more:
                steadier[ITERATIONS] = max(settings[ITERATIONS], requested[ITERATIONS] * GROWTH)
                changes['iterations'] = str(steadier[ITERATIONS])
            return self._change(node, 'SCF oscillates', changes, steadier, continued=False)
        if settings.get(TEMPERATURE, CAREFUL_TEMPERATURE_K) < CAREFUL_TEMPERATURE_K:
            changes = {'electronic temperature': f'{CAREFUL_TEMPERATURE_K:g} K'}
            return self._change(node, 'SCF oscillates', changes, {TEMPERATURE: CAREFUL_TEMPERATURE_K}, continued=False)
        return self._give_up(self.exit_codes.ERROR_SCF_NOT_CONVERGED, node)

    @process_handler(priority=60, exit_codes=[run_failure('ERROR_WALL_TIME'), _CODES.ERROR_STOPPED_IN_TIME])
    def handle_wall_time(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Double the wall time, up to a limit, and continue if the program stopped itself in time."""
        longer = self._longer_wall_time()
        if longer is None:
            return self._give_up(self.exit_codes.ERROR_WALL_TIME_EXHAUSTED, node)
        continued = node.exit_status == _CODES.ERROR_STOPPED_IN_TIME.status
        return self._change(node, 'wall time exceeded', {'wall time': f'{longer} s'}, {}, continued=continued)

    @process_handler(
        priority=40,
        exit_codes=[run_failure('ERROR_STOPPED'), _CODES.ERROR_PSEUDOPOTENTIAL, _CODES.ERROR_BASIS],
    )
    def handle_refusal(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Stop: the program would refuse the same run again."""
        return self._give_up(self.exit_codes.ERROR_RUN_REFUSED, node)

    def _change(
        self,
        node: orm.CalcJobNode,
        what: str,
        changes: Mapping[str, str],
        parameters: Mapping[str, Any],
        *,
        continued: bool,
    ) -> ProcessHandlerReport:
        """Set the inputs of the next run, and the changes that its label states.

        :param node: the failed run.
        :param what: its failure, for the report.
        :param changes: new value of each quantity that is changed.
        :param parameters: parameters of the engine that change.
        :param continued: whether it begins with what the failed run left, if the engine can do so.
        """
        self.ctx.inputs.pop('parent_folder', None)
        if continued and get_engine(self.inputs.engine.value).restart:
            self.ctx.inputs['parent_folder'] = node.outputs.remote_folder
            first, value = next(iter(changes.items()))
            changes = dict(changes) | {first: f'{value}, going on from the failed run'}
        if parameters:
            changed = optional_value(self.ctx.inputs, 'changed_parameters', {})
            self.ctx.inputs['changed_parameters'] = orm.Dict(changed | dict(parameters))
        return self._cure(node, what, changes)


def describe_changes(before: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters that changed and their new values, in the words of a message; mappings word by word.

    :param before: all parameters.
    :param changed: those that were replaced.
    """
    found: dict[str, str] = {}
    for name, value in changed.items():
        if isinstance(value, Mapping):
            found |= describe_changes(before[name], value)
        elif before.get(name) != value:
            found[name.replace('_', ' ')] = f'{value:g}' if isinstance(value, float) else str(value)
    return found
