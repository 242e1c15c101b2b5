"""References for what a result rests on: codes, functionals, pseudopotentials and methods that its graph records.

The references themselves are in ``references.toml`` beside this module. What is cited is decided by what the labels,
models and processes record. An engine, a model or a functional without a reference is named as such, so that nobody
takes the list for complete.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from aiida_nanoml.engines.registry import engine_names, get_engine
from aiida_nanoml.provenance.publication.latex import escape


@dataclass(frozen=True)
class Reference:
    """An entry of BibTeX.

    :param kind: ``article``, ``book``, ``inproceedings`` or ``misc``.
    :param fields: values by name, in plain Unicode; authors as ``Family, Given and Family, Given``. A name in braces
        is not split by BibTeX.
    :param is_code: whether it stands for a code, which has a version.
    """

    key: str
    kind: str
    fields: Mapping[str, str]
    is_code: bool = False

    def bibtex(self, note: str = '') -> str:
        """Return the entry.

        :param note: text of the field ``note``.
        """
        fields = dict(self.fields) | ({'note': note} if note else {})
        verbatim = ('doi', 'url')
        lines = [f'  {name} = {{{text if name in verbatim else escape(text)}}},' for name, text in fields.items()]
        return '\n'.join([f'@{self.kind}{{{self.key},', *lines, '}'])


@dataclass(frozen=True)
class Citation:
    """A reference that is cited.

    :param reason: what it is cited for.
    :param version: version of the code; empty if the reference is no code.
    """

    reference: Reference
    reason: str
    version: str = ''


@dataclass(frozen=True)
class Bibliography:
    """The references that are cited.

    :param citations: without repetition, in citation order.
    :param missing: what was used and has no reference here, in words.
    """

    citations: tuple[Citation, ...]
    missing: tuple[str, ...]

    def keys(self, reason: str) -> tuple[str, ...]:
        """Return the keys of the references that are cited for a reason."""
        return tuple(found.reference.key for found in self.citations if reason in found.reason.split('; '))

    def bibtex(self) -> str:
        """Return the content of ``references.bib``."""
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
        """Cite references for a reason; the version is kept for codes only."""
        for key in keys:
            reasons = self._reasons.setdefault(key, [])
            if reason not in reasons:
                reasons.append(reason)
            versions = self._versions.setdefault(key, [])
            if version and REFERENCES[key].is_code and version not in versions:
                versions.append(version)

    def add_missing(self, what: str) -> None:
        """Record that something was used for which there is no reference."""
        self._missing[what] = None

    def bibliography(self) -> Bibliography:
        """Return the references collected so far."""
        return Bibliography(
            tuple(
                Citation(REFERENCES[key], '; '.join(reasons), ', '.join(self._versions[key]))
                for key, reasons in self._reasons.items()
            ),
            tuple(self._missing),
        )


def _read_references() -> dict[str, Reference]:
    """Read ``references.toml`` beside this module."""
    content = tomllib.loads(files(__package__).joinpath('references.toml').read_text(encoding='utf-8'))
    return {key: _to_reference(key, entry) for key, entry in content.items()}


def _to_reference(key: str, entry: dict[str, Any]) -> Reference:
    """Make a reference of its entry in the file."""
    kind, is_code = entry.pop('kind'), entry.pop('is_code', False)
    # A title in braces keeps its capitals whatever the style of the bibliography.
    entry |= {'author': ' and '.join(entry['author']), 'title': f'{{{entry["title"]}}}'}
    return Reference(key, kind, entry, is_code)


REFERENCES: dict[str, Reference] = _read_references()
"""Every reference by its key."""

FUNCTIONALS = {
    ('LDA', 'CA'): ('ceperley1980', 'perdew1981'),
    ('LDA', 'PZ'): ('ceperley1980', 'perdew1981'),
    ('LDA', 'PW92'): ('perdew1992',),
    ('LDA', 'PADE'): ('goedecker1996',),
    ('GGA', 'PBE'): ('perdew1996',),
    ('GGA', 'PBESOL'): ('perdew2008',),
    ('GGA', 'RPBE'): ('hammer1999',),
}
"""References of a functional, by its name and authors as SIESTA writes them."""


def _cite_program(collect: Collector, engine: str, parameters: Mapping[str, Any], version: str) -> None:
    """Cite what an engine names, and functional and k-points as engines of density-functional theory call them."""
    if engine not in engine_names():
        collect.add_missing(f'the engine {engine} {version}')
        return
    code = get_engine(engine)
    known = [key for key in code.references if key in REFERENCES]
    collect.cite(code.title, *known, version=version)
    for other in code.references:
        if other not in REFERENCES:
            collect.add_missing(f'{code.title} {version} ({other})')
    if not code.references:
        collect.add_missing(f'the engine {engine} {version}')
    kind, authors = str(parameters.get('xc_functional', '')), str(parameters.get('xc_authors', ''))
    if 'functional' in parameters:
        kind, _, authors = str(parameters['functional']).partition('-')
    if kind:
        keys = FUNCTIONALS.get((kind.upper(), authors.upper()))
        if keys is None:
            collect.add_missing(f'the functional {kind}/{authors} of {code.title}')
        else:
            collect.cite(f'functional {kind}-{authors}', *keys)
    if any(parameters.get(name) is not None for name in ('k_grid', 'k_length_ang', 'k_density', 'k_supercell')):
        collect.cite('k-points', 'monkhorst1976')


def _xtb(collect: Collector, parameters: Mapping[str, Any], version: str) -> None:
    collect.cite('tblite', 'tblite', version=version)
    methods = {'GFN1-xTB': 'grimme2017', 'GFN2-xTB': 'bannwarth2019'}
    method = str(parameters.get('method'))
    if method in methods:
        collect.cite(method, methods[method])
    else:
        collect.add_missing(f'the Hamiltonian {method} of tblite')


def _pyscf(collect: Collector, parameters: Mapping[str, Any], version: str) -> None:
    collect.cite('PySCF', 'pyscf2018', 'pyscf2020', version=version)
    collect.cite('functional LDA', 'ceperley1980', 'perdew1981')
    collect.cite('pseudopotentials', 'goedecker1996')
    collect.cite('density fitting', 'weigend2006')


def _ase(collect: Collector, parameters: Mapping[str, Any], version: str) -> None:
    """Cite ASE and its calculator; the version of CHGNet and MACE is that of their own package."""
    calculator = str(parameters.get('calculator'))
    known = {'chgnet': ('CHGNet', 'chgnet2023'), 'mace': ('MACE', 'mace2022'), 'emt': ('EMT', 'jacobsen1996')}
    collect.cite('ASE', 'ase2017', version='' if calculator in ('chgnet', 'mace') else version)
    if calculator in known:
        collect.cite(*known[calculator], version=version)
    else:
        collect.add_missing(f'the calculator {calculator} of ASE')
    if calculator == 'mace':
        collect.cite('MACE', 'macemp2024')


_LIBRARIES: dict[str, Callable[[Collector, Mapping[str, Any], str], None]] = {
    'xtb': _xtb,
    'pyscf': _pyscf,
    'ase': _ase,
}
"""Function that cites what the labels of an engine rest on, where parameters decide about it."""


def _cite_engine(collect: Collector, engine: str, parameters: Mapping[str, Any], version: str) -> None:
    if engine in _LIBRARIES:
        _LIBRARIES[engine](collect, parameters, version)
    else:
        _cite_program(collect, engine, parameters, version)


def engine_keys(engine: str, parameters: Mapping[str, Any], version: str) -> tuple[str, ...]:
    """Return the keys of the references that are cited for the labels of an engine."""
    collect = Collector()
    _cite_engine(collect, engine, parameters, version)
    return tuple(found.reference.key for found in collect.bibliography().citations)


MODELS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(('fast', 'paper', 'transfer', 'correction', 'alloy', 'density network'), ('adam2015',)),
    'linear': (),
    'ridge': ('hoerl1970',),
    'tree': ('breiman1984',),
    'forest': ('breiman2001',),
    'svm': ('smola2004',),
    'few_rows': ('hoerl1970', 'smola2004', 'breiman2001'),
}
"""References of the method of each kind of model; its libraries are named in its card."""

LIBRARIES = {
    'scikit-learn': ('scikitlearn2011',),
    'tensorflow': ('tensorflow2016',),
    'keras': ('keras2015',),
    'numpy': ('numpy2020',),
}
"""References of the libraries that the card of a model names."""

PSEUDOPOTENTIAL_MAKERS = {'Troullier': 'troullier1991', 'ONCVPSP': 'hamann2013'}
"""Reference of a pseudopotential, by a word in the first lines of its file."""

PROCESSES = {
    'analyse_scan': ('equations of state', ('birch1947',)),
    'RmatrixCalculation': ('R-matrix', ('wulf1998', 'buttle1967')),
    'SiestaCalculation': ('aiida-siesta', ('aiida_siesta',)),
}
"""Method that a process applies and its references, by the label of the process."""


@dataclass(frozen=True)
class Participants:
    """Everything that may have to be cited, in plain types.

    :param labels: engine, parameters and version of each kind of labels.
    :param models: kind of each model, and the versions of the libraries in its card.
    :param processes: labels of all processes.
    :param pseudopotential_heads: the first lines of the file of each pseudopotential, by its name.
    :param core_versions: versions of aiida-core.
    :param corrected: whether a model was trained on corrections to a baseline.
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


def build_bibliography(parts: Participants) -> Bibliography:
    """Return the references of everything that was used."""
    collect = Collector()
    for version in parts.core_versions or ('',):
        collect.cite('AiiDA', 'aiida2020', 'aiida2021', version=version)
    for engine, parameters, version in parts.labels:
        _cite_engine(collect, engine, parameters, version)
    for name, head in parts.pseudopotential_heads.items():
        makers = [key for word, key in PSEUDOPOTENTIAL_MAKERS.items() if word in head]
        if makers:
            collect.cite('pseudopotentials', *makers)
        else:
            collect.add_missing(f'the pseudopotential of {name}')
    _cite_models(collect, parts.models)
    for process in parts.processes:
        if process in PROCESSES:
            reason, keys = PROCESSES[process]
            collect.cite(reason, *keys)
    for used, reason, key in (
        (parts.corrected, 'corrections to a baseline', 'ramakrishnan2015'),
        (parts.quasirandom, 'special quasi-random structures', 'zunger1990'),
        (parts.density_of_states, 'densities of states', 'methfessel1989'),
    ):
        if used:
            collect.cite(reason, key)
    return collect.bibliography()


def _cite_models(collect: Collector, models: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    for kind, versions in models:
        if kind in MODELS:
            collect.cite(f'model {kind}', *MODELS[kind])
        else:
            collect.add_missing(f'the model {kind}')
        for library, version in versions.items():
            collect.cite('machine learning', *LIBRARIES.get(library, ()), version=version)
