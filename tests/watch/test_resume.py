"""Resume tokens, and the events of a watch that resumes with one."""

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
from eksgateway.watch.slot import WatchState
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
POLL_S = 1.1  # seconds: while a watcher waits, the next poll comes a fifth of `poll_s` after the last
TOKEN = encode(REF, ResumePosition(7, bytes(16)))


def state(update: Update, phase: Phase | None = None, time: datetime = START) -> WatchState:
    return WatchState(update, phase, time)


def pack(version: int = 1, sequence: int = 7) -> str:
    """A token of REF with a chosen version and sequence."""
    raw = bytearray(base64.urlsafe_b64decode(TOKEN))
    raw[0], raw[17:25] = version, sequence.to_bytes(8, "big")
    return base64.urlsafe_b64encode(raw).decode()


@given(POSITIONS)
def test_token_round_trips_in_a_fixed_size(position: ResumePosition) -> None:
    longest = UpdateRef(ClusterRef("1" * 12, "eusc-" + "x" * 500 + "-1", "n" * 100), "u" * 64)
    for ref in (REF, longest):
        token = encode(ref, position)
        assert decode(token, ref) == position
        assert len(token) == TOKEN_LENGTH <= 512


@pytest.mark.parametrize("other", OTHERS)
def test_token_of_another_update_is_refused(other: UpdateRef) -> None:
    """Else it could hide a state that the client never got."""
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
        pytest.param(pack(version=0), id="version 0"),
        pytest.param(pack(version=2), id="a version to come"),
        pytest.param(pack(sequence=0), id="sequence 0"),
        pytest.param(pack(sequence=2**53 + 1), id="a sequence that has no next one everywhere"),
        pytest.param(pack(sequence=2**64 - 1), id="the largest sequence"),
    ],
)
def test_malformed_token_is_refused(token: str) -> None:
    with pytest.raises(ResumeTokenInvalid):
        decode(token, REF)


@given(st.text() | st.text("AZaz09-_=+/", min_size=TOKEN_LENGTH, max_size=TOKEN_LENGTH))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(ResumeTokenInvalid):
        decode(text, REF)


@given(POSITIONS, st.integers(0, TOKEN_LENGTH - 1), st.characters())
def test_mutated_token_is_refused_or_a_valid_position(
    position: ResumePosition, place: int, other: str
) -> None:
    """The next sequence still fits into int64 and into every client's numbers."""
    token = encode(REF, position)
    try:
        forged = decode(token[:place] + other + token[place + 1 :], REF)
    except ResumeTokenInvalid:
        return
    assert 1 <= forged.sequence <= 2**53
    assert len(forged.digest) == 16


def test_digest_covers_update_and_phase_only() -> None:
    """Neither the observe time nor the time zone of a timestamp changes it."""
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


def test_digest_is_stable_across_versions() -> None:
    """Clients hold tokens of the previous version after a deployment."""
    assert state(an_update("Cancelling"), Phase.CANCELLING).digest.hex() == (
        "8900a6ef0788bb3c4e334e5e0777d191"
    )


# Watches that resume.


def after(stream: Stream) -> ResumePosition:
    """The position after the stream's last event, encoded and decoded."""
    return decode(encode(REF, stream.events[-1].position), REF)


async def position_at(stage: Stage, status: str, *, seconds: float = 6) -> ResumePosition:
    """The position of a client that watched until the update had this status."""
    async with stage.watching() as stream:
        stage.reads.answer = an_update(status)
        await stage.clock.advance(seconds)
        assert stream.statuses[-1] == status
        return after(stream)


async def test_resume_without_change_yields_heartbeats(stage: Stage) -> None:
    """The first one at once; the next change has the next sequence."""
    position = await position_at(stage, "Reticulating")
    async with stage.watching(position) as stream:
        assert stream.received == [("HEARTBEAT", "Reticulating", None, 2)]
        assert after(stream) == position
        await stage.clock.advance(16)
        assert stream.received == [("HEARTBEAT", "Reticulating", None, 2)] * 2
        assert after(stream) == position
        stage.reads.answer = an_update("Cancelling")
        await stage.clock.advance(6)
        assert stream.received[2:] == [("CHANGE", "Cancelling", "CANCELLING", 3)]


async def test_resume_after_a_change_yields_it_without_snapshot(stage: Stage) -> None:
    position = await position_at(stage, "Reticulating")
    stage.reads.answer = an_update("Cancelling")
    async with stage.watching(position) as stream:
        await stage.clock.advance(6)
        assert stream.news == [("CHANGE", "Cancelling", "CANCELLING", 3)]


@pytest.mark.parametrize("phase", [True, False], ids=["phase", "update"])
async def test_resume_after_a_change_of_update_or_phase_yields_it(stage: Stage, phase: bool) -> None:
    async with stage.watching() as stream:
        position = after(stream)
    if phase:
        await stage.commit(a_cancellation(update=an_update()))
    else:
        stage.reads.answer = an_update(cancellation="InProgress")
    async with stage.watching(position) as stream:
        await stage.clock.advance(6)
        assert stream.news == [("CHANGE", "InProgress", "REQUESTED", 2)]


async def test_resume_after_the_end_yields_final(stage: Stage) -> None:
    position = await position_at(stage, "Cancelling")
    stage.reads.answer = an_update("Cancelled")
    async with stage.watching(position) as stream:
        await stage.clock.advance(6)
        assert stream.news == [("FINAL", "Cancelled", "CANCELLED", 3)]
        assert stream.ended


async def test_resume_from_the_snapshot_of_an_ended_update_yields_final(stage: Stage) -> None:
    stage.reads.answer = an_update("Failed")
    async with stage.watching() as stream:
        snapshot, final = stream.events
    async with stage.watching(snapshot.position) as stream:
        assert stream.events == [final]


async def test_resume_from_final_repeats_it(stage: Stage) -> None:
    """With the same sequence, however often."""
    stage.reads.answer = an_update("Cancelled")
    async with stage.watching() as stream:
        final = stream.events[-1]
    for _ in range(3):
        async with stage.watching(final.position) as stream:
            assert stream.events == [final]
            assert stream.ended


async def test_forged_final_token_changes_only_the_sequence(stage: Stage) -> None:
    """The stream goes on to the real end."""
    forged = ResumePosition(4, bytes(16), final=True)
    async with stage.watching(forged) as stream:
        await stage.clock.advance(6)
        stage.reads.answer = an_update("Successful")
        await stage.clock.advance(6)
        assert [(one.kind, one.sequence) for one in stream.events] == [("CHANGE", 5), ("FINAL", 6)]


async def test_resume_after_a_failed_cancellation_yields_the_step_back(stage: Stage) -> None:
    position = await position_at(stage, "Cancelling")
    stage.reads.answer = an_update(cancellation="Failed")
    async with stage.watching(position) as stream:
        await stage.clock.advance(6)
        assert stream.news == [("CHANGE", "InProgress", "CANCELLATION_FAILED", 3)]


async def test_replica_that_is_behind_polls_before_the_first_event(stage: Stage) -> None:
    """A state known before the client came is not sent when it differs from the client's."""
    elsewhere = state(an_update("Cancelling"), Phase.CANCELLING)
    async with stage.watching() as other:
        stage.reads.answer = elsewhere.update
        await stage.clock.advance(0.5)
        async with stage.watching(ResumePosition(5, elsewhere.digest)) as stream:
            assert (other.statuses, stream.events) == (["InProgress"], [])
            await stage.clock.advance(POLL_S)
            assert other.statuses == ["InProgress", "Cancelling"]
            assert stream.received == [("HEARTBEAT", "Cancelling", "CANCELLING", 5)]
            stage.reads.answer = an_update("Cancelled")
            await stage.clock.advance(6)
            assert stream.news == [("FINAL", "Cancelled", "CANCELLED", 6)]


async def test_resume_to_the_current_state_costs_no_read(stage: Stage) -> None:
    async with stage.watching() as other:
        position = after(other)
        before = len(stage.reads.calls)
        async with stage.watching(position), stage.watching(position):
            assert len(stage.reads.calls) == before
            assert stage.watches.watchers == 3


async def test_resume_while_eks_fails_yields_the_same_state_or_the_error(stage: Stage) -> None:
    """A state that may be older than the client's is not sent."""
    async with stage.watching() as other:
        position = after(other)
        stage.reads.answer = EksUnavailable()
        await stage.clock.advance(6)
        async with stage.watching(position) as same, stage.watching(ResumePosition(5, bytes(16))) as doubtful:
            await stage.clock.advance(6)
            assert (same.ended, same.received) == (False, [("HEARTBEAT", "InProgress", None, 1)])
            assert isinstance(doubtful.error, EksUnavailable)
            assert doubtful.events == []
        assert not other.ended


async def test_resume_does_not_depend_on_the_wall_clock(stage: Stage) -> None:
    position = await position_at(stage, "Reticulating")
    stage.clock.jump(-3600)
    async with stage.watching(position) as stream:
        assert stream.received == [("HEARTBEAT", "Reticulating", None, 2)]
        stage.reads.answer = an_update("Cancelling")
        await stage.clock.advance(6)
        assert stream.news == [("CHANGE", "Cancelling", "CANCELLING", 3)]
