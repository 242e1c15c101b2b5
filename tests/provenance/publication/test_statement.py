"""The data statement: true, and the same in Markdown and LaTeX."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiida_nanoml.provenance.lineage import trace
from aiida_nanoml.provenance.publication import LICENCES, Person
from aiida_nanoml.provenance.publication.bibliography import Participants, build_bibliography
from aiida_nanoml.provenance.publication.facts import Facts
from aiida_nanoml.provenance.publication.latex import escape
from aiida_nanoml.provenance.publication.statement import Sentence, latex, markdown, sentences


@pytest.fixture
def texts(published):
    """Statement and bibliography as they were written."""
    return {
        name: (published.folder / name).read_text(encoding='utf-8')
        for name in ('DATA_STATEMENT.md', 'data_statement.tex', 'references.bib')
    }


def test_everything_that_decides_about_a_number_is_told(texts):
    text = texts['DATA_STATEMENT.md']
    for part in (
        'All labels come from density-functional theory: 12 structures of LDA-CA/DZP (SIESTA) 4.1.5 / paper_50%',
        'Labels of 12 structures were computed in 2 runs with LDA-CA/DZP (SIESTA), version 4.1.5, protocol paper_50%',
        'xc_functional = LDA, xc_authors = CA, basis_size = DZP, mesh_cutoff_ry = 150.0',
        f'C {"c" * 32}, H {"0" * 32}',
        '12 structures were generated',
        '7 of generate_flake_set, 0 of split_dataset (default, not given)',
        'are predictions of a model, not results of an electronic-structure calculation',
        'aiida-core ',
        '[@siesta2002; @siesta2020; @ceperley1980; @perdew1981]',
    ):
        assert part in text


def test_latex_says_the_same_and_cites_what_is_there(texts):
    tex, bib = texts['data_statement.tex'], texts['references.bib']
    assert r'protocol paper\_50\%' in tex
    cited = {key for keys in re.findall(r'\\cite\{([^}]*)\}', tex) for key in keys.split(',')}
    told = ' '.join(re.findall(r'\[(@[^]]*)\]', texts['DATA_STATEMENT.md']))
    assert cited == set(re.findall(r'@(\w+)', told))
    assert cited <= set(re.findall(r'^@\w+\{(\w+),', bib, re.MULTILINE))


def test_tight_binding_is_said_to_be_no_dft(labels_node, dataset):
    facts = Facts(
        title='Gaps',
        authors=(Person('Ada'),),
        licence=LICENCES['CC0-1.0'],
        published='2026-01-01',
        nodes=((dataset.uuid, 'nanoml.dataset', ''),),
        lineage=trace(dataset),
        core_versions=('2.9.4',),
        plugin_versions=(),
        left_out=('2 structures of the data set: repeated',),
        persons={'ada@example.org': 'Ada'},
        audits=(),
    )
    told = [sentence.text for sentence in sentences(facts, build_bibliography(Participants()))]
    assert told[1].startswith('This data set has no provenance to DFT, because ')
    assert any('(tight binding)' in text for text in told)
    assert 'Left out: 2 structures of the data set: repeated' in told
    assert not any('density-functional theory' in text for text in told)


def test_sentences_end_and_cite():
    told = (Sentence('One & two', ('a', 'b')), Sentence('Three'))
    assert markdown('T', told) == '# Data statement: T\n\nOne & two [@a; @b]. Three.\n'
    assert latex(told).splitlines()[1:] == [r'One \& two~\cite{a,b}.', 'Three.']


@given(st.text(alphabet='aZ1 \\{}$&#_%~^<>|"ÅΔ×²é'))
def test_no_special_character_is_left(text):
    plain = escape(text, braces=True)
    commands = r'\\textbackslash\{\}|\\text\w+\{\}|\\AA\{\}|\$\\times\$|\$\\Delta\$|\$\^2\$|\\[&%$#_{}]'
    assert not re.search(r'[\\{}$&#_%~^<>|"ÅΔ×²]', re.sub(commands, '', plain))


def test_braces_stay_what_they_are_in_bibtex():
    assert escape('{A_B}') == r'{A\_B}'
    assert escape('{A_B}', braces=True) == r'\{A\_B\}'
