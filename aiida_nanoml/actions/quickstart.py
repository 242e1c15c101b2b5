"""The main job from nothing, in a profile of its own: flakes, labels, network, predictions, lineage."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from aiida_nanoml.actions.base import Action, Result, Step, step
from aiida_nanoml.actions.errors import ActionError
from aiida_nanoml.actions.fields import ENGINE, JOB, option
from aiida_nanoml.actions.files import write_files
from aiida_nanoml.actions.quickstart_models import (
    BEST,
    BestModel,
    draw_both,
    headline,
    headline_table,
    learn_best,
    lineage_line,
    unseen_flakes,
)
from aiida_nanoml.actions.quickstart_runs import Runs
from aiida_nanoml.actions.quickstart_siesta import SiestaPart, learn_from_siesta
from aiida_nanoml.actions.session import Session
from aiida_nanoml.text import aligned

PROFILE = 'nanoml-quickstart'
FLAKES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {'h': {'family': 'h', 'size': 2}, 's': {'family': 's', 'size': [9, 6]}}
)
SEED = 2026
SUMMARY_FILE = 'summary.json'
ACTIVATE_FILE = 'activate'
FIGURE_FILE = 'Energy_gap_prediction.png'
UNSEEN_FILE = 'unseen.extxyz'
SHOWN = 6
"""Unseen flakes that the report shows."""


class Quickstart(Action):
    """Run the main job in a profile of its own: flakes, labels, features, networks, predictions, provenance.

    Two networks learn from the same flakes: from the 26 counts of the source, and from the best inputs. Then the
    starter data, gaps of SIESTA, are learnt: alone, and as a correction to the engine of the first part. Your
    own AiiDA profiles are not touched. Interrupted, it continues from what is stored; run again, it shows the
    processes of the earlier run, unless an option, the package or what it needs has changed.
    """

    action: ClassVar[str] = 'quickstart'
    command: ClassVar[tuple[str, ...]] = ('quickstart',)
    example: ClassVar[str] = 'aiida-nanoml quickstart --count 40 --folder trial'
    in_terminal_only: ClassVar[bool] = True

    folder: Path = option(
        Path('quickstart'), 'Folder of the AiiDA profile, the figures and the summary.', exists='new folder'
    )
    count: int = option(200, 'Flakes of each family.', ge=20, le=100_000)
    unseen: int = option(10, 'Flakes of each family to predict.', ge=1, le=100_000)
    engine: str = option('xtb', 'Engine that labels the flakes.', group=ENGINE)
    protocol: str = option('balanced', 'fast, balanced or stringent.', group=ENGINE)
    jobs: int | None = option(None, 'Jobs at the same time.', ge=1, group=JOB, shown='the number of cores')
    fresh: bool = option(
        False, 'Follow no unfinished run and show no earlier one: submit everything, finished jobs cached.', group=JOB
    )
    siesta: bool = option(True, 'Continue with gaps of recorded SIESTA runs.', options=('--siesta/--no-siesta',))

    def needs_storage(self) -> bool:
        """Return False: it makes its own profile."""
        return False

    def perform(self, session: Session) -> Result:
        """Submit the workflow, or find it again, follow it, and summarise what it made.

        :raises ActionError: AiiDA sees another folder, or a step failed; what was finished is kept.
        """
        from aiida import load_profile

        from aiida_nanoml.actions.installation import make_profile, stop_daemon
        from aiida_nanoml.calculations.local_worker import make_code, make_localhost

        start, folder = time.monotonic(), self.folder.absolute()
        if os.environ.get('AIIDA_PATH') != str(folder):
            raise ActionError(f'start Python with AIIDA_PATH={shlex.quote(str(folder))}: AiiDA reads it when it starts')
        profile = load_profile(make_profile(PROFILE).name)
        code = make_code(make_localhost())
        _write_activation(folder)
        session.note(f'profile {PROFILE} in {folder} (SQLite, ZeroMQ)')
        runs = Runs(profile, session, self.fresh)
        process = self._find_or_submit(code, runs)
        try:
            if not process.is_terminated:
                session.follow(process)
            best = second = None
            if process.is_finished_ok:
                best = learn_best(code, process, runs)
            if self.siesta and process.is_finished_ok:
                second = learn_from_siesta(self.engine, self.protocol, code, process, self._n_jobs(), runs)
        except KeyboardInterrupt:
            activate = relative_path(folder / ACTIVATE_FILE)
            session.note('\ninterrupted: the daemon continues the work. Run the same command again to follow it,')
            session.note(f'or stop it: source {activate} && verdi daemon stop')
            raise
        stop_daemon(profile)
        if best is None:
            raise _failure(process, folder)
        return _finish(process, best, second, runs, folder, start)

    def _find_or_submit(self, code: Any, runs: Runs) -> Any:
        """Return the process of an earlier run, unfinished or of exactly the same request, or a new one."""
        request = self.model_dump(include={'count', 'unseen', 'engine', 'protocol'})
        builder = _builder(code, request, self._n_jobs())
        state = 'following the unfinished'
        process = None if self.fresh else _find_unfinished(request)
        if process is not None:
            runs.take_up(process)
        else:
            state, process = 'found the finished', runs.find(builder)
        if process is None:
            state, process = 'submitted', runs.submit(builder)
        runs.session.note(
            f'{state} GapWorkChain<{process.pk}>: {self.count} + '
            f'{self.unseen} flakes of each of {", ".join(FLAKES)}, engine {self.engine}, protocol {self.protocol}'
        )
        return process

    def _n_jobs(self) -> int:
        return self.jobs or len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class QuickstartResult(Result):
    """What the quickstart made.

    :param process: the workflow of the first model.
    :param best: the second model.
    :param siesta: the second part, if it was run.
    :param summary: what ``summary.json`` holds.
    :param folder: of profile, figures and summary.
    """

    process: Any
    best: BestModel
    siesta: SiestaPart | None
    summary: dict[str, Any]
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the summary."""
        return self.summary

    def lines(self) -> str:
        """Return both models side by side, predictions beside labels, and what was learnt from SIESTA."""
        parts = [self._report_gaps(), self._report_unseen()]
        if self.siesta is not None:
            parts.append(self.siesta.report())
        return '\n\n'.join(['', *parts, self._report_end()])

    def next_step(self) -> Step:
        """Trace the last prediction."""
        last = self.summary.get('siesta', self.summary)
        return step('trace', node=last['prediction_uuid'][:8])

    def render(self) -> str:
        """Return the report, and the commands that usually follow, which need the profile of the quickstart."""
        own = _from_here(self.folder / UNSEEN_FILE)
        following = [
            ('your own flakes, from any file like this one:', step('import_structures', file=own, name='mine')),
            ('their gaps:', step('predict', model=self.summary['model_uuid'][:8], rows='mine', name='my-gaps')),
            ('all that a prediction rests on:', self.next_step()),
        ]
        activate = relative_path(self.folder / ACTIVATE_FILE)
        commands = aligned([[why, f'aiida-nanoml {one.command()}'] for why, one in following], '  ')
        return '\n'.join([self.lines(), '', f'next, after `source {activate}`:', commands])

    def _report_gaps(self) -> str:
        attributes = self.process.outputs.dataset.base.attributes
        excluded = ', '.join(f'{count} {reason}' for reason, count in attributes.get('excluded').items())
        return '\n'.join(
            [
                f'Gap of C-BN flakes, labels: {self.summary["labels"]}',
                f'{attributes.get("n_rows")} rows, left out: {excluded or "none"}. Test rows and unseen flakes,',
                f'by a network from the {attributes.get("n_features")} counts of the source, and from the best inputs:',
                headline_table(self.summary['headline']),
                f'verdict on {BEST}: {self.summary["verdict"]}',
            ]
        )

    def _report_unseen(self) -> str:
        predictions, labels = self.best.prediction.outputs.predictions, self.process.outputs.validation.table
        labelled = dict(zip(labels.get_array('names').tolist(), labels.get_array('labelled').tolist(), strict=True))
        rows: list[list[object]] = [['unseen flake', 'predicted (eV)', 'std (eV)', 'labelled (eV)']]
        columns = zip(*map(predictions.get_array, ('names', 'value', 'std')), strict=True)
        known = [row for row in columns if row[0] in labelled]
        for name, predicted, std in known[:: math.ceil(len(known) / SHOWN)]:  # of all families
            spread = '-' if math.isnan(std) else f'{std:.3f}'
            rows.append([name, f'{predicted:.3f}', spread, f'{labelled[name]:.3f}'])
        return '\n'.join(
            [
                f'Flakes that no model saw, by {BEST}, labelled afterwards with {self.summary["labels"]}',
                aligned(rows),
                lineage_line(predictions),
            ]
        )

    def _report_end(self) -> str:
        summary = self.summary
        return (
            f'{summary["wall_s"]:.0f} s, {summary["nodes"]} nodes in the profile, {self._report_reuse()}\n'
            f'figures and summary: {relative_path(self.folder)}/'
        )

    def _report_reuse(self) -> str:
        """Return how much was computed, and from which processes the rest was taken."""
        total, cached, reused = (self.summary[f'calculations{part}'] for part in ('', '_from_cache', '_reused'))
        counts = [
            f'{count} {what}'
            for count, what in (
                (total - cached - reused, 'computed'),
                (cached, 'from the cache'),
                (reused, 'of an earlier run'),
            )
            if count
        ]
        text = f'{total} calculations: {", ".join(counts)}'
        if not reused:
            return text
        processes = ', '.join(f'{one["process"]} {one["pk"]}' for one in self.summary['reused'])
        began = self.summary['reused'][0]['begun']
        note = f'the earlier run, of {began}, was asked for the same (--fresh runs it again): {processes}'
        return '\n'.join([text, *textwrap.wrap(note, 118)])


def relative_path(path: Path) -> str:
    """Return a path as it is written in the current folder, quoted for a shell."""
    return shlex.quote(str(_from_here(path)))


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _find_unfinished(request: dict[str, Any]) -> Any:
    """Return the process of the same request that has not ended, or None."""
    from aiida import orm

    query = orm.QueryBuilder().append(
        orm.WorkChainNode,
        filters={
            'process_type': 'aiida.workflows:nanoml.gap',
            'description': json.dumps(request),
            'attributes.process_state': {'in': ['created', 'running', 'waiting']},
        },
        tag='process',
    )
    return query.order_by({'process': {'ctime': 'desc'}}).first(flat=True)


def _builder(code: Any, request: dict[str, Any], jobs: int) -> Any:
    from aiida.plugins import WorkflowFactory

    workflow = WorkflowFactory('nanoml.gap')
    flakes = {name: dict(FLAKES[name]) | {'count': request['count'], 'seed': SEED} for name in FLAKES}
    total = request['count'] * len(FLAKES)
    # Two rounds of jobs on every core: small enough to share the work evenly, large enough to start seldom.
    batch_size = -(-total // (2 * jobs))
    builder = workflow.get_builder_from_protocol(
        code,
        flakes=flakes,
        engine=request['engine'],
        protocol=request['protocol'],
        overrides={
            'n_unseen': request['unseen'],
            'label': {'batch_size': batch_size, 'max_concurrent': 2 * jobs},
        },
    )
    builder.metadata.label = 'quickstart'
    builder.metadata.description = json.dumps(request)  # by which a later call finds it
    return builder


def _failure(process: Any, folder: Path) -> ActionError:
    reason = process.exit_message or process.exception or 'it was killed'
    return ActionError(
        f'GapWorkChain<{process.pk}> failed: {reason}. Finished jobs are kept. To inspect: source '
        f'{relative_path(folder / ACTIVATE_FILE)} && verdi process report {process.pk}; then run the same command again'
    )


def _finish(
    process: Any, best: BestModel, second: SiestaPart | None, runs: Runs, folder: Path, start: float
) -> QuickstartResult:
    """Write the figures, the unseen flakes and the summary."""
    from aiida import orm

    from aiida_nanoml.structures import write_structures

    write_files(best.training.outputs.figures, folder)
    write_structures(unseen_flakes(process).structures, folder / UNSEEN_FILE)
    summary = _summarise(process, best, runs, folder)
    draw_both(folder / FIGURE_FILE, process, best, summary['labels'])
    if second is not None:
        summary['siesta'] = second.summarise(folder)
    summary['nodes'] = int(orm.QueryBuilder().append(orm.Node).count())
    summary['wall_s'] = round(time.monotonic() - start, 1)
    (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    return QuickstartResult(process, best, second, summary, folder)


def _summarise(process: Any, best: BestModel, runs: Runs, folder: Path) -> dict[str, Any]:
    """Return the figures of the best model, and both models side by side as ``headline``."""
    from aiida_nanoml.learning.targets import find_target
    from aiida_nanoml.learning.verdict import judge_model

    target = find_target(process.outputs.dataset.target)
    outputs, model = process.outputs, best.training.outputs.model
    metrics, validation = best.training.outputs.metrics.get_dict(), best.validation['all']
    families = outputs.dataset.dataset.families
    labels = outputs.labels.base.attributes
    return {
        'wall_s': 0.0,
        **runs.summarise(),
        'labels': f'{labels.get("engine_title")} {labels.get("engine_version")}, protocol {labels.get("protocol")}',
        'families': {
            name: {
                'r2_test': metrics[f'test/{name}']['r2'],
                'mae_test_ev': metrics[f'test/{name}']['mae'],
                'n': int((families == name).sum()),
                'n_test': metrics[f'test/{name}']['n'],
            }
            for name in FLAKES
        },
        'headline': headline(process, best, FLAKES),
        'verdict': str(judge_model(metrics, target, best.training.inputs.kind.value)),
        'metrics': metrics,
        'validation': {'n': validation['n'], 'mae_ev': validation['mae'], 'r2': validation['r2']},
        'model_uuid': model.uuid,
        'prediction_uuid': best.prediction.outputs.predictions.uuid,
        'process_uuid': process.uuid,
        'figure': str(folder / FIGURE_FILE),
    }


def _write_activation(folder: Path) -> None:
    """Write a file for shells to source: the commands of this installation, in the profile of the quickstart."""
    (folder / ACTIVATE_FILE).write_text(
        f'# source this file to work with the profile of the quickstart\n'
        f'export AIIDA_PATH={shlex.quote(str(folder))}\n'
        f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n',
        encoding='utf-8',
    )
