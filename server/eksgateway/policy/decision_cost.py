"""Finds out at load what a decision costs, and refuses a policy that cannot decide within its limits.

The questions are made from the data: the caller, the groups and the cluster that most grants name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from eksgateway.errors import GatewayError
from eksgateway.model import Action, Caller, ClusterFacts, ClusterRef, Justification, Update
from eksgateway.policy.data import entries
from eksgateway.policy.engine import MAX_ANSWER_BYTES, SAMPLES, PolicyLoadError, read_decision, read_result
from eksgateway.policy.freezes import moment
from eksgateway.policy.question import Question
from eksgateway.policy.wasm_module import MAX_MEMORY_BYTES, EvaluationFailed

MAX_CPU_S: Final = 0.25  # for one decision
MANY_GROUPS: Final = 250
_FEW_GROUPS: Final = 5
_WAIT_S: Final = (1.0, 4.0, 16.0)  # one try each: on a loaded machine little of that is CPU time
_CHEAP_S: Final = 0.01  # below, a second try costs little and makes the estimate better

_ADVICE: Final = (
    "name groups, subjects and clusters without `*` where you can, merge grants that differ in one list only,"
    " or use the engine opa"
)


class PolicyTooCostly(PolicyLoadError):
    """Data with which a decision needs more time, memory or room for its answer than it may have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result set for one input, and the CPU time that it took."""

    text: bytes
    took_s: float


# Evaluates an input with a time limit. Raises EvaluationFailed.
Run = Callable[[bytes, float], Answer]


def at_once_groups(run: Run, data: dict[str, Any], *, max_cpu_s: float, at_once_s: float) -> float:
    """In how many groups a caller may be for a decision within ``at_once_s`` of CPU time; -1 for none.

    Raises PolicyLoadError for a policy that does not decide the sample questions, and PolicyTooCostly
    for one that cannot decide the costliest ones within its limits.
    """
    prover = _Prover(run, data, max_cpu_s)
    least = prover.cost(SAMPLES, must_decide=True)
    most = prover.cost(questions(data, MANY_GROUPS))
    if most <= at_once_s:
        return MANY_GROUPS
    if least >= at_once_s:
        return -1
    few = prover.cost(questions(data, _FEW_GROUPS))
    if few >= at_once_s:
        return -1
    # What groups cost is about in proportion to their number.
    return _FEW_GROUPS + (MANY_GROUPS - _FEW_GROUPS) * (at_once_s - few) / (most - few)


def questions(data: dict[str, Any], groups: int) -> tuple[Question, ...]:
    """Every kind of action, by a caller in so many groups whom many grants cover, on a cluster of theirs."""
    grants = [grant for _, grant in entries(data, "grants")]
    near, cluster = _most_granted(grants)
    begins = [time for _, freeze in entries(data, "freezes") if (time := moment(freeze.get("from")))]
    common: dict[str, Any] = {
        "caller": _caller(near, groups),
        "cluster": cluster,
        "method": "",
        "decision_id": "costs",
        "time": sorted(begins)[len(begins) // 2] if begins else datetime(2026, 1, 1, tzinfo=UTC),
    }
    tags = {key: value for grant in near for key, value in _first_tags(grant)}
    no_facts: dict[str, Any] = {}
    facts = ClusterFacts("arn", cluster.name, "ACTIVE", "1.34", tags)
    update = Update("u", "InProgress", next(_most_common(near, "update_types"), "VersionUpdate"))
    asked = [
        Question(**common, action=action, justification=Justification("r", "t"), **at_stage)
        for action in Action
        for at_stage in (no_facts, {"facts": facts, "update": update})
    ]
    nothing_fits: dict[str, Any] = {"facts": replace(facts, tags={}), "update": replace(update, type="-")}
    asked += [Question(**common, action=Action.CANCEL, **at_stage) for at_stage in (no_facts, nothing_fits)]
    return (*asked, Question(**common, action=Action.LIST, any_cluster=True))


class _Prover:
    def __init__(self, run: Run, data: dict[str, Any], max_cpu_s: float) -> None:
        self._run = run
        self._data = data
        self._max_cpu_s = max_cpu_s

    def cost(self, asked: tuple[Question, ...], *, must_decide: bool = False) -> float:
        """The CPU time of the costliest one."""
        return max(self._cost(each, must_decide=must_decide) for each in asked)

    def _cost(self, question: Question, *, must_decide: bool) -> float:
        """The least of some tries: what else the machine does adds to it."""
        document = json.dumps(question.to_input()).encode()
        tries: list[float] = []
        for wait_s in _WAIT_S:
            try:
                answer = self._run(document, wait_s)
            except EvaluationFailed as exc:
                if exc.out_of_memory:
                    raise self._too_costly(question, f"needs more than {MAX_MEMORY_BYTES >> 20} MB") from exc
                if not exc.interrupted:
                    if must_decide:
                        raise PolicyLoadError(f"the policy does not answer: {exc}") from exc
                    return exc.took_s  # a policy of another kind may contradict itself here
                if exc.took_s < self._max_cpu_s:
                    continue  # it was waiting for the machine most of the time
                tries.append(exc.took_s)
            else:
                self._check(question, answer.text, must_decide=must_decide)
                tries.append(answer.took_s)
            least = min(tries)
            within, cheap = least <= self._max_cpu_s, least <= _CHEAP_S
            if least > 2 * self._max_cpu_s or (within and (not cheap or len(tries) > 1)):
                break
        if not tries or min(tries) > self._max_cpu_s:
            told = f"{min(tries):.2f} s of CPU time, and may take {self._max_cpu_s:g} s" if tries else _NO_END
            raise self._too_costly(question, f"takes {told}")
        return min(tries)

    def _check(self, question: Question, text: bytes, *, must_decide: bool) -> None:
        if len(text) > MAX_ANSWER_BYTES:
            raise self._too_costly(question, f"has an answer of more than {MAX_ANSWER_BYTES >> 10} KB")
        try:
            read_decision(read_result(text), decision_id=question.decision_id, revision="")
        except GatewayError as exc:
            if must_decide:
                raise PolicyLoadError(f"the policy does not answer: {exc.detail or exc.message}") from exc

    def _too_costly(self, question: Question, what: str) -> PolicyTooCostly:
        grants, freezes = (sum(1 for _ in entries(self._data, key)) for key in ("grants", "freezes"))
        return PolicyTooCostly(
            f"a decision {what} ({question.action} on {question.cluster}, stage"
            f" {question.stage}, by a caller in {len(question.caller.groups)} groups; {grants} grants,"
            f" {freezes} freezes): {_ADVICE}"
        )


_NO_END: Final = f"longer than {_WAIT_S[-1]:g} s"


def _most_granted(grants: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], ClusterRef]:
    """The cluster that most grants name by one pattern, and those grants."""
    found = []
    for key, other in (("accounts", "000000000000"), ("regions", "xx-costs-0"), ("clusters", "costs")):
        pattern = next(_most_common(grants, key, concrete=False), other)
        grants = [grant for grant in grants if pattern in _texts(grant.get(key))] or grants
        found.append(_concrete(pattern))
    return grants, ClusterRef(*found)


def _caller(grants: list[dict[str, Any]], groups: int) -> Caller:
    """One whom as many grants as possible cover, and who is in other groups besides."""
    wanted = list(_most_common(grants, "groups"))[:groups]
    others = [f"costs:00000000-0000-0000-0000-{number:012}" for number in range(groups - len(wanted))]
    name = next(_most_common(grants, "subjects"), "jwt:costs:caller")
    kind = "spiffe" if name.startswith("spiffe:") else "jwt"
    via = next(_most_common(grants, "via"), None)
    return Caller(type=kind, id=name, issuer="", groups=(*wanted, *others), via=via)


def _most_common(grants: list[dict[str, Any]], key: str, *, concrete: bool = True) -> Iterator[str]:
    """What stands in the grants' lists, the most common first; ``concrete``: fitting names for patterns."""
    counted = Counter(text for grant in grants for text in _texts(grant.get(key)))
    for text, _ in counted.most_common():
        yield _concrete(text) if concrete else text


def _concrete(pattern: str) -> str:
    return pattern.replace("**", "x").replace("*", "x")


def _first_tags(grant: dict[str, Any]) -> Iterator[tuple[str, str]]:
    tags = grant.get("tags")
    for key, values in tags.items() if isinstance(tags, dict) else ():
        for value in _texts(values)[:1]:
            yield key, value


def _texts(values: Any) -> list[str]:
    return [each for each in values if isinstance(each, str)] if isinstance(values, list) else []
