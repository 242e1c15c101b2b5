"""What pseudopotential files say about themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiida_nanoml.engines.siesta.parameters import SiestaParameters
from aiida_nanoml.engines.siesta.pseudopotentials import (
    PseudopotentialHeader,
    bundled,
    check_pseudopotentials,
    digest,
    read_header,
)
from aiida_nanoml.errors import EvaluationError
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS
from tests.engines.siesta.test_fdf import parameters

PSML = """<?xml version="1.0" encoding="UTF-8" ?>
<psml version="1.1" energy_unit="hartree" length_unit="bohr" uuid="f2b0d7d0">
<provenance creator="ONCVPSP-3.3.1"/>
<pseudo-atom-spec atomic-label="{element}" atomic-number="6.0" z-pseudo="4.0" flavor="Hamann's" relativity="scalar">
<exchange-correlation>
<libxc-info number-of-functionals="2">
<functional name="Perdew, Burke &amp; Ernzerhof" type="exchange" id="{exchange}"/>
<functional name="Perdew, Burke &amp; Ernzerhof" type="correlation" id="{correlation}"/>
</libxc-info>
</exchange-correlation>
"""


def test_the_bundled_set_is_whole() -> None:
    files = bundled()
    assert sorted(files) == sorted(['H', 'B', 'C', 'N', 'Al', 'Cr', 'Fe', 'Co', 'Ni'])
    for element, path in files.items():
        header = read_header(path.read_text(encoding='utf-8'))
        assert header == PseudopotentialHeader('psf', element, ('LDA', 'CA'))
    check_pseudopotentials(sorted(files), files, parameters())
    assert (next(iter(files.values())).parent / 'README.md').is_file()


def test_the_recorded_runs_used_the_bundled_set() -> None:
    content = json.loads((Path(__file__).parents[2] / 'recorded' / 'pseudopotentials.json').read_text(encoding='utf-8'))
    used = {int(number): md5 for number, md5 in content.items()}
    assert {ATOMIC_NUMBERS[element]: digest(path) for element, path in bundled().items()} == used


@pytest.mark.parametrize(
    ('text', 'header'),
    [
        (' Al ca nrl nc  \n atom', PseudopotentialHeader('psf', 'Al', ('LDA', 'CA'))),
        (' C  pb rel pcec\n', PseudopotentialHeader('psf', 'C', ('GGA', 'PBE'))),
        (' N  zz isp nc\n', PseudopotentialHeader('psf', 'N', None)),
        (PSML.format(element='C', exchange=101, correlation=130), PseudopotentialHeader('psml', 'C', ('GGA', 'PBE'))),
        (PSML.format(element='Si', exchange=1, correlation=9), PseudopotentialHeader('psml', 'Si', ('LDA', 'CA'))),
        (PSML.format(element='C', exchange=402, correlation=402), PseudopotentialHeader('psml', 'C', None)),
        ('<UPF version="2.0.1">', None),
        (' Xx ca nrl nc\n', None),
        ('', None),
    ],
)
def test_headers_are_read(text: str, header: PseudopotentialHeader | None) -> None:
    assert read_header(text) == header


def refusal(element: str, path: Path, settings: SiestaParameters) -> tuple[str, str]:
    with pytest.raises(EvaluationError) as caught:
        check_pseudopotentials([element], {element: path}, settings)
    return caught.value.code, caught.value.message


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    files, settings = bundled(), parameters()
    code, message = refusal('C', files['N'], settings)
    assert (code, message) == ('wrong_pseudopotential', 'N.psf is for N, but is used for C')
    code, message = refusal('C', files['C'], parameters(xc_functional='GGA', xc_authors='PBE'))
    assert code == 'wrong_pseudopotential'
    assert 'made with LDA-CA, the parameters say GGA-PBE' in message
    other = tmp_path / 'C.psf'
    other.write_text('no pseudopotential', encoding='utf-8')
    assert refusal('C', other, settings)[0] == 'wrong_pseudopotential'
    assert refusal('C', tmp_path / 'gone.psf', settings)[0] == 'missing_pseudopotential'
    with pytest.raises(EvaluationError) as caught:
        check_pseudopotentials(['O'], files, settings)
    assert caught.value.code == 'missing_pseudopotential'
    assert 'for O; there are: Al, B' in caught.value.message
    with pytest.raises(EvaluationError) as caught:
        digest(tmp_path / 'gone.psf')
    assert caught.value.code == 'missing_pseudopotential'


def test_a_functional_that_the_file_does_not_tell_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / 'C.psml'
    path.write_text(PSML.format(element='C', exchange=402, correlation=402), encoding='utf-8')
    check_pseudopotentials(['C'], {'C': path}, parameters())
