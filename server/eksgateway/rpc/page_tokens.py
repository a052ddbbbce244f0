"""Page tokens, bound to the caller and the filter they were made for; opaque, stateless, unsigned.

Forging one shows nothing that its forger may not see anyway: every row is authorised again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from eksgateway.rpc.request_fields import Fields

_LONGEST = 49_152  # a request has room for it; EKS's own tokens, which are inside, have no stated bound


def encode(position: str, *bound_to: str) -> str:
    """A token that continues at ``position``; empty when there is no position."""
    if not position:
        return ""
    raw = json.dumps([1, _digest(bound_to), position]).encode()
    return base64.urlsafe_b64encode(raw).decode()


def decode(checked: Fields, token: str, *bound_to: str) -> str:
    """The position in a token; a fault when it is not one for this caller and filter."""
    if not token:
        return ""
    match _read(token):
        case [1, digest, str(position)] if digest == _digest(bound_to):
            return position
    fault = "is not a page token of this caller and filter: start again without one"
    checked.faults["page_token"] = fault
    return ""


def _read(token: str) -> Any:
    if len(token) > _LONGEST:
        return None
    try:
        return json.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):  # not ASCII, not base64, not UTF-8, not JSON
        return None


def _digest(bound_to: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(bound_to).encode()).hexdigest()[:16]
