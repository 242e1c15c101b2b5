"""Readers and writers of files of structures."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_nanoml.errors import StructureError
from aiida_nanoml.structures.compressed import is_compressed, unpack
from aiida_nanoml.structures.file_checks import check_announced, check_definite, name_unknown_element
from aiida_nanoml.structures.mol_files import MOL_SUFFIXES, read_mol
from aiida_nanoml.structures.stated import PDB_SUFFIXES, XYZ_SUFFIXES, Stated, check_places, stated_of
from aiida_nanoml.structures.structure_set import StructureSet

if TYPE_CHECKING:
    from ase import Atoms

_TEXTS = re.compile(r"""(?:^|\s)(name|family)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"']+))""")
"""Name and family in the comment of a frame of extended XYZ."""


def read_structures(path: Path | str, index: str | int = ':') -> StructureSet:
    """Read the structures of a file in any format that ASE knows.

    The name of a structure is that stored in the file (extended XYZ: ``name``); otherwise it is the file's stem, with
    the number of the structure if there are several. A ``family`` is read where it is stored.

    :param path: the file, also compressed (``.gz``, ``.xz``, ``.bz2``); the format follows from the content and the
        suffix.
    :param index: which structures of the file: ASE's index, for example ``':'``, ``'-1'``, ``'0:100'``.
    :raises StructureError: if there is no such file, it cannot be read, or a structure cannot be used: ghost atoms,
        shared or partly filled sites, a net charge or a spin state, which a set cannot keep.
    """
    path = Path(path)
    if not path.is_file():
        raise StructureError(f'there is no file {path}')
    if is_compressed(path):
        return _read_unpacked(path, index)
    check_announced(path)
    atoms, said = _read(path, index)
    if not atoms:
        raise StructureError(f'{path} has no structures at the index {index!r}')
    numbered = [path.stem] if len(atoms) == 1 else [f'{path.stem}-{row:04d}' for row in range(len(atoms))]
    names = [str(part.info.get('name', default)) for part, default in zip(atoms, numbered, strict=True)]
    families = [str(part.info.get('family', '')) for part in atoms]
    for row, (part, stated) in enumerate(zip(atoms, said, strict=True)):
        try:
            check_definite(part, stated)
        except StructureError as error:
            raise StructureError(f'{path}: structure {row} ({names[row]}): {error}') from error
    try:
        return StructureSet.from_ase(atoms, names, families)
    except StructureError as error:
        raise StructureError(f'{path}: {error}') from error


def _read_unpacked(path: Path, index: str | int) -> StructureSet:
    """Read a compressed file from an unpacked copy: the checks of its content and the readers need the plain one."""
    content = unpack(path)
    with tempfile.TemporaryDirectory(prefix='nanoml-') as folder:
        plain = Path(folder) / path.stem
        plain.write_bytes(content)
        try:
            return read_structures(plain, index)
        except StructureError as error:
            raise StructureError(str(error).replace(str(plain), str(path))) from error


def _read(path: Path, index: str | int) -> tuple[list[Atoms], list[Stated]]:
    """Read atoms with ASE, and what it leaves out of them: net charges and spins that are stated."""
    from ase import Atoms
    from ase.io import read

    try:
        if path.suffix.lower() in MOL_SUFFIXES:
            found, charges = read_mol(path.read_text(encoding='utf-8', errors='replace'), index)
            return found, [Stated(charge) for charge in charges]
        if path.suffix.lower() in XYZ_SUFFIXES:
            found = read(str(path), index=index, format='extxyz', properties_parser=_read_comment)
        else:
            found = read(str(path), index=index)
            if path.suffix.lower() == '.cif':
                check_places(path)
    except StructureError as error:
        raise StructureError(f'{path}: {error}') from error
    except KeyError as error:
        symbol = str(error.args[0]) if error.args else ''
        raise StructureError(f'{path}: {name_unknown_element(path, symbol)}') from error
    except Exception as error:  # the readers of ASE raise whatever the malformed file makes them stumble upon
        raise StructureError(
            f'{path} cannot be read as structures ({type(error).__name__}: {error}); check the content, the suffix and '
            f'the index {index!r}'
        ) from error
    atoms = [found] if isinstance(found, Atoms) else list(found)
    for part in atoms:
        if path.suffix.lower() in PDB_SUFFIXES and (part.cell.lengths() == 1).all():
            part.cell, part.pbc = np.zeros((3, 3)), False  # how files of molecules say that there is no crystal
    return atoms, stated_of(path, len(atoms), index)


def _read_comment(line: str) -> dict[str, Any]:
    """Read the comment of a frame; names stay texts, where ASE reads ``007`` and ``1e5`` as numbers."""
    from ase.io.extxyz import key_val_str_to_dict

    found: dict[str, Any] = key_val_str_to_dict(line)
    for key, double, single, plain in _TEXTS.findall(line):
        if key in found and not isinstance(found[key], str):
            found[key] = double or single or plain
    return found


def write_structures(structures: StructureSet, path: Path | str) -> None:
    """Write structures to a file.

    Extended XYZ (``.xyz``, ``.extxyz``) keeps everything: names, families, cells, periodicity, and coordinates to the
    last bit, so that the content hashes survive. Other suffixes are written by ASE, with what the format can hold.

    :param structures: at least one structure.
    :param path: the file; its suffix decides about the format.
    :raises StructureError: if there is nothing to write, the format is unknown, or the file cannot be written.
    """
    path = Path(path)
    if not len(structures):
        raise StructureError(f'there is no structure to write to {path}')
    try:
        if path.suffix in ('.xyz', '.extxyz'):
            path.write_text(''.join(_extended_xyz(structures)), encoding='utf-8')
        else:
            from ase.io import write

            write(str(path), structures.to_ase())
    except Exception as error:  # the writers of ASE raise whatever a format cannot hold
        raise StructureError(
            f'structures cannot be written to {path} ({type(error).__name__}: {error}); '
            'extended XYZ (.extxyz) holds any set'
        ) from error


def _extended_xyz(structures: StructureSet) -> list[str]:
    """Format as extended XYZ with the digits that give back every number exactly; ASE's writer keeps only 8."""
    frames = []
    for row, part in enumerate(structures):
        comment = []
        if part.cell.any():
            comment.append(f'Lattice="{" ".join(map(repr, part.cell.ravel().tolist()))}"')
        comment.append('Properties=species:S:1:pos:R:3')
        for key, text in (('name', structures.names[row]), ('family', structures.families[row])):
            if text:
                comment.append(f'{key}={_quote(str(text))}')
        comment.append(f'pbc="{" ".join("FT"[periodic] for periodic in part.pbc.tolist())}"')
        atoms = zip(part.symbols, part.positions.tolist(), strict=True)
        lines = [f'{symbol} {x!r} {y!r} {z!r}' for symbol, (x, y, z) in atoms]
        frames.append('\n'.join([str(len(part)), ' '.join(comment), *lines, '']))
    return frames


def _quote(text: str) -> str:
    """Quote a text for the comment line; as JSON where a reader would take it for a number, a truth value or a list."""
    from ase.io.extxyz import key_val_str_to_dict

    plain = f'"{text}"'
    try:
        kept = key_val_str_to_dict(f'key={plain}').get('key')
    except (ValueError, IndexError):
        kept = None
    if isinstance(kept, str) and kept == text and text.isprintable():
        return plain
    escaped = json.dumps(text).replace('\\', '\\\\').replace('"', '\\"')
    return f'"_JSON {escaped}"'
