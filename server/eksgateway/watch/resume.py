"""Where a client is in its line of streams, as an opaque token it can come back with, anywhere, any time.

Stateless and unsigned: a forged one misleads its forger alone, and proves nothing. A client that
comes back is told the first state that differs from the one its token tells of and is sure to be
newer:

1. It is final: nothing comes after that.
2. Or the call that saw it began after the client came back. Then it is the truth whatever any
   clock says, also at a lower rank: EKS goes back from Cancelling to InProgress when a
   cancellation fails.
3. Or it was seen no earlier than the token's observe time, and its rank is not lower. The two
   times may be those of two replicas, whose clocks differ, so alone they prove no step back.

Otherwise it waits for the next look at EKS, after which 2 holds: a token can claim what it wants.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from eksgateway import phases
from eksgateway.errors import ResumeTokenInvalid
from eksgateway.model import UpdateRef
from eksgateway.watch.state import State

_VERSION = 1
# Version, digest of the update's name, sequence, digest of the state, rank, FINAL, microseconds.
_LAYOUT = struct.Struct(">B16sQ16sB?q")
LENGTH = 4 * _LAYOUT.size // 3  # in base64, and without padding: the size is a multiple of 3
_LARGEST_SEQUENCE = 2**53  # every client's numbers hold it, and there is always a next one
_HIGHEST_RANK = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Position:
    """The event that a client got last: its sequence, its state's digest and rank, and when EKS was
    last seen. ``final``: it was FINAL.
    """

    sequence: int
    digest: bytes
    rank: int
    observe_time: datetime
    final: bool = False

    def tells_of(self, state: State) -> bool:
        """Whether its client has this state already."""
        return state.digest == self.digest

    def precedes(self, state: State, *, asked_since: bool) -> bool:
        """Whether a state is sure to be newer. ``asked_since``: EKS was, after the client came back."""
        if state.final or asked_since:
            return True
        return state.observe_time >= self.observe_time and phases.rank(state.update) >= self.rank


def encode(ref: UpdateRef, position: Position) -> str:
    """The token, of ``LENGTH`` characters that need no escaping anywhere."""
    raw = _LAYOUT.pack(
        _VERSION,
        _name(ref),
        position.sequence,
        position.digest,
        position.rank,
        position.final,
        (position.observe_time - _EPOCH) // _MICROSECOND,
    )
    return base64.urlsafe_b64encode(raw).decode()


def decode(token: str, ref: UpdateRef) -> Position:
    """Where the token's client is. Raises ResumeTokenInvalid for any text that is no token of this update."""
    if len(token) != LENGTH:
        raise ResumeTokenInvalid
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        version, name, sequence, digest, rank, final, microseconds = _LAYOUT.unpack(raw)
        observe_time = _EPOCH + microseconds * _MICROSECOND
    except (ValueError, struct.error, OverflowError):  # not ASCII, not base64, too short, no such time
        raise ResumeTokenInvalid from None
    known = version == _VERSION and rank <= _HIGHEST_RANK and 1 <= sequence <= _LARGEST_SEQUENCE
    if not known or name != _name(ref):
        raise ResumeTokenInvalid
    return Position(sequence, digest, rank, observe_time, final)


def _name(ref: UpdateRef) -> bytes:
    """Bounded, however long the names are."""
    return hashlib.sha256(str(ref).encode()).digest()[:16]
