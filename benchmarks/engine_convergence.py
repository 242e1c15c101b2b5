"""Gap of a molecule with an engine that runs a program, over cutoffs, vacuum and bases; one JSON line a run.

Usage: ``python benchmarks/engine_convergence.py ENGINE [--molecule NAME] [--protocol NAME]… [--set KEY=VALUE]…``. A key
that is set several times takes each of its values in turn: ``--set cutoff_ry=45 --set cutoff_ry=70`` is a series.
"""

from __future__ import annotations

import json
import resource
import time
from itertools import chain, product
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

from aiida_nanoml.engines import get_engine
from aiida_nanoml.engines.program import ProgramEngine
from aiida_nanoml.structures import Structure
from aiida_nanoml.testing.structures import BENZENE, BORAZINE


def borane(bond_ang: float = 1.19) -> Structure:
    """Return planar BH3."""
    angles = 2 * np.pi * np.arange(3) / 3
    hydrogens = bond_ang * np.column_stack([np.cos(angles), np.sin(angles), np.zeros(3)])
    return Structure(np.array([5, 1, 1, 1]), np.concatenate([np.zeros((1, 3)), hydrogens]))


MOLECULES = {'benzene': BENZENE, 'bh3': borane(), 'borazine': BORAZINE}


def child_seconds() -> float:
    """Return the processor seconds of all programs that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(engine: ProgramEngine, structure: Structure) -> dict[str, Any]:
    """Run a program once."""
    before, start = child_seconds(), time.perf_counter()
    label = engine.evaluate(structure)
    return {
        'gap_ev': round(label.gap_ev, 4),
        'homo_ev': round(label.homo_ev, 4),
        'lumo_ev': round(label.lumo_ev, 4),
        'energy_ev': round(label.energy_ev, 5),
        'cpu_s': round(child_seconds() - before, 1),
        'wall_s': round(time.perf_counter() - start, 1),
    }


@click.command()
@click.argument('engine')
@click.option('--molecule', type=click.Choice([*MOLECULES]), default='benzene', show_default=True)
@click.option('--protocol', 'protocols', multiple=True, default=['balanced'], show_default=True)
@click.option('--set', 'settings', multiple=True, metavar='KEY=VALUE', help='Another value of a parameter; repeatable.')
@click.option('--executable', help='The program, where it has not its usual name.')
@click.option('--pseudopotentials', metavar='FOLDER', help='Files such as B.upf in place of the bundled ones.')
@click.option('--keep', metavar='FOLDER', help='Keep the folder of a run that fails there.')
def main(
    engine: str,
    molecule: str,
    protocols: tuple[str, ...],
    settings: tuple[str, ...],
    executable: str | None,
    pseudopotentials: str | None,
    keep: str | None,
) -> None:
    """Run the series with one thread."""
    kind = get_engine(engine)
    values: dict[str, list[Any]] = {}
    for setting in settings:
        key, _, value = setting.partition('=')
        values.setdefault(key, []).append(yaml.safe_load(value))
    runtime: dict[str, Any] = {
        key: value for key, value in (('executable', executable), ('folder', keep)) if value is not None
    }
    if pseudopotentials is not None:
        files = (Path(pseudopotentials).glob(f'*.{ending}') for ending in kind.pseudopotential_formats)
        runtime['pseudopotentials'] = {path.stem: str(path) for path in chain.from_iterable(files)}
    for protocol, chosen in product(protocols, product(*values.values())):
        changes = dict(zip(values, chosen, strict=True))
        program = kind(kind.parameters(protocol, changes), runtime=runtime)
        about = {'engine': engine, 'version': program.version_in_use(), 'molecule': molecule, 'protocol': protocol}
        click.echo(json.dumps(about | changes | measure(program, MOLECULES[molecule])))


if __name__ == '__main__':
    main()
