"""What proves who calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eksgateway.model import Caller


class Identity(Protocol):
    """Turns the credentials of one call into a Caller."""

    async def identify(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> Caller:
        """The caller, from all values of the ``authorization`` metadata key and from the leaf (PEM) of the
        client certificate that the connection's handshake verified, if its listener asks for one.

        Raises CredentialsMissing, CredentialsInvalid, CredentialsExpired or IdentityUnavailable.
        """

    def known(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> str | None:
        """The id of the caller that these credentials have proved before, if it is remembered: a hint for
        queueing calls, found without checking a signature. It admits to nothing.
        """
