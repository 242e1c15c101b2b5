"""Families of pseudopotentials for the programs of engines: our own, and any that was made with aiida-pseudo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiida import orm
from aiida_pseudo.data.pseudo import PsfData, PsmlData, Psp8Data, UpfData
from aiida_pseudo.data.pseudo.pseudo import PseudoPotentialData
from aiida_pseudo.groups.family.pseudo import PseudoPotentialFamily

from aiida_nanoml.engines.base import Engine
from aiida_nanoml.engines.pseudopotentials import FORMATS, bundled, check_pseudopotential
from aiida_nanoml.errors import EngineError, EvaluationError

NODE_TYPES: dict[str, type[PseudoPotentialData]] = {
    'psf': PsfData,
    'psml': PsmlData,
    'upf': UpfData,
    'psp8': Psp8Data,
}
"""Type of a node by the format of its file."""

OWN_FAMILIES = {
    'psf': 'nanoml-tm-lda-ca',
    'upf': 'nanoml-tm-lda-ca-upf',
    'psp8': 'nanoml-tm-lda-ca-psp8',
}
"""Label by format of the families that this package ships."""

_INSTALL = {
    'psf': '`aiida-nanoml pseudos install`',
    'upf': '`aiida-nanoml pseudos install --format upf`',
    'psp8': '`aiida-nanoml pseudos install --format psp8`',
}

DESCRIPTION = 'Troullier-Martins pseudopotentials, LDA (Ceperley-Alder), of aiida-nanoml'


def install_family(file_format: str = 'psf', label: str | None = None) -> tuple[PseudoPotentialFamily, bool]:
    """Make the family of the pseudopotentials that this package ships in one format, or complete it.

    :param file_format: a key of :data:`OWN_FAMILIES`.
    :param label: label of the family; None: that of :data:`OWN_FAMILIES`.
    :returns: the family, and whether a pseudopotential was added.
    :raises EngineError: a family of this label holds other pseudopotentials.
    """
    label = OWN_FAMILIES[file_format] if label is None else label
    make = NODE_TYPES[file_format].get_or_create
    shipped = {element: make(path) for element, path in sorted(bundled(file_format).items())}
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


def format_of(pseudo: PseudoPotentialData) -> str:
    """Return the format of a pseudopotential's file, for example ``upf``."""
    return str(type(pseudo).get_entry_point_name()).removeprefix('pseudo.')


def find_families(formats: Sequence[str] = FORMATS) -> list[PseudoPotentialFamily]:
    """Return the families whose files all have one of some formats, by label."""
    return [family for family in _families() if _is_readable(family, formats)]


def load_family(label: str, formats: Sequence[str] = FORMATS) -> PseudoPotentialFamily:
    """Load a family of files in one of some formats.

    :param label: its label.
    :param formats: those that the program reads.
    :raises EngineError: there is none, or it holds other files.
    """
    families = _families(label)
    if not families:
        known = ', '.join(family.label for family in find_families(formats)) or 'none'
        raise EngineError(
            f'there is no family of pseudopotentials {label!r}; there are: {known}. {_how_to_install(formats)}'
        )
    for family in families:
        if _is_readable(family, formats):
            return family
    kinds = sorted({type(pseudo).__name__ for pseudo in families[0].pseudos.values()}) or ['nothing']
    raise EngineError(f'the family {label!r} holds {", ".join(kinds)}; wanted are files in {" or ".join(formats)}')


def default_family(formats: Sequence[str]) -> PseudoPotentialFamily:
    """Return our own family if it is installed, else the only one of these formats.

    :param formats: those that the program reads.
    :raises EngineError: there is none, or there are several.
    """
    families = find_families(formats)
    ours = {OWN_FAMILIES[known] for known in formats if known in OWN_FAMILIES}
    own = [family for family in families if family.label in ours]
    if own:
        return own[0]
    if len(families) == 1:
        return families[0]
    if not families:
        raise EngineError(
            f'no pseudopotentials in the format {" or ".join(formats)} are installed. {_how_to_install(formats)}'
        )
    labels = ', '.join(family.label for family in families)
    raise EngineError(f'there are several families of pseudopotentials, choose one with --pseudo-family: {labels}')


def family_pseudos(
    label: str | None, elements: Iterable[str], formats: Sequence[str] = FORMATS
) -> dict[str, PseudoPotentialData]:
    """Return the pseudopotentials of some elements in a family.

    :param label: label of the family; None: the default one of these formats.
    :param elements: chemical symbols.
    :param formats: those that the program reads.
    :returns: node by element.
    :raises EngineError: there is no such family, it lacks an element, or it holds files of another format.
    """
    family = default_family(formats) if label is None else load_family(label, formats)
    wanted = sorted(set(elements))
    missing = [element for element in wanted if element not in family.pseudos]
    if missing:
        raise EngineError(
            f'the family {family.label!r} has no pseudopotential of {", ".join(missing)}; it has: '
            f'{", ".join(sorted(family.pseudos))}'
        )
    return {element: family.pseudos[element] for element in wanted}


def find_by_md5(md5s: Mapping[str, str]) -> dict[str, PseudoPotentialData]:
    """Return stored pseudopotentials by element, as far as there are any.

    :param md5s: MD5 of the file of each element.
    """
    if not md5s:
        return {}
    query = orm.QueryBuilder().append(PseudoPotentialData, filters={'attributes.md5': {'in': list(md5s.values())}})
    nodes = {(node.element, node.md5): node for node in query.all(flat=True)}
    return {element: nodes[element, md5] for element, md5 in md5s.items() if (element, md5) in nodes}


def program_inputs(
    engine: type[Engine], engine_code: orm.InstalledCode | None, pseudo_family: str | None, elements: Iterable[str]
) -> dict[str, Any]:
    """Return the inputs of a labelling job that belong to the program of an engine.

    :param engine: what is to be labelled with.
    :param engine_code: the program; None: the engine runs none.
    :param pseudo_family: label of the family of pseudopotentials; None: the default one.
    :param elements: chemical symbols that the structures hold.
    :returns: ``engine_code`` and ``pseudos``, as far as the engine takes them.
    :raises EngineError: there is no such family, it lacks an element, or it holds files that the program does not
        read; or a family is given to an engine that takes no files.
    """
    formats = engine.pseudopotential_formats
    if pseudo_family is not None and not formats:
        raise EngineError(f'the engine {engine.name} takes no pseudopotential files: leave out the family')
    if engine_code is None:
        return {}
    if not formats:
        return {'engine_code': engine_code}
    return {'engine_code': engine_code, 'pseudos': family_pseudos(pseudo_family, elements, formats)}


def validate_pseudos(pseudos: Mapping[str, PseudoPotentialData], elements: Iterable[str], engine: Engine) -> str | None:
    """Check that the pseudopotentials are there, and fit the elements, the program and the functional.

    :param pseudos: node by element.
    :param elements: chemical symbols that the structures hold.
    :param engine: with the parameters of the labels.
    :returns: what is wrong, None if nothing is.
    """
    formats = engine.pseudopotential_formats
    if not formats:
        return f'the engine {engine.name} takes no pseudopotential files: leave out pseudos' if pseudos else None
    missing = sorted(set(elements) - set(pseudos))
    if missing:
        return f'no pseudopotential for {", ".join(missing)}: name a family that has them (--pseudo-family)'
    for element, pseudo in pseudos.items():
        if pseudo.element != element:
            return f'the pseudopotential {pseudo.filename} of {element} is one of {pseudo.element}'
        if format_of(pseudo) not in formats:
            return (
                f'the pseudopotential {pseudo.filename} is in the format {format_of(pseudo)}, the engine '
                f'{engine.name} reads {" or ".join(formats)}'
            )
        content = pseudo.get_content(mode='rb').decode('utf-8', errors='replace')
        try:
            check_pseudopotential(content, element, formats, engine.functional, pseudo.filename)
        except EvaluationError as error:
            return error.message
    return None


def _how_to_install(formats: Sequence[str]) -> str:
    own = next((_INSTALL[known] for known in formats if known in _INSTALL), '')
    ours = f'Ours is installed by {own}, others' if own else 'One is installed'
    others = ' or '.join(f'pseudo.{known}' for known in formats)
    return f'{ours} by `aiida-pseudo install family FOLDER LABEL -P {others}`'


def _families(label: str | None = None) -> list[PseudoPotentialFamily]:
    filters = {} if label is None else {'label': label}
    families = orm.QueryBuilder().append(PseudoPotentialFamily, filters=filters).all(flat=True)
    return sorted(families, key=lambda family: str(family.label))


def _is_readable(family: PseudoPotentialFamily, formats: Sequence[str]) -> bool:
    pseudos = family.pseudos.values()
    return bool(pseudos) and all(format_of(pseudo) in formats for pseudo in pseudos)
