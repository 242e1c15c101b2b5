"""Install the pseudopotentials of this package as a family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aiida_nanoml.actions.base import Action, Result, Step, step
from aiida_nanoml.actions.fields import option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_pseudo.groups.family.pseudo import PseudoPotentialFamily


class InstallPseudos(Action):
    """Install our Troullier-Martins pseudopotentials (LDA) of H B C N Al Cr Fe Co Ni as a family.

    The format is psf for SIESTA, upf for Quantum ESPRESSO, psp8 for ABINIT.
    """

    action: ClassVar[str] = 'install_pseudos'
    command: ClassVar[tuple[str, ...]] = ('pseudos', 'install')
    example: ClassVar[str] = 'aiida-nanoml pseudos install'

    format: Literal['psf', 'upf', 'psp8'] = option('psf', 'Format of the files.')
    label: str | None = option(None, 'Label of the family.', shown='nanoml-tm-lda-ca, with the format if not psf')

    def perform(self, session: Session) -> Result:
        """Install the family unless it exists."""
        from aiida_nanoml.calculations.pseudopotentials import install_family

        return InstalledFamily(*install_family(self.format, self.label))


@dataclass(frozen=True)
class InstalledFamily(Result):
    """A family of pseudopotentials.

    :param family: the family.
    :param added: whether it was made now.
    """

    family: PseudoPotentialFamily
    added: bool

    def to_dict(self) -> dict[str, Any]:
        """Return family, elements and MD5 of each file."""
        return family_record(self.family) | {'status': 'installed' if self.added else 'present'}

    def lines(self) -> dict[str, object]:
        """Return family and elements."""
        found = '' if self.added else ', existed already'
        return {
            'family': f'{self.family.label} (pk {self.family.pk}, uuid {self.family.uuid}){found}',
            'elements': ' '.join(family_record(self.family)['elements']),
        }

    def next_step(self) -> Step:
        """List all families."""
        return step('list_pseudos')


def family_record(family: PseudoPotentialFamily) -> dict[str, Any]:
    """Return what a family holds, in types of JSON."""
    from aiida_nanoml.calculations.pseudopotentials import format_of

    nodes = dict(sorted(family.pseudos.items()))
    formats = sorted({format_of(node) for node in nodes.values()})
    return {
        'uuid': family.uuid,
        'pk': family.pk,
        'type': 'pseudo.family',
        'label': family.label,
        'format': '+'.join(formats),
        'elements': list(nodes),
        'md5': {element: node.md5 for element, node in nodes.items()},
    }
