"""Audit of a node: what a referee would object to, found in its provenance, by severity."""

from aiida_nanoml.provenance.audit.findings import Finding, Outcome, Place, Row
from aiida_nanoml.provenance.audit.report import CHECKS, Audit, audit

__all__ = ['CHECKS', 'Audit', 'Finding', 'Outcome', 'Place', 'Row', 'audit']
