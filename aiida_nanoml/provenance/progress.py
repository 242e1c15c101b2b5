"""How far the jobs below a process are, asked of the graph and of the outputs of running jobs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiida.orm import ProcessNode, QueryBuilder

from aiida_nanoml.worker.schemas import LOSSES_FILE, OUTPUT_FILE

LABELLING, TRAINING, PREDICTING, ROUNDS = 'labelling', 'training', 'predicting', 'learning'

STEPS = {
    'LabelCalculation': LABELLING,
    'TrainCalculation': TRAINING,
    'PredictCalculation': PREDICTING,
    'StudyCalculation': 'studying',
    'RmatrixCalculation': 'scattering',
    'DensityTrainCalculation': 'training',
    'DensityPredictCalculation': 'predicting densities',
    'SiestaCalculation': 'single runs',
    'ProgramCalculation': 'single runs',
}
UNITS = {
    LABELLING: 'structures',
    TRAINING: 'epochs',
    PREDICTING: 'rows',
    ROUNDS: 'rounds',
    'importing': 'folders',
    'studying': 'models',
    'scattering': 'potentials',
    'predicting densities': 'structures',
    'single runs': 'runs',
}
"""Noun of what a step counts."""


class JobProgress:
    """The jobs below a process: each look asks those alone that ran at the last one, and what they called.

    Totals are known before the first job: a workflow that labels says how many structures it has, those that start
    several of them how many they will have together, and a study how many jobs: its jobs begin one after the other, all
    with as many models as the first one. Active learning counts its trainings as rounds. What ends earlier than it
    might, rounds and epochs, makes a total smaller at its end.
    """

    def __init__(self, process: ProcessNode) -> None:
        self._running: dict[int, ProcessNode] = {}
        self._plans: dict[int, int] = {}
        self._plan_of: dict[int, int | None] = {}
        self._accounts: dict[int, tuple[str, int | None]] = {}
        self._sizes: dict[int, int] = {}
        self._models: dict[int | None, int] = {}
        self._ended: dict[tuple[str, int | None], int] = {}
        self._root = process
        self._expected = _expected_totals(process)
        self._add(process, None)

    def look(self) -> dict[str, tuple[int, int]]:
        """Sum up what is done and what there is to do, by step."""
        self._find_called()
        ended = [pk for pk, node in self._running.items() if node.is_terminated]
        if ended:
            self._find_called()  # what they called in between; they are not asked again
        for pk in ended:
            node = self._running.pop(pk)
            if self._sizes.pop(pk, None) is not None:
                account = self._accounts[pk]
                size = _job_size(node, account[0])
                self._ended[account] = self._ended.get(account, 0) + size
                self._note_models(*account, size)
        parts = {account: (done, done) for account, done in self._ended.items()}
        for pk, size in self._sizes.items():
            account = self._accounts[pk]
            done, total = parts.get(account, (0, 0))
            job_done, job_total = (0, 1) if account[0] == ROUNDS else _job_progress(self._running[pk], size)
            parts[account] = (done + job_done, total + job_total)
            self._note_models(*account, job_total)
        sums: dict[str, tuple[int, int]] = {}
        for (step, plan), part in parts.items():
            done, total = self._of_whole(step, plan, *part)
            before = sums.get(step, (0, 0))
            sums[step] = (before[0] + done, before[1] + total)
        if self._root.pk in self._running:
            for step, expected in self._expected.items():
                done, total = sums.get(step, (0, 0))
                sums[step] = (done, max(total, expected))
        return {step: part for step, part in sums.items() if part[1]}

    def _note_models(self, step: str, plan: int | None, size: int) -> None:
        if step == 'studying':
            self._models[plan] = max(self._models.get(plan, 0), size)

    @property
    def running(self) -> Iterable[ProcessNode]:
        """Return the processes that had not ended at the last look."""
        return self._running.values()

    def _of_whole(self, step: str, plan: int | None, done: int, total: int) -> tuple[int, int]:
        """Return what is done of all structures or models of a workflow, also of those whose jobs have not begun."""
        if plan is None or step not in (LABELLING, 'studying'):
            return done, total
        planned = self._plans[plan]
        if step == 'studying':
            return done, max(total, planned * self._models[plan]) if plan in self._running else total
        # At its end, the other structures were known already or equal to these; a row may be in two jobs, too.
        return (min(done, planned), planned) if plan in self._running else (planned, planned)

    def _find_called(self) -> None:
        callers = list(self._running)
        while callers:
            query = QueryBuilder().append(ProcessNode, filters={'id': {'in': callers}}, tag='caller', project='id')
            query.append(
                ProcessNode,
                with_incoming='caller',
                edge_filters={'type': {'in': ['call_calc', 'call_work']}},
                project='id',
            )
            called = {pk: caller for caller, pk in query.all() if pk not in self._plan_of}
            callers = list(called)
            if callers:
                for node in QueryBuilder().append(ProcessNode, filters={'id': {'in': callers}}).all(flat=True):
                    self._add(node, called[node.pk])

    def _add(self, node: ProcessNode, caller: int | None) -> None:
        self._running[node.pk] = node
        self._plan_of[node.pk] = None if caller is None else self._plan_of[caller]
        if node.process_label == 'LabelWorkChain' and 'structures' in node.inputs:
            self._plans[node.pk] = node.inputs.structures.n_structures
            self._plan_of[node.pk] = node.pk
        if node.process_label == 'StudyWorkChain' and 'seeds' in node.inputs:
            self._plans[node.pk] = _study_jobs(node)
            self._plan_of[node.pk] = node.pk
        step = self._step(node)
        if step is not None:
            self._accounts[node.pk] = step, self._plan_of[node.pk]
            self._sizes[node.pk] = _job_size(node, step)

    def _step(self, node: ProcessNode) -> str | None:
        """Return what a job does; None: it is not shown."""
        step = STEPS.get(node.process_label or '')
        if ROUNDS in self._expected and step in (TRAINING, PREDICTING):
            return ROUNDS if step == TRAINING else None
        return step


def _expected_totals(process: ProcessNode) -> dict[str, int]:
    """Return what a workflow that starts several others has to do, by step, as far as its inputs say it."""
    if process.process_label == 'ActiveWorkChain':
        return _expected_rounds(process.base.links.get_incoming().nested())
    if process.process_label not in ('GapWorkChain', 'DensityWorkChain'):
        return {}
    inputs = process.base.links.get_incoming().nested()
    sets = [inputs[name] for name in ('structures', 'unseen') if name in inputs]
    sets += inputs.get('judged', {}).values()
    flakes = [*inputs.get('flakes', {}).values(), *inputs.get('larger', {}).values()]
    unseen = inputs['n_unseen'].value * len(inputs['flakes']) if 'n_unseen' in inputs else 0
    number = sum(one.n_structures for one in sets) + sum(one['count'] for one in flakes) + unseen
    return {LABELLING: number * (2 if 'baseline' in inputs else 1)} if number else {}


def _expected_rounds(inputs: Mapping[str, Any]) -> dict[str, int]:
    """Return the labels and the rounds that active learning may take at most."""
    if 'pool' not in inputs:
        return {}
    limits = {name: node.value for name, node in inputs.items() if name in ('budget', 'max_rounds', 'n_per_round')}
    pool = inputs['pool'].n_structures
    if 'held_out' in inputs:
        held_out = inputs['held_out'].n_structures
    else:
        held_out = inputs['n_held_out'].value
        pool -= held_out
    first = inputs['initial'].n_structures if 'initial' in inputs else inputs['n_initial'].value
    further = limits['n_per_round']
    most = min(limits.get('budget', pool), first + further * (limits.get('max_rounds', pool) - 1), max(pool, first))
    rounds = 1 + max(0, math.ceil((most - first) / further))
    times = 2 if 'compare' in inputs and inputs['compare'].value else 1
    return {LABELLING: (held_out + most) * times, ROUNDS: rounds * times}


def _job_progress(node: ProcessNode, size: int) -> tuple[int, int]:
    folder = node.get_remote_workdir()
    output = Path(folder or '') / OUTPUT_FILE
    # A remote computer's files are not here: such jobs count when they end.
    lines = output.read_text().splitlines() if folder and output.is_file() else []
    done, _, of = lines[-1].partition('/') if lines else ('0', '', str(size))
    return (int(done), int(of)) if done.isdigit() and of.isdigit() else (0, size)


def losses_of(training: ProcessNode) -> dict[str, list[float]]:
    """Return the losses of every epoch of a training by name, of a running one as far as it is.

    Nothing is known of what trains without epochs, and of a job that runs on another machine.
    """
    if training.is_terminated:
        history = training.outputs.history.get_y() if 'history' in training.outputs else []
        return {name: values.tolist() for name, values, _ in history}
    folder = training.get_remote_workdir()
    path = Path(folder or '') / LOSSES_FILE
    losses: dict[str, list[float]] = {}
    # What follows the last line end is still being written.
    for line in path.read_text().split('\n')[:-1] if folder and path.is_file() else []:
        for name, value in json.loads(line).items():
            losses.setdefault(name, []).append(value)
    return losses


def _study_jobs(node: ProcessNode) -> int:
    """Return the number of jobs of a study: one for each seed and, if the study wants it, each family."""
    from aiida_nanoml.learning.studies import STUDIES

    inputs = node.inputs
    one_family = STUDIES.load(inputs.study.value).one_family
    families = len(inputs.structures.base.attributes.get('families')) if one_family else 1
    return len(inputs.seeds.get_list()) * families


def _job_size(node: ProcessNode, step: str) -> int:
    if step == LABELLING:
        rows = node.inputs.rows.get_list() if 'rows' in node.inputs else range(node.inputs.structures.n_structures)
        return len(rows)
    if step == 'scattering':
        return int(node.inputs.potentials.n_potentials)
    if step == 'predicting densities':
        inputs = node.inputs
        return int(inputs.known.n_densities if 'known' in inputs else inputs.structures.n_structures)
    if step == PREDICTING:
        return int(
            node.inputs.structures.n_structures if 'structures' in node.inputs else len(node.inputs.dataset.dataset)
        )
    if step == TRAINING and not node.is_terminated:  # the job says it itself
        return 0
    if step == TRAINING and node.is_finished_ok and 'history' in node.outputs:
        return len(node.outputs.history.get_x()[1])
    if step == 'studying':  # a running job says it itself
        return int(node.outputs.rows.base.attributes.get('n_points')) if 'rows' in node.outputs else 0
    return 1
