"""Numbers of a run that are not finite, absurd, or contradict another file: a named reason, never a label."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from aiida_nanoml.engines.run_text import RunText
from aiida_nanoml.engines.siesta.levels import read_levels, read_weights
from aiida_nanoml.engines.siesta.output import read_run
from aiida_nanoml.errors import RUN, EvaluationError, FailureCode
from tests.mutations import fuzzed, mutations
from tests.stand_in.fixtures import recorded_runs

FLAKE, ALLOY, IRON = 'z-C24H12', 'hea-01-bcc-1', 'iron-spin'
FEW = ('aiida.out', 'aiida.EIG', 'aiida.KP', 'MESSAGES')


@functools.cache
def _files(name: str) -> Mapping[str, str]:
    run = recorded_runs()[name]
    with tempfile.TemporaryDirectory() as folder:
        unpacked = run.unpack(Path(folder))
        return {path.name: path.read_text(encoding='utf-8', errors='replace') for path in unpacked.iterdir()}


def _changed(name: str, file: str, old: str, new: str, count: int = 1) -> dict[str, str]:
    """Change the last occurrence of a text in a file."""
    files = dict(_files(name))
    before, found, after = files[file].rpartition(old)
    assert found, f'{old!r} is not in {file}'
    return files | {file: f'{before}{new}{after}'}


def _failure(files: Mapping[str, str]) -> EvaluationError:
    with pytest.raises(EvaluationError) as caught:
        read_run(files.get)
    return caught.value


def _line(text: str, word: str) -> int:
    return text[: text.index(word)].count('\n') + 1


@pytest.mark.parametrize('new', ['nan', 'NaN', 'inf', '-Infinity', '1e999', '-1e308', '**********', '1_0', '0x10', '٣'])
def test_a_level_that_is_no_number_is_named_with_its_line(new: str) -> None:
    levels = _files(ALLOY)['aiida.EIG']
    word = levels.split()[700]
    files = _changed(ALLOY, 'aiida.EIG', word, new)
    failure = _failure(files)
    assert failure.code == FailureCode.ENGINE_FAILURE
    assert re.match(rf'aiida\.EIG, line {_line(files["aiida.EIG"], new)}: a level is ', failure.message)


def test_the_levels_belong_to_the_energy_of_the_bands() -> None:
    """One filled level that is 0.3 eV lower keeps the order, the gap and the electrons: only the sum tells."""
    files = {name: text for name, text in _files(FLAKE).items() if name != 'aiida.xml'}
    lowest = files['aiida.EIG'].split()[5]
    lower = f'{float(lowest) - 0.3:.9E}'
    changed = files | {'aiida.EIG': files['aiida.EIG'].replace(lowest, lower)}
    failure = _failure(changed)
    assert failure.code == FailureCode.INCONSISTENT
    assert 'the filled levels in aiida.EIG add up to' in failure.message
    assert np.isfinite(read_run(files.get).label.gap_ev)


def test_levels_of_the_xml_file_are_those_of_the_run() -> None:
    files = {name: text for name, text in _files(FLAKE).items() if name != 'aiida.EIG'}
    assert read_run(files.get, imported=True).label.gap_ev == pytest.approx(read_run(_files(FLAKE).get).label.gap_ev)
    other = files | {'aiida.xml': _files('h-0000')['aiida.xml']}
    with pytest.raises(EvaluationError, match=r'in aiida\.xml') as caught:
        read_run(other.get, imported=True)
    assert caught.value.code == FailureCode.INCONSISTENT
    energy_only = {name: text for name, text in files.items() if name != 'aiida.xml'}
    wrong = energy_only | {'aiida.out': files['aiida.out'].replace('siesta: FreeEng =', 'siesta: FreeEng = -1.0 #')}
    with pytest.raises(EvaluationError, match='that of the last iteration'):
        read_run(wrong.get, imported=True)


def test_levels_ascend() -> None:
    levels = _files(ALLOY)['aiida.EIG']
    first, second = levels.split()[20:22]
    assert first != second
    files = dict(_files(ALLOY)) | {'aiida.EIG': levels.replace(first, 'x').replace(second, first).replace('x', second)}
    failure = _failure(files)
    assert 'is below the level before it: levels ascend' in failure.message
    assert failure.message.startswith(f'aiida.EIG, line {_line(files["aiida.EIG"], first)}')


@pytest.mark.parametrize(
    ('old', 'new', 'reason'),
    [
        ('siesta: FreeEng =', 'siesta: FreeEng = 99999999999 #', 'a free energy|the free energy is .99999999999.'),
        ('siesta: FreeEng =', 'siesta: FreeEng = NaN #', "the free energy is 'NaN': this is no finite number"),
        ('siesta: FreeEng =', 'siesta: FreeEng = ******** #', 'its field is too narrow for the number'),
        ('siesta: FreeEng =', 'siesta: FreeEng = -1.0 #', 'that of the last iteration'),
        ('Total number of electrons:', 'Total number of electrons: nan #', "the number of electrons is 'nan'"),
        ('Total number of electrons:', 'Total number of electrons: 1e300 #', 'beyond 1e+07 it is no result'),
        ('Total number of electrons:', 'Total number of electrons: -4 #', 'no whole number above zero'),
        (
            'Total number of electrons:',
            'Total number of electrons: 110. #',
            'the pseudopotentials that it names bring 108',
        ),
    ],
)
def test_energies_and_electrons_are_possible(old: str, new: str, reason: str) -> None:
    failure = _failure(_changed(FLAKE, 'aiida.out', old, new))
    assert failure.code in (FailureCode.ENGINE_FAILURE, FailureCode.INCONSISTENT)
    assert re.search(reason.replace('+', r'\+'), failure.message)
    assert 'aiida.out' in failure.message


@pytest.mark.parametrize('new', ['NaN', '-1e308', '********', '../../etc/passwd', '1.0 2.0'])
@pytest.mark.parametrize(
    ('heading', 'what'),
    [('siesta: Atomic forces (eV/Ang):', 'a force'), ('siesta: Stress tensor (static) (eV/Ang**3):', 'of the stress')],
)
def test_forces_and_stress_are_numbers(heading: str, what: str, new: str) -> None:
    output = _files(FLAKE)['aiida.out']
    before, _, after = output.rpartition(heading)
    row = after.split('\n')[2]
    files = dict(_files(FLAKE)) | {
        'aiida.out': f'{before}{heading}{after.replace(row, row.replace(row.split()[-1], new), 1)}'
    }
    failure = _failure(files)
    assert failure.code == FailureCode.ENGINE_FAILURE
    line = before.count('\n') + 3
    assert failure.message.startswith(f'aiida.out, line {line}: ')
    assert what in failure.message


def test_forces_add_up_to_their_sum() -> None:
    """A force that was changed is noticed without the XML file, too."""
    output = _files(FLAKE)['aiida.out']
    before, heading, after = output.rpartition('siesta: Atomic forces (eV/Ang):')
    row = after.split('\n')[1]
    words = row.split()
    changed = row.replace(words[2], f'{float(words[2]) + 0.5:.6f}', 1)
    files = {key: _files(FLAKE)[key] for key in FEW if key in _files(FLAKE)}
    files['aiida.out'] = f'{before}{heading}{after.replace(row, changed, 1)}'
    failure = _failure(files)
    assert failure.code == FailureCode.INCONSISTENT
    assert 'the forces add up to' in failure.message


def test_a_force_less_is_noticed() -> None:
    output = _files(FLAKE)['aiida.out']
    before, heading, after = output.rpartition('siesta: Atomic forces (eV/Ang):')
    rows = after.split('\n')
    files = dict(_files(FLAKE)) | {'aiida.out': f'{before}{heading}' + '\n'.join([*rows[:10], *rows[11:]])}
    assert '36 atoms and 9 forces' in _failure(files).message


def test_the_stress_has_the_pressure_that_stands_below_it() -> None:
    output = _files(ALLOY)['aiida.out']
    before, heading, after = output.rpartition('siesta: Stress tensor (static) (eV/Ang**3):')
    row = after.split('\n')[1]
    first = row.split()[1]
    changed = after.replace(row, row.replace(first, f'{float(first) + 0.1:.6f}', 1), 1)
    files = {key: _files(ALLOY)[key] for key in FEW}
    files['aiida.out'] = f'{before}{heading}{changed}'
    failure = _failure(files)
    assert failure.code == FailureCode.INCONSISTENT
    assert 'the stress tensor has the pressure' in failure.message


def test_levels_of_another_run_are_refused() -> None:
    """Another structure with more levels, and the same structure with another Fermi level."""
    other = dict(_files(FLAKE)) | {'aiida.EIG': _files('h-0001')['aiida.EIG']}
    failure = _failure(other)
    assert failure.code == FailureCode.INCONSISTENT
    assert re.search(r'aiida.EIG has 636 levels, aiida.out has \d+ orbitals', failure.message)
    swapped = dict(_files('h-0000')) | {'aiida.EIG': _files('h-0001')['aiida.EIG']}
    failure = _failure(swapped)
    assert failure.code == FailureCode.INCONSISTENT
    assert 'the Fermi level is' in failure.message
    metal = dict(_files(ALLOY)) | {'aiida.EIG': _files('hea-01-fcc-1')['aiida.EIG'], 'aiida.KP': ''}
    assert 'has 16 k-points, aiida.out has 27' in _failure(metal).message


def test_levels_that_do_not_hold_the_electrons_are_refused() -> None:
    """All levels shifted: their order, their number and the Fermi level are right."""
    eig = _files(ALLOY)['aiida.EIG']
    head, numbers, rest = eig.split('\n', 2)
    shifted = re.sub(r'[-+]?\d\.\d+E[-+]\d+', lambda match: f'{float(match[0]) - 1:.9E}', rest)
    files = {key: _files(ALLOY)[key] for key in FEW}
    files['aiida.EIG'] = f'{head}\n{numbers}\n{shifted}'
    assert re.search(r'hold [\d.]+ electrons, aiida.out counts 55', _failure(files).message)


@pytest.mark.parametrize(
    ('new', 'reason'), [('nan', 'no finite number'), ('-0.1', 'must be positive'), ('9.0', 'beyond')]
)
def test_weights_of_k_points_are_weights(new: str, reason: str) -> None:
    word = _files(ALLOY)['aiida.KP'].split()[10]
    failure = _failure(_changed(ALLOY, 'aiida.KP', word, new))
    assert failure.code == FailureCode.ENGINE_FAILURE
    assert re.match(r'aiida\.KP, line \d+: ', failure.message)
    assert reason in failure.message


def test_the_xml_file_of_another_run_is_noticed() -> None:
    xml = _files(FLAKE)['aiida.xml']
    for key in ('FreeEK', 'forces', 'stress', 'eigenenergies'):
        before, found, after = xml.rpartition(f'dictRef="siesta:{key}">')
        number = re.search(r'-?\d+\.\d+(?:E[-+]\d+)?', after)
        assert found
        assert number is not None
        changed = f'{after[: number.start()]}{float(number[0]) - 1.0}{after[number.end() :]}'
        failure = _failure(dict(_files(FLAKE)) | {'aiida.xml': f'{before}{found}{changed}'})
        assert failure.code == FailureCode.INCONSISTENT
        assert 'aiida.xml' in failure.message


def test_the_stress_is_that_of_the_last_geometry() -> None:
    """A run with a variable cell prints it at each step."""
    output = _files(FLAKE)['aiida.out']
    heading = 'siesta: Stress tensor (static) (eV/Ang**3):\n'
    first = f'{heading}{"siesta: 9.0 9.0 9.0" + chr(10)}' * 3
    files = dict(_files(FLAKE)) | {'aiida.out': output.replace('SCF cycle converged', f'{first}SCF cycle converged')}
    np.testing.assert_array_equal(
        read_run(files.get).label.stress_ev_per_ang3, read_run(_files(FLAKE).get).label.stress_ev_per_ang3
    )


def test_the_kinetic_energy_of_ions_is_no_part_of_the_label() -> None:
    """As molecular dynamics with SIESTA prints it: the total and the free energy contain it."""
    files = dict(_files(FLAKE))
    del files['aiida.xml']
    right = read_run(files.get).label.energy_ev
    before, _, after = files['aiida.out'].rpartition("siesta: Program's energy decomposition")
    for text in ('Etot    =', 'FreeEng =', 'Total ='):
        after = re.sub(rf'{text} +\S+', f'{text} {right + 1.5:.6f}', after)
    after = re.sub(r'Ekinion = +\S+', 'Ekinion = 1.500000', after)
    files['aiida.out'] = f"{before}siesta: Program's energy decomposition{after}"
    assert read_run(files.get).label.energy_ev == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize('name', [FLAKE, ALLOY, IRON])
def test_levels_are_those_that_sisl_reads(name: str, tmp_path: Path) -> None:
    from sisl.io.siesta.eig import eigSileSiesta

    text = _files(name)['aiida.EIG']
    (tmp_path / 'aiida.EIG').write_text(text, encoding='ascii')
    source = eigSileSiesta(tmp_path / 'aiida.EIG')
    levels, fermi = read_levels(RunText('aiida.EIG', text))
    assert fermi == source.read_fermi_level()
    np.testing.assert_allclose(levels, source.read_data() + fermi, rtol=0, atol=1e-12)


def test_levels_of_spinors_have_one_set() -> None:
    """With four or eight spin components, the head gives all levels of a k-point."""
    levels, fermi = read_levels(RunText('aiida.EIG', ' -1.0\n 2 8 1\n 1 -2.0 3.0\n'))
    assert (levels.tolist(), fermi) == ([[[-2.0, 3.0]]], -1.0)
    with pytest.raises(EvaluationError, match='line 2: 3 spin components: SIESTA has 1, 2, 4 or 8') as caught:
        read_levels(RunText('aiida.EIG', ' -1.0\n 2 3 1\n 1 -2.0 3.0\n'))
    assert caught.value.code == FailureCode.ENGINE_FAILURE


@pytest.mark.parametrize('count', ['0', '-1', '1.5', '9' * 30, '9' * 5000, '２'])
def test_counts_are_counts(count: str) -> None:
    for text in (f' -1.0\n {count} 1 1\n 1 -2.0 3.0\n', f' -1.0\n 2 1 {count}\n 1 -2.0 3.0\n'):
        with pytest.raises(EvaluationError, match=r'line 2: the number of .* this is no count'):
            read_levels(RunText('aiida.EIG', text))
    with pytest.raises(EvaluationError):
        read_weights(RunText('aiida.KP', f'{count}\n 1 0 0 0 1.0\n'), 1)


@pytest.mark.parametrize('clock', ['99-NOV-2026 11:00:00', '22-NOV-0000 11:00:00', '22-NOV-2026 99:00:00'])
def test_a_clock_that_is_wrong_costs_no_label(clock: str) -> None:
    files = _changed(FLAKE, 'aiida.out', '>> End of run:', f'>> End of run: {clock} #')
    files.pop('time.json', None)
    files['aiida.out'] = files['aiida.out'].replace('timer: Elapsed', 'gone')
    assert np.isnan(read_run(files.get).wall_s)


TINY = {
    'aiida.out': """\
Siesta Version  : v4.1-b4-133
>> Start of run:  25-NOV-2026  13:06:29
Species number:   1 Atomic number:    1 Label: H
atom: Called for H                     (Z =   1)
Total valence charge:    1.00000
siesta: Atomic coordinates (Bohr) and species
siesta:      0.00000   0.00000   0.00000  1        1
siesta:      0.00000   0.00000   1.40000  1        2
initatomlists: Number of atoms, orbitals, and projectors:      2     3     8
redata: Number of spin components                   = 1
redata: Net charge of the system                    =     0.0000 |e|
redata: Electronic Temperature                      =   299.9978 K
redata: Fix the spin of the system                  =   F
Total number of electrons:     2.000000
siesta: k-grid: Number of k-points =     2
stepf: Fermi-Dirac step function
   scf:    1      -30.838612      -31.000000      -31.000000  1.439867 -4.000000  2.3
   scf:    2      -30.838612      -30.838614      -30.838614  0.000012 -4.250000  0.000079
SCF cycle converged after 2 iterations
siesta: Ekinion =         0.000000
siesta: FreeEng =       -30.838614
siesta:         Total =     -30.838614
siesta:         Fermi =      -4.250000
siesta: Atomic forces (eV/Ang):
siesta:      1    0.100000   -0.000000   -1.500000
siesta:      2   -0.100000    0.000000    1.500100
siesta: ----------------------------------------
siesta:    Tot    0.000000    0.000000    0.000100

siesta: Stress tensor (static) (eV/Ang**3):
siesta:    -0.001000    0.000100    0.000000
siesta:     0.000100   -0.002000   -0.000000
siesta:    -0.000000   -0.000000   -0.003000

siesta: Pressure (static):
siesta:           3.20435300          3.20400000  kBar
>> End of run:  25-NOV-2026  13:06:31
Job completed
""",
    'aiida.EIG': """\
 -0.425000000E+01
          3 1          2
         1  -0.103000000E+02   0.200000000E+01   0.700000000E+01
         2  -0.101000000E+02   0.100000000E+01   0.750000000E+01
""",
    'aiida.KP': """\
         2
         1  0.000000E+00  0.000000E+00  0.000000E+00   0.250000E+00
         2  0.000000E+00  0.000000E+00  0.314159E+00   0.750000E+00
""",
}
"""A run with all numbers that are read: ten thousand mutations of it take some seconds."""

RIGHT = read_run(TINY.get).label


@pytest.mark.parametrize('file', TINY)
@fuzzed()
def test_no_mutation_is_a_traceback_or_a_wrong_number(file: str, seed: int) -> None:
    """What is accepted is finite, and has the numbers that a second place in the files confirms."""
    right = RIGHT
    for content in mutations(TINY[file].encode(), seed):
        files = TINY | {file: content.decode('utf-8', 'replace')}
        failure = None
        try:
            label = read_run(files.get).label
        except EvaluationError as error:
            failure = error
        if failure is not None:
            assert failure.code in RUN | {FailureCode.MISSING_PSEUDOPOTENTIAL}
            assert len(failure.message) < 1000
            continue
        assert abs(label.energy_ev - right.energy_ev) < 0.2
        assert label.n_electrons == right.n_electrons
        assert abs(label.fermi_ev - right.fermi_ev) <= 1e-4
        for values in (label.levels_ev, label.level_weights, label.forces_ev_per_ang, label.stress_ev_per_ang3):
            assert values is None or np.isfinite(values).all()
        if label.forces_ev_per_ang is not None:
            difference = label.forces_ev_per_ang.sum(axis=0) - right.forces_ev_per_ang.sum(axis=0)
            assert np.abs(difference).max() < 1e-4
