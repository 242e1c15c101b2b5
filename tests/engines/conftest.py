"""Small structures that every engine can treat within seconds."""

from __future__ import annotations

import pytest

from aiida_nanoml.structures import Structure
from aiida_nanoml.testing.structures import BENZENE, BORAZINE, CORONENE, METHYL


@pytest.fixture(scope='session')
def benzene() -> Structure:
    return BENZENE


@pytest.fixture(scope='session')
def borazine() -> Structure:
    return BORAZINE


@pytest.fixture(scope='session')
def methyl() -> Structure:
    return METHYL


@pytest.fixture(scope='session')
def coronene() -> Structure:
    return CORONENE
