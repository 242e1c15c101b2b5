"""Results of the source, to print and draw beside ours; its labels, flakes and vocabulary differ."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SOURCE = 'source (SIESTA, its own flakes)'
"""Name of these results in tables and figures."""

P = (0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)

TABLE_1: Mapping[str, Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {
        's': MappingProxyType(
            {
                'n_features': (11, 25, 31, 40, 46, 58, 90, 95),
                'r2_validation': (0.21, 0.24, 0.25, 0.65, 0.65, 0.74, 0.77, 0.78),
                'r2_test': (0.11, 0.25, 0.27, 0.66, 0.68, 0.87, 0.89, 0.88),
            }
        ),
        'h': MappingProxyType(
            {
                'n_features': (19, 28, 39, 49, 56, 62, 70, 86),
                'r2_validation': (0.25, 0.28, 0.62, 0.60, 0.64, 0.65, 0.71, 0.80),
                'r2_test': (0.22, 0.25, 0.76, 0.75, 0.80, 0.79, 0.78, 0.80),
            }
        ),
    }
)
"""Table 1 of the source by family: variance threshold p (1 - p) for the eight values of ``P``."""
