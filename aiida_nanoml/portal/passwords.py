"""Passwords: argon2id, and the same time for names that do not exist.

Source of the method and of its parameters: RFC 9106, section 4, the second recommended option.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from aiida_nanoml.portal.errors import PortalError

SHORTEST, LONGEST = 12, 256
"""Characters of a password."""


def check_password(password: str) -> None:
    """Check that a password is long enough to be kept.

    :raises PortalError: it is not, or it is longer than anybody types.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise PortalError(f'a password has {SHORTEST} to {LONGEST} characters')


def new_password() -> str:
    """Return a password that nobody can guess."""
    return secrets.token_urlsafe(15)


@dataclass(frozen=True)
class Hasher:
    """Argon2id.

    :param memory_kib: memory of one hash.
    :param passes: over the memory.
    :param lanes: parts of the memory that can be filled side by side.
    """

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    def hash(self, password: str) -> str:
        """Return what is kept of a password, with its salt and parameters."""
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        function = Argon2id(
            salt=secrets.token_bytes(16),
            length=32,
            iterations=self.passes,
            lanes=self.lanes,
            memory_cost=self.memory_kib,
        )
        return function.derive_phc_encoded(password.encode())

    def verify(self, password: str, kept: str) -> bool:
        """Return whether a password is the one of which this was kept; an empty text is that of none.

        It takes the same time where nothing was kept.
        """
        from cryptography.exceptions import InvalidKey
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        if not kept:
            self.hash(password)
            return False
        try:
            Argon2id.verify_phc_encoded(password.encode(), kept)
        except InvalidKey:
            return False
        return True
