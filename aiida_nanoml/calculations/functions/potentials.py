"""Potentials: generate, import, average and vary them; tables and figure of a scan."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm

from aiida_nanoml.calculations.functions.base import calculation_function, csv_text
from aiida_nanoml.data.potentials import PotentialSetData
from aiida_nanoml.errors import TransportError
from aiida_nanoml.learning.plot_style import Width, save_figure
from aiida_nanoml.transport.planar_average import make_average_potential
from aiida_nanoml.transport.potential import Potential, PotentialSet
from aiida_nanoml.transport.presets import UNITS, make_potential, vary_potential, vary_preset

SCAN_FIGURE = 'transmission.png'


@calculation_function
def generate_potential(preset: orm.Str, parameters: orm.Dict) -> PotentialSetData:
    """Make a potential by name.

    :param preset: one of :data:`~aiida_nanoml.transport.presets.PRESETS`.
    :param parameters: of the preset, and ``bias``.
    :raises TransportError: the name or a parameter is unknown, or cannot be used.
    """
    return PotentialSetData(PotentialSet([make_potential(preset.value, parameters.get_dict())]))


@calculation_function
def import_potential(file: orm.SinglefileData) -> dict[str, orm.Data]:
    """Read an input file of a transmission.

    :returns: ``potentials``, the one of the file, and ``settings``, its energies and basis.
    :raises TransportError: the file cannot be read; the line and the word are named.
    """
    from aiida_nanoml.transport.files import parse_input

    found = parse_input(file.get_content(mode='rb'), file.filename)
    return {'potentials': PotentialSetData(PotentialSet([found.potential])), 'settings': orm.Dict(found.settings)}


@calculation_function
def import_profile(file: orm.SinglefileData, settings: orm.Dict) -> PotentialSetData:
    """Read a table of x and V.

    :param settings: ``mass``, ``length_unit`` and ``energy_unit`` of
        :func:`~aiida_nanoml.transport.profiles.read_profile`.
    :raises TransportError: the table cannot be read; the line is named.
    """
    from aiida_nanoml.transport.profiles import read_profile

    potential = read_profile(file.get_content(mode='rb'), file.filename, **settings.get_dict())
    return PotentialSetData(PotentialSet([potential]))


@calculation_function
def average_potential(grid: orm.SinglefileData | orm.FolderData, settings: orm.Dict) -> PotentialSetData:
    """Make a potential of a mesh that SIESTA wrote, by its mean over planes.

    :param grid: a file ``.VH`` or ``.VT``, or a folder that holds it, such as the retrieved files of a run.
    :param settings: as of :func:`~aiida_nanoml.transport.planar_average.make_average_potential`; of a folder also
        ``file``, the name of the file in it.
    :raises TransportError: the file cannot be read, or a setting is unknown, missing, or cannot be used.
    """
    given = settings.get_dict()
    if isinstance(grid, orm.SinglefileData):
        name, content = grid.filename, grid.get_content(mode='rb')
    else:
        name = given.pop('file', '')
        if name not in grid.base.repository.list_object_names():
            raise TransportError(f'the folder {grid.pk} holds no file {name!r}: name it by the setting `file`')
        content = grid.base.repository.get_object_content(name, mode='rb')
    return PotentialSetData(PotentialSet([make_average_potential(content, name, given)]))


@calculation_function
def vary_generated_potential(preset: orm.Str, parameters: orm.Dict, scan: orm.Dict) -> PotentialSetData:
    """Make a potential by name with several values of one parameter.

    :param preset: one of :data:`~aiida_nanoml.transport.presets.PRESETS`.
    :param parameters: of the preset.
    :param scan: ``parameter``, the name of the varied one, and its ``values``.
    :raises TransportError: as of :func:`scanned_potentials`.
    """
    return PotentialSetData(scanned_potentials(scan.get_dict(), preset.value, parameters.get_dict()))


@calculation_function
def vary_given_potential(potential: PotentialSetData, scan: orm.Dict) -> PotentialSetData:
    """Change one parameter of a given potential to several values.

    :param potential: exactly one.
    :param scan: ``parameter``, one of :data:`~aiida_nanoml.transport.presets.CHANGES`, and its ``values``.
    :raises TransportError: as of :func:`scanned_potentials`.
    """
    return PotentialSetData(scanned_potentials(scan.get_dict(), only_potential(potential)))


@calculation_function
def tabulate_transmissions(
    scan: orm.Dict,
    potentials: PotentialSetData,
    transmission: orm.XyData,
    resonances: orm.ArrayData,
    results: orm.Dict,
) -> orm.FolderData:
    """Write the tables of a scan and draw its map.

    :param scan: ``parameter`` and ``values``, one for each column of the transmission.
    :param potentials: one for each value.
    :param transmission: of the job.
    :param resonances: of the job.
    :param results: of the job.
    :returns: ``transmission.csv``, ``resonances.csv`` and ``transmission.png``.
    :raises TransportError: the scan has another number of values than there are transmissions.
    """
    wanted = scan.get_dict()
    values = wanted['values']
    energies, columns = transmission.get_x()[1], [column for _, column, _ in transmission.get_y()]
    if len(columns) != len(values):
        raise TransportError(f'there are {len(columns)} transmissions for {len(values)} values of the parameter')
    found = resonances.arrays
    title = parameter_title(wanted['parameter'])
    node = orm.FolderData()
    header = ['energy (eV)', *(f'{title} = {value!r}' for value in values)]
    _put(node, 'transmission.csv', header, zip(*(column.tolist() for column in (energies, *columns)), strict=True))
    rows = zip(
        *(column.tolist() for column in (np.asarray(values)[found['rows']], found['energies'], found['widths'])),
        strict=True,
    )
    _put(node, 'resonances.csv', [title, 'energy (eV)', 'width (eV)'], rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SCAN_FIGURE
        draw_scan(path, wanted, potentials, transmission, resonances, results)
        node.base.repository.put_object_from_file(path, SCAN_FIGURE)
    return node


def draw_scan(
    path: Path,
    scan: Mapping[str, Any],
    potentials: PotentialSetData,
    transmission: orm.XyData,
    resonances: orm.ArrayData,
    results: orm.Dict,
    log_scale: bool | None = None,
    width: Width = 'single',
) -> None:
    """Draw T(E) over the values of a scan.

    :param path: file to write; its ending chooses the format.
    :param log_scale: as of :func:`~aiida_nanoml.transport.plots.plot_scan`. The others are those of
        :func:`tabulate_transmissions`.
    :param width: in columns of a journal.
    """
    from aiida_nanoml.transport.plots import plot_scan

    found = resonances.arrays
    drawn = plot_scan(
        parameter_title(scan['parameter']),
        scan['values'],
        transmission.get_x()[1],
        [column for _, column, _ in transmission.get_y()],
        (np.asarray(scan['values'])[found['rows']], found['energies']),
        title=potentials.base.attributes.get('names')[0].rpartition(',')[0],
        note=method_note(results.get_dict()['settings']),
        log_scale=log_scale,
        width=width,
    )
    save_figure(drawn, path)


def scanned_potentials(
    scan: Mapping[str, Any], potential: str | Potential, parameters: Mapping[str, Any] | None = None
) -> PotentialSet:
    """Make the potentials of a scan.

    :param scan: ``parameter`` and ``values``.
    :param potential: the name of a preset, or a potential.
    :param parameters: of the preset.
    :raises TransportError: a scan without parameter or values, and as of
        :func:`~aiida_nanoml.transport.presets.vary_preset` and
        :func:`~aiida_nanoml.transport.presets.vary_potential`.
    """
    values = scan.get('values')
    if set(scan) != {'parameter', 'values'} or not isinstance(values, list) or not values:
        raise TransportError(f'a scan has a `parameter` and a list of `values`, at least one; got {scan}')
    repeated = [value for number, value in enumerate(values) if value in values[:number]]
    if repeated:
        raise TransportError(f'the value {repeated[0]} is in the scan twice')
    if isinstance(potential, str):
        return vary_preset(potential, parameters or {}, scan['parameter'], values)
    return vary_potential(potential, scan['parameter'], values)


def only_potential(node: PotentialSetData) -> Potential:
    """Return the potential of a node that has exactly one.

    :raises TransportError: it has several.
    """
    if node.n_potentials != 1:
        raise TransportError(f'one potential is needed, the node {node.pk} has {node.n_potentials}')
    return node.potentials[0]


def parameter_title(parameter: str) -> str:
    """Return the name of a parameter with its unit."""
    unit = UNITS.get(parameter, '')
    return f'{parameter} ({unit})' if unit else parameter


def method_note(settings: dict[str, Any]) -> str:
    """Describe how a transmission was computed."""
    return f'R-matrix, {settings["n_basis"]} cosines, correction {settings["correction"]}'


def _put(node: orm.FolderData, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    node.base.repository.put_object_from_bytes(csv_text([header, *rows]).encode(), name)
