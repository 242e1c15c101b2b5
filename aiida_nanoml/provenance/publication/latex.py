"""Escape plain text for LaTeX."""

from __future__ import annotations

import re

_SPECIAL = {
    '\\': r'\textbackslash{}',
    '&': r'\&',
    '%': r'\%',
    '$': r'\$',
    '#': r'\#',
    '_': r'\_',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '<': r'\textless{}',
    '>': r'\textgreater{}',
    '|': r'\textbar{}',
    '"': "''",
}
_BRACES = {'{': r'\{', '}': r'\}'}
_SIGNS = {
    'Å': r'\AA{}',
    '×': r'$\times$',
    'Δ': r'$\Delta$',
    'Γ': r'$\Gamma$',
    'σ': r'$\sigma$',
    'μ': r'$\mu$',
    '±': r'$\pm$',
    '≤': r'$\leq$',
    '≥': r'$\geq$',
    '²': r'$^2$',
    '³': r'$^3$',
    '…': r'\dots{}',
    '–': '--',
    '—': '---',
    '°': r'$^\circ$',
}


def escape(text: str, *, braces: bool = False) -> str:
    """Return text that LaTeX prints as it is; accented letters stay, which LaTeX reads as UTF-8.

    :param braces: escape braces too; else they keep their meaning, as BibTeX needs.
    """
    signs = _SPECIAL | _SIGNS | (_BRACES if braces else {})
    return re.sub('|'.join(map(re.escape, signs)), lambda found: signs[found[0]], text)
