"""The levels of a data set, from all files of a run that hold them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.abinit.levels import PRINTED_HARTREE, Levels
from aiida_nanoml.engines.abinit.output import DataSet
from aiida_nanoml.errors import EvaluationError, FailureCode

_PRINTED_WEIGHT = 6e-6
_PRINTED_K_POINT = 6e-5


def join_levels(
    data_set: DataSet, printed: Levels | None, printed_name: str, exact: Levels | None, exact_name: str
) -> Levels:
    """Return the levels with as many digits as there are, checked against all other places.

    :param printed: as a text has them.
    :param exact: as a netCDF file has them.
    :raises EvaluationError: ``'inconsistent'``: two of them contradict each other or the variables of the run.
    """
    levels = exact if exact is not None else printed
    name = exact_name if exact is not None else printed_name
    if levels is None:
        raise EvaluationError(FailureCode.ENGINE_FAILURE, 'no file holds the levels')
    if exact is not None and printed is not None:
        _check_same(printed, printed_name, exact, exact_name)
        weights = printed.weights if exact.weights is None else exact.weights
        levels = replace(exact, fermi_hartree=printed.fermi_hartree, weights=weights)
    n_spins, n_points, n_levels = levels.levels_hartree.shape
    variables, number = data_set.before, data_set.number
    for ours, theirs, what in (
        (n_spins, variables.integer('nsppol', number, 1), 'spins'),
        (n_points, variables.integer('nkpt', number, 1), 'k-points'),
        (n_levels, (variables.integers('nband', number) or [n_levels])[0], 'levels'),
    ):
        if ours != theirs:
            raise EvaluationError(
                FailureCode.INCONSISTENT,
                f'{name} has {ours} {what}, {data_set.text.name} has {theirs}: the levels are those of another run',
            )
    if levels.weights is None:
        return levels
    return replace(levels, weights=_round_weights(data_set, levels.weights, name))


def _check_same(printed: Levels, printed_name: str, exact: Levels, exact_name: str) -> None:
    def differ(what: str) -> EvaluationError:
        return EvaluationError(
            FailureCode.INCONSISTENT, f'the {what} in {printed_name} and in {exact_name} contradict each other'
        )

    if printed.levels_hartree.shape != exact.levels_hartree.shape:
        raise differ('numbers of levels')
    if np.abs(printed.levels_hartree - exact.levels_hartree).max() > PRINTED_HARTREE:
        raise differ('levels')
    if np.abs(printed.k_points - exact.k_points).max() > _PRINTED_K_POINT:
        raise differ('k-points')
    both = [weights for weights in (printed.weights, exact.weights) if weights is not None]
    if len(both) == 2 and np.abs(both[0] - both[1]).max() > _PRINTED_WEIGHT:
        raise differ('weights of the k-points')


def _round_weights(data_set: DataSet, weights: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Return weights that add up to one, with the digits that printing took.

    The weights of a mesh are whole multiples of one share.
    """
    if abs(float(weights.sum()) - 1) > _PRINTED_WEIGHT * len(weights) + 1e-9 or (weights < 0).any():
        raise EvaluationError(
            FailureCode.INCONSISTENT,
            f'{name}: the weights of the k-points add up to {float(weights.sum()):.5f}, not to 1',
        )
    lattice = data_set.before.integers('kptrlatt', data_set.number, 9)
    if lattice is not None:
        shifts = data_set.before.integer('nshiftk', data_set.number, 1)
        points = abs(round(float(np.linalg.det(np.reshape(lattice, (3, 3)))))) * shifts
        multiples = np.round(weights * points)
        if points and multiples.sum() == points and np.abs(multiples / points - weights).max() <= _PRINTED_WEIGHT:
            return np.asarray(multiples / points)
    return weights / math.fsum(weights.tolist())
