"""Tables of numbers as programs and spreadsheets write them."""

from __future__ import annotations

import pytest

from aiida_nanoml.errors import DatasetError
from aiida_nanoml.number_tables import read_numbers

ROWS = [[1.5, -0.25], [1000.0, 3.0]]


@pytest.mark.parametrize(
    'text',
    [
        '1.5 -0.25\n1000 3\n',
        '1.5\t-0.25\r\n\r\n1e3\t3.0\r\n',
        '1.5,-0.25\n1e3,3\n',
        '1.5, -0.25\n1e3, 3\n',
        '1.5;-0.25\n1000;3\n',
        '1,5;-0,25\n1000;3\n',
        '1,5;-0,25;\n1000;3,0;\n',
        '1,5 -0,25\n1000 3,0\n',
        '"1,5";"-0,25"\n"1e3";"3"\n',
        '1.5D+00 -2.5d-1\n1.0D+03 3.0\n',
        'gap size\n1.5 -0.25\n1000 3\n',
        'gap (eV),size\n1.5,-0.25\n1000,3\n',
        'Lücke;Größe\n1,5;-0,25\n1000;3\n',
        '# written by a program\n1.5 -0.25 # the first\n1000 3\n',
        '1.5 \N{MINUS SIGN}0.25\n1000 3\n',
    ],
)
def test_all_layouts_give_the_same_numbers(text: str) -> None:
    for content in (text.encode(), text.encode('utf-8-sig'), text.encode('utf-16')):
        assert [row for _, row in read_numbers(content, 'x.csv', DatasetError)] == ROWS


def test_one_column_with_decimal_commas() -> None:
    assert [row for _, row in read_numbers(b'0,25\n1,5\n2\n', 'y.csv', DatasetError)] == [[0.25], [1.5], [2.0]]


def test_the_line_is_that_of_the_file() -> None:
    assert read_numbers(b'# x\n\nname\n1\n\n2\n', 'y.dat', DatasetError) == [(4, [1.0]), (6, [2.0])]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('1;2\n3;\n4;;5\n', 'x.csv, line 3: a cell is empty'),
        ('1 2\n3 four\n', "x.csv, line 2: 'four' is not a number"),
        ('1.000,5;2\n1.000,5;2\n', "x.csv, line 1: '1.000,5' is not a number"),
        ('1 2\n3 inf\n', "x.csv, line 2: 'inf' is not finite"),
        ('1 2\n1_0 2\n', "x.csv, line 2: '1_0' is not a number"),
        ('1 two\n3 4\n', "x.csv, line 1: 'two' is not a number"),
        ('1 2\n\N{ARABIC-INDIC DIGIT THREE} 4\n', 'x.csv, line 2: .* is not a number'),
        ('one two\n', 'x.csv holds no numbers'),
        ('1,2\x00;3\n4;5\n', 'x.csv, line 1: '),
    ],
)
def test_faults_are_named_by_file_and_line(text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_numbers(text.encode(), 'x.csv', DatasetError)
