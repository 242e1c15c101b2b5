"""Seconds per structure of every installed engine; prints one JSON line.

The named peer, timed in the same run: for ``xtb`` tblite's own ASE calculator, for ``pyscf`` PySCF's usual density
fitting (automatic auxiliary basis, integrals computed anew in every iteration) with the same basis, grid and tolerance.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import click
from ase import Atoms
from pyscf import dft, gto
from tblite.ase import TBLite
from threadpoolctl import threadpool_limits

from aiida_nanoml.engines import Engine, engine_names, get_engine
from aiida_nanoml.engines.pyscf import FUNCTIONAL, PSEUDOPOTENTIAL
from aiida_nanoml.structures import Structure, flake_lattice
from aiida_nanoml.units import BOLTZMANN_HARTREE_PER_K, HARTREE_EV


def seconds(task: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def ase_peer(engine: Engine, structure: Structure) -> None:
    """Run tblite through its ASE calculator."""
    settings = engine.settings.model_dump()
    atoms = Atoms(numbers=structure.numbers, positions=structure.positions)
    atoms.calc = TBLite(
        method=settings['method'],
        accuracy=settings['accuracy'],
        electronic_temperature=settings['electronic_temperature_kelvin'],
        verbosity=0,
    )
    atoms.get_potential_energy()


def pyscf_peer(engine: Engine, structure: Structure) -> None:
    """Run PySCF as its user guide shows."""
    settings = engine.settings.model_dump()
    molecule = gto.M(
        atom=list(zip(structure.numbers.tolist(), structure.positions.tolist(), strict=True)),
        basis=settings['basis'],
        pseudo=PSEUDOPOTENTIAL,
        verbose=0,
    )
    field = dft.RKS(molecule, xc=FUNCTIONAL)
    field = field.smearing(settings['electronic_temperature_kelvin'] * BOLTZMANN_HARTREE_PER_K, 'fermi').density_fit()
    field.grids.level = settings['grid_level']
    field.conv_tol = settings['energy_tolerance_ev'] / HARTREE_EV
    field.kernel()


PEERS = {'xtb': ('tblite.ase.TBLite', ase_peer), 'pyscf': ('pyscf RKS.density_fit()', pyscf_peer)}


@click.command()
@click.option('--protocol', default='fast', show_default=True)
@click.option('--threads', default=1, show_default=True)
def main(protocol: str, threads: int) -> None:
    """Time the engines on C24H12, and the ones that need less than a second also on C42H18 and C114H30."""
    small = flake_lattice('z', 2)
    benzene = flake_lattice('h', 1)
    results: dict[str, Any] = {'protocol': protocol, 'threads': threads}
    for name in engine_names():
        chosen = get_engine(name)
        if chosen.missing():
            continue
        engine = chosen(chosen.parameters(protocol), threads=threads)
        engine.evaluate(benzene)  # imports
        result: dict[str, Any] = {'version': chosen.version(), 'C24H12_s': seconds(lambda e=engine: e.evaluate(small))}
        if name in PEERS:
            peer, task = PEERS[name]
            with threadpool_limits(limits=threads):
                task(engine, benzene)
                peer_seconds = seconds(lambda t=task, e=engine: t(e, small))
            result |= {'peer': peer, 'peer_C24H12_s': peer_seconds, 'speedup': peer_seconds / result['C24H12_s']}
        if result['C24H12_s'] < 1.0:
            for lattice in (('h', 2), ('h', 3)):
                flake = flake_lattice(*lattice)
                result[f'{len(flake.numbers)}_atoms_s'] = seconds(lambda e=engine, f=flake: e.evaluate(f))
        results[name] = result
    click.echo(json.dumps(results))


if __name__ == '__main__':
    main()
