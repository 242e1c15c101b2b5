"""LDA gap of a molecule with PySCF, with all electrons or the pseudopotentials of CP2K; one JSON line a basis.

What an engine with pseudopotentials and a basis of its own should find. Usage: ``python benchmarks/all_electron.py
MOLECULE BASIS… [--pseudopotential gth-pade]``; with ``unc-`` before its name a basis has its Gaussians one by one, and
fits any pseudopotential.
"""

from __future__ import annotations

import json
import time

import click
from engine_convergence import MOLECULES
from pyscf import dft, gto, lib

from aiida_nanoml.engines.base import Label
from aiida_nanoml.units import HARTREE_EV


@click.command()
@click.argument('molecule', type=click.Choice([*MOLECULES]))
@click.argument('bases', nargs=-1, required=True)
@click.option('--pseudopotential', help='For example gth-pade; none: all electrons.')
@click.option('--functional', default='lda_x,lda_c_pz', show_default=True)
def main(molecule: str, bases: tuple[str, ...], pseudopotential: str | None, functional: str) -> None:
    """Compute the gap in each basis, with one thread."""
    lib.num_threads(1)
    structure = MOLECULES[molecule]
    for basis in bases:
        start = time.process_time()
        made = gto.M(
            atom=list(zip(structure.numbers.tolist(), structure.positions.tolist(), strict=True)),
            basis=basis,
            pseudo=pseudopotential,
            verbose=0,
        )
        field = dft.RKS(made, xc=functional).density_fit()
        field.grids.level = 4
        field.kernel()
        label = Label.from_levels(field.e_tot * HARTREE_EV, field.mo_energy * HARTREE_EV, made.nelectron)
        result = {
            'engine': 'pyscf',
            'molecule': molecule,
            'basis': basis,
            'pseudopotential': pseudopotential,
            'converged': bool(field.converged),
            'gap_ev': round(label.gap_ev, 4),
            'homo_ev': round(label.homo_ev, 4),
            'lumo_ev': round(label.lumo_ev, 4),
            'cpu_s': round(time.process_time() - start, 1),
        }
        click.echo(json.dumps(result))


if __name__ == '__main__':
    main()
