"""Base of the workchains that run a program through another plugin of AiiDA, and read the label as the engine does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from aiida import orm
from aiida.engine import BaseRestartWorkChain, ExitCode
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.functions.programs import read_program_run
from aiida_nanoml.calculations.functions.siesta import PSEUDO
from aiida_nanoml.calculations.program import engine_of_inputs
from aiida_nanoml.calculations.pseudopotentials import family_pseudos
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines.program import ProgramEngine
from aiida_nanoml.errors import EngineError, EvaluationError
from aiida_nanoml.structures import Structure

_START = {'restart_mode', 'startingpot', 'startingwfc', 'max_seconds', 'RESTART_FILE_NAME', 'SCF_GUESS', 'WALLTIME'}
"""Words of an input that say where a run begins and when it ends, and nothing about its numbers."""


@dataclass(frozen=True)
class RequestedEngine:
    """An engine with the requested parameters, its pseudopotentials by element, and the source of its labels."""

    engine: Any
    pseudos: Mapping[str, orm.SinglefileData]
    source: dict[str, Any]


class LabelReadingWorkChain(BaseRestartWorkChain):
    """Base workflow of another plugin, with a label as output.

    The input is that of the engine, so that the label has the source of a batch; what the base workflow changed stands
    in its message.
    """

    _ENGINE: ClassVar[type[ProgramEngine]]
    _FILES: ClassVar[Mapping[str, str]]
    """Where the engine looks for the files that the plugin retrieves."""
    _PLUGIN: ClassVar[str]

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Extend the inputs, outputs and exit codes of the base workflow."""
        super().define(spec)
        spec.input(
            'source',
            valid_type=orm.Dict,
            help='`protocol`, and all `parameters` of the engine, that the label is to carry.',
        )
        spec.output('labels', valid_type=LabelSetData, required=False, help='The label of the structure in one row.')
        spec.exit_code(590, 'ERROR_NO_LABEL', message='The run ended well, but has no label: {reason}')

    @classmethod
    @contextmanager
    def requested_engine(
        cls,
        engine: str,
        structure: Structure,
        pseudos: Mapping[str, orm.SinglefileData] | None,
        pseudo_family: str | None,
        protocol: str | None,
        overrides: Mapping[str, Any] | None,
    ) -> Iterator[RequestedEngine]:
        """Make the engine of a protocol, and check that it takes the structure.

        :param engine: registered name of the engine, which is that of the workflow.
        :param pseudos: pseudopotentials by element; None: those of the family, if the engine takes any.
        :raises EngineError: another engine, an unknown protocol or parameter, or what the engine refuses.
        """
        kind = cls._ENGINE
        if engine != kind.name:
            raise EngineError(f'the workflow nanoml.{kind.name} runs the engine {kind.name}, not {engine}')
        symbols = set(structure.symbols)
        if pseudos is None and kind.pseudopotential_formats:
            pseudos = family_pseudos(pseudo_family, symbols, kind.pseudopotential_formats)
        used = {symbol: pseudos[symbol] for symbol in sorted(symbols & set(pseudos or {}))} if pseudos else {}
        name = kind.default_protocol() if protocol is None else protocol
        inputs = {'engine': orm.Str(engine), 'protocol': orm.Str(name), 'pseudos': used}
        if overrides:
            inputs['parameters'] = orm.Dict(dict(overrides))
        with engine_of_inputs(inputs) as made:
            try:
                made.check(structure)
            except EvaluationError as error:
                raise EngineError(f'{error.code}: {error.message}') from error
            yield RequestedEngine(made, used, {'protocol': name, 'parameters': made.settings.model_dump()})

    def inspect_process(self) -> ExitCode | None:
        """Inspect the last run; if no restart is left, output the reason as its label."""
        result: ExitCode | None = super().inspect_process()
        if isinstance(result, ExitCode) and result.status:
            self._read_label()
        return result

    def results(self) -> ExitCode | None:
        """Output the results of the last run, and its label."""
        result: ExitCode | None = super().results()
        reason = self._read_label()
        return self.exit_codes.ERROR_NO_LABEL.format(reason=reason) if reason and not result else result

    def _read_label(self) -> str:
        """Output the label of the last run, and return why there is none."""
        first, last = self.ctx.children[0], self.ctx.children[self.ctx.iteration - 1]
        if 'retrieved' not in last.outputs:
            return 'nothing was retrieved'
        changes = describe_changes(first.inputs.parameters.get_dict(), last.inputs.parameters.get_dict())
        run = {
            'engine': self._ENGINE.name,
            **self.inputs.source.get_dict(),
            'files': dict(self._FILES),
            'recovery': '' if last.pk == first.pk else ', '.join([*changes, f'run again by {self._PLUGIN}']),
        }
        pseudos = {}
        if self._ENGINE.pseudopotential_formats:
            kinds = {kind.name: kind.symbol for kind in last.inputs.structure.kinds}
            pseudos = {f'{PSEUDO}{kinds[name]}': node for name, node in last.inputs.pseudos.items()}
        labels, node = read_program_run.run_get_node(
            retrieved=last.outputs.retrieved, structure=last.inputs.structure, run=orm.Dict(run), **pseudos
        )
        if not node.is_finished_ok:
            return str(node.exit_message)
        self.out('labels', labels)
        return '' if labels.labels.finished[0] else str(labels.labels.messages[0])


def describe_changes(first: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    """Return what the input of the last run has otherwise than that of the first one, each word with its new value."""
    changes: list[str] = []
    for word, value in last.items():
        before = first.get(word)
        if isinstance(value, Mapping):
            changes += describe_changes(before if isinstance(before, Mapping) else {}, value)
        elif word not in _START and before != value:
            changes.append(f'{word} {value:g}' if isinstance(value, float) else f'{word} {value}')
    return changes
