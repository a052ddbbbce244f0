"""The access log names the client of the edge, and no client can name another."""

from __future__ import annotations

from typing import Any

import pytest

from support.edge import RunningEdge, update
from support.logs import capture_logs
from support.simulator import SimulatedEks
from support.wire import get_update

FORGED = "http://192.0.2.1:1"


async def peers_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["peer"] for event in events if event["event"] == "rpc.call"]


async def test_access_log_names_the_http_client(edge: RunningEdge, eks: SimulatedEks) -> None:
    update_id = eks.rollback("staging-1")
    with capture_logs() as events:
        await edge.call("GetUpdate", update("staging-1", update_id))
        await edge.call("GetUpdate", update("staging-1", update_id), {})
        await get_update(edge.gateway, "staging-1", update_id)
    calls = [event for event in events if event["event"] == "rpc.call"]
    assert [call["caller"] for call in calls] == ["jwt:test:oncall", None, "jwt:test:oncall"]
    assert calls[0]["peer"].startswith("http://127.0.0.1:")
    assert calls[0]["peer"] == calls[1]["peer"]  # one connection
    assert calls[2]["peer"].startswith("ipv4:127.0.0.1:")
    assert {call["method"] for call in calls} == {"/eksgateway.v1.UpdateService/GetUpdate"}


@pytest.mark.parametrize("value", [FORGED, f"x {FORGED}", f" {FORGED}"])
async def test_forged_peer_is_ignored(edge: RunningEdge, eks: SimulatedEks, value: str) -> None:
    """In HTTP headers, and in the metadata of a gRPC call."""
    update_id = eks.rollback("staging-1")
    headers = {"eksgateway-edge": value, "x-forwarded-for": "192.0.2.1", "forwarded": "for=192.0.2.1"}
    with capture_logs() as events:
        answer = await edge.call("GetUpdate", update("staging-1", update_id), edge.oncall | headers)
        assert answer.status == 200
        metadata = (*edge.gateway.oncall, ("eksgateway-edge", value))
        await get_update(edge.gateway, "staging-1", update_id, metadata)
    by_http, by_grpc = await peers_of(events)
    assert by_http.startswith("http://127.0.0.1:")
    assert by_grpc.startswith("ipv4:127.0.0.1:")
