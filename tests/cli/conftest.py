"""The command line as the tests call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aiida_nanoml.cli import root


@pytest.fixture(autouse=True)
def empty_profile(aiida_profile_clean) -> None:
    """Commands find nodes by their labels: none of an earlier test may be in the way."""


@pytest.fixture
def cli(aiida_profile) -> Callable[..., Result]:
    """Call a command; a traceback is a failure of the test, whatever the exit status."""

    def call(*arguments: Any, status: int = 0) -> Result:
        result = CliRunner().invoke(root, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return call


@pytest.fixture
def cli_json(cli: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Call a command with --json; the standard output is exactly one object."""

    def call(*arguments: Any, status: int = 0) -> dict[str, Any]:
        lines = cli(*arguments, '--json', status=status).stdout.splitlines()
        assert len(lines) == 1
        return json.loads(lines[0])

    return call
