"""``aiida-nanoml publish``."""

from __future__ import annotations

import json

import pytest


def test_structures_become_a_folder(cli, cli_json, structures_node, tmp_path):
    folder = tmp_path / 'flakes'
    told = cli_json(
        *('publish', structures_node.uuid, '-o', folder, '--title', 'Flakes', '--licence', 'CC0-1.0'),
        *('--author', 'Ada Lovelace <ada@example.org>, 0000-0002-1825-0097', '--author', 'Charles Babbage'),
    )
    assert told['authors'] == ['Ada Lovelace <ada@example.org>, 0000-0002-1825-0097', 'Charles Babbage']
    assert told['nodes'] == [structures_node.uuid]
    assert set(told['files']) == {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}
    crate = json.loads((folder / 'ro-crate-metadata.json').read_text(encoding='utf-8'))
    assert {entity.get('name') for entity in crate['@graph']} >= {'Flakes', 'Ada Lovelace', 'Charles Babbage'}
    assert 'not empty' in cli('publish', structures_node.pk, '-o', folder, status=1).stderr
    again = cli('publish', structures_node.pk, '-o', folder, '--force').stdout
    assert again.splitlines()[-1] == f'next: aiida-nanoml trace {structures_node.uuid} --archive {folder}/archive.aiida'
    assert 'has no provenance to DFT, because it rests on no labels' in again


@pytest.mark.parametrize(
    ('author', 'fault'),
    [
        ('<ada@example.org>', 'not of the form'),
        ('Ada <ada>', 'not of the form'),
        ('Ada, 0000-0002-1825-0096', 'wrong digit'),
    ],
)
def test_authors_that_cannot_be_read(cli, structures_node, tmp_path, author, fault):
    error = cli('publish', structures_node.pk, '-o', tmp_path / 'out', '--author', author, status=2).stderr
    assert fault in ' '.join(error.split())
    assert list(tmp_path.iterdir()) == []


def test_unknown_licence(cli, structures_node, tmp_path):
    error = cli('publish', structures_node.pk, '-o', tmp_path / 'out', '--licence', 'GPL', status=1).stderr
    assert "unknown licence 'GPL'; known: CC-BY-4.0" in ' '.join(error.split())
