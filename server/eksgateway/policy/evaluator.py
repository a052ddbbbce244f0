"""Evaluates policy inputs outside of a gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import Any, Final

from eksgateway.errors import GatewayError
from eksgateway.model import Decision
from eksgateway.policy.compiled_policy import build_policy
from eksgateway.policy.loaded_policy import LoadedPolicy
from eksgateway.policy.results import obligation_error, read_decision
from eksgateway.policy.review.holding import find_covering_grants
from eksgateway.policy.source import Content
from eksgateway.policy.wasm_module import PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime

_EVALUATION_S: Final = 2.0  # the default of `policy.timeout_s`
_MAX_SINGLE: Final = 256  # policies of one grant that are kept loaded for the next input


class PolicyEvaluator:
    """Use ``open_evaluator``."""

    def __init__(self, module: PolicyModule, content: Content) -> None:
        self.compiled = build_policy(content)
        self._policy = LoadedPolicy.load(module, self.compiled)
        self._module = module
        self.content = content
        self._single = lru_cache(_MAX_SINGLE)(self._load_single)

    @property
    def revision(self) -> str:
        return self._policy.revision

    @property
    def memory_bytes(self) -> int:
        return self._policy.memory_bytes

    def close(self) -> None:
        self._single.cache_clear()
        self._policy.close()

    def decide(self, document: dict[str, Any]) -> Decision:
        """The decision. An error becomes a denial with the error as its reason."""
        return _decide(self._policy, document)

    def decide_by_each_grant(self, document: dict[str, Any]) -> Iterator[tuple[str, Decision]]:
        """The grants that cover the input's caller and cluster: each one's id, and the decision if it
        were the only grant and there were no denials and freezes.
        """
        for grant in find_covering_grants(self.content, document):
            yield grant["id"], _decide(self._single(grant["id"]), document)

    def _load_single(self, name: str) -> LoadedPolicy:
        grants = [grant for grant in self.content["grants"] if grant["id"] == name]
        return LoadedPolicy(self._module, build_policy({"grants": grants, "denials": [], "freezes": []}))


@contextmanager
def open_evaluator(wasm: bytes, content: Content) -> Iterator[PolicyEvaluator]:
    """Raises PolicyLoadError."""
    with (
        closing(WasmRuntime()) as runtime,
        closing(PolicyEvaluator(PolicyModule(runtime, wasm), content)) as evaluator,
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
