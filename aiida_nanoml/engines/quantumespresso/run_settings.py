"""What a finished run of pw.x computed: its geometry and its settings, as the standard output prints them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.engines.finished_runs import RunFolderError
from aiida_nanoml.engines.quantumespresso.parameters import FUNCTIONALS, QuantumEspressoParameters
from aiida_nanoml.engines.quantumespresso.xml import XmlRun
from aiida_nanoml.engines.run_text import RunText, fortran_number
from aiida_nanoml.errors import FailureCode
from aiida_nanoml.structures.elements import ATOMIC_NUMBERS
from aiida_nanoml.units import BOHR_ANG, BOLTZMANN_EV_PER_K, RYDBERG_EV

LARGEST_LENGTH_BOHR = 1e5
PW_DEFAULTS = {'tolerance_ry': 1e-6, 'mixing_weight': 0.7, 'max_iterations': 100}
"""What pw.x takes where the input says nothing, for what an output does not print."""

_ATOM = re.compile(r'^ *\d+ +(\S+) +tau\( *\d+\) *= *\((.{30,60}?)\) *$', re.MULTILINE)
_AXIS = re.compile(r'^ *a\(([123])\) = \((.{20,60}?)\) *$', re.MULTILINE)
_PSEUDO = re.compile(
    r'^ *PseudoPot\. *# *(\d+) for +(\S+?) +read from file:? *\n? *(\S+) *$(?:\s*MD5 check sum: *([0-9a-f]{32}))?'
    r'(?:\s*Pseudo is ([^,\n]*))?',
    re.MULTILINE,
)
_SPECIES = re.compile(
    r'^ *atomic species +valence +mass +pseudopotential *\n((?: +\S+ +\S+ +\S+ +\S.*\n)+)', re.MULTILINE
)
_K_COUNT = re.compile(r'^ *number of k points= *(\d{1,7})(.*)$', re.MULTILINE)
_K_POINT = re.compile(r'^ *k\( *\d+\) = \((.{30,50}?)\), wk = +(\S+) *$', re.MULTILINE)
_EVENTS = re.compile(
    r'^ *(?:(?P<alat>lattice parameter \((?:alat|a_0)\) *= +(?P<length>\S+).*)|(?P<axes>crystal axes:.*)'
    r'|(?P<celldm>celldm\(1\)= +(?P<exact>\S+).*)'
    r'|(?P<sites>site n\. +atom +positions \((?:alat|a_0) units\))'
    r'|(?P<cell>CELL_PARAMETERS *[({]? *(?P<cell_unit>\w*)(?:= *(?P<cell_alat>[\d.]+))?.*)'
    r'|(?P<positions>ATOMIC_POSITIONS *[({]? *(?P<unit>\w*).*)) *$',
    re.MULTILINE,
)
_PLAIN = re.compile(
    r'bravais-lattice index|lattice parameter|unit-cell volume|number of (?:atoms|atomic types|electrons|Kohn-Sham)'
    r'|number of iter|kinetic-energy cutoff|charge density cutoff|(?:scf )?convergence threshold|mixing beta|nstep'
    r'|Exchange-correlation'
    r'|\( *\d|energy convergence thresh|force convergence thresh|press convergence thresh|celldm|Internal variables'
    r'|cutoff for Fock|.*(?:GPU|CUDA|MPI|[Mm]emory|Message from|REMOVED|WARNING)'
)
_ELSEWHERE = (
    ('system.assume_isolated', re.compile(r'Makov-Payne', re.I), "'makov-payne'"),
    ('system.assume_isolated', re.compile(r'Martyna-Tuckerman method'), "'martyna-tuckerman'"),
    ('system.assume_isolated', re.compile(r'Effective Screening Medium', re.I), "'esm'"),
    ('system.assume_isolated', re.compile(r'2D cutoff'), "'2D'"),
    ('system.twochem', re.compile(r'two chemical potentials'), '.true.'),
    ('control.tefield', re.compile(r'Adding external electric field'), '.true.'),
    ('control.lelfield', re.compile(r'Using Berry phase electric field'), '.true.'),
    ('system.vdw_corr', re.compile(r'Dispersion XDM Correction|XDM dispersion'), "'xdm'"),
    ('system.vdw_corr', re.compile(r'Dispersion T-S Correction|Tkatchenko-Scheffler'), "'ts-vdw'"),
    ('system.vdw_corr', re.compile(r'Many-[Bb]ody [Dd]ispersion|MBD'), "'mbd_vdw'"),
    ('system.vdw_corr', re.compile(r'DFT-D3 Dispersion|Dispersion Correction +='), "'dft-d3'"),
    ('system.vdw_corr', re.compile(r'DFT-D Dispersion|Dispersion contribution|DFT-D2'), "'grimme-d2'"),
)
"""Words of the input that an output shows outside its head; the first match of each word counts."""

_SPINORS = re.compile(r'Non-?(?:collinear| ?[Mm]agnetic) calculation')
_XML_SMEARINGS = {
    'fd': 'fermi-dirac',
    'fermi-dirac': 'fermi-dirac',
    'gaussian': 'gaussian',
    'mp': 'methfessel-paxton',
    'methfessel-paxton': 'methfessel-paxton',
    'mv': 'marzari-vanderbilt',
    'marzari-vanderbilt': 'marzari-vanderbilt',
}
_XML_OTHERS = (
    'dft/hybrid',
    'dft/dftU',
    'dft/vdW',
    'electric_field',
    'spin_constraints',
    'ekin_functional',
    'external_atomic_forces',
    'boundary_conditions/esm',
)
"""Parts of the input in an XML file that have no words here."""

_SMEARINGS = {
    'fermi-dirac': "'fermi-dirac'",
    'gaussian': "'gaussian'",
    'methfessel-paxton': "'methfessel-paxton'",
    'marzari-vanderbilt': "'marzari-vanderbilt'",
    'cold': "'marzari-vanderbilt'",
}


@dataclass(frozen=True)
class Geometry:
    """Atoms and cell.

    :param species: of each atom.
    :param positions_ang: (A, 3) in Å.
    :param cell_ang: (3, 3) in Å.
    """

    species: tuple[str, ...]
    positions_ang: NDArray[np.float64]
    cell_ang: NDArray[np.float64]


@dataclass(frozen=True)
class Species:
    """A species of a run.

    :param element: chemical symbol.
    :param charge: valence electrons; None where they are not printed.
    :param file: name of the pseudopotential.
    :param md5: of the pseudopotential; empty where it is not printed.
    :param fine: whether it has a partial core, or is ultrasoft or PAW.
    """

    element: str
    charge: float | None
    file: str
    md5: str
    fine: bool


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    :param functional: as pw.x names it.
    :param cutoff_ry: of the wave functions.
    :param density_cutoff_ry: of the density.
    :param species: by name.
    :param n_electrons: electrons of the run.
    :param polarized: whether the spins differ.
    :param spinors: whether spins have no common direction.
    :param occupations: ``fixed``, ``tetrahedra``, or a kind of smearing.
    :param width_ry: of the smearing.
    :param tolerance_ry: of the self-consistency.
    :param mixing_weight: share of the new density.
    :param max_iterations: limit of the self-consistency.
    :param k_points: (K, 3) in units of 2 pi / alat, None where they are not printed.
    :param k_weights: (K,).
    :param n_k_points: K; 0 where the output does not say it, nor the occupations.
    :param mesh: divisions and displacements, None where they are not known.
    :param magnetization: at the start, by species.
    :param words: further words of the input.
    :param others: lines about settings that have no words here.
    """

    functional: str
    cutoff_ry: float
    density_cutoff_ry: float
    species: dict[str, Species]
    n_electrons: float
    polarized: bool
    spinors: bool
    occupations: str
    width_ry: float
    tolerance_ry: float
    mixing_weight: float
    max_iterations: int
    n_k_points: int
    k_points: NDArray[np.float64] | None
    k_weights: NDArray[np.float64] | None
    mesh: tuple[list[int], list[float]] | None = None
    magnetization: dict[str, float] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    @property
    def only_gamma(self) -> bool:
        """Whether Gamma is the only k-point."""
        return self.n_k_points == 1 and self.k_points is not None and not np.abs(self.k_points).max() > 1e-6


class RunHead:
    """Reads geometry and settings out of the standard output of a run.

    :param text: of the run, from the header of pw.x on.
    :param name: of the file, for messages.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self._file = RunText(name, text)

    def geometry(self, end: int) -> Geometry | None:
        """Return the geometry in force at a position of the text: the last one that is printed before.

        :returns: None where none is printed.
        :raises RunFolderError: ``'truncated'`` or ``'unreadable'``, it cannot be read.
        """
        alat, cell, places = 0.0, None, None
        species: tuple[str, ...] = ()
        for match in _EVENTS.finditer(self.text, 0, end):
            if match['alat']:
                alat = self._number(match['length'], match.start('length'), 'the lattice parameter')
            elif match['celldm']:
                exact = self._number(match['exact'], match.start('exact'), 'the lattice parameter')
                alat = exact if abs(exact - alat) < 1e-3 else alat
            elif match['axes']:
                cell = self._axes(match.end()) * alat
            elif match['sites']:
                species, places = self._sites(match.end(), alat)
            elif match['cell']:
                cell = self._cell(match, alat)
            elif match['positions'] and cell is not None:
                found = self._positions(match, alat, cell)
                species, places = found if found is not None else (species, places)
        if cell is None or places is None or not species:
            return None
        return Geometry(species, places * BOHR_ANG, cell * BOHR_ANG)

    def _axes(self, start: int) -> NDArray[np.float64]:
        rows = list(_AXIS.finditer(self.text, start, start + 400))[:3]
        if [row[1] for row in rows] != ['1', '2', '3']:
            raise self._fault(FailureCode.TRUNCATED, 'prints no lattice vectors')
        return np.array([self._vector(row[2], row.start(2), 'a lattice vector') for row in rows])

    def _sites(self, start: int, alat: float) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        species, places = [], []
        position = self.text.find('\n', start) + 1
        while position:
            match = _ATOM.match(self.text, position)
            if match is None:
                break
            species.append(match[1])
            places.append(self._vector(match[2], match.start(2), 'a position'))
            position = match.end() + 1
        return tuple(species), np.array(places, dtype=np.float64).reshape(-1, 3) * alat

    def _cell(self, match: re.Match[str], alat: float) -> NDArray[np.float64]:
        units = {'alat': alat, 'bohr': 1.0, 'angstrom': 1 / BOHR_ANG, '': alat}
        unit = match['cell_unit'].lower()
        if match['cell_alat']:
            units['alat'] = self._number(match['cell_alat'], match.start('cell_alat'), 'the lattice parameter')
        if unit not in units:
            raise self._fault(FailureCode.UNREADABLE, f'gives the cell in the unknown unit {unit!r}')
        rows = self.text[match.end() + 1 : match.end() + 400].splitlines()[:3]
        return units[unit] * np.array([self._vector(row, match.end(), 'a lattice vector') for row in rows])

    def _positions(
        self, match: re.Match[str], alat: float, cell: NDArray[np.float64]
    ) -> tuple[tuple[str, ...], NDArray[np.float64]] | None:
        species, rows = [], []
        position = match.end() + 1
        while position < len(self.text):
            stop = self.text.find('\n', position)
            stop = len(self.text) if stop < 0 else stop
            words = self.text[position:stop].split()
            if len(words) not in (4, 7) or not re.match(r'[A-Za-z]', words[0]):
                break
            species.append(words[0])
            rows.append(self._vector(' '.join(words[1:4]), position, 'a position'))
            position = stop + 1
        unit = match['unit'].lower()
        if not rows:
            return None
        places = np.array(rows)
        if unit == 'crystal':
            return tuple(species), places @ cell
        units = {'alat': alat, 'bohr': 1.0, 'angstrom': 1 / BOHR_ANG, '': alat}
        if unit not in units:
            raise self._fault(FailureCode.UNREADABLE, f'gives positions in the unknown unit {unit!r}')
        return tuple(species), places * units[unit]

    def settings(self) -> Settings:
        """Return the settings of the run.

        :raises RunFolderError: ``'truncated'``, one that decides about the label is not printed.
        """
        words, others = self._further()
        count, occupations, width, points, weights = self._k_points()
        return Settings(
            functional=self._functional(),
            cutoff_ry=self._value(r'kinetic-energy cutoff += +(\S+) +Ry', 'the cutoff'),
            density_cutoff_ry=self._value(r'charge density cutoff += +(\S+) +Ry', 'the cutoff of the density'),
            species=self._species(),
            n_electrons=self._value(r'number of electrons += +(\S+)', 'the number of electrons'),
            polarized=re.search(r'-+ SPIN (?:UP|DOWN) -+|Starting magnetic structure', self.text) is not None
            and 'Noncollinear' not in self.text,
            spinors=_SPINORS.search(self.text) is not None,
            occupations=occupations,
            width_ry=width,
            tolerance_ry=self._maybe(r'(?:scf )?convergence threshold += +(\S+)', 'tolerance_ry'),
            mixing_weight=self._maybe(r'mixing beta += +(\S+)', 'mixing_weight'),
            max_iterations=int(PW_DEFAULTS['max_iterations']),
            n_k_points=count,
            k_points=points,
            k_weights=weights,
            magnetization=self._magnetization(),
            words=words,
            others=others,
        )

    def _functional(self) -> str:
        found = re.search(r'^ *Exchange-correlation *= *([^(\n]+)', self.text, re.M)
        if found is None:
            raise self._fault(FailureCode.TRUNCATED, 'does not say its functional')
        return ' '.join(found[1].split()).upper()

    def _species(self) -> dict[str, Species]:
        pseudos = list(_PSEUDO.finditer(self.text))
        table = _SPECIES.search(self.text)
        rows = [line.split() for line in table[1].splitlines()] if table else []
        found = {}
        for number, row in enumerate(rows):
            pseudo = pseudos[number] if number < len(pseudos) else None
            kind = (pseudo[5] or '') if pseudo else ''
            found[row[0]] = Species(
                element=self._element(row[0], pseudo[2] if pseudo else ''),
                charge=self._number(row[1], 0, 'the valence charge'),
                file=PurePath(pseudo[3]).name if pseudo else '',
                md5=(pseudo[4] or '') if pseudo else '',
                fine='core' in kind or 'Ultrasoft' in kind or 'Projector' in kind or 'PAW' in kind,
            )
        if not found:
            raise self._fault(FailureCode.TRUNCATED, 'does not list its atomic species')
        return found

    def _element(self, species: str, of_file: str) -> str:
        """Return the element of a species: the name of the species begins with it."""
        known = of_file.capitalize()
        for guess in (re.match(r'[A-Za-z]{1,2}', species), re.match(r'[A-Za-z]', species)):
            element = guess[0].capitalize() if guess else ''
            if element in ATOMIC_NUMBERS and (known == element or known not in ATOMIC_NUMBERS):
                return element
        if known in ATOMIC_NUMBERS:
            return known
        raise self._fault(FailureCode.UNREADABLE, f'the species {species!r} is no element')

    def _k_points(self) -> tuple[int, str, float, NDArray[np.float64] | None, NDArray[np.float64] | None]:
        head = _K_COUNT.search(self.text)
        if head is None:
            return 0, '', 0.0, None, None
        count, rest = int(head[1]), head[2].lower()
        width = re.search(r'width \(ry\) *= *(\S+)', rest)
        kind = next((name for name in _SMEARINGS if name in rest), 'tetrahedra' if 'tetrahedr' in rest else 'fixed')
        if kind == 'fixed' and width:
            raise self._fault(FailureCode.INPUT_REFUSED, f'has the unknown occupations {rest.strip()!r}')
        heading = self.text.find('cart. coord.', head.end(), head.end() + 400)
        rows: list[re.Match[str]] = []
        position = self.text.find('\n', heading) + 1 if heading >= 0 else 0
        while position and (match := _K_POINT.match(self.text, position)):
            rows.append(match)
            position = match.end() + 1
        points = weights = None
        if len(rows) == count:
            points = np.array([self._vector(row[1], row.start(1), 'a k-point') for row in rows])
            weights = np.array([self._number(row[2], row.start(2), 'a weight') for row in rows])
        broad = self._number(width[1], head.start(2), 'the width of the smearing') if width else 0.0
        return count, kind, broad, points, weights

    def _magnetization(self) -> dict[str, float]:
        found = re.search(
            r'^ *Starting magnetic structure *\n *atomic species +magnetization *\n((?: +\S+ +\S+ *\n)+)',
            self.text,
            re.M,
        )
        rows = [line.split() for line in found[1].splitlines()] if found else []
        return {name: self._number(value, 0, 'the starting magnetization') for name, value in rows}

    def _further(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return further words of the input, and lines about settings that have no words here."""
        begin = self.text.find('bravais-lattice index')
        end = self.text.find('celldm(1)', begin)
        lines = [' '.join(line.split()) for line in self.text[begin:end].splitlines()]
        others = [line for line in lines if re.search(r'\w', line) and not _PLAIN.match(line)]
        words: dict[str, str] = {}
        for line in [line for line in others if _SPINORS.match(line)]:
            others.remove(line)
            words |= {'system.noncolin': '.true.'} | (
                {'system.lspinorb': '.true.'} if 'with spin-orbit' in line else {}
            )
        for word, pattern, value in _ELSEWHERE:
            if word not in words and pattern.search(self.text):
                words[word] = value
        if fixed := re.search(r'number of electrons += +\S+ \(up: +(\S+), down: +(\S+)\)', self.text):
            up, down = (self._number(value, fixed.start(), 'the electrons of a spin') for value in fixed.groups())
            words['system.tot_magnetization'] = f'{up - down:.6g}'
        if 'control.tefield' in words:
            block = re.search(r'Adding external electric field.*?\n\s*\n', self.text, re.S)
            others += (
                [' '.join(line.split()) for line in block[0].splitlines()[:8] if '=' in line or ':' in line]
                if block
                else []
            )
        return words, tuple(others)

    def _maybe(self, pattern: str, default: str) -> float:
        found = re.search(rf'^ *{pattern}', self.text, re.M)
        return self._number(found[1], found.start(1), default) if found else float(PW_DEFAULTS[default])

    def _value(self, pattern: str, what: str) -> float:
        found = re.search(rf'^ *{pattern}', self.text, re.M)
        if found is None:
            raise self._fault(FailureCode.TRUNCATED, f'does not print {what}')
        return self._number(found[1], found.start(1), what)

    def _vector(self, text: str, position: int, what: str) -> NDArray[np.float64]:
        words = re.findall(r'-?[^\s-]+', text)  # numbers of a fixed width may touch each other
        if len(words) != 3:
            raise self._fault(FailureCode.TRUNCATED, f'gives {what} as {text.strip()!r}')
        return np.array([self._number(word, position, what) for word in words])

    def _number(self, word: str, position: int, what: str) -> float:
        return self._file.number(word, position, what, LARGEST_LENGTH_BOHR)

    def _fault(self, code: FailureCode, sentence: str) -> RunFolderError:
        return RunFolderError(code, f'{self.name} {sentence}')


def settings_of_xml(run: XmlRun, name: str) -> Settings:
    """Return the settings of an XML file that has no standard output.

    :raises RunFolderError: ``'unreadable'``, a species is no element; ``'input_refused'``, unknown occupations.
    """
    root, levels = run.root, run.levels
    fine = any(root.findtext(f'output/algorithmic_info/{kind}') == 'true' for kind in ('uspp', 'paw'))
    species = {}
    for label, file in run.files.items():
        guesses = [found[0].capitalize() for length in (2, 1) if (found := re.match(f'[A-Za-z]{{{length}}}', label))]
        element = next((guess for guess in guesses if guess in ATOMIC_NUMBERS), None)
        if element is None:
            raise RunFolderError(FailureCode.UNREADABLE, f'{name}: the species {label!r} is no element')
        species[label] = Species(element, None, PurePath(file).name, '', fine)
    kind = (root.findtext('output/band_structure/occupations_kind') or 'fixed').strip()
    smearing = root.find('output/band_structure/smearing')
    occupations = {'fixed': 'fixed', 'from_input': 'fixed'}.get(kind, 'tetrahedra' if 'tetra' in kind else '')
    if kind == 'smearing' and smearing is not None:
        occupations = _XML_SMEARINGS.get((smearing.text or '').strip().lower(), '')
    if not occupations:
        raise RunFolderError(FailureCode.INPUT_REFUSED, f'{name} has the unknown occupations {kind!r}')
    words = {}
    for word, path, default in (
        ('system.tot_charge', 'input/bands/tot_charge', 0.0),
        ('system.tot_magnetization', 'input/bands/tot_magnetization', None),
    ):
        value = fortran_number((root.findtext(path) or '').strip())
        if value is not None and value != default:
            words[word] = f'{value:.6g}'
    for word, path in (('system.noncolin', 'noncolin'), ('system.lspinorb', 'spinorbit')):
        if (root.findtext(f'output/magnetization/{path}') or '').strip() == 'true':
            words[word] = '.true.'
    isolated = (root.findtext('input/boundary_conditions/assume_isolated') or 'none').strip()
    if isolated != 'none':
        names = {'mp': 'makov-payne', 'm-p': 'makov-payne', 'mt': 'martyna-tuckerman', 'm-t': 'martyna-tuckerman'}
        words['system.assume_isolated'] = f"'{names.get(isolated, isolated)}'"
    mixing = fortran_number((root.findtext('input/electron_control/mixing_beta') or '').strip())
    return refined(
        Settings(
            functional=run.functional.upper(),
            cutoff_ry=run.cutoff_ry,
            density_cutoff_ry=run.density_cutoff_ry,
            species=species,
            n_electrons=levels.n_electrons,
            polarized=len(levels.levels_ev) == 2,
            spinors=levels.spinors,
            occupations=occupations,
            width_ry=0.0,
            tolerance_ry=float(f'{run.tolerance_ry:.6g}'),
            mixing_weight=mixing or PW_DEFAULTS['mixing_weight'],
            max_iterations=int(PW_DEFAULTS['max_iterations']),
            n_k_points=len(levels.k_points),
            k_points=levels.k_points,
            k_weights=levels.weights,
            words=words,
        ),
        run,
    )


def refined(settings: Settings, run: XmlRun) -> Settings:
    """Return settings with what only the XML file says, or with more digits."""
    root = run.root
    mesh = None
    found = root.find('input/k_points_IBZ/monkhorst_pack')
    if found is not None:
        words = [found.get(key, '').strip() for key in ('nk1', 'nk2', 'nk3', 'k1', 'k2', 'k3')]
        if all(re.fullmatch(r'\d{1,4}', word) for word in words):
            divisions, steps = [int(word) for word in words[:3]], [int(word) for word in words[3:]]
            if min(divisions) >= 1 and max(steps) <= 1:
                mesh = divisions, [step / 2 for step in steps]
    width, smearing = settings.width_ry, root.find('output/band_structure/smearing')
    exact = None if smearing is None else fortran_number(smearing.get('degauss', '').strip())
    if exact is not None and (width == 0.0 or abs(2 * exact - width) < 1e-4):
        width = 2 * exact
    most = fortran_number((root.findtext('input/electron_control/max_nstep') or '').strip())
    others = list(settings.others)
    for path in _XML_OTHERS:
        part = root.find(f'input/{path}')
        texts = (
            [] if part is None else [f'{one.tag}={text}' for one in part.iter() if (text := (one.text or '').strip())]
        )
        if texts and not settings.others:
            others.append(f'{path} ' + ' '.join(' '.join(text.split()) for text in texts))
    return replace(
        settings,
        mesh=mesh,
        width_ry=width,
        max_iterations=int(most) if most and most >= 1 else settings.max_iterations,
        others=tuple(others),
    )


def parameters_of(
    settings: Settings, *, vacuum_ang: float, isolated: bool, names_only: bool
) -> QuantumEspressoParameters:
    """Return the parameters of a run; those of a protocol where they mean the same.

    :param settings: of the run.
    :param vacuum_ang: between the images of an isolated structure.
    :param isolated: whether it is one.
    :param names_only: whether only the names of the pseudopotentials are known.
    """
    extra = dict(settings.words)
    others = list(settings.others)
    functional = next((name for name, words in FUNCTIONALS.items() if settings.functional in words), None)
    if functional is None:
        functional = 'GGA-' + re.sub(r'\W+', '_', settings.functional)
        extra['system.input_dft'] = f"'{settings.functional}'"
    temperature = 0.0
    if settings.occupations == 'fermi-dirac':
        temperature = float(f'{settings.width_ry * RYDBERG_EV / BOLTZMANN_EV_PER_K:.3g}')
    elif settings.occupations == 'tetrahedra':
        extra['system.occupations'] = "'tetrahedra'"
    elif settings.occupations != 'fixed':
        extra['system.occupations'] = "'smearing'"
        extra['system.smearing'] = _SMEARINGS[settings.occupations]
        extra['system.degauss'] = f'{settings.width_ry:.6g}'
    magnetization = 0.0
    if settings.polarized:
        values = set(settings.magnetization.values())
        magnetization = max(-1.0, min(1.0, values.pop())) if len(values) == 1 else 0.0
        if values:
            others += [f'starting magnetization {name} {value:g}' for name, value in settings.magnetization.items()]
    mesh = settings.mesh if not isolated else None
    if mesh is None and not settings.only_gamma:
        if settings.k_points is None or settings.k_weights is None:
            others.append(f'{settings.n_k_points} k-points')
        else:
            rows = np.column_stack([settings.k_points, settings.k_weights]).round(6) + 0.0
            lines = [' '.join(f'{value:.6f}' for value in row) for row in sorted(rows.tolist())]
            extra['k_points'] = '\n'.join(['K_POINTS tpiba', str(len(lines)), *lines])
    if names_only:
        files = sorted({one.file or one.element for one in settings.species.values()})
        extra['pseudopotentials'] = ' '.join(re.sub(r'[^\w.+-]', '_', file) for file in files)
    if others:
        extra['settings'] = ' ; '.join(re.sub(r"[^\w.,:;+\-*'(){}%@= ]", '_', line) for line in others)
    return QuantumEspressoParameters(
        functional=functional,
        spin='polarized' if settings.polarized else 'none',
        electronic_temperature_kelvin=temperature,
        max_scf_iterations=settings.max_iterations,
        k_grid=mesh[0] if mesh else None,
        k_density=None,
        k_shift=mesh[1] if mesh else [0.0, 0.0, 0.0],
        vacuum_ang=round(vacuum_ang, 3),
        cutoff_ry=settings.cutoff_ry,
        density_cutoff_ratio=round(settings.density_cutoff_ry / settings.cutoff_ry, 6),
        fine_density_cutoff_ratio=round(settings.density_cutoff_ry / settings.cutoff_ry, 6),
        energy_tolerance_ry=settings.tolerance_ry,
        mixing_weight=settings.mixing_weight,
        starting_magnetization=magnetization,
        extra=extra,
    )


def with_charge(settings: Settings, geometry: Geometry) -> Settings:
    """Return settings with the charge of the run, which is what its electrons lack of those of its atoms."""
    charges = [settings.species[name].charge for name in geometry.species if name in settings.species]
    if len(charges) != len(geometry.species) or any(charge is None for charge in charges):
        return settings
    charge = sum(charge for charge in charges if charge is not None) - settings.n_electrons
    if abs(charge) < 1e-3:
        return settings
    return replace(settings, words={**settings.words, 'system.tot_charge': f'{charge:.4g}'})
