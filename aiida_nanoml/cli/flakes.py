"""``aiida-nanoml flakes``."""

from __future__ import annotations

from typing import Any

import click

from aiida_nanoml.cli.launch import run_function
from aiida_nanoml.cli.options import JSON, NAME, Numbers, example
from aiida_nanoml.cli.structures import emit_structures


@click.group()
def flakes() -> None:
    """C-BN nanoflakes."""


@flakes.command(
    epilog=example('aiida-nanoml flakes generate --family h --size 2 --count 60 --seed 1 --name flakes'),
    short_help='Generate flakes with random domains of boron nitride.',
)
@click.option('--family', help='h: hexagonal, armchair edges; s: square; z: hexagonal, zigzag edges.')
@click.option('--size', type=Numbers(), help='Size of the lattice: one number, two for the family s (9,6).')
@click.option('--lattice', help='Formula of the bare flake in place of family and size, for example C42H18.')
@click.option('--count', type=int, required=True, help='Number of flakes.')
@click.option('--seed', type=int, required=True, help='Seed of all draws: the same seed gives the same flakes.')
@click.option('--shape', default='growth', show_default=True, help='Shape of the domains: growth or rectangle.')
@click.option('--domains', type=int, nargs=2, default=(1, 4), show_default=True, help='Least and most domains.')
@click.option('--bn-fraction', type=float, nargs=2, default=(0.0, 1.0), show_default=True, help='Least, most BN share.')
@click.option('--unbalanced', is_flag=True, help='Allow an odd number of electrons.')
@NAME
@JSON
def generate(
    family: str | None,
    size: list[int] | None,
    lattice: str | None,
    count: int,
    seed: int,
    shape: str,
    domains: tuple[int, int],
    bn_fraction: tuple[float, float],
    unbalanced: bool,
    name: str,
    as_json: bool,
) -> None:
    """Generate flakes with random domains of boron nitride, distinct up to the symmetry of the bare flake."""
    from aiida.orm import Dict

    from aiida_nanoml.calculations.functions.structures import generate_flake_set
    from aiida_nanoml.cli.options import load_storage
    from aiida_nanoml.structures import FlakeParameters

    family_of_lattice, size_of_lattice = _lattice(family, size, lattice)
    parameters = FlakeParameters(
        family=family_of_lattice,
        size=size_of_lattice,
        count=count,
        seed=seed,
        shape=shape,
        n_domains=domains,
        bn_fraction=bn_fraction,
        balanced=not unbalanced,
    )
    load_storage()
    node = run_function(generate_flake_set, parameters=Dict(parameters.to_dict()))
    node.label = name
    emit_structures(node, as_json, {'parameters': parameters.to_dict()})


def _lattice(family: str | None, size: list[int] | None, lattice: str | None) -> tuple[str, Any]:
    """Choose family and size."""
    from aiida_nanoml.structures import parse_lattice

    if lattice is not None:
        if size is not None:
            raise click.UsageError('give --lattice or --size, not both')
        return parse_lattice(lattice if family is None else f'{family}-{lattice}')
    if family is None or size is None:
        raise click.UsageError('give --family and --size, or --lattice')
    return family, size[0] if len(size) == 1 else tuple(size)
