"""CancelUpdate over a real socket, with the real policy, ledger, boto3 and the simulated EKS."""

from __future__ import annotations

import grpc
import pytest

from eksgateway.v1 import cancellation_pb2 as cpb
from support.gateway import Running, info

PRODUCTION = {"environment": "production"}


async def test_an_allowed_cancel_is_recorded_sent_and_followed_to_its_end(gateway: Running) -> None:
    """The main job: allowed, recorded, forwarded with the recorded token, and seen to its end."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    cancellation = await gateway.cancel("prod-1", update_id, request_id="first")
    assert cancellation.phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert cancellation.update.status == "Cancelling"
    (call,) = gateway.eks.calls("CancelUpdate")
    assert call.update_id == update_id
    messages = [message async for message in gateway.watch("prod-1", update_id)]
    assert messages[-1].update.status == "Cancelled"
    assert messages[-1].phase == cpb.CANCELLATION_PHASE_CANCELLED


async def test_an_outsider_is_denied_and_nothing_is_asked_of_eks(gateway: Running) -> None:
    """Denied at stage request: no EKS call of any kind."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    with pytest.raises(grpc.aio.AioRpcError) as denied:
        await gateway.cancel("prod-1", update_id, gateway.outsider)
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert info(denied.value).reason == "POLICY_DENIED"
    assert gateway.eks.calls() == ()
