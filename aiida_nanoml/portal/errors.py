"""What a portal refuses, with the reason."""

from __future__ import annotations

from aiida_nanoml.errors import NanomlError


class PortalError(NanomlError):
    """A request to the portal, its configuration or its database cannot be used."""
