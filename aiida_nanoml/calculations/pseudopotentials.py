"""Families of pseudopotentials that SIESTA reads: our own, and any that was made with aiida-pseudo."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm
from aiida_pseudo.data.pseudo.psf import PsfData
from aiida_pseudo.data.pseudo.psml import PsmlData
from aiida_pseudo.groups.family.pseudo import PseudoPotentialFamily

from aiida_nanoml.engines.finished_runs import RunFolderError
from aiida_nanoml.engines.pseudopotentials import bundled
from aiida_nanoml.engines.siesta.folder import RunFolder
from aiida_nanoml.engines.siesta.identity import (
    PseudopotentialFile,
    UsedPseudopotential,
    disagreement,
    read_pseudopotential,
    used_pseudopotentials,
)
from aiida_nanoml.errors import EngineError, FailureCode
from aiida_nanoml.structures.elements import SYMBOLS

OWN_FAMILY = 'nanoml-tm-lda-ca'
"""Label of the family that this package ships."""

INSTALL = '`aiida-nanoml pseudos install`'
DESCRIPTION = 'Troullier-Martins pseudopotentials, LDA (Ceperley-Alder), of aiida-nanoml'

SiestaPseudopotential = PsfData | PsmlData


def install_family(label: str = OWN_FAMILY) -> tuple[PseudoPotentialFamily, bool]:
    """Make the family of the pseudopotentials that this package ships, or complete it.

    :param label: label of the family.
    :returns: the family, and whether a pseudopotential was added.
    :raises EngineError: a family of this label holds other pseudopotentials.
    """
    shipped = {element: PsfData.get_or_create(path) for element, path in sorted(bundled().items())}
    existing = _families(label)
    family = existing[0] if existing else PseudoPotentialFamily(label=label, description=DESCRIPTION).store()
    foreign = [
        element
        for element, pseudo in family.pseudos.items()
        if element not in shipped or pseudo.md5 != shipped[element].md5
    ]
    if foreign:
        raise EngineError(
            f'the family {label!r} exists, with other pseudopotentials of {", ".join(sorted(foreign))}: choose '
            'another label with --label'
        )
    missing = [pseudo.store() for element, pseudo in shipped.items() if element not in family.elements]
    if missing:
        family.add_nodes(missing)
    return family, bool(missing)


def siesta_families() -> list[PseudoPotentialFamily]:
    """Return the families that hold psf or psml files, by label."""
    return [family for family in _families() if _is_readable(family)]


def load_family(label: str) -> PseudoPotentialFamily:
    """Load a family of psf or psml files.

    :param label: its label.
    :raises EngineError: there is none, or it holds other files.
    """
    families = _families(label)
    if not families:
        known = ', '.join(family.label for family in siesta_families()) or 'none'
        raise EngineError(
            f'there is no family of pseudopotentials {label!r}; there are: {known}. Ours is installed by {INSTALL}, '
            'others by `aiida-pseudo install family FOLDER LABEL -P pseudo.psf` (or pseudo.psml)'
        )
    for family in families:
        if _is_readable(family):
            return family
    kinds = sorted({type(pseudo).__name__ for pseudo in families[0].pseudos.values()}) or ['nothing']
    raise EngineError(f'the family {label!r} holds {", ".join(kinds)}; SIESTA reads psf and psml files')


def default_family() -> PseudoPotentialFamily:
    """Return our own family if it is installed, else the only one that SIESTA can use.

    :raises EngineError: there is none, or there are several.
    """
    families = siesta_families()
    own = [family for family in families if family.label == OWN_FAMILY]
    if own:
        return own[0]
    if len(families) == 1:
        return families[0]
    if not families:
        raise EngineError(f'no pseudopotentials are installed: install ours with {INSTALL}')
    labels = ', '.join(family.label for family in families)
    raise EngineError(f'there are several families of pseudopotentials, choose one: {labels}')


def family_pseudos(label: str, elements: Iterable[str]) -> dict[str, SiestaPseudopotential]:
    """Return the pseudopotentials of some elements in a family.

    :param label: label of the family.
    :param elements: chemical symbols.
    :returns: node by element.
    :raises EngineError: there is no such family, it lacks an element, or it holds files that SIESTA does not read.
    """
    family = load_family(label)
    wanted = sorted(set(elements))
    missing = [element for element in wanted if element not in family.pseudos]
    if missing:
        raise EngineError(
            f'the family {label!r} has no pseudopotential of {", ".join(missing)}; it has: '
            f'{", ".join(sorted(family.pseudos))}'
        )
    return {element: family.pseudos[element] for element in wanted}


def program_inputs(
    engine_code: orm.InstalledCode | None, pseudo_family: str | None, elements: Iterable[str]
) -> dict[str, Any]:
    """Return the inputs of a labelling job that belong to the program of an engine.

    :param engine_code: the program; None: the engine runs none.
    :param pseudo_family: label of the family of pseudopotentials; None: the default one.
    :param elements: chemical symbols that the structures hold.
    :returns: ``engine_code`` and ``pseudos``, or nothing.
    :raises EngineError: there is no such family, it lacks an element, or it holds files that SIESTA does not read.
    """
    if engine_code is None:
        return {}
    family = pseudo_family or default_family().label
    return {'engine_code': engine_code, 'pseudos': family_pseudos(family, elements)}


def _families(label: str | None = None) -> list[PseudoPotentialFamily]:
    filters = {} if label is None else {'label': label}
    families = orm.QueryBuilder().append(PseudoPotentialFamily, filters=filters).all(flat=True)
    return sorted(families, key=lambda family: str(family.label))


def _is_readable(family: PseudoPotentialFamily) -> bool:
    pseudos = family.pseudos.values()
    return bool(pseudos) and all(isinstance(pseudo, PsfData | PsmlData) for pseudo in pseudos)


class PseudopotentialFinder:
    """Find the pseudopotentials of finished runs: beside the run, else in a family whose files fit the output.

    :param label: label of the family; None: our own, which is installed when a run needs it.
    :raises EngineError: there is no family of this label, or SIESTA cannot use it.
    """

    def __init__(self, label: str | None = None) -> None:
        self._chosen = None if label is None else load_family(label)
        self._files: dict[str, PseudopotentialFile] = {}
        self._nodes: dict[str, SiestaPseudopotential] = {}
        self._members: dict[str, tuple[SiestaPseudopotential, PseudopotentialFile]] = {}
        self._told: dict[int, tuple[str, str]] = {}

    def find(self, folder: RunFolder) -> tuple[dict[str, SiestaPseudopotential], str]:
        """Find the pseudopotentials of a run.

        :returns: node by element, stored or not, and where they come from: ``folder``, or the label of the family.
        :raises RunFolderError: ``'pseudopotential'``, one is not there, or is not the one that was used.
        """
        used = used_pseudopotentials(folder.read(folder.output) or '')
        found: dict[str, SiestaPseudopotential] = {}
        beside = folder.pseudopotentials
        for species, number in folder.species.items():
            element = SYMBOLS[number]
            known = used.get(species, UsedPseudopotential(species))
            if species in beside:
                node = self._find_in_folder(folder, beside[species], known)
            else:
                node = self._find_in_family(element, known)
            own, md5 = self._identity(node)
            if own != element:
                raise RunFolderError(
                    FailureCode.PSEUDOPOTENTIAL, f'{beside.get(species, species)} is of {own}, not of {element}'
                )
            if element in found and self._identity(found[element])[1] != md5:
                raise RunFolderError(
                    FailureCode.PSEUDOPOTENTIAL, f'the species of {element} have different pseudopotentials'
                )
            found[element] = node
        by_family = [species for species in folder.species if species not in beside]
        return found, str(self._family.label) if by_family else 'folder'

    def md5s(self, pseudos: Mapping[str, SiestaPseudopotential]) -> dict[str, str]:
        """Return the MD5 of nodes that were found here, by element."""
        return {element: self._identity(node)[1] for element, node in pseudos.items()}

    def _identity(self, node: SiestaPseudopotential) -> tuple[str, str]:
        """Return element and MD5 of a node; AiiDA asks the database for each attribute of a node that is stored."""
        if id(node) not in self._told:
            self._told[id(node)] = (node.element, node.md5)
        return self._told[id(node)]

    @property
    def _family(self) -> PseudoPotentialFamily:
        if self._chosen is None:
            self._chosen, _ = install_family()
        return self._chosen

    def _find_in_folder(self, folder: RunFolder, name: str, known: UsedPseudopotential) -> SiestaPseudopotential:
        content = (folder.read(name) or '').encode()
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        kind = PsmlData if name.endswith('.psml') else PsfData
        if md5 not in self._nodes:
            try:
                # First with our own reader, which is safe against files that are made to hang others.
                self._files[md5] = read_pseudopotential(content.decode(), name.rpartition('.')[2])
                self._nodes[md5] = kind.get_or_create(io.BytesIO(content), filename=name)
            except Exception as error:  # whatever the reader of the library stumbles upon
                raise RunFolderError(FailureCode.PSEUDOPOTENTIAL, f'{name} cannot be read: {error}') from error
        reason = disagreement(known, self._read_file(self._nodes[md5])) if known.is_known else None
        if reason is not None:
            raise RunFolderError(FailureCode.PSEUDOPOTENTIAL, f'{name} in the folder {reason}')
        return self._nodes[md5]

    def _find_in_family(self, element: str, known: UsedPseudopotential) -> SiestaPseudopotential:
        if element not in self._members:
            member = self._family.pseudos.get(element)
            if member is None:
                raise RunFolderError(
                    FailureCode.PSEUDOPOTENTIAL,
                    f'no pseudopotential of {element}: neither in the folder nor in the family {self._family.label!r}; '
                    f'copy {known.file or f"{known.species}.psf or {known.species}.psml"} into the folder, or choose '
                    'another family with --pseudo-family',
                )
            self._members[element] = (member, self._read_file(member))
        node, file = self._members[element]
        reason = disagreement(known, file)
        if reason is not None:
            raise RunFolderError(
                FailureCode.PSEUDOPOTENTIAL,
                f'{node.filename} of the family {self._family.label!r} {reason}; choose '
                'another family with --pseudo-family, or put the file into the folder',
            )
        return node

    def _read_file(self, node: SiestaPseudopotential) -> PseudopotentialFile:
        md5 = self._identity(node)[1]
        if md5 not in self._files:
            content = node.get_content(mode='rb').decode('utf-8', errors='replace')
            try:
                self._files[md5] = read_pseudopotential(content, 'psml' if isinstance(node, PsmlData) else 'psf')
            except EngineError as error:
                raise RunFolderError(FailureCode.PSEUDOPOTENTIAL, f'{node.filename} cannot be read: {error}') from error
        return self._files[md5]
