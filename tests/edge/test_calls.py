"""Calls over HTTP are those of gRPC: same policy, same answers, same log."""

from __future__ import annotations

from support.edge import RunningEdge, read_line, update
from support.simulator import SimulatedEks
from support.wire import PRODUCTION


async def test_denial_names_its_reason(edge: RunningEdge, eks: SimulatedEks) -> None:
    """Nothing is sent to EKS."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    denied = await edge.call("CancelUpdate", update("prod-1", update_id) | {"reason": "bad AMI"})
    assert denied.refusal == (403, "permission_denied", "POLICY_DENIED")
    assert "ticket is required" in str(denied.json["details"])
    assert denied.headers["trailer-eksgateway-decision-id"]
    assert not eks.calls("CancelUpdate")


async def test_cancel_is_watched_to_its_end(edge: RunningEdge, eks: SimulatedEks) -> None:
    """By JSON lines, as a shell reads them."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with edge.stream(update("prod-1", update_id), edge.viewer) as stream:
        assert (await read_line(stream.content))["kind"] == "WATCH_KIND_SNAPSHOT"
        assert (await edge.cancel("prod-1", update_id)).status == 200
        eks.advance(86_400)
        last = None
        while (message := await read_line(stream.content)) is not None:
            last = message
        assert last is not None
        assert (last["kind"], last["phase"]) == ("WATCH_KIND_FINAL", "CANCELLATION_PHASE_CANCELLED")
    assert len(eks.calls("CancelUpdate")) == 1
