"""Where a client is in its line of streams, as an opaque token it can come back with, anywhere, any time.

Stateless and unsigned: a forged one misleads its forger alone, and proves nothing.

A client that comes back is told nothing of the state that its token tells of, and of another one
only if that is sure to be newer: it is final, or EKS was asked for it after the client came back
(``Poller`` looks again for that). So neither clocks, of which two replicas have two, nor what a
token claims can lead back to an older state; and a step back that EKS itself makes, from
Cancelling to InProgress when a cancellation fails, is told like any other.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass

from eksgateway.errors import ResumeTokenInvalid
from eksgateway.model import UpdateRef
from eksgateway.watch.state import WatchState

_VERSION = 1
_LAYOUT = struct.Struct(">B16sQ16s?")  # version, the update's name, sequence, the state, FINAL
LENGTH = 4 * _LAYOUT.size // 3  # in base64, without padding: the size is a multiple of 3
_LARGEST_SEQUENCE = 2**53  # every client's numbers hold it, and int64 the next one


@dataclass(frozen=True, slots=True)
class ResumePosition:
    """The event that a client got last: its sequence, its state's digest, and whether it was FINAL."""

    sequence: int
    digest: bytes
    final: bool = False

    def tells_of(self, state: WatchState) -> bool:
        """Whether its client has this state already."""
        return state.digest == self.digest


def encode(ref: UpdateRef, position: ResumePosition) -> str:
    """The token, of ``LENGTH`` characters that need no escaping anywhere."""
    raw = _LAYOUT.pack(_VERSION, _name(ref), position.sequence, position.digest, position.final)
    return base64.urlsafe_b64encode(raw).decode()


def decode(token: str, ref: UpdateRef) -> ResumePosition:
    """Where the token's client is. Raises ResumeTokenInvalid for any text that is no token of this update."""
    if len(token) != LENGTH:
        raise ResumeTokenInvalid
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        version, name, sequence, digest, final = _LAYOUT.unpack(raw)
    except (ValueError, struct.error):  # not ASCII, not base64, too short
        raise ResumeTokenInvalid from None
    if version != _VERSION or name != _name(ref) or not 1 <= sequence <= _LARGEST_SEQUENCE:
        raise ResumeTokenInvalid
    return ResumePosition(sequence, digest, final)


def _name(ref: UpdateRef) -> bytes:
    """Bounded, however long the names are."""
    return hashlib.sha256(str(ref).encode()).digest()[:16]
