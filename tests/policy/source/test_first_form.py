"""A file of the first form, with grants and freezes alone, keeps its meaning."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import yaml

from eksgateway.clock import SystemClock
from eksgateway.model import ClusterRef, Decision
from eksgateway.policy.factory import open_policy_engine
from eksgateway.policy.question import Question
from eksgateway.policy.source import load_content
from eksgateway.settings import WasmPolicySettings
from support.questions import at_request, at_target, at_update, caller

FIRST_FORM: Final = Path(__file__).parent / "first-form.yaml"
# Recorded with the version that read no other form: a line for each question, of its decision.
DECISIONS: Final = Path(__file__).parent / "first-form-decisions.jsonl"
CALLERS: Final = (
    caller("jwt:corp:alice", "corp:platform"),
    caller("jwt:corp:lena", "corp:platform", "corp:sre-leads", "corp:engineering"),
    caller("jwt:corp:deploy-bot"),
    caller("spiffe://corp.example/platform/ns/a"),
    caller("jwt:corp:rollback-robot", via="spiffe://corp.example/mesh/a/b"),
    caller("jwt:corp:rollback-robot", via="spiffe://corp.example/other"),
    caller("jwt:corp:vera", "corp:engineering"),
    caller("jwt:other:oscar", "other:platform"),
)
TIMES: Final = (
    datetime(2026, 12, 1, tzinfo=UTC),
    datetime(2026, 12, 20, tzinfo=UTC),
    datetime(2027, 1, 3, tzinfo=UTC),
)


def make_questions() -> list[Question]:
    """The same 300 questions each time."""
    draw = random.Random(12)
    return [make_question(draw) for _ in range(300)]


def make_question(draw: random.Random) -> Question:
    who = draw.choice(CALLERS)
    stage = draw.choice(["target", "request", "request", "update", "update", "update"])
    action = draw.choice(["cancel"] * 4 + ["check", "get", "list", "history"])
    cluster = ClusterRef(
        draw.choice(["111122223333"] * 9 + ["444455556666"]),
        draw.choice(["us-east-1"] * 5 + ["eu-central-1"]),
        draw.choice(["prod-1", "prod-1", "staging-1", "prod-a/b", "dev"]),
    )
    question = (
        at_target(who) if stage == "target" else at_request(who, action, ticket=draw.choice(["OPS-1", " "]))
    )
    question = replace(question, cluster=cluster, time=draw.choice(TIMES))
    if stage == "update":
        kind = draw.choice(["VersionRollback", "VersionRollback", "AddonUpdate"])
        question = at_update(question, kind, environment=draw.choice(["production", "production", "test"]))
    return question


def to_line(decision: Decision) -> str:
    return json.dumps([decision.allowed, decision.rule_ids, decision.reasons])


def test_data_in_the_first_form_is_read_as_written() -> None:
    """Nothing is added, left out or changed."""
    written = yaml.safe_load(FIRST_FORM.read_text())["eksgateway"]
    assert load_content(FIRST_FORM) == written | {"denials": []}


async def test_data_in_the_first_form_is_decided_as_by_the_first_version() -> None:
    engine = await open_policy_engine(WasmPolicySettings(data=FIRST_FORM), SystemClock())
    try:
        lines = [to_line(await engine.decide(question)) for question in make_questions()]
    finally:
        await engine.close()
    assert lines == DECISIONS.read_text().splitlines()
