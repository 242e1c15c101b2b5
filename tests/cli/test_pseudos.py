"""``aiida-nanoml pseudos``, and families of the user's own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from aiida import orm
from aiida_pseudo.data.pseudo import PsfData, PsmlData, UpfData
from aiida_pseudo.groups.family import PseudoPotentialFamily

from aiida_nanoml.calculations.pseudopotentials import default_family, family_pseudos, install_family
from aiida_nanoml.engines.pseudopotentials import bundled, digest
from aiida_nanoml.errors import EngineError

OF_SIESTA = ('psf', 'psml')
ELEMENTS = ['Al', 'B', 'C', 'Co', 'Cr', 'Fe', 'H', 'N', 'Ni']
PSML = '<psml version="1.1" uuid="{uuid}"><pseudo-atom-spec atomic-label="{element}" z-pseudo="4.0"/></psml>'


def make_family(folder: Path, label: str, kind: type, **contents: str) -> PseudoPotentialFamily:
    folder.mkdir()
    for name, content in contents.items():
        (folder / name.replace('_', '.')).write_text(content, encoding='utf-8')
    return PseudoPotentialFamily.create_from_folder(folder, label, pseudo_type=kind)


def test_our_family_is_installed_once(aiida_profile_clean, cli_json, cli):
    first = cli_json('pseudos', 'install')
    assert (first['label'], first['status'], first['elements']) == ('nanoml-tm-lda-ca', 'installed', ELEMENTS)
    assert first['md5']['C'] == hashlib.md5(bundled()['C'].read_bytes(), usedforsecurity=False).hexdigest()
    second = cli_json('pseudos', 'install')
    assert (second['status'], second['uuid']) == ('present', first['uuid'])
    assert orm.QueryBuilder().append(PsfData).count() == len(ELEMENTS)
    assert 'H N Ni' in cli('pseudos', 'list').stdout


def test_an_interrupted_installation_is_completed(aiida_profile_clean, cli_json):
    family, _ = install_family()
    family.remove_nodes([family.get_pseudo('C'), family.get_pseudo('H')])
    repaired = cli_json('pseudos', 'install')
    assert (repaired['status'], repaired['elements']) == ('installed', ELEMENTS)
    assert repaired['uuid'] == family.uuid


def test_another_family_of_our_label_is_left_alone(aiida_profile_clean, cli, tmp_path):
    other = bundled()['C'].read_text(encoding='utf-8').replace('1.49', '1.48')
    make_family(tmp_path / 'own', 'nanoml-tm-lda-ca', PsfData, C_psf=other)
    assert 'with other pseudopotentials of C' in cli('pseudos', 'install', status=1).output
    assert cli('pseudos', 'install', '--label', 'mine').stdout.startswith('family    mine')


def test_families_of_the_user_are_used(aiida_profile_clean, cli_json, tmp_path):
    make_family(tmp_path / 'psml', 'dojo', PsmlData, C_psml=PSML.format(uuid='a', element='C'))
    make_family(
        tmp_path / 'upf', 'for-others', UpfData, C_upf='<UPF version="2.0.1"><PP_HEADER element="C" z_valence="4.0"/>'
    )
    assert [(family['label'], family['format']) for family in cli_json('pseudos', 'list')['families']] == [
        ('dojo', 'psml'),
        ('for-others', 'upf'),
    ]
    assert isinstance(family_pseudos('dojo', ['C'])['C'], PsmlData)
    assert default_family(OF_SIESTA).label == 'dojo', 'the only one that fits'
    with pytest.raises(EngineError, match=r"'dojo' has no pseudopotential of B; it has: C"):
        family_pseudos('dojo', ['B', 'C'])
    with pytest.raises(EngineError, match='holds UpfData; wanted are files in psf or psml'):
        family_pseudos('for-others', ['C'], OF_SIESTA)
    with pytest.raises(EngineError, match="no family of pseudopotentials 'no'; there are: dojo"):
        family_pseudos('no', ['C'], OF_SIESTA)
    make_family(tmp_path / 'psml2', 'dojo-2', PsmlData, C_psml=PSML.format(uuid='b', element='C'))
    with pytest.raises(EngineError, match='choose one with --pseudo-family: dojo, dojo-2'):
        default_family(OF_SIESTA)
    install_family()
    assert default_family(OF_SIESTA).label == 'nanoml-tm-lda-ca'
    with pytest.raises(EngineError, match=r'psp8 are installed. Ours .* install --format psp8`'):
        default_family(['psp8'])


@pytest.mark.parametrize('file_format', ['upf', 'psp8'])
def test_our_files_in_other_formats(aiida_profile_clean, cli_json, file_format):
    """The files lie in the repository as they are, and each format has a default family of its own."""
    install_family()
    made = cli_json('pseudos', 'install', '--format', file_format)
    assert (made['label'], made['format']) == (f'nanoml-tm-lda-ca-{file_format}', file_format)
    assert made['md5'] == {element: digest(path) for element, path in bundled(file_format).items()}
    assert default_family([file_format]).uuid == made['uuid']
    assert default_family(OF_SIESTA).label == 'nanoml-tm-lda-ca'


def test_nothing_is_installed(aiida_profile_clean, cli):
    assert cli('pseudos', 'list').stdout.splitlines() == [
        'no family of pseudopotentials is installed',
        'next: aiida-nanoml pseudos install',
    ]
    with pytest.raises(EngineError, match='aiida-nanoml pseudos install'):
        default_family(OF_SIESTA)
