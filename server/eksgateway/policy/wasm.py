"""The default engine: the compiled policy, evaluated in this process in about a tenth of a millisecond."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any, Final, Self

import wasmtime

from eksgateway.errors import PolicyInvalid, PolicyUnavailable
from eksgateway.model import Decision
from eksgateway.policy.engine import SAMPLES, UNDEFINED, PolicyLoadError, read_decision
from eksgateway.policy.question import Question
from eksgateway.policy.ticker import Ticker
from eksgateway.policy.wasm_module import EvaluationFailed, PolicyInstance, PolicyModule

_LOAD_S: Final = 10.0
# The event loop stands still while a policy is evaluated, so a runaway one is stopped before the
# time limit of an OPA call would.
_EVALUATION_S: Final = 0.5


class LoadedPolicy:
    """A module with its data, under one revision: what is in force, replaced as a whole or not at all."""

    def __init__(self, module: PolicyModule, data: dict[str, Any]) -> None:
        self._module = module
        self._data = json.dumps(data).encode()
        self._instance: PolicyInstance | None = PolicyInstance(module, self._data, load_s=_LOAD_S)
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
        self.revision = (
            f"sha256:{hashlib.sha256(module.digest + hashlib.sha256(canonical).digest()).hexdigest()}"
        )

    def evaluate(self, document: dict[str, Any], deadline_s: float) -> Any:
        """The decision document for an input, or UNDEFINED."""
        try:
            if self._instance is None:
                self._instance = PolicyInstance(self._module, self._data, load_s=deadline_s)
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


class WasmEngine:
    """A PolicyEngine. Use ``load``; ``close`` ends its thread."""

    def __init__(self, policy: LoadedPolicy, ticker: Ticker, timeout_s: float) -> None:
        self._policy = policy
        self._ticker = ticker
        self._deadline_s = min(timeout_s, _EVALUATION_S)

    @classmethod
    async def load(cls, wasm: bytes, data: dict[str, Any], *, timeout_s: float = _EVALUATION_S) -> Self:
        """An engine whose policy has answered once. Raises PolicyLoadError."""
        config = wasmtime.Config()
        config.epoch_interruption = True
        ticker = Ticker(engine := wasmtime.Engine(config))
        try:
            # Compiling takes long enough to be felt by everybody else on the loop.
            policy = await asyncio.to_thread(lambda: LoadedPolicy(PolicyModule(engine, ticker, wasm), data))
            loaded = cls(policy, ticker, timeout_s)
            await loaded.check()
        except (PolicyUnavailable, PolicyInvalid) as exc:
            ticker.close()
            raise PolicyLoadError(f"the policy does not answer: {exc.detail or exc.message}") from exc
        except BaseException:
            ticker.close()
            raise
        return loaded

    @property
    def revision(self) -> str:
        return self._policy.revision

    async def decide(self, question: Question) -> Decision:
        policy = self._policy
        result = policy.evaluate(question.to_input(), self._deadline_s)
        return read_decision(result, decision_id=question.decision_id, revision=policy.revision)

    async def check(self) -> None:
        for question in SAMPLES:
            await self.decide(question)

    async def close(self) -> None:
        self._ticker.close()
