"""References: complete, well-formed, and only of what took part."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aiida_nanoml.engines import engine_names, get_engine
from aiida_nanoml.learning import registry
from aiida_nanoml.provenance.publication import bibliography
from aiida_nanoml.provenance.publication.bibliography import (
    FUNCTIONALS,
    LIBRARIES,
    MODELS,
    PROCESSES,
    PSEUDOPOTENTIAL_MAKERS,
    REFERENCES,
    Participants,
    build_bibliography,
    engine_keys,
)

OWN_ENGINES = [name for name in engine_names() if get_engine(name).__module__.startswith('aiida_nanoml.')]

REQUIRED = {
    'article': {'author', 'title', 'journal', 'volume', 'pages', 'year'},
    'book': {'author', 'title', 'publisher', 'year'},
    'inproceedings': {'author', 'title', 'booktitle', 'year'},
    'misc': {'author', 'title'},
}


def test_every_model_and_library_says_what_to_cite():
    assert set(registry.MODELS.names()) < set(MODELS)
    used = {key for keys in (*MODELS.values(), *LIBRARIES.values()) for key in keys}
    used |= {key for _, keys in PROCESSES.values() for key in keys} | set(PSEUDOPOTENTIAL_MAKERS.values())
    used |= {key for keys in FUNCTIONALS.values() for key in keys}
    used |= {key for name in OWN_ENGINES for key in get_engine(name).references}
    assert used <= set(REFERENCES)


def test_no_reference_is_listed_twice_or_never_cited():
    for field in ('title', 'doi', 'eprint'):
        values = [reference.fields[field].lower() for reference in REFERENCES.values() if field in reference.fields]
        assert len(values) == len(set(values)), field
    source = Path(bibliography.__file__).read_text(encoding='utf-8')
    of_engines = {key for name in OWN_ENGINES for key in get_engine(name).references}
    assert [key for key in REFERENCES if key not in of_engines and f"'{key}'" not in source] == []


@pytest.mark.parametrize(
    ('engine', 'parameters', 'keys'),
    [
        (
            'siesta',
            {'xc_functional': 'GGA', 'xc_authors': 'PBE', 'k_grid': [2, 2, 2]},
            ('siesta2002', 'siesta2020', 'perdew1996', 'monkhorst1976'),
        ),
        ('pyscf', {}, ('pyscf2018', 'pyscf2020', 'ceperley1980', 'perdew1981', 'goedecker1996', 'weigend2006')),
        ('ase', {'calculator': 'emt'}, ('ase2017', 'jacobsen1996')),
        ('ase', {'calculator': 'mace'}, ('ase2017', 'mace2022', 'macemp2024')),
    ],
)
def test_an_engine_cites_its_code_and_its_methods(engine, parameters, keys):
    assert engine_keys(engine, parameters, '1') == keys


def test_a_library_is_cited_with_its_version():
    found = build_bibliography(Participants(models=(('fast', {'tensorflow': '2.18', 'keras': '3.6'}),)))
    versions = {entry.reference.key: entry.version for entry in found.citations}
    assert versions == {
        **dict.fromkeys(('aiida2020', 'aiida2021', 'adam2015'), ''),
        'tensorflow2016': '2.18',
        'keras2015': '3.6',
    }


@pytest.mark.parametrize('name', OWN_ENGINES)
def test_every_protocol_of_an_engine_has_all_its_references(name):
    engine = get_engine(name)
    for protocol in engine.protocols():
        parameters = engine.parameters(protocol).model_dump()
        assert build_bibliography(Participants(labels=((name, parameters, '1'),))).missing == ()


@pytest.mark.parametrize('reference', REFERENCES.values(), ids=lambda reference: reference.key)
def test_entries_are_well_formed(reference):
    assert set(reference.fields) >= REQUIRED[reference.kind]
    assert all(isinstance(value, str) and value.strip() == value != '' for value in reference.fields.values())
    assert re.fullmatch(r'\d{4}', reference.fields.get('year', '2000'))
    entry = reference.bibtex('100 % of 2_a')
    assert entry.count('{') == entry.count('}')
    assert r'note = {100 \% of 2\_a}' in entry
    assert re.fullmatch(r'@\w+\{[a-z_0-9]+,\n(  \w+ = \{.*\},\n)+\}', entry)
    assert re.fullmatch(r'10\.\d{4}/\S+', reference.fields.get('doi', '10.1000/1'))
    assert reference.fields['author'].count(',') == reference.fields['author'].count(' and ') + 1 - (
        'others' in reference.fields['author'] or reference.fields['author'].startswith('{')
    )


def test_labels_of_siesta_cite_code_functional_and_pseudopotentials():
    parameters = {'xc_functional': 'LDA', 'xc_authors': 'CA', 'k_grid': None}
    found = build_bibliography(
        Participants(
            labels=(('siesta', parameters, '4.1.5'),),
            pseudopotential_heads={'C': ' C  ca nrl nc\n ATM3  Improved Troullier - Martins potential'},
        )
    )
    assert {entry.reference.key: entry.version for entry in found.citations} == {
        **dict.fromkeys(('aiida2020', 'aiida2021', 'ceperley1980', 'perdew1981', 'troullier1991'), ''),
        **dict.fromkeys(('siesta2002', 'siesta2020'), '4.1.5'),
    }
    assert 'note = {version 4.1.5; SIESTA}' in found.bibtex()
    assert found.missing == ()


def test_only_the_hamiltonian_that_took_part_is_cited():
    assert engine_keys('xtb', {'method': 'GFN1-xTB'}, '0.4') == ('tblite', 'grimme2017')
    assert engine_keys('xtb', {'method': 'GFN2-xTB'}, '0.4') == ('tblite', 'bannwarth2019')


def test_a_potential_of_a_package_has_the_version_not_ase():
    found = build_bibliography(Participants(labels=(('ase', {'calculator': 'chgnet'}, '0.4.0'),)))
    versions = {entry.reference.key: entry.version for entry in found.citations}
    assert (versions['ase2017'], versions['chgnet2023']) == ('', '0.4.0')


def test_what_nobody_knows_is_named():
    found = build_bibliography(
        Participants(
            labels=(('paced', {}, '2'), ('siesta', {'xc_functional': 'GGA', 'xc_authors': 'XYZ'}, '5')),
            models=(('oracle', {}),),
            pseudopotential_heads={'Si (MD5 0)': 'homemade'},
        )
    )
    assert found.missing == (
        'the engine paced 2',
        'the functional GGA/XYZ of SIESTA',
        'the pseudopotential of Si (MD5 0)',
        'the model oracle',
    )
    assert found.bibtex().startswith('% no reference is known for the engine paced 2')


def test_methods_are_cited_by_what_was_done():
    found = build_bibliography(
        Participants(
            models=(('forest', {'scikit-learn': '1.5', 'numpy': '2.0'}),),
            processes=('analyse_scan', 'RmatrixCalculation'),
            corrected=True,
            quasirandom=True,
            density_of_states=True,
        )
    )
    keys = {entry.reference.key for entry in found.citations}
    assert keys >= {'breiman2001', 'scikitlearn2011', 'numpy2020', 'birch1947', 'wulf1998', 'buttle1967'}
    assert keys >= {'ramakrishnan2015', 'zunger1990', 'methfessel1989'}
    assert 'tensorflow2016' not in keys
