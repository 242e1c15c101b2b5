"""Pseudopotentials of finished SIESTA runs: beside the run, else in a family whose files fit the output."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping

from aiida_pseudo.data.pseudo import PsfData, PsmlData
from aiida_pseudo.groups.family.pseudo import PseudoPotentialFamily

from aiida_nanoml.calculations.pseudopotentials import install_family, load_family
from aiida_nanoml.engines.finished_runs import RunFolderError
from aiida_nanoml.engines.siesta.engine import SiestaEngine
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

SiestaPseudopotential = PsfData | PsmlData


class PseudopotentialFinder:
    """Find the pseudopotentials of finished runs: beside the run, else in a family whose files fit the output.

    :param label: label of the family; None: our own, which is installed when a run needs it.
    :raises EngineError: there is no family of this label, or SIESTA cannot use it.
    """

    def __init__(self, label: str | None = None) -> None:
        self._chosen = None if label is None else load_family(label, SiestaEngine.pseudopotential_formats)
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
            self._chosen, _ = install_family('psf')
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
