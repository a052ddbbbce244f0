"""The examples of docs/policy.md, decided in both engines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.model import Decision
from eksgateway.policy.compiler import compile_content
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.factory import open_policy_engine
from eksgateway.policy.source import load_content
from eksgateway.settings import OpaPolicySettings, OpaSettings, WasmPolicySettings
from support.opa import POLICIES, OpaServer, run_opa
from support.situations import ALLOWED, PAGE, Call, Situation, read_situations

SITUATIONS = read_situations()
NAMES = [each.title for each in SITUATIONS]


def test_the_page_links_to_every_situation() -> None:
    """By GitHub's names of headings."""
    page = PAGE.read_text()
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in NAMES}
    links = set(re.findall(r"\]\(#([^)]+)\)", page.partition("## Situations")[2].partition("### ")[0]))
    assert links == slugs


def test_each_situation_has_allowed_and_denied_calls() -> None:
    """There are at least twenty, with different names."""
    assert len(SITUATIONS) >= 20
    assert len(set(NAMES)) == len(NAMES)
    for situation in SITUATIONS:
        assert {call.answer == ALLOWED for call in situation.calls} == {True, False}, situation.title


def test_the_situations_use_every_key_of_the_data(tmp_path: Path) -> None:
    """A key that is added to the language needs an example."""
    used = set()
    for number, situation in enumerate(SITUATIONS):
        folder = tmp_path / str(number)
        folder.mkdir()
        for kind, entries in load_content(write_files(situation, folder)).items():
            windows = [window for entry in entries for window in entry.get("windows", ())]
            used |= {(kind.removesuffix("s"), key) for entry in entries for key in entry}
            used |= {("window", key) for window in windows for key in window}
    definitions = json.loads((POLICIES / "schemas" / "data.json").read_text())["definitions"]
    kinds = ("grant", "denial", "freeze", "window")
    assert {(kind, key) for kind in kinds for key in definitions[kind]["properties"]} - used == set()


def write_files(situation: Situation, folder: Path) -> Path:
    """The path of the policy data: the file, or the folder if there are several."""
    paths = [folder / name for name in situation.files]
    for path in paths:
        path.write_text(situation.files[path.name])
    return paths[0] if len(paths) == 1 else folder


async def decide(engine: PolicyEngine, call: Call) -> Decision:
    """As a gateway decides it, at both stages."""
    at_request = await engine.decide(call.at_request)
    return await engine.decide(call.at_update) if at_request.allowed else at_request


async def answers(engine: PolicyEngine, situation: Situation) -> dict[str, str]:
    decisions = {call.text: await decide(engine, call) for call in situation.calls}
    return {
        text: ALLOWED if decision.allowed else " ".join(decision.reasons)
        for text, decision in decisions.items()
    }


@pytest.fixture(scope="module")
def opa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpaServer]:
    with run_opa(POLICIES / "eksgateway", log=tmp_path_factory.mktemp("opa") / "opa.log") as server:
        yield server


async def open_wasm(path: Path, _: OpaServer) -> PolicyEngine:
    return await open_policy_engine(WasmPolicySettings(data=path, timeout_s=30), SystemClock())


async def open_opa(path: Path, server: OpaServer) -> PolicyEngine:
    server.put("eksgateway/index", compile_content(load_content(path))["eksgateway"]["index"])
    settings = OpaPolicySettings(opa=OpaSettings(url=server.url, bundle=""))
    return await open_policy_engine(settings, SystemClock())


@pytest.mark.parametrize("open_engine", [open_wasm, open_opa])
@pytest.mark.parametrize("situation", SITUATIONS, ids=NAMES)
async def test_calls_get_the_answers_of_the_page(
    situation: Situation, open_engine: Any, opa: OpaServer, tmp_path: Path
) -> None:
    expected = {call.text: call.answer for call in situation.calls}
    assert len(expected) == len(situation.calls)
    engine = await open_engine(write_files(situation, tmp_path), opa)
    try:
        assert await answers(engine, situation) == expected
    finally:
        await engine.close()
