"""When open watches are asked about again, and when they end; pure."""

from __future__ import annotations

from random import Random
from typing import Final

from eksgateway.errors import GatewayError
from eksgateway.model import UpdateRef
from eksgateway.policy.question import Question
from eksgateway.rights.right import Right, RightKey

REAUTHORIZE_AFTER_S: Final = (120.0, 240.0)  # after an allow; drawn, so that many are not due at once
RETRY_UNDECIDED_S: Final = (2.0, 4.0)  # after the policy could not decide
ALLOW_GOOD_FOR_S: Final = 300.0  # a watch ends so long after its last allow


class Schedule:
    """All rights of open watches. Times are monotonic."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._rights: dict[RightKey, Right] = {}

    @property
    def rights(self) -> tuple[Right, ...]:
        return tuple(self._rights.values())

    def allow_watch(self, ref: UpdateRef, question: Question, now: float) -> Right:
        """Return the right for a question that was just allowed, shared with equal questions."""
        key = RightKey.of(ref, question)
        right = self._rights.get(key)
        if right is None:
            right = self._rights[key] = Right(key, question, now, self._after(now, REAUTHORIZE_AFTER_S))
        right.allow(question, now)
        return right

    def allow(self, right: Right, question: Question, asked_at: float) -> None:
        right.allow(question, asked_at)
        right.due = self._after(asked_at, REAUTHORIZE_AFTER_S)

    def retry(self, right: Right, failure: GatewayError, now: float) -> None:
        """Ask again soon: the policy could not decide."""
        right.failure = failure
        right.due = self._after(now, RETRY_UNDECIDED_S)

    def is_stale(self, right: Right, now: float) -> bool:
        """Whether the last allow is too old to go on by."""
        return now >= right.allowed_at + ALLOW_GOOD_FOR_S

    def forget(self, right: Right) -> None:
        """Let no further watch share this right."""
        if self._rights.get(right.key) is right:
            del self._rights[right.key]

    def _after(self, now: float, seconds: tuple[float, float]) -> float:
        return now + self._random.uniform(*seconds)
