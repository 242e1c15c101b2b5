"""Parser of transmission jobs: transmissions, S-matrices and resonances."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode
from numpy.typing import NDArray

from aiida_nanoml.errors import TransportError
from aiida_nanoml.parsers.base import WorkerParser
from aiida_nanoml.worker.schemas import Report

SCATTERING = ('s_matrix', 'reflection', 'phase', 'levels', 'truncation_errors', 'noise_floors', 'unitarity_defects')


class RmatrixParser(WorkerParser):
    """Transmissions, S-matrices and resonances; those that are not converged are kept, and reported."""

    def parse_results(self, report: Report, arrays: Mapping[str, NDArray[Any]], folder: Path) -> ExitCode | None:
        """Make the nodes."""
        names = self.node.inputs.potentials.potentials.names
        settings = report.content['settings']
        energies, transmission = arrays['energies'], arrays['transmission']
        if transmission.shape != (len(names), len(energies)) or not np.isfinite(transmission).all():
            raise TransportError('the transmissions do not belong to the potentials that were sent')
        self.out('transmission', transmission_node(energies, transmission))
        scattering = orm.ArrayData()
        for name in SCATTERING:
            scattering.set_array(name, arrays[name])
        self.out('scattering', scattering)
        resonances = orm.ArrayData()
        for name in ('rows', 'energies', 'widths'):
            resonances.set_array(name, arrays[f'resonance_{name}'])
        self.out('resonances', resonances)
        errors = arrays['truncation_errors']
        self.out(
            'results',
            orm.Dict(
                {
                    'n_potentials': len(names),
                    'n_energies': len(energies),
                    'n_resonances': len(arrays['resonance_rows']),
                    'largest_truncation_error': float(errors.max()),
                    'largest_noise_floor': float(arrays['noise_floors'].max()),
                    'largest_unitarity_defect': float(arrays['unitarity_defects'].max()),
                    **report.content,
                }
            ),
        )
        open_rows = np.flatnonzero(errors > settings['tolerance'])
        if not len(open_rows):
            return None
        worst = int(errors.argmax())
        return self.exit_codes.ERROR_NOT_CONVERGED.format(
            reason=f'{len(open_rows)} of {len(names)} potentials, the worst {names[worst] or worst} by '
            f'{errors[worst]:.1e} with {settings["n_basis"]} cosines; take more'
        )


def transmission_node(energies: NDArray[np.float64], transmission: NDArray[np.float64]) -> orm.XyData:
    """Make the node of T(E).

    :param energies: (n,) in eV.
    :param transmission: (p, n), a row for each potential.
    """
    node = orm.XyData()
    node.set_x(energies, 'energy', 'eV')
    labels = [f'transmission_{row:04d}' for row in range(len(transmission))]
    node.set_y(list(transmission), labels, ['1'] * len(labels))
    return node
