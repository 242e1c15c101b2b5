"""The doctor on a healthy profile, on one that lacks things, and on none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiida import orm
from aiida.manage.configuration import get_config
from aiida.tools.archive import create_archive, import_archive
from click.testing import Result

from aiida_nanoml.actions.codes import default_code, load_code, why_unusable
from aiida_nanoml.actions.doctor import Finding, Health
from aiida_nanoml.actions.errors import ActionError

PROGRAM = Path(sys.executable).with_name('aiida-nanoml')


@pytest.fixture
def own_profile(aiida_profile_clean):
    """An empty profile, emptied again afterwards: other tests must not meet the codes of these."""
    yield
    aiida_profile_clean.reset_storage()
    config = get_config()
    config.unset_option('caching.enabled_for', scope=aiida_profile_clean.name)
    config.store()


@pytest.fixture
def statuses(cli: Callable[..., Result]) -> Callable[..., dict[str, dict[str, Any]]]:
    def call(status: int = 0) -> dict[str, dict[str, Any]]:
        content = json.loads(cli('doctor', '--json', status=status).stdout)
        assert content['healthy'] is (status == 0)
        return {check['what']: check for check in content['checks']}

    return call


def test_healthy(code: orm.InstalledCode, statuses: Callable[..., dict[str, dict[str, Any]]]) -> None:
    found = statuses()
    assert found['code']['detail'] == 'nanoml-worker@localhost'
    assert found['engine xtb']['status'] == 'ok'
    assert found['daemon']['status'] == 'optional'  # the profile of the tests has no broker


def test_a_missing_code_is_told_and_mended(
    own_profile, cli: Callable[..., Result], statuses: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    assert statuses(1)['code']['mend'].startswith('aiida-nanoml doctor --fix')
    assert statuses(1)['caching']['mend'] == 'aiida-nanoml doctor --fix'
    assert 'turned caching on' in cli('doctor', '--fix').stderr
    assert statuses()['caching']['status'] == 'ok'
    made = orm.load_code('nanoml-worker@localhost')
    assert Path(made.filepath_executable).is_file()
    assert made.computer.is_configured
    assert statuses()['code']['status'] == 'ok'


@pytest.fixture
def archive(aiida_profile_clean, tmp_path: Path) -> Path:
    """An archive with the code of its author, whose computer is called localhost, too."""
    computer = orm.Computer('localhost', 'localhost', '', 'core.local', 'core.direct', workdir='/home/ada/work').store()
    code = orm.InstalledCode(
        label='nanoml-worker', computer=computer, filepath_executable='/home/ada/bin/nanoml-worker'
    )
    path = tmp_path / 'archive.aiida'
    create_archive([code.store()], filename=path)
    aiida_profile_clean.reset_storage()
    return path


def test_the_code_of_an_imported_archive_is_not_used(
    archive: Path, own_profile, cli: Callable[..., Result], statuses: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    import_archive(archive)
    assert 'is not configured for the current user' in statuses(1)['code']['detail']
    with pytest.raises(ActionError, match='doctor --fix'):
        default_code()
    assert 'doctor --fix' not in cli('doctor', '--fix').stdout
    own = default_code()
    assert own.computer.label == 'localhost-2'
    assert Path(own.filepath_executable).is_file()
    assert statuses()['code'] == {'what': 'code', 'status': 'ok', 'detail': 'nanoml-worker@localhost-2', 'mend': ''}


def test_an_archive_does_not_ask_for_a_choice(
    archive: Path, own_profile, code: orm.InstalledCode, statuses: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    import_archive(archive)
    assert default_code().uuid == code.uuid
    assert load_code('nanoml-worker').uuid == code.uuid
    assert statuses()['code']['detail'] == 'nanoml-worker@localhost'


def test_a_code_whose_file_is_gone_is_told(own_profile, code: orm.InstalledCode) -> None:
    gone = orm.InstalledCode(
        label='nanoml-worker', computer=code.computer, filepath_executable='/nowhere/nanoml-worker'
    ).store()
    assert '/nowhere/nanoml-worker is no program here' in str(why_unusable(gone))
    assert default_code().uuid == code.uuid


def test_mending_is_not_proposed_again() -> None:
    ill = [Finding('tensorflow', 'missing', 'not installed', 'pip install tensorflow')]
    assert Health(ill).next_step() is not None
    assert Health(ill, mended=True).next_step() is None


def test_without_a_profile_it_says_how_to_make_one(tmp_path: Path) -> None:
    environment = os.environ | {'AIIDA_PATH': str(tmp_path)}
    done = subprocess.run([PROGRAM, 'doctor'], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'aiida-nanoml doctor --fix' in done.stdout
    assert 'Traceback' not in done.stderr
