"""Reads access key, region and account from a SigV4 header, without verifying the signature.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from eksgateway.model import Target

_HEADER: Final = re.compile(
    r"^AWS4-HMAC-SHA256 Credential=(?P<key>[^/,\s]+)/[0-9]{8}"
    r"/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request,"
    r"\s*SignedHeaders=[^,]+,\s*Signature=[0-9a-f]{64}$"
)
_KEY_WITH_ACCOUNT: Final = re.compile(r"^A[KS]IA([0-9]{12})$")


class SignatureError(Exception):
    """``code`` is AWS's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Signer:
    access_key: str
    target: Target


class Accounts:
    """The accounts of access keys: the registered one, that of ``AKIA`` or ``ASIA`` followed by its twelve
    digits (``AKIA444455556666``), or the default.
    """

    def __init__(self, default: str) -> None:
        self.default = default
        self._registered: dict[str, str] = {}

    def register(self, access_key: str, account_id: str) -> None:
        self._registered[access_key] = account_id

    def account(self, access_key: str) -> str:
        if access_key in self._registered:
            return self._registered[access_key]
        match = _KEY_WITH_ACCOUNT.match(access_key)
        return match[1] if match else self.default

    def authenticate(self, authorization: str | None) -> Signer:
        """Raises SignatureError."""
        if not authorization:
            raise SignatureError("MissingAuthenticationTokenException", "Missing Authentication Token")
        match = _HEADER.match(authorization)
        if match is None:
            raise SignatureError(
                "IncompleteSignatureException", "The Authorization header is not an AWS Signature V4."
            )
        if match["service"] != "eks":
            message = "Credential should be scoped to correct service: 'eks'."
            raise SignatureError("InvalidSignatureException", message)
        return Signer(match["key"], Target(self.account(match["key"]), match["region"]))
