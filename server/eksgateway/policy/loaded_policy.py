"""A compiled policy with its data, under one revision: in force as a whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any, Final, Self

from eksgateway.errors import PolicyUnavailable
from eksgateway.policy.data import edges_of
from eksgateway.policy.decision_cost import MAX_CPU_S, Answer, at_once_groups
from eksgateway.policy.engine import PolicyLoadError, read_result
from eksgateway.policy.files import revision_of
from eksgateway.policy.wasm_module import EvaluationFailed, PolicyInstance, PolicyModule

_LOAD_S: Final = 10.0
_AT_ONCE_S: Final = 0.001  # CPU time for which one evaluation may hold up the event loop,
_STOPPED_S: Final = 0.02  # and the time after which one that takes longer all the same is stopped
_STRIKES: Final = 3


class NeedsThread(Exception):
    """An input was not decided on the event loop: a thread has to."""


class LoadedPolicy:
    """Evaluates input documents (JSON) on instances of a module; any thread may call ``evaluate``.

    An instance evaluates one input at a time, so there are as many as threads that evaluate. After a
    failure the thread closes the instance and makes another one. ``close`` frees all instances, those in
    use as soon as they are not.
    """

    def __init__(self, module: PolicyModule, data: dict[str, Any]) -> None:
        self.module = module
        self.revision = revision_of(module.wasm, data)
        self.edges = edges_of(data)
        self._data = json.dumps(data).encode()
        self._closed = False
        self._at_once_groups = math.inf  # of a caller: with more, _AT_ONCE_S is expected not to be enough
        self._strikes = 0
        self._idle = [self._build()]

    @classmethod
    def load(cls, module: PolicyModule, data: dict[str, Any], *, max_cpu_s: float = MAX_CPU_S) -> Self:
        """A policy that has decided the costliest questions within its limits. Raises PolicyLoadError."""
        policy = cls(module, data)
        try:
            policy._prove(data, max_cpu_s)
        except BaseException:
            policy.close()
            raise
        return policy

    @property
    def ready(self) -> bool:
        """Whether an instance is loaded and not in use."""
        return bool(self._idle)

    def evaluate_at_once(self, document: bytes, *, groups: int) -> Any:
        """The decision document for an input by a caller in so many groups, or UNDEFINED, within a
        millisecond or two.

        Raises NeedsThread where that takes longer or fails (``evaluate`` has the answer then), and
        PolicyInvalid. For one thread, the event loop's.
        """
        instance = self._take() if groups <= self._at_once_groups else None
        if instance is None:
            raise NeedsThread
        try:
            answer = instance.evaluate(document, deadline_s=_STOPPED_S)
        except EvaluationFailed as exc:
            instance.close()
            self._note(instance.took_s)
            raise NeedsThread from exc
        self._give(instance)
        self._note(instance.took_s)
        return read_result(answer)

    def evaluate(self, document: bytes, *, deadline_s: float) -> Any:
        """The decision document for an input, or UNDEFINED. Raises PolicyUnavailable or PolicyInvalid."""
        try:
            return read_result(self._run(document, deadline_s).text)
        except (EvaluationFailed, PolicyLoadError) as exc:
            raise PolicyUnavailable(detail=str(exc)) from exc

    def close(self) -> None:
        """Free the memory of all instances. An evaluation that is under way goes on to its end."""
        self._closed = True
        while (instance := self._take()) is not None:
            instance.close()

    def _run(self, document: bytes, deadline_s: float) -> Answer:
        instance = self._take() or self._build()
        try:
            text = instance.evaluate(document, deadline_s=deadline_s)
        except EvaluationFailed:
            # After a trap the guest's memory is in no known state, and may be as large as it can get.
            instance.close()
            with contextlib.suppress(PolicyLoadError):  # the next evaluation tries again, and reports it
                self._give(self._build())
            raise
        self._give(instance)
        return Answer(text, instance.took_s)

    def _prove(self, data: dict[str, Any], max_cpu_s: float) -> None:
        loaded = self._idle[0].memory_bytes
        self._at_once_groups = at_once_groups(self._run, data, max_cpu_s=max_cpu_s, at_once_s=_AT_ONCE_S)
        if self._idle[0].memory_bytes > 2 * loaded:  # do not keep what the costliest question needed
            self._idle.pop().close()
            self._give(self._build())

    def _note(self, took_s: float) -> None:
        """Once evaluations have held up the event loop all the same, leave all of them to threads."""
        if took_s > 2 * _AT_ONCE_S:
            self._strikes += _STRIKES if took_s > _STOPPED_S / 2 else 1
            if self._strikes >= _STRIKES:
                self._at_once_groups = -1

    def _build(self) -> PolicyInstance:
        return PolicyInstance(self.module, self._data, load_s=_LOAD_S)

    def _take(self) -> PolicyInstance | None:
        try:
            return self._idle.pop()
        except IndexError:  # all are in use
            return None

    def _give(self, instance: PolicyInstance) -> None:
        self._idle.append(instance)
        if self._closed:
            self.close()
