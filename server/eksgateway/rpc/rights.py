"""What open watches go on by: a question that the policy answered with yes, shared by all that asked it."""

from __future__ import annotations

import asyncio
import math
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
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
    """An open watch. Its credentials end at ``expires_at``, and at ``until`` (monotonic) at the latest,
    so that a wall clock that is set back prolongs nothing.
    """

    slot: Slot
    decision_id: str
    expires_at: datetime | None
    until: float

    def expired(self, now: datetime, mono: float) -> bool:
        return mono >= self.until or (self.expires_at is not None and now >= self.expires_at)


@dataclass(slots=True, eq=False)
class Right:
    """A question, its last yes, and the streams that go on by it; over when there are none left."""

    key: Key
    question: Question  # with the facts that it was asked with last
    decided: float
    due: float  # when to ask again; never while it is being asked
    streams: dict[Stream, None] = field(default_factory=dict)
    asking: asyncio.Task[None] | None = None
    failure: GatewayError | None = None  # why it could not be decided, since the last yes

    def allowed(self, question: Question, when: float) -> None:
        """Take note of a yes."""
        self.question, self.decided, self.failure = question, when, None

    def expire(self, now: datetime, mono: float) -> float:
        """End the streams whose credentials have expired; when the next of the others do (monotonic)."""
        following = math.inf
        for stream in tuple(self.streams):
            if stream.expired(now, mono):
                stream.slot.revoke(CredentialsExpired())
                del self.streams[stream]
            else:
                following = min(following, stream.until)
        return following

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
