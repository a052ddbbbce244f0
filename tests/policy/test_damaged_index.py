"""A damaged index allows nothing that the whole one denies.

The Rego guards against the loss, replacement and mixture of the index's parts. An edit within a part can open
something, as docs/policy-form.md describes: only a bundle's signature guards against it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import PolicyInvalid, PolicyUnavailable
from eksgateway.policy.compiler import compile_content
from eksgateway.policy.opa import OpaEngine
from eksgateway.policy.question import Question
from eksgateway.policy.wasm_module import EvaluationFailed, PolicyModule
from eksgateway.settings import OpaSettings
from support.opa import OpaServer
from support.policy_damage import Index, damage_parts
from support.policy_deciders import decide_all, decide_by_eval
from support.policy_generated import Content, contents
from support.policy_questions import questions

# An edit of these parts opens nothing at any depth.
CLOSED = {("form",), ("revision",), ("edges",), ("grants",)}
# More of them: POLICY_DAMAGES=100000 pytest tests/policy/test_damaged_index.py
MOST = int(os.environ.get("POLICY_DAMAGES", "160"))

Case = tuple[Index, list[Question]]
Damages = Callable[[Index, Index], Iterator[tuple[str, Index]]]


def to_index(content: Content) -> Index:
    index: Index = compile_content(content)["eksgateway"]["index"]
    return index


@pytest.fixture(scope="module")
def cases(policy_module: PolicyModule) -> list[Case]:
    """Indexes with questions that they deny, and strangers to them."""
    random = Random(29)
    found = []
    for content in contents(random, 10):
        index, batch = to_index(content), list(questions(random, content, 60))
        decisions = decide_all(policy_module, index, batch)
        denied = [question for question, each in zip(batch, decisions, strict=True) if not each["allow"]]
        found.append((index, denied[:15]))
    return found


def lose_parts(index: Index, _: Index) -> Iterator[tuple[str, Index]]:
    """Damages of each part as a whole, and of its marker."""
    for damage in damage_parts(index, lambda path: len(path) < 2 or path[1:] == ("",)):
        yield f"{damage.path} {damage.name}", damage.index


def mix_parts(index: Index, other: Index) -> Iterator[tuple[str, Index]]:
    """Each part of another index, alone and with that index's revision."""
    for part in index:
        yield f"other {part}", {**index, part: other[part]}
        yield f"other {part} and revision", {**index, part: other[part], "revision": other["revision"]}


def edit_parts(index: Index, _: Index) -> Iterator[tuple[str, Index]]:
    """Damages within the closed parts."""
    for damage in damage_parts(index, lambda path: path[:1] in CLOSED):
        yield f"{damage.path} {damage.name}", damage.index


def apply_damages(cases: list[Case], damages: Damages, most: int) -> list[tuple[str, Case]]:
    """Some of the damages of all indexes, with the questions."""
    others = [index for index, _ in [*cases[1:], cases[0]]]
    found = [
        (name, (changed, denied))
        for (index, denied), other in zip(cases, others, strict=True)
        for name, changed in damages(index, other)
    ]
    return found if len(found) <= most else Random(5).sample(found, most)


KINDS = pytest.mark.parametrize("damages", [lose_parts, mix_parts, edit_parts])


@KINDS
def test_the_module_allows_nothing_more_by_a_damaged_index(
    damages: Damages, cases: list[Case], policy_module: PolicyModule
) -> None:
    opened = []
    for name, (index, denied) in apply_damages(cases, damages, MOST):
        try:
            decisions = decide_all(policy_module, index, denied)
        except (EvaluationFailed, PolicyInvalid):  # the gateway denies then
            continue
        opened += [name] if any(decision["allow"] for decision in decisions) else []
    assert opened == []


@KINDS
async def test_an_opa_allows_nothing_more_by_a_damaged_index(
    damages: Damages, cases: list[Case], tmp_path: Path
) -> None:
    chosen = apply_damages(cases, damages, MOST // 2)
    decisions = await asyncio.to_thread(decide_by_eval, [case for _, case in chosen], tmp_path)
    names = [name for name, (_, denied) in chosen for _ in denied]
    assert [name for name, each in zip(names, decisions, strict=True) if each["allow"]] == []


@pytest.mark.parametrize("raw", ["grants", "denials", "freezes", "sets"])
async def test_an_opa_with_raw_data_beside_the_index_decides_nothing(
    raw: str, opa_without_data: OpaServer
) -> None:
    """Else a freeze that is added would be ignored without notice."""
    content = next(contents(Random(3), 1))
    batch = list(questions(Random(3), content, 20))
    opa_without_data.put("eksgateway/index", to_index(content))
    opa_without_data.put(f"eksgateway/{raw}", content.get(raw, {"names": ["a"]}))
    engine = await OpaEngine.open(OpaSettings(url=opa_without_data.url), SystemClock(), timeout_s=30)
    try:
        with pytest.raises(PolicyUnavailable) as raised:
            await engine.check()
        assert "beside" in str(raised.value.detail)
        for question in batch:
            with pytest.raises(PolicyUnavailable):
                await engine.decide(question)
    finally:
        await engine.close()
        opa_without_data.remove(f"eksgateway/{raw}")
