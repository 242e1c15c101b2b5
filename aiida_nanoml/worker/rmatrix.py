"""Task ``rmatrix`` of the worker: compute transmissions of potentials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiida_nanoml.transport.potential import PotentialSet
from aiida_nanoml.transport.settings import TransmissionSettings
from aiida_nanoml.transport.transmissions import transmit
from aiida_nanoml.units import HBAR2_OVER_2M0_EV_NM2
from aiida_nanoml.worker.files import read_arrays, read_job, write_arrays
from aiida_nanoml.worker.schemas import POTENTIALS_FILE, RESULTS_FILE, Report, RmatrixJob


def rmatrix(folder: Path, progress: Callable[[int, int], None]) -> Report:
    """Compute the transmissions of the potentials of a job folder.

    :param folder: holds ``job.json`` and ``potentials.npz``.
    :param progress: called with the number of finished potentials and of all.
    :returns: the report; the arrays are written to ``results.npz``.
    :raises NanomlError: the job, its settings or the potentials cannot be used, or the basis cannot carry the energies.
    """
    job = read_job(folder, RmatrixJob)
    settings = TransmissionSettings.from_dict(job.settings)
    potentials = PotentialSet.from_arrays(read_arrays(folder / POTENTIALS_FILE))
    found = transmit(potentials, settings, progress)
    write_arrays(folder / RESULTS_FILE, found.to_arrays())
    return Report(status='ok', content={'settings': settings.to_dict(), 'hbar2_over_2m0_ev_nm2': HBAR2_OVER_2M0_EV_NM2})
