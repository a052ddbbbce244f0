"""When a right is asked about again and when it is stale, without a loop or a policy."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest

from eksgateway.errors import PolicyUnavailable
from eksgateway.model import Action, Caller, Claim, ClusterRef, UpdateRef
from eksgateway.policy.question import Question
from eksgateway.rights.schedule import ALLOW_GOOD_FOR_S, REAUTHORIZE_AFTER_S, RETRY_UNDECIDED_S, Schedule

REF = UpdateRef(ClusterRef("111122223333", "us-east-1", "prod"), "update-1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALLER = Caller("jwt", "jwt:corp:ann", "corp", (), None, NOW)
QUESTION = Question(CALLER, Action.WATCH, REF.cluster, "/s/WatchUpdate", "decision-1", NOW)


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(Random(1))


def test_join_shares_the_right_of_an_equal_question(schedule: Schedule) -> None:
    """Tokens that differ only in their expiry share it; a watch that joins does not move the next time."""
    first = schedule.allow_watch(REF, QUESTION, 1000)
    due = first.due
    later = replace(QUESTION, caller=replace(CALLER, expires_at=None), decision_id="decision-2")
    assert schedule.allow_watch(REF, later, 1100) is first
    assert (first.due, first.allowed_at) == (due, 1100)
    assert schedule.allow_watch(REF, replace(QUESTION, method="/s/Other"), 1100) is not first
    assert len(schedule.rights) == 2


def test_tokens_with_other_claims_have_other_rights(schedule: Schedule) -> None:
    """A stream goes on by the claims of its own token."""
    main, branch = (replace(CALLER, claims=(Claim("ref", (ref,)),)) for ref in ("main", "branch"))
    rights = [
        schedule.allow_watch(REF, replace(QUESTION, caller=who), 1000) for who in (main, branch, main, CALLER)
    ]
    assert rights[0] is rights[2]
    assert len(schedule.rights) == 3


def test_forgotten_right_is_not_shared(schedule: Schedule) -> None:
    first = schedule.allow_watch(REF, QUESTION, 1000)
    schedule.forget(first)
    second = schedule.allow_watch(REF, QUESTION, 1000)
    assert second is not first
    schedule.forget(first)
    assert schedule.rights == (second,)


def test_allow_is_repeated_within_the_period(schedule: Schedule) -> None:
    """Measured from when the question was asked."""
    right = schedule.allow_watch(REF, QUESTION, 1000)
    right.due = math.inf
    schedule.allow(right, QUESTION, 1200)
    assert REAUTHORIZE_AFTER_S[0] <= right.due - 1200 <= REAUTHORIZE_AFTER_S[1]


def test_right_without_a_decision_is_retried_until_it_is_stale(schedule: Schedule) -> None:
    right = schedule.allow_watch(REF, QUESTION, 1000)
    schedule.retry(right, PolicyUnavailable(), 1200)
    assert RETRY_UNDECIDED_S[0] <= right.due - 1200 <= RETRY_UNDECIDED_S[1]
    assert right.failure is not None
    assert not schedule.has_run_out(right, 1000 + ALLOW_GOOD_FOR_S - 1)
    assert schedule.has_run_out(right, 1000 + ALLOW_GOOD_FOR_S)
    schedule.allow(right, QUESTION, 1290)
    assert right.failure is None
    assert not schedule.has_run_out(right, 1000 + ALLOW_GOOD_FOR_S)
