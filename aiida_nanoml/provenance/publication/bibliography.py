"""References of what took part: codes, functionals, pseudopotentials, methods, by what a graph records of them.

What is cited is decided by what the labels, models and processes say of themselves. An engine, a model or a
functional without an entry is named as one, so that nobody takes the list for complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiida_nanoml.provenance.publication.latex import escape


@dataclass(frozen=True)
class Reference:
    """An entry of BibTeX.

    :param kind: ``article``, ``book``, ``inproceedings`` or ``misc``.
    :param fields: by name, in plain Unicode; authors as ``Family, Given and Family, Given``. A text in braces is one
        name, and not divided.
    """

    key: str
    kind: str
    fields: Mapping[str, str]

    def bibtex(self, note: str = '') -> str:
        """Return the entry.

        :param note: what stands in the field ``note``.
        """
        fields = dict(self.fields) | ({'note': note} if note else {})
        verbatim = ('doi', 'url')
        lines = [f'  {name} = {{{text if name in verbatim else escape(text)}}},' for name, text in fields.items()]
        return '\n'.join([f'@{self.kind}{{{self.key},', *lines, '}'])


@dataclass(frozen=True)
class Citation:
    """A reference that is cited.

    :param reason: for what.
    :param version: of the code, empty where the reference is no code.
    """

    reference: Reference
    reason: str
    version: str = ''


@dataclass(frozen=True)
class Bibliography:
    """What is cited.

    :param citations: without repetition, in the order in which they were called for.
    :param missing: what took part and has no entry here, in words.
    """

    citations: tuple[Citation, ...]
    missing: tuple[str, ...]

    def keys(self, reason: str) -> tuple[str, ...]:
        """Keys of the references that are cited for something."""
        return tuple(found.reference.key for found in self.citations if reason in found.reason.split('; '))

    def bibtex(self) -> str:
        """Return the file ``references.bib``."""
        entries = [
            found.reference.bibtex(
                '; '.join(filter(None, (found.version and f'version {found.version}', found.reason)))
            )
            for found in self.citations
        ]
        comments = [f'% no reference is known for {what}: add it by hand' for what in self.missing]
        return '\n\n'.join([*comments, *entries]) + '\n'


class Collector:
    """Collects citations while a lineage is read."""

    def __init__(self) -> None:
        self._reasons: dict[str, list[str]] = {}
        self._versions: dict[str, list[str]] = {}
        self._missing: dict[str, None] = {}

    def cite(self, reason: str, *keys: str, version: str = '') -> None:
        """Cite references for something; only codes have a version."""
        for key in keys:
            reasons = self._reasons.setdefault(key, [])
            if reason not in reasons:
                reasons.append(reason)
            versions = self._versions.setdefault(key, [])
            if version and key in CODES and version not in versions:
                versions.append(version)

    def miss(self, what: str) -> None:
        """Say that something took part for which there is no reference."""
        self._missing[what] = None

    def bibliography(self) -> Bibliography:
        """Return what was collected."""
        return Bibliography(
            tuple(
                Citation(REFERENCES[key], '; '.join(reasons), ', '.join(self._versions[key]))
                for key, reasons in self._reasons.items()
            ),
            tuple(self._missing),
        )


def _article(
    key: str, authors: str, title: str, journal: str, volume: str, pages: str, year: str, doi: str
) -> Reference:
    fields = {'author': authors, 'title': f'{{{title}}}', 'journal': journal, 'volume': volume, 'pages': pages}
    return Reference(key, 'article', fields | {'year': year} | ({'doi': doi} if doi else {}))


def _code(key: str, authors: str, title: str, url: str) -> Reference:
    return Reference(key, 'misc', {'author': authors, 'title': f'{{{title}}}', 'howpublished': 'software', 'url': url})


_ALL = (
    _article(
        'aiida2020',
        'Huber, Sebastiaan P. and Zoupanos, Spyros and Uhrin, Martin and Talirz, Leopold and Kahle, Leonid and '
        'Häuselmann, Rico and Gresch, Dominik and Müller, Tiziano and Yakutovich, Aliaksandr V. and Andersen, Casper '
        'W. and Ramirez, Francisco F. and Adorf, Carl S. and Gargiulo, Fernando and Kumbhar, Snehal and Passaro, '
        'Elsa and Johnston, Conrad and Merkys, Andrius and Cepellotti, Andrea and Mounet, Nicolas and Marzari, '
        'Nicola and Kozinsky, Boris and Pizzi, Giovanni',
        'AiiDA 1.0, a scalable computational infrastructure for automated reproducible workflows and data provenance',
        'Scientific Data',
        '7',
        '300',
        '2020',
        '10.1038/s41597-020-00638-4',
    ),
    _article(
        'aiida2021',
        'Uhrin, Martin and Huber, Sebastiaan P. and Yu, Jusong and Marzari, Nicola and Pizzi, Giovanni',
        'Workflows in AiiDA: Engineering a high-throughput, event-based engine for robust and modular computational '
        'workflows',
        'Computational Materials Science',
        '187',
        '110086',
        '2021',
        '10.1016/j.commatsci.2020.110086',
    ),
    _code(
        'aiida_siesta',
        '{The aiida-siesta developers}',
        'aiida-siesta: a plugin of AiiDA for SIESTA',
        'https://github.com/siesta-project/aiida_siesta_plugin',
    ),
    _article(
        'siesta2002',
        'Soler, José M. and Artacho, Emilio and Gale, Julian D. and García, Alberto and Junquera, Javier and '
        'Ordejón, Pablo and Sánchez-Portal, Daniel',
        'The SIESTA method for ab initio order-N materials simulation',
        'Journal of Physics: Condensed Matter',
        '14',
        '2745',
        '2002',
        '10.1088/0953-8984/14/11/302',
    ),
    _article(
        'siesta2020',
        'García, Alberto and others',
        'Siesta: Recent developments and applications',
        'The Journal of Chemical Physics',
        '152',
        '204108',
        '2020',
        '10.1063/5.0005077',
    ),
    _article(
        'ceperley1980',
        'Ceperley, D. M. and Alder, B. J.',
        'Ground State of the Electron Gas by a Stochastic Method',
        'Physical Review Letters',
        '45',
        '566',
        '1980',
        '10.1103/PhysRevLett.45.566',
    ),
    _article(
        'perdew1981',
        'Perdew, J. P. and Zunger, Alex',
        'Self-interaction correction to density-functional approximations for many-electron systems',
        'Physical Review B',
        '23',
        '5048',
        '1981',
        '10.1103/PhysRevB.23.5048',
    ),
    _article(
        'perdew1992',
        'Perdew, John P. and Wang, Yue',
        'Accurate and simple analytic representation of the electron-gas correlation energy',
        'Physical Review B',
        '45',
        '13244',
        '1992',
        '10.1103/PhysRevB.45.13244',
    ),
    _article(
        'perdew1996',
        'Perdew, John P. and Burke, Kieron and Ernzerhof, Matthias',
        'Generalized Gradient Approximation Made Simple',
        'Physical Review Letters',
        '77',
        '3865',
        '1996',
        '10.1103/PhysRevLett.77.3865',
    ),
    _article(
        'perdew2008',
        'Perdew, John P. and Ruzsinszky, Adrienn and Csonka, Gábor I. and Vydrov, Oleg A. and Scuseria, Gustavo E. '
        'and Constantin, Lucian A. and Zhou, Xiaolan and Burke, Kieron',
        'Restoring the Density-Gradient Expansion for Exchange in Solids and Surfaces',
        'Physical Review Letters',
        '100',
        '136406',
        '2008',
        '10.1103/PhysRevLett.100.136406',
    ),
    _article(
        'hammer1999',
        'Hammer, B. and Hansen, L. B. and Nørskov, J. K.',
        'Improved adsorption energetics within density-functional theory using revised Perdew-Burke-Ernzerhof '
        'functionals',
        'Physical Review B',
        '59',
        '7413',
        '1999',
        '10.1103/PhysRevB.59.7413',
    ),
    _article(
        'monkhorst1976',
        'Monkhorst, Hendrik J. and Pack, James D.',
        'Special points for Brillouin-zone integrations',
        'Physical Review B',
        '13',
        '5188',
        '1976',
        '10.1103/PhysRevB.13.5188',
    ),
    _article(
        'methfessel1989',
        'Methfessel, M. and Paxton, A. T.',
        'High-precision sampling for Brillouin-zone integration in metals',
        'Physical Review B',
        '40',
        '3616',
        '1989',
        '10.1103/PhysRevB.40.3616',
    ),
    _article(
        'troullier1991',
        'Troullier, N. and Martins, José Luís',
        'Efficient pseudopotentials for plane-wave calculations',
        'Physical Review B',
        '43',
        '1993',
        '1991',
        '10.1103/PhysRevB.43.1993',
    ),
    _article(
        'hamann2013',
        'Hamann, D. R.',
        'Optimized norm-conserving Vanderbilt pseudopotentials',
        'Physical Review B',
        '88',
        '085117',
        '2013',
        '10.1103/PhysRevB.88.085117',
    ),
    _article(
        'grimme2017',
        'Grimme, Stefan and Bannwarth, Christoph and Shushkov, Philip',
        'A Robust and Accurate Tight-Binding Quantum Chemical Method for Structures, Vibrational Frequencies, and '
        'Noncovalent Interactions of Large Molecular Systems Parametrized for All spd-Block Elements (Z = 1-86)',
        'Journal of Chemical Theory and Computation',
        '13',
        '1989',
        '2017',
        '10.1021/acs.jctc.7b00118',
    ),
    _article(
        'bannwarth2019',
        'Bannwarth, Christoph and Ehlert, Sebastian and Grimme, Stefan',
        'GFN2-xTB - An Accurate and Broadly Parametrized Self-Consistent Tight-Binding Quantum Chemical Method with '
        'Multipole Electrostatics and Density-Dependent Dispersion Contributions',
        'Journal of Chemical Theory and Computation',
        '15',
        '1652',
        '2019',
        '10.1021/acs.jctc.8b01176',
    ),
    _code(
        'tblite',
        '{The tblite developers}',
        'tblite: light-weight tight-binding framework',
        'https://github.com/tblite/tblite',
    ),
    _article(
        'pyscf2018',
        'Sun, Qiming and Berkelbach, Timothy C. and Blunt, Nick S. and Booth, George H. and Guo, Sheng and Li, '
        'Zhendong and Liu, Junzi and McClain, James D. and Sayfutyarova, Elvira R. and Sharma, Sandeep and Wouters, '
        'Sebastian and Chan, Garnet Kin-Lic',
        'PySCF: the Python-based simulations of chemistry framework',
        'WIREs Computational Molecular Science',
        '8',
        'e1340',
        '2018',
        '10.1002/wcms.1340',
    ),
    _article(
        'pyscf2020',
        'Sun, Qiming and others',
        'Recent developments in the PySCF program package',
        'The Journal of Chemical Physics',
        '153',
        '024109',
        '2020',
        '10.1063/5.0006074',
    ),
    _article(
        'goedecker1996',
        'Goedecker, S. and Teter, M. and Hutter, J.',
        'Separable dual-space Gaussian pseudopotentials',
        'Physical Review B',
        '54',
        '1703',
        '1996',
        '10.1103/PhysRevB.54.1703',
    ),
    _article(
        'weigend2006',
        'Weigend, Florian',
        'Accurate Coulomb-fitting basis sets for H to Rn',
        'Physical Chemistry Chemical Physics',
        '8',
        '1057',
        '2006',
        '10.1039/b515623h',
    ),
    _article(
        'ase2017',
        'Larsen, Ask Hjorth and others',
        'The atomic simulation environment - a Python library for working with atoms',
        'Journal of Physics: Condensed Matter',
        '29',
        '273002',
        '2017',
        '10.1088/1361-648X/aa680e',
    ),
    _article(
        'jacobsen1996',
        'Jacobsen, K. W. and Stoltze, P. and Nørskov, J. K.',
        'A semi-empirical effective medium theory for metals and alloys',
        'Surface Science',
        '366',
        '394',
        '1996',
        '10.1016/0039-6028(96)00816-3',
    ),
    _article(
        'chgnet2023',
        'Deng, Bowen and Zhong, Peichen and Jun, KyuJung and Riebesell, Janosh and Han, Kevin and Bartel, '
        'Christopher J. and Ceder, Gerbrand',
        'CHGNet as a pretrained universal neural network potential for charge-informed atomistic modelling',
        'Nature Machine Intelligence',
        '5',
        '1031',
        '2023',
        '10.1038/s42256-023-00716-3',
    ),
    Reference(
        'mace2022',
        'inproceedings',
        {
            'author': 'Batatia, Ilyes and Kovács, Dávid Péter and Simm, Gregor N. C. and Ortner, Christoph and '
            'Csányi, Gábor',
            'title': '{MACE: Higher Order Equivariant Message Passing Neural Networks for Fast and Accurate Force '
            'Fields}',
            'booktitle': 'Advances in Neural Information Processing Systems',
            'volume': '35',
            'year': '2022',
            'eprint': '2206.07697',
            'archiveprefix': 'arXiv',
        },
    ),
    Reference(
        'macemp2024',
        'misc',
        {
            'author': 'Batatia, Ilyes and others',
            'title': '{A foundation model for atomistic materials chemistry}',
            'year': '2024',
            'eprint': '2401.00096',
            'archiveprefix': 'arXiv',
        },
    ),
    _article(
        'scikitlearn2011',
        'Pedregosa, F. and Varoquaux, G. and Gramfort, A. and Michel, V. and Thirion, B. and Grisel, O. and Blondel, '
        'M. and Prettenhofer, P. and Weiss, R. and Dubourg, V. and Vanderplas, J. and Passos, A. and Cournapeau, D. '
        'and Brucher, M. and Perrot, M. and Duchesnay, E.',
        'Scikit-learn: Machine Learning in Python',
        'Journal of Machine Learning Research',
        '12',
        '2825',
        '2011',
        '',
    ),
    Reference(
        'tensorflow2016',
        'inproceedings',
        {
            'author': 'Abadi, Martín and others',
            'title': '{TensorFlow: A System for Large-Scale Machine Learning}',
            'booktitle': '12th USENIX Symposium on Operating Systems Design and Implementation (OSDI 16)',
            'pages': '265-283',
            'year': '2016',
        },
    ),
    Reference(
        'keras2015',
        'misc',
        {'author': 'Chollet, François and others', 'title': '{Keras}', 'year': '2015', 'url': 'https://keras.io'},
    ),
    _article(
        'numpy2020',
        'Harris, Charles R. and others',
        'Array programming with NumPy',
        'Nature',
        '585',
        '357',
        '2020',
        '10.1038/s41586-020-2649-2',
    ),
    Reference(
        'adam2015',
        'inproceedings',
        {
            'author': 'Kingma, Diederik P. and Ba, Jimmy',
            'title': '{Adam: A Method for Stochastic Optimization}',
            'booktitle': '3rd International Conference on Learning Representations (ICLR)',
            'year': '2015',
            'eprint': '1412.6980',
            'archiveprefix': 'arXiv',
        },
    ),
    _article(
        'hoerl1970',
        'Hoerl, Arthur E. and Kennard, Robert W.',
        'Ridge Regression: Biased Estimation for Nonorthogonal Problems',
        'Technometrics',
        '12',
        '55',
        '1970',
        '10.1080/00401706.1970.10488634',
    ),
    Reference(
        'breiman1984',
        'book',
        {
            'author': 'Breiman, Leo and Friedman, Jerome H. and Olshen, Richard A. and Stone, Charles J.',
            'title': '{Classification and Regression Trees}',
            'publisher': 'Wadsworth',
            'year': '1984',
        },
    ),
    _article(
        'breiman2001',
        'Breiman, Leo',
        'Random Forests',
        'Machine Learning',
        '45',
        '5',
        '2001',
        '10.1023/A:1010933404324',
    ),
    _article(
        'smola2004',
        'Smola, Alex J. and Schölkopf, Bernhard',
        'A tutorial on support vector regression',
        'Statistics and Computing',
        '14',
        '199',
        '2004',
        '10.1023/B:STCO.0000035301.49549.88',
    ),
    _article(
        'ramakrishnan2015',
        'Ramakrishnan, Raghunathan and Dral, Pavlo O. and Rupp, Matthias and von Lilienfeld, O. Anatole',
        'Big Data Meets Quantum Chemistry Approximations: The Δ-Machine Learning Approach',
        'Journal of Chemical Theory and Computation',
        '11',
        '2087',
        '2015',
        '10.1021/acs.jctc.5b00099',
    ),
    _article(
        'zunger1990',
        'Zunger, Alex and Wei, S.-H. and Ferreira, L. G. and Bernard, James E.',
        'Special quasirandom structures',
        'Physical Review Letters',
        '65',
        '353',
        '1990',
        '10.1103/PhysRevLett.65.353',
    ),
    _article(
        'birch1947',
        'Birch, Francis',
        'Finite Elastic Strain of Cubic Crystals',
        'Physical Review',
        '71',
        '809',
        '1947',
        '10.1103/PhysRev.71.809',
    ),
    _article(
        'wulf1998',
        'Wulf, U. and Kučera, J. and Racec, P. N. and Sigmund, E.',
        'Transport through quantum systems in the R-matrix formalism',
        'Physical Review B',
        '58',
        '16209',
        '1998',
        '10.1103/PhysRevB.58.16209',
    ),
    _article(
        'buttle1967',
        'Buttle, P. J. A.',
        'Solution of Coupled Equations by R-Matrix Techniques',
        'Physical Review',
        '160',
        '719',
        '1967',
        '10.1103/PhysRev.160.719',
    ),
)

REFERENCES: dict[str, Reference] = {reference.key: reference for reference in _ALL}
"""Every reference by its key."""

CODES = frozenset(
    {
        *('aiida2020', 'aiida2021', 'aiida_siesta', 'siesta2002', 'siesta2020', 'tblite', 'pyscf2018', 'pyscf2020'),
        *('ase2017', 'chgnet2023', 'mace2022', 'scikitlearn2011', 'tensorflow2016', 'keras2015', 'numpy2020'),
    }
)
"""References that stand for a code, which has a version."""

_XC = {
    ('LDA', 'CA'): ('ceperley1980', 'perdew1981'),
    ('LDA', 'PZ'): ('ceperley1980', 'perdew1981'),
    ('LDA', 'PW92'): ('perdew1992',),
    ('GGA', 'PBE'): ('perdew1996',),
    ('GGA', 'PBESOL'): ('perdew2008',),
    ('GGA', 'RPBE'): ('hammer1999',),
}
"""Functional and authors as SIESTA names them."""


def _siesta(collect: Collector, parameters: Mapping[str, Any], version: str) -> None:
    collect.cite('SIESTA', 'siesta2002', 'siesta2020', version=version)
    functional, authors = str(parameters.get('xc_functional')), str(parameters.get('xc_authors'))
    keys = _XC.get((functional.upper(), authors.upper()))
    if keys is None:
        collect.miss(f'the functional {functional}/{authors} of SIESTA')
    else:
        collect.cite(f'functional {functional}-{authors}', *keys)
    if any(parameters.get(name) is not None for name in ('k_grid', 'k_length_ang', 'k_density')):
        collect.cite('k-points', 'monkhorst1976')


def _xtb(collect: Collector, parameters: Mapping[str, Any], version: str) -> None:
    collect.cite('tblite', 'tblite', version=version)
    methods = {'GFN1-xTB': 'grimme2017', 'GFN2-xTB': 'bannwarth2019'}
    method = str(parameters.get('method'))
    if method in methods:
        collect.cite(method, methods[method])
    else:
        collect.miss(f'the Hamiltonian {method} of tblite')


def _pyscf(collect: Collector, parameters: Mapping[str, Any], version: str) -> None:
    collect.cite('PySCF', 'pyscf2018', 'pyscf2020', version=version)
    collect.cite('functional LDA', 'ceperley1980', 'perdew1981')
    collect.cite('pseudopotentials', 'goedecker1996')
    collect.cite('density fitting', 'weigend2006')


def _ase(collect: Collector, parameters: Mapping[str, Any], version: str) -> None:
    """Of a potential with a package of its own, the version is that of the package."""
    calculator = str(parameters.get('calculator'))
    known = {'chgnet': ('CHGNet', 'chgnet2023'), 'mace': ('MACE', 'mace2022'), 'emt': ('EMT', 'jacobsen1996')}
    collect.cite('ASE', 'ase2017', version='' if calculator in ('chgnet', 'mace') else version)
    if calculator in known:
        collect.cite(*known[calculator], version=version)
    else:
        collect.miss(f'the calculator {calculator} of ASE')
    if calculator == 'mace':
        collect.cite('MACE', 'macemp2024')


ENGINES: dict[str, Callable[[Collector, Mapping[str, Any], str], None]] = {
    'siesta': _siesta,
    'xtb': _xtb,
    'pyscf': _pyscf,
    'ase': _ase,
}
"""What to cite for the labels of an engine, by its name, its parameters and its version."""


def engine_keys(engine: str, parameters: Mapping[str, Any], version: str) -> tuple[str, ...]:
    """Keys of what is cited for the labels of an engine."""
    collect = Collector()
    if engine in ENGINES:
        ENGINES[engine](collect, parameters, version)
    return tuple(found.reference.key for found in collect.bibliography().citations)


MODELS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(('fast', 'paper', 'transfer', 'correction', 'alloy', 'density network'), ('adam2015',)),
    'linear': (),
    'ridge': ('hoerl1970',),
    'tree': ('breiman1984',),
    'forest': ('breiman2001',),
    'svm': ('smola2004',),
}
"""Methods behind each kind of model; the libraries stand in its card."""

LIBRARIES = {
    'scikit-learn': ('scikitlearn2011',),
    'tensorflow': ('tensorflow2016',),
    'keras': ('keras2015',),
    'numpy': ('numpy2020',),
}
"""Libraries that the card of a model names with their versions."""

PSEUDOPOTENTIAL_MAKERS = {'Troullier': 'troullier1991', 'ONCVPSP': 'hamann2013'}
"""What the first lines of a pseudopotential file say about its kind."""

PROCESSES = {
    'analyse_scan': ('equations of state', ('birch1947',)),
    'RmatrixCalculation': ('R-matrix', ('wulf1998', 'buttle1967')),
    'SiestaCalculation': ('aiida-siesta', ('aiida_siesta',)),
}
"""Methods that a process stands for, by its label."""


@dataclass(frozen=True)
class Participants:
    """What took part, in plain types.

    :param labels: engine, parameters and version of each kind of labels.
    :param models: kind of each model, and the versions of the libraries that its card names.
    :param processes: labels of all processes.
    :param pseudopotential_heads: the first lines of the file of each pseudopotential, by its name.
    :param core_versions: versions of aiida-core.
    :param corrected: whether a model learnt corrections to a baseline.
    :param quasirandom: whether cells are special quasi-random structures.
    :param density_of_states: whether the density of states at the Fermi level is a target.
    """

    labels: tuple[tuple[str, Mapping[str, Any], str], ...] = ()
    models: tuple[tuple[str, Mapping[str, str]], ...] = ()
    processes: tuple[str, ...] = ()
    pseudopotential_heads: Mapping[str, str] = field(default_factory=dict)
    core_versions: tuple[str, ...] = ()
    corrected: bool = False
    quasirandom: bool = False
    density_of_states: bool = False


def bibliography(parts: Participants) -> Bibliography:
    """Collect what has to be cited."""
    collect = Collector()
    for version in parts.core_versions or ('',):
        collect.cite('AiiDA', 'aiida2020', 'aiida2021', version=version)
    for engine, parameters, version in parts.labels:
        if engine in ENGINES:
            ENGINES[engine](collect, parameters, version)
        else:
            collect.miss(f'the engine {engine} {version}')
    for name, head in parts.pseudopotential_heads.items():
        makers = [key for word, key in PSEUDOPOTENTIAL_MAKERS.items() if word in head]
        if makers:
            collect.cite('pseudopotentials', *makers)
        else:
            collect.miss(f'the pseudopotential of {name}')
    _cite_models(collect, parts.models)
    for process in parts.processes:
        if process in PROCESSES:
            reason, keys = PROCESSES[process]
            collect.cite(reason, *keys)
    for took_part, reason, key in (
        (parts.corrected, 'corrections to a baseline', 'ramakrishnan2015'),
        (parts.quasirandom, 'special quasi-random structures', 'zunger1990'),
        (parts.density_of_states, 'densities of states', 'methfessel1989'),
    ):
        if took_part:
            collect.cite(reason, key)
    return collect.bibliography()


def _cite_models(collect: Collector, models: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    for kind, versions in models:
        if kind in MODELS:
            collect.cite(f'model {kind}', *MODELS[kind])
        else:
            collect.miss(f'the model {kind}')
        for library, version in versions.items():
            collect.cite('machine learning', *LIBRARIES.get(library, ()), version=version)
