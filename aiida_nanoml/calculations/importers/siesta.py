"""Importer of finished SIESTA runs: a folder becomes the inputs of a calculation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import CalcJobImporter

from aiida_nanoml.calculations.functions.siesta import node_of_structure
from aiida_nanoml.calculations.importers.pseudopotentials import PseudopotentialFinder, SiestaPseudopotential
from aiida_nanoml.engines.finished_runs import RunFolderError
from aiida_nanoml.engines.siesta.fdf_writing import to_keywords
from aiida_nanoml.engines.siesta.folder import (
    FinishedRun,
    RunFolder,
    open_run_folder,
    read_finished_run,
)
from aiida_nanoml.engines.siesta.k_points import monkhorst_pack_mesh
from aiida_nanoml.errors import EvaluationError, FailureCode, StructureError

DIGEST = 'nanoml_run_digest'
"""Extra of the remote folder of an imported run: identity of its content."""


class SiestaImporter(CalcJobImporter):  # type: ignore[misc]
    """Read the inputs of a ``nanoml.siesta`` calculation from a finished run."""

    @staticmethod
    def parse_remote_data(
        remote_data: orm.RemoteData, *, pseudo_family: str | None = None, vacuum_ang: float | None = None
    ) -> dict[str, Any]:
        """Read the inputs of a finished run.

        :param remote_data: a folder on this machine with an input (``.fdf``), its output (``.out``), the levels
            (``.EIG``) and the XML file.
        :param pseudo_family: family whose pseudopotentials were used, where the files are not in the folder.
        :param vacuum_ang: see :func:`~aiida_nanoml.engines.siesta.folder.read_finished_run`.
        :returns: everything that the calculation takes, ``remote_folder`` included; run it, and it is imported.
        :raises StructureError: the folder holds no finished run that can be used; the message states the reason.
        """
        path = Path(remote_data.get_remote_path())
        try:
            folder = open_run_folder(path, path)
            run = read_finished_run(folder, vacuum_ang)
            pseudos, origin = PseudopotentialFinder(pseudo_family).find(folder)
        except EvaluationError as error:
            raise StructureError(f'{path}: {error.message}') from error
        return inputs_of_run(folder, run, pseudos, origin, remote_data, SharedDicts())


class SharedDicts:
    """Nodes of settings that many runs have in common, one for each content."""

    def __init__(self) -> None:
        self._nodes: list[orm.Dict] = []

    def get(self, content: dict[str, Any]) -> orm.Dict:
        """Return the node with this content."""
        for node in self._nodes:
            if node.get_dict() == content:
                return node
        self._nodes.append(orm.Dict(content).store())
        return self._nodes[-1]


def inputs_of_run(
    folder: RunFolder,
    run: FinishedRun,
    pseudos: dict[str, SiestaPseudopotential],
    origin: str,
    remote_data: orm.RemoteData,
    shared: SharedDicts,
) -> dict[str, Any]:
    """Return the inputs of a calculation.

    :param pseudos: pseudopotentials by element.
    :param origin: where they come from: ``folder``, or the label of the family.
    :param remote_data: the folder.
    :param shared: settings that other runs have, too.
    :raises RunFolderError: ``'no_xml'``, the file that the parser of aiida-siesta reads is not there.
    """
    if folder.read(f'{folder.prefix}.xml') is None:
        raise RunFolderError(FailureCode.NO_XML, f'{folder.prefix}.xml is not there: leave out --single')
    general, basis = to_keywords(run.parameters)
    structure = node_of_structure(run.structure, label=folder.path.name)
    inputs = {
        'remote_folder': remote_data,
        'structure': structure,
        'parameters': shared.get(general),
        'basis': shared.get(basis),
        'source': shared.get({'protocol': run.protocol, 'parameters': run.parameters.model_dump()}),
        'pseudos': {kind.name: pseudos[kind.symbol] for kind in structure.kinds},
        'metadata': {
            'computer': remote_data.computer,
            'label': folder.path.name,
            'description': f'finished run, imported; pseudopotentials: {origin}',
            'options': {
                'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
                'prefix': folder.prefix,
                'input_filename': folder.input,
                'output_filename': folder.output,
                'additional_retrieve_list': [folder.input],
            },
        },
    }
    sampled = monkhorst_pack_mesh(run.parameters, run.structure)
    if sampled is not None:
        inputs['kpoints'] = orm.KpointsData()
        inputs['kpoints'].set_kpoints_mesh(*sampled)
    return inputs
