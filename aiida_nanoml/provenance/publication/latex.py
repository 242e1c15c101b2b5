"""Plain text as LaTeX."""

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
    """Write text so that LaTeX prints it as it is; accented letters stay, which LaTeX reads as UTF-8.

    :param braces: whether braces are printed too; else they stay what they are to LaTeX, as BibTeX wants them.
    """
    signs = _SPECIAL | _SIGNS | (_BRACES if braces else {})
    return re.sub('|'.join(map(re.escape, signs)), lambda found: signs[found[0]], text)
