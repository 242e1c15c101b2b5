"""Reader of finished runs of pw.x that were made without this package."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.finished_runs import (
    ProgramRun,
    RunFolderError,
    RunReader,
    md5_of,
    plain_name,
    read_bytes,
    read_text,
)
from aiida_nanoml.engines.pseudopotentials import read_header
from aiida_nanoml.engines.quantumespresso.label import (
    Levels,
    check_agreement,
    label_of_levels,
    levels_of_xml,
    whole,
    whole_spins,
)
from aiida_nanoml.engines.quantumespresso.output import DONE, HEADER, Output, ScfResult
from aiida_nanoml.engines.quantumespresso.run_settings import (
    Geometry,
    RunHead,
    Settings,
    parameters_of,
    refined,
    settings_of_xml,
    with_charge,
)
from aiida_nanoml.engines.quantumespresso.xml import XmlRun, parse, read_steps, read_xml
from aiida_nanoml.errors import EvaluationError, FailureCode, StructureError
from aiida_nanoml.structures import Structure
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG, gather_atoms

MOST_XML_FILES = 20
"""So many XML files of a folder are looked at."""

SAME_PLACE_ANG = 1e-2
"""Positions are printed with seven digits in units of the lattice parameter, lattice vectors with six."""

ROUNDING_ANG = 1e-3
"""So far may the rounding of an output narrow a vacuum."""

USUAL_VACUUM_ANG = 10.0
"""Vacuum (Å) in the parameters of a periodic structure, which has none."""

_HYBRID = re.compile(r'^ *EXX-fraction', re.MULTILINE)
_WALL = re.compile(r'^ *PWSCF +:.*CPU +(?:(\d+)d)? *(?:(\d+)h)? *(?:(\d+)m)? *(?:(\d+\.\d*)s)? *WALL', re.MULTILINE)
_SAME_ENERGY_EV = 1e-5
_EDGE_EV = 1e-3


@dataclass(frozen=True)
class _Found:
    """The result of an output that counts.

    :param result: what is printed about it.
    :param note: what the user should know.
    """

    result: ScfResult
    note: str


class QuantumEspressoRunReader(RunReader):
    """Reads standard outputs of pw.x, and XML files where there is no output."""

    name = 'quantumespresso'
    own_folders = ('.save',)

    @classmethod
    def recognises(cls, head: str) -> bool:
        """Return whether a file is a standard output of pw.x, or its XML file."""
        return HEADER.search(head) is not None or (':espresso' in head and 'NAME="PWSCF"' in head)

    def choose(self, names: Sequence[str]) -> list[str]:
        """Return the standard outputs; where there is none, the XML files."""
        outputs = [name for name in names if not _is_xml(name)]
        return outputs or list(names)

    def read(self, folder: Path, name: str, root: Path) -> ProgramRun:
        """Read a run.

        :raises RunFolderError: there is no number that can be trusted, with the true reason.
        """
        text = read_text(folder / name, root)
        if text is None:
            raise RunFolderError(FailureCode.NO_OUTPUT, f'there is no file {name}')
        try:
            if _is_xml(name):
                return _read_xml_alone(folder, name, root, text)
            return _read_output(folder, name, root, text)
        except RunFolderError:
            raise
        except EvaluationError as error:
            raise RunFolderError(error.code, error.message) from error
        except StructureError as error:
            raise RunFolderError(FailureCode.INVALID_STRUCTURE, f'{name}: {error}') from error


def _is_xml(name: str) -> bool:
    return plain_name(name).lower().endswith('.xml')


def _read_output(folder: Path, name: str, root: Path, text: str) -> ProgramRun:
    part, note = _last_run(text, name)
    output, head = Output(part, name), RunHead(part, name)
    stem = name.rpartition('.')[0] or name
    messages = '\n'.join(read_text(folder / file, root) or '' for file in (f'{stem}.err', 'CRASH'))
    found = _last_complete(output, messages)
    geometry = head.geometry(found.result.position)
    settings = head.settings()
    files = {name: md5_of(text)}
    xml = _matching_xml(folder, root, output, found.result, geometry)
    result = found.result
    notes = [note, found.note]
    if xml is not None:
        xml_name, xml_text, run = xml
        files[xml_name] = md5_of(xml_text)
        geometry = _geometry_of_xml(run, xml_name)
        if not settings.n_k_points:
            exact = settings_of_xml(run, xml_name)
            settings = replace(exact, species=settings.species, words=settings.words, others=settings.others)
        settings = refined(settings, run)
        label, why = _label(lambda: levels_of_xml(run), settings.n_electrons, result, run)
    elif geometry is None:
        raise RunFolderError(FailureCode.TRUNCATED, f'{name} prints no geometry, and no XML file of the run gives it')
    elif not settings.n_k_points:
        raise RunFolderError(FailureCode.TRUNCATED, f'{name} does not say its number of k-points')
    else:
        label, why = _label(lambda: _printed_levels(settings, result), settings.n_electrons, result, None)
    notes.append(why)
    settings = _with_fixed_spin(with_charge(settings, geometry), label)
    if 'makov-payne' in settings.words.get('system.assume_isolated', ''):
        notes.append('the Makov-Payne correction is not part of the energy')
    return _make_run(folder, root, settings, geometry, label, output.version or 'unknown', files, _wall_s(part), notes)


def _last_run(text: str, name: str) -> tuple[str, str]:
    """Return the part of an output that belongs to the last run in it that has a self-consistency, and a note."""
    starts = [match.start() for match in HEADER.finditer(text)]
    if not starts:
        raise RunFolderError(FailureCode.UNREADABLE, f'{name} is no output of pw.x')
    parts = [text[start:end] for start, end in zip(starts, [*starts, len(text)][1:], strict=True)]
    if len(parts) == 1:
        return parts[0], ''
    able = [number for number, part in enumerate(parts) if 'Self-consistent Calculation' in part and DONE in part]
    if not able:
        return parts[-1], ''
    return parts[able[-1]], f'{name} holds {len(parts)} runs: the label is that of number {able[-1] + 1}'


def _last_complete(output: Output, messages: str) -> _Found:
    """Return the last self-consistency that converged.

    :param messages: of the standard error and the file CRASH, if they lie beside the output.
    :raises EvaluationError: there is none, or a single point did not come to its end.
    """
    if not output.cycles:
        _refuse_without_cycle(output, messages)
    moves = 'ATOMIC_POSITIONS' in output.text
    hybrid = _HYBRID.search(output.text) is not None
    reason = ''
    try:
        output.check_end(messages)
    except EvaluationError as error:
        if not moves:
            raise
        reason = error.message
    failure: EvaluationError | None = None
    for start, end in reversed(output.cycles):
        try:
            if hybrid and not output.has_exact_exchange(start, end):
                raise EvaluationError(FailureCode.NOT_CONVERGED, 'the exact exchange did not converge')
            found = output.result(start, end)
        except EvaluationError as error:
            failure = failure or error
            if not moves and not hybrid:
                break
            continue
        if reason and output.text.find('ATOMIC_POSITIONS', found.position, end) < 0:
            continue  # what follows the energy may be cut
        if failure is not None and not reason:
            reason = failure.message
        relaxes = 'Molecular Dynamics Calculation' not in output.text
        if not reason and moves and relaxes and 'maximum number of steps has been reached' in output.text:
            reason = 'the geometry was not relaxed within the allowed steps'
        return _Found(found, f'{reason}: the label is that of the last complete step' if reason else '')
    raise failure or EvaluationError(FailureCode.TRUNCATED, reason or f'{output.name} has no self-consistency')


def _refuse_without_cycle(output: Output, messages: str) -> None:
    output.check_end(messages)
    if 'Band Structure Calculation' in output.text:
        raise RunFolderError(
            FailureCode.INPUT_REFUSED,
            f'{output.name} is of bands of a fixed density (nscf or bands), which have no energy of their own',
        )
    raise RunFolderError(FailureCode.INPUT_REFUSED, f'{output.name} is of a run without a self-consistency')


def _matching_xml(
    folder: Path, root: Path, output: Output, result: ScfResult, geometry: Geometry | None
) -> tuple[str, str, XmlRun] | None:
    """Return name, text and content of the XML file of the run, None if there is none that agrees with its output."""
    for name in _xml_names(folder, root):
        text = read_text(folder / name, root)
        if text is None or '<output' not in text:
            continue
        try:
            run = read_xml(text, name)
            check_agreement(run, result, output.name)
            found = _geometry_of_xml(run, name)
        except EvaluationError:
            continue
        if run.calculation not in ('nscf', 'bands') and (geometry is None or _is_same(found, geometry)):
            return name, text, run
    return None


def _is_same(found: Geometry, printed: Geometry) -> bool:
    return found.species == printed.species and bool(np.abs(found.cell_ang - printed.cell_ang).max() < SAME_PLACE_ANG)


def _xml_names(folder: Path, root: Path) -> Iterator[str]:
    """Yield the names of XML files in a folder, and in the folders that pw.x writes into."""
    count = 0
    for path in sorted(folder.iterdir()):
        inside = path.is_dir() and path.suffix == '.save' and path.resolve().is_relative_to(root)
        for candidate in sorted(path.glob('data-file-schema.xml*')) if inside else [path]:
            if _is_xml(candidate.name) and candidate.is_file() and count < MOST_XML_FILES:
                count += 1
                yield str(candidate.relative_to(folder))


def _geometry_of_xml(run: XmlRun, name: str) -> Geometry:
    """Return the geometry to which the energy of an XML file belongs.

    After the last step of a relaxation that did not end, pw.x has moved the atoms already.
    """
    for step in reversed(read_steps(run, name)):
        if abs(step.energy_ev - run.last.energy_ev) < _SAME_ENERGY_EV:
            return Geometry(step.species, step.positions_ang, step.cell_ang)
    return Geometry(run.last.species, run.last.positions_ang, run.last.cell_ang)


def _label(
    levels: Callable[[], Levels], n_electrons: float, result: ScfResult, run: XmlRun | None
) -> tuple[Label, str]:
    """Return the label, with levels where they can be trusted, and why they cannot."""
    energy = result.energy_ev if run is None else run.last.energy_ev
    forces = result.forces_ev_per_ang if run is None else run.forces_ev_per_ang
    stress = result.stress_ev_per_ang3 if run is None else run.stress_ev_per_ang3
    moment = result.moment_bohr if run is None else run.moment_bohr
    try:
        label = label_of_levels(
            energy,
            levels(),
            n_iterations=result.n_iterations,
            forces_ev_per_ang=forces,
            stress_ev_per_ang3=stress,
            magnetic_moment_bohr=moment,
        )
    except EvaluationError as error:
        if error.code != FailureCode.ENGINE_FAILURE:
            raise
        plain = Label.from_energy(
            energy, forces_ev_per_ang=forces, stress_ev_per_ang3=stress, magnetic_moment_bohr=moment
        )
        count = round(n_electrons) if abs(n_electrons - round(n_electrons)) < 1e-4 else 0
        plain = replace(
            plain,
            n_electrons=count,
            open_shell=count % 2 == 1,
            n_iterations=result.n_iterations,
            fermi_ev=result.fermi_ev,
        )
        return plain, f'{error.message}: the gap is not known'
    fermi = label.fermi_ev
    if fermi is not None and not label.homo_ev - _EDGE_EV <= fermi <= label.lumo_ev + _EDGE_EV:
        return label, (
            f'the Fermi level ({fermi:.4f} eV) is outside the gap ({label.homo_ev:.4f} to {label.lumo_ev:.4f} eV), in '
            'which the electrons fill whole levels: the smearing is broader than the gap'
        )
    return label, ''


def _printed_levels(settings: Settings, result: ScfResult) -> Levels:
    """Return the levels that an output prints.

    :raises EvaluationError: ``'engine_failure'``, they are not printed, or not for all k-points.
    """
    levels = result.levels_ev
    if levels is None or settings.k_weights is None or levels.shape[1] != settings.n_k_points:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, 'the levels of all k-points are not printed')
    if result.descends:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, 'the printed levels do not ascend')
    if (len(levels) == 2) != settings.polarized:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, 'the levels of both spins are not printed')
    if (settings.k_weights <= 0).any():
        raise EvaluationError(FailureCode.ENGINE_FAILURE, 'a k-point has no weight')
    n_electrons = whole(settings.n_electrons)
    of_spins = None
    if len(levels) == 2 and result.fermi_ev is None:
        if result.moment_bohr is None:
            raise EvaluationError(FailureCode.ENGINE_FAILURE, 'the electrons of each spin are not printed')
        moment = round(result.moment_bohr, 1)
        of_spins = whole_spins((n_electrons + moment) / 2, (n_electrons - moment) / 2)
    weights = settings.k_weights / settings.k_weights.sum()
    return Levels(levels, weights, n_electrons, result.fermi_ev, of_spins, settings.spinors)


def _read_xml_alone(folder: Path, name: str, root: Path, text: str) -> ProgramRun:
    """Read an XML file without a standard output, so that its numbers can be compared with nothing."""
    calculation = (parse(text, name).findtext('input/control_variables/calculation') or '').strip()
    if calculation in ('nscf', 'bands'):
        raise RunFolderError(
            FailureCode.INPUT_REFUSED, f'{name} is of {calculation}: its energy is that of another run'
        )
    run = read_xml(text, name)
    if not run.converged or run.n_iterations < 1:
        raise RunFolderError(FailureCode.NOT_CONVERGED, f'{name}: the self-consistency did not converge')
    settings = settings_of_xml(run, name)
    if run.scf_error_ry > run.tolerance_ry and 'hybrid' not in ' '.join(settings.others):
        raise RunFolderError(
            FailureCode.NOT_CONVERGED,
            f'{name}: the estimated error of the energy is {run.scf_error_ry:.1e} Ry, the tolerance '
            f'{run.tolerance_ry:.1e} Ry',
        )
    result = ScfResult(
        energy_ev=run.last.energy_ev,
        n_iterations=run.n_iterations,
        fermi_ev=run.levels.fermi_ev,
        spin_fermi_ev=run.levels.spin_fermi_ev,
        homo_ev=None,
        levels_ev=None,
        forces_ev_per_ang=run.forces_ev_per_ang,
        stress_ev_per_ang3=run.stress_ev_per_ang3,
        moment_bohr=run.moment_bohr,
    )
    label, why = _label(lambda: levels_of_xml(run), settings.n_electrons, result, run)
    notes = ['there is no standard output to compare the XML file with', why]
    geometry = _geometry_of_xml(run, name)
    settings = _with_fixed_spin(settings, label)
    return _make_run(folder, root, settings, geometry, label, run.version, {name: md5_of(text)}, None, notes)


def _with_fixed_spin(settings: Settings, label: Label) -> Settings:
    """Return settings that name the spin moment of a run with fixed occupations."""
    if not settings.polarized or settings.occupations != 'fixed' or 'system.tot_magnetization' in settings.words:
        return settings
    moment = round(label.magnetic_moment_bohr or 0.0, 2) + 0.0
    return replace(settings, words={**settings.words, 'system.tot_magnetization': f'{moment:g}'})


def _make_run(
    folder: Path,
    root: Path,
    settings: Settings,
    geometry: Geometry,
    label: Label,
    version: str,
    files: dict[str, str],
    wall_s: float | None,
    notes: list[str],
) -> ProgramRun:
    elements = [settings.species[name].element if name in settings.species else '' for name in geometry.species]
    unknown = sorted({name for name, element in zip(geometry.species, elements, strict=True) if not element})
    if unknown:
        raise RunFolderError(FailureCode.UNREADABLE, f'the species {", ".join(unknown)} are not in the list of species')
    numbers = np.array([ATOMIC_NUMBERS[element] for element in elements])
    vacuum, whole_positions = gather_atoms(geometry.positions_ang, geometry.cell_ang)
    isolated = settings.only_gamma and bool((vacuum >= MINIMUM_VACUUM_ANG - ROUNDING_ANG).all())
    positions = whole_positions if isolated else geometry.positions_ang
    structure = Structure(numbers, positions, geometry.cell_ang, np.full(3, not isolated))
    md5s, files_beside = _pseudopotentials(folder, root, settings)
    files |= files_beside
    named = {settings.species[name].element for name in geometry.species} - set(md5s)
    if named:
        notes.append('of the pseudopotentials only the names are known')
    try:
        parameters = parameters_of(
            settings,
            vacuum_ang=max(float(vacuum.min()), MINIMUM_VACUUM_ANG) if isolated else USUAL_VACUUM_ANG,
            isolated=isolated,
            names_only=bool(named),
        )
    except ValidationError as error:
        reason = error.errors()[0]['msg'].removeprefix('Value error, ')
        raise RunFolderError(
            FailureCode.INPUT_REFUSED, f'the settings of the run are none of pw.x: {reason}'
        ) from error
    if label.forces_ev_per_ang is not None and len(label.forces_ev_per_ang) != len(numbers):
        raise RunFolderError(
            FailureCode.INCONSISTENT, f'{len(label.forces_ev_per_ang)} forces are given for {len(numbers)} atoms'
        )
    return ProgramRun(
        structure=structure,
        label=label,
        parameters=parameters,
        version=version,
        files=files,
        pseudopotentials=md5s,
        wall_s=wall_s,
        note='; '.join(filter(None, notes)),
    )


def _pseudopotentials(folder: Path, root: Path, settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """Return the MD5 by element, and the files beside the run that gave some of them."""
    found: dict[str, str] = {}
    files: dict[str, str] = {}
    for species in settings.species.values():
        md5 = species.md5
        content = read_bytes(folder / species.file, root) if not md5 and species.file else None
        if content is not None:
            text = content.decode('utf-8', 'replace')
            header = read_header(text)
            if header is not None and header.element == species.element:
                files[species.file] = md5_of(text)
                md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if md5 and found.setdefault(species.element, md5) != md5:
            raise RunFolderError(
                FailureCode.PSEUDOPOTENTIAL,
                f'there are two pseudopotentials of {species.element}: a label names one for each element',
            )
    return found, files


def _wall_s(text: str) -> float | None:
    found = _WALL.search(text)
    if found is None or not any(found.groups()):
        return None
    days, hours, minutes, seconds = (float(value or 0) for value in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
