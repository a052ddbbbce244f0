"""Who calls, as far as a SigV4 header says: access key, region, and so the account.

The signature itself is not verified: a simulation has no secrets.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from eksgateway.model import Target

_HEADER = re.compile(
    r"^AWS4-HMAC-SHA256 Credential=(?P<key>[^/,\s]+)/[0-9]{8}"
    r"/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request,"
    r"\s*SignedHeaders=[^,]+,\s*Signature=[0-9a-f]{64}$"
)
_SPEAKING_KEY = re.compile(r"^A[KS]IA([0-9]{12})$")


class NotSigned(Exception):
    """The request is not signed as AWS wants it; ``code`` is AWS's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key, and the account and region it speaks to."""

    access_key: str
    target: Target


class Accounts:
    """Which account an access key belongs to.

    In this order: what was registered; ``AKIA`` or ``ASIA`` and an account's twelve digits
    (``AKIA444455556666``) is that account; every other key belongs to the default account.
    """

    def __init__(self, default: str) -> None:
        self.default = default
        self._registered: dict[str, str] = {}

    def register(self, access_key: str, account_id: str) -> None:
        self._registered[access_key] = account_id

    def account(self, access_key: str) -> str:
        if access_key in self._registered:
            return self._registered[access_key]
        speaking = _SPEAKING_KEY.match(access_key)
        return speaking[1] if speaking else self.default

    def authenticate(self, authorization: str | None) -> Credentials:
        """Whoever signed. Raises NotSigned."""
        if not authorization:
            raise NotSigned("MissingAuthenticationTokenException", "Missing Authentication Token")
        match = _HEADER.match(authorization)
        if match is None:
            raise NotSigned(
                "IncompleteSignatureException", "The Authorization header is not an AWS Signature V4."
            )
        if match["service"] != "eks":
            message = "Credential should be scoped to correct service: 'eks'."
            raise NotSigned("InvalidSignatureException", message)
        return Credentials(match["key"], Target(self.account(match["key"]), match["region"]))
