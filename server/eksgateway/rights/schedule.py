"""When open watches are asked about again, and when they end; pure.

A watch goes on by a right: a question that the policy allowed, shared by all watches that asked it.

    a watch opens ─► allowed ─► due ─► asking ─┬─ allow ───────► allowed
                                 ▲             ├─ no decision ─► undecided ──┐
                                 │             └─ denial ──────► denied      │
                                 └───────────────────────────────────────────┘

    allowed ─► due         after REAUTHORIZE_AFTER_S, or when the policy changes
    undecided ─► due       after RETRY_UNDECIDED_S, or when the policy changes
    asking ─► due          when the policy changes: the answer may be by the old policy
    denied                 every watch ends with the denial
    any, but for denied    ALLOW_GOOD_FOR_S after the last allow every watch ends with the reason
    any                    a watch whose credentials expire ends with CredentialsExpired
    any                    the right is forgotten when its last watch ends

``reauthorization`` drives it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, NamedTuple

from eksgateway.errors import CredentialsExpired, Denied, GatewayError, copy_error
from eksgateway.model import Caller, UpdateRef
from eksgateway.policy.question import Question
from eksgateway.watch.slot import Slot

REAUTHORIZE_AFTER_S: Final = (120.0, 240.0)  # after an allow; drawn, so that many are not due at once
RETRY_UNDECIDED_S: Final = (2.0, 4.0)  # after the policy could not decide
ALLOW_GOOD_FOR_S: Final = 300.0  # a watch ends so long after its last allow


class RightKey(NamedTuple):
    """Equal for watches that share a right."""

    caller: Caller  # without its expiry
    ref: UpdateRef
    method: str


@dataclass(slots=True, eq=False)
class OpenWatch:
    """A watch that goes on by a right, until it is left as a context.

    Its credentials expire at ``expires_at`` (POSIX) or ``expires_mono`` (monotonic), whichever comes first: a
    wall clock that is set back prolongs nothing. Both are infinite without an expiry.
    """

    slot: Slot
    decision_id: str
    expires_at: float
    expires_mono: float
    right: Right
    forget: Callable[[Right], None]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.right.watches.pop(self, None)
        if not self.right.watches:
            self.forget(self.right)


@dataclass(slots=True, eq=False)
class Right:
    """An allowed question and its watches; none expires before ``expires_at`` and ``expires_mono``."""

    key: RightKey
    question: Question  # with the facts it was last allowed with
    allowed_at: float
    due: float  # when to ask again; infinite while asking
    watches: dict[OpenWatch, None] = field(default_factory=dict)  # an ordered set
    expires_at: float = math.inf
    expires_mono: float = math.inf
    failure: GatewayError | None = None  # why the policy did not decide, since the last allow

    def allow(self, question: Question, mono: float) -> None:
        self.question, self.allowed_at, self.failure = question, mono, None

    def join(self, watch: OpenWatch) -> None:
        self.watches[watch] = None
        self.expires_at = min(self.expires_at, watch.expires_at)
        self.expires_mono = min(self.expires_mono, watch.expires_mono)

    def end_expired(self, now: float, mono: float) -> None:
        if now < self.expires_at and mono < self.expires_mono:
            return
        watches, self.watches = self.watches, {}
        self.expires_at = self.expires_mono = math.inf
        for watch in watches:
            if now < watch.expires_at and mono < watch.expires_mono:
                self.join(watch)
            else:
                watch.slot.revoke(CredentialsExpired())

    def end(self, error: GatewayError) -> None:
        """End every watch; a denial carries the decision id that the watch's caller knows."""
        for watch in self.watches:
            own = copy_error(error)
            if isinstance(error, Denied):
                own.metadata["decision_id"] = watch.decision_id
            watch.slot.revoke(own)
        self.watches.clear()

    @property
    def log_values(self) -> dict[str, object]:
        return {
            "caller": self.key.caller.id,
            "update": str(self.key.ref),
            "decision_id": self.question.decision_id,  # of the last allow
            "streams": len(self.watches),
        }


class Schedule:
    """All rights of open watches. Times are monotonic."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._rights: dict[RightKey, Right] = {}

    @property
    def rights(self) -> tuple[Right, ...]:
        return tuple(self._rights.values())

    def allow_watch(self, ref: UpdateRef, question: Question, now: float) -> Right:
        """Equal questions share a right."""
        key = RightKey(replace(question.caller, expires_at=None), ref, question.method)
        right = self._rights.get(key)
        if right is None:
            right = self._rights[key] = Right(key, question, now, self._after(now, REAUTHORIZE_AFTER_S))
        right.allow(question, now)
        return right

    def allow(self, right: Right, question: Question, asked_at: float) -> None:
        right.allow(question, asked_at)
        right.due = self._after(asked_at, REAUTHORIZE_AFTER_S)

    def retry(self, right: Right, failure: GatewayError, now: float) -> None:
        right.failure = failure
        right.due = self._after(now, RETRY_UNDECIDED_S)

    def has_run_out(self, right: Right, now: float) -> bool:
        return now >= right.allowed_at + ALLOW_GOOD_FOR_S

    def forget(self, right: Right) -> None:
        """Let no further watch share this right."""
        if self._rights.get(right.key) is right:
            del self._rights[right.key]

    def _after(self, now: float, seconds: tuple[float, float]) -> float:
        return now + self._random.uniform(*seconds)
