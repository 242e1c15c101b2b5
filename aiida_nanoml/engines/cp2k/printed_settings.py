"""Parameters of a finished run, from what CP2K prints about its settings."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from aiida_nanoml.engines.cp2k.output import to_number
from aiida_nanoml.engines.cp2k.parameters import ALL_ELECTRON, CUSTOM, FUNCTIONALS, Cp2kParameters, set_of
from aiida_nanoml.engines.finished_runs import RunFolderError
from aiida_nanoml.errors import FailureCode
from aiida_nanoml.structures.vacuum import MINIMUM_VACUUM_ANG
from aiida_nanoml.text import first_of

USUAL_VACUUM_ANG = 10.0
"""Vacuum (Å) in the parameters of a run that has none."""

_COMPONENTS = {
    frozenset({'PADE'}): 'LDA-PADE',
    frozenset({'PBE'}): 'GGA-PBE',
    frozenset({'BECKE88', 'LYP'}): 'GGA-BLYP',
    frozenset({'BECKE88', 'P86C'}): 'GGA-BP',
    frozenset({'OPTX', 'LYP'}): 'GGA-OLYP',
    frozenset({'HCTH120'}): 'GGA-HCTH120',
}
"""Functionals by the parts that CP2K prints."""

_FOREIGN_METHODS = re.compile(r'DFTB|XTB|GFN|MNDO|AM1|PM[36]|PDG|RM1|PNNL|OFGPW|LRIGPW|RIGPW', re.I)

_UNUSUAL = (
    (re.compile(r'^ ?(?:MP2|RI[-_]MP2|RPA|RI[-_]RPA|RI_INFO)\|', re.M), 'correlation of wave functions (MP2 or RPA)'),
    (re.compile(r'^ ?(?:CDFT|.*CDFT SCF)', re.M), 'a constraint on the density'),
    (re.compile(r'^ ?(?:QMMM|QM/MM)\|', re.M), 'molecular mechanics around it'),
    (re.compile(r'^ ?BSSE\|', re.M), 'fragments with ghost atoms (BSSE)'),
    (re.compile(r'^ ?(?:EMBED|MIXED)\w*\|', re.M), 'several kinds of calculation mixed'),
    (re.compile(r'^ ?(?:SIRIUS)\|', re.M), 'plane waves of SIRIUS in place of Gaussians'),
    (re.compile(r'^ ?(?:DFTB|xTB|XTB)\|', re.M), 'tight binding in place of density-functional theory'),
)
"""What a run may hold beside density-functional theory of Gaussians, and its name."""


@dataclass(frozen=True)
class PrintedKind:
    """What CP2K prints about a kind of atoms.

    :param name: of the kind, which need not be that of an element.
    :param basis: name of its basis; empty without one.
    :param pseudopotential: name of its pseudopotential; ``ALL`` without one.
    :param plus_u: angular momentum of DFT+U, and U with its unit; None without it.
    """

    name: str
    basis: str
    pseudopotential: str
    plus_u: tuple[str, str] | None = None


@dataclass
class _Settings:
    values: dict[str, Any]
    extra: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_kinds(text: str) -> list[PrintedKind]:
    """Read the kinds of atoms, in their order."""
    found = list(re.finditer(r'^ +(\d{1,4})\. Atomic kind: (\S+) +Number of atoms: +\d+', text, re.M))
    kinds: list[PrintedKind] = []
    for index, match in enumerate(found):
        if int(match[1]) <= len(kinds):
            continue  # the table is printed again
        end = found[index + 1].start() if index + 1 < len(found) else len(text)
        part = text[match.end() : end]
        basis = re.search(r'^ +Orbital Basis Set +(\S+) *$', part, re.M)
        potential = re.search(r'^ +(?:GTH )?Potential information for +(\S+) *$', part, re.M)
        name = potential[1] if potential and 'ALL' not in potential[1].upper().split('-') else ALL_ELECTRON
        plus_u = re.search(r'quantum momentum number L: +(\d)\s+U\(eff\)[^\n]*?\[(eV|a\.u\.)\]: +(\S+) *$', part, re.M)
        kinds.append(
            PrintedKind(
                match[2], basis[1] if basis else '', name, (plus_u[1], f'[{plus_u[2]}] {plus_u[3]}') if plus_u else None
            )
        )
    return kinds


def read_settings(
    text: str, elements: list[str], k_points: bool, vacuum_ang: float | None, further: dict[str, str] | None = None
) -> tuple[Cp2kParameters, list[str]]:
    """Read the parameters of a run from its output.

    :param text: the output up to the first self-consistency at least.
    :param elements: chemical symbol of each of :func:`read_kinds`.
    :param k_points: whether there are k-points besides Gamma.
    :param vacuum_ang: of an isolated structure; None of a periodic one.
    :param further: what the input says beside that, by path; None where it is not there.
    :returns: the parameters, and what the user should know about them.
    :raises RunFolderError: ``'input_refused'``: the parameters cannot express the run.
    """
    _refuse_other_theories(text)
    settings = _Settings(values={})
    kinds = read_kinds(text)
    if len(kinds) != len(elements):
        raise _refusal('the output does not say which basis and pseudopotential each kind of atoms has')
    _read_spin(text, settings)
    _read_bases(kinds, elements, settings)
    _read_functional(text, settings)
    _read_numerics(text, settings)
    _read_k_points(text, k_points, settings)
    isolated = vacuum_ang is not None
    solver = re.search(r'^ ?POISSON\| Solver +(\S+)', text, re.M)
    known = {'PERIODIC': 'PERIODIC', 'ANALYTIC': 'ANALYTIC', 'WAVELET': 'WAVELET', 'MARTYNA-TUCKERMAN (MT)': 'MT'}
    name = solver[1].upper() if solver else 'PERIODIC'
    name = 'MT' if name.startswith(('MARTYNA', 'MT')) else name
    if name not in known.values():
        settings.extra['DFT/POISSON/POISSON_SOLVER'] = name
    if further is not None:
        settings.extra = {path: value for path, value in settings.extra.items() if 'PRINTED' not in path} | further
        settings.extra = _without_repetition(settings.extra, settings.values['functional'])
    settings.values |= {
        'poisson_solver': name if isolated and name in known.values() else 'PERIODIC',
        'vacuum_ang': max(MINIMUM_VACUUM_ANG, round(vacuum_ang, 3)) if vacuum_ang is not None else USUAL_VACUUM_ANG,
        'extra_input': dict(sorted(settings.extra.items())),
    }
    try:
        return Cp2kParameters.model_validate(settings.values), settings.notes
    except ValidationError as error:
        fault = error.errors()[0]
        raise _refusal(
            f'the engine has no parameters for it: {".".join(map(str, fault["loc"]))} {fault["msg"]}'
        ) from error


def _without_repetition(extra: dict[str, str], functional: str) -> dict[str, str]:
    """Leave out the parts of a functional that has a name; of another one, what the output prints is in the input."""
    if functional == CUSTOM:
        return extra
    return {path: value for path, value in extra.items() if not path.startswith('DFT/XC/XC_FUNCTIONAL/')}


def _refuse_other_theories(text: str) -> None:
    for pattern, name in _UNUSUAL:
        if pattern.search(text):
            raise _refusal(f'it has {name}, which the parameters of the engine cannot express')
    method = re.search(r'^ ?QS\| Method: +(\S+)', text, re.M)
    if method is None:
        raise _refusal('its output says nothing about Quickstep: it is of another method, or was printed too briefly')
    if _FOREIGN_METHODS.search(method[1]):
        raise _refusal(f'its method is {method[1]}, which is no density-functional theory with a Gaussian basis')


def _read_spin(text: str, settings: _Settings) -> None:
    spin = re.search(r'^ ?DFT\| Spin .* (RKS|UKS|LSD|ROKS|LDA)\s*$', text, re.M)
    if spin is None:
        raise _refusal('its output does not say whether spins may differ')
    polarized = spin[1] in ('UKS', 'LSD', 'ROKS')
    settings.values |= {'spin': 'polarized' if polarized else 'none', 'initial_moments_bohr': {}}
    if spin[1] == 'ROKS':
        settings.extra['DFT/ROKS'] = 'T'
    multiplicity = re.search(r'^ ?DFT\| Multiplicity +(\d{1,4}) *$', text, re.M)
    if multiplicity and polarized:
        settings.extra['DFT/MULTIPLICITY'] = multiplicity[1]
    charge = re.search(r'^ ?DFT\| Charge +(-?\d{1,4}) *$', text, re.M)
    if charge and int(charge[1]):
        settings.extra['DFT/CHARGE'] = charge[1]
    correction = re.search(r'^ ?DFT\| Self-interaction correction \(SIC\) +(\S+) *$', text, re.M)
    if correction and correction[1] != 'NO':
        settings.extra['DFT/SIC/SIC_METHOD'] = correction[1]
    if re.search(r'^ ?(?:DFT\+U\||.*Plus U|.*DFT\+U energy)', text, re.M):
        found = re.search(r'^ ?DFT\+U\| Method +(\S+)', text, re.M)
        settings.extra['DFT/PLUS_U_METHOD'] = _path(found[1]) if found else 'T'


def _read_bases(kinds: list[PrintedKind], elements: list[str], settings: _Settings) -> None:
    for what, names in (
        ('basis', [kind.basis for kind in kinds]),
        ('pseudopotential', [kind.pseudopotential for kind in kinds]),
    ):
        if not all(names):
            nameless = [element for element, name in zip(elements, names, strict=True) if not name]
            raise _refusal(f'the output names no {what} of {first_of(nameless, 3)}')
        short = [set_of(name) if what == 'pseudopotential' else name for name in names]
        usual = Counter(short).most_common(1)[0][0]
        others: dict[str, str] = {}
        for kind, element, name, own in zip(kinds, elements, names, short, strict=True):
            if own == usual and (what == 'basis' or name == usual):
                if element in others:
                    settings.extra[f'SUBSYS/KIND/{_path(kind.name)}/{what.upper()}'] = name
                continue
            if others.setdefault(element, name) != name:
                settings.extra[f'SUBSYS/KIND/{_path(kind.name)}/{what.upper()}'] = name
        settings.values |= {
            'basis_set' if what == 'basis' else 'pseudopotential_set': usual,
            f'{what}_by_element': others,
        }
    for kind in kinds:
        if kind.plus_u is not None:
            settings.extra[f'SUBSYS/KIND/{_path(kind.name)}/DFT_PLUS_U/L'] = kind.plus_u[0]
            settings.extra[f'SUBSYS/KIND/{_path(kind.name)}/DFT_PLUS_U/U_MINUS_J'] = kind.plus_u[1]
    settings.notes.append('pseudopotentials and bases are known by their names only')


def _read_functional(text: str, settings: _Settings) -> None:
    block = re.findall(r'^ ?FUNCTIONAL\|(.*)$', text[: text.find(' SCF ')] if ' SCF ' in text else text, re.M)
    lines = [line.strip() for line in block if 'ROUTINE' not in line]
    parts = {line.rstrip(':').split(':')[0].strip() for line in lines if re.match(r'[A-Z][A-Z0-9_+-]*:', line)}
    words = ' '.join(lines)
    plain = not re.search(r's[xc] *=|scale|{.*\d\.\d|revPBE|PBEsol|rev\.|HF', words)
    name = _COMPONENTS.get(frozenset(parts), CUSTOM) if plain else CUSTOM
    if parts == {'PBE'} and re.search(r'PBEsol|Perdew et al.*2008|136406', words):
        name = 'GGA-PBEsol'
    fraction = re.search(r'^ ?HFX_INFO\| *(?:FRACTION|Fraction): +(\S+)', text, re.M)
    if fraction:
        settings.extra['DFT/XC/HF/FRACTION'] = f'{to_number(fraction[1], "the share of exchange", 10.0):g}'
    elif 'HFX_INFO|' in text or 'HFX_MEM_INFO|' in text:
        settings.extra['DFT/XC/HF/_'] = 'ON'
    sets = {set_of(settings.values['pseudopotential_set'])} | {
        set_of(other) for other in settings.values['pseudopotential_by_element'].values()
    }
    if name != CUSTOM and sets - {*FUNCTIONALS[name][1], ALL_ELECTRON}:
        settings.notes.append(f'pseudopotentials {", ".join(sorted(sets))} with the functional {name}')
        name = CUSTOM
    if name == CUSTOM:
        if not parts and 'DFT/XC/HF/FRACTION' not in settings.extra and 'DFT/XC/HF/_' not in settings.extra:
            raise _refusal('its output does not name exchange and correlation')
        for part in sorted(parts):
            settings.extra[f'DFT/XC/XC_FUNCTIONAL/{_path(part)}/_'] = 'T'
        settings.extra['DFT/XC/XC_FUNCTIONAL/_'] = 'NO_SHORTCUT'
        for number, note in enumerate(re.findall(r'\{([^{}]*\d[^{}]*)\}', words)[:9]):
            settings.extra[f'DFT/XC/XC_FUNCTIONAL/PRINTED_{number + 1}'] = (
                ' '.join(re.sub(r'[^A-Za-z0-9_ .,=()+-]', ' ', note).split()) or 'T'
            )
    settings.values['functional'] = name
    dispersion = re.findall(r'^ ?vdW POTENTIAL\| *(.*?) *$', text, re.M)
    for number, line in enumerate(dict.fromkeys(dispersion[:30])):
        if line:
            plain_line = ' '.join(re.sub(r'[^A-Za-z0-9_ .,:=()+/-]', ' ', line).split())
            settings.extra[f'DFT/XC/VDW_POTENTIAL/PRINTED_{number + 1}'] = plain_line or 'T'


def _read_numerics(text: str, settings: _Settings) -> None:
    def number(pattern: str, default: float | None) -> float:
        found = re.search(pattern, text, re.M)
        if found is None:
            if default is None:
                raise _refusal('its output does not name the cutoff')
            return default
        return to_number(found[1], 'a setting', 1e6)

    smear = re.search(r'^ +Smear method: +(\S+)', text, re.M)
    temperature = 0.0
    if smear and 'FERMI' in smear[1].upper():
        temperature = number(r'^ +Electronic temperature \[K\]: +(\S+)', 300.0)
    elif smear:
        settings.extra['DFT/SCF/SMEAR/METHOD'] = _path(smear[1])
    method = re.search(r'^ ?QS\| Method: +(\S+)', text, re.M)
    if method and method[1] != 'GPW':
        settings.extra['DFT/QS/METHOD'] = _path(method[1])
    for keyword, pattern, usual in (
        ('XC_SMOOTH_RHO', r'^ ?DFT\| XC density smoothing +(\S+)', 'NONE'),
        ('XC_DERIV', r'^ ?DFT\| XC derivatives +(\S+)', 'PW'),
    ):
        found = re.search(pattern, text, re.M)
        if found and found[1] != usual:
            settings.extra[f'DFT/XC/XC_GRID/{keyword}'] = _path(found[1])
    mixing = re.search(r'^ +Mixing method: +(\S+)', text, re.M)
    files = {
        name: re.search(rf'^ ?GLOBAL\| {name} file name +(\S+)', text, re.M) for name in ('Basis set', 'Potential')
    }
    settings.values |= {
        'electronic_temperature_kelvin': temperature,
        'cutoff_ry': round(2 * number(r'^ ?QS\| Density cutoff \[a\.u\.\]: +(\S+)', None), 6),
        'rel_cutoff_ry': round(2 * number(r'^ ?QS\| Relative density cutoff \[a\.u\.\]: +(\S+)', 20.0), 6),
        'eps_default': min(0.1, max(1e-99, abs(number(r'eps_rho_gspace: +(\S+)', 1e-10)))),
        'scf_tolerance': min(0.5, max(1e-99, abs(number(r'^ +eps_scf: +(\S+)', 1e-5)))),
        'max_scf_iterations': max(1, int(number(r'^ +max_scf: +(\d+)', 50.0))),
        'mixing': 'broyden' if mixing and 'BROYDEN' in mixing[1].upper() else 'density_matrix',
        'mixing_weight': 0.4,
        'added_levels': -1,
        'basis_file': _file(files['Basis set']),
        'pseudopotential_file': _file(files['Potential']),
    }


def _read_k_points(text: str, k_points: bool, settings: _Settings) -> None:
    settings.values |= {'k_grid': None, 'k_density': None, 'k_shift': [0.0, 0.0, 0.0]}
    if not k_points:
        return
    rows = re.findall(r'^ ?BRILLOUIN\| +\d+ +(\S+) +(\S+) +(\S+) +(\S+) *$', text, re.M)
    scheme = re.search(r'^ ?BRILLOUIN\| K-point scheme +(\S.*?) *$', text, re.M)
    grid = re.search(r'^ ?BRILLOUIN\| K-[Pp]oint grid +(\d{1,4}) +(\d{1,4}) +(\d{1,4})', text, re.M)
    settings.extra['DFT/KPOINTS/SCHEME'] = ' '.join(
        [_path(scheme[1]) if scheme else 'GENERAL', *(grid.groups() if grid else ())]
    )
    if not grid:
        settings.extra['DFT/KPOINTS/KPOINT'] = '; '.join(' '.join(row) for row in rows[:500])


def _file(found: re.Match[str] | None) -> str:
    name = re.sub(r'[^\w.+*()-]', '_', found[1].rsplit('/', 1)[-1])[:80] if found else ''
    return name if name and name[0].isalnum() else 'BASIS_SET'


def _path(name: str) -> str:
    """Return a word in the capitals of a path of the further input."""
    return re.sub(r'[^A-Z0-9_-]', '_', name.upper()) or 'T'


def _refusal(reason: str) -> RunFolderError:
    return RunFolderError(FailureCode.INPUT_REFUSED, reason)
