"""Resume tokens: where a client is in a watch. Any replica accepts one at any time.

They are stateless and unsigned: a forged one misleads only the client that forged it.

A client that resumes gets no state older than its own (``WatcherSet``), whatever the clocks of two
replicas show.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from eksgateway.errors import ResumeTokenInvalid
from eksgateway.model import UpdateRef
from eksgateway.watch.slot import WatchState

_VERSION: Final = 1
_LAYOUT: Final = struct.Struct(">B16sQ16s?")  # version, hash of the update's name, then the position
TOKEN_LENGTH: Final = 4 * _LAYOUT.size // 3  # in base64, without padding: the size is a multiple of 3
_MAX_SEQUENCE: Final = 2**53  # exact in every client's numbers; the next one fits into int64


@dataclass(frozen=True, slots=True)
class ResumePosition:
    """The last event that a client got."""

    sequence: int
    digest: bytes
    final: bool = False

    def matches(self, state: WatchState) -> bool:
        return state.digest == self.digest


def encode(ref: UpdateRef, position: ResumePosition) -> str:
    """Return ``TOKEN_LENGTH`` characters that need no escaping in JSON, URLs or shells."""
    raw = _LAYOUT.pack(_VERSION, _name_hash(ref), position.sequence, position.digest, position.final)
    return base64.urlsafe_b64encode(raw).decode()


def decode(token: str, ref: UpdateRef) -> ResumePosition:
    """Raises ResumeTokenInvalid for any text that is no token of this update."""
    if len(token) != TOKEN_LENGTH:
        raise ResumeTokenInvalid
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        version, name, sequence, digest, final = _LAYOUT.unpack(raw)
    except (ValueError, struct.error):  # not ASCII, not base64, too short
        raise ResumeTokenInvalid from None
    if version != _VERSION or name != _name_hash(ref) or not 1 <= sequence <= _MAX_SEQUENCE:
        raise ResumeTokenInvalid
    return ResumePosition(sequence, digest, final)


def _name_hash(ref: UpdateRef) -> bytes:
    return hashlib.sha256(str(ref).encode()).digest()[:16]
