"""What the builders of several workflows share: codes, pseudopotentials, labelling and model of a protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from aiida import orm

from aiida_nanoml.calculations.pseudopotentials import program_inputs
from aiida_nanoml.engines.registry import get_engine
from aiida_nanoml.errors import EngineError
from aiida_nanoml.worker import WORKER
from aiida_nanoml.workflows.protocols import protocol_inputs, protocol_names

FLAKE_ELEMENTS = frozenset({'H', 'B', 'C', 'N'})


def label_inputs_with_codes(
    code: orm.AbstractCode | None,
    *,
    engine: str,
    elements: Iterable[str],
    protocol: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    engine_code: orm.InstalledCode | None = None,
    pseudo_family: str | None = None,
) -> dict[str, Any]:
    """Return all inputs of ``nanoml.label`` but the structures.

    :param code: the executable ``nanoml-worker``; for an engine that runs a program, this program does as well.
    :param engine: registered name of the engine.
    :param elements: chemical symbols that the structures hold.
    :param protocol: as of :func:`label_inputs`.
    :param overrides: inputs that replace those of the protocol.
    :param options: scheduler options of each batch.
    :param engine_code: the program of an engine that runs one. Without ``code``, the worker on its computer is taken;
        if there is none, each structure has a run of its own if the engine has such runs.
    :param pseudo_family: label of the family that has the pseudopotentials of the elements; None: the default one.
    :raises ProtocolError: unknown protocol or override.
    :raises EngineError: the family does not exist or lacks an element; or there is no worker, and the engine needs one.
    """
    if get_engine(engine).runs_program and engine_code is None and code is not None and not _is_worker(code):
        code, engine_code = None, code
    inputs: dict[str, Any] = label_inputs(
        engine, protocol, overrides, elements=elements, engine_code=engine_code, pseudo_family=pseudo_family
    )
    if code is None and engine_code is not None:
        code = _worker_beside(engine_code)
        if code is None and not get_engine(engine).single_run:
            raise EngineError(
                f'the engine {engine} is run by {WORKER}, and no code of that name is on {engine_code.computer.label}: '
                '`aiida-nanoml doctor --fix` makes it here, `verdi code create core.code.installed` elsewhere'
            )
        if code is None and not (overrides or {}).get('mode'):
            inputs['mode'] = orm.Str('single')
    if code is not None:
        inputs['code'] = code
    return inputs | {'options': orm.Dict(dict(options or {}))}


def label_inputs(
    engine: str,
    protocol: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    elements: Iterable[str] = (),
    engine_code: orm.InstalledCode | None = None,
    pseudo_family: str | None = None,
) -> dict[str, Any]:
    """Return the inputs of ``nanoml.label`` that engine, protocol and program decide.

    :param engine: registered name of the engine.
    :param protocol: ``fast``, ``balanced``, ``stringent``, or another one of the engine; None: the default one.
    :param overrides: inputs that replace those of the protocol.
    :param elements: chemical symbols that the structures hold.
    :param engine_code: the program of an engine that runs one.
    :param pseudo_family: label of the family that has the pseudopotentials of the elements; None: the default one.
    :raises ProtocolError: unknown protocol or override.
    :raises EngineError: the family does not exist or lacks an element.
    """
    of_engine = (
        protocol is not None and protocol not in protocol_names('label') and protocol in get_engine(engine).protocols()
    )
    inputs = protocol_inputs('label', None if of_engine else protocol, overrides)
    nodes: dict[str, Any] = {
        'engine': orm.Str(engine),
        'protocol': orm.Str(protocol if of_engine else inputs['engine_protocol']),
        'time_limit_s': orm.Float(inputs['time_limit_s']),
        'mode': orm.Str(inputs['mode']),
        'batch_size': orm.Int(inputs['batch_size']),
        'max_concurrent': orm.Int(inputs['max_concurrent']),
        'max_rounds': orm.Int(inputs['max_rounds']),
    }
    if inputs['parameters']:
        nodes['parameters'] = orm.Dict(inputs['parameters'])
    if inputs['program_processes'] is not None:
        nodes['program_processes'] = orm.Int(inputs['program_processes'])
    if inputs['single_run'] is not None:
        nodes['single_run'] = orm.Str(inputs['single_run'])
    if inputs['densities']:
        nodes['densities'] = orm.Bool(inputs['densities'])
    if inputs['mesh_spacing_ang'] is not None:
        nodes['mesh_spacing_ang'] = orm.Float(inputs['mesh_spacing_ang'])
    return nodes | program_inputs(get_engine(engine), engine_code, pseudo_family, elements)


def model_inputs(
    inputs: Mapping[str, Any], *, protocol_kind: str, overrides: Mapping[str, Any] | None
) -> dict[str, orm.Data]:
    """Return kind and hyperparameters of the model; those of the protocol belong to its own kind only.

    :param inputs: ``kind`` and ``hyperparameters`` of the protocol with the overrides.
    :param protocol_kind: kind of the protocol without them.
    :param overrides: inputs that replace those of the protocol.
    """
    hyperparameters = inputs['hyperparameters']
    if inputs['kind'] != protocol_kind:
        hyperparameters = (overrides or {}).get('hyperparameters', {})
    nodes: dict[str, orm.Data] = {'kind': orm.Str(inputs['kind'])}
    return nodes | ({'hyperparameters': orm.Dict(hyperparameters)} if hyperparameters else {})


def single_run_options(code: orm.AbstractCode, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options of the run of one structure: one process and one hour where nothing else is asked for."""
    usual = {
        'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
        'max_wallclock_seconds': 3600,
        'withmpi': bool(code.with_mpi),
    }
    return usual | dict(options or {})


def elements_of(*nodes: orm.Data | None) -> set[str]:
    """Return the chemical symbols in all of the sets of structures; those of flakes if there is no set."""
    given = [node for node in nodes if node is not None]
    return {symbol for node in given for symbol in node.base.attributes.get('elements')} or set(FLAKE_ELEMENTS)


def _is_worker(code: orm.AbstractCode) -> bool:
    return code.label == WORKER or PurePosixPath(str(getattr(code, 'filepath_executable', ''))).name == WORKER


def _worker_beside(program: orm.InstalledCode) -> orm.AbstractCode | None:
    """Return the newest code of the worker on the computer of a program."""
    query = orm.QueryBuilder().append(orm.Computer, filters={'id': program.computer.pk}, tag='computer')
    query.append(orm.AbstractCode, with_computer='computer', filters={'label': WORKER}, tag='code')
    codes = query.order_by({'code': {'ctime': 'desc'}}).all(flat=True)
    return next((code for code in codes if not code.is_hidden), None)
