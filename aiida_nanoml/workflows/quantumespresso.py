"""Workchain to run pw.x for one structure through aiida-quantumespresso, with its error handling, and a label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_nanoml.calculations.functions.programs import read_program_run
from aiida_nanoml.calculations.functions.siesta import PSEUDO, structure_of_node
from aiida_nanoml.calculations.program import engine_of_inputs
from aiida_nanoml.calculations.pseudopotentials import family_pseudos
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines.program import OUTPUT_FILE
from aiida_nanoml.engines.quantumespresso.engine import CRASH_FILE, XML_FILE, QuantumEspressoEngine
from aiida_nanoml.engines.quantumespresso.parameters import CARDS
from aiida_nanoml.errors import EngineError, EvaluationError
from aiida_nanoml.structures import place

try:
    from aiida_quantumespresso.workflows.pw.base import PwBaseWorkChain
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'the workflow nanoml.quantumespresso needs aiida-quantumespresso, which is not installed: '
        "pip install 'aiida-nanoml[quantumespresso]'; the workflow nanoml.program runs pw.x without it",
        name=error.name,
    ) from error

FILES = {OUTPUT_FILE: OUTPUT_FILE, 'data-file-schema.xml': XML_FILE, CRASH_FILE: CRASH_FILE}
"""Where the engine looks for the files that aiida-quantumespresso retrieves."""

_SET_BY_PLUGIN = {'control': ('prefix', 'outdir', 'pseudo_dir', 'max_seconds'), 'system': ('ibrav', 'nat', 'ntyp')}
_START = {'restart_mode', 'startingpot', 'startingwfc', 'max_seconds'}
"""Words of an input that say where a run begins and when it ends, and nothing about its numbers."""


class QuantumEspressoWorkChain(PwBaseWorkChain):  # type: ignore[misc]
    """Run pw.x for one structure by the base workflow of aiida-quantumespresso, and read the label as the engine does.

    The input is that of the engine ``quantumespresso``, so that the label has the source of a batch; what the base
    workflow changed stands in its message.
    """

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
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        engine: str = QuantumEspressoEngine.name,
        pseudos: Mapping[str, orm.SinglefileData] | None = None,
        pseudo_family: str | None = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol of the engine ``quantumespresso``.

        :param code: the executable of pw.x.
        :param structure: an isolated one in the box that the engine puts it in, see ``nanoml.place_structures``.
        :param engine: registered name of the engine, which is ``quantumespresso``.
        :param pseudos: pseudopotentials by element.
        :param pseudo_family: label of the family that has them, in place of ``pseudos``; None: the default one.
        :param protocol: a protocol of the engine; None: the default one.
        :param overrides: parameters of the engine that replace those of the protocol.
        :param options: options of each run; without any, one process and one hour.
        :raises EngineError: another engine, an unknown protocol or parameter, an isolated structure in another box,
            further cards of the input, or a structure or pseudopotential that the engine refuses.
        """
        if engine != QuantumEspressoEngine.name:
            raise EngineError(f'the workflow nanoml.quantumespresso runs {QuantumEspressoEngine.name}, not {engine}')
        found = structure_of_node(structure)
        if pseudos is None:
            pseudos = family_pseudos(pseudo_family, found.symbols, QuantumEspressoEngine.pseudopotential_formats)
        pseudos = {symbol: pseudos[symbol] for symbol in sorted(set(found.symbols) & set(pseudos))}
        name = QuantumEspressoEngine.default_protocol() if protocol is None else protocol
        inputs = {'engine': orm.Str(engine), 'protocol': orm.Str(name), 'pseudos': pseudos}
        if overrides:
            inputs['parameters'] = orm.Dict(dict(overrides))
        with engine_of_inputs(inputs) as made:
            settings = made.settings
            try:
                made.check(found)
            except EvaluationError as error:
                raise EngineError(f'{error.code}: {error.message}') from error
            placed = place(found, settings.vacuum_ang)
            namelists = made.namelists(placed)
        if not np.allclose(placed.cell, found.cell, atol=1e-6) or not np.allclose(placed.positions, found.positions):
            raise EngineError(
                f'the structure is not in a box with a vacuum of {settings.vacuum_ang:g} Å: make one with the '
                'calculation function nanoml.place_structures'
            )
        cards = [card for card in CARDS if card in settings.extra]
        if cards:
            raise EngineError(f'aiida-quantumespresso takes no card {cards[0]} in extra: use nanoml.program')
        sampling = settings.mesh(placed)
        kpoints = orm.KpointsData()
        kpoints.set_kpoints_mesh(*(([1, 1, 1], [0.0, 0.0, 0.0]) if sampling is None else sampling))
        builder = cls.get_builder()
        builder.pw.code = code
        builder.pw.structure = structure
        builder.pw.pseudos = {kind.name: pseudos[kind.symbol] for kind in structure.kinds}
        builder.pw.parameters = orm.Dict(pw_parameters(namelists, [kind.name for kind in structure.kinds]))
        if sampling is None:
            builder.pw.settings = orm.Dict({'GAMMA_ONLY': True})
        usual = {
            'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
            'max_wallclock_seconds': 3600,
            'withmpi': bool(code.with_mpi),
        }
        builder.pw.metadata.options = usual | dict(options or {})
        builder.kpoints = kpoints
        builder.source = orm.Dict({'protocol': name, 'parameters': settings.model_dump()})
        return builder

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
        kinds = {kind.name: kind.symbol for kind in last.inputs.structure.kinds}
        run = {
            'engine': QuantumEspressoEngine.name,
            **self.inputs.source.get_dict(),
            'files': FILES,
            'recovery': describe_restarts(first.inputs.parameters.get_dict(), last.inputs.parameters.get_dict())
            if last.pk != first.pk
            else '',
        }
        pseudos = {f'{PSEUDO}{kinds[name]}': node for name, node in last.inputs.pseudos.items()}
        labels, node = read_program_run.run_get_node(
            retrieved=last.outputs.retrieved, structure=last.inputs.structure, run=orm.Dict(run), **pseudos
        )
        if not node.is_finished_ok:
            return str(node.exit_message)
        self.out('labels', labels)
        return '' if labels.labels.finished[0] else str(labels.labels.messages[0])


def pw_parameters(namelists: Mapping[str, Mapping[str, str]], kinds: list[str]) -> dict[str, dict[str, Any]]:
    """Return namelists as aiida-quantumespresso takes them: values of Python, and those of a kind by its name.

    :param namelists: the value of each word, as pw.x reads it.
    :param kinds: names of the kinds, in the order of the input.
    """
    parameters: dict[str, dict[str, Any]] = {}
    for namelist, words in namelists.items():
        values = parameters.setdefault(namelist.upper(), {})
        for word, text in words.items():
            if word in _SET_BY_PLUGIN.get(namelist, ()):
                continue
            indexed = re.fullmatch(r'(\w+)\((\d+)\)', word)
            if indexed:
                values.setdefault(indexed[1], {})[kinds[int(indexed[2]) - 1]] = _to_python(text)
            else:
                values[word] = _to_python(text)
    return parameters


def describe_restarts(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """Return what the parameters of the last run have otherwise than those of the first one, in words of a message."""
    changes = [
        f'{word} {value:g}' if isinstance(value, float) else f'{word} {value}'
        for namelist, words in last.items()
        for word, value in words.items()
        if word not in _START and first.get(namelist, {}).get(word) != value
    ]
    return ', '.join([*changes, 'run again by aiida-quantumespresso'])


def _to_python(text: str) -> Any:
    if text.lower() in ('.true.', '.false.'):
        return text.lower() == '.true.'
    if text.startswith(("'", '"')):
        return text.strip('\'"')
    return int(text) if re.fullmatch(r'[+-]?\d+', text) else float(text.lower().replace('d', 'e'))
