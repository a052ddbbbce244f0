"""Open watches are authorized again: when, how often, and with which results."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from eksgateway.errors import EksUnavailable, PolicyUnavailable, PolicyUndefined
from eksgateway.model import Decision, Obligation
from eksgateway.policy.question import Question
from eksgateway.rights.asker import AT_ONCE, SLOW_S
from eksgateway.rights.schedule import ALLOW_GOOD_FOR_S, REAUTHORIZE_AFTER_S
from eksgateway.watch.slot import WatchState
from support.clock import settle
from support.logs import capture_logs
from support.reauthorization import Stage, a_ref
from support.watching import START, an_update


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.close()


def of(who: str) -> str:
    return f"jwt:corp:{who}"


async def test_denial_after_a_change_ends_the_callers_watches_only(stage: Stage) -> None:
    """Each with the reasons and the decision id that its own caller knows."""
    anns = [stage.watch("ann"), stage.watch("ann")]
    ben = stage.watch("ben")
    await stage.clock.advance(10)
    assert stage.callers == []
    stage.policy.denies = lambda question: question.caller.id == of("ann")
    stage.policy.change("r2")
    await stage.clock.advance()
    for ann in anns:
        error = await ann.error()
        assert error is not None
        assert error.reason == "POLICY_DENIED"
        assert error.metadata["decision_id"] == ann.decision_id
        assert error.metadata["reasons"] == "Because."
    assert await ben.reason() == ""


async def test_unknown_obligation_ends_a_watch(stage: Stage) -> None:
    ann = stage.watch()
    stage.policy.obligations = (Obligation("mfa"),)
    stage.policy.change("r2")
    await stage.clock.advance()
    assert await ann.reason() == "POLICY_OBLIGATION_UNKNOWN"


async def test_denial_drops_the_unread_state(stage: Stage) -> None:
    """No state from before or after the denial is returned."""
    ann = stage.watch()
    ann.slot.put(WatchState(an_update(), None, START))
    stage.policy.denies = lambda _: True
    stage.policy.change("r2")
    await stage.clock.advance()
    ann.slot.put(WatchState(an_update("Successful"), None, START))
    assert await ann.reason() == "POLICY_DENIED"


async def test_equal_questions_are_asked_once(stage: Stage) -> None:
    """A thousand streams of one caller on one update share a question, whatever their tokens."""
    for number in range(1000):
        stage.watch("ann", lasts=3600 + number)
    stage.watch("ben")
    stage.watch("ann", 2)
    stage.watch("ann", method="/eksgateway.v1.UpdateService/CancelUpdateAndWatch")
    stage.policy.change("r2")
    await stage.clock.advance()
    assert Counter(stage.callers) == {"ann": 3, "ben": 1}
    stage.policy.change("r3")
    await stage.clock.advance()
    assert len(stage.callers) == 8


async def test_slow_decision_delays_no_other(stage: Stage) -> None:
    """The next change does not wait for it either."""
    slow, others = stage.watch("slow"), [stage.watch(f"caller-{number}") for number in range(3 * AT_ONCE)]
    never = asyncio.Event()

    async def before(question: Question) -> None:
        if question.caller.id == of("slow"):
            await never.wait()

    stage.policy.before, stage.policy.denies = before, lambda _: True
    stage.policy.change("r2")
    await stage.clock.advance()
    assert {await other.reason() for other in others} == {"POLICY_DENIED"}
    assert await slow.reason() == ""
    stage.policy.before = None
    stage.policy.change("r3")
    await stage.clock.advance()
    assert await slow.reason() == "POLICY_DENIED"


async def test_many_slow_decisions_delay_others_by_slow_s(stage: Stage) -> None:
    """Watches that have ended by then are not asked about."""
    for number in range(3 * AT_ONCE):
        stage.watch(f"slow-{number}")
    gone, others = stage.watch("gone"), [stage.watch(f"caller-{number}") for number in range(AT_ONCE)]
    never = asyncio.Event()

    async def before(question: Question) -> None:
        if "slow" in question.caller.id:
            await never.wait()

    stage.policy.before, stage.policy.denies = before, lambda _: True
    stage.policy.change("r2")
    await stage.clock.advance()
    assert len(stage.callers) == AT_ONCE
    gone.leave()
    async with asyncio.timeout(10 * SLOW_S):
        while len(stage.callers) < 4 * AT_ONCE:  # noqa: ASYNC110 - the slow are waited for in real time
            await asyncio.sleep(0.01)
    await settle()
    assert {await other.reason() for other in others} == {"POLICY_DENIED"}
    assert "gone" not in stage.callers


async def test_second_change_replaces_the_questions_of_the_first(stage: Stage) -> None:
    """Each is asked once, by the newest policy."""
    for number in range(3 * AT_ONCE):
        stage.watch(f"caller-{number}")
    never = asyncio.Event()

    async def before(_: Question) -> None:
        await never.wait()

    stage.policy.before = before
    stage.policy.change("r2")
    await stage.clock.advance()
    assert len(stage.callers) == AT_ONCE
    stage.policy.questions.clear()
    stage.policy.before = None
    stage.policy.change("r3")
    await stage.clock.advance()
    assert sorted(stage.callers) == sorted(f"caller-{number}" for number in range(3 * AT_ONCE))


async def test_facts_of_an_update_are_read_once_for_all_its_questions(stage: Stage) -> None:
    for number in range(30):
        stage.watch(f"caller-{number}", number % 2)
    stage.policy.change("r2")
    await stage.clock.advance()
    assert len(stage.callers) == 30
    assert stage.reads.read == 2


async def test_decision_that_never_ends_does_not_keep_its_watch(stage: Stage) -> None:
    """Nor does it count towards ``AT_ONCE`` for later questions."""
    for number in range(AT_ONCE):
        stage.watch(f"slow-{number}")
    never = asyncio.Event()

    async def before(question: Question) -> None:
        if "slow" in question.caller.id:
            await never.wait()

    stage.policy.before = before
    stage.policy.change("r2")
    await stage.clock.advance(ALLOW_GOOD_FOR_S)
    assert {await watch.reason() for watch in stage.watches} == {"POLICY_UNAVAILABLE"}
    late = stage.watch("ben")
    stage.policy.denies = lambda _: True
    stage.policy.change("r3")
    await stage.clock.advance()
    assert await late.reason() == "POLICY_DENIED"


async def test_at_most_at_once_questions_wait_for_the_policy(stage: Stage) -> None:
    """A change does not flood an OPA."""
    for number in range(3 * AT_ONCE):
        stage.watch(f"caller-{number}")
    most = inside = 0

    async def before(_: Question) -> None:
        nonlocal most, inside
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1

    stage.policy.before = before
    stage.policy.change("r2")
    await stage.clock.advance()
    assert len(stage.callers) == 3 * AT_ONCE
    assert 1 < most <= AT_ONCE


async def test_watch_ends_when_its_own_credentials_expire(stage: Stage) -> None:
    """Also among streams that share a question; without an expiry it goes on."""
    lasting = [stage.watch("ann", lasts=seconds) for seconds in (20.5, 90, None)]
    await stage.clock.advance(20.4)
    assert [await each.reason() for each in lasting] == ["", "", ""]
    await stage.clock.advance(0.1)
    assert [await each.reason() for each in lasting] == ["CREDENTIALS_EXPIRED", "", ""]
    await stage.clock.advance(69.5)
    assert [await each.reason() for each in lasting] == ["CREDENTIALS_EXPIRED", "CREDENTIALS_EXPIRED", ""]
    assert stage.callers == []


async def test_credentials_that_expire_within_a_tick_end_in_time(stage: Stage) -> None:
    stage.watch("ben")
    await stage.clock.advance(0.5)  # in the middle of a tick
    ann, gone = stage.watch("ann", lasts=0.2), stage.watch("carl", lasts=0)
    await stage.clock.advance(0.2)
    assert [await ann.reason(), await gone.reason()] == ["CREDENTIALS_EXPIRED"] * 2


@pytest.mark.parametrize(("jump", "goes_on"), [(3600, 1), (-86_400, 600)], ids=["forward", "back"])
async def test_wall_clock_that_is_set_prolongs_no_credentials(
    stage: Stage, jump: float, goes_on: float
) -> None:
    """Set forward they end within a second; set back they end when they would have."""
    ann = stage.watch("ann", lasts=600)
    await stage.clock.advance()
    stage.clock.jump(jump)
    await stage.clock.advance(goes_on)
    assert await ann.reason() == "CREDENTIALS_EXPIRED"


async def test_questions_are_asked_when_a_freeze_begins_and_ends(stage: Stage) -> None:
    """A watch that stays allowed goes on."""
    begins, ends = START + timedelta(seconds=20.5), START + timedelta(seconds=60)
    stage.policy.edges = [begins, ends]
    ann = stage.watch()
    await stage.clock.advance(20.4)
    assert stage.callers == []
    await stage.clock.advance(39.7)
    assert [question.time for question in stage.policy.questions] == [begins, ends]
    assert await ann.reason() == ""


@pytest.mark.parametrize("jump", [60, -60], ids=["forward", "back"])
async def test_wall_clock_set_past_a_freeze_edge_is_a_change(stage: Stage, jump: float) -> None:
    stage.policy.edges = [START + timedelta(seconds=jump / 2)]
    stage.watch()
    await stage.clock.advance(5)
    assert stage.callers == []
    stage.clock.jump(jump)
    await stage.clock.advance(1)
    assert stage.callers == ["ann"]


async def test_every_question_is_asked_again_within_the_period(stage: Stage) -> None:
    """Spread over time, also after a change when all were asked at once."""
    for number in range(200):
        stage.watch(f"caller-{number}")
    seconds = Counter[float]()

    async def before(_: Question) -> None:
        seconds[stage.clock.monotonic()] += 1

    stage.policy.before = before
    await stage.clock.advance(REAUTHORIZE_AFTER_S[0] - 1)
    assert stage.callers == []
    await stage.clock.advance(REAUTHORIZE_AFTER_S[1] - REAUTHORIZE_AFTER_S[0] + 2)
    assert set(Counter(stage.callers).values()) == {1}
    assert len(stage.callers) == 200
    assert max(seconds.values()) < 20
    stage.policy.change("r2")
    await stage.clock.advance()
    assert max(seconds.values()) == 200
    seconds.clear()
    await stage.clock.advance(REAUTHORIZE_AFTER_S[1] + 1)
    assert min(Counter(stage.callers).values()) >= 3
    assert max(seconds.values()) < 20


async def test_joining_a_right_does_not_postpone_its_question(stage: Stage) -> None:
    first = stage.watch("ann")
    for _ in range(30):
        await stage.clock.advance(REAUTHORIZE_AFTER_S[1] / 30 + 0.1)
        stage.watch("ann").leave()
    assert stage.callers == ["ann"]
    assert await first.reason() == ""


async def test_periodic_question_uses_newer_facts(stage: Stage) -> None:
    """They are shared reads, at most half a minute old."""
    ann = stage.watch()
    stage.policy.denies = lambda question: bool(question.facts and question.facts.tags)
    stage.reads.tags = {"environment": "production"}
    await stage.clock.advance(REAUTHORIZE_AFTER_S[1] + 1)
    assert await ann.reason() == "POLICY_DENIED"
    assert stage.reads.max_ages == {30}


@pytest.mark.parametrize("how", ["fails", "hangs", "has a bug"])
async def test_failing_eks_does_not_prevent_a_denial(stage: Stage, how: str) -> None:
    """The last known facts are used; an allowed watch goes on."""

    async def before() -> None:
        if how == "fails":
            raise EksUnavailable
        if how == "has a bug":
            raise RuntimeError
        await asyncio.Event().wait()

    stage.reads.before = before
    ann, ben = stage.watch("ann"), stage.watch("ben")
    stage.policy.denies = lambda question: question.caller.id == of("ann")
    stage.policy.change("r2")
    await stage.clock.advance()
    async with asyncio.timeout(60):
        while len(stage.callers) < 2:  # noqa: ASYNC110 - facts are waited for in real time
            await asyncio.sleep(0.01)
    await settle()
    assert [await ann.reason(), await ben.reason()] == ["POLICY_DENIED", ""]
    assert all(question.stage == "update" for question in stage.policy.questions)


@pytest.mark.parametrize("error", [PolicyUnavailable(), PolicyUndefined(), RuntimeError("canary")])
async def test_watch_without_decision_goes_on_for_five_minutes_after_its_last_allow(
    stage: Stage, error: Exception
) -> None:
    """Meanwhile it is asked about every few seconds."""
    ann = stage.watch()
    await stage.clock.advance(100)
    stage.policy.fails = error
    with capture_logs() as logs:
        stage.policy.change("r2")
        await stage.clock.advance(ALLOW_GOOD_FOR_S - 101)
        assert await ann.reason() == ""
        assert len(stage.callers) > 40
        await stage.clock.advance(1)
    assert await ann.reason() == getattr(error, "reason", "INTERNAL")
    assert [line["event"] for line in logs] == ["reauthorise.failed", "reauthorise.undecided"]


async def test_policy_that_recovers_is_asked_within_seconds(stage: Stage) -> None:
    """An allow is good for five minutes again."""
    ann, ben = stage.watch("ann"), stage.watch("ben")
    stage.policy.fails = PolicyUnavailable()
    stage.policy.change("r2")
    await stage.clock.advance(250)
    stage.policy.fails = None
    stage.policy.denies = lambda question: question.caller.id == of("ben")
    await stage.clock.advance(4)
    assert [await ann.reason(), await ben.reason()] == ["", "POLICY_DENIED"]
    await stage.clock.advance(REAUTHORIZE_AFTER_S[1] + 1)
    assert await ann.reason() == ""


async def test_change_during_the_first_decision_is_asked_about(stage: Stage) -> None:
    """The allow of a watch's start may come from the policy before."""
    stage.watch("ben")
    await stage.clock.advance()
    stage.policy.change("r2")
    await stage.clock.advance()
    question = replace(stage.policy.questions[0], decision_id="late")
    stage.policy.questions.clear()
    stage.policy.denies = lambda _: True
    late = stage.begin(a_ref(9), question, Decision("late", True, policy_revision="r1"))
    await stage.clock.advance()
    assert await late.reason() == "POLICY_DENIED"
    assert len(stage.callers) == 1


@pytest.mark.parametrize("turns", range(8))
async def test_watch_that_starts_during_a_round_is_asked_about(stage: Stage, turns: int) -> None:
    """At whatever step of the round."""
    stage.watch("ben")
    await stage.clock.advance()
    stage.policy.change("r2")
    await stage.clock.advance()
    question = replace(stage.policy.questions[0], decision_id="late")
    stage.policy.denies = lambda _: True
    stage.policy.change("r3")
    for _ in range(turns):
        await asyncio.sleep(0)
    late = stage.begin(a_ref(9), question, Decision("late", True, policy_revision="r2"))
    await stage.clock.advance()
    assert await late.reason() == "POLICY_DENIED"


async def test_watch_after_a_denial_has_its_own_right(stage: Stage) -> None:
    """A caller allowed again is not ended with the watches that were denied."""
    gone = stage.watch("ann")
    stage.policy.denies = lambda _: True
    stage.policy.change("r2")
    await stage.clock.advance()
    assert await gone.reason() == "POLICY_DENIED"
    stage.policy.denies = lambda _: False
    stage.policy.change("r3")
    back = stage.watch("ann")
    gone.leave()
    await stage.clock.advance(REAUTHORIZE_AFTER_S[1] + 1)
    assert await back.reason() == ""
    assert stage.callers == ["ann", "ann", "ann"]


async def test_bug_ends_watches_with_internal(stage: Stage) -> None:
    """No watch goes on without being asked about."""
    ann = stage.watch()
    await stage.clock.advance()
    stage.policy.edges = None  # type: ignore[assignment]  # what makes it fail
    with capture_logs() as logs:
        await stage.clock.advance(1)
    assert await ann.reason() == "INTERNAL"
    assert [line["event"] for line in logs] == ["reauthorise.unexpected"]
    stage.policy.edges = []
    again = stage.watch()
    stage.policy.denies = lambda _: True
    stage.policy.change("r2")
    await stage.clock.advance(1)
    assert await again.reason() == "POLICY_DENIED"


async def test_close_cancels_open_questions(stage: Stage) -> None:
    """No task is left running, with watches still open."""
    stage.watch()
    never = asyncio.Event()

    async def before(_: Question) -> None:
        await never.wait()

    stage.policy.before = before
    stage.policy.change("r2")
    await stage.clock.advance()
    await stage.reauthorization.close()
    await stage.clock.advance(1)
    assert len(asyncio.all_tasks()) == 1
    assert stage.clock.sleepers == 0
