"""One registry for every kind of plug-in: what it finds in installed packages, and what it says about broken ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiida_nanoml.errors import EngineError
from aiida_nanoml.plugins import Registry, subclass_of

GROUP = 'nanoml_tests.shapes'
SHAPES = """
class Shape:
    name = 'shape'

class Square(Shape):
    name = 'square'

class Misnamed(Shape):
    name = 'circle'

class Stranger:
    name = 'stranger'

def function():
    pass
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install small packages, each a module and the metadata that pip would write; modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)

    def make(package: str, source: str, **entries: str) -> None:
        (tmp_path / f'{package}.py').write_text(source)
        info = tmp_path / f'{package}-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n')
        lines = [f'{name} = {package}:{attribute}' for name, attribute in entries.items()]
        (info / 'entry_points.txt').write_text('\n'.join([f'[{GROUP}]', *lines, '']))

    yield make
    for name in set(sys.modules) - known:
        if name.startswith('shapes_'):
            del sys.modules[name]


@pytest.fixture
def registry() -> Registry:
    return Registry(GROUP, 'shape', EngineError)


def test_plugins_are_found_by_name_without_being_imported(install: Install, registry: Registry) -> None:
    install('shapes_a', SHAPES, square='Square', any='Shape')
    install('shapes_b', 'raise RuntimeError("imported")', alien='Alien')
    assert registry.names() == ['alien', 'any', 'square']
    assert 'shapes_a' not in sys.modules
    assert registry.load('square').__name__ == 'Square'


def test_unknown_name_lists_the_known_ones(install: Install, registry: Registry) -> None:
    with pytest.raises(
        EngineError, match=r"there is no shape 'disc'; registered: none \(is aiida-nanoml installed\?\)"
    ):
        registry.load('disc')
    install('shapes_c', SHAPES, square='Square', any='Shape')
    with pytest.raises(EngineError, match="there is no shape 'disc'; registered: any, square"):
        registry.load('disc')


def test_name_claimed_by_two_packages_is_neither(install: Install, registry: Registry) -> None:
    install('shapes_d', SHAPES, square='Square', any='Shape')
    install('shapes_e', SHAPES, square='Square')
    with pytest.raises(
        EngineError, match="the shape 'square' is claimed by shapes_d:Square and shapes_e:Square; uninstall one of them"
    ):
        registry.load('square')
    assert registry.load('any').__name__ == 'Shape'


def test_same_target_registered_twice_counts_once(install: Install, registry: Registry, tmp_path: Path) -> None:
    """As after an editable installation over another one."""
    install('shapes_f', SHAPES, square='Square')
    older = tmp_path / 'shapes_f_older-0.9.dist-info'
    older.mkdir()
    (older / 'METADATA').write_text('Metadata-Version: 2.1\nName: shapes_f_older\nVersion: 0.9\n')
    (older / 'entry_points.txt').write_text(f'[{GROUP}]\nsquare = shapes_f:Square\n')
    assert registry.names() == ['square']
    assert registry.load('square').__name__ == 'Square'


@pytest.mark.parametrize(
    ('source', 'attribute', 'message'),
    [
        (
            'raise RuntimeError("no licence")',
            'Shape',
            r"'broken' \(\w+:Shape\) cannot be loaded: RuntimeError: no licence",
        ),
        ('import shapes_that_are_nowhere', 'Shape', 'cannot be loaded: ModuleNotFoundError: No module named'),
        ('x = 1', 'Shape', 'cannot be loaded: AttributeError'),
        ('def (', 'Shape', 'cannot be loaded: SyntaxError'),
    ],
)
def test_broken_plugin_disturbs_no_other(
    install: Install, registry: Registry, source: str, attribute: str, message: str
) -> None:
    install('shapes_broken', source, broken=attribute)
    install('shapes_g', SHAPES, square='Square')
    assert registry.load('square').__name__ == 'Square'
    assert registry.name_of(registry.load('square')) == 'square'
    assert registry.names() == ['broken', 'square']
    with pytest.raises(EngineError, match=message):
        registry.load('broken')


def test_what_is_no_plugin_of_this_kind_is_refused(install: Install) -> None:
    install('shapes_h', SHAPES, square='Square', disc='Misnamed', stranger='Stranger', function='function')
    base = Registry(GROUP, 'shape', EngineError).load('square').__mro__[1]
    named = Registry(GROUP, 'shape', EngineError, subclass_of(base, named=True))
    assert named.load('square').__name__ == 'Square'
    for name, message in (
        ('stranger', r"'stranger' \(shapes_h:Stranger\) is not a subclass of shapes_h.Shape"),
        ('function', r"'function' \(shapes_h:function\) is not a subclass of shapes_h.Shape"),
        ('disc', r"'disc' \(shapes_h:Misnamed\) calls itself 'circle'; the names must agree"),
    ):
        with pytest.raises(EngineError, match=message):
            named.load(name)
    assert Registry(GROUP, 'shape', EngineError, subclass_of(base)).load('disc').__name__ == 'Misnamed'


def test_name_of_a_plugin(install: Install, registry: Registry) -> None:
    install('shapes_i', SHAPES, square='Square')
    install('shapes_j', 'from shapes_i import Shape as Form', form='Form')
    install('shapes_k', 'from enum import Enum', elsewhere='Enum')
    square = registry.load('square')
    assert registry.name_of(square) == 'square'
    assert registry.name_of(square.__mro__[1]) is None, 'another package leads there: the class is not its own'
    assert registry.name_of(dict) is None


def test_name_of_a_plugin_that_is_reached_by_another_path(install: Install, registry: Registry) -> None:
    install('shapes_l', f'{SHAPES}\nQuad = Square\n', quad='Quad')
    assert registry.name_of(registry.load('quad')) == 'quad'
