"""What a referee would object to: findings in the graph behind a node, by severity."""

from aiida_nanoml.provenance.audit.findings import Finding, Outcome, Place, Row
from aiida_nanoml.provenance.audit.report import CHECKS, Audit, audit

__all__ = ['CHECKS', 'Audit', 'Finding', 'Outcome', 'Place', 'Row', 'audit']
