"""Workchain to run CP2K for one structure through aiida-cp2k, with its error handling, and a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ProcessHandlerReport, process_handler
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.functions.programs import box_for_cp2k
from aiida_nanoml.calculations.functions.siesta import structure_of_node
from aiida_nanoml.engines.cp2k.engine import Cp2kEngine
from aiida_nanoml.engines.cp2k.input_writing import PROJECT, Section, input_tree
from aiida_nanoml.engines.cp2k.output import read_iterations
from aiida_nanoml.engines.program import OUTPUT_FILE
from aiida_nanoml.errors import EvaluationError
from aiida_nanoml.workflows.builders import single_run_options
from aiida_nanoml.workflows.label_reading import LabelReadingWorkChain
from aiida_nanoml.workflows.recovery import GROWTH, LARGEST_GROWTH

try:
    from aiida_cp2k.workchains.base import Cp2kBaseWorkChain
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the workflow nanoml.cp2k needs aiida-cp2k, which is not installed: pip install 'aiida-nanoml[cp2k]'; the "
        'workflow nanoml.program runs CP2K without it',
        name=error.name,
    ) from error


class Cp2kWorkChain(LabelReadingWorkChain, Cp2kBaseWorkChain):  # type: ignore[misc]
    """Run CP2K for one structure by the base workflow of aiida-cp2k, and read the label as the engine does.

    The input is that of the engine ``cp2k``, so that the label has the source of a batch.
    """

    _ENGINE = Cp2kEngine
    _FILES: ClassVar[Mapping[str, str]] = {name: name for name in (OUTPUT_FILE, *Cp2kEngine.results)}
    _PLUGIN = 'aiida-cp2k'

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define the exit code of a self-consistency that the base workflow takes for one that ended well."""
        super().define(spec)
        spec.exit_code(510, 'ERROR_SCF_NOT_CONVERGED', message='No self-consistency after all restarts: {reason}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        engine: str = Cp2kEngine.name,
        pseudos: Mapping[str, orm.SinglefileData] | None = None,
        pseudo_family: str | None = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol of the engine ``cp2k``.

        :param code: the executable of CP2K.
        :param structure: isolated ones are put into the box of the engine when the workflow begins.
        :param engine: registered name of the engine, which is ``cp2k``.
        :param pseudos: empty: CP2K brings them.
        :param pseudo_family: None, for the same reason.
        :param protocol: a protocol of the engine; None: the default one.
        :param overrides: parameters of the engine that replace those of the protocol.
        :param options: options of each run; without any, one process and one hour.
        :raises EngineError: another engine, an unknown protocol or parameter, or a structure that the engine refuses.
        """
        usual = single_run_options(code, options)
        found = structure_of_node(structure)
        with cls.requested_engine(engine, found, pseudos, pseudo_family, protocol, overrides) as requested:
            tree = input_tree(found, requested.engine.settings, usual['max_wallclock_seconds'], keeps_orbitals=True)
        # The structure is an input of its own.
        del tree['FORCE_EVAL']['SUBSYS']['COORD']
        builder = cls.get_builder()
        builder.cp2k.code = code
        builder.cp2k.structure = structure
        builder.cp2k.parameters = orm.Dict(cp2k_parameters(tree))
        builder.cp2k.settings = orm.Dict({'additional_retrieve_list': list(Cp2kEngine.results)})
        builder.cp2k.metadata.options = usual
        builder.handler_overrides = orm.Dict({'restart_incomplete_calculation': {'enabled': True}})
        builder.source = orm.Dict(requested.source)
        return builder

    def setup(self) -> None:
        """Put an isolated structure into the box of the engine."""
        super().setup()
        if not any(self.ctx.inputs.structure.pbc):
            self.ctx.inputs.structure = box_for_cp2k(
                self.ctx.inputs.structure, orm.Dict(self.inputs.source['parameters'])
            )

    @process_handler(priority=410, exit_codes=ExitCode(0))
    def handle_not_converged(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Double the iterations, up to a limit, and continue: versions that do not abort end well all the same."""
        text = node.outputs.retrieved.base.repository.get_object_content(OUTPUT_FILE, mode='rb')
        try:
            read_iterations(text.decode('utf-8', errors='replace'))
            return None
        except EvaluationError as error:
            reason = error.message
        parameters = self.ctx.inputs.parameters.get_dict()
        dft = parameters['FORCE_EVAL']['DFT']
        more = int(dft['SCF']['MAX_SCF']) * GROWTH
        if more > self.inputs.source['parameters']['max_scf_iterations'] * LARGEST_GROWTH:
            return ProcessHandlerReport(True, self.exit_codes.ERROR_SCF_NOT_CONVERGED.format(reason=reason))
        dft['SCF'] |= {'MAX_SCF': str(more), 'SCF_GUESS': 'RESTART'}
        dft['RESTART_FILE_NAME'] = f'./parent_calc/{PROJECT}-RESTART.{"kp" if "KPOINTS" in dft else "wfn"}'
        self.ctx.inputs.parameters = orm.Dict(parameters)
        self.ctx.inputs.parent_calc_folder = node.outputs.remote_folder
        self.report(f'{node.process_label}<{node.pk}>: {reason}; next: {more} iterations')
        return ProcessHandlerReport(True)


def cp2k_parameters(tree: Section) -> Section:
    """Return the sections of an input as aiida-cp2k takes them: the parameter of a section stands under ``_``."""
    return {name or '_': _converted(value) for name, value in tree.items()}


def _converted(value: Any) -> Any:
    if isinstance(value, dict):
        return cp2k_parameters(value)
    return [_converted(one) for one in value] if isinstance(value, list) else value
