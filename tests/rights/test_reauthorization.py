"""Open watches are authorised again: when, how often, and what becomes of them."""

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
from eksgateway.rights.schedule import GOOD_FOR_S, PERIOD_S
from eksgateway.watch.state import WatchState
from support.clock import settle
from support.logs import capture_logs
from support.reauthorising import Stage, a_ref
from support.watching import START, an_update


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.close()


def of(who: str) -> str:
    return f"jwt:corp:{who}"


async def test_who_lost_the_right_is_told_at_once_and_nobody_else(stage: Stage) -> None:
    """The denial says why, under the decision id that its own caller knows."""
    anns = [stage.watch("ann"), stage.watch("ann")]
    ben = stage.watch("ben")
    await stage.clock.advance(10)
    assert stage.asked == []
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


async def test_an_obligation_that_is_not_known_ends_a_watch_too(stage: Stage) -> None:
    """As it refuses the call at its start."""
    ann = stage.watch()
    stage.policy.obligations = (Obligation("mfa"),)
    stage.policy.change("r2")
    await stage.clock.advance()
    assert await ann.reason() == "POLICY_OBLIGATION_UNKNOWN"


async def test_what_is_not_read_yet_is_not_told_any_more(stage: Stage) -> None:
    """A reader who comes late is told no state from after the loss, nor one from before."""
    ann = stage.watch()
    ann.slot.put(WatchState(an_update(), None, START))
    stage.policy.denies = lambda _: True
    stage.policy.change("r2")
    await stage.clock.advance()
    ann.slot.put(WatchState(an_update("Successful"), None, START))
    assert await ann.reason() == "POLICY_DENIED"


async def test_equal_questions_are_asked_once(stage: Stage) -> None:
    """A thousand streams of one caller on one update, by whatever tokens; other questions are their own."""
    for number in range(1000):
        stage.watch("ann", lasts=3600 + number)
    stage.watch("ben")
    stage.watch("ann", 2)
    stage.watch("ann", method="/eksgateway.v1.UpdateService/CancelUpdateAndWatch")
    stage.policy.change("r2")
    await stage.clock.advance()
    assert Counter(stage.asked) == {"ann": 3, "ben": 1}
    stage.policy.change("r3")
    await stage.clock.advance()
    assert len(stage.asked) == 8


async def test_slow_evaluations_delay_nobody_else(stage: Stage) -> None:
    """Nor what changes next: an answer that is still under way then is not waited for."""
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


async def test_many_slow_evaluations_delay_the_others_by_a_moment(stage: Stage) -> None:
    """However long an answer may take; who is gone by then is not asked about."""
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
    assert len(stage.asked) == AT_ONCE
    gone.leave()
    async with asyncio.timeout(10 * SLOW_S):
        while len(stage.asked) < 4 * AT_ONCE:  # noqa: ASYNC110 - the slow are waited for in real time
            await asyncio.sleep(0.01)
    await settle()
    assert {await other.reason() for other in others} == {"POLICY_DENIED"}
    assert "gone" not in stage.asked


async def test_what_was_not_asked_before_the_next_change_is_asked_once(stage: Stage) -> None:
    """By what is in force then: nothing is left of the questions of the change before."""
    for number in range(3 * AT_ONCE):
        stage.watch(f"caller-{number}")
    never = asyncio.Event()

    async def before(_: Question) -> None:
        await never.wait()

    stage.policy.before = before
    stage.policy.change("r2")
    await stage.clock.advance()
    assert len(stage.asked) == AT_ONCE
    stage.policy.asked.clear()
    stage.policy.before = None
    stage.policy.change("r3")
    await stage.clock.advance()
    assert sorted(stage.asked) == sorted(f"caller-{number}" for number in range(3 * AT_ONCE))


async def test_the_facts_of_an_update_are_read_once_for_all_who_watch_it(stage: Stage) -> None:
    """However many questions there are."""
    for number in range(30):
        stage.watch(f"caller-{number}", number % 2)
    stage.policy.change("r2")
    await stage.clock.advance()
    assert len(stage.asked) == 30
    assert stage.reads.read == 2


async def test_an_evaluation_that_never_ends_does_not_keep_its_watch(stage: Stage) -> None:
    """Nor a place among those that are asked at once."""
    for number in range(AT_ONCE):
        stage.watch(f"slow-{number}")
    never = asyncio.Event()

    async def before(question: Question) -> None:
        if "slow" in question.caller.id:
            await never.wait()

    stage.policy.before = before
    stage.policy.change("r2")
    await stage.clock.advance(GOOD_FOR_S)
    assert {await watch.reason() for watch in stage.watches} == {"POLICY_UNAVAILABLE"}
    late = stage.watch("ben")
    stage.policy.denies = lambda _: True
    stage.policy.change("r3")
    await stage.clock.advance()
    assert await late.reason() == "POLICY_DENIED"


async def test_not_all_are_asked_at_the_same_time(stage: Stage) -> None:
    """An OPA is not flooded by every change."""
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
    assert len(stage.asked) == 3 * AT_ONCE
    assert 1 < most <= AT_ONCE


async def test_credentials_end_to_the_second(stage: Stage) -> None:
    """Each stream by its own, also those that share a question; without an end there is none."""
    lasting = [stage.watch("ann", lasts=seconds) for seconds in (20.5, 90, None)]
    await stage.clock.advance(20.4)
    assert [await each.reason() for each in lasting] == ["", "", ""]
    await stage.clock.advance(0.1)
    assert [await each.reason() for each in lasting] == ["CREDENTIALS_EXPIRED", "", ""]
    await stage.clock.advance(69.5)
    assert [await each.reason() for each in lasting] == ["CREDENTIALS_EXPIRED", "CREDENTIALS_EXPIRED", ""]
    assert stage.asked == []


async def test_credentials_that_end_at_once(stage: Stage) -> None:
    """A token that was good for the start of the call and no longer."""
    stage.watch("ben")
    await stage.clock.advance(0.5)  # in the middle of a tick
    ann, gone = stage.watch("ann", lasts=0.2), stage.watch("carl", lasts=0)
    await stage.clock.advance(0.2)
    assert [await ann.reason(), await gone.reason()] == ["CREDENTIALS_EXPIRED"] * 2


@pytest.mark.parametrize(("jump", "goes_on"), [(3600, 1), (-86_400, 600)], ids=["forward", "back"])
async def test_a_wall_clock_that_is_set_prolongs_no_credentials(
    stage: Stage, jump: float, goes_on: float
) -> None:
    """Forward they end within a second; back they last as long as they seemed to at the start."""
    ann = stage.watch("ann", lasts=600)
    await stage.clock.advance()
    stage.clock.jump(jump)
    await stage.clock.advance(goes_on)
    assert await ann.reason() == "CREDENTIALS_EXPIRED"


async def test_the_edges_of_a_freeze_are_changes(stage: Stage) -> None:
    """Asked at its start and at its end, to the second; a watch that is allowed goes on over both."""
    begins, ends = START + timedelta(seconds=20.5), START + timedelta(seconds=60)
    stage.policy.edges = [begins, ends]
    ann = stage.watch()
    await stage.clock.advance(20.4)
    assert stage.asked == []
    await stage.clock.advance(39.7)
    assert [question.time for question in stage.policy.asked] == [begins, ends]
    assert await ann.reason() == ""


@pytest.mark.parametrize("jump", [60, -60], ids=["forward", "back"])
async def test_a_wall_clock_that_is_set_over_an_edge_is_a_change(stage: Stage, jump: float) -> None:
    """Whichever way."""
    stage.policy.edges = [START + timedelta(seconds=jump / 2)]
    stage.watch()
    await stage.clock.advance(5)
    assert stage.asked == []
    stage.clock.jump(jump)
    await stage.clock.advance(1)
    assert stage.asked == ["ann"]


async def test_everything_is_asked_every_few_minutes(stage: Stage) -> None:
    """Again and again, and not all at the same time, also after all were."""
    for number in range(200):
        stage.watch(f"caller-{number}")
    seconds = Counter[float]()

    async def before(_: Question) -> None:
        seconds[stage.clock.monotonic()] += 1

    stage.policy.before = before
    await stage.clock.advance(PERIOD_S[0] - 1)
    assert stage.asked == []
    await stage.clock.advance(PERIOD_S[1] - PERIOD_S[0] + 2)
    assert set(Counter(stage.asked).values()) == {1}
    assert len(stage.asked) == 200
    assert max(seconds.values()) < 20
    stage.policy.change("r2")
    await stage.clock.advance()
    assert max(seconds.values()) == 200
    seconds.clear()
    await stage.clock.advance(PERIOD_S[1] + 1)
    assert min(Counter(stage.asked).values()) >= 3
    assert max(seconds.values()) < 20


async def test_a_newcomer_puts_nothing_off(stage: Stage) -> None:
    """Who asks the same question joins it, and its next time stays."""
    first = stage.watch("ann")
    for _ in range(30):
        await stage.clock.advance(PERIOD_S[1] / 30 + 0.1)
        stage.watch("ann").leave()
    assert stage.asked == ["ann"]
    assert await first.reason() == ""


async def test_a_changed_tag_counts_when_it_is_asked_again(stage: Stage) -> None:
    """The facts are shared ones, at most half a minute old."""
    ann = stage.watch()
    stage.policy.denies = lambda question: bool(question.facts and question.facts.tags)
    stage.reads.tags = {"environment": "production"}
    await stage.clock.advance(PERIOD_S[1] + 1)
    assert await ann.reason() == "POLICY_DENIED"
    assert stage.reads.max_ages == {30}


@pytest.mark.parametrize("how", ["fails", "hangs", "has a bug"])
async def test_eks_keeps_nobody_from_being_denied(stage: Stage, how: str) -> None:
    """Without newer facts those from before count, and the watch goes on by them if it may."""

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
        while len(stage.asked) < 2:  # noqa: ASYNC110 - facts are waited for in real time
            await asyncio.sleep(0.01)
    await settle()
    assert [await ann.reason(), await ben.reason()] == ["POLICY_DENIED", ""]
    assert all(question.stage == "update" for question in stage.policy.asked)


@pytest.mark.parametrize("error", [PolicyUnavailable(), PolicyUndefined(), RuntimeError("canary")])
async def test_while_the_policy_cannot_decide_a_watch_goes_on_by_its_last_yes(
    stage: Stage, error: Exception
) -> None:
    """For five minutes from then and no longer; meanwhile it is asked again every few seconds."""
    ann = stage.watch()
    await stage.clock.advance(100)
    stage.policy.fails = error
    with capture_logs() as logs:
        stage.policy.change("r2")
        await stage.clock.advance(GOOD_FOR_S - 101)
        assert await ann.reason() == ""
        assert len(stage.asked) > 40
        await stage.clock.advance(1)
    assert await ann.reason() == getattr(error, "reason", "INTERNAL")
    assert [line["event"] for line in logs] == ["reauthorise.failed", "reauthorise.undecided"]


async def test_a_policy_that_is_back_is_heard(stage: Stage) -> None:
    """Within seconds, whatever it says; a yes is good for five minutes again."""
    ann, ben = stage.watch("ann"), stage.watch("ben")
    stage.policy.fails = PolicyUnavailable()
    stage.policy.change("r2")
    await stage.clock.advance(250)
    stage.policy.fails = None
    stage.policy.denies = lambda question: question.caller.id == of("ben")
    await stage.clock.advance(4)
    assert [await ann.reason(), await ben.reason()] == ["", "POLICY_DENIED"]
    await stage.clock.advance(PERIOD_S[1] + 1)
    assert await ann.reason() == ""


async def test_a_change_while_the_start_was_decided_is_not_missed(stage: Stage) -> None:
    """The yes that a watch begins with may come from the policy before."""
    stage.watch("ben")
    await stage.clock.advance()
    stage.policy.change("r2")
    await stage.clock.advance()
    question = replace(stage.policy.asked[0], decision_id="late")
    stage.policy.asked.clear()
    stage.policy.denies = lambda _: True
    late = stage.begin(a_ref(9), question, Decision("late", True, policy_revision="r1"))
    await stage.clock.advance()
    assert await late.reason() == "POLICY_DENIED"
    assert len(stage.asked) == 1


@pytest.mark.parametrize("turns", range(8))
async def test_who_comes_while_a_change_is_looked_at_is_asked_too(stage: Stage, turns: int) -> None:
    """At whatever step of that: it is asked by itself, or among the others."""
    stage.watch("ben")
    await stage.clock.advance()
    stage.policy.change("r2")
    await stage.clock.advance()
    question = replace(stage.policy.asked[0], decision_id="late")
    stage.policy.denies = lambda _: True
    stage.policy.change("r3")
    for _ in range(turns):
        await asyncio.sleep(0)
    late = stage.begin(a_ref(9), question, Decision("late", True, policy_revision="r2"))
    await stage.clock.advance()
    assert await late.reason() == "POLICY_DENIED"


async def test_who_comes_after_a_denial_stands_on_its_own_answer(stage: Stage) -> None:
    """Somebody allowed again is not ended by what ended others."""
    gone = stage.watch("ann")
    stage.policy.denies = lambda _: True
    stage.policy.change("r2")
    await stage.clock.advance()
    assert await gone.reason() == "POLICY_DENIED"
    stage.policy.denies = lambda _: False
    stage.policy.change("r3")
    back = stage.watch("ann")
    gone.leave()
    await stage.clock.advance(PERIOD_S[1] + 1)
    assert await back.reason() == ""
    assert stage.asked == ["ann", "ann", "ann"]


async def test_a_bug_ends_watches_and_tells_nothing(stage: Stage) -> None:
    """Nobody goes on unasked."""
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


async def test_closing_ends_what_is_being_asked(stage: Stage) -> None:
    """Nothing is left running, with watches still open."""
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
