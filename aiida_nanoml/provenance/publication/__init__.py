"""From a node to a folder for a data repository: archive, description, statement, references, tables, figures."""

from aiida_nanoml.provenance.publication.facts import LICENCES, Person
from aiida_nanoml.provenance.publication.folder import Publication, publish

__all__ = ['LICENCES', 'Person', 'Publication', 'publish']
