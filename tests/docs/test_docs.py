"""Run what the documentation and the README show, and compare it with what they say.

Fenced blocks, by their info string:

- ``console``: lines after ``$ `` (continued with ``> ``) are run with bash; the lines below a command are its standard
  output, where ``…`` stands for anything, and identifiers, PKs and times for others. Numbers are those that are
  printed, unless the line before the block is :data:`VARYING` or the page is one of :data:`LOOSE`.
- ``python``: run as a script; blocks that follow each other, with only text between, are one script.
- ``{code-block}`` with a ``:caption:``: a file of that name, written for the blocks below.
- ``bash``: not run, for the reason in NOT_RUN, but its syntax is checked.
- anything else is no code.

Pages that go on from another one run after it, in the same folder and profile; each chain has its own of both. The
page about clusters runs on one of the loopback, with recorded runs in the place of SIESTA; the one about its
potentials finds a recorded one.
"""

from __future__ import annotations

import itertools
import lzma
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
import pytest
from aiida.plugins import CalculationFactory, WorkflowFactory

import aiida_nanoml.errors
from aiida_nanoml.cli import root
from aiida_nanoml.learning.registry import MODELS, hyperparameters
from aiida_nanoml.provenance.audit import CHECKS
from aiida_nanoml.workflows.protocols import ProtocolError
from tests.forked import environment as forked
from tests.remote.cluster import missing_packages, running_cluster

ROOT = Path(__file__).parents[2]
DOCS = ROOT / 'docs'
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted(DOCS.glob('*/*.md')), *sorted(DOCS.glob('*.md'))]

CHAINS = (
    (
        'docs/tutorials/first_model.md',
        'docs/howto/exchange_files.md',
        'docs/howto/correction.md',
        'docs/howto/active_learning.md',
        'docs/howto/studies.md',
        'docs/howto/own_structures.md',
        'docs/howto/select_features.md',
        'docs/howto/own_descriptor.md',
        'docs/howto/resume.md',
        'docs/topics/provenance.md',
        'docs/howto/housekeeping.md',
    ),
    ('docs/tutorials/density.md', 'docs/howto/warm_start.md', 'docs/topics/density.md'),
    ('docs/tutorials/transmission.md', 'docs/howto/siesta_potential.md', 'docs/topics/rmatrix.md'),
    (
        'docs/tutorials/starter.md',
        'docs/howto/taint.md',
        'docs/howto/reproduce.md',
        'docs/howto/audit.md',
        'docs/howto/publish.md',
        'docs/howto/import_siesta.md',
        'docs/howto/pseudopotentials.md',
        'docs/howto/compare_models.md',
    ),
    ('docs/tutorials/alloys.md',),
    ('docs/tutorials/python_api.md', 'docs/topics/features.md', 'docs/howto/figures.md'),
    (
        'docs/howto/own_engine.md',
        'docs/howto/own_action.md',
        'docs/reference/actions.md',
        'docs/howto/own_generator.md',
        'docs/howto/own_model.md',
    ),
    ('docs/topics/engines.md', *(str(page.relative_to(ROOT)) for page in sorted(DOCS.glob('topics/engine_*.md')))),
    ('docs/howto/import_runs.md', 'docs/howto/web.md'),
    ('docs/howto/portal.md',),
)
CLUSTER_CHAIN = ('docs/howto/cluster.md',)
RECORDED_FILES = {'docs/howto/siesta_potential.md': (ROOT / 'tests' / 'recorded' / 'siesta_potential' / 'slab.VT.xz',)}
"""What a reader of a page has already: packed files, which lie unpacked in the folder of its chain."""

OWN_PREPARATION = 'aiida-nanoml doctor --fix'
PREPARATION = """
from aiida import load_profile
from aiida_nanoml.calculations.local_worker import make_code, make_localhost
from aiida_nanoml.actions.installation import make_profile
load_profile(make_profile('docs').name)
computer = make_localhost()
computer.set_minimum_job_poll_interval(0.25)  # jobs take less than the second of a user's profile
make_code(computer)
"""

NOT_RUN = {
    ('docs/howto/publish.md', 'rocrate-validator validate'): 'is no dependency, and fetches the context of RO-Crate',
    ('docs/gallery.md', ''): 'stands on another page, which runs it or says why not',
    ('README.md', 'make quickstart'): 'takes minutes; tests/cli runs the command behind it',
    ('README.md', 'make test'): 'would run this test again',
    ('CONTRIBUTING.md', 'make install'): 'installs packages',
    ('CONTRIBUTING.md', 'make test'): 'would run this test again',
    ('CONTRIBUTING.md', 'pre-commit install'): 'changes the clone',
    ('docs/tutorials/quickstart.md', 'make quickstart'): 'takes minutes; tests/cli runs the command behind it',
    ('docs/tutorials/quickstart.md', 'source quickstart/activate'): 'stands on the results of the quickstart',
    ('docs/howto/web.md', 'pip install'): 'needs the network, and serves until it is stopped',
    ('docs/howto/portal.md', 'aiida-nanoml portal serve'): 'serves until it is stopped; tests/portal does so',
    ('docs/howto/portal.md', 'apt-get'): 'changes the machine',
    ('docs/howto/portal.md', 'PATH='): 'needs the configuration of a machine; tests/portal runs such commands',
    ('docs/howto/portal.md', 'systemctl'): 'changes the machine',
    ('docs/howto/portal.md', 'ln'): 'changes the machine',
    ('docs/howto/cluster.md', 'ssh cluster'): 'needs the network',
    ('docs/howto/resume.md', 'aiida-nanoml campaign resume'): 'needs a broker that was killed',
    ('docs/howto/cluster.md', 'aiida-nanoml flakes generate'): 'takes days on a cluster',
    ('docs/howto/housekeeping.md', 'eval'): 'changes the shell that reads it',
    ('docs/howto/warm_start.md', 'aiida-nanoml label flakes'): 'needs SIESTA; tests/cli replays a recorded comparison',
    ('docs/howto/studies.md', 'aiida-nanoml study selection'): 'trains hundreds of networks',
    ('docs/howto/active_learning.md', 'aiida-nanoml label flakes'): 'needs SIESTA on a cluster',
    ('docs/howto/import_siesta.md', 'aiida-nanoml siesta import folders'): 'takes minutes; tests/cli run such commands',
    ('docs/howto/import_siesta.md', 'aiida-nanoml siesta import'): 'relies on the folders of the starter data',
    ('docs/topics/targets.md', 'aiida-nanoml dataset build'): 'needs labelled alloys; tests/cli runs such commands',
    ('docs/topics/results.md', 'aiida-nanoml study transfer'): 'needs thousands of labelled flakes',
    ('docs/topics/results.md', 'aiida-nanoml study selection'): 'takes minutes, and thousands of labelled flakes',
    ('docs/tutorials/alloys.md', 'aiida-nanoml alloys study'): 'does once more what the page does step by step',
    ('docs/howto/own_engine.md', 'pip install .'): 'changes the environment',
    ('docs/howto/own_engine.md', 'python -m pytest'): 'takes a minute; a part of it is run by the page',
    ('docs/howto/own_model.md', 'aiida-nanoml train'): 'trains like any other model; tests/learning do so',
    ('docs/topics/engines.md', 'pip install'): 'needs the network',
    ('docs/tutorials/transmission.md', 'sed'): 'ends with an error, as it should; tests/transport looks at such files',
}

FENCE = re.compile(r'^(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=fence)\s*$', re.MULTILINE | re.DOTALL)
CODE = re.compile(r'`[^`]+`')
OPTION = re.compile(r'(?<![\w-])(?:--|[–—])[a-z][\w-]+')
IDENTIFIER = re.compile(r'\b(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{12,64})\b')
VARYING = '<!-- numbers vary -->'
"""Comment above a block whose numbers differ between machines; a sentence of its page says so to the reader."""

LOOSE = ('docs/howto/housekeeping.md', 'docs/howto/cluster.md')
"""Pages whose numbers are examples: only the words of their outputs are compared."""

CHANGING = re.compile(
    r'\bpk \d+|\d{4}-\d\d-\d\d(?:T[\d:]+)?|\b\d+(?:\.\d+)? m?s\b|^next: .*|^time .*|(?<=\) )\d+\.\d+\.\d+(?=[, ])',
    re.MULTILINE,
)
"""What differs in each run: PKs, times, the arguments of the next step, versions of programs."""

NUMBER = re.compile(r'(?<![\w-])-?\d[\d.:T-]*(?:e[+-]\d+)?')


@dataclass(frozen=True)
class Block:
    """A fenced block, or a part of one: a console block has one part for each command."""

    page: str
    line: int
    kind: str
    text: str
    output: str = ''
    file: str = ''
    varies: bool = False


def blocks(page: Path) -> Iterator[Block]:
    name, content = str(page.relative_to(ROOT)), page.read_text(encoding='utf-8')
    for match in FENCE.finditer(content):
        line = content.count('\n', 0, match.start()) + 2
        kind, text = match['info'].strip(), match['text']
        varies = name in LOOSE or content[: match.start()].rstrip().endswith(VARYING)
        if kind == 'console':
            for command, output in commands(text):
                yield Block(name, line, kind, command, output, varies=varies)
        elif kind.startswith('{code-block}'):
            caption = re.match(r':caption: (\S+)\n\n?', text)
            assert caption, f'{name}:{line}: a code-block needs a caption, the name of the file'
            yield Block(name, line, 'file', text[caption.end() :], file=caption[1])
        else:
            yield Block(name, line, kind, text)


def commands(text: str) -> Iterator[tuple[str, str]]:
    command: list[str] = []
    output: list[str] = []
    for line in text.splitlines():
        if line.startswith('$ '):
            if command:
                yield '\n'.join(command), '\n'.join(output)
            command, output = [line[2:]], []
        elif line.startswith('> ') and not output:
            command.append(line[2:])
        else:
            output.append(line)
    yield '\n'.join(command), '\n'.join(output)


def settled(text: str) -> str:
    """Put ``#`` in the place of what differs in each run."""
    text = CHANGING.sub(lambda found: NUMBER.sub('#', found[0]), IDENTIFIER.sub('#', text))
    return ' '.join(text.split())


def differences(block: Block, printed: str) -> list[str]:
    """Return how the output of a command differs from its page: in its words, or in numbers that are to be the same."""
    shown = settled(block.output)
    pattern, end = '', 0
    for number in NUMBER.finditer(shown):
        pattern += re.escape(shown[end : number.start()]) + f'({NUMBER.pattern})'
        end = number.end()
    pattern = (pattern + re.escape(shown[end:])).replace('…', '.*')
    match = re.fullmatch(pattern, settled(printed), re.DOTALL)
    if match is None:
        return ['the words differ']
    if block.varies:
        return []
    pairs = zip(NUMBER.findall(shown), match.groups(), strict=True)
    return [f'{found} in place of {expected}' for expected, found in pairs if not near(expected, found)]


def near(expected: str, found: str) -> bool:
    """Return whether two numbers are equal, but for one in the last decimal."""
    if expected == found:
        return True
    decimals = len(expected.partition('.')[2])
    try:
        return decimals > 0 and abs(float(expected) - float(found)) < 1.5 * 10**-decimals
    except ValueError:
        return False


def test_outputs_are_compared_with_their_numbers() -> None:
    shown = (
        'model   net pk 37, uuid 6f51aec4-dca8-429c-aef8-bfd13a9945b1\n'
        'R2 0.918 of 12 rows, 2026-11-22T17:05:28 …\n'
        'next: x 3'
    )
    block = Block('page', 1, 'console', 'show', shown)
    again = (
        'model net pk 4, uuid 1f51aec4-dca8-429c-aef8-bfd13a9945b1\nR2 {} of {} {}, 2026-11-23T01:05:28 x y\nnext: x 4'
    )
    assert differences(block, again.format('0.917', 12, 'rows')) == []
    assert differences(block, again.format('0.916', 12, 'rows')) == ['0.916 in place of 0.918']
    assert differences(block, again.format('0.918', 13, 'rows')) == ['13 in place of 12']
    assert differences(replace(block, varies=True), again.format('0.1', 13, 'rows')) == []
    assert differences(replace(block, varies=True), again.format('0.1', 13, 'columns')) == ['the words differ']


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_run_or_excused(page: Path) -> None:
    """No block of code is left out by accident; those that are not run have at least the right syntax."""
    chained = set(itertools.chain(*CHAINS, CLUSTER_CHAIN))
    for block in blocks(page):
        where = f'{block.page}:{block.line}'
        if block.kind in ('console', 'python', 'file'):
            assert block.page in chained, f'{where}: the page is in no chain, so that the block is never run'
        elif block.kind == 'bash':
            excuses = [start for name, start in NOT_RUN if name == block.page and block.text.startswith(start)]
            assert excuses, f'{where}: give the reason in NOT_RUN, or make it a console block'
            subprocess.run(['bash', '-n'], input=block.text, text=True, check=True, capture_output=True)
        else:
            assert block.kind == 'text' or block.kind.startswith('{'), f'{where}: unknown kind {block.kind!r}'


def test_options_in_prose_are_code() -> None:
    """An option can be copied from a sentence, and is never broken by a dash."""
    plain = [
        f'{page.relative_to(ROOT)}: {option}'
        for page in [*PAGES, *DOCS.glob('[!_]*/*/*.md')]
        for option in OPTION.findall(CODE.sub('', FENCE.sub('', page.read_text(encoding='utf-8'))))
    ]
    assert plain == []


def test_every_excuse_is_used() -> None:
    found = [(block.page, block.text) for page in PAGES for block in blocks(page) if block.kind == 'bash']
    unused = [key for key in NOT_RUN if not any(key[0] == name and text.startswith(key[1]) for name, text in found)]
    assert unused == []


def test_commands_that_are_not_run_have_their_options() -> None:
    found = 0
    for block in itertools.chain(*map(blocks, PAGES)):
        for line in block.text.replace('\\\n', ' ').splitlines() if block.kind == 'bash' else ():
            program, *arguments = shlex.split(line)
            if program != 'aiida-nanoml':
                continue
            command: click.Command = root
            context = click.Context(root)
            while isinstance(command, click.Group):
                command = command.get_command(context, arguments.pop(0))
                context = click.Context(command, parent=context)
            command.make_parser(context).parse_args(arguments)
            found += 1
    assert found


@pytest.mark.timeout(1200)
@pytest.mark.parametrize('chain', CHAINS, ids=lambda chain: chain[-1])
def test_blocks_run(chain: tuple[str, ...], tmp_path: Path) -> None:
    """Every block does what the page says, in a fresh profile."""
    run_chain(chain, tmp_path)


@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(missing_packages()), reason=f'needs the Debian packages {", ".join(missing_packages())}')
def test_blocks_run_on_a_cluster(tmp_path: Path, siesta_stand_in: Path) -> None:
    """The page holds for a cluster of the loopback; only its paths are others, and nobody asks to log in rarely."""
    with running_cluster() as cluster:
        places = {
            '/scratch/{username}/aiida': str(cluster.work),
            '/home/you/nanoml/bin': str(Path(sys.executable).parent),
            '/home/you/bin/siesta': str(siesta_stand_in),
            'safe_interval: 10': 'safe_interval: 0',
        }
        run_chain(CLUSTER_CHAIN, tmp_path, places, HOME=str(cluster.home))


def run_chain(
    chain: tuple[str, ...], tmp_path: Path, places: Mapping[str, str] | None = None, **variables: str
) -> None:
    """Run the blocks of some pages.

    :param places: text in the blocks that stands for something else here.
    :param variables: environment of the blocks.
    """
    environment = os.environ | {'AIIDA_PATH': str(tmp_path)} | variables
    quick = forked.program('python-forked')
    places_of_programs = [str(quick.parent)] if quick else []
    environment['PATH'] = os.pathsep.join([*places_of_programs, str(Path(sys.executable).parent), environment['PATH']])
    environment['NO_COLOR'] = '1'
    python = [str(quick or sys.executable)]
    everything = [block for name in chain for block in blocks(ROOT / name)]
    for text, place in (places or {}).items():
        assert any(text in block.text for block in everything), f'{text} is nowhere in {chain}'
        everything = [replace(block, text=block.text.replace(text, place)) for block in everything]
    folder = tmp_path / 'work'
    folder.mkdir()
    for packed in itertools.chain(*(RECORDED_FILES.get(name, ()) for name in chain)):
        (folder / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    try:
        if OWN_PREPARATION not in [block.text for block in everything]:
            subprocess.run([*python, '-'], input=PREPARATION, text=True, env=environment, check=True)
        for kind, group in itertools.groupby(everything, key=lambda block: block.kind):
            if kind == 'file':
                for block in group:
                    path = folder / block.file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(block.text, encoding='utf-8')
            elif kind == 'console':
                run_console(list(group), folder, environment)
            elif kind == 'python':
                script = list(group)
                run([*python, '-'], '\n'.join(block.text for block in script), script[0], folder, environment)
    finally:
        subprocess.run(['verdi', 'daemon', 'stop'], env=environment, check=False, capture_output=True, timeout=60)


def run_console(group: list[Block], folder: Path, environment: dict[str, str]) -> None:
    """Run commands in one shell, so that variables and the current folder last."""
    mark = '--- end of a command ---'
    script = ''.join(f'{block.text}\necho; echo "{mark}"\n' for block in group)
    printed = run(['bash', '-euo', 'pipefail'], script, group[0], folder, environment).split(f'\n{mark}\n')
    for block, found in zip(group, printed, strict=False):
        if block.output:
            unlike = differences(block, found)
            assert not unlike, (
                f'{block.page}:{block.line}: `{block.text}` printed\n{found}\nthe page says\n{block.output}\n'
                f'{"; ".join(unlike)}: write what is printed, or {VARYING!r} above the block'
            )


def run(command: list[str], script: str, block: Block, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, input=script, cwd=folder, env=environment, text=True, capture_output=True, timeout=1100, check=False
    )
    assert done.returncode == 0, f'{block.page}:{block.line}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}'
    return done.stdout


def rows(page: str, heading: str) -> list[list[str]]:
    """Give the cells of the first table below a heading."""
    content = (DOCS / page).read_text(encoding='utf-8').split(f'\n## {heading}\n')[1]
    table = re.search(r'^\|.*?(?=\n[^|]|\n\n|\Z)', content, re.MULTILINE | re.DOTALL)
    assert table, f'{page}: no table below {heading}'
    lines = table[0].splitlines()[2:]
    return [[cell.strip().strip('`') for cell in line.strip().strip('|').split(' | ')] for line in lines]


def test_exit_codes_are_documented() -> None:
    """The table of exit codes holds exactly what the processes define."""
    documented = {
        (process.strip(), int(status), name, message)
        for processes, status, name, message in rows('topics/errors.md', 'Exit codes')
        for process in processes.split(',')
    }
    defined = {
        (f'{name} {kind}', code.status, label, code.message)
        for factory, kind, names in (
            (
                CalculationFactory,
                'job',
                (
                    'label',
                    'train',
                    'predict',
                    'study',
                    'siesta',
                    'program',
                    'rmatrix',
                    'density_train',
                    'density_predict',
                ),
            ),
            (
                WorkflowFactory,
                'workflow',
                (
                    *(
                        'label',
                        'gap',
                        'study',
                        'siesta',
                        'program',
                        'siesta_warmstart',
                        'active',
                        'validate',
                        'alloy_scan',
                    ),
                    *('alloy', 'rmatrix_scan', 'density'),
                ),
            ),
        )
        for name in names
        for label, code in factory(f'nanoml.{name}').spec().exit_codes.items()
        if code.status >= 300
    }
    assert documented == defined


def test_named_errors_are_documented() -> None:
    documented = {name for name, _ in rows('topics/errors.md', 'Named errors')}
    kinds = {name: kind for name, kind in vars(aiida_nanoml.errors).items() if isinstance(kind, type)}
    defined = {name for name, kind in kinds.items() if issubclass(kind, Exception)}
    assert documented == defined | {ProtocolError.__name__}


def test_checks_of_an_audit_are_documented() -> None:
    documented = [(name, question, severities) for name, question, severities in rows('howto/audit.md', 'The checks')]
    assert documented == [(check.name, check.question, ', '.join(check.severities)) for check in CHECKS]


def test_models_of_scikit_learn_are_documented() -> None:
    documented = {
        kind: {name.strip().strip('`') for name in names.split(',') if name.strip()}
        for kind, _, names in rows('topics/gap_network.md', 'Models of scikit-learn')
    }
    networks = {'fast', 'paper', 'transfer', 'correction', 'alloy'}
    assert documented == {kind: set(hyperparameters(kind)) for kind in MODELS.names() if kind not in networks}
