"""Files of a run that are changed, cut, or of another run: a named reason, never a wrong label."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping

import numpy as np
import pytest

from aiida_nanoml.engines.base import Label
from aiida_nanoml.engines.quantumespresso.label import check_agreement, label_of_run
from aiida_nanoml.engines.quantumespresso.output import Output
from aiida_nanoml.engines.quantumespresso.xml import read_xml
from aiida_nanoml.errors import EvaluationError, FailureCode
from tests.engines.quantumespresso.recorded import XML, texts
from tests.mutations import fuzzed, mutations

OUT = 'aiida.out'
ENERGY = '!    total energy              =     -3'


@functools.cache
def recorded(name: str) -> Mapping[str, str]:
    return texts(name)


def read(files: Mapping[str, str]) -> Label:
    """Read a run as the engine does."""
    output = Output(files[OUT], OUT)
    output.check_end()
    run = read_xml(files[XML], 'the XML file')
    check_agreement(run, output.last_result(), OUT)
    return label_of_run(run)


def failure(files: Mapping[str, str]) -> EvaluationError:
    with pytest.raises(EvaluationError) as caught:
        read(files)
    return caught.value


def changed(name: str, file: str, old: str, new: str) -> dict[str, str]:
    files = dict(recorded(name))
    assert old in files[file], f'{old!r} is not in {file}'
    return files | {file: files[file].replace(old, new, 1)}


@pytest.mark.parametrize(
    ('file', 'old', 'new', 'code', 'reason'),
    [
        (XML, '<etot>-', '<etot>-1', FailureCode.INCONSISTENT, 'the total energy is .* they are of two runs'),
        (XML, '<etot>-', '<etot>nan ', FailureCode.ENGINE_FAILURE, "etot is 'nan"),
        (XML, '<etot>-', '<etot>****** ', FailureCode.ENGINE_FAILURE, r'etot is .\*\*'),
        (XML, '<nelec>1', '<nelec>2', FailureCode.INCONSISTENT, 'levels hold 10.0000 electrons, the run has 20'),
        (XML, '<fermi_energy>-', '<fermi_energy>', FailureCode.INCONSISTENT, 'the Fermi level is'),
        (XML, '<nks>1', '<nks>2', FailureCode.ENGINE_FAILURE, '2 k-points are announced, 1 given'),
        (XML, '</espresso', '', FailureCode.TRUNCATED, 'is cut or damaged'),
        (XML, '<?xml version="1.0" encoding="UTF-8"?>', '<!DOCTYPE x>', FailureCode.ENGINE_FAILURE, 'document type'),
        (XML, 'eigenvalues', 'eigenvalue', FailureCode.TRUNCATED, 'is cut or damaged'),
        (OUT, ENERGY, ENERGY.replace('3', '2'), FailureCode.INCONSISTENT, 'its terms add up to -31.0757'),
        (OUT, 'the Fermi energy is    -4', 'the Fermi energy is    -5', 'inconsistent', 'the Fermi level is'),
        (OUT, 'convergence has been achieved', 'convergence NOT achieved', 'not_converged', 'no self-consistency'),
        (OUT, 'JOB DONE', 'JOB', 'truncated', 'was killed or its machine failed'),
        (OUT, 'Total force =     0', 'Total force =     9', 'inconsistent', 'the forces have the norm'),
    ],
)  # fmt: skip
def test_a_number_that_was_changed_is_named(file: str, old: str, new: str, code: str, reason: str) -> None:
    if old == '</espresso':
        old, new = '</qes:espresso>', ''
    caught = failure(changed('hcn', file, old, new))
    assert caught.code == code
    assert re.search(reason, caught.message)


def test_the_xml_file_of_another_run_is_noticed() -> None:
    stranger = dict(recorded('hcn')) | {XML: recorded('h2-fixed')[XML]}
    assert failure(stranger).code == FailureCode.INCONSISTENT


def test_a_level_that_falls_is_refused() -> None:
    text = recorded('hcn')[XML]
    begin = text.index('<eigenvalues')
    first, second = text[begin:].split('>')[1].split()[:2]
    swapped = text.replace(first, '@').replace(second, first).replace('@', second)
    assert 'the levels do not ascend' in failure(dict(recorded('hcn')) | {XML: swapped}).message


def test_two_numbers_that_touch_are_two_levels() -> None:
    text = recorded('hcn')[OUT]
    levels = Output(text, OUT).last_result().levels_ev
    assert levels is not None
    line = next(line for line in text.splitlines() if f'{levels[0, 0, 0]:.4f}' in line)
    first, second = line.split()[:2]
    touching = text.replace(line, re.sub(rf'{first} +{second}', f'{first}{second}', line), 1)
    assert f'{first}{second}' in touching
    np.testing.assert_array_equal(Output(touching, OUT).last_result().levels_ev, levels)


@pytest.mark.parametrize('name', ['hcn', 'methyl-polarized', 'h2-polarized-mesh'])
@pytest.mark.parametrize('file', [OUT, XML])
def test_mutated_files_give_a_reason_or_the_same_label(name: str, file: str) -> None:
    original = recorded(name)
    known = read(original)

    @fuzzed(batches=7)
    def mutate(seed: int) -> None:
        count = 50
        for content in mutations(original[file].encode(), seed, count):
            text = content.decode('utf-8', 'replace')
            try:
                found = read(dict(original) | {file: text})
            except EvaluationError:
                continue
            assert_same(found, known)

    mutate()


def assert_same(found: Label, known: Label) -> None:
    """A change that no check notices may concern the last digits only, as far as they are not printed twice."""
    assert found.energy_ev == pytest.approx(known.energy_ev, abs=1e-6)
    assert found.gap_ev == pytest.approx(known.gap_ev, abs=1e-3)
    assert found.homo_ev == pytest.approx(known.homo_ev, abs=1e-3)
    assert found.n_electrons == known.n_electrons
    if known.fermi_ev is not None:
        assert found.fermi_ev == pytest.approx(known.fermi_ev, abs=1e-3)
    for ours, theirs, tolerance in (
        (found.forces_ev_per_ang, known.forces_ev_per_ang, 1e-5),
        (found.stress_ev_per_ang3, known.stress_ev_per_ang3, 1e-5),
        (found.levels_ev, known.levels_ev, 1e-3),
        (found.level_weights, known.level_weights, 1e-3),
    ):
        if ours is not None and theirs is not None:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def test_random_bytes_are_no_xml() -> None:
    chance = random.Random(3)  # noqa: S311
    for _ in range(50):
        with pytest.raises(EvaluationError):
            read_xml(bytes(chance.randrange(256) for _ in range(200)).decode('latin-1'), 'x')
