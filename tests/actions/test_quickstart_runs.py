"""What the quickstart takes from an earlier run: only what was asked for exactly the same, and finished."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.manage import get_manager
from aiida.plugins import CalculationFactory

from aiida_nanoml.actions import quickstart_runs
from aiida_nanoml.actions.quickstart_runs import Runs
from aiida_nanoml.actions.session import Session
from aiida_nanoml.calculations.functions.structures import merge_structures
from aiida_nanoml.data.structures import StructureSetData


def runs(fresh: bool = False) -> Runs:
    return Runs(get_manager().get_profile(), Session(), fresh)


@pytest.fixture
def sets(aiida_profile_clean, make_chains) -> dict[str, StructureSetData]:
    return {name: StructureSetData(make_chains(number)).store() for name, number in (('a', 3), ('b', 4))}


def test_a_function_runs_once_for_the_same_inputs_and_software(sets, monkeypatch) -> None:
    first = runs()
    made = first.run_function(merge_structures, **sets)
    assert first.reused == []
    assert first.summarise()['cached'] is False

    second = runs()
    assert second.run_function(merge_structures, **sets).uuid == made.uuid
    [found] = second.summarise()['reused']
    assert (found['process'], found['uuid']) == ('merge_structures', made.creator.uuid)
    assert second.summarise()['calculations_reused'] == second.summarise()['calculations'] == 1
    assert second.summarise()['cached'] is True

    assert runs().run_function(merge_structures, a=sets['a'], b=sets['a']).uuid != made.uuid
    assert runs(fresh=True).run_function(merge_structures, **sets).uuid != made.uuid
    monkeypatch.setattr(quickstart_runs, '_software', lambda: 'another version')
    assert runs().run_function(merge_structures, **sets).uuid != made.uuid


def test_a_job_is_found_by_the_content_of_its_inputs_and_only_when_it_has_finished(sets) -> None:
    def builder(**changes):
        job = CalculationFactory('nanoml.label').get_builder()
        job.structures, job.engine, job.protocol = sets['a'], orm.Str('xtb'), orm.Str('fast')
        job.parameters = orm.Dict({'accuracy': 0.1})
        for name, value in changes.items():
            job[name] = value
        return job

    process = orm.CalcJobNode(computer=orm.Computer('here', 'localhost', '', 'core.local', 'core.direct').store())
    process.base.extras.set(quickstart_runs.REQUEST, quickstart_runs._digest(builder()))
    process.set_process_state('running')
    process.store()
    assert runs().find(builder()) is None
    process.set_process_state('finished')
    process.set_exit_status(300)
    assert runs().find(builder()) is None
    process.set_exit_status(0)
    assert runs().find(builder()).uuid == process.uuid

    stored = builder(engine=orm.Str('xtb').store(), structures=StructureSetData(sets['a'].structures))
    assert runs().find(stored).uuid == process.uuid
    for changes in (
        {'structures': sets['b']},
        {'engine': orm.Str('pyscf')},
        {'parameters': orm.Dict({'accuracy': 0.2})},
        {'time_limit_s': orm.Float(3.0)},
        {'metadata': {'label': 'another'}},
    ):
        assert runs().find(builder(**changes)) is None, changes


def test_the_software_is_the_source_and_the_versions_of_what_it_needs(monkeypatch, tmp_path) -> None:
    def digest() -> str:
        return quickstart_runs._software.__wrapped__()

    (tmp_path / 'part').mkdir()
    (tmp_path / 'part' / 'code.py').write_text('a = 1\n')
    monkeypatch.setattr(quickstart_runs, 'files', lambda _: tmp_path)
    before = digest()
    assert digest() == before
    (tmp_path / 'part' / 'code.py').write_text('a = 2\n')
    edited = digest()
    assert edited != before
    monkeypatch.setattr(quickstart_runs, 'version', lambda name: '1.0' if name == 'tblite' else '2.0')
    other = digest()
    monkeypatch.setattr(quickstart_runs, 'version', lambda name: '2.0')
    assert len({before, edited, other, digest()}) == 4
