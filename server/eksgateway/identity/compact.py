"""A bearer value taken apart strictly, and trusted not at all: nothing here proves anything.

Follows RFC 6750 §2.1 (Bearer), RFC 7515 §4 and §7.1 (compact JWS) and RFC 9068 §2.1 (`typ`).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eksgateway import strict_json
from eksgateway.errors import CredentialsMissing
from eksgateway.identity.refusal import invalid

# A signature is mandatory in the grammar already, so `alg: none` has no form here.
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TYPES = frozenset({"jwt", "at+jwt", "jose"})


@dataclass(frozen=True, slots=True)
class Compact:
    """A well-formed compact JWS. ``kid`` is None when the header names no key; ``signature`` is over
    ``signed``.
    """

    signed: bytes
    signature: bytes = field(repr=False)
    algorithm: str
    kid: str | None
    claims: dict[str, Any]


def bearer(authorization: Sequence[str | bytes]) -> str:
    """The one compact JWS in the values of ``authorization``, by its form alone. The interceptor ``limits``
    has bounded its size.
    """
    if not authorization:
        raise CredentialsMissing
    if len(authorization) != 1:
        raise invalid("form", "Send exactly one `authorization` value.")
    value = authorization[0]
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not _BEARER.fullmatch(text):
        raise invalid("form", "The `authorization` value must be `Bearer` and a signed JWT in compact form.")
    return text.partition(" ")[2]


def parse(text: str) -> Compact:
    """Take a compact JWS apart; keys that its header brings or points to (`jwk`, `jku`, …) are never read."""
    signed, _, signature_part = text.rpartition(".")
    header_part, _, claims_part = signed.partition(".")
    header = _json_object(header_part, "header")
    # Critical extensions must be understood or refused (RFC 7515 §4.1.11), and none is understood.
    if "crit" in header:
        raise invalid("crit", "The token's header has critical extensions; none is supported.")
    if header.get("b64") is False:  # the signature would be over something else (RFC 7797)
        raise invalid("signature", "The token's signature does not verify.")
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise invalid("kid", "The token's `kid` is not a string.")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise invalid("alg", "The token's `alg` is missing or not a string.")
    _check_type(header.get("typ"))
    signature = _decoded(signature_part, "signature")
    return Compact(signed.encode(), signature, algorithm, kid, _json_object(claims_part, "payload"))


def _check_type(typ: Any) -> None:
    """A media type, whose `application/` may be left out (RFC 7515 §4.1.9). JOSE is any compact JWS."""
    if typ is None:
        return
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES:
        raise invalid("typ", "The token's `typ` is none of JWT, at+jwt and JOSE.")


def _decoded(part: str, what: str) -> bytes:
    """Only the one spelling without padding and stray bits is taken, so that a token has one text."""
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as exc:
        raise invalid("form", f"The token's {what} is not base64url.") from exc
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        raise invalid("form", f"The token's {what} is not base64url.")
    return raw


def _json_object(part: str, what: str) -> dict[str, Any]:
    try:
        # Strictly: two parsers that pick different members see different tokens. A date that is too large
        # for a float is for the check of dates to refuse.
        value = strict_json.loads(_decoded(part, what), parse_float=float)
    except ValueError as exc:
        raise invalid("form", f"The token's {what} is not base64url-encoded JSON.") from exc
    if not isinstance(value, dict):
        raise invalid("form", f"The token's {what} is not a JSON object.")
    return value
