"""Decisions are remembered only if the policy declares it, and only as long as they stay the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
import wasmtime

from eksgateway.model import Action, Claim, Decision, Justification, UpdateCancellation
from eksgateway.policy.compiled_policy import build_policy
from eksgateway.policy.compiler import compile_content
from eksgateway.policy.decision_memory import DecisionMemory
from eksgateway.policy.edges import Edges
from eksgateway.policy.files import read_module
from eksgateway.policy.question import Question
from eksgateway.policy.wasm import WasmEngine
from eksgateway.policy.wasm_module import PolicyModule
from support.policies import compile_data
from support.policy_deciders import decide_all
from support.policy_generated import contents
from support.policy_questions import questions
from support.questions import NOW, at_request, at_target, at_update, caller

# Allows at every other evaluation. The texts of both decisions are parameters.
ALTERNATING = r"""
(module
  (import "env" "memory" (memory 1))
  (data (i32.const 16) "{}\00")
  (data (i32.const 64) "[{\22result\22:ALLOW}]\00")
  (data (i32.const 256) "[{\22result\22:DENY}]\00")
  (global $count (mut i32) (i32.const 0))
  (func (export "builtins") (result i32) i32.const 0)
  (func (export "opa_json_dump") (param i32) (result i32) i32.const 16)
  (func (export "opa_json_parse") (param i32 i32) (result i32) i32.const 1)
  (func (export "opa_malloc") (param i32) (result i32) i32.const 1024)
  (func (export "opa_heap_ptr_get") (result i32) i32.const 32768)
  (func (export "opa_eval") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (if (i32.and (global.get $count) (i32.const 1)) (then (return (i32.const 64))))
    i32.const 256))
"""
DECLARES = {"until_edge": True}
GRANT = {
    "id": "g",
    "groups": ["corp:*"],
    "actions": ["get"],
    "accounts": ["*"],
    "regions": ["*"],
    "clusters": ["*"],
}
END = NOW + timedelta(days=1)
ENDING = {"eksgateway": {"grants": [{**GRANT, "until": f"{END:%Y-%m-%dT%H:%M:%SZ}"}]}}
AGED = {"eksgateway": {"grants": [{**GRANT, "older_than": "90s"}]}}
ALICE = replace(caller("jwt:corp:alice", "corp:a", via="spiffe://a"), claims=(Claim("ref", ("main",)),))
AT_REQUEST = at_request(ALICE, "get")
AT_UPDATE = at_update(AT_REQUEST, team="a")

Load = Callable[..., Awaitable[WasmEngine]]


@pytest.fixture
async def load() -> AsyncIterator[Load]:
    """Loads engines that are closed at the end."""
    async with AsyncExitStack() as stack:

        async def load_(wasm: bytes, data: dict[str, Any] | None = None) -> WasmEngine:
            engine = await WasmEngine.load(wasm, compile_data(data or ENDING), timeout_s=30)
            stack.push_async_callback(engine.close)
            return engine

        yield load_


def alternating(declaration: dict[str, Any], of_denials: dict[str, Any] | None = None) -> bytes:
    """A module that decides the same question differently each time, so that an evaluation shows."""
    wat = ALTERNATING
    denied = declaration if of_denials is None else of_denials
    for name, allow, declared in (("ALLOW", True, declaration), ("DENY", False, denied)):
        wat = wat.replace(name, json.dumps({"allow": allow} | declared).replace('"', r"\22"))
    return bytes(wasmtime.wat2wasm(wat))


async def is_remembered(engine: WasmEngine, first: Question, second: Question) -> bool:
    """Whether the second question gets the decision of the first one. A third one, after it, differs."""
    return (await engine.decide(first)).allowed == (await engine.decide(second)).allowed


async def test_a_declared_decision_is_remembered(load: Load) -> None:
    """Only its id is another one."""
    engine = await load(alternating(DECLARES))
    for question in (AT_REQUEST, AT_UPDATE, at_target(ALICE)):
        decision = await engine.decide(question)
        assert await engine.decide(replace(question, decision_id="d-2")) == replace(
            decision, decision_id="d-2"
        )


@pytest.mark.parametrize(
    "declaration", [{}, {"until_edge": False}, {"until_edge": "true"}, {"until_edge": 1}]
)
async def test_other_decisions_are_evaluated_each_time(load: Load, declaration: dict[str, Any]) -> None:
    engine = await load(alternating(declaration))
    for question in (AT_REQUEST, AT_UPDATE):
        assert not await is_remembered(engine, question, question)


async def test_the_final_question_of_a_cancel_is_evaluated_each_time(load: Load) -> None:
    engine = await load(alternating(DECLARES))
    cancel = replace(AT_UPDATE, action=Action.CANCEL)
    assert not await is_remembered(engine, cancel, cancel)
    assert await is_remembered(engine, replace(AT_REQUEST, action=Action.CANCEL), at_request(ALICE, "cancel"))


async def test_the_shipped_policy_declares_all_its_decisions(load: Load) -> None:
    engine = await load(read_module(None))
    memory = engine._policy.memory  # noqa: SLF001 - not visible otherwise
    stranger = caller("jwt:other:x")
    asked = [
        *(at_request(who, "get") for who in (ALICE, stranger)),
        at_request(ALICE, "watch"),
        at_target(stranger),
    ]
    for question in asked:
        decision = await engine.decide(question)
        assert memory.find(memory.key_of(question), "d-1") == decision
    assert len(asked) == len(memory._decisions)  # noqa: SLF001


CHANGES: dict[str, dict[str, Any]] = {
    "caller's id": {"caller": replace(ALICE, id="jwt:corp:bob")},
    "caller's type": {"caller": replace(ALICE, type="spiffe")},
    "issuer": {"caller": replace(ALICE, issuer="https://other.example")},
    "groups": {"caller": replace(ALICE, groups=("corp:b",))},
    "via": {"caller": replace(ALICE, via=None)},
    "claim": {"caller": replace(ALICE, claims=(Claim("ref", ("x",)),))},
    "action": {"action": Action.WATCH},
    "method": {"method": "/eksgateway.v1.UpdateService/ListUpdates"},
    "account": {"cluster": replace(AT_REQUEST.cluster, account_id="444455556666")},
    "region": {"cluster": replace(AT_REQUEST.cluster, region="eu-west-1")},
    "cluster": {"cluster": replace(AT_REQUEST.cluster, name="prod-2")},
    "reason": {"justification": Justification("other", "OPS-12")},
    "ticket": {"justification": Justification("bad AMI", "OPS-13")},
    "any cluster": {"any_cluster": True},
}
assert AT_UPDATE.facts is not None
assert AT_UPDATE.update is not None
CHANGES_OF_FACTS: dict[str, dict[str, Any]] = {
    "stage": {"facts": None, "update": None},
    "cluster's status": {"facts": replace(AT_UPDATE.facts, status="UPDATING")},
    "version": {"facts": replace(AT_UPDATE.facts, version="1.35")},
    "tag": {"facts": replace(AT_UPDATE.facts, tags={"team": "b"})},
    "one more tag": {"facts": replace(AT_UPDATE.facts, tags={"team": "a", "b": ""})},
    "update": {"update": replace(AT_UPDATE.update, id="u-2")},
    "type": {"update": replace(AT_UPDATE.update, type="AddonUpdate")},
    "status": {"update": replace(AT_UPDATE.update, status="Successful")},
    "creation": {"update": replace(AT_UPDATE.update, created_at=NOW - timedelta(seconds=1))},
    "no creation": {"update": replace(AT_UPDATE.update, created_at=None)},
    "cancellation": {"update": replace(AT_UPDATE.update, cancellation=UpdateCancellation("InProgress", ""))},
}


@pytest.mark.parametrize("change", (CHANGES | CHANGES_OF_FACTS).values(), ids=CHANGES | CHANGES_OF_FACTS)
async def test_another_question_is_evaluated(load: Load, change: dict[str, Any]) -> None:
    engine = await load(alternating(DECLARES), AGED)
    assert not await is_remembered(engine, AT_UPDATE, replace(AT_UPDATE, **change))


def test_the_changes_above_are_of_all_that_a_policy_reads() -> None:
    """But for time. A new member of the input must be part of the key."""
    before = flatten(AT_UPDATE.to_input())
    changed = set()
    for change in (CHANGES | CHANGES_OF_FACTS).values():
        after = flatten(replace(AT_UPDATE, **change).to_input())
        changed |= {path for path in before if before[path] != after.get(path)}
    times = {"context.time", "context.seconds", "context.decision_id"}
    assert before.keys() - changed == times


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path[1:]: value}
    return {
        key: each for name, member in value.items() for key, each in flatten(member, f"{path}.{name}").items()
    }


async def test_a_remembered_decision_ends_at_the_edge(load: Load) -> None:
    """It counts again for a clock that is set back."""
    engine = await load(read_module(None))
    last = replace(AT_REQUEST, time=END - timedelta(microseconds=1))
    for question, allowed in (
        (AT_REQUEST, True),
        (last, True),
        (replace(last, time=END), False),
        (last, True),
    ):
        assert (await engine.decide(question)).allowed is allowed


async def test_questions_between_two_edges_share_a_decision(load: Load) -> None:
    engine = await load(alternating(DECLARES))
    last = replace(AT_REQUEST, time=END - timedelta(microseconds=1))
    assert await is_remembered(engine, AT_REQUEST, last)
    assert not await is_remembered(engine, last, replace(last, time=END))
    assert await is_remembered(engine, replace(last, time=END), replace(last, time=END + timedelta(days=900)))


async def test_a_remembered_decision_ends_when_the_update_is_old_enough(load: Load) -> None:
    engine = await load(read_module(None), AGED)
    for seconds, allowed in ((0, False), (90, False), (91, True), (90, False), (-5, False)):
        question = replace(AT_UPDATE, time=NOW + timedelta(seconds=seconds))
        assert (await engine.decide(question)).allowed is allowed


async def test_an_age_that_no_grant_demands_does_not_matter(load: Load) -> None:
    engine = await load(alternating(DECLARES), AGED)
    for first, second, same in ((0, 90, True), (90, 91, False), (91, 9000, True)):
        times = [NOW + timedelta(seconds=seconds) for seconds in (first, second)]
        assert await is_remembered(engine, *(replace(AT_UPDATE, time=time) for time in times)) is same


@pytest.mark.parametrize("wasm", [None, alternating(DECLARES)], ids=["data", "module and data"])
async def test_another_policy_decides_anew(load: Load, wasm: bytes | None) -> None:
    engine = await load(read_module(None))
    assert (await engine.decide(AT_REQUEST)).allowed
    revision = await engine.replace(wasm or read_module(None), compile_data({"eksgateway": {"grants": []}}))
    assert (await engine.decide(AT_REQUEST)).policy_revision == revision


def test_memory_is_bounded() -> None:
    """The decision that was not asked for longest is forgotten, and so is one that alone is too large."""
    memory = DecisionMemory(Edges(), ())
    asked = (
        at_request(caller(f"jwt:corp:{number}", *(f"corp:{each}" for each in range(200))))
        for number in range(2000)
    )
    decision = Decision("d-1")
    first, second = (memory.key_of(question) for question in (AT_REQUEST, AT_UPDATE))
    memory.keep(first, AT_REQUEST, decision)
    memory.keep(second, AT_UPDATE, decision)
    for question in asked:
        memory.keep(memory.key_of(question), question, decision)
        assert memory.find(first, "d-1") == decision
        assert len(memory._decisions) < 1000  # noqa: SLF001 - not visible otherwise
    assert memory.find(second, "d-1") is None
    huge = at_request(ALICE, reason="x" * (9 << 20))
    memory.keep(memory.key_of(huge), huge, decision)
    assert memory.find(memory.key_of(huge), "d-2") is None


def test_long_decisions_count_for_the_bound() -> None:
    """A hundred denials with reasons make a decision of 50 KB, and each reason of the caller a new one."""
    memory = DecisionMemory(Edges(), ())
    for number in range(500):
        question = at_request(ALICE, reason=f"{number}")
        reasons = tuple(f"{number} {each} {'x' * 390}" for each in range(100))
        memory.keep(memory.key_of(question), question, Decision("d-1", reasons=reasons))
    assert len(memory._decisions) < 200  # noqa: SLF001 - not visible otherwise


async def test_scopes_are_valid_for_one_caller_revision_and_edge(load: Load) -> None:
    """Whatever the cluster, and once the policy has declared that time matters at its edges alone."""
    engine = await load(read_module(None))
    assert engine.validity_of(AT_REQUEST) is None
    await engine.decide(AT_REQUEST)
    valid = engine.validity_of(AT_REQUEST)
    elsewhere = replace(AT_REQUEST, cluster=replace(AT_REQUEST.cluster, name="other"), decision_id="other")
    assert valid is not None
    assert engine.validity_of(elsewhere) == valid
    for other in (
        replace(AT_REQUEST, caller=replace(ALICE, groups=())),
        replace(AT_REQUEST, caller=replace(ALICE, claims=())),
        replace(AT_REQUEST, action=Action.HISTORY),
        replace(AT_REQUEST, time=END + timedelta(seconds=1)),
    ):
        assert engine.validity_of(other) != valid
    another = await load(read_module(None), AGED)
    await another.decide(AT_REQUEST)
    assert another.validity_of(AT_REQUEST) != valid


async def test_scopes_are_not_valid_under_a_policy_that_does_not_always_declare(load: Load) -> None:
    """One decision without the declaration may be that of any cluster."""
    engine = await load(alternating(DECLARES, {}))
    await engine.decide(AT_REQUEST)
    assert engine.validity_of(AT_REQUEST) is not None
    await engine.decide(replace(AT_REQUEST, cluster=replace(AT_REQUEST.cluster, name="other")))
    assert engine.validity_of(AT_REQUEST) is None


async def test_equal_keys_have_equal_decisions(policy_module: PolicyModule) -> None:
    """Of the shipped policy, at any two times."""
    random = Random(5)
    equal = 0
    for content in contents(random, 40):
        compiled = build_policy(content)
        memory = DecisionMemory(compiled.read_edges(), compiled.ages)
        asked = [
            each
            for question in questions(random, content, 15)
            for each in at_other_times(random, memory, question)
        ]
        results = decide_all(policy_module, compile_content(content)["eksgateway"]["index"], asked)
        by_key: dict[Any, Any] = {}
        for question, result in zip(asked, results, strict=True):
            key: Any = memory.key_of(question)
            if key is None:  # the final question of a cancel, never remembered
                key = ("cancel", memory.key_of(replace(question, action=Action.CHECK)))
            equal += key in by_key
            assert by_key.setdefault(key, result) == result, json.dumps([content, question.to_input()])
    assert equal > 1000


def at_other_times(random: Random, memory: DecisionMemory, question: Question) -> list[Question]:
    """The question, then up to, at and after the next edge, and at a random time."""
    edge = memory._edges.next_after(question.time) or question.time + timedelta(days=400)  # noqa: SLF001
    between = random.uniform(0, (edge - question.time).total_seconds())
    anywhere = datetime.fromtimestamp(random.randrange(1_700_000_000, 1_900_000_000), UTC)
    times = [question.time + timedelta(seconds=between), edge - timedelta(seconds=1), edge, anywhere]
    return [question, *(replace(question, time=time) for time in times)]
