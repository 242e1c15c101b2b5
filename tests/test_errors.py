"""Codes of failures: each belongs to one group, is stored as a plain text, and is documented."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np

from aiida_nanoml.errors import IMPORT, MACHINE, REFUSED, RUN, EvaluationError, FailureCode

DOCUMENTED = Path(__file__).parents[1] / 'docs' / 'topics' / 'errors.md'


def test_every_code_is_in_one_group():
    groups = (REFUSED, MACHINE, RUN, IMPORT)
    assert frozenset.union(*groups) == set(FailureCode)
    assert sum(map(len, groups)) == len(FailureCode)


def test_codes_are_stored_as_plain_texts():
    error = pickle.loads(pickle.dumps(EvaluationError(FailureCode.NOT_CONVERGED, 'why')))  # noqa: S301
    assert type(error.code) is str
    assert (error.code, error.message, str(error)) == ('not_converged', 'why', 'not_converged: why')
    assert json.dumps({'status': FailureCode.TIME_LIMIT}) == '{"status": "time_limit"}'
    assert np.isin(np.array(['ok', 'engine_crash', 'truncated']), list(MACHINE)).tolist() == [False, True, False]


def test_codes_of_rows_are_documented():
    rows = dict(re.findall(r'^\| `(\w+)` +\| .*? \| (no|yes|alone) +\|$', DOCUMENTED.read_text(), re.M))
    assert set(rows) == REFUSED | MACHINE | RUN
    assert {code for code, again in rows.items() if again == 'yes'} == MACHINE
    assert {code for code, again in rows.items() if again == 'alone'} < RUN
