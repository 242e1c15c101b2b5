"""How far the jobs below a process are: summed up by step, and asked again only while they run."""

from __future__ import annotations

import logging

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.common.log import LOG_LEVEL_REPORT
from plumpy import ProcessState

from aiida_nanoml.cli.terminal import _warning_on_stderr
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.provenance.progress import JobProgress
from aiida_nanoml.worker.schemas import OUTPUT_FILE


def call(
    caller: orm.WorkChainNode, kind: type[orm.ProcessNode], process_label: str, n_rows: int = 0
) -> orm.ProcessNode:
    node = kind()
    node.set_process_label(process_label)
    node.set_process_state(ProcessState.RUNNING)
    calculation = issubclass(kind, orm.CalculationNode)
    if n_rows:
        node.base.links.add_incoming(orm.List(list(range(n_rows))).store(), LinkType.INPUT_CALC, 'rows')
    link_type = LinkType.CALL_CALC if calculation else LinkType.CALL_WORK
    node.base.links.add_incoming(caller, link_type, f'call_{len(caller.called)}')
    return node.store()


def end(node: orm.ProcessNode) -> None:
    node.set_process_state(ProcessState.FINISHED)
    node.set_exit_status(0)


def test_jobs_of_all_levels_are_summed_up_while_they_come_and_end(aiida_profile_clean, tmp_path) -> None:
    root = orm.WorkChainNode()
    root.set_process_label('GapWorkChain')
    root.set_process_state(ProcessState.RUNNING)
    root.store()
    jobs = JobProgress(root)
    assert jobs.look() == {}

    workflow = call(root, orm.WorkChainNode, 'LabelWorkChain')
    first = call(workflow, orm.CalcJobNode, 'LabelCalculation', 5)
    first.set_remote_workdir(str(tmp_path))
    assert jobs.look() == {'labelling': (0, 5)}
    (tmp_path / OUTPUT_FILE).write_text('1/5\n2/5\n')
    assert jobs.look() == {'labelling': (2, 5)}

    end(first)
    second = call(workflow, orm.CalcJobNode, 'LabelCalculation', 3)
    (tmp_path / OUTPUT_FILE).unlink()
    assert jobs.look() == jobs.look() == {'labelling': (5, 8)}

    call(root, orm.CalcFunctionNode, 'merge_labels')
    training = call(root, orm.CalcJobNode, 'TrainCalculation')
    end(second)
    end(workflow)
    assert jobs.look() == jobs.look() == {'labelling': (8, 8)}, 'a training says itself how many epochs it has'
    training.set_remote_workdir(str(tmp_path))
    (tmp_path / OUTPUT_FILE).write_text('1/40\n3/40\n')
    assert jobs.look() == {'labelling': (8, 8), 'training': (3, 40)}

    end(training)
    late = call(root, orm.WorkChainNode, 'LabelWorkChain')
    end(call(late, orm.CalcJobNode, 'LabelCalculation', 2))
    end(late)
    end(root)
    assert jobs.look() == {'labelling': (10, 10), 'training': (1, 1)}, 'found and ended at the same look'


def test_the_total_is_that_of_the_workflow_from_the_start(aiida_profile_clean, make_chains, tmp_path) -> None:
    """Jobs begin one after the other, and a row that the machine failed is in two of them."""
    workflow = orm.WorkChainNode()
    workflow.set_process_label('LabelWorkChain')
    workflow.set_process_state(ProcessState.RUNNING)
    structures = StructureSetData(make_chains(*range(1, 15))).store()
    workflow.base.links.add_incoming(structures, LinkType.INPUT_WORK, 'structures')
    workflow.store()
    jobs = JobProgress(workflow)
    batches = [call(workflow, orm.CalcJobNode, 'LabelCalculation', 6)]
    assert jobs.look() == {'labelling': (0, 14)}
    end(batches[0])
    batches.append(call(workflow, orm.CalcJobNode, 'LabelCalculation', 6))
    assert jobs.look() == {'labelling': (6, 14)}
    end(batches[1])
    batches.append(call(workflow, orm.CalcJobNode, 'LabelCalculation', 4))
    end(batches[2])
    assert jobs.look() == {'labelling': (14, 14)}
    end(workflow)
    assert jobs.look() == {'labelling': (14, 14)}


def running(process_label: str, caller: orm.WorkChainNode | None = None, **inputs: orm.Data) -> orm.WorkChainNode:
    node = orm.WorkChainNode()
    node.set_process_label(process_label)
    node.set_process_state(ProcessState.RUNNING)
    for name, data in inputs.items():
        node.base.links.add_incoming(data.store(), LinkType.INPUT_WORK, name)
    if caller is not None:
        node.base.links.add_incoming(caller, LinkType.CALL_WORK, f'call_{len(caller.called)}')
    return node.store()


@pytest.mark.parametrize('times', [1, 2])
def test_the_total_of_several_labellings_is_known_before_the_first_one(
    aiida_profile_clean, make_chains, times: int
) -> None:
    flakes = {f'flakes__{name}': orm.Dict({'family': name, 'size': 2, 'count': 8}) for name in 'hs'}
    baseline = {'baseline__engine': orm.Str('xtb')} if times == 2 else {}
    root = running('GapWorkChain', n_unseen=orm.Int(3), **flakes, **baseline)
    jobs = JobProgress(root)
    assert jobs.look() == {'labelling': (0, 22 * times)}
    for name, number in (('structures', 16), ('unseen', 6)) * times:
        workflow = running('LabelWorkChain', root, structures=StructureSetData(make_chains(*range(1, number + 1))))
        assert jobs.look()['labelling'][1] == 22 * times, name
        end(call(workflow, orm.CalcJobNode, 'LabelCalculation', number))
        end(workflow)
    assert jobs.look() == {'labelling': (22 * times, 22 * times)}

    given = running('GapWorkChain', structures=StructureSetData(make_chains(1, 2, 3)))
    assert JobProgress(given).look() == {'labelling': (0, 3)}


def test_active_learning_counts_its_rounds_and_their_labels_from_the_start(aiida_profile_clean, make_chains) -> None:
    pool = StructureSetData(make_chains(*range(1, 31)))
    limits = {'n_held_out': orm.Int(6), 'n_initial': orm.Int(5), 'n_per_round': orm.Int(4), 'max_rounds': orm.Int(3)}
    root = running('ActiveWorkChain', pool=pool, **limits)
    jobs = JobProgress(root)
    assert jobs.look() == {'labelling': (0, 6 + 5 + 4 + 4), 'learning': (0, 3)}
    for number in range(2):
        end(call(root, orm.CalcJobNode, 'TrainCalculation'))
        end(call(root, orm.CalcJobNode, 'PredictCalculation'))
        assert jobs.look() == {'labelling': (0, 19), 'learning': (number + 1, 3)}
    end(root)
    assert jobs.look() == {'learning': (2, 2)}, 'it was good enough after two rounds'

    for changed, labels, rounds in (
        ({'budget': orm.Int(10)}, 6 + 10, 3),
        ({'budget': orm.Int(5)}, 6 + 5, 1),
        ({'max_rounds': orm.Int(50)}, 30, 6),
        ({'compare': orm.Bool(True)}, 2 * 19, 6),
    ):
        again = {name: node.clone() for name, node in limits.items()} | changed
        known = JobProgress(
            running('ActiveWorkChain', pool=StructureSetData(make_chains(*range(1, 31))), **again)
        ).look()
        assert known == {'labelling': (0, labels), 'learning': (0, rounds)}, changed


def test_the_total_of_a_study_is_known_when_its_first_job_says_how_many_models(
    aiida_profile_clean, make_chains, tmp_path
) -> None:
    study = orm.WorkChainNode()
    study.set_process_label('StudyWorkChain')
    study.set_process_state(ProcessState.RUNNING)
    inputs = {'structures': StructureSetData(make_chains(1, 2)), 'study': orm.Str('learning_curve')}
    for name, node in (inputs | {'seeds': orm.List([0, 1, 2])}).items():
        study.base.links.add_incoming(node.store(), LinkType.INPUT_WORK, name)
    study.store()
    jobs = JobProgress(study)
    first = call(study, orm.CalcJobNode, 'StudyCalculation')
    first.set_remote_workdir(str(tmp_path))
    assert jobs.look() == {}
    (tmp_path / OUTPUT_FILE).write_text('0/4\n1/4\n')
    assert jobs.look() == {'studying': (1, 12)}
    rows = orm.ArrayData()
    rows.base.attributes.set('n_points', 4)
    rows.base.links.add_incoming(first, LinkType.CREATE, 'rows')
    rows.store()
    end(first)
    assert jobs.look() == {'studying': (4, 12)}
    call(study, orm.CalcJobNode, 'StudyCalculation')
    assert jobs.look() == {'studying': (4, 12)}
    end(study)
    assert jobs.look() == {'studying': (4, 4)}


def test_reports_of_aiida_do_not_run_through_the_progress() -> None:
    def level(number: int) -> logging.LogRecord:
        return logging.LogRecord('aiida.orm', number, __file__, 1, 'text', None, None)

    assert not _warning_on_stderr(level(LOG_LEVEL_REPORT))
    assert _warning_on_stderr(level(logging.WARNING))
