"""Readers of the files of levels and of k-points: ``.EIG`` and ``.KP``.

sisl reads them as well, and agrees on whole files. It takes NaN and cut numbers without a word and does not end on some
files that are cut, so that it cannot be used on files from anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.run_text import RunText
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.text import quoted

LARGEST_LEVEL_EV = 1e5
"""Levels beyond this (eV) are a mistake: the deepest ones that pseudopotentials leave are at some -1000 eV."""

SPINORS = (4, 8)
"""Numbers of spin components with non-collinear spin and with spin-orbit coupling: a level holds one electron."""

_COUNT = re.compile(r'\d{1,9}', re.ASCII)
_HEAD = ('the number of levels', 'the number of spins', 'the number of k-points')
_ORDER_TOLERANCE_EV = 1e-6


def read_levels(eig: RunText) -> tuple[NDArray[np.float64], float]:
    """Read the levels.

    :param eig: the file: the Fermi level, the numbers L of levels, S of spins and K of k-points, and for each k-point
        its number and S times L levels in ascending order, in eV. Non-collinear spin has one set of levels.
    :returns: the levels (S, K, L), and the Fermi level, both in eV.
    :raises EvaluationError: ``'truncated'``: the file is absent or ends in the middle; ``'engine_failure'``: it holds
        something else than finite numbers in this order.
    """
    words = eig.words
    # A number that is cut is still a number: only the end of the last line shows a cut.
    if len(words) < 4 or not eig.text.endswith('\n'):
        raise EvaluationError(FailureCode.TRUNCATED, f'the file {eig.name} with the levels is absent or not whole')
    fermi = eig.number(words[0], eig.position(0), 'the Fermi level', LARGEST_LEVEL_EV)
    n_levels, n_spins, n_points = (_count(eig, index, what) for index, what in enumerate(_HEAD, start=1))
    if n_spins in SPINORS:
        n_spins = 1
    if n_spins > 2:
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'{eig.place(eig.position(2))}: {n_spins} spin components: SIESTA has 1, 2, 4 or 8',
        )
    row = 1 + n_spins * n_levels
    expected = 4 + n_points * row
    if len(words) < expected:
        raise EvaluationError(FailureCode.TRUNCATED, f'the file {eig.name} with the levels ends in the middle')
    if len(words) > expected:
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'{eig.place(eig.position(expected))}: more words than the {n_points * n_spins * n_levels} levels that the '
            'head of the file announces',
        )
    _check_numbering(eig, range(4, expected, row))
    chosen = np.arange(4, expected).reshape(n_points, row)[:, 1:].reshape(-1)
    values = eig.numbers(chosen.tolist(), 'a level', LARGEST_LEVEL_EV)
    levels = values.reshape(n_points, n_spins, n_levels)
    falls = np.flatnonzero((np.diff(levels, axis=2) < -_ORDER_TOLERANCE_EV).ravel())
    if len(falls):
        point, spin, level = np.unravel_index(falls[0], (n_points, n_spins, n_levels - 1))
        place = eig.place(eig.position(int(6 + point * row + spin * n_levels + level)))
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'{place}: level {level + 2} of k-point {point + 1} is below the level before it: levels ascend',
        )
    return np.ascontiguousarray(levels.swapaxes(0, 1)), fermi


def has_spinors(eig: RunText) -> bool:
    """Return whether the levels of a file are those of non-collinear spin, or of spin-orbit coupling.

    :param eig: a file that :func:`read_levels` reads.
    """
    return int(eig.words[2]) in SPINORS


def read_weights(kp: RunText, n_points: int) -> NDArray[np.float64]:
    """Read the weights of the k-points.

    :param kp: the file: the number of k-points, and of each its number, three coordinates and the weight.
    :param n_points: number of k-points that the levels have.
    :returns: (K,), with the sum 1.
    :raises EvaluationError: ``'truncated'``: the file has other k-points; ``'engine_failure'``: it holds something
        else than finite numbers, or weights that are not those of a mesh.
    """
    words = kp.words
    end = 1 + 5 * n_points
    if len(words) != end or words[0] != str(n_points):
        raise EvaluationError(
            FailureCode.TRUNCATED, f'the file {kp.name} does not give the {n_points} k-points that the levels have'
        )
    _check_numbering(kp, range(1, end, 5))
    weights = kp.numbers(range(5, end, 5), 'the weight of a k-point', 1.0 + 1e-6)
    strange = np.flatnonzero(weights <= 0)
    if len(strange) or abs(weights.sum() - 1.0) > 1e-4 * max(1.0, np.sqrt(n_points)):
        place = kp.place(kp.position(int(5 + 5 * strange[0]))) if len(strange) else kp.name
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'{place}: the weights of the k-points must be positive and sum up to 1, they sum up to {weights.sum():g}',
        )
    for axis in (2, 3, 4):
        kp.numbers(range(axis, end, 5), 'a coordinate of a k-point', 1e4)
    return np.asarray(weights / weights.sum())


def _count(file: RunText, index: int, what: str) -> int:
    word = file.words[index]
    if not _COUNT.fullmatch(word) or not int(word):
        raise EvaluationError(
            FailureCode.ENGINE_FAILURE,
            f'{file.place(file.position(index))}: {what} is {quoted(word)}: this is no count',
        )
    return int(word)


def _check_numbering(file: RunText, indices: Sequence[int]) -> None:
    """Check that k-points are numbered from 1 on.

    :param indices: of the words with the numbers.
    """
    for number, index in enumerate(indices, start=1):
        word = file.words[index]
        if word != str(number):
            raise EvaluationError(
                FailureCode.ENGINE_FAILURE,
                f'{file.place(file.position(index))}: {quoted(word)} found where k-point {number} is expected',
            )
