"""The default engine: evaluates the compiled policy in this process, in about 0.1 ms."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import datetime
from typing import Self

from eksgateway.blocking import RepeatedRead, run_blocking
from eksgateway.clock import Clock
from eksgateway.errors import Overloaded
from eksgateway.file_reader import HUNG
from eksgateway.model import NO_CLUSTER, Action, Decision
from eksgateway.policy.compile_process import compile_sources
from eksgateway.policy.compiled_policy import CompiledPolicy
from eksgateway.policy.cost_questions import weigh_caller
from eksgateway.policy.decision_cost import MAX_CPU_S, PolicyTooCostly
from eksgateway.policy.engine import SAMPLES, PolicyLoadError, Reloads
from eksgateway.policy.files import PolicyFiles
from eksgateway.policy.loaded_policy import LoadedPolicy, NeedsThread
from eksgateway.policy.question import Question
from eksgateway.policy.reloader import PolicyReloader
from eksgateway.policy.results import holds_until_edge, read_decision
from eksgateway.policy.revision import Revision
from eksgateway.policy.source import PolicyDataError
from eksgateway.policy.wasm_module import PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime
from eksgateway.policy.workers import Workers


class WasmEngine:
    """A PolicyEngine.

    Evaluations of less than about 1 ms run on the event loop: handing them to a thread would cost as much
    again. All others run on a few threads that callers share fairly.
    """

    def __init__(self, policy: LoadedPolicy, timeout_s: float) -> None:
        self._policy = policy
        self._revision = Revision(policy.revision)
        self._timeout_s = timeout_s
        self._workers = Workers()
        self._reloader: PolicyReloader | None = None

    @classmethod
    async def open(cls, files: PolicyFiles, clock: Clock, *, timeout_s: float) -> Self:
        """An engine that follows its files. Raises PolicyLoadError."""
        try:
            content = await RepeatedRead(files.read).read()
        except TimeoutError as exc:
            raise PolicyLoadError(f"{files.data}: cannot be read: {HUNG}") from exc
        try:
            policy = await compile_sources(content.sources)
            policy.check_rules(clock.now())
        except PolicyLoadError as exc:
            raise PolicyDataError(str(files.data), exc.faults) from exc
        try:
            engine = await cls.load(content.wasm, policy, timeout_s=timeout_s)
        except PolicyTooCostly as exc:
            raise PolicyTooCostly(f"{files.data}: {exc}") from exc
        engine.follow(PolicyReloader(files, clock, engine.replace, content, policy))
        return engine

    @classmethod
    async def load(cls, wasm: bytes, policy: CompiledPolicy, *, timeout_s: float) -> Self:
        """An engine that does not follow files. Raises PolicyLoadError."""
        runtime = WasmRuntime()
        try:
            # Compiling takes long enough to hold up the event loop.
            loaded = await run_blocking(
                lambda: LoadedPolicy.load(
                    PolicyModule(runtime, wasm), policy, max_cpu_s=_max_cpu_s(timeout_s)
                )
            )
        except BaseException:
            runtime.close()
            raise
        return cls(loaded, timeout_s)

    def follow(self, reloader: PolicyReloader) -> None:
        self._reloader = reloader
        reloader.start(self.revision)

    async def replace(self, wasm: bytes, policy: CompiledPolicy) -> str:
        """Put another policy in force and return its revision. On PolicyLoadError the old one stays.

        Running evaluations end with the old policy.
        """
        before, module = self._policy, self._policy.module

        def load() -> LoadedPolicy:
            unchanged = module.wasm == wasm  # compiling is nearly all the work
            code = module if unchanged else PolicyModule(module.runtime, wasm)
            return LoadedPolicy.load(code, policy, max_cpu_s=_max_cpu_s(self._timeout_s))

        before.free_spare()  # each may have as much memory as the one that is loaded
        self._policy = await run_blocking(load)
        self._revision.set(self._policy.revision)
        before.close()
        return self._policy.revision

    @property
    def revision(self) -> str:
        return self._revision.current

    async def revision_after(self, revision: str) -> str:
        return await self._revision.after(revision)

    def next_change(self, now: datetime) -> datetime | None:
        return self._policy.edges.next_after(now)

    def validity_of(self, question: Question) -> object | None:
        memory = self._policy.memory
        if not memory.holds_all:
            return None
        return self._policy.revision, memory.key_of(replace(question, cluster=NO_CLUSTER))

    @property
    def reloads(self) -> Reloads:
        return self._reloader.reloads if self._reloader else Reloads()

    def reload(self) -> None:
        if self._reloader:
            self._reloader.reload_now()

    async def decide(self, question: Question) -> Decision:
        policy = self._policy
        key = policy.memory.key_of(question)
        known = policy.memory.find(key, question.decision_id)
        if known is not None:
            return known
        document = json.dumps(question.to_input()).encode()
        try:
            result = policy.evaluate_inline(document, groups=weigh_caller(question.caller))
        except NeedsThread:
            result = await self._workers.run(
                question.caller.id,
                lambda: policy.evaluate(document, deadline_s=self._timeout_s),
                within_s=self._timeout_s,
                first=question.action is Action.CANCEL,
            )
        decision = read_decision(result, decision_id=question.decision_id, revision=policy.revision)
        if holds_until_edge(result):
            policy.memory.keep(key, question, decision)
        else:
            policy.memory.note_undeclared()
        return decision

    async def check(self) -> None:
        if self._policy.ready:  # it has decided the samples at load, and its answers never change
            return
        with contextlib.suppress(Overloaded):  # busy is not broken
            for question in SAMPLES:
                await self.decide(question)

    async def close(self) -> None:
        if self._reloader:
            await self._reloader.close()
        await self._workers.close()
        self._policy.close()
        self._policy.module.runtime.close()


def _max_cpu_s(timeout_s: float) -> float:
    """A quarter: on a busy machine a thread runs only part of the time."""
    return min(MAX_CPU_S, timeout_s / 4)
