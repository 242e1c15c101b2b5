"""The commands of administrators."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aiida_nanoml.cli import root


@pytest.fixture
def portal(tmp_path: Path) -> Callable[..., Result]:
    """Run a command of a portal whose front is the account of the tests."""
    config = tmp_path / 'portal.toml'
    account = pwd.getpwuid(os.geteuid()).pw_name
    config.write_text(
        f'origin = "http://127.0.0.1:8000"\naccount = "{account}"\ndatabase = "sqlite:///{tmp_path}/portal.sqlite"\n'
    )
    return lambda *words: CliRunner().invoke(root, ['portal', *words, '--config', str(config)])


def test_users_groups_and_grants(portal: Callable[..., Result]) -> None:
    added = json.loads(portal('user', 'add', 'alice', '--account', 'alice', '--admin', '--json').output)
    assert len(added.pop('password')) == 20
    assert added == {'user': 'alice', 'account': 'alice', 'admin': True}
    for words in (
        ('user', 'add', 'bob'),
        ('group', 'add', 'flakes', 'bob'),
        ('grant', 'cbn_ann', '--group', 'flakes'),
        ('grant', 'rmatrix', '--user', 'bob'),
        ('grant', 'provenance', '--group', 'everybody'),
        ('revoke', 'rmatrix', '--user', 'bob'),
        ('user', 'quota', 'bob', '--size', '2.5'),
        ('user', 'account', 'bob', '--account', 'robert'),
        ('user', 'account', 'bob'),
        ('announce', 'away on Monday'),
    ):
        result = portal(*words)
        assert result.exit_code == 0, result.output
    alice, bob = json.loads(portal('user', 'list', '--json').output)['users']
    assert alice['admin']
    assert (bob['groups'], bob['applications'], bob['quota_bytes']) == (['flakes'], ['cbn_ann', 'provenance'], 2.5e9)
    assert portal('user', 'list').output.splitlines() == [
        'user   account  may         groups  applications',
        'alice  alice    administer  -       provenance',
        'bob    -        sign in     flakes  cbn_ann provenance',
    ]
    assert portal('group', 'list').output.splitlines() == [
        'group      members  applications',
        'everybody  -        provenance',
        'flakes     bob      cbn_ann',
    ]
    portal('group', 'remove', 'flakes', 'bob')
    portal('user', 'disable', 'bob')
    bob = json.loads(portal('user', 'list', '--json').output)['users'][1]
    assert (bob['groups'], bob['applications'], bob['active']) == ([], ['provenance'], False)
    portal('user', 'enable', 'bob')
    first, second = (json.loads(portal('user', 'password', 'bob', '--json').output)['password'] for _ in range(2))
    assert first != second

    entries = json.loads(portal('log', '--json').output)['entries']
    assert {entry['actor'] for entry in entries} == {f'unix:{pwd.getpwuid(os.getuid()).pw_name}'}
    assert [entry['event'] for entry in entries][-3:] == ['group add', 'user add', 'user add']
    assert 'password reset  bob' in portal('log', '--count', '1').output
    assert first not in portal('log').output


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('user', 'disable', 'carol'), "there is no user 'carol'"),
        (('user', 'add', 'Carol'), "'Carol' cannot be a name"),
        (('grant', 'nonsense', '--group', 'everybody'), "there is no application 'nonsense'; known: alloys, cbn_ann"),
        (('user', 'account', 'carol'), "there is no user 'carol'"),
        (('grant', 'rmatrix'), 'give either --user or --group'),
        (('revoke', 'rmatrix', '--group', 'everybody'), 'rmatrix is not granted to the group everybody'),
        (('group', 'remove', 'flakes', 'carol'), 'carol is not in the group flakes'),
        (('group', 'add', 'everybody', 'carol'), 'all users belong to everybody'),
    ],
)
def test_refusals_say_why(portal: Callable[..., Result], words: tuple[str, ...], message: str) -> None:
    result = portal(*words)
    assert result.exit_code != 0
    assert message in result.output


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(root, ['portal', 'user', 'list', '--config', str(tmp_path / 'none.toml')])
    assert result.exit_code == 1
    assert (
        f'{tmp_path}/none.toml cannot be read: No such file or directory; name the file with --config' in result.output
    )
