"""The default engine: the compiled policy, evaluated in this process in about a tenth of a millisecond."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any, Final, Self

import wasmtime

from eksgateway.clock import Clock
from eksgateway.errors import GatewayError, PolicyInvalid, PolicyUnavailable
from eksgateway.model import Decision
from eksgateway.policy.data import edges_of
from eksgateway.policy.edges import next_of
from eksgateway.policy.engine import SAMPLES, UNDEFINED, PolicyLoadError, Reloads, read_decision
from eksgateway.policy.question import Question
from eksgateway.policy.reload import Follower
from eksgateway.policy.revision import Revision
from eksgateway.policy.source import PolicyFiles, revision_of
from eksgateway.policy.ticker import Ticker
from eksgateway.policy.wasm_module import EvaluationFailed, PolicyInstance, PolicyModule
from eksgateway.reading import HUNG, Reader

_LOAD_S: Final = 10.0
# The event loop stands still while a policy is evaluated, so a runaway one is stopped before the
# time limit of an OPA call would.
_EVALUATION_S: Final = 0.5


class LoadedPolicy:
    """A module with its data, under one revision: what is in force, replaced as a whole or not at all."""

    def __init__(self, module: PolicyModule, data: dict[str, Any]) -> None:
        self.module = module
        self.revision = revision_of(module.wasm, data)
        self.edges = edges_of(data)
        self._data = json.dumps(data).encode()
        self._instance: PolicyInstance | None = PolicyInstance(module, self._data, load_s=_LOAD_S)

    @classmethod
    def proved(cls, module: PolicyModule, data: dict[str, Any]) -> Self:
        """One that has decided the sample questions. Raises PolicyLoadError."""
        policy = cls(module, data)
        try:
            for question in SAMPLES:
                policy.decide(question.to_input(), _EVALUATION_S)
        except GatewayError as exc:
            raise PolicyLoadError(f"the policy does not answer: {exc.detail or exc.message}") from exc
        return policy

    def decide(self, document: dict[str, Any], deadline_s: float) -> Decision:
        """The decision on an input document. Raises as a PolicyEngine's ``decide``."""
        result = self.evaluate(document, deadline_s)
        decision_id = document["context"]["decision_id"]
        return read_decision(result, decision_id=decision_id, revision=self.revision)

    def evaluate(self, document: dict[str, Any], deadline_s: float) -> Any:
        """The decision document for an input, or UNDEFINED."""
        try:
            if self._instance is None:
                self._instance = PolicyInstance(self.module, self._data, load_s=deadline_s)
            results = self._instance.evaluate(json.dumps(document).encode(), deadline_s=deadline_s)
        except (EvaluationFailed, PolicyLoadError) as exc:
            self._instance = None  # after a trap the guest's memory is in no known state
            raise PolicyUnavailable(detail=str(exc)) from exc
        return _only_result(results)


def _only_result(results: Any) -> Any:
    match results:
        case []:
            return UNDEFINED
        case [{"result": result}]:
            return result
    raise PolicyInvalid(detail="the policy's answer is not a result set")


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
    """

    def __init__(self, policy: LoadedPolicy, ticker: Ticker, timeout_s: float) -> None:
        self._policy = policy
        self._revision = Revision(policy.revision)
        self._ticker = ticker
        self._deadline_s = min(timeout_s, _EVALUATION_S)
        self._follower: Follower | None = None

    @classmethod
    async def open(cls, files: PolicyFiles, clock: Clock, *, timeout_s: float) -> Self:
        """An engine that follows its files. Raises PolicyLoadError for what they hold now."""
        try:
            content = await Reader(files.read).read()
        except TimeoutError as exc:
            raise PolicyLoadError(f"{files.data}: cannot be read: {HUNG}") from exc
        data = await asyncio.to_thread(files.parse, content)
        engine = await cls.load(content.wasm, data, timeout_s=timeout_s)
        engine.follow(Follower(files, clock, engine.replace, content, data))
        return engine

    @classmethod
    async def load(cls, wasm: bytes, data: dict[str, Any], *, timeout_s: float = _EVALUATION_S) -> Self:
        """An engine whose policy has answered once. Raises PolicyLoadError."""
        engine, ticker = machine()
        try:
            # Compiling takes long enough to be felt by everybody else on the loop.
            policy = await asyncio.to_thread(
                lambda: LoadedPolicy.proved(PolicyModule(engine, ticker, wasm), data)
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

        A decision is made by the policy it began with: nothing of that one is touched.
        """
        module = self._policy.module

        def prove() -> LoadedPolicy:
            kept = module.wasm == wasm  # compiling is nearly all the work
            return LoadedPolicy.proved(
                module if kept else PolicyModule(module.engine, module.ticker, wasm), data
            )

        self._policy = await asyncio.to_thread(prove)
        self._revision.set(self._policy.revision)
        return self._policy.revision

    @property
    def revision(self) -> str:
        return self._revision.current

    async def revision_after(self, revision: str) -> str:
        return await self._revision.after(revision)

    def next_edge(self, now: datetime) -> datetime | None:
        return next_of(self._policy.edges, now)

    @property
    def reloads(self) -> Reloads:
        return self._follower.reloads if self._follower else Reloads()

    def reload(self) -> None:
        if self._follower:
            self._follower.look()

    async def decide(self, question: Question) -> Decision:
        return self._policy.decide(question.to_input(), self._deadline_s)

    async def check(self) -> None:
        for question in SAMPLES:
            await self.decide(question)

    async def close(self) -> None:
        if self._follower:
            await self._follower.close()
        self._ticker.close()
