"""The interface of caller authentication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eksgateway.model import Caller


class Identity(Protocol):
    """Authenticates the caller of an RPC by its credentials."""

    async def identify(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> Caller:
        """The authenticated caller. ``authorization`` is every value of that metadata key. ``certificate`` is
        the client certificate (PEM leaf) that the TLS handshake verified, if the listener requests one.

        Raises CredentialsMissing, CredentialsInvalid, CredentialsExpired or IdentityUnavailable.
        """

    def recall_caller_id(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> str | None:
        """The caller's id if these credentials were authenticated before. Verifies no signature: a hint
        for queueing, never an authentication.
        """
