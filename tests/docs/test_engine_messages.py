"""The messages that an author of an engine meets are those that the documentation explains."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiida_nanoml.engines import Engine, EngineParameters, Label, get_engine, program
from aiida_nanoml.errors import EvaluationError, NanomlError
from aiida_nanoml.structures import Structure
from aiida_nanoml.testing import test_engine as contract
from tests.docs.test_docs import rows

DOCUMENTED = [message for message, _ in rows('howto/own_engine.md', 'Messages')]
HYDROGEN = Structure(np.array([1, 1]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]]))

SOURCE = """
from aiida_nanoml.engines import EngineParameters, Label
from aiida_nanoml.engines.program import ProgramEngine, ProgramRuntime, read_file
from aiida_nanoml.errors import EvaluationError
from pydantic import Field

class MineEngine(ProgramEngine):
    name = 'mine'
    title = 'mine'
    theory = 'tight binding'
    url = 'https://example.org'
    program = 'mine'
    how_to_install = 'install mine 1.0'
    probe = ('--version',)
    properties = frozenset({'energy'})

    class Parameters(EngineParameters):
        accuracy: float
        max_iterations: int = 100

    class Runtime(ProgramRuntime):
        executable: str = Field(default='mine', min_length=1)

    @classmethod
    def read_version(cls, output):
        return output[5:] if output.startswith('mine ') else None

    def supports(self, number):
        return True

    def files(self, structure):
        return {'aiida.in': 'positions in bohr'}

    def read(self, folder, structure):
        output = read_file(folder / 'aiida.out')
        if not output:
            raise EvaluationError('truncated', 'mine wrote no energy')
        return Label.from_energy(float(output))
"""

FAST = '  fast: {description: Loose thresholds for trials., parameters: {accuracy: 1.0, max_iterations: 100}}'
PROTOCOLS = f"""
default_protocol: balanced
protocols:
{FAST}
  balanced: {{description: Usual thresholds of the code., parameters: {{accuracy: 0.1, max_iterations: 100}}}}
  stringent: {{description: Tight thresholds for forces., parameters: {{accuracy: 0.01, max_iterations: 100}}}}
"""


class Author:
    """A folder on the import path, where an author writes an engine and its program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(
        self, *changes: tuple[str, str], source: str = SOURCE, protocols: str = PROTOCOLS, script: str = 'echo -3.5'
    ) -> type[Engine]:
        """Write and register an engine with some changes of its source, its protocols and its program; return it."""
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        (self.folder / 'mine_engine.py').write_text(source, encoding='utf-8')
        self.protocols(protocols)
        self.program(script if script.startswith('#!') else f'#!/bin/sh\n{script}\n')
        self.register('mine_engine:MineEngine')
        return get_engine('mine')

    def engine(self, *changes: tuple[str, str], script: str = 'echo -3.5', protocols: str = PROTOCOLS) -> Engine:
        kind = self.write(*changes, script=script, protocols=protocols)
        return kind(kind.parameters('fast'), runtime={'executable': str(self.folder / 'mine')})

    def program(self, text: str) -> Path:
        path = self.folder / 'mine'
        path.write_text(text, encoding='utf-8')
        path.chmod(0o755)
        return path

    def protocols(self, text: str) -> None:
        (self.folder / 'protocols').mkdir(exist_ok=True)
        (self.folder / 'protocols' / 'mine.yaml').write_text(text, encoding='utf-8')

    def register(self, target: str, distribution: str = 'mine') -> None:
        info = self.folder / f'{distribution}-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n')
        (info / 'entry_points.txt').write_text(f'[aiida_nanoml.engines]\nmine = {target}\n')

    def record(self, name: str, **about: object) -> None:
        folder = self.folder / 'recorded' / 'mine' / name
        folder.mkdir(parents=True)
        (folder / 'aiida.in').write_text('positions in ångström', encoding='utf-8')
        run = {'parameters': {'accuracy': 1.0, 'max_iterations': 100}, 'numbers': [1], 'positions_ang': [[0, 0, 0]]}
        (folder / 'about.json').write_text(json.dumps({**run, 'cell_ang': None, **about}), encoding='utf-8')


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Author:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'mine_engine', raising=False)
    importlib.invalidate_caches()
    return Author(tmp_path)


def missing_module(author: Author) -> None:
    author.register('mine_engine:MineEngine')
    get_engine('mine')


def two_packages(author: Author) -> None:
    author.register('other_engine:MineEngine', 'other')
    author.write()


def silent_probe(author: Author) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, 'PROBE_S', 0.2)
        author.engine(script='exec /bin/sleep 60').version_in_use()


def not_executable(author: Author) -> None:
    engine = author.engine()
    (author.folder / 'mine').chmod(0o644)
    engine.evaluate(HYDROGEN)


def not_a_program(author: Author) -> None:
    engine = author.engine()
    author.program('echo -3.5\n')
    engine.evaluate(HYDROGEN)


def density_left_out(author: Author) -> None:
    engine = author.engine(("{'energy'}", "{'energy', 'density'}"))
    type(engine)(engine.settings, runtime=engine.runtime.model_dump(), density=True).evaluate(HYDROGEN)


def recordings(author: Author, **runs: dict[str, object]) -> None:
    engine = author.engine()
    for name, about in runs.items():
        author.record(name, **about)
    contract.test_recorded_runs_are_written_and_read(engine)


def declaration(author: Author, old: str, new: str = '') -> None:
    contract.test_declaration(author.engine((old, new)))


def runtime(author: Author, **values: object) -> Engine:
    kind = author.write()
    return kind(kind.parameters('fast'), runtime=values)


def no_protocols(author: Author) -> None:
    kind = author.write()
    (author.folder / 'protocols' / 'mine.yaml').unlink()
    kind.parameters()


LABELLED, FAILED = {'label': {'energy_ev': -3.5}}, {'failure': 'truncated'}
ONLY_BALANCED = PROTOCOLS.replace(FAST, '')
RELIES_ON_A_DEFAULT = PROTOCOLS.replace('accuracy: 0.01, max_iterations: 100', 'accuracy: 0.01')

PROVOKED: tuple[Callable[[Author], object], ...] = (
    lambda author: get_engine('mine'),
    two_packages,
    missing_module,
    lambda author: author.write(source='x = 1'),
    lambda author: author.write(source='MineEngine = dict'),
    lambda author: author.write(("name = 'mine'", "name = 'gfn'")),
    no_protocols,
    lambda author: author.write(protocols='protocols: {}').parameters(),
    lambda author: author.write(protocols=PROTOCOLS.replace('description: Loose', 'about: Loose')).parameters(),
    lambda author: author.engine(protocols=ONLY_BALANCED),
    lambda author: author.engine((' = 100', ''), protocols=PROTOCOLS.replace('1.0, max_iterations: 100', '1.0')),
    lambda author: contract.test_every_protocol_gives_parameters(author.engine(protocols=RELIES_ON_A_DEFAULT)),
    lambda author: author.engine(protocols=PROTOCOLS.replace('1.0', '1e-6')),
    lambda author: author.write()(EngineParameters()),
    lambda author: author.write(("default='mine', ", '')).missing(),
    lambda author: runtime(author, executible='mine'),
    lambda author: author.write().require('density'),
    lambda author: author.engine(('def read(', 'def read_output(')),
    lambda author: author.write().missing(),
    lambda author: author.write().missing({'executable': '/bin/sh', 'launcher': ['srun']}),
    lambda author: author.engine(script='echo usage: mine INPUT; exit 2').version_in_use(),
    silent_probe,
    not_executable,
    not_a_program,
    lambda author: author.engine(('positions in bohr', 'positions in Å')).evaluate(HYDROGEN),
    lambda author: author.engine(script='printf "****"').evaluate(HYDROGEN),
    lambda author: author.engine(script='echo no licence >&2; exit 3').evaluate(HYDROGEN),
    lambda author: author.engine(script='echo nan').evaluate(HYDROGEN),
    lambda author: Label.from_levels(-1.0, [-2.0, -1.0], 4),
    density_left_out,
    lambda author: declaration(author, "theory = 'tight binding'"),
    lambda author: declaration(author, "url = 'https://example.org'"),
    lambda author: declaration(author, 'url = ', "pseudopotential_formats = ('upf',)\n    url = "),
    lambda author: recordings(author, unconverged=FAILED),
    lambda author: recordings(author, hydrogen=LABELLED),
    lambda author: recordings(author, hydrogen=LABELLED, unconverged=FAILED),
)
"""How each message of the table comes about, in its order."""


@pytest.mark.parametrize(('documented', 'provoke'), list(zip(DOCUMENTED, PROVOKED, strict=True)), ids=DOCUMENTED)
def test_the_message_is_the_documented_one(
    documented: str, provoke: Callable[[Author], object], author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('PATH', str(author.folder / 'bin'))
    try:
        found = str(provoke(author))
    except (NanomlError, EvaluationError, AssertionError, TypeError) as error:
        found = str(getattr(error, 'message', error)).partition('\n')[0]
    assert re.fullmatch(re.escape(documented).replace('…', '.*'), found), found
