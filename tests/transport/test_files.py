"""The input file of a transmission: what is written comes back, and no word is read wrongly."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.files import (
    EXAMPLE,
    TransmissionInput,
    format_input,
    format_transmission,
    input_of,
    parse_input,
    read_input,
    write_text,
)
from aiida_nanoml.transport.potential import Potential, PotentialSet
from aiida_nanoml.transport.presets import make_potential
from aiida_nanoml.transport.rmatrix import solve
from aiida_nanoml.transport.settings import TransmissionSettings
from aiida_nanoml.transport.transmissions import transmit
from tests.mutations import fuzzed, mutations
from tests.transport import reference

NUMBERS = ('mass', 'n_basis', 'n_left', 'n_right', 'd1', 'd2', 'n_energies', 'lowest', 'highest')
SMALL = """\
# a small barrier
Effective_mass 0.067
Nb 24
Nx 6
nxl 1
nxr 2
d1 -3.0
d2 4.5
N_energies 5
E_min 0.01
E_max 0.4
BLOCK Potential
0 0.2 0.2
-1d-2 1.5E-1 0.
END_BLOCK Potential
"""


def test_the_example_is_a_barrier_of_100_nm() -> None:
    content = read_input(EXAMPLE)
    assert (content.mass, content.n_basis, len(content.values), content.n_energies) == (0.023, 512, 1024, 1000)
    assert (content.values == 0.1).sum() * content.length / len(content.values) == pytest.approx(100, rel=1e-14)
    assert content.potential.leads.tolist() == [0, 0]
    written = EXAMPLE.read_text(encoding='utf-8').partition('\n')[2]
    assert format_input(content) == written


def test_the_small_file_is_read_as_it_stands() -> None:
    content = parse_input(SMALL.encode(), 'small.txt')
    assert content.values.tolist() == [0, 0.2, 0.2, -0.01, 0.15, 0]
    assert content.length == 7.5
    assert content.potential.leads.tolist() == [0, 0.075], 'the right lead is the mean of two cells'
    assert content.energies.tolist() == np.linspace(0.01, 0.4, 5).tolist()
    assert content.name == 'small'


@pytest.mark.parametrize(
    ('old', 'new', 'length'),
    [('d1 -3.0', 'd1 -3.0', 7.5), ('d1 -3.0', 'd1 0', 4.5), ('d1 -3.0', 'd1 3', 7.5), ('d2 4.5', 'd2 4.5e0', 7.5)],
)
def test_the_length_of_the_region(old: str, new: str, length: float) -> None:
    assert parse_input(SMALL.replace(old, new).encode()).length == length


@pytest.mark.parametrize(
    ('old', 'new', 'line', 'reason'),
    [
        ('Effective_mass', 'Effective_Mass', 2, "'Effective_Mass' found where Effective_mass is expected"),
        ('0.067', '0', 2, "Effective_mass is '0'"),
        ('0.067', '0.067 0.07', 2, "'0.07' found where Nb is expected"),
        ('Nb 24', 'Nb 24.0', 3, 'whole number'),
        ('Nb 24', 'Nb 1', 3, 'from 2 to'),
        ('Nb 24', 'Nb ２４', 3, 'whole number'),
        ('Nx 6', 'Nx 7', 15, 'ends after 6 values, Nx is 7'),
        ('Nx 6', 'Nx 5', 14, 'more than Nx = 5 values'),
        ('nxr 2', 'nxr 6', 6, 'nxl + nxr is 7'),
        ('d1 -3.0', 'd1 -3,0', 7, "d1 is '-3,0': this is no number"),
        ('d2 4.5', 'd2 -1', 8, 'are no region'),
        ('d2 4.5', 'd2 nan', 8, 'this is no number'),
        ('d2 4.5', 'd2 1_0', 8, 'this is no number'),
        ('d2 4.5', 'd2 1e9', 8, 'it must be from'),
        ('N_energies 5', 'N_energies 1', 11, 'E_min and E_max must be equal'),
        ('E_max 0.4', 'E_max 0.01', 11, 'must be above'),
        ('E_max 0.4\n', '', 11, "'BLOCK' found where E_max is expected"),
        ('BLOCK Potential\n0', 'BLOCK Charge\n0', 12, "'Charge' found where Potential is expected"),
        ('-1d-2', 'inf', 14, "V is 'inf': this is no number"),
        ('-1d-2', '1e7', 14, 'it must be from'),
        ('END_BLOCK Potential\n', 'END_BLOCK\n', 15, 'the file ends where Potential is expected'),
        ('END_BLOCK Potential\n', 'END_BLOCK Potential\n0.1\n', 16, 'found after the end of the block'),
    ],
)
def test_a_word_that_cannot_be_used_is_named_with_its_line(old: str, new: str, line: int, reason: str) -> None:
    assert old in SMALL
    with pytest.raises(TransportError, match=re.escape(reason)) as caught:
        parse_input(SMALL.replace(old, new, 1).encode(), 'small.txt')
    assert str(caught.value).startswith(f'small.txt, line {line}: ')


def test_bytes_that_are_no_text_are_named() -> None:
    with pytest.raises(TransportError, match='line 3: byte 0xff is no text'):
        parse_input(SMALL.replace('Nb', 'N\x00').encode().replace(b'N\x00', b'N\xff'))


def test_what_terminals_obey_is_not_printed() -> None:
    with pytest.raises(TransportError) as caught:
        parse_input(SMALL.replace('0.067', '\x1b[2J' + 'x' * 100).encode())
    assert '\x1b' not in str(caught.value)
    assert len(str(caught.value)) < 150


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / 'nothing', tmp_path):
        with pytest.raises(TransportError, match='cannot be read'):
            read_input(path)


@pytest.mark.parametrize('preset', ['barrier', 'well', 'double_barrier', 'step', 'ramp'])
def test_a_potential_survives_its_file(preset: str) -> None:
    """Leads that the file cannot name become cells; no transmission changes."""
    potential = make_potential(preset, {})
    content = parse_input(format_input(input_of(potential, 128, 50, 0.12, 0.4)).encode(), f'{preset}.txt')
    back = content.potential
    assert back.leads.tolist() == pytest.approx(potential.leads.tolist())
    ours, theirs = (solve(one, 0.12, 0.4, 128).scatter(content.energies) for one in (potential, back))
    np.testing.assert_allclose(theirs.transmission, ours.transmission, atol=1e-5)


def test_a_file_has_one_mass() -> None:
    with pytest.raises(TransportError, match='one effective mass'):
        input_of(Potential([0, 0.1], 1.0, [0.1, 0.2]), 128, 50, 0.0, 0.4)


def test_the_table_of_a_transmission_is_read_by_numpy(tmp_path: Path) -> None:
    energies, transmission = np.array([0.1, 0.2, 1 / 3]), np.array([1e-300, 0.5, 1 - 1e-15])
    write_text(tmp_path / 'T.txt', format_transmission(energies, transmission, ['first', 'second\nthird']))
    assert (tmp_path / 'T.txt').read_text(encoding='utf-8').startswith('# first\n# second\n# third\n')
    table = np.loadtxt(tmp_path / 'T.txt')
    np.testing.assert_allclose(table, np.column_stack([energies, transmission]), rtol=1e-14)
    assert [path.name for path in tmp_path.iterdir()] == ['T.txt']


STRANGE = st.one_of(
    st.sampled_from(
        ['', '0', '-1', '1e400', '1e-400', 'nan', 'inf', '0x10', '1_0', '١', '1d2', '1D+2', '+5', '.5', '5.', '.', '-',
         '1e', '#', '0.1#', 'BLOCK', 'END_BLOCK', 'Potential', 'Nx', 'E_min', '\x00', '\x85', '\u2028', '\xa0', '\r',
         '\n', '9' * 30, '24', '6', '0.3', '{}', '%s', "'", '"']
    ),
    st.floats(-10, 10).map(repr),
    st.floats(0.001, 0.4).map(repr),
    st.integers(-2, 40).map(str),
    st.integers(1, 9).map(str),
    st.text(max_size=6),
)  # fmt: skip
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(['number', 'number', 'replace', 'delete', 'insert', 'swap', 'cut', 'byte']),
        st.integers(0, 200),
        STRANGE,
    ),
    min_size=1,
    max_size=4,
)


def mutated(changes: list[tuple[str, int, str]]) -> bytes:
    """Apply changes to the words and blanks of the small file."""
    words = re.split(r'(\s+)', SMALL)
    numbers = [at for at, word in enumerate(words) if re.fullmatch(r'[-\d].*', word)]
    raw: list[tuple[int, bytes]] = []
    for kind, place, text in changes:
        at = place % len(words)
        if kind == 'number':
            words[numbers[place % len(numbers)] % len(words)] = text
        elif kind == 'replace':
            words[at] = text
        elif kind == 'delete':
            words[at] = ''
        elif kind == 'insert':
            words.insert(at, f' {text} ')
        elif kind == 'swap':
            words[at], words[-at - 1] = words[-at - 1], words[at]
        elif kind == 'cut':
            words = words[: max(1, at)]
        else:
            raw.append((place, text.encode('utf-16-le', 'surrogatepass')))
    content = ''.join(words).encode('utf-8', 'surrogatepass')
    for place, some in raw:
        content = content[:place] + some + content[place:]
    return content


def assert_read_as_it_stands(content: bytes, found: TransmissionInput) -> None:
    """Compare with an independent reading: every word of the file is accounted for."""
    text = re.sub('#.*', '', content.decode('utf-8').replace('\r', ' '))
    words = iter(text.split())
    names = ('Effective_mass', 'Nb', 'Nx', 'nxl', 'nxr', 'd1', 'd2', 'N_energies', 'E_min', 'E_max')
    numbers = (
        found.mass, found.n_basis, len(found.values), found.n_left, found.n_right, found.d1, found.d2,
        found.n_energies, found.lowest, found.highest,
    )  # fmt: skip
    for name, number in zip(names, numbers, strict=True):
        assert next(words) == name
        assert float(next(words).lower().replace('d', 'e')) == number
    assert [next(words), next(words)] == ['BLOCK', 'Potential']
    assert [float(next(words).lower().replace('d', 'e')) for _ in found.values] == found.values.tolist()
    assert list(words) == ['END_BLOCK', 'Potential']


def refused_or(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns, or the error by which it refuses its arguments."""
    try:
        return function(*arguments)
    except TransportError as error:
        return error


@settings(max_examples=2_000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(changes=CHANGES)
def test_no_spoilt_file_is_read_wrongly(changes: list[tuple[str, int, str]]) -> None:
    """Each file, always of the same 2,000, is refused in one sentence, or read as it stands and computed rightly."""
    content = mutated(changes)
    found = refused_or(parse_input, content, 'spoilt.txt')
    if isinstance(found, TransportError):
        assert re.match(r'spoilt\.txt(, line \d+)?: ', str(found))
        assert str(found).isprintable()
        return
    assert_read_as_it_stands(content, found)
    again = parse_input(format_input(found).encode(), 'spoilt.txt')
    assert [getattr(again, name) for name in NUMBERS] == [getattr(found, name) for name in NUMBERS]
    assert again.values.tolist() == found.values.tolist()
    unchanged = format_input(found) == format_input(parse_input(SMALL.encode(), 'spoilt.txt'))
    if unchanged or found.n_energies > 50 or found.n_basis > 100:
        return
    settings = TransmissionSettings(found.lowest, found.highest, found.n_energies, found.n_basis)
    computed = refused_or(transmit, PotentialSet([found.potential]), settings)
    if isinstance(computed, TransportError):
        assert 'cosines are too few' in str(computed)
        return
    scattering = computed.scatterings[0]
    error = np.abs(scattering.transmission - reference.transmission(found.potential, found.energies)).max()
    assert error <= 10 * computed.truncation_errors[0] + 1e-9
    assert scattering.unitarity_defect <= 1e-12
    assert np.isfinite(computed.resonances[0].energies).all()


@fuzzed()
def test_no_mutation_is_a_traceback_or_an_infinite_number(seed: int) -> None:
    for content in mutations(SMALL.encode(), seed):
        try:
            found = parse_input(content)
        except TransportError:
            continue
        assert np.isfinite(found.values).all()
        assert np.isfinite(found.energies).all()
