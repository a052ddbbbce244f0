"""Page tokens: stateless, and bound to the caller and filter of their list.

They are not signed: a forged token shows nothing new, because every row is authorized again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from typing import Any, Final

from eksgateway.rpc.request_fields import FieldViolations

_MAX_LENGTH: Final = 49_152  # fits into a request; EKS's tokens, which are inside, have no documented bound


def encode(position: str, *bound_to: str) -> str:
    """Empty for no position."""
    if not position:
        return ""
    raw = json.dumps([1, _digest(bound_to), position]).encode()
    return base64.urlsafe_b64encode(raw).decode()


def decode(violations: FieldViolations, token: str, *bound_to: str) -> str:
    """Adds a violation if the token is not of this caller and filter."""
    if not token:
        return ""
    content: Any = None
    with suppress(ValueError, RecursionError):  # not ASCII, not base64, not UTF-8, not JSON
        if len(token) <= _MAX_LENGTH:
            content = json.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    match content:
        case [1, digest, str(position)] if digest == _digest(bound_to):
            return position
    violations.add("page_token", "is not a page token of this caller and filter: start again without one")
    return ""


def _digest(bound_to: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(bound_to).encode()).hexdigest()[:16]
