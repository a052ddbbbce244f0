"""The default engine: the compiled policy, evaluated in this process in about a tenth of a millisecond."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from typing import Any, Final, Self

import wasmtime

from eksgateway.blocking import RepeatedRead, run_blocking
from eksgateway.clock import Clock
from eksgateway.errors import Overloaded
from eksgateway.file_reader import HUNG
from eksgateway.model import Action, Decision
from eksgateway.policy.decision_cost import MAX_CPU_S, PolicyTooCostly
from eksgateway.policy.engine import SAMPLES, PolicyLoadError, Reloads, read_decision
from eksgateway.policy.files import PolicyFiles
from eksgateway.policy.freezes import next_of
from eksgateway.policy.loaded_policy import LoadedPolicy, NeedsThread
from eksgateway.policy.question import Question
from eksgateway.policy.reloader import Follower
from eksgateway.policy.revision import Revision
from eksgateway.policy.wasm_module import PolicyModule
from eksgateway.policy.wasm_runtime import Ticker
from eksgateway.policy.workers import Workers

_TIMEOUT_S: Final = 2.0


def machine() -> tuple[wasmtime.Engine, Ticker]:
    """What modules are compiled for, and the watchdog that stops them; its user closes the latter."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.parallel_compilation = False  # a start has work for the other cores meanwhile
    engine = wasmtime.Engine(config)
    return engine, Ticker(engine)


class WasmEngine:
    """A PolicyEngine. Use ``open`` for files that may change, ``load`` for what stays as it is; ``close``
    ends its threads.

    Evaluations that take less than about a millisecond run on the event loop, where a thread would cost
    as much again; all others run on a few threads, which callers share fairly.
    """

    def __init__(self, policy: LoadedPolicy, ticker: Ticker, timeout_s: float) -> None:
        self._policy = policy
        self._revision = Revision(policy.revision)
        self._ticker = ticker
        self._timeout_s = timeout_s
        self._workers = Workers()
        self._follower: Follower | None = None

    @classmethod
    async def open(cls, files: PolicyFiles, clock: Clock, *, timeout_s: float) -> Self:
        """An engine that follows its files. Raises PolicyLoadError for what they hold now."""
        try:
            content = await RepeatedRead(files.read).read()
        except TimeoutError as exc:
            raise PolicyLoadError(f"{files.data}: cannot be read: {HUNG}") from exc
        data = await run_blocking(files.parse, content)
        try:
            engine = await cls.load(content.wasm, data, timeout_s=timeout_s)
        except PolicyTooCostly as exc:
            raise PolicyTooCostly(f"{files.data}: {exc}") from exc
        engine.follow(Follower(files, clock, engine.replace, content, data))
        return engine

    @classmethod
    async def load(cls, wasm: bytes, data: dict[str, Any], *, timeout_s: float = _TIMEOUT_S) -> Self:
        """An engine whose policy has answered once. Raises PolicyLoadError."""
        engine, ticker = machine()
        try:
            # Compiling takes long enough to be felt by everybody else on the loop.
            policy = await run_blocking(
                lambda: LoadedPolicy.load(
                    PolicyModule(engine, ticker, wasm), data, max_cpu_s=_max_cpu_s(timeout_s)
                )
            )
        except BaseException:
            ticker.close()
            raise
        return cls(policy, ticker, timeout_s)

    def follow(self, follower: Follower) -> None:
        """Let the follower put in force what its files hold, from now on."""
        self._follower = follower
        follower.start(self.revision)

    async def replace(self, wasm: bytes, data: dict[str, Any]) -> str:
        """Put another policy in force once it has answered, and give its revision. Raises
        PolicyLoadError, and the one that was in force stays.

        A decision is made by the policy it began with.
        """
        before, module = self._policy, self._policy.module

        def prove() -> LoadedPolicy:
            kept = module.wasm == wasm  # compiling is nearly all the work
            code = module if kept else PolicyModule(module.engine, module.ticker, wasm)
            return LoadedPolicy.load(code, data, max_cpu_s=_max_cpu_s(self._timeout_s))

        self._policy = await run_blocking(prove)
        self._revision.set(self._policy.revision)
        before.close()
        return self._policy.revision

    @property
    def revision(self) -> str:
        return self._revision.current

    async def revision_after(self, revision: str) -> str:
        return await self._revision.after(revision)

    def next_freeze_change(self, now: datetime) -> datetime | None:
        return next_of(self._policy.edges, now)

    @property
    def reloads(self) -> Reloads:
        return self._follower.reloads if self._follower else Reloads()

    def reload(self) -> None:
        if self._follower:
            self._follower.look()

    async def decide(self, question: Question) -> Decision:
        policy, document = self._policy, json.dumps(question.to_input()).encode()
        try:
            result = policy.evaluate_at_once(document, groups=len(question.caller.groups))
        except NeedsThread:
            result = await self._workers.run(
                question.caller.id,
                lambda: policy.evaluate(document, deadline_s=self._timeout_s),
                within_s=self._timeout_s,
                first=question.action is Action.CANCEL,
            )
        return read_decision(result, decision_id=question.decision_id, revision=policy.revision)

    async def check(self) -> None:
        if self._policy.ready:  # it has answered these at load, and an answer depends on nothing else
            return
        with contextlib.suppress(Overloaded):  # busy is not broken
            for question in SAMPLES:
                await self.decide(question)

    async def close(self) -> None:
        if self._follower:
            await self._follower.close()
        await self._workers.close()
        self._policy.close()
        self._ticker.close()


def _max_cpu_s(timeout_s: float) -> float:
    """For the costliest decision: a loaded machine gives a thread only a part of the time that passes."""
    return min(MAX_CPU_S, timeout_s / 4)
