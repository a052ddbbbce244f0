"""The cost of a decision: small for callers in many groups, and limited at load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eksgateway.model import MAX_CLAIM_VALUES, Action, Claim
from eksgateway.policy.cost_questions import FEW_GROUPS, MANY_GROUPS, make_questions, weigh_caller
from eksgateway.policy.decision_cost import PolicyTooCostly
from eksgateway.policy.engine import PolicyTooLarge
from eksgateway.policy.files import read_module
from eksgateway.policy.loaded_policy import LoadedPolicy, NeedsThread
from eksgateway.policy.wasm_module import PolicyInstance, PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime
from support.opa import compile_rego
from support.policies import compile_data
from support.questions import at_request, at_target, caller

Data = dict[str, Any]
GRANT = {
    "actions": ["cancel", "get"],
    "accounts": ["111122223333"],
    "regions": ["us-east-1"],
    "update_types": ["VersionRollback"],
}
LISTS = {"groups": ["corp:a", "corp:b"], "actions": ["list", "get"]}
# Shapes of data: each is selective in another key.
SHAPES: dict[str, Callable[[int], Data]] = {
    "clusters": lambda n: {"groups": [f"corp:{n % 300}"], "clusters": [f"prod-{n % 100}"]},
    "groups": lambda n: {"groups": [f"corp:{n % 300}"], "clusters": ["*"]},
    "group patterns": lambda n: {"groups": [f"corp:{n % 200}*"], "clusters": ["*"]},
    "conditions": lambda n: {"groups": ["corp:*"], "clusters": ["*"], "tags": {f"k{n}": ["a"]}},
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
def compile_module() -> Iterator[Callable[..., PolicyModule]]:
    """Compiles the package's module, or another one."""
    runtime = WasmRuntime()
    cached: dict[bytes, PolicyModule] = {}

    def compile_once(wasm: bytes | None = None) -> PolicyModule:
        wasm = wasm or read_module(None)
        return cached.setdefault(wasm, PolicyModule(runtime, wasm))

    yield compile_once
    runtime.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_decisions_for_callers_in_many_groups_need_little_memory(
    shape: str, compile_module: Callable[..., PolicyModule]
) -> None:
    """Less than 12 MB, also if all grants cover the caller. Unlike time, it is the same everywhere."""
    content = data(shape, 100, freezes=10)
    with ExitStack() as stack:
        policy = compile_data(content)
        instance = PolicyInstance(compile_module(), policy.data, load_s=60)
        stack.callback(instance.close)
        loaded = instance.memory_bytes
        for question in policy.questions.splitlines():
            instance.evaluate(question, deadline_s=60)
        assert instance.memory_bytes - loaded < 12 << 20


def test_long_group_names_cost_no_more_than_short_ones(compile_module: Callable[..., PolicyModule]) -> None:
    """Each pattern is matched with each group, so a cost per character would multiply."""
    grants = [{"id": f"g-{n}", **GRANT, "groups": [f"c:*-{n}"], "clusters": ["*"]} for n in range(500)]
    took = []
    with ExitStack() as stack:
        instance = PolicyInstance(
            compile_module(), compile_data({"eksgateway": {"grants": grants}}).data, load_s=60
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
    assert took[1] < 5 * took[0]


def test_the_costliest_questions_use_what_most_grants_name() -> None:
    """There is one for every action and stage, by a caller in many of those groups and by one in few."""
    asked = [
        json.loads(line) for line in compile_data(data("clusters", 1000, freezes=3)).questions.splitlines()
    ]
    for count in (MANY_GROUPS, FEW_GROUPS):
        these = [each for each in asked if len(each["subject"]["properties"]["groups"]) == count]
        assert {(each["action"]["name"], each["context"]["stage"]) for each in these} >= {
            (action, stage) for action in Action for stage in ("request", "update")
        } | {(Action.LIST, "target")}
    for each in asked:
        assert each["resource"]["id"].startswith("111122223333/us-east-1")
        assert each["resource"]["properties"].get("cluster", "prod-0") == "prod-0"
        assert "corp:0" in each["subject"]["properties"]["groups"]


ALL_CLUSTERS = {"id": "g", **GRANT, "groups": ["corp:*"], "clusters": ["*"]}
PATTERNS = [f"corp:*-{n}-*" for n in range(1500)]
BLOCKS: dict[str, tuple[str, Data]] = {
    "denied groups": ("denials", {"groups": PATTERNS, "reason": "r"}),
    "denied groups of a cluster": ("denials", {"groups": PATTERNS, "reason": "r", "clusters": ["other"]}),
    "spared groups": (
        "freezes",
        {"except_groups": PATTERNS, "clusters": ["other"], "windows": [{"zone": "UTC"}]},
    ),
}


@pytest.mark.parametrize(("kind", "block"), BLOCKS.values(), ids=BLOCKS)
def test_denials_and_freezes_beyond_the_limits_are_refused(kind: str, block: Data) -> None:
    """Each of a caller's groups is compared with each pattern that has the same head and tail."""
    with pytest.raises(PolicyTooLarge):
        compile_data({"eksgateway": {"grants": [ALL_CLUSTERS], kind: [{"id": "b", **block}]}})


def test_costliest_questions_are_about_the_cluster_of_most_freezes_too() -> None:
    """Although most grants are on other clusters."""
    grants = [{**ALL_CLUSTERS, "id": f"g-{n}", "clusters": [name]} for n, name in enumerate("aab")]
    freeze = {"clusters": ["b"], "from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}
    freezes = [{"id": f"f-{n}", **freeze} for n in range(20)]
    asked = compile_data({"eksgateway": {"grants": grants, "freezes": freezes}}).questions.splitlines()
    assert {json.loads(line)["resource"]["properties"].get("cluster") for line in asked} == {"a", "b", None}


def test_questions_are_made_from_empty_data() -> None:
    assert make_questions({"grants": [], "denials": [], "freezes": []})


def test_grants_that_differ_in_clusters_count_once_where_all_clusters_are_listed(
    compile_module: Callable[..., PolicyModule],
) -> None:
    """The first by id stands for all. A denial is not alike, whatever its id."""
    grants = [{"id": f"g-{n}", **GRANT, **LISTS, "clusters": [f"prod-{n}"]} for n in range(2000, 0, -1)]
    other = {"id": "other", **GRANT, **LISTS, "clusters": ["prod-1"], "actions": ["list"]}
    denial = {"id": "c0", "groups": ["corp:a"], "reason": "Compromised."}
    document = json.dumps(at_target(caller("jwt:corp:a", "corp:a")).to_input()).encode()
    for denials, rules in (([], ["g-1", "other"]), ([denial], ["c0"])):
        content = {"eksgateway": {"grants": [*grants, other], "denials": denials}}
        policy = LoadedPolicy(compile_module(), compile_data(content))
        assert policy.evaluate(document, deadline_s=60)["rules"] == rules
        policy.close()


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


@pytest.mark.parametrize(("rego", "expected"), COSTLY.values(), ids=COSTLY)
def test_a_policy_beyond_its_limits_is_refused(
    rego: str, expected: str, tmp_path: Path, compile_module: Callable[..., PolicyModule]
) -> None:
    """The error has the limit, the question and advice."""
    module = compile_module(compile_rego(rego, tmp_path))
    with pytest.raises(PolicyTooCostly, match=expected) as refused:
        LoadedPolicy.load(module, compile_data({}))
    assert "name groups, subjects and clusters without `*`" in str(refused.value)


def test_a_busy_machine_does_not_make_a_policy_too_costly(
    compile_module: Callable[..., PolicyModule],
) -> None:
    """The limit is CPU time."""
    spin = [sys.executable, "-c", "import sys; sys.stdin.close()\nwhile True: pass"]
    with ExitStack() as stack:
        for _ in range(6):
            process = stack.enter_context(subprocess.Popen(spin, stdin=subprocess.PIPE))
            stack.callback(process.kill)
        policy = LoadedPolicy.load(compile_module(), compile_data(data("all alike", 300)))
        stack.callback(policy.close)
        assert policy.ready


@pytest.mark.parametrize(("shape", "grants", "inline"), [("clusters", 3, True), ("conditions", 110, False)])
def test_only_cheap_evaluations_run_inline(
    shape: str, grants: int, inline: bool, compile_module: Callable[..., PolicyModule]
) -> None:
    """Large data never holds up the event loop."""
    policy = LoadedPolicy.load(compile_module(), compile_data(data(shape, grants)))
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


def test_a_caller_with_several_values_of_a_claim_counts_as_one_in_many_groups() -> None:
    """Only the costliest questions have several values."""
    who = caller("jwt:corp:a", "corp:1")
    several = (Claim("ref", ("a", "b")),)
    assert weigh_caller(replace(who, claims=(Claim("ref", ("a",)),))) == 1
    assert weigh_caller(replace(who, claims=several)) == MANY_GROUPS
    assert weigh_caller(replace(who, groups=("g",) * 300, claims=several)) == 300


def test_the_costliest_questions_have_the_most_values_of_claims() -> None:
    """One of them is asked for, so that a grant allows."""
    grant = {"id": "g", **GRANT, "groups": ["corp:a"], "clusters": ["*"], "claims": {"ref": ["main", "x-*"]}}
    values = {
        len(question["subject"]["properties"]["groups"]): question["subject"]["properties"]["claims"]["ref"]
        for question in make_questions({"grants": [grant], "denials": [], "freezes": []})
    }
    assert values[FEW_GROUPS] == ["main"]
    assert (len(values[MANY_GROUPS]), values[MANY_GROUPS][-1]) == (MAX_CLAIM_VALUES, "main")
