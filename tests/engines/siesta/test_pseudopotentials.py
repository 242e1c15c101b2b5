"""What pseudopotential files say about themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiida_nanoml.engines.pseudopotentials import (
    PseudopotentialHeader,
    bundled,
    check_pseudopotentials,
    digest,
    read_header,
)
from aiida_nanoml.engines.siesta.identity import UsedPseudopotential, disagreement, read_pseudopotential
from aiida_nanoml.errors import EngineError, EvaluationError
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS
from tests.mutations import fuzzed, mutations

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


OF_SIESTA = (('psf', 'psml'), ('LDA', 'CA'))


def test_the_bundled_set_is_whole() -> None:
    files = bundled()
    assert sorted(files) == sorted(['H', 'B', 'C', 'N', 'Al', 'Cr', 'Fe', 'Co', 'Ni'])
    for element, path in files.items():
        header = read_header(path.read_text(encoding='utf-8'))
        assert header == PseudopotentialHeader('psf', element, ('LDA', 'CA'))
    check_pseudopotentials(sorted(files), files, *OF_SIESTA)
    for file_format in ('upf', 'psp8'):
        others = bundled(file_format)
        assert sorted(others) == sorted(files)
        check_pseudopotentials(sorted(others), others, (file_format,), ('LDA', 'CA'))
        charges = {element: read_header(path.read_text()).valence_charge for element, path in others.items()}
        assert charges == {'H': 1, 'B': 3, 'C': 4, 'N': 5, 'Al': 3, 'Cr': 6, 'Fe': 8, 'Co': 9, 'Ni': 10}
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
        (
            "<UPF version='2.0.1'>\n<PP_HEADER\n  element='B '\n  functional=' SLA  PZ   NOGX NOGC'\n"
            "  z_valence=' 0.30D+01'\n wfc_cutoff='3.8E+01' rho_cutoff=' 0.0E+00'/>",
            PseudopotentialHeader('upf', 'B', ('LDA', 'CA'), 3.0, 38.0),
        ),
        (
            '<PP_HEADER>\n   0   Version Number\n  C    Element\n   NC    Norm - Conserving pseudopotential\n'
            '    F   Nonlinear Core Correction\n SLA  PW   PBE  PBE     PBE  Exchange-Correlation functional\n'
            '    4.00000000000      Z valence\n',
            PseudopotentialHeader('upf', 'C', ('GGA', 'PBE'), 4.0),
        ),
        (
            ' C   atom\n  6.0000  4.0000  261122   zatom,zion,pspd\n  8   2   1  2  2001  0   pspcod,pspxc\n',
            PseudopotentialHeader('psp8', 'C', ('LDA', 'CA'), 4.0),
        ),
        (' N\n 7.0 5.0 1\n 8 -101130 1\n', PseudopotentialHeader('psp8', 'N', ('GGA', 'PBE'), 5.0)),
        (' N\n 7.0 5.0 1\n 6 2 1\n', None),
        (' Xx ca nrl nc\n', None),
        ('', None),
    ],
)
def test_headers_are_read(text: str, header: PseudopotentialHeader | None) -> None:
    assert read_header(text) == header


def refusal(element: str, path: Path, functional: tuple[str, str] = ('LDA', 'CA')) -> tuple[str, str]:
    with pytest.raises(EvaluationError) as caught:
        check_pseudopotentials([element], {element: path}, ('psf', 'psml'), functional)
    return caught.value.code, caught.value.message


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    files = bundled()
    code, message = refusal('C', files['N'])
    assert (code, message) == ('wrong_pseudopotential', 'N.psf is for N, but is used for C')
    code, message = refusal('C', files['C'], ('GGA', 'PBE'))
    assert code == 'wrong_pseudopotential'
    assert 'made with LDA-CA, the parameters say GGA-PBE' in message
    other = tmp_path / 'C.psf'
    other.write_text('no pseudopotential', encoding='utf-8')
    assert refusal('C', other)[0] == 'wrong_pseudopotential'
    assert refusal('C', tmp_path / 'gone.psf')[0] == 'missing_pseudopotential'
    with pytest.raises(EvaluationError) as caught:
        check_pseudopotentials(['O'], files, *OF_SIESTA)
    assert caught.value.code == 'missing_pseudopotential'
    assert 'for O; there are: Al, B' in caught.value.message
    with pytest.raises(EvaluationError) as caught:
        digest(tmp_path / 'gone.psf')
    assert caught.value.code == 'missing_pseudopotential'


def test_a_functional_that_the_file_does_not_tell_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / 'C.psml'
    path.write_text(PSML.format(element='C', exchange=402, correlation=402), encoding='utf-8')
    check_pseudopotentials(['C'], {'C': path}, *OF_SIESTA)


def small_psf() -> str:
    """A psf file of six points: the potential ends at 0.3 bohr for s, and at 0.4 for p."""

    def block(values: list[float]) -> str:
        words = [f'{value:20.12E}' for value in values]
        return '\n'.join(''.join(words[start : start + 4]) for start in range(0, len(words), 4)) + '\n'

    points = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    return (
        ' C  ca nrl nc  \n atom 6.1.022-Nov-26   Improved Troullier - Martins potential\n'
        ' 2s 2.00  r= 1.49/2p 2.00  r= 1.52/\n   2  0    6  0.413125362778E-03  0.500000000000E-02   4.00000000000\n'
        f' Radial grid follows\n{block(points)} Pseudopotential follows (l on next line)\n  0\n'
        f'{block([-5.0, -6.0, -7.0, -8.0, -8.0, -8.0])} Pseudopotential follows (l on next line)\n  1\n'
        f'{block([-5.0, -6.0, -7.0, -7.5, -8.0, -8.0])} Core charge follows\n{block([0.0] * 6)}'
        f' Valence charge follows\n{block([1.0, 2.0, 1.0, 0.5, 0.1, 1e-9])}'
    )


def test_a_small_psf_file_is_read() -> None:
    printed = read_pseudopotential(small_psf(), 'psf').printed
    assert (printed.valence_charge, printed.radii_bohr) == (4.0, {0: '0.3000', 1: '0.4000'})
    tiny = small_psf().replace('1.000000000000E-09', '0.569444444444-104')
    assert tiny != small_psf()
    assert read_pseudopotential(tiny, 'psf').printed == printed, 'exponents of three digits have no letter'


@pytest.mark.parametrize(
    ('old', 'new', 'reason'),
    [
        ('   2  0    6', '   2  0    9999999999999999999999', 'line 4: not a psf file'),
        ('   2  0    6', '   2  0  999999', 'line 4: 2 and 0 potentials on 999999 points'),
        ('   2  0    6', '   2  0  99999', 'line 4: 99999 points are announced, the file has 21 lines'),
        ('   2  0    6', '999999999  0   6', 'are no pseudopotential'),
        ('   2  0    6', '   3  0    6', r"line 17: '0\.0000.*' is no angular momentum"),
        ('   2  0    6', '   2  0    7', 'the file ends within a block of 7 numbers'),
        ('4.00000000000\n', 'nan\n', "line 4: 'nan' is no finite number"),
        ('4.00000000000\n', '-4.00000000000\n', 'a core of charge -4'),
        ('  1\n', '  9\n', "line 13: '9' is no angular momentum"),
        ('2.000000000000E-01', '               NaN', "line 6: 'NaN' is no finite number"),
        ('-8.000000000000E+00', '-8.000000000000+999', 'is no finite number'),
        ('3.000000000000E-01', '5.000000000000E-02', 'does not ascend'),
    ],
)
def test_damaged_psf_files_are_named_with_the_line(old: str, new: str, reason: str) -> None:
    assert old in small_psf()
    with pytest.raises(EngineError, match=reason):
        read_pseudopotential(small_psf().replace(old, new, 1), 'psf')


@pytest.mark.parametrize('share', [0.0, 0.1, 0.4, 0.5, 0.7, 0.8, 0.97])
def test_cut_psf_files_are_refused(share: float) -> None:
    with pytest.raises(EngineError, match=r'ends|not a psf file|announced|is no'):
        read_pseudopotential(small_psf()[: int(share * len(small_psf()))], 'psf')


def test_a_pseudopotential_of_a_cation_is_recognised() -> None:
    """SIESTA prints the charge of the configuration, 4, of a core of 6."""
    file = read_pseudopotential(small_psf().replace('   4.00000000000', '   6.00000000000'), 'psf')
    printed = file.printed
    used = UsedPseudopotential(
        'C', shells=printed.shells, method=printed.method, valence_charge=4.0, radii_bohr=printed.radii_bohr
    )
    assert disagreement(used, file) is None
    used.valence_charge = 5.0
    assert 'valence charge' in (disagreement(used, file) or '')


@pytest.mark.parametrize('kind', ['psf', 'psml'])
@fuzzed()
def test_no_mutation_of_a_pseudopotential_is_a_traceback(kind: str, seed: int) -> None:
    psml = PSML.format(element='C', exchange=101, correlation=130) + '</pseudo-atom-spec></psml>'
    for content in mutations((small_psf() if kind == 'psf' else psml).encode(), seed):
        text = content.decode('utf-8', 'replace')
        read_header(text)
        try:
            charge = read_pseudopotential(text, kind).printed.valence_charge
        except EngineError:
            continue
        assert charge is None or 0 < charge < 120
