"""The interface of caller authentication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eksgateway.model import Caller


class Identity(Protocol):
    async def identify(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> Caller:
        """``authorization`` is every value of that metadata key. ``certificate`` is the client's (PEM leaf),
        which the TLS handshake verified.

        Raises CredentialsMissing, CredentialsInvalid, CredentialsExpired or IdentityUnavailable.
        """

    def recall_caller_id(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> str | None:
        """The caller's id if these credentials were authenticated before. Only a hint for queueing."""
