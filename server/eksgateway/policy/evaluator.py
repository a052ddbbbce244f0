"""A policy to try inputs on, outside of a gateway: what it decides, and which grants have a say in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from eksgateway.errors import GatewayError
from eksgateway.model import Decision
from eksgateway.policy.engine import read_decision
from eksgateway.policy.loaded_policy import LoadedPolicy
from eksgateway.policy.wasm import machine
from eksgateway.policy.wasm_module import PolicyModule

_EVALUATION_S: Final = 2.0  # as `policy.timeout_s` by default
_LOADED: Final = 256  # parts of the grants that are kept, for the next input


class PolicyEvaluator:
    """A module with its data. Use ``open_evaluator``."""

    def __init__(self, module: PolicyModule, data: dict[str, Any]) -> None:
        self._policy = LoadedPolicy.load(module, data)
        self._module = module
        self._grants: list[Any] = data["eksgateway"]["grants"]
        self._part = lru_cache(_LOADED)(self._load_part)

    def close(self) -> None:
        """Free its memory."""
        self._part.cache_clear()
        self._policy.close()

    def decide(self, document: dict[str, Any]) -> Decision:
        """What it says to an input; where it has no answer, that is the reason of a denial."""
        return _decided(self._policy, document)

    def covering(self, document: dict[str, Any]) -> Iterator[tuple[str, Decision]]:
        """The grants that cover the input's caller and cluster, by id, each with what would be decided if
        it stood alone, without freezes.

        It is the policy that tells: it names no rule to a caller whom no grant covers. So halves in
        which no grant does are left out as a whole.
        """
        return self._covering(document, 0, len(self._grants))

    def _covering(self, document: dict[str, Any], begin: int, end: int) -> Iterator[tuple[str, Decision]]:
        decision = _decided(self._part(begin, end), document)
        if not decision.allowed and not decision.rule_ids:
            return
        if end - begin == 1:
            yield self._grants[begin]["id"], decision
            return
        middle = (begin + end) // 2
        yield from self._covering(document, begin, middle)
        yield from self._covering(document, middle, end)

    def _load_part(self, begin: int, end: int) -> LoadedPolicy:
        return LoadedPolicy(self._module, {"eksgateway": {"grants": self._grants[begin:end]}})


@contextmanager
def open_evaluator(wasm: bytes, data: dict[str, Any]) -> Iterator[PolicyEvaluator]:
    """A policy to try things on. Raises PolicyLoadError."""
    engine, ticker = machine()
    try:
        trial = PolicyEvaluator(PolicyModule(engine, ticker, wasm), data)
        try:
            yield trial
        finally:
            trial.close()
    finally:
        ticker.close()


def _decided(policy: LoadedPolicy, document: dict[str, Any]) -> Decision:
    decision_id = document["context"]["decision_id"]
    try:
        result = policy.evaluate(json.dumps(document).encode(), deadline_s=_EVALUATION_S)
        return read_decision(result, decision_id=decision_id, revision=policy.revision)
    except GatewayError as exc:
        told = f"{exc.reason}: {exc.detail or exc.message}"
        return Decision(decision_id, reasons=(told,), policy_revision=policy.revision)
