"""Check profile, storage, broker, daemon, computer, code, engines and libraries, and say how to mend each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, step
from aiida_nanoml.actions.fields import option
from aiida_nanoml.actions.session import Session
from aiida_nanoml.text import aligned, counted
from aiida_nanoml.worker import WORKER

OK = 'ok'
MISSING = 'missing'
OPTIONAL = 'optional'
NEW_PROFILE = 'nanoml'


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    :param what: what was looked at.
    :param status: ``ok``, ``missing``, or ``optional`` for what only some people need.
    :param detail: what was found.
    :param mend: the command that mends it, empty when nothing is to be done.
    """

    what: str
    status: str
    detail: str
    mend: str = ''


class Doctor(Action):
    """Check profile, storage, broker, daemon, computer, code, engines and libraries, and say how to mend each.

    Exit status 1 when something that everybody needs is missing.
    """

    action: ClassVar[str] = 'doctor'
    command: ClassVar[tuple[str, ...]] = ('doctor',)
    example: ClassVar[str] = 'aiida-nanoml doctor'
    short: ClassVar[str] = 'Say what is missing, and how to mend it.'

    fix: bool = option(
        False,
        'Make what is missing: profile, computer, code; turn caching on, start the daemon, and make processes that '
        'stand still move.',
    )

    def needs_storage(self) -> bool:
        """Return False: it also works without a profile."""
        return False

    def perform(self, session: Session) -> Result:
        """Mend, if asked for, then check."""
        if self.fix:
            for done in _fix():
                session.note(done)
        return Health(list(_examine()), self.fix)


@dataclass(frozen=True)
class Health(Result):
    """What was found.

    :param findings: one for each check.
    :param mended: what can be made was made: to do so again would change nothing.
    """

    findings: list[Finding]
    mended: bool = False

    @property
    def exit_status(self) -> int:  # type: ignore[override]
        """Return 1 when something that everybody needs is missing."""
        return int(self._is_ill())

    def to_dict(self) -> dict[str, Any]:
        """Return all findings."""
        return {'healthy': not self._is_ill(), 'checks': [asdict(finding) for finding in self.findings]}

    def lines(self) -> str:
        """Return a table of the findings."""
        return aligned([[finding.status, finding.what, finding.detail] for finding in self.findings])

    def table(self) -> str:
        """Return what mends each."""
        return '\n'.join(f'{finding.what}: {finding.mend}' for finding in self.findings if finding.mend)

    def next_step(self) -> Step | None:
        """Mend what is missing, or generate flakes; nothing where the commands above have to be run first."""
        if self._is_ill():
            return None if self.mended else step('doctor', fix=True)
        return step('generate_flakes', family='h', size=(2,), count=20, seed=1)

    def _is_ill(self) -> bool:
        return any(finding.status == MISSING for finding in self.findings)


def _fix() -> list[str]:
    """Make what is missing.

    :returns: what was done to daemon and processes, a sentence without a full stop for each step.
    """
    from aiida import load_profile
    from aiida.common.exceptions import ConfigurationError
    from aiida.manage import get_manager

    from aiida_nanoml.actions.installation import make_profile, turn_caching_on
    from aiida_nanoml.calculations.local_worker import make_code, make_localhost

    _put_beside_on_path()
    profile = get_manager().get_profile()
    if profile is None:
        try:
            profile = load_profile()
        except ConfigurationError:
            profile = load_profile(make_profile(NEW_PROFILE).name)
    make_code(make_localhost())
    done = ['turned caching on'] if turn_caching_on(profile.name) else []
    if profile.process_control_backend is None:
        return done
    return done + _fix_processes(profile, restart=bool(done))


def _fix_processes(profile: Any, restart: bool) -> list[str]:
    """Start the daemon; make processes move that stand still, where the queue of the broker is on this machine.

    :param restart: stop a daemon that runs first, since it would not notice what was changed.
    """
    from aiida_nanoml.actions.installation import find_orphans, start_daemon, stop_daemon
    from aiida_nanoml.actions.mending import mend
    from aiida_nanoml.provenance.carriers import Carriers

    carriers = Carriers()
    if carriers.queue is not None:
        standing = [node for node, _ in _standing(carriers) if not carriers.in_foreground(node)]
        if standing or find_orphans(profile):
            return mend(profile, standing)
    if restart:
        stop_daemon(profile)
    return ['started the daemon'] if start_daemon(profile) else []


def _standing(carriers: Any) -> list[tuple[Any, str]]:
    """Return the processes that stand still, each with the reason."""
    from aiida.engine.processes.control import get_active_processes

    return [(node, reason) for node in get_active_processes() if (reason := carriers.stands_still(node))]


def _put_beside_on_path() -> None:
    """The daemon starts `verdi` by name, also where the virtual environment is not activated."""
    from aiida_nanoml.calculations.local_worker import worker_executable

    os.environ['PATH'] = os.pathsep.join([str(worker_executable().parent), os.environ.get('PATH', '')])


def _examine() -> Iterator[Finding]:
    from aiida import load_profile
    from aiida.common.exceptions import ConfigurationError
    from aiida.manage import get_manager

    yield _worker()
    try:
        profile = get_manager().get_profile() or load_profile()
    except ConfigurationError as error:
        yield Finding('profile', MISSING, str(error).splitlines()[0], 'aiida-nanoml doctor --fix, or verdi presto')
    else:
        yield Finding('profile', OK, f'{profile.name} ({profile.storage_backend})')
        for check in (_storage, _broker, _processes, _caching, _code):
            yield _guarded(check, profile)
    yield from _engines()
    yield _library('tensorflow', 'dense networks')
    yield _library('matplotlib', 'figures')


def _guarded(check: Callable[[Any], Finding], profile: Any) -> Finding:
    """Turn whatever goes wrong in a check into its finding: the other checks go on."""
    try:
        return check(profile)
    except Exception as error:
        detail = f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else "no message"}'
        return Finding(check.__name__.strip('_'), MISSING, detail, 'verdi status')


def _worker() -> Finding:
    from aiida_nanoml.calculations.local_worker import worker_executable

    try:
        return Finding('worker', OK, str(worker_executable()))
    except FileNotFoundError as error:
        return Finding('worker', MISSING, str(error), 'pip install aiida-nanoml')


def _storage(_: Any) -> Finding:
    from aiida import orm

    from aiida_nanoml.actions.nodes import load_storage

    load_storage()
    return Finding('storage', OK, f'{orm.QueryBuilder().append(orm.Node).count()} nodes')


def _broker(profile: Any) -> Finding:
    from aiida_nanoml.provenance.carriers import daemon_runs

    if profile.process_control_backend is None:
        return Finding(
            'daemon', OPTIONAL, 'the profile has no broker: processes run in place only',
            f'verdi profile configure-broker core.zeromq -n {profile.name}',
        )  # fmt: skip
    if shutil.which('verdi') is None:
        return Finding('daemon', OPTIONAL, 'verdi is not on the PATH', 'activate the environment of aiida-nanoml')
    if daemon_runs(profile):
        return Finding('daemon', OK, f'running ({profile.process_control_backend})')
    return Finding(
        'daemon', OPTIONAL, 'not running: processes run in their commands', f'verdi -p {profile.name} daemon start'
    )


def _processes(profile: Any) -> Finding:
    """Look for processes that do not move, and for workers and brokers that a killed daemon left."""
    from aiida_nanoml.actions.installation import find_orphans
    from aiida_nanoml.provenance.campaign import CAMPAIGN
    from aiida_nanoml.provenance.carriers import Carriers

    carriers = Carriers()
    standing = _standing(carriers)
    orphans = find_orphans(profile) if carriers.has_broker else []
    if not standing and not orphans:
        return Finding('processes', OK, 'all move')
    campaign = next((node for node, _ in standing if node.process_type == CAMPAIGN), None)
    parts = []
    if standing:
        node, reason = standing[0]
        parts.append(
            f'{counted(len(standing), "process stands", "processes stand")} still, such as {node.pk}: {reason}'
        )
    if orphans:
        pids = ', '.join(str(process.pid) for process in orphans)
        parts.append(f'a daemon that was killed left {counted(len(orphans), "process", "processes")}: {pids}')
    if campaign is not None:
        cure = f'aiida-nanoml campaign resume {campaign.pk}'
    elif carriers.queue is not None:
        cure = 'aiida-nanoml doctor --fix'
    else:
        cure = ' && '.join(
            f'verdi -p {profile.name} {words}' for words in ('daemon stop', 'process repair', 'daemon start')
        )
    return Finding('processes', OPTIONAL, '; '.join(parts), cure)


def _caching(profile: Any) -> Finding:
    from aiida_nanoml.actions.installation import caching_is_on

    if caching_is_on(profile.name):
        return Finding('caching', OK, 'repeated work is taken from the graph')
    return Finding(
        'caching', OPTIONAL, 'off: repeated work is computed again',
        'aiida-nanoml doctor --fix',
    )  # fmt: skip


def _code(_: Any) -> Finding:
    """Look for a worker that can run here; others, such as those of imported archives, do not matter."""
    from aiida_nanoml.actions.codes import why_unusable, worker_codes

    reasons = {code: why_unusable(code) for code in worker_codes()}
    usable = [code.full_label for code, reason in reasons.items() if reason is None]
    if usable:
        return Finding('code', OK, ', '.join(usable))
    detail = '; '.join(str(reason) for reason in reasons.values()) or f'no code {WORKER}'
    return Finding('code', MISSING, detail, 'aiida-nanoml doctor --fix, or verdi code create')


def _engines() -> Iterator[Finding]:
    from aiida_nanoml.engines.registry import engine_names, get_engine
    from aiida_nanoml.errors import EngineError

    for name in engine_names():
        try:
            engine = get_engine(name)
        except EngineError as error:
            yield Finding(f'engine {name}', OPTIONAL, str(error))
            continue
        if missing := engine.missing():
            yield Finding(f'engine {name}', OPTIONAL, 'not installed', missing)
        else:
            yield Finding(f'engine {name}', OK, f'{engine.title} {engine.version()}')


def _library(name: str, purpose: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        return Finding(name, MISSING, f'not installed: needed for {purpose}', f'pip install {name}')
    return Finding(name, OK, importlib.metadata.version(name))
