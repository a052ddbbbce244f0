"""A compiled policy with its data, which evaluates inputs on a pool of instances."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Final, Self

from eksgateway.errors import PolicyUnavailable
from eksgateway.policy.compiled_policy import CompiledPolicy
from eksgateway.policy.decision_cost import MAX_CPU_S, Evaluation, max_inline_groups
from eksgateway.policy.decision_memory import DecisionMemory
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.files import revision_of
from eksgateway.policy.results import read_result_set
from eksgateway.policy.wasm_module import EvaluationFailed, PolicyInstance, PolicyModule

_LOAD_S: Final = 10.0
_INLINE_S: Final = 0.001  # CPU time that one evaluation may take on the event loop
_INLINE_DEADLINE_S: Final = 0.02  # an evaluation on the event loop that takes longer is stopped
_STRIKES: Final = 3


class NeedsThread(Exception):
    """``evaluate`` the input on a thread."""


class LoadedPolicy:
    """Evaluates inputs (JSON), each on an instance of its own. ``evaluate`` may be called by any thread."""

    def __init__(self, module: PolicyModule, policy: CompiledPolicy) -> None:
        self.module = module
        self.revision = revision_of(module.wasm, policy)
        self.edges = policy.read_edges()
        self.memory = DecisionMemory(self.edges, policy.ages)
        self._data = policy.data
        self._closed = False
        self._max_inline_groups = math.inf  # callers in more groups are expected to need over _INLINE_S
        self._strikes = 0
        self._idle = [self._new_instance()]

    @classmethod
    def load(cls, module: PolicyModule, policy: CompiledPolicy, *, max_cpu_s: float = MAX_CPU_S) -> Self:
        """A policy that has decided the costliest questions within its limits. Raises PolicyLoadError."""
        loaded = cls(module, policy)
        try:
            loaded._check_cost(policy, max_cpu_s)
        except BaseException:
            loaded.close()
            raise
        return loaded

    @property
    def memory_bytes(self) -> int:
        """Of one instance, between evaluations."""
        return self._idle[0].memory_bytes

    @property
    def ready(self) -> bool:
        return bool(self._idle)

    def evaluate_inline(self, document: bytes, *, groups: int) -> Any:
        """The policy's result (or UNDEFINED) for an input, on the event loop within 1 or 2 ms.

        ``groups`` is from ``weigh_caller``. Raises PolicyInvalid, and NeedsThread if the evaluation would
        take longer or fails.
        """
        instance = self._take() if groups <= self._max_inline_groups else None
        if instance is None:
            raise NeedsThread
        try:
            result_set = instance.evaluate(document, deadline_s=_INLINE_DEADLINE_S)
        except EvaluationFailed as exc:
            instance.close()
            self._count_strike(instance.took_s)
            raise NeedsThread from exc
        self._give_back(instance)
        self._count_strike(instance.took_s)
        return read_result_set(result_set)

    def evaluate(self, document: bytes, *, deadline_s: float) -> Any:
        """The policy's result (or UNDEFINED) for an input. Raises PolicyUnavailable or PolicyInvalid."""
        try:
            return read_result_set(self._evaluate(document, deadline_s).result_set)
        except (EvaluationFailed, PolicyLoadError) as exc:
            raise PolicyUnavailable(detail=str(exc)) from exc

    def free_spare(self) -> None:
        """Free the memory of all idle instances but one."""
        while len(self._idle) > 1 and (instance := self._take()) is not None:
            instance.close()

    def close(self) -> None:
        """Free the memory of idle instances now, and of each other one when its evaluation ends."""
        self._closed = True
        while (instance := self._take()) is not None:
            instance.close()

    def _evaluate(self, document: bytes, deadline_s: float) -> Evaluation:
        instance = self._take() or self._new_instance()
        try:
            result_set = instance.evaluate(document, deadline_s=deadline_s)
        except EvaluationFailed:
            # After a trap the state of the guest's memory is unknown, and it may be at its limit.
            instance.close()
            with contextlib.suppress(PolicyLoadError):  # the next evaluation tries again and reports it
                self._give_back(self._new_instance())
            raise
        self._give_back(instance)
        return Evaluation(result_set, instance.took_s)

    def _check_cost(self, policy: CompiledPolicy, max_cpu_s: float) -> None:
        loaded = self._idle[0].memory_bytes
        self._max_inline_groups = max_inline_groups(
            self._evaluate, policy, max_cpu_s=max_cpu_s, inline_s=_INLINE_S
        )
        if self._idle[0].memory_bytes > 2 * loaded:  # free what only the costliest question needed
            self._idle.pop().close()
            self._give_back(self._new_instance())

    def _count_strike(self, took_s: float) -> None:
        """Leave all evaluations to threads once some have held up the event loop."""
        if took_s > 2 * _INLINE_S:
            self._strikes += _STRIKES if took_s > _INLINE_DEADLINE_S / 2 else 1
            if self._strikes >= _STRIKES:
                self._max_inline_groups = -1

    def _new_instance(self) -> PolicyInstance:
        return PolicyInstance(self.module, self._data, load_s=_LOAD_S)

    def _take(self) -> PolicyInstance | None:
        try:
            return self._idle.pop()
        except IndexError:  # all are in use
            return None

    def _give_back(self, instance: PolicyInstance) -> None:
        self._idle.append(instance)
        if self._closed:
            self.close()
