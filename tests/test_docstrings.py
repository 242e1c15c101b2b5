"""Examples in docstrings of the pure core run, and every built-in plug-in has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import sys
from importlib.metadata import distribution

import pytest

import aiida_nanoml

CORE = ('structures', 'features', 'learning', 'transport', 'alloys')
GROUPS = ('descriptors', 'selectors', 'generators')
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules() -> list[str]:
    """Return the names of the modules of the pure core."""
    found = pkgutil.walk_packages(aiida_nanoml.__path__, 'aiida_nanoml.')
    return [module.name for module in found if module.name.split('.')[1] in CORE]


def examples(module: str) -> list[doctest.DocTest]:
    """Return the docstrings of a module that have examples."""
    return [test for test in doctest.DocTestFinder().find(importlib.import_module(module)) if test.examples]


@pytest.mark.parametrize('module', modules())
def test_examples_run(module: str) -> None:
    heavy = 'tensorflow' in sys.modules
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    report: list[str] = []
    for test in examples(module):
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, ''.join(report)
    assert heavy or 'tensorflow' not in sys.modules, 'an example that trains a network is too slow: skip or shrink it'


BUILT_IN = [point for point in distribution('aiida-nanoml').entry_points if point.group.partition('.')[2] in GROUPS]


@pytest.mark.parametrize('point', BUILT_IN, ids=lambda point: f'{point.group}:{point.name}')
def test_every_plugin_shows_how_it_is_used(point) -> None:
    assert '>>> ' in point.load().__doc__


def test_examples_are_found() -> None:
    """An empty run would look like a good one."""
    assert len([test for module in modules() for test in examples(module)]) > 10
