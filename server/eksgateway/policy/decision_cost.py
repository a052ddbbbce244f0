"""Measures at load what decisions cost, and refuses a policy that cannot decide within its limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from eksgateway.errors import GatewayError
from eksgateway.policy.compiled_policy import CompiledPolicy
from eksgateway.policy.cost_questions import FEW_GROUPS, MANY_GROUPS
from eksgateway.policy.engine import SAMPLES, PolicyLoadError
from eksgateway.policy.results import MAX_RESULT_BYTES, obligation_error, read_decision, read_result_set
from eksgateway.policy.wasm_module import MAX_MEMORY_BYTES, EvaluationFailed

MAX_CPU_S: Final = 0.25  # for one decision
_DEADLINES_S: Final = (1.0, 4.0, 16.0)  # one for each try; a busy machine grants little of it as CPU time
_CHEAP_S: Final = 0.01  # below this a second try costs little and makes the estimate better

_ADVICE: Final = (
    "name groups, subjects and clusters without `*` where you can, merge grants that differ in one list only,"
    " or use the engine opa"
)


class PolicyTooCostly(PolicyLoadError):
    """A decision needs more time, memory or space than it may have."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    result_set: bytes
    took_s: float  # CPU time


Input: TypeAlias = dict[str, Any]  # as question.Question makes it

# Evaluates an input (JSON) within a deadline in seconds. Raises EvaluationFailed.
Evaluate: TypeAlias = Callable[[bytes, float], Evaluation]


def max_inline_groups(
    evaluate: Evaluate, policy: CompiledPolicy, *, max_cpu_s: float, inline_s: float
) -> float:
    """The most groups of a caller for which a decision takes at most ``inline_s`` of CPU time; -1 for none.

    Raises PolicyLoadError if the policy does not decide the samples, and PolicyTooCostly.
    """
    check = _CostCheck(evaluate, policy, max_cpu_s)
    least = check.measure([sample.to_input() for sample in SAMPLES], must_decide=True)
    questions = [json.loads(line) for line in policy.questions.splitlines()]
    most = check.measure(each for each in questions if _count_groups(each) > FEW_GROUPS)
    if most <= inline_s:
        return MANY_GROUPS
    if least >= inline_s:
        return -1
    few = check.measure(each for each in questions if _count_groups(each) <= FEW_GROUPS)
    if few >= inline_s:
        return -1
    # The cost grows about in proportion to the number of groups.
    return FEW_GROUPS + (MANY_GROUPS - FEW_GROUPS) * (inline_s - few) / (most - few)


class _CostCheck:
    def __init__(self, evaluate: Evaluate, policy: CompiledPolicy, max_cpu_s: float) -> None:
        self._evaluate = evaluate
        self._policy = policy
        self._max_cpu_s = max_cpu_s

    def measure(self, questions: Iterable[Input], *, must_decide: bool = False) -> float:
        """The CPU time of the costliest. Raises PolicyTooCostly, and PolicyLoadError if ``must_decide``."""
        return max((self._measure_one(each, must_decide=must_decide) for each in questions), default=0.0)

    def _measure_one(self, question: Input, *, must_decide: bool) -> float:
        """The least of some tries: other work of the machine only adds to it."""
        document = json.dumps(question).encode()
        tries: list[float] = []
        for deadline_s in _DEADLINES_S:
            try:
                evaluation = self._evaluate(document, deadline_s)
            except EvaluationFailed as exc:
                if exc.out_of_memory:
                    raise self._too_costly(question, f"needs more than {MAX_MEMORY_BYTES >> 20} MB") from exc
                if not exc.interrupted:
                    if must_decide:
                        raise PolicyLoadError(f"the policy does not answer: {exc}") from exc
                    return exc.took_s  # another policy may contradict itself for such a question
                if exc.took_s < self._max_cpu_s:
                    continue  # it waited for the machine most of the time
                tries.append(exc.took_s)
            else:
                self._check_result(question, evaluation.result_set, must_decide=must_decide)
                tries.append(evaluation.took_s)
            least = min(tries)
            within, cheap = least <= self._max_cpu_s, least <= _CHEAP_S
            if least > 2 * self._max_cpu_s or (within and (not cheap or len(tries) > 1)):
                break
        return self._least(question, tries)

    def _least(self, question: Input, tries: list[float]) -> float:
        if not tries:
            raise self._too_costly(question, f"takes longer than {_DEADLINES_S[-1]:g} s")
        if min(tries) > self._max_cpu_s:
            text = f"takes {min(tries):.2f} s of CPU time, and may take {self._max_cpu_s:g} s"
            raise self._too_costly(question, text)
        return min(tries)

    def _check_result(self, question: Input, result_set: bytes, *, must_decide: bool) -> None:
        if len(result_set) > MAX_RESULT_BYTES:
            raise self._too_costly(question, f"has an answer of more than {MAX_RESULT_BYTES >> 10} KB")
        try:
            result = read_result_set(result_set)
            decision = read_decision(result, decision_id=question["context"]["decision_id"], revision="")
            if decision.obligations:
                raise obligation_error(decision)
        except GatewayError as exc:
            if must_decide:
                raise PolicyLoadError(f"the policy does not answer: {exc.detail or exc.message}") from exc

    def _too_costly(self, question: Input, problem: str) -> PolicyTooCostly:
        return PolicyTooCostly(
            f"a decision {problem} ({question['action']['name']} on {question['resource']['id']}, stage"
            f" {question['context']['stage']}, by a caller in {_count_groups(question)} groups;"
            f" {self._policy.counts}): {_ADVICE}"
        )


def _count_groups(question: Input) -> int:
    return len(question["subject"]["properties"]["groups"])
