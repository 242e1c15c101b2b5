"""Workchain to run pw.x for one structure through aiida-quantumespresso, with its error handling, and a label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ProcessBuilder

from aiida_nanoml.calculations.functions.siesta import structure_of_node
from aiida_nanoml.engines.program import OUTPUT_FILE
from aiida_nanoml.engines.quantumespresso.engine import CRASH_FILE, XML_FILE, QuantumEspressoEngine
from aiida_nanoml.engines.quantumespresso.parameters import CARDS
from aiida_nanoml.errors import EngineError
from aiida_nanoml.structures import place
from aiida_nanoml.workflows.builders import single_run_options
from aiida_nanoml.workflows.label_reading import LabelReadingWorkChain

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


class QuantumEspressoWorkChain(LabelReadingWorkChain, PwBaseWorkChain):  # type: ignore[misc]
    """Run pw.x for one structure by the base workflow of aiida-quantumespresso, and read the label as the engine does.

    The input is that of the engine ``quantumespresso``, so that the label has the source of a batch; what the base
    workflow changed stands in its message.
    """

    _ENGINE = QuantumEspressoEngine
    _FILES = FILES
    _PLUGIN = 'aiida-quantumespresso'

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
        found = structure_of_node(structure)
        with cls.requested_engine(engine, found, pseudos, pseudo_family, protocol, overrides) as requested:
            settings, pseudos = requested.engine.settings, requested.pseudos
            placed = place(found, settings.vacuum_ang)
            namelists = requested.engine.namelists(placed)
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
        builder.pw.metadata.options = single_run_options(code, options)
        builder.kpoints = kpoints
        builder.source = orm.Dict(requested.source)
        return builder


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


def _to_python(text: str) -> Any:
    if text.lower() in ('.true.', '.false.'):
        return text.lower() == '.true.'
    if text.startswith(("'", '"')):
        return text.strip('\'"')
    return int(text) if re.fullmatch(r'[+-]?\d+', text) else float(text.lower().replace('d', 'e'))
