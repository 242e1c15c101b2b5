"""``aiida-nanoml audit``."""

from __future__ import annotations

import json

from aiida_nanoml.provenance.audit import CHECKS


def test_findings_decide_on_the_exit_status(cli, labels_node, model_node):
    """Labels stored by hand make a referee ask; a model that no process made cannot be defended."""
    text = cli('audit', labels_node.uuid).stdout
    assert 'warning: no process made nanoml.labels' in text
    assert text.endswith(f'next: aiida-nanoml reproduce {labels_node.uuid}\n')
    cli('audit', labels_node.uuid, '--strict', status=1)
    assert 'error: no process made nanoml.model' in cli('audit', model_node.uuid, status=1).stdout
    cli('audit', model_node.uuid, '--json', status=1)


def test_everything_stands_in_the_json(cli_json, cli, structures_node):
    found = cli_json('audit', structures_node.uuid)
    assert found['counts'] == {'error': 0, 'warning': 0, 'note': 1}
    assert [check['check'] for check in found['checks']] == [check.name for check in CHECKS]
    assert found['findings'][0]['nodes'][0]['uuid'] == structures_node.uuid
    cli('audit', structures_node.uuid, '--strict')
    text = cli('audit', structures_node.uuid, '--checks').stdout
    assert 'skill: Is the model better than the mean of its training rows' in text
    assert all(f'\n{check.name}: {check.question} ' in text for check in CHECKS)


def test_a_node_with_nothing_to_audit_is_refused(cli, code):
    error = cli('audit', code.uuid, status=1).stderr
    assert error.startswith('Error: there is nothing to audit in core.code.installed nanoml-worker')
    assert 'name a prediction' in error


def test_an_archive_is_audited(cli, cli_json, labels_node, aiida_profile, tmp_path):
    from aiida import load_profile
    from aiida.tools.archive import create_archive

    path, uuid = tmp_path / 'labels.aiida', labels_node.uuid
    create_archive([labels_node], path)
    here = cli_json('audit', uuid)
    try:
        there = json.loads(cli('audit', uuid, '--archive', path, '--json').stdout)
        assert there['checks'] == here['checks']
        assert cli('audit', uuid, '--archive', path).stdout.endswith(f'reproduce {uuid} --archive {path}\n')
    finally:
        load_profile(aiida_profile, allow_switch=True)
