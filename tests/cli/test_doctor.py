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
from click.testing import Result

PROGRAM = Path(sys.executable).with_name('aiida-nanoml')


@pytest.fixture
def own_profile(aiida_profile_clean):
    """An empty profile, emptied again afterwards: other tests must not meet the codes of these."""
    yield
    aiida_profile_clean.reset_storage()


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
    cli('doctor', '--fix')
    made = orm.load_code('nanoml-worker@localhost')
    assert Path(made.filepath_executable).is_file()
    assert made.computer.is_configured
    assert statuses()['code']['status'] == 'ok'


def test_a_code_whose_file_is_gone_is_told(
    own_profile, code: orm.InstalledCode, statuses: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    orm.InstalledCode(
        label='nanoml-worker', computer=code.computer, filepath_executable='/nowhere/nanoml-worker'
    ).store()
    found = statuses(1)['code']
    assert '/nowhere/nanoml-worker does not exist' in found['detail']
    assert 'verdi code delete' in found['mend']


def test_without_a_profile_it_says_how_to_make_one(tmp_path: Path) -> None:
    environment = os.environ | {'AIIDA_PATH': str(tmp_path)}
    done = subprocess.run([PROGRAM, 'doctor'], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'aiida-nanoml doctor --fix' in done.stdout
    assert 'Traceback' not in done.stderr
