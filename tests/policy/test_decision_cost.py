"""What a decision costs: little for callers in many groups, and never more than was found out at load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from eksgateway.model import Action
from eksgateway.policy.decision_cost import MANY_GROUPS, PolicyTooCostly, costliest_questions
from eksgateway.policy.files import read_module
from eksgateway.policy.loaded_policy import LoadedPolicy, NeedsThread
from eksgateway.policy.wasm_module import PolicyInstance, PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime
from support.opa import compiled_rego
from support.questions import at_request, caller

Data = dict[str, Any]
GRANT = {
    "actions": ["cancel", "get"],
    "accounts": ["111122223333"],
    "regions": ["us-east-1"],
    "update_types": ["VersionRollback"],
}
# Data of many shapes: what is selective in one is not in another.
SHAPES: dict[str, Callable[[int], Data]] = {
    "clusters": lambda n: {"groups": [f"corp:{n % 300}"], "clusters": [f"prod-{n % 100}"]},
    "groups": lambda n: {"groups": [f"corp:{n % 300}"], "clusters": ["*"]},
    "group patterns": lambda n: {"groups": [f"corp:{n % 200}*"], "clusters": ["*"]},
    "all alike": lambda _: {"groups": ["corp:*"], "clusters": ["*"], "require": ["reason", "ticket"]},
    "tags": lambda n: {"groups": ["corp:*"], "clusters": ["*"], "tags": {f"k{n % 9}": ["a", "b"]}},
}


def data(shape: str, grants: int, freezes: int = 0) -> Data:
    window = {"clusters": ["*"], "from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}
    return {
        "eksgateway": {
            "grants": [{"id": f"g-{n}", **GRANT, **SHAPES[shape](n)} for n in range(grants)],
            "freezes": [{"id": f"f-{n}", **window, "except_groups": [f"corp:{n}*"]} for n in range(freezes)],
        }
    }


@pytest.fixture(scope="module")
def compiled() -> Iterator[Callable[..., PolicyModule]]:
    """The package's module, or one of a policy's Rego."""
    runtime = WasmRuntime()
    cached: dict[bytes, PolicyModule] = {}

    def compile_(wasm: bytes | None = None) -> PolicyModule:
        wasm = wasm or read_module(None)
        return cached.setdefault(wasm, PolicyModule(runtime, wasm))

    yield compile_
    runtime.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_decisions_for_callers_in_many_groups_need_little_memory(
    shape: str, compiled: Callable[..., PolicyModule]
) -> None:
    """Memory, unlike time, is the same on every machine: it was 25 to 260 MB for 1,000 grants."""
    content = data(shape, 1000, freezes=100)
    with ExitStack() as stack:
        instance = PolicyInstance(compiled(), json.dumps(content).encode(), load_s=60)
        stack.callback(instance.close)
        loaded = instance.memory_bytes
        for question in costliest_questions(content, MANY_GROUPS):
            instance.evaluate(json.dumps(question.to_input()).encode(), deadline_s=60)
        assert instance.memory_bytes - loaded < 12 << 20


def test_long_names_of_groups_cost_no_more_than_short_ones(compiled: Callable[..., PolicyModule]) -> None:
    """Each pattern is tried on each group: that took eight times as long for 250 characters as for 10."""
    grants = [{"id": f"g-{n}", **GRANT, "groups": [f"c:*-{n}"], "clusters": ["*"]} for n in range(500)]
    took = []
    with ExitStack() as stack:
        instance = PolicyInstance(
            compiled(), json.dumps({"eksgateway": {"grants": grants}}).encode(), load_s=60
        )
        stack.callback(instance.close)
        for length in (10, 250):
            who = caller("jwt:corp:a", *(f"c:{n}-".ljust(length, "x") for n in range(MANY_GROUPS)))
            document = json.dumps(at_request(who, "cancel").to_input()).encode()
            tries = []
            for _ in range(5):
                instance.evaluate(document, deadline_s=60)
                tries.append(instance.took_s)
            took.append(min(tries))
    assert took[1] < 3 * took[0]


def test_the_costliest_questions_are_about_what_most_grants_name() -> None:
    """One for every action at both stages, by a caller in all those groups."""
    asked = costliest_questions(data("clusters", 1000, freezes=3), MANY_GROUPS)
    assert {(each.action, each.stage) for each in asked} >= {
        (action, stage) for action in Action for stage in ("request", "update")
    } | {(Action.LIST, "target")}
    for each in asked:
        assert len(each.caller.groups) == MANY_GROUPS
        assert str(each.cluster).startswith("111122223333/us-east-1/prod-")
        assert "corp:0" in each.caller.groups


@pytest.mark.parametrize(
    "content", [None, 5, {}, {"grants": [5, None, {"groups": 5, "tags": [1]}]}], ids=repr
)
def test_data_of_any_shape_makes_questions(content: Any) -> None:
    """A policy of one's own may have data of its own."""
    assert costliest_questions({"eksgateway": content}, MANY_GROUPS)
    assert costliest_questions({}, 0)


ALL = 'package eksgateway.authz\n\ndefault decision := {"allow": false}\n\n'
GROUPS = "input.subject.properties.groups"
COSTLY = {
    "memory": (
        ALL + f'decision := {{"allow": count(big) == 0}} if count({GROUPS}) > 99\n'
        f'big := [concat("", [a, b, c]) | some a in {GROUPS}; some b in {GROUPS}; some c in {GROUPS}]',
        r"more than 128 MB \(\w+ on \S+/costs, stage \w+, by a caller in 250 groups; 0 grants, 0 freezes\)",
    ),
    "time": (
        ALL + f'decision := {{"allow": n == 0}} if count({GROUPS}) > 99\n'
        f"n := count({{1 | some a in {GROUPS}; some b in {GROUPS}; some c in {GROUPS}; a == b; b == c}})",
        r"takes \d+\.\d\d s of CPU time, and may take 0\.25 s",
    ),
    "answer": (
        ALL + f'decision := {{"allow": false, "reasons": [concat(a, [b, b]) | some a in {GROUPS};'
        f" some b in {GROUPS}]}} if count({GROUPS}) > 99\n",
        r"has an answer of more than 256 KB",
    ),
}


@pytest.mark.parametrize(("rego", "told"), COSTLY.values(), ids=COSTLY)
def test_a_policy_that_cannot_decide_within_its_limits_is_refused(
    rego: str, told: str, tmp_path: Path, compiled: Callable[..., PolicyModule]
) -> None:
    """By which limit, with which question, and what to do."""
    module = compiled(compiled_rego(rego, tmp_path))
    with pytest.raises(PolicyTooCostly, match=told) as refused:
        LoadedPolicy.load(module, {})
    assert "name groups, subjects and clusters without `*`" in str(refused.value)


def test_time_is_cpu_time(compiled: Callable[..., PolicyModule]) -> None:
    """A machine that is busy with other things refuses nothing that it takes otherwise."""
    spin = [sys.executable, "-c", "import sys; sys.stdin.close()\nwhile True: pass"]
    with ExitStack() as stack:
        for _ in range(6):
            process = stack.enter_context(subprocess.Popen(spin, stdin=subprocess.PIPE))
            stack.callback(process.kill)
        policy = LoadedPolicy.load(compiled(), data("all alike", 300))
        stack.callback(policy.close)
        assert policy.ready


@pytest.mark.parametrize(("shape", "grants", "inline"), [("clusters", 3, True), ("all alike", 3000, False)])
def test_what_takes_long_is_left_to_threads(
    shape: str, grants: int, inline: bool, compiled: Callable[..., PolicyModule]
) -> None:
    """Small data is decided at once; large data never holds up the event loop."""
    policy = LoadedPolicy.load(compiled(), data(shape, grants))
    document = json.dumps(at_request(caller("jwt:corp:a", "corp:1"), "get").to_input()).encode()
    try:
        if inline:
            assert policy.evaluate_inline(document, groups=1)["rules"] == ["g-1"]
        else:
            with pytest.raises(NeedsThread):
                policy.evaluate_inline(document, groups=1)
            assert len(policy.evaluate(document, deadline_s=60)["rules"]) == 100
    finally:
        policy.close()
