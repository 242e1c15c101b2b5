"""Transmissions in job folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiida_nanoml.transport.potential import PotentialSet
from aiida_nanoml.transport.presets import make_potential
from aiida_nanoml.transport.settings import TransmissionSettings
from aiida_nanoml.transport.transmissions import transmit
from aiida_nanoml.worker.files import read_arrays, write_arrays
from aiida_nanoml.worker.main import main
from aiida_nanoml.worker.schemas import JOB_FILE, POTENTIALS_FILE, RESULTS_FILE, RmatrixJob
from tests.worker.conftest import read_report

SETTINGS = {'lowest': 0.0, 'highest': 0.4, 'n_energies': 101, 'n_basis': 64}


@pytest.fixture
def potentials() -> PotentialSet:
    return PotentialSet([make_potential('barrier', {}), make_potential('double_barrier', {'bias': 0.1})])


@pytest.fixture
def rmatrix_job(tmp_path: Path, potentials: PotentialSet) -> Any:
    def make(**changes: Any) -> Path:
        write_arrays(tmp_path / POTENTIALS_FILE, potentials.to_arrays())
        job = RmatrixJob(settings=SETTINGS | changes)
        (tmp_path / JOB_FILE).write_text(job.model_dump_json(), encoding='utf-8')
        return tmp_path

    return make


def test_the_results_are_those_of_the_core(rmatrix_job, potentials: PotentialSet, capsys) -> None:
    folder = rmatrix_job(resolve=True)
    assert main(['rmatrix', '--folder', str(folder)]) == 0
    report, arrays = read_report(folder), read_arrays(folder / RESULTS_FILE)
    assert report.content['settings']['correction'] == 'coupled', 'what was not named stands in the report'
    assert report.content['hbar2_over_2m0_ev_nm2'] == pytest.approx(0.0380998, rel=1e-6)
    expected = transmit(potentials, TransmissionSettings.from_dict(SETTINGS | {'resolve': True})).to_arrays()
    assert set(arrays) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(arrays[name], array, atol=1e-12, err_msg=name)
    assert capsys.readouterr().out.splitlines()[-1] == '2/2'


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'n_basis': 2}, 'cosines are too few'),
        ({'correction': 'full'}, "no correction 'full'"),
        ({'temperature': 300}, 'unknown: temperature'),
        ({'highest': -1.0}, 'must be below'),
    ],
)
def test_what_cannot_be_computed_is_refused(rmatrix_job, changes: dict[str, Any], reason: str) -> None:
    folder = rmatrix_job(**changes)
    assert main(['rmatrix', '--folder', str(folder)]) == 1
    report = read_report(folder)
    assert (report.status, report.code) == ('error', 'TransportError')
    assert reason in report.message
    assert not (folder / RESULTS_FILE).exists()
