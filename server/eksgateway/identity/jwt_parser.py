"""Parses a bearer token strictly, without verifying it: RFC 6750 §2.1, RFC 7515 §4 and §7.1, RFC 9068 §2.1.

PyJWT's ``decode`` accepts JSON with repeated names or NaN, base64url with padding, any `typ`, `crit: ["b64"]`
and times as strings, and it compares times with the system clock.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from eksgateway import strict_json
from eksgateway.errors import CredentialsMissing
from eksgateway.identity.invalid_credentials import invalid_credentials

# The signature must not be empty, so an unsigned token (`alg: none`) does not match.
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TYPES: Final = frozenset({"jwt", "at+jwt", "jose"})


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """``signature`` is over ``signed``."""

    signed: bytes
    signature: bytes = field(repr=False)
    algorithm: str
    kid: str | None
    payload: dict[str, Any]


def read_bearer_token(authorization: Sequence[str | bytes]) -> str:
    """The token in the metadata. Raises CredentialsMissing or CredentialsInvalid."""
    if not authorization:
        raise CredentialsMissing
    if len(authorization) != 1:
        raise invalid_credentials("form", "Send exactly one `authorization` value.")
    value = authorization[0]
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not _BEARER.fullmatch(text):
        raise invalid_credentials(
            "form", "The `authorization` value must be `Bearer` and a signed JWT in compact form."
        )
    return text.partition(" ")[2]


def parse_jwt(text: str) -> UnverifiedToken:
    """Ignores keys in the token's header (`jwk`, `jku`, …). Raises CredentialsInvalid."""
    signed, _, signature_part = text.rpartition(".")
    header_part, _, payload_part = signed.partition(".")
    header = _decode_object(header_part, "header")
    # RFC 7515 §4.1.11: a verifier must understand every critical extension.
    if "crit" in header:
        raise invalid_credentials("crit", "The token's header has critical extensions; none is supported.")
    if header.get("b64") is False:  # the signature would be over an unencoded payload (RFC 7797)
        raise invalid_credentials("signature", "The token's signature does not verify.")
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise invalid_credentials("kid", "The token's `kid` is not a string.")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise invalid_credentials("alg", "The token's `alg` is missing or not a string.")
    _check_type(header.get("typ"))
    signature = _decode_base64url(signature_part, "signature")
    payload = _decode_object(payload_part, "payload")
    return UnverifiedToken(signed.encode(), signature, algorithm, kid, payload)


def _check_type(typ: Any) -> None:
    """A media type, whose prefix `application/` may be omitted (RFC 7515 §4.1.9)."""
    known = isinstance(typ, str) and typ.lower().removeprefix("application/") in _TYPES
    if typ is not None and not known:
        raise invalid_credentials("typ", "The token's `typ` is none of JWT, at+jwt and JOSE.")


def _decode_base64url(part: str, name: str) -> bytes:
    """Only the canonical encoding, so that each token has one spelling."""
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as exc:
        raise invalid_credentials("form", f"The token's {name} is not base64url.") from exc
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        raise invalid_credentials("form", f"The token's {name} is not base64url.")
    return raw


def _decode_object(part: str, name: str) -> dict[str, Any]:
    try:
        # A number too large for a float becomes infinite here and is refused as a time later.
        value = strict_json.loads(_decode_base64url(part, name), parse_float=float)
    except ValueError as exc:
        raise invalid_credentials("form", f"The token's {name} is not base64url-encoded JSON.") from exc
    if not isinstance(value, dict):
        raise invalid_credentials("form", f"The token's {name} is not a JSON object.")
    return value
