"""Pseudopotentials of SIESTA: the bundled set, and what a file says about itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiida_nanoml.engines.siesta.parameters import SiestaParameters
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS

BUNDLED_LABEL = 'tm-lda-ca'
"""Name of the bundled set: Troullier-Martins, LDA of Ceperley and Alder."""

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

_PSML_HEAD = 1 << 16
"""What a psml file says of itself stands within so many characters; further ones are numbers."""

_PSF_HEADER = re.compile(r'\s*([A-Za-z]{1,2})\s+([a-z]{2})\s+(?:nrl|rel|isp)\s+\w+')


@dataclass(frozen=True)
class PseudopotentialHeader:
    """What a pseudopotential says about itself.

    :param format: ``psf`` or ``psml``.
    :param element: chemical symbol.
    :param functional: kind and authors of exchange and correlation as in the parameters of the engine; None where the
        code in the file is not known.
    """

    format: str
    element: str
    functional: tuple[str, str] | None


@cache
def bundled() -> dict[str, Path]:
    """Return the files of the bundled Troullier-Martins set by element: H, B, C, N, Al, Cr, Fe, Co and Ni."""
    folder = Path(__file__).parent / 'pseudopotentials' / BUNDLED_LABEL
    return {path.stem: path for path in sorted(folder.glob('*.psf'))}


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
    """Read the header of a pseudopotential; None for a text that is neither psf nor psml.

    :param text: content of the file; the beginning is enough for psf.
    """
    if '<psml' in text[:2000]:
        head = text[:_PSML_HEAD]
        symbol = re.search(r'<pseudo-atom-spec\b[^>]{0,2000}\batomic-label="\s*([A-Za-z]{1,2})', head)
        identifiers = frozenset(map(int, re.findall(r'<functional\b[^>]{0,2000}\bid="\s*(\d{1,6})', head)))
        functional = _LIBXC_FUNCTIONALS.get(identifiers)
        kind = 'psml'
    else:
        header = _PSF_HEADER.match(text)
        symbol, kind = header, 'psf'
        functional = _PSF_FUNCTIONALS.get(header.group(2)) if header else None
    element = symbol.group(1).capitalize() if symbol else ''
    return PseudopotentialHeader(kind, element, functional) if element in ATOMIC_NUMBERS else None


def check_pseudopotential(text: str, element: str, parameters: SiestaParameters, name: str) -> None:
    """Check that a pseudopotential belongs to an element and to the functional of the parameters.

    SIESTA itself only warns of another functional, and does not look at the element at all.

    :param text: content of the file.
    :param element: chemical symbol of the species.
    :param name: how to call the file in a message.
    :raises EvaluationError: ``'wrong_pseudopotential'``.
    """
    header = read_header(text)
    if header is None:
        raise EvaluationError(
            FailureCode.WRONG_PSEUDOPOTENTIAL, f'{name} is no pseudopotential in the format psf or psml'
        )
    if header.element != element:
        raise EvaluationError(
            FailureCode.WRONG_PSEUDOPOTENTIAL, f'{name} is for {header.element}, but is used for {element}'
        )
    wanted = (parameters.xc_functional, parameters.xc_authors)
    if header.functional is not None and header.functional != wanted:
        raise EvaluationError(
            FailureCode.WRONG_PSEUDOPOTENTIAL,
            f'{name} was made with {"-".join(header.functional)}, the parameters say {"-".join(wanted)}; take '
            'pseudopotentials of that functional, or set xc_functional and xc_authors to it',
        )


def check_pseudopotentials(elements: list[str], paths: Mapping[str, Path], parameters: SiestaParameters) -> None:
    """Check that the pseudopotentials of a structure are there and fit.

    :param elements: chemical symbols that occur.
    :param paths: file of each element.
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
        check_pseudopotential(text, element, parameters, paths[element].name)
