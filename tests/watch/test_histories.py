"""Any history of EKS, with watchers of any speed: states are ordered, never repeated, and end with FINAL."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from eksgateway.errors import EksError, EksNotFound, EksThrottled, EksUnavailable, LedgerUnavailable
from eksgateway.model import Update
from eksgateway.watch.events import WatchKind
from eksgateway.watch.slot import Slot, WatchState
from support.watching import REF, Stage, a_cancellation, an_update

WATCHERS = 3

_STEPS = st.one_of(
    st.sampled_from(["next", "same", "ledger down", "ledger up", "cancel", "hold", "release"]),
    st.sampled_from([EksUnavailable(), EksThrottled(), EksNotFound()]),
    st.floats(0.1, 12),  # seconds pass
    st.integers(0, WATCHERS - 1),  # that watcher comes, or reads once
)


@dataclass
class _Reader:
    watcher: Slot
    got: list[WatchState] = field(default_factory=list)
    failed: bool = False

    async def read(self) -> None:
        if self.failed or (self.got and self.got[-1].final):
            return
        try:
            state = await self.watcher.next(0)
        except EksError:
            self.failed = True
            return
        if state is not None:
            self.got.append(state)


class _History:
    """EKS reports Step0, Step1, …, each at least once, and then Cancelled."""

    def __init__(self, stage: Stage, stack: AsyncExitStack) -> None:
        self._stage = stage
        self._stack = stack
        self._number = 0
        self.readers: dict[int, _Reader] = {}

    async def play(self, step: str | EksError | float) -> None:
        stage = self._stage
        match step:
            case "next" | "same":
                self._number += step == "next"
                stage.reads.answer = self._now
            case "ledger down" | "ledger up":
                stage.record.fails = LedgerUnavailable() if step == "ledger down" else None
            case "cancel":
                await stage.commit(a_cancellation(update=self._now))
            case "hold":
                stage.reads.open.clear()
            case "release":
                stage.reads.open.set()
            case EksError():
                stage.reads.answer = step
            case float():
                await stage.clock.advance(step)
            case int():
                await self._read(step)

    async def end(self) -> None:
        self._stage.reads.open.set()
        self._stage.record.fails = None
        self._stage.reads.answer = an_update("Cancelled")
        await self._stage.clock.advance(67)  # the longest back-off
        for reader in self.readers.values():
            await reader.read()
        await self._stage.clock.advance()

    @property
    def _now(self) -> Update:
        return an_update(f"Step{self._number}")

    async def _read(self, number: int) -> None:
        if number not in self.readers:
            watcher = self._stack.enter_context(self._stage.watches.subscribe(REF))
            self.readers[number] = _Reader(watcher)
        else:
            await self.readers[number].read()
        await self._stage.clock.advance()


@settings(max_examples=150, deadline=None)
@given(st.lists(_STEPS, max_size=40))
async def test_states_of_any_history_rise_and_end_with_the_final_one(
    steps: list[str | EksError | float],
) -> None:
    async with Stage.set_up() as stage, AsyncExitStack() as stack:
        stage.reads.answer = an_update("Step0")
        history = _History(stage, stack)
        quick = await stack.enter_async_context(stage.watching())
        for step in steps:
            await history.play(step)
        await history.end()
        histories = [reader.got for reader in history.readers.values() if not reader.failed]
        if quick.error is None:
            changes = [event for event in quick.events if event.kind is not WatchKind.HEARTBEAT]
            assert [event.sequence for event in changes] == list(range(1, len(changes) + 1))
            assert [event.kind for event in changes[1:-1]] == [WatchKind.CHANGE] * (len(changes) - 2)
            assert (changes[0].kind, changes[-1].kind) == (WatchKind.SNAPSHOT, WatchKind.FINAL)
            histories.append([WatchState(event.update, event.phase, event.observe_time) for event in changes])
        for states in histories:
            _check(states)
        assert stage.watches.pollers == 0
        assert all(one.settled for one in stage.record.held)


def _check(states: list[WatchState]) -> None:
    assert states[-1].final
    assert not any(state.final for state in states[:-1])
    assert all(not one.same_as(other) for one, other in pairwise(states))
    numbers = [int(state.update.status.removeprefix("Step")) for state in states[:-1]]
    assert numbers == sorted(numbers)
