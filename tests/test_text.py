"""Texts for people: numbers, lists and tables."""

from __future__ import annotations

import pytest

from aiida_nanoml.text import (
    agree,
    aligned,
    capitalised,
    counted,
    duration,
    first_of,
    parse_finite_json,
    parse_json,
    quoted,
)


@pytest.mark.parametrize(
    ('number', 'noun', 'plural', 'text'),
    [(0, 'job', '', '0 jobs'), (1, 'job', '', '1 job'), (2, 'process', 'processes', '2 processes')],
)
def test_a_noun_follows_its_number(number, noun, plural, text):
    assert counted(number, noun, plural) == text


def test_a_verb_agrees_with_a_number():
    assert [agree(number, 'is', 'are') for number in (0, 1, 2)] == ['are', 'is', 'are']


def test_a_long_list_ends_with_a_count():
    assert first_of(['a', 'b'], 2) == 'a, b'
    assert first_of(['a', 'b', 'c', 'd'], 2) == 'a, b and 2 more'


@pytest.mark.parametrize(
    ('seconds', 'text'), [(5, '5 s'), (119, '119 s'), (600, '10.0 min'), (7300, '2.0 h'), (200_000, '2.3 d')]
)
def test_a_duration_has_the_unit_that_people_use(seconds, text):
    assert duration(seconds) == text


def test_only_the_first_letter_becomes_a_capital():
    assert capitalised('labels of SIESTA') == 'Labels of SIESTA'
    assert capitalised('') == ''


def test_columns_are_aligned_without_trailing_spaces():
    assert aligned([['pk', 'kind'], [12, 'ridge'], [3, '']], indent='  ') == '  pk  kind\n  12  ridge\n  3'


@pytest.mark.parametrize(
    'text', ['[' * 101 + ']' * 101, '{"a":' * 200 + '1' + '}' * 200, '[' * 100_000, '{"a":' * 100_000]
)
def test_json_without_end_is_refused(text):
    with pytest.raises(ValueError, match='nested deeper than 100 levels'):
        parse_json(text)


def test_json_is_read():
    assert parse_json('[' * 100 + ']' * 100)
    assert parse_finite_json(b'{"a": [1, 2.5, null, "NaN"]}') == {'a': [1, 2.5, None, 'NaN']}
    for text in ('[NaN]', '{"a": {"b": [-Infinity]}}', '1e999'):
        with pytest.raises(ValueError, match='no finite number'):
            parse_finite_json(text)


def test_a_word_is_quoted_without_what_a_terminal_obeys():
    assert quoted('\x1b[2J') == "'\\x1b[2J'"
    assert quoted('x' * 100) == repr('x' * 37 + '...')
