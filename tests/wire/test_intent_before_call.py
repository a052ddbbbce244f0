"""The intent is committed before the call: read over another connection when the call arrives."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

from eksgateway.simulator import CallRecord
from support.gateway import run_gateway
from support.simulator import SimulatedEks
from support.wire import PRODUCTION, expect_refusal, get_cancellation


def _events(path: Path) -> list[tuple[str, Any]]:
    """The committed events, read over another connection."""
    other = sqlite3.connect(f"file:{path / 'ledger.db'}?mode=ro", uri=True)
    try:
        return [(kind, json.loads(body)) for kind, body in other.execute("SELECT kind, body FROM events")]
    finally:
        other.close()


async def test_intent_is_committed_before_cancel_update_arrives(tmp_path: Path) -> None:
    """With the same token, request, caller and decision; nothing is there during the reads."""
    seen: list[tuple[CallRecord, list[tuple[str, Any]]]] = []

    async with (
        SimulatedEks(on_call=lambda call: seen.append((call, _events(tmp_path)))) as eks,
        run_gateway(tmp_path, eks) as gateway,
    ):
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        told = await gateway.cancel("prod-1", update_id, request_id="first")
    before = {call.operation: events for call, events in seen if call.operation != "CancelUpdate"}
    sent = [(call, events) for call, events in seen if call.operation == "CancelUpdate"]
    assert not before["DescribeCluster"]
    ((call, [(kind, intent)]),) = sent
    assert kind == "intent"
    assert intent["token"] == call.token
    assert intent["request_id"] == "first"
    assert intent["caller"]["id"] == "jwt:test:oncall"
    assert intent["request"]["ref"]["update_id"] == call.update_id == update_id
    assert intent["request"]["ref"]["cluster"]["name"] == call.cluster
    assert intent["request"]["ref"]["cluster"]["account_id"] == call.account_id
    assert intent["decision"]["allowed"] is True
    assert intent["decision"]["decision_id"] == told.decision.decision_id


async def test_renewed_intent_is_committed_before_cancel_update_arrives(tmp_path: Path) -> None:
    seen: list[list[tuple[str, Any]]] = []

    def look(call: CallRecord) -> None:
        if call.operation == "CancelUpdate":
            seen.append(_events(tmp_path))

    async with SimulatedEks(on_call=look) as eks, run_gateway(tmp_path, eks) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        eks.fault("CancelUpdate", code="AccessDeniedException")
        await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        first = (await get_cancellation(gateway, request_id="first")).decision.decision_id
        told = await gateway.cancel("prod-1", update_id, request_id="first")
    assert told.decision.decision_id != first
    assert [kind for kind, _ in seen[1]] == ["intent", "outcome", "intent_renewed"]
    assert told.decision.decision_id in json.dumps(seen[1][-1])


async def test_many_cancels_each_commit_before_their_call(tmp_path: Path) -> None:
    """They share commits."""
    early: list[CallRecord] = []

    def look(call: CallRecord) -> None:
        tokens = {body.get("token") for _, body in _events(tmp_path)}
        if call.operation == "CancelUpdate" and call.token not in tokens:
            early.append(call)

    async with SimulatedEks(on_call=look) as eks, run_gateway(tmp_path, eks) as gateway:
        updates = [(f"prod-{n}", eks.rollback(f"prod-{n}", tags=PRODUCTION)) for n in range(20)]
        await asyncio.gather(*(gateway.cancel(name, update_id) for name, update_id in updates))
        assert len(eks.calls("CancelUpdate")) == 20
    assert early == []
