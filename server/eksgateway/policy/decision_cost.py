"""Measures at load what decisions cost, and refuses a policy that cannot decide within its limits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from eksgateway.errors import GatewayError
from eksgateway.model import Action, Caller, ClusterFacts, ClusterRef, Justification, Update
from eksgateway.policy.edges import parse_time
from eksgateway.policy.engine import SAMPLES, PolicyLoadError
from eksgateway.policy.question import Question
from eksgateway.policy.results import MAX_RESULT_BYTES, obligation_error, read_decision, read_result_set
from eksgateway.policy.wasm_module import MAX_MEMORY_BYTES, EvaluationFailed

MAX_CPU_S: Final = 0.25  # for one decision
MANY_GROUPS: Final = 250
_FEW_GROUPS: Final = 5
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


# Evaluates an input (JSON) within a deadline in seconds. Raises EvaluationFailed.
Evaluate: TypeAlias = Callable[[bytes, float], Evaluation]


def max_inline_groups(
    evaluate: Evaluate, data: dict[str, Any], *, max_cpu_s: float, inline_s: float
) -> float:
    """The most groups of a caller for which a decision takes at most ``inline_s`` of CPU time; -1 for none.

    Raises PolicyLoadError if the policy does not decide the samples, and PolicyTooCostly.
    """
    check = _CostCheck(evaluate, data, max_cpu_s)
    least = check.measure(SAMPLES, must_decide=True)
    most = check.measure(costliest_questions(data, MANY_GROUPS))
    if most <= inline_s:
        return MANY_GROUPS
    if least >= inline_s:
        return -1
    few = check.measure(costliest_questions(data, _FEW_GROUPS))
    if few >= inline_s:
        return -1
    # The cost grows about in proportion to the number of groups.
    return _FEW_GROUPS + (MANY_GROUPS - _FEW_GROUPS) * (inline_s - few) / (most - few)


def costliest_questions(data: dict[str, Any], groups: int) -> tuple[Question, ...]:
    """Questions for each action and stage, by a caller in so many groups that most grants cover."""
    grants = list_entries(data, "grants")
    covering, cluster = _most_granted_cluster(grants)
    begins = [time for freeze in list_entries(data, "freezes") if (time := parse_time(freeze.get("from")))]
    time = sorted(begins)[len(begins) // 2] if begins else datetime(2026, 1, 1, tzinfo=UTC)
    cancel = Question(_make_caller(covering, groups), Action.CANCEL, cluster, "", "costs", time)
    tags = {key: value for grant in covering for key, value in _first_tags(grant)}
    facts = ClusterFacts("arn", cluster.name, "ACTIVE", "1.34", tags)
    update = Update("u", "InProgress", next(_most_common(covering, "update_types"), "VersionUpdate"))
    at_request = replace(cancel, justification=Justification("r", "t"))
    at_update = replace(at_request, facts=facts, update=update)
    allowed = [replace(stage, action=action) for action in Action for stage in (at_request, at_update)]
    no_match = replace(cancel, facts=replace(facts, tags={}), update=replace(update, type="-"))
    at_target = replace(cancel, action=Action.LIST, any_cluster=True)
    return (*allowed, cancel, no_match, at_target)


class _CostCheck:
    def __init__(self, evaluate: Evaluate, data: dict[str, Any], max_cpu_s: float) -> None:
        self._evaluate = evaluate
        self._data = data
        self._max_cpu_s = max_cpu_s

    def measure(self, questions: tuple[Question, ...], *, must_decide: bool = False) -> float:
        """The CPU time of the costliest. Raises PolicyTooCostly, and PolicyLoadError if ``must_decide``."""
        return max(self._measure_one(each, must_decide=must_decide) for each in questions)

    def _measure_one(self, question: Question, *, must_decide: bool) -> float:
        """The least of some tries: other work of the machine only adds to it."""
        document = json.dumps(question.to_input()).encode()
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

    def _least(self, question: Question, tries: list[float]) -> float:
        if not tries:
            raise self._too_costly(question, f"takes longer than {_DEADLINES_S[-1]:g} s")
        if min(tries) > self._max_cpu_s:
            text = f"takes {min(tries):.2f} s of CPU time, and may take {self._max_cpu_s:g} s"
            raise self._too_costly(question, text)
        return min(tries)

    def _check_result(self, question: Question, result_set: bytes, *, must_decide: bool) -> None:
        if len(result_set) > MAX_RESULT_BYTES:
            raise self._too_costly(question, f"has an answer of more than {MAX_RESULT_BYTES >> 10} KB")
        try:
            result = read_result_set(result_set)
            decision = read_decision(result, decision_id=question.decision_id, revision="")
            if decision.obligations:
                raise obligation_error(decision)
        except GatewayError as exc:
            if must_decide:
                raise PolicyLoadError(f"the policy does not answer: {exc.detail or exc.message}") from exc

    def _too_costly(self, question: Question, problem: str) -> PolicyTooCostly:
        grants, freezes = (len(list_entries(self._data, key)) for key in ("grants", "freezes"))
        return PolicyTooCostly(
            f"a decision {problem} ({question.action} on {question.cluster}, stage"
            f" {question.stage}, by a caller in {len(question.caller.groups)} groups; {grants} grants,"
            f" {freezes} freezes): {_ADVICE}"
        )


def list_entries(data: Any, kind: str) -> list[dict[str, Any]]:
    """The ``grants`` or ``freezes``; the data need not be valid."""
    content = data.get("eksgateway") if isinstance(data, dict) else None
    entries = content.get(kind) if isinstance(content, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _most_granted_cluster(grants: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], ClusterRef]:
    """The cluster that most grants name, and the grants that name it."""
    parts = []
    for key, other in (("accounts", "000000000000"), ("regions", "xx-costs-0"), ("clusters", "costs")):
        pattern = next(_most_common(grants, key, fill_stars=False), other)
        grants = [grant for grant in grants if pattern in _texts_in(grant.get(key))] or grants
        parts.append(_fill_stars(pattern))
    return grants, ClusterRef(*parts)


def _make_caller(grants: list[dict[str, Any]], groups: int) -> Caller:
    wanted = list(_most_common(grants, "groups"))[:groups]
    others = [f"costs:00000000-0000-0000-0000-{number:012}" for number in range(groups - len(wanted))]
    name = next(_most_common(grants, "subjects"), "jwt:costs:caller")
    kind = "spiffe" if name.startswith("spiffe:") else "jwt"
    via = next(_most_common(grants, "via"), None)
    return Caller(type=kind, id=name, issuer="", groups=(*wanted, *others), via=via)


def _most_common(grants: list[dict[str, Any]], key: str, *, fill_stars: bool = True) -> Iterator[str]:
    counted = Counter(text for grant in grants for text in _texts_in(grant.get(key)))
    for text, _ in counted.most_common():
        yield _fill_stars(text) if fill_stars else text


def _fill_stars(pattern: str) -> str:
    return pattern.replace("**", "x").replace("*", "x")


def _first_tags(grant: dict[str, Any]) -> Iterator[tuple[str, str]]:
    tags = grant.get("tags")
    for key, values in tags.items() if isinstance(tags, dict) else ():
        for value in _texts_in(values)[:1]:
            yield key, value


def _texts_in(values: Any) -> list[str]:
    return [each for each in values if isinstance(each, str)] if isinstance(values, list) else []
