"""Publication of a node as a folder for a data repository: archive, RO-Crate, statement, references, tables."""

from aiida_nanoml.provenance.publication.facts import LICENCES, Person
from aiida_nanoml.provenance.publication.folder import AuditFailedError, Publication, publish

__all__ = ['LICENCES', 'AuditFailedError', 'Person', 'Publication', 'publish']
