"""Plug-in of pytest with the option ``--engine``, which a file of fixtures in an installed package cannot add."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that chooses engines."""
    parser.getgroup('aiida-nanoml').addoption(
        '--engine',
        action='append',
        default=[],
        metavar='NAME',
        help='engine to test with --pyargs aiida_nanoml.testing; repeat for several, default: all that are installed',
    )
