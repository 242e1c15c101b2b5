"""Pseudopotential files: the bundled sets, and what a file says about itself in psf, psml, upf or psp8."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS, SYMBOLS

BUNDLED_LABEL = 'tm-lda-ca'
"""Name of the bundled set: Troullier-Martins, LDA of Ceperley and Alder."""

FORMATS = ('psf', 'psml', 'upf', 'psp8')
"""Formats that are read, as the files end."""

_PSF_FUNCTIONALS = {
    'ca': ('LDA', 'CA'),
    'pw': ('LDA', 'PW92'),
    'pb': ('GGA', 'PBE'),
    'pg': ('GGA', 'PW91'),
    'rp': ('GGA', 'RPBE'),
    'rv': ('GGA', 'revPBE'),
    'wc': ('GGA', 'WC'),
    'bl': ('GGA', 'BLYP'),
    'ps': ('GGA', 'PBEsol'),
    'am': ('GGA', 'AM05'),
    'vf': ('VDW', 'DRSLL'),
    'vw': ('VDW', 'DRSLL'),
    'vl': ('VDW', 'LMKLL'),
    'vk': ('VDW', 'KBM'),
    'vc': ('VDW', 'C09'),
    'vb': ('VDW', 'BH'),
    'vv': ('VDW', 'VV'),
}
"""Codes in the header of a psf file."""

_LIBXC_FUNCTIONALS = {
    frozenset({1, 9}): ('LDA', 'CA'),
    frozenset({1, 12}): ('LDA', 'PW92'),
    frozenset({101, 130}): ('GGA', 'PBE'),
    frozenset({109, 134}): ('GGA', 'PW91'),
    frozenset({117, 130}): ('GGA', 'RPBE'),
    frozenset({102, 130}): ('GGA', 'revPBE'),
    frozenset({118, 130}): ('GGA', 'WC'),
    frozenset({106, 131}): ('GGA', 'BLYP'),
    frozenset({116, 133}): ('GGA', 'PBEsol'),
    frozenset({120, 135}): ('GGA', 'AM05'),
}
"""Identifiers of libxc in a psml file."""

_UPF_FUNCTIONALS = {
    ('sla', 'pz', 'nogx', 'nogc'): ('LDA', 'CA'),
    ('sla', 'pw', 'nogx', 'nogc'): ('LDA', 'PW92'),
    ('sla', 'pw', 'pbx', 'pbc'): ('GGA', 'PBE'),
    ('sla', 'pw', 'pbe', 'pbe'): ('GGA', 'PBE'),
    ('sla', 'pw', 'revx', 'pbc'): ('GGA', 'revPBE'),
    ('sla', 'pw', 'psx', 'psc'): ('GGA', 'PBEsol'),
    ('sla', 'pw', 'ggx', 'ggc'): ('GGA', 'PW91'),
    ('sla', 'lyp', 'b88', 'blyp'): ('GGA', 'BLYP'),
    ('b88', 'lyp', 'b88', 'blyp'): ('GGA', 'BLYP'),
    ('pz',): ('LDA', 'CA'),
    ('lda',): ('LDA', 'CA'),
    ('pw',): ('LDA', 'PW92'),
    ('pbe',): ('GGA', 'PBE'),
    ('pbesol',): ('GGA', 'PBEsol'),
    ('revpbe',): ('GGA', 'revPBE'),
    ('blyp',): ('GGA', 'BLYP'),
    ('pw91',): ('GGA', 'PW91'),
}
"""Words of Quantum ESPRESSO for exchange, correlation and their gradient corrections, or one word for all."""

_ABINIT_FUNCTIONALS = {
    2: ('LDA', 'CA'),
    7: ('LDA', 'PW92'),
    11: ('GGA', 'PBE'),
    14: ('GGA', 'revPBE'),
    15: ('GGA', 'RPBE'),
    23: ('GGA', 'WC'),
}
"""ABINIT's own codes ``ixc``; negative ones join two identifiers of libxc."""

_HEAD = 1 << 16
"""What a file says of itself stands within so many characters; further ones are numbers."""

_PSF_HEADER = re.compile(r'\s*([A-Za-z]{1,2})\s+([a-z]{2})\s+(?:nrl|rel|isp)\s+\w+')
_UPF_HEADER = re.compile(r'<PP_HEADER\b([^>]{0,20000})>')
_UPF_ATTRIBUTE = re.compile(r"""([a-z_]{1,40})\s{0,9}=\s{0,9}["']([^"']{0,300})["']""")
_UPF_TRUE = re.compile(r'\.?t(?:rue)?\.?', re.IGNORECASE)
_NUMBER = re.compile(r'[-+]?\d{1,30}\.?\d{0,30}(?:[eEdD][-+]?\d{1,3})?')


@dataclass(frozen=True)
class PseudopotentialHeader:
    """What a pseudopotential says about itself.

    :param format: one of :data:`FORMATS`.
    :param element: chemical symbol.
    :param functional: kind and authors of exchange and correlation as SIESTA spells them; None where the code in the
        file is not known.
    :param valence_charge: number of valence electrons; None where the format is not read so far.
    :param cutoff_ry: smallest cutoff of the wave functions in Ry that the file asks for; None without such a hint.
    :param density_cutoff_ry: the same of the density.
    :param fine_density: whether the density needs a finer mesh than the wave functions: the file, a upf one, has a
        partial core, or is ultrasoft or PAW.
    """

    format: str
    element: str
    functional: tuple[str, str] | None
    valence_charge: float | None = None
    cutoff_ry: float | None = None
    density_cutoff_ry: float | None = None
    fine_density: bool = False


@cache
def bundled(file_format: str = 'psf') -> dict[str, Path]:
    """Return the files of the bundled Troullier-Martins set by element: H, B, C, N, Al, Cr, Fe, Co and Ni.

    :param file_format: ``psf``, ``upf`` or ``psp8``; another one has no files.
    """
    folder = Path(__file__).parent / BUNDLED_LABEL
    return {path.stem: path for path in sorted(folder.glob(f'*.{file_format}'))}


def digest(path: Path) -> str:
    """Return the MD5 of a file's content, the identity that aiida-pseudo uses.

    :raises EvaluationError: ``'missing_pseudopotential'``, there is no such file.
    """
    try:
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    except OSError as error:
        raise EvaluationError(
            FailureCode.MISSING_PSEUDOPOTENTIAL, f'{path} cannot be read: {error.strerror}'
        ) from error


def read_header(text: str) -> PseudopotentialHeader | None:
    """Read the header of a pseudopotential; None for a text in none of :data:`FORMATS`.

    :param text: content of the file; the beginning is enough.
    """
    head = text[:_HEAD]
    for read in (_read_psml, _read_upf, _read_psp8, _read_psf):
        found = read(head)
        if found is not None:
            return found if found.element in ATOMIC_NUMBERS else None
    return None


def _read_psml(head: str) -> PseudopotentialHeader | None:
    if '<psml' not in head[:2000]:
        return None
    symbol = re.search(r'<pseudo-atom-spec\b[^>]{0,2000}\batomic-label="\s*([A-Za-z]{1,2})', head)
    identifiers = frozenset(map(int, re.findall(r'<functional\b[^>]{0,2000}\bid="\s*(\d{1,6})', head)))
    element = symbol.group(1).capitalize() if symbol else ''
    return PseudopotentialHeader('psml', element, _LIBXC_FUNCTIONALS.get(identifiers))


def _read_upf(head: str) -> PseudopotentialHeader | None:
    if '<UPF' not in head[:5000] and '<PP_HEADER' not in head:
        return None
    given = _UPF_HEADER.search(head)
    values = dict(_UPF_ATTRIBUTE.findall(given[1])) if given else {}
    if not values:  # the first version has a line for each entry, with the value first
        _, _, rest = head.partition('<PP_HEADER>')
        lines = rest.splitlines()[1:9]
        for mark, name in (
            ('Element', 'element'),
            ('functional', 'functional'),
            ('Z valence', 'z_valence'),
            ('ltrasoft', 'pseudo_type'),
            ('orrection', 'core_correction'),
        ):
            row = next((line for line in lines if mark in line), '')
            values[name] = ' '.join(row.partition(mark)[0].split()[: 4 if name == 'functional' else 1])
    words = tuple(values.get('functional', '').lower().split())
    return PseudopotentialHeader(
        'upf',
        values.get('element', '').strip().capitalize(),
        _UPF_FUNCTIONALS.get(words),
        _read_number(values.get('z_valence', '')),
        _read_number(values.get('wfc_cutoff', '')) or None,
        _read_number(values.get('rho_cutoff', '')) or None,
        _UPF_TRUE.fullmatch(values.get('core_correction', '').strip()) is not None
        or values.get('pseudo_type', '').strip().upper() in ('US', 'USPP', 'PAW'),
    )


def _read_psp8(head: str) -> PseudopotentialHeader | None:
    lines = [line.split() for line in head.splitlines()[1:3]]
    if len(lines) < 2 or len(lines[0]) < 3 or len(lines[1]) < 2 or lines[1][0] != '8':
        return None
    number, charge = (_read_number(word) for word in lines[0][:2])
    code = _read_number(lines[1][1])
    if number is None or charge is None or code is None:
        return None
    functional = _ABINIT_FUNCTIONALS.get(int(code))
    if code < 0:
        functional = _LIBXC_FUNCTIONALS.get(frozenset(divmod(int(-code), 1000)))
    element = SYMBOLS[int(number)] if 0 < number < len(SYMBOLS) else ''
    return PseudopotentialHeader('psp8', element, functional, charge)


def _read_psf(head: str) -> PseudopotentialHeader | None:
    header = _PSF_HEADER.match(head)
    if header is None:
        return None
    return PseudopotentialHeader('psf', header.group(1).capitalize(), _PSF_FUNCTIONALS.get(header.group(2)))


def _read_number(word: str) -> float | None:
    found = _NUMBER.fullmatch(word.strip())
    return float(found[0].replace('D', 'E').replace('d', 'e')) if found else None


def check_pseudopotential(
    text: str, element: str, formats: Sequence[str], functional: tuple[str, str] | None, name: str
) -> None:
    """Check that a pseudopotential belongs to an element and to a functional.

    Programs look at the element rarely, and SIESTA only warns of another functional.

    :param text: content of the file.
    :param element: chemical symbol of the species.
    :param formats: those of :data:`FORMATS` that the program reads.
    :param functional: kind and authors of exchange and correlation; None: not checked.
    :param name: how to call the file in a message.
    :raises EvaluationError: ``'wrong_pseudopotential'``.
    """
    header = read_header(text)
    if header is None or header.format not in formats:
        found = '' if header is None else f', but {header.format}'
        raise EvaluationError(
            FailureCode.WRONG_PSEUDOPOTENTIAL,
            f'{name} is no pseudopotential in the format {" or ".join(formats)}{found}',
        )
    if header.element != element:
        raise EvaluationError(
            FailureCode.WRONG_PSEUDOPOTENTIAL, f'{name} is for {header.element}, but is used for {element}'
        )
    if None not in (header.functional, functional) and header.functional != functional:
        made, wanted = ('-'.join(words or ()) for words in (header.functional, functional))
        raise EvaluationError(
            FailureCode.WRONG_PSEUDOPOTENTIAL,
            f'{name} was made with {made}, the parameters say {wanted}; take pseudopotentials of that functional, or '
            'set the functional in the parameters to it',
        )


def check_pseudopotentials(
    elements: Iterable[str],
    paths: Mapping[str, Path],
    formats: Sequence[str],
    functional: tuple[str, str] | None,
) -> None:
    """Check that the pseudopotentials of a structure are there and fit.

    :param elements: chemical symbols that occur.
    :param paths: file of each element.
    :param formats: those of :data:`FORMATS` that the program reads.
    :param functional: kind and authors of exchange and correlation; None: not checked.
    :raises EvaluationError: ``'missing_pseudopotential'`` or ``'wrong_pseudopotential'``.
    """
    for element in elements:
        if element not in paths:
            known = ', '.join(paths) or 'none'
            raise EvaluationError(
                FailureCode.MISSING_PSEUDOPOTENTIAL, f'there is no pseudopotential for {element}; there are: {known}'
            )
        try:
            text = paths[element].read_text(encoding='utf-8', errors='replace')
        except OSError as error:
            raise EvaluationError(
                FailureCode.MISSING_PSEUDOPOTENTIAL,
                f'the pseudopotential of {element}, {paths[element]}, cannot be read: {error.strerror}',
            ) from error
        check_pseudopotential(text, element, formats, functional, paths[element].name)
