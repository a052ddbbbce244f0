"""Watches that resume in another stream, process or replica; and bad resume tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from eksgateway.model import ClusterRef, UpdateRef
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.watch.resume import TOKEN_LENGTH, ResumePosition, encode
from support.gateway import ACCOUNT, REGION, WHERE, RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.wire import PRODUCTION, expect_refusal

CHANGE, HEARTBEAT, FINAL = pb.WATCH_KIND_CHANGE, pb.WATCH_KIND_HEARTBEAT, pb.WATCH_KIND_FINAL
REFUSED = ("INVALID_ARGUMENT", "RESUME_TOKEN_INVALID")


@asynccontextmanager
async def resume(here: RunningGateway, update_id: str, token: str, who: Any = None) -> AsyncIterator[Any]:
    """A stream on prod-1 that resumes from the token, as the viewer."""
    stream = here.watch("prod-1", update_id, who or here.viewer, resume_token=token)
    try:
        yield stream
    finally:
        stream.cancel()


async def read_news(stream: Any) -> tuple[int, int, str]:
    """Kind, sequence and status of the next message that is not a heartbeat."""
    while (message := await stream.read()).kind == HEARTBEAT:
        pass
    return message.kind, message.sequence, message.update.status


async def watch_until(here: RunningGateway, update_id: str, *statuses: str) -> str:
    """Watch until these statuses were sent; returns the last resume token."""
    stream = here.watch("prod-1", update_id, here.viewer)
    message = await stream.read()
    for status in statuses:
        here.eks.set_update("prod-1", update_id, status=status)
        message = await stream.read()
        assert message.update.status == status
    stream.cancel()
    return str(message.resume_token)


def forge_token(update_id: str, sequence: int, *, final: bool = False) -> str:
    """A token forged with knowledge of the code."""
    ref = UpdateRef(ClusterRef(ACCOUNT, REGION, "prod-1"), update_id)
    return encode(ref, ResumePosition(sequence, b"?" * 16, final=final))


async def test_resumed_watch_goes_on_after_the_last_message(gateway: RunningGateway) -> None:
    """Nothing is sent twice or left out."""
    update_id = gateway.eks.rollback("prod-1")
    token = await watch_until(gateway, update_id, "Paused")
    async with resume(gateway, update_id, token) as stream:
        gateway.eks.set_update("prod-1", update_id, status="Resuming")
        assert await read_news(stream) == (CHANGE, 3, "Resuming")
        gateway.eks.set_update("prod-1", update_id, status="Starting")
        message = await stream.read()
        assert (message.kind, message.sequence, message.update.status) == (CHANGE, 4, "Starting")
    gateway.eks.set_update("prod-1", update_id, status="Pausing")
    async with resume(gateway, update_id, message.resume_token) as stream:
        assert await read_news(stream) == (CHANGE, 5, "Pausing")
        gateway.eks.set_update("prod-1", update_id, status="Successful")
        assert await read_news(stream) == (FINAL, 6, "Successful")
        assert await stream.read() is grpc.aio.EOF


async def test_resumed_watch_sends_its_first_message_at_once(gateway: RunningGateway) -> None:
    """A proxy with a time limit would end it otherwise (heartbeat_s is 15)."""
    update_id = gateway.eks.rollback("prod-1")
    token = await watch_until(gateway, update_id, "Paused")
    async with asyncio.timeout(5), resume(gateway, update_id, token) as stream:
        message = await stream.read()
        assert (message.kind, message.sequence, message.update.status) == (HEARTBEAT, 2, "Paused")
        assert message.resume_token == token


async def test_heartbeat_tokens_resume_the_watch(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1")
    async with run_gateway(tmp_path, eks, watch={"heartbeat_s": 0.05}) as gateway:
        stream = gateway.watch("prod-1", update_id, gateway.viewer)
        messages = [await stream.read() for _ in range(3)]
        assert [message.kind for message in messages[1:]] == [HEARTBEAT] * 2
        stream.cancel()
        async with resume(gateway, update_id, messages[-1].resume_token) as stream:
            assert (await stream.read()).kind == HEARTBEAT
            eks.set_update("prod-1", update_id, status="Paused")
            assert await read_news(stream) == (CHANGE, 2, "Paused")


async def test_watch_resumes_after_a_restart(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    issuer = ThrowawayIssuer("test")
    async with run_gateway(tmp_path, eks, issuer=issuer) as first:
        await first.cancel("prod-1", update_id)
        token = await watch_until(first, update_id)
    async with (
        run_gateway(tmp_path, eks, issuer=issuer) as second,
        resume(second, update_id, token) as stream,
    ):
        eks.set_update("prod-1", update_id, status="Cancelled")
        assert await read_news(stream) == (FINAL, 2, "Cancelled")


async def test_watch_resumes_on_another_replica(tmp_path: Path, eks: SimulatedEks) -> None:
    """It has another ledger and other watchers, and read EKS longer ago."""
    update_id = eks.rollback("prod-1")
    issuer = ThrowawayIssuer("test")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    slow = {"poll_s": 3}
    async with (
        run_gateway(tmp_path / "here", eks, issuer=issuer) as here,
        run_gateway(tmp_path / "there", eks, issuer=issuer, watch=slow) as there,
    ):
        theirs = there.watch("prod-1", update_id, there.viewer)
        assert (await theirs.read()).update.status == "InProgress"
        token = await watch_until(here, update_id, "Cancelling")
        async with resume(there, update_id, token) as stream:
            # Its state is InProgress, and it polls before it sends anything.
            assert (await theirs.read()).update.status == "Cancelling"
            eks.set_update("prod-1", update_id, status="Cancelled")
            assert await read_news(stream) == (FINAL, 3, "Cancelled")
        theirs.cancel()


async def test_resumed_watch_reports_a_failed_cancellation(tmp_path: Path, eks: SimulatedEks) -> None:
    """EKS goes back from Cancelling to InProgress."""
    update_id = eks.rollback("prod-1")
    issuer = ThrowawayIssuer("test")
    async with run_gateway(tmp_path, eks, issuer=issuer) as first:
        token = await watch_until(first, update_id, "Cancelling")
    failed = {"status": "Failed", "reason": "PodDisruptionBudget"}
    eks.set_update("prod-1", update_id, status="InProgress", cancellation=failed)
    async with (
        run_gateway(tmp_path, eks, issuer=issuer) as second,
        resume(second, update_id, token) as stream,
    ):
        assert await read_news(stream) == (CHANGE, 3, "InProgress")


async def test_token_of_the_final_message_returns_it_again(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1")
    token = await watch_until(gateway, update_id, "Paused", "Successful")
    for _ in range(2):
        async with resume(gateway, update_id, token) as stream:
            message = await stream.read()
            assert (message.kind, message.sequence, message.resume_token) == (FINAL, 3, token)
            assert await stream.read() is grpc.aio.EOF


async def test_token_of_cancel_and_watch_resumes_a_plain_watch(gateway: RunningGateway) -> None:
    """Nothing is cancelled again."""
    update_id = gateway.eks.rollback("staging-1", node_replacing_s=60)
    request = pb.CancelUpdateAndWatchRequest(
        cluster=update_pb2.ClusterRef(name="staging-1"), update_id=update_id, request_id="first"
    )
    stream: Any = gateway.updates.CancelUpdateAndWatch(request, metadata=gateway.oncall, timeout=60)
    await stream.read()
    snapshot = (await stream.read()).watch
    stream.cancel()
    gateway.eks.advance(61)
    token = snapshot.resume_token
    messages = [one async for one in gateway.watch("staging-1", update_id, resume_token=token)]
    last = messages[-1]
    assert (last.kind, last.sequence, last.update.status) == (FINAL, 2, "Cancelled")
    assert {one.kind for one in messages[:-1]} <= {HEARTBEAT}
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_replayed_token_resumes_several_streams(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1")
    token = await watch_until(gateway, update_id, "Paused")
    gateway.eks.set_update("prod-1", update_id, status="Resuming")
    async with resume(gateway, update_id, token) as one, resume(gateway, update_id, token) as other:
        assert await read_news(one) == await read_news(other) == (CHANGE, 3, "Resuming")
        gateway.eks.set_update("prod-1", update_id, status="Cancelled")
        assert await read_news(one) == await read_news(other) == (FINAL, 4, "Cancelled")
    async with resume(gateway, update_id, token) as late:
        assert await read_news(late) == (FINAL, 3, "Cancelled")


@pytest.mark.parametrize("final", [False, True], ids=["a state", "a FINAL"])
async def test_forged_token_affects_its_own_stream_only(gateway: RunningGateway, final: bool) -> None:
    update_id = gateway.eks.rollback("prod-1")
    honest = gateway.watch("prod-1", update_id, gateway.viewer)
    await honest.read()
    async with resume(gateway, update_id, forge_token(update_id, 2**53, final=final)) as stream:
        assert await read_news(stream) == (CHANGE, 2**53 + 1, "InProgress")
        gateway.eks.set_update("prod-1", update_id, status="Cancelled")
        assert await read_news(stream) == (FINAL, 2**53 + 2, "Cancelled")
    assert await read_news(honest) == (FINAL, 2, "Cancelled")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda token: token[:-1], id="truncated"),
        pytest.param(lambda token: token[: TOKEN_LENGTH // 2], id="half of it"),
        pytest.param(lambda token: token + "A", id="longer"),
        pytest.param(lambda token: token * 900, id="as long as a message may be"),
        pytest.param(lambda token: "B" + token[1:], id="another version"),
        pytest.param(lambda token: token[:5] + ("A" if token[5] != "A" else "B") + token[6:], id="mutated"),
        pytest.param(lambda _token: "A" * TOKEN_LENGTH, id="zeros"),
        pytest.param(lambda _token: "🙂" * 14, id="not ASCII"),
        pytest.param(lambda _token: "\0", id="a control character"),
    ],
)
async def test_malformed_token_is_refused(gateway: RunningGateway, spoil: Any) -> None:
    update_id = gateway.eks.rollback("prod-1")
    token = spoil(await watch_until(gateway, update_id))
    async with resume(gateway, update_id, token) as stream:
        assert (await expect_refusal(stream.read())).status_and_reason == REFUSED


async def test_token_of_another_update_is_refused(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1")
    other = gateway.eks.rollback("prod-2")
    gateway.eks.rollback("prod-3", update_id=update_id)
    token = await watch_until(gateway, update_id)
    for cluster, of in (("prod-2", other), ("prod-3", update_id)):
        stream = gateway.watch(cluster, of, gateway.viewer, resume_token=token)
        assert (await expect_refusal(stream.read())).status_and_reason == REFUSED


async def test_resumed_watch_is_authorized_again(tmp_path: Path, eks: SimulatedEks) -> None:
    """A refusal reveals nothing of the token."""
    update_id = eks.rollback("prod-1")
    issuer = ThrowawayIssuer("test")
    async with run_gateway(tmp_path, eks, issuer=issuer) as gateway:
        token = await watch_until(gateway, update_id)
        for brought in (token, token[:-1], "A" * TOKEN_LENGTH):
            async with resume(gateway, update_id, brought, gateway.outsider) as stream:
                assert (await expect_refusal(stream.read())).status_and_reason == (
                    "PERMISSION_DENIED",
                    "POLICY_DENIED",
                )
    nobody: dict[str, Any] = {"eksgateway": {"grants": [], "freezes": []}}
    async with (
        run_gateway(tmp_path, eks, issuer=issuer, data=nobody) as gateway,
        resume(gateway, update_id, token) as stream,
    ):
        assert (await expect_refusal(stream.read())).status_and_reason == (
            "PERMISSION_DENIED",
            "POLICY_DENIED",
        )


async def test_resumed_watch_is_decided_on_live_tags_first(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1", tags={"environment": "staging"})
    grant = {"id": "g", "groups": ["test:viewers"], "actions": ["watch"], **WHERE, "clusters": ["prod-*"]}
    tagged = grant | {"tags": {"environment": ["production"]}}
    data = {"eksgateway": {"grants": [tagged], "freezes": []}}
    async with (
        run_gateway(tmp_path, eks, data=data) as gateway,
        resume(gateway, update_id, "not a token") as stream,
    ):
        assert (await expect_refusal(stream.read())).reason == "POLICY_DENIED"
