"""Engines are found through entry points; these tests install small distributions of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aiida_nanoml.engines import engine_names, get_engine
from aiida_nanoml.errors import EngineError, EvaluationError
from aiida_nanoml.structures import Structure

THIRD_PARTY = """
from aiida_nanoml.engines import Engine, EngineParameters, Label

class Counting(Engine):
    name = 'counting'
    title = 'Counting'
    properties = frozenset({'energy', 'gap'})

    class Parameters(EngineParameters):
        scale_ev: float

    @classmethod
    def missing(cls):
        return None

    @classmethod
    def version(cls):
        return '1.0'

    def supports(self, number):
        return number == 6

    def compute(self, structure):
        if len(structure.numbers) > 2:
            raise ZeroDivisionError('three atoms')
        return Label.from_levels(-1.0, [0.0, 0.0, 0.0, self.settings.scale_ev], 4 + 2 * len(structure.numbers) - 2)
"""

PROTOCOLS = """
default_protocol: only
protocols:
  only:
    description: Levels at zero and at one place above.
    parameters: {scale_ev: 1.5}
"""


class Site:
    """A folder on the import path in which distributions can be installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, distribution: str, entry: str, source: str, protocols: str | None = None) -> None:
        module = entry.partition('=')[2].partition(':')[0].strip()
        (self.folder / f'{module}.py').write_text(source)
        if protocols is not None:
            (self.folder / 'protocols').mkdir(exist_ok=True)
            (self.folder / 'protocols' / f'{entry.partition("=")[0].strip()}.yaml').write_text(protocols)
        info = self.folder / f'{distribution}-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n')
        (info / 'entry_points.txt').write_text(f'[aiida_nanoml.engines]\n{entry}\n')


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Site(tmp_path)


def test_built_in_engines_are_registered() -> None:
    assert {'ase', 'pyscf', 'siesta', 'xtb'} <= set(engine_names())
    assert engine_names() == sorted(engine_names())
    assert get_engine('xtb').__module__ == 'aiida_nanoml.engines.xtb'


def test_unknown_engine_lists_the_known_ones() -> None:
    with pytest.raises(EngineError, match=r"no engine 'siseta'; registered: .*xtb"):
        get_engine('siseta')


def test_third_party_engine_is_an_engine_like_any_other(site: Site) -> None:
    site.install('counting-engine', 'counting = counting_engine_a:Counting', THIRD_PARTY, PROTOCOLS)
    assert 'counting' in engine_names()
    chosen = get_engine('counting')
    engine = chosen(chosen.parameters(overrides={'scale_ev': 2.5}))
    assert engine.method == 'Counting'
    label = engine.evaluate(Structure([6, 6], [[0, 0, 0], [0, 0, 1.4]]))
    assert (label.gap_ev, label.n_electrons) == (2.5, 6)


def test_fault_in_a_third_party_engine_is_an_evaluation_error(site: Site) -> None:
    site.install('counting-engine', 'counting = counting_engine_b:Counting', THIRD_PARTY, PROTOCOLS)
    chosen = get_engine('counting')
    with pytest.raises(EvaluationError, match='ZeroDivisionError: three atoms') as caught:
        chosen(chosen.parameters()).evaluate(Structure([6, 6, 6], [[0, 0, 0], [0, 0, 1.4], [0, 0, 2.8]]))
    assert caught.value.code == 'engine_failure'


@pytest.mark.parametrize(
    ('protocols', 'message'),
    [
        (None, 'cannot be read'),
        ('protocols: [', 'cannot be read'),
        ('default_protocol: best\nprotocols: {only: {description: a, parameters: {}}}', 'default_protocol'),
        ('default_protocol: only\nprotocols: {only: {parameters: {}}}', 'description'),
    ],
)
def test_malformed_protocols_are_refused(site: Site, protocols: str | None, message: str) -> None:
    module = site.folder.name  # differs from case to case, so that none meets the imported module of another
    site.install('counting-engine', f'counting = {module}:Counting', THIRD_PARTY, protocols)
    with pytest.raises(EngineError, match=message):
        get_engine('counting').parameters()


@pytest.mark.parametrize(
    ('entry', 'source', 'message'),
    [
        ('broken = engine_that_raises:Engine', 'raise RuntimeError("no licence")', 'RuntimeError: no licence'),
        ('broken = engine_without_class:Engine', 'x = 1', 'cannot be loaded'),
        ('broken = engine_that_is_none:Engine', 'Engine = dict', 'not a subclass'),
        ('broken = engine_misnamed:Counting', THIRD_PARTY, "calls itself 'counting'"),
    ],
)
def test_broken_engine_disturbs_no_other(site: Site, entry: str, source: str, message: str) -> None:
    site.install('broken-engine', entry, source)
    assert {'broken', 'xtb'} <= set(engine_names())
    assert get_engine('xtb').missing() is None
    with pytest.raises(EngineError, match=message):
        get_engine('broken')


def test_name_claimed_twice_is_refused(site: Site) -> None:
    site.install('other-xtb', 'xtb = other_xtb:Counting', THIRD_PARTY)
    with pytest.raises(EngineError, match=r'claimed by aiida_nanoml.engines.xtb:XtbEngine and other_xtb:Counting'):
        get_engine('xtb')


def test_loading_engines_imports_no_heavy_library() -> None:
    program = (
        'import sys\n'
        'from aiida_nanoml.engines import engine_names, get_engine\n'
        "for name in ('ase', 'xtb', 'pyscf'):\n"
        '    chosen = get_engine(name)\n'
        '    chosen.missing(), chosen.version(), chosen(chosen.parameters())\n'
        "heavy = ('tblite', 'pyscf', 'ase', 'torch', 'scipy', 'aiida', 'tensorflow')\n"
        'print([name for name in heavy if name in sys.modules])\n'
    )
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'
