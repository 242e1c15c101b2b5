"""``aiida-nanoml import runs`` on folders of Quantum ESPRESSO, from the search to the stored labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aiida_nanoml.calculations.pseudopotentials import install_family
from tests.engines.quantumespresso.recorded import folder_of


@pytest.fixture
def runs(aiida_profile_clean, tmp_path: Path) -> Path:
    """Runs that gave a label, one whose gap is unknown, and two without a result."""
    for name in ('hcn', 'h2-relaxed', 'too-few-bands', 'not-converged', 'h2-bands'):
        shutil.copytree(folder_of(name), tmp_path / 'runs' / name, ignore=shutil.ignore_patterns('about.json'))
    return tmp_path / 'runs'


def test_runs_of_pw_are_imported_with_their_xml_files(runs, cli_json):
    install_family('upf')
    answer = cli_json('import', 'runs', runs, '--name', 'pw')
    assert answer['counts'] == {'imported': 3, 'present': 0, 'skipped': 2}
    found = {Path(run['folder']).name: run for run in answer['runs']}
    assert {run['engine'] for run in found.values() if run['status'] == 'imported'} == {'quantumespresso'}
    assert found['hcn']['gap_ev'] == pytest.approx(7.5359, abs=1e-4)
    assert (found['too-few-bands']['gap_ev'], found['too-few-bands']['reason']) == (
        None,
        '1 levels leave no LUMO; the run needs more levels (nbnd): the gap is not known',
    )
    assert found['not-converged']['reason'] == 'no self-consistency after 3 iterations'
    assert 'bands of a fixed density' in found['h2-bands']['reason']
    again = cli_json('import', 'runs', runs)
    assert again['counts'] == {'imported': 0, 'present': 3, 'skipped': 2}
