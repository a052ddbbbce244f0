"""What proves who calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eksgateway.model import Caller


class Identity(Protocol):
    """Turns the credentials of one call into a Caller."""

    async def identify(self, authorization: Sequence[str | bytes]) -> Caller:
        """The caller, from all values of the ``authorization`` metadata key.

        Raises CredentialsMissing, CredentialsInvalid, CredentialsExpired or IdentityUnavailable.
        """

    async def close(self) -> None:
        """Release connections."""
