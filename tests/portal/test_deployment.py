"""The files of a deployment that the documentation shows, as the programs that read them see them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiida_nanoml.portal.config import read_config
from tests.portal.conftest import DEPLOYMENT


def test_the_configuration_can_be_read() -> None:
    config = read_config(DEPLOYMENT / 'portal.toml')
    assert config.secure
    assert config.cookie == '__Host-nanoml'
    assert config.behind_proxy, 'nginx and Caddy stand before it'
    for server in ('nginx.conf', 'Caddyfile'):
        text = (DEPLOYMENT / server).read_text()
        assert config.listen in text
        assert config.host in text


@pytest.mark.skipif(shutil.which('systemd-analyze') is None, reason='systemd is not installed')
def test_the_service_is_one_of_systemd(tmp_path: Path) -> None:
    text = (DEPLOYMENT / 'aiida-nanoml-portal.service').read_text()
    unit = tmp_path / 'aiida-nanoml-portal.service'
    unit.write_text(text.replace('/opt/aiida-nanoml/bin/aiida-nanoml', sys.executable))
    found = subprocess.run(['systemd-analyze', 'verify', '--man=no', unit], check=False, capture_output=True, text=True)
    assert [line for line in found.stderr.splitlines() if unit.name in line] == []
    unit.write_text(text.replace('KillMode=process', 'KillMode=nonsense'))
    found = subprocess.run(['systemd-analyze', 'verify', '--man=no', unit], check=False, capture_output=True, text=True)
    assert 'kill mode' in found.stderr, 'a fault is noticed'
    assert 'KillMode=process' in text, 'runs go on over a restart'
