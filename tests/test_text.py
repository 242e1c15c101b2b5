"""Texts for people: numbers, lists and tables."""

from __future__ import annotations

import pytest

from aiida_nanoml.text import agree, aligned, capitalised, counted, first_of


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


def test_only_the_first_letter_becomes_a_capital():
    assert capitalised('labels of SIESTA') == 'Labels of SIESTA'
    assert capitalised('') == ''


def test_columns_are_aligned_without_trailing_spaces():
    assert aligned([['pk', 'kind'], [12, 'ridge'], [3, '']], indent='  ') == '  pk  kind\n  12  ridge\n  3'
