"""What open watches go on by: a question that the policy answered with yes, shared by all that asked it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from eksgateway.errors import CredentialsExpired, Denied, GatewayError
from eksgateway.model import Caller, UpdateRef
from eksgateway.policy.question import Question
from eksgateway.watch.slot import Slot


class Key(NamedTuple):
    """What makes two questions equal; the facts are those of the update."""

    caller: Caller  # without its expiry
    ref: UpdateRef
    method: str

    @classmethod
    def of(cls, ref: UpdateRef, question: Question) -> Key:
        return cls(replace(question.caller, expires_at=None), ref, question.method)


@dataclass(slots=True, eq=False)
class Stream:
    """An open watch. Its credentials end at ``expires_at`` (POSIX time), and at ``until`` (monotonic) at
    the latest, so that a wall clock that is set back prolongs nothing; infinite without an end.
    When it is left, its right is given up with the last stream that goes on by it.
    """

    slot: Slot
    decision_id: str
    expires_at: float
    until: float
    right: Right
    give_up: Callable[[Right], None]

    def __enter__(self) -> None:
        """It has begun already."""

    def __exit__(self, *_: object) -> None:
        self.right.streams.pop(self, None)
        if not self.right.streams:
            self.give_up(self.right)


@dataclass(slots=True, eq=False)
class Right:
    """A question, its last yes, and the streams that go on by it; over when there are none left.

    ``expires_at`` and ``until`` are no later than the earliest of its streams.
    """

    key: Key
    question: Question  # with the facts that it was asked with last
    decided: float
    due: float  # when to ask again; never while it is being asked
    streams: dict[Stream, None] = field(default_factory=dict)
    expires_at: float = math.inf
    until: float = math.inf
    asking: asyncio.Task[None] | None = None
    failure: GatewayError | None = None  # why it could not be decided, since the last yes

    def allowed(self, question: Question, when: float) -> None:
        """Take note of a yes."""
        self.question, self.decided, self.failure = question, when, None

    def join(self, stream: Stream) -> None:
        self.streams[stream] = None
        self.expires_at = min(self.expires_at, stream.expires_at)
        self.until = min(self.until, stream.until)

    def expire(self, now: float, mono: float) -> None:
        """End the streams whose credentials have expired."""
        if now < self.expires_at and mono < self.until:
            return
        streams, self.streams = self.streams, {}
        self.expires_at = self.until = math.inf
        for stream in streams:
            if now < stream.expires_at and mono < stream.until:
                self.join(stream)
            else:
                stream.slot.revoke(CredentialsExpired())

    def end(self, error: GatewayError) -> None:
        """End every stream. A denial names to each the decision id that its caller knows."""
        for stream in self.streams:
            own = copy(error)
            if isinstance(error, Denied):
                own.metadata = error.metadata | {"decision_id": stream.decision_id}
            stream.slot.revoke(own)
        self.streams.clear()

    @property
    def about(self) -> dict[str, object]:
        """For the log; ``decision_id`` is the one that the policy was asked under."""
        return {
            "caller": self.key.caller.id,
            "update": str(self.key.ref),
            "decision_id": self.question.decision_id,
            "streams": len(self.streams),
        }
