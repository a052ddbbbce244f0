"""Evaluates policy inputs outside of a gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import Any, Final

from eksgateway.errors import GatewayError
from eksgateway.model import Decision
from eksgateway.policy.loaded_policy import LoadedPolicy
from eksgateway.policy.results import obligation_error, read_decision
from eksgateway.policy.wasm_module import PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime

_EVALUATION_S: Final = 2.0  # the default of `policy.timeout_s`
_MAX_SLICES: Final = 256  # kept loaded for the next input


class PolicyEvaluator:
    """Use ``open_evaluator``."""

    def __init__(self, module: PolicyModule, data: dict[str, Any]) -> None:
        self._policy = LoadedPolicy.load(module, data)
        self._module = module
        self._grants: list[Any] = data["eksgateway"]["grants"]
        self._slice = lru_cache(_MAX_SLICES)(self._load_slice)

    def close(self) -> None:
        self._slice.cache_clear()
        self._policy.close()

    def decide(self, document: dict[str, Any]) -> Decision:
        """The decision. An error becomes a denial with the error as its reason."""
        return _decide(self._policy, document)

    def covering_grants(self, document: dict[str, Any]) -> Iterator[tuple[str, Decision]]:
        """The grants that cover the input's caller and cluster: each one's id, and the decision if it
        were the only grant and there were no freezes.
        """
        return self._search(document, 0, len(self._grants))

    def _search(self, document: dict[str, Any], begin: int, end: int) -> Iterator[tuple[str, Decision]]:
        # By halves: loading a policy for each grant would take 4 ms each. A decision names no rule if no
        # grant covers the caller.
        decision = _decide(self._slice(begin, end), document)
        if not decision.allowed and not decision.rule_ids:
            return
        if end - begin == 1:
            yield self._grants[begin]["id"], decision
            return
        middle = (begin + end) // 2
        yield from self._search(document, begin, middle)
        yield from self._search(document, middle, end)

    def _load_slice(self, begin: int, end: int) -> LoadedPolicy:
        return LoadedPolicy(self._module, {"eksgateway": {"grants": self._grants[begin:end]}})


@contextmanager
def open_evaluator(wasm: bytes, data: dict[str, Any]) -> Iterator[PolicyEvaluator]:
    """Raises PolicyLoadError."""
    with (
        closing(WasmRuntime()) as runtime,
        closing(PolicyEvaluator(PolicyModule(runtime, wasm), data)) as evaluator,
    ):
        yield evaluator


def _decide(policy: LoadedPolicy, document: dict[str, Any]) -> Decision:
    decision_id = document["context"]["decision_id"]
    try:
        result = policy.evaluate(json.dumps(document).encode(), deadline_s=_EVALUATION_S)
        decision = read_decision(result, decision_id=decision_id, revision=policy.revision)
        if decision.obligations:
            raise obligation_error(decision)
    except GatewayError as exc:
        reason = f"{exc.reason}: {exc.detail or exc.message}"
        return Decision(decision_id, reasons=(reason,), policy_revision=policy.revision)
    return decision
