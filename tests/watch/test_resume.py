"""Resume tokens, and what a watcher who comes back with one is told."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksgateway.errors import EksUnavailable, ResumeTokenInvalid
from eksgateway.model import ClusterRef, Phase, Update, UpdateRef
from eksgateway.watch.resume import TOKEN_LENGTH, ResumePosition, decode, encode
from eksgateway.watch.state import WatchState
from support.watching import CLUSTER, REF, START, Stage, Stream, a_cancellation, an_update

OTHERS = [
    pytest.param(UpdateRef(CLUSTER, "update-2"), id="another update"),
    pytest.param(UpdateRef(replace(CLUSTER, name="staging"), "update-1"), id="another cluster"),
    pytest.param(UpdateRef(replace(CLUSTER, region="eu-west-1"), "update-1"), id="another region"),
    pytest.param(UpdateRef(replace(CLUSTER, account_id="444455556666"), "update-1"), id="another account"),
]
POSITIONS = st.builds(
    ResumePosition, st.integers(1, 2**53), st.binary(min_size=16, max_size=16), final=st.booleans()
)
LOOK = 1.1  # seconds: when somebody waits for it, the next one comes a fifth of `poll_s` after the last
TOKEN = encode(REF, ResumePosition(7, bytes(16)))


def state(update: Update, phase: Phase | None = None, time: datetime = START) -> WatchState:
    return WatchState(update, phase, time)


def packed(version: int = 1, sequence: int = 7) -> str:
    """A token of REF put together by hand."""
    raw = bytearray(base64.urlsafe_b64decode(TOKEN))
    raw[0], raw[17:25] = version, sequence.to_bytes(8, "big")
    return base64.urlsafe_b64encode(raw).decode()


@given(POSITIONS)
def test_there_and_back(position: ResumePosition) -> None:
    """A token holds its position, in a size that no name changes."""
    longest = UpdateRef(ClusterRef("1" * 12, "eusc-" + "x" * 500 + "-1", "n" * 100), "u" * 64)
    for ref in (REF, longest):
        token = encode(ref, position)
        assert decode(token, ref) == position
        assert len(token) == TOKEN_LENGTH <= 512


@pytest.mark.parametrize("other", OTHERS)
def test_a_token_is_of_one_update(other: UpdateRef) -> None:
    """Anywhere else it would hide a state as one that the client had."""
    with pytest.raises(ResumeTokenInvalid):
        decode(TOKEN, other)


@pytest.mark.parametrize(
    "token",
    [
        *(
            pytest.param(TOKEN[:length], id=f"cut after {length}")
            for length in (0, 1, TOKEN_LENGTH - 4, TOKEN_LENGTH - 1)
        ),
        pytest.param(TOKEN + "A", id="a character more"),
        pytest.param(TOKEN * 9, id="over the largest size"),
        pytest.param("A" * 10_000_000, id="huge"),
        pytest.param("é" * TOKEN_LENGTH, id="not ASCII"),
        pytest.param("\ud800" * TOKEN_LENGTH, id="a lone surrogate"),
        pytest.param("!" * TOKEN_LENGTH, id="not base64"),
        pytest.param("=" * TOKEN_LENGTH, id="padding alone"),
        pytest.param("A" * (TOKEN_LENGTH - 4) + "AA==", id="padded"),
        pytest.param(packed(version=0), id="version 0"),
        pytest.param(packed(version=2), id="a version to come"),
        pytest.param(packed(sequence=0), id="sequence 0"),
        pytest.param(packed(sequence=2**53 + 1), id="a sequence that has no next one everywhere"),
        pytest.param(packed(sequence=2**64 - 1), id="the largest sequence"),
    ],
)
def test_what_is_no_token(token: str) -> None:
    """It is refused, by the one error that says so."""
    with pytest.raises(ResumeTokenInvalid):
        decode(token, REF)


@given(st.text() | st.text("AZaz09-_=+/", min_size=TOKEN_LENGTH, max_size=TOKEN_LENGTH))
def test_any_text(text: str) -> None:
    """Nothing gets in, and nothing else is raised."""
    with pytest.raises(ResumeTokenInvalid):
        decode(text, REF)


@given(POSITIONS, st.integers(0, TOKEN_LENGTH - 1), st.characters())
def test_a_character_changed(position: ResumePosition, place: int, other: str) -> None:
    """A mutated token is refused, or is a position of which the next number still fits everywhere."""
    token = encode(REF, position)
    try:
        forged = decode(token[:place] + other + token[place + 1 :], REF)
    except ResumeTokenInvalid:
        return
    assert 1 <= forged.sequence <= 2**53
    assert len(forged.digest) == 16


def test_a_digest_is_of_what_a_client_sees() -> None:
    """Update and phase; not the time it was seen, nor how this machine writes times."""
    created = datetime(2026, 1, 1, 12, tzinfo=UTC)
    update = replace(an_update(), created_at=created)
    moved = replace(update, created_at=created.astimezone(timezone(timedelta(hours=5))))
    same = [state(update), state(update, time=START + timedelta(hours=1)), state(moved)]
    others = [
        state(an_update("Cancelling")),
        state(an_update(cancellation="Failed")),
        state(update, Phase.REQUESTED),
    ]
    assert len({one.digest for one in same}) == 1
    assert len({one.digest for one in [same[0], *others]}) == 4


def test_a_digest_outlives_its_process() -> None:
    """Written down here, because tokens of the version before are still about after a deployment."""
    assert state(an_update("Cancelling"), Phase.CANCELLING).digest.hex() == (
        "8900a6ef0788bb3c4e334e5e0777d191"
    )


# What a watcher who comes back is told.


def after(stream: Stream) -> ResumePosition:
    """Where the stream's client is, by a token's way there and back."""
    return decode(encode(REF, stream.events[-1].position), REF)


async def seen(stage: Stage, status: str, *, seconds: float = 6) -> ResumePosition:
    """Where a client is that watched until the update had this status."""
    async with stage.watching() as stream:
        stage.reads.says = an_update(status)
        await stage.clock.advance(seconds)
        assert stream.statuses[-1] == status
        return after(stream)


async def test_nothing_happened_meanwhile(stage: Stage) -> None:
    """Nothing is sent but heartbeats, the first at once, until a change, which has the next number."""
    position = await seen(stage, "Reticulating")
    async with stage.watching(position) as stream:
        assert stream.told == [("HEARTBEAT", "Reticulating", None, 2)]
        assert after(stream) == position
        await stage.clock.advance(16)
        assert stream.told == [("HEARTBEAT", "Reticulating", None, 2)] * 2
        assert after(stream) == position
        stage.reads.says = an_update("Cancelling")
        await stage.clock.advance(6)
        assert stream.told[2:] == [("CHANGE", "Cancelling", "CANCELLING", 3)]


async def test_something_happened_meanwhile(stage: Stage) -> None:
    """It is the first news, with the next number, and no second snapshot."""
    position = await seen(stage, "Reticulating")
    stage.reads.says = an_update("Cancelling")
    async with stage.watching(position) as stream:
        await stage.clock.advance(6)
        assert stream.news == [("CHANGE", "Cancelling", "CANCELLING", 3)]


@pytest.mark.parametrize("phase", [True, False], ids=["phase", "update"])
async def test_either_half_of_a_state_is_a_change(stage: Stage, phase: bool) -> None:
    """A phase that is known since then is told, also when the update is the same."""
    async with stage.watching() as stream:
        position = after(stream)
    if phase:
        await stage.cancelled(a_cancellation(update=an_update()))
    else:
        stage.reads.says = an_update(cancellation="InProgress")
    async with stage.watching(position) as stream:
        await stage.clock.advance(6)
        assert stream.news == [("CHANGE", "InProgress", "REQUESTED", 2)]


async def test_it_ended_meanwhile(stage: Stage) -> None:
    """FINAL with the next number, and the end."""
    position = await seen(stage, "Cancelling")
    stage.reads.says = an_update("Cancelled")
    async with stage.watching(position) as stream:
        await stage.clock.advance(6)
        assert stream.news == [("FINAL", "Cancelled", "CANCELLED", 3)]
        assert stream.ended


async def test_from_the_snapshot_of_an_ended_update(stage: Stage) -> None:
    """The state is known, and that it was the last one is not: FINAL is never lost."""
    stage.reads.says = an_update("Failed")
    async with stage.watching() as stream:
        snapshot, final = stream.events
    async with stage.watching(snapshot.position) as stream:
        assert stream.events == [final]


async def test_from_final(stage: Stage) -> None:
    """FINAL again, with its own number, however often."""
    stage.reads.says = an_update("Cancelled")
    async with stage.watching() as stream:
        final = stream.events[-1]
    for _ in range(3):
        async with stage.watching(final.position) as stream:
            assert stream.events == [final]
            assert stream.ended


async def test_a_final_that_was_none(stage: Stage) -> None:
    """A token forged so is believed in its number alone: the stream goes on to the real end."""
    forged = ResumePosition(4, bytes(16), final=True)
    async with stage.watching(forged) as stream:
        await stage.clock.advance(6)
        stage.reads.says = an_update("Successful")
        await stage.clock.advance(6)
        assert [(one.kind, one.sequence) for one in stream.events] == [("CHANGE", 5), ("FINAL", 6)]


async def test_a_cancellation_that_failed_meanwhile(stage: Stage) -> None:
    """EKS goes a step back from Cancelling, and a client that missed it is told."""
    position = await seen(stage, "Cancelling")
    stage.reads.says = an_update(cancellation="Failed")
    async with stage.watching(position) as stream:
        await stage.clock.advance(6)
        assert stream.news == [("CHANGE", "InProgress", "CANCELLATION_FAILED", 3)]


async def test_a_replica_that_is_behind(stage: Stage) -> None:
    """What was seen before the client came is not told when it differs; after another look, the truth is."""
    elsewhere = state(an_update("Cancelling"), Phase.CANCELLING)
    async with stage.watching() as other:
        stage.reads.says = elsewhere.update
        await stage.clock.advance(0.5)
        async with stage.watching(ResumePosition(5, elsewhere.digest)) as stream:
            assert (other.statuses, stream.events) == (["InProgress"], [])
            await stage.clock.advance(LOOK)
            assert other.statuses == ["InProgress", "Cancelling"]
            assert stream.told == [("HEARTBEAT", "Cancelling", "CANCELLING", 5)]
            stage.reads.says = an_update("Cancelled")
            await stage.clock.advance(6)
            assert stream.news == [("FINAL", "Cancelled", "CANCELLED", 6)]


async def test_what_is_known_and_fresh_needs_no_look(stage: Stage) -> None:
    """Who comes back to a state that all others know costs EKS nothing."""
    async with stage.watching() as other:
        position = after(other)
        before = len(stage.reads.calls)
        async with stage.watching(position), stage.watching(position):
            assert len(stage.reads.calls) == before
            assert stage.watches.watchers == 3


async def test_while_eks_cannot_be_read(stage: Stage) -> None:
    """The state told last stays good; a state that may be older is not told: EKS's error is."""
    async with stage.watching() as other:
        position = after(other)
        stage.reads.says = EksUnavailable()
        await stage.clock.advance(6)
        async with stage.watching(position) as same, stage.watching(ResumePosition(5, bytes(16))) as doubtful:
            await stage.clock.advance(6)
            assert (same.ended, same.told) == (False, [("HEARTBEAT", "InProgress", None, 1)])
            assert isinstance(doubtful.error, EksUnavailable)
            assert doubtful.events == []
        assert not other.ended


async def test_no_clock_decides(stage: Stage) -> None:
    """A wall clock set back between two streams hides nothing, and repeats nothing."""
    position = await seen(stage, "Reticulating")
    stage.clock.jump(-3600)
    async with stage.watching(position) as stream:
        assert stream.told == [("HEARTBEAT", "Reticulating", None, 2)]
        stage.reads.says = an_update("Cancelling")
        await stage.clock.advance(6)
        assert stream.news == [("CHANGE", "Cancelling", "CANCELLING", 3)]
