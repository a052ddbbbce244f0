"""Allows, denials and unmet obligations: results, errors, and the denials that are recorded."""

from __future__ import annotations

from datetime import datetime

import pytest

from eksgateway.decisions import Decisions
from eksgateway.errors import PolicyDenied, PolicyObligationUnknown
from eksgateway.model import Decision, Denial, Obligation
from eksgateway.policy.engine import Reloads
from eksgateway.policy.question import Question
from support.questions import at_request, caller

QUESTION = at_request(caller("jwt:corp:alice"))
OBLIGED = Decision("d", rule_ids=("four-eyes",), policy_revision="r", obligations=(Obligation("approver"),))
DENIED = Decision("d", rule_ids=("a",), reasons=("Because.",), policy_revision="r")
ALLOWED = Decision("d", allowed=True, policy_revision="r")


class ScriptedPolicy:
    """A policy engine with one decision."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.revision = "r"
        self.reloads = Reloads()

    async def revision_after(self, revision: str) -> str:
        raise NotImplementedError

    def validity_of(self, question: Question) -> None: ...

    def next_change(self, now: datetime) -> datetime | None:
        raise NotImplementedError

    def reload(self) -> None: ...

    async def decide(self, _: Question) -> Decision:
        return self.decision

    async def check(self) -> None: ...

    async def close(self) -> None: ...


async def test_an_allow_is_returned_and_not_recorded() -> None:
    records: list[Denial] = []
    decisions = Decisions(ScriptedPolicy(ALLOWED), records.append)
    assert await decisions.ask(QUESTION) == ALLOWED
    assert await decisions.allows(QUESTION)
    assert await decisions.require(QUESTION, cancels=True) == ALLOWED
    assert records == []


async def test_a_denied_cancel_is_refused_and_recorded() -> None:
    records: list[Denial] = []
    decisions = Decisions(ScriptedPolicy(DENIED), records.append)
    assert await decisions.ask(QUESTION) == DENIED
    assert not await decisions.allows(QUESTION)
    with pytest.raises(PolicyDenied):
        await decisions.require(QUESTION)
    assert records == []
    with pytest.raises(PolicyDenied) as caught:
        await decisions.require(QUESTION, cancels=True, update_id="u-1", request_id="one")
    assert caught.value.metadata == {"decision_id": "d", "reasons": "Because.", "rule_ids": "a"}
    (record,) = records
    assert record.decision == DENIED
    assert (record.request.ref.update_id, record.request_id) == ("u-1", "one")
    assert record.policy_input == QUESTION.to_input()


async def test_an_allow_under_obligations_is_refused_and_recorded_as_a_denial() -> None:
    """No obligation is known. The record has the error's message as its reason."""
    records: list[Denial] = []
    decisions = Decisions(ScriptedPolicy(OBLIGED), records.append)
    assert not await decisions.allows(QUESTION)
    with pytest.raises(PolicyObligationUnknown):
        await decisions.ask(QUESTION)
    with pytest.raises(PolicyObligationUnknown) as caught:
        await decisions.require(QUESTION, cancels=True)
    assert caught.value.metadata == {}
    assert caught.value.detail == "1 obligations, by rules four-eyes"
    (record,) = records
    assert record.decision == Decision(
        QUESTION.decision_id, reasons=(caught.value.message,), policy_revision="r"
    )


def test_an_allowed_decision_cannot_have_obligations() -> None:
    with pytest.raises(ValueError, match="unmet obligations"):
        Decision("d", allowed=True, obligations=(Obligation("approver"),))
