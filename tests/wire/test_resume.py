"""A watch that goes on in another stream, of another process or replica; and tokens that cannot be used."""

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
from eksgateway.watch.resume import LENGTH, ResumePosition, encode
from support.gateway import ACCOUNT, REGION, WHERE, Running, info, running
from support.simulator import SimulatedEks
from support.wire import PRODUCTION, refused

CHANGE, HEARTBEAT, FINAL = pb.WATCH_KIND_CHANGE, pb.WATCH_KIND_HEARTBEAT, pb.WATCH_KIND_FINAL
REFUSED = ("INVALID_ARGUMENT", "RESUME_TOKEN_INVALID")


@asynccontextmanager
async def resumed(here: Running, update_id: str, token: str, who: Any = None) -> AsyncIterator[Any]:
    """A stream on prod-1 that goes on where the token says, as the viewer."""
    stream = here.watch("prod-1", update_id, who or here.viewer, resume_token=token)
    try:
        yield stream
    finally:
        stream.cancel()


async def news(stream: Any) -> tuple[int, int, str]:
    """Kind, sequence and status of the next message that is no heartbeat."""
    while (message := await stream.read()).kind == HEARTBEAT:
        pass
    return message.kind, message.sequence, message.update.status


async def watched(here: Running, update_id: str, *statuses: str) -> str:
    """The token of a viewer who saw these statuses, and then left."""
    stream = here.watch("prod-1", update_id, here.viewer)
    message = await stream.read()
    for status in statuses:
        here.eks.set_update("prod-1", update_id, status=status)
        message = await stream.read()
        assert message.update.status == status
    stream.cancel()
    return str(message.resume_token)


def forged(update_id: str, sequence: int, *, final: bool = False) -> str:
    """A token that only somebody who read the code could have made."""
    ref = UpdateRef(ClusterRef(ACCOUNT, REGION, "prod-1"), update_id)
    return encode(ref, ResumePosition(sequence, b"?" * 16, final=final))


async def test_a_stream_goes_on_where_another_broke(gateway: Running) -> None:
    """Nothing is told twice, what happened meanwhile is, and the numbers go on to the end."""
    update_id = gateway.eks.rollback("prod-1")
    token = await watched(gateway, update_id, "Paused")
    async with resumed(gateway, update_id, token) as stream:
        gateway.eks.set_update("prod-1", update_id, status="Resuming")
        assert await news(stream) == (CHANGE, 3, "Resuming")
        gateway.eks.set_update("prod-1", update_id, status="Starting")
        message = await stream.read()
        assert (message.kind, message.sequence, message.update.status) == (CHANGE, 4, "Starting")
    gateway.eks.set_update("prod-1", update_id, status="Pausing")
    async with resumed(gateway, update_id, message.resume_token) as stream:
        assert await news(stream) == (CHANGE, 5, "Pausing")
        gateway.eks.set_update("prod-1", update_id, status="Successful")
        assert await news(stream) == (FINAL, 6, "Successful")
        assert await stream.read() is grpc.aio.EOF


async def test_a_resumed_watch_has_its_first_message_at_once(gateway: Running) -> None:
    """Behind a proxy with a time limit it would else end before it has told anything (heartbeat_s is 15)."""
    update_id = gateway.eks.rollback("prod-1")
    token = await watched(gateway, update_id, "Paused")
    async with asyncio.timeout(5), resumed(gateway, update_id, token) as stream:
        message = await stream.read()
        assert (message.kind, message.sequence, message.update.status) == (HEARTBEAT, 2, "Paused")
        assert message.resume_token == token


async def test_heartbeats_carry_tokens(tmp_path: Path, eks: SimulatedEks) -> None:
    """A client that resumes from a heartbeat goes on just the same."""
    update_id = eks.rollback("prod-1")
    async with running(tmp_path, eks, watch={"heartbeat_s": 0.05}) as gateway:
        stream = gateway.watch("prod-1", update_id, gateway.viewer)
        messages = [await stream.read() for _ in range(3)]
        assert [message.kind for message in messages[1:]] == [HEARTBEAT] * 2
        stream.cancel()
        async with resumed(gateway, update_id, messages[-1].resume_token) as stream:
            assert (await stream.read()).kind == HEARTBEAT
            eks.set_update("prod-1", update_id, status="Paused")
            assert await news(stream) == (CHANGE, 2, "Paused")


async def test_after_a_restart(tmp_path: Path, eks: SimulatedEks) -> None:
    """The next process has nothing but its ledger, and needs nothing but the token."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    issuer = ThrowawayIssuer("test")
    async with running(tmp_path, eks, issuer=issuer) as first:
        await first.cancel("prod-1", update_id)
        token = await watched(first, update_id)
    async with running(tmp_path, eks, issuer=issuer) as second, resumed(second, update_id, token) as stream:
        eks.set_update("prod-1", update_id, status="Cancelled")
        assert await news(stream) == (FINAL, 2, "Cancelled")


async def test_on_another_replica(tmp_path: Path, eks: SimulatedEks) -> None:
    """It shares no ledger, has watchers of its own, and may have looked at EKS longer ago."""
    update_id = eks.rollback("prod-1")
    issuer = ThrowawayIssuer("test")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    slow = {"poll_s": 3}
    async with (
        running(tmp_path / "here", eks, issuer=issuer) as here,
        running(tmp_path / "there", eks, issuer=issuer, watch=slow) as there,
    ):
        theirs = there.watch("prod-1", update_id, there.viewer)
        assert (await theirs.read()).update.status == "InProgress"
        token = await watched(here, update_id, "Cancelling")
        async with resumed(there, update_id, token) as stream:
            # It still believes InProgress, and looks again before it tells anything.
            assert (await theirs.read()).update.status == "Cancelling"
            eks.set_update("prod-1", update_id, status="Cancelled")
            assert await news(stream) == (FINAL, 3, "Cancelled")
        theirs.cancel()


async def test_a_cancellation_that_failed_while_nobody_looked(tmp_path: Path, eks: SimulatedEks) -> None:
    """EKS goes back from Cancelling to InProgress: that is told, though it looks like an older state."""
    update_id = eks.rollback("prod-1")
    issuer = ThrowawayIssuer("test")
    async with running(tmp_path, eks, issuer=issuer) as first:
        token = await watched(first, update_id, "Cancelling")
    failed = {"status": "Failed", "reason": "PodDisruptionBudget"}
    eks.set_update("prod-1", update_id, status="InProgress", cancellation=failed)
    async with running(tmp_path, eks, issuer=issuer) as second, resumed(second, update_id, token) as stream:
        assert await news(stream) == (CHANGE, 3, "InProgress")


async def test_a_token_from_final(gateway: Running) -> None:
    """FINAL again, with its own sequence, and OK: a client that is not sure may ask."""
    update_id = gateway.eks.rollback("prod-1")
    token = await watched(gateway, update_id, "Paused", "Successful")
    for _ in range(2):
        async with resumed(gateway, update_id, token) as stream:
            message = await stream.read()
            assert (message.kind, message.sequence, message.resume_token) == (FINAL, 3, token)
            assert await stream.read() is grpc.aio.EOF


async def test_the_token_of_cancel_update_and_watch(gateway: Running) -> None:
    """Its stream goes on as a plain watch: nothing is cancelled again."""
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


async def test_a_token_replayed(gateway: Running) -> None:
    """Several streams may go on from one token, also long after; each is told what followed it."""
    update_id = gateway.eks.rollback("prod-1")
    token = await watched(gateway, update_id, "Paused")
    gateway.eks.set_update("prod-1", update_id, status="Resuming")
    async with resumed(gateway, update_id, token) as one, resumed(gateway, update_id, token) as other:
        assert await news(one) == await news(other) == (CHANGE, 3, "Resuming")
        gateway.eks.set_update("prod-1", update_id, status="Cancelled")
        assert await news(one) == await news(other) == (FINAL, 4, "Cancelled")
    async with resumed(gateway, update_id, token) as late:
        assert await news(late) == (FINAL, 3, "Cancelled")


@pytest.mark.parametrize("final", [False, True], ids=["a state", "a FINAL"])
async def test_a_forged_token_misleads_nobody_else(gateway: Running, final: bool) -> None:
    """Its forger gets the numbers asked for, and the truth; everybody else gets theirs."""
    update_id = gateway.eks.rollback("prod-1")
    honest = gateway.watch("prod-1", update_id, gateway.viewer)
    await honest.read()
    async with resumed(gateway, update_id, forged(update_id, 2**53, final=final)) as stream:
        assert await news(stream) == (CHANGE, 2**53 + 1, "InProgress")
        gateway.eks.set_update("prod-1", update_id, status="Cancelled")
        assert await news(stream) == (FINAL, 2**53 + 2, "Cancelled")
    assert await news(honest) == (FINAL, 2, "Cancelled")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda token: token[:-1], id="truncated"),
        pytest.param(lambda token: token[: LENGTH // 2], id="half of it"),
        pytest.param(lambda token: token + "A", id="longer"),
        pytest.param(lambda token: token * 900, id="as long as a message may be"),
        pytest.param(lambda token: "B" + token[1:], id="another version"),
        pytest.param(lambda token: token[:5] + ("A" if token[5] != "A" else "B") + token[6:], id="mutated"),
        pytest.param(lambda _token: "A" * LENGTH, id="zeros"),
        pytest.param(lambda _token: "🙂" * 14, id="not ASCII"),
        pytest.param(lambda _token: "\0", id="a control character"),
    ],
)
async def test_a_token_that_cannot_be_used(gateway: Running, spoil: Any) -> None:
    """It is named as what is wrong, and the stream does not begin."""
    update_id = gateway.eks.rollback("prod-1")
    token = spoil(await watched(gateway, update_id))
    async with resumed(gateway, update_id, token) as stream:
        assert (await refused(stream.read())).told == REFUSED


async def test_the_token_of_another_update(gateway: Running) -> None:
    """On another update, or the same id on another cluster, it is none."""
    update_id = gateway.eks.rollback("prod-1")
    other = gateway.eks.rollback("prod-2")
    gateway.eks.rollback("prod-3", update_id=update_id)
    token = await watched(gateway, update_id)
    for cluster, of in (("prod-2", other), ("prod-3", update_id)):
        stream = gateway.watch(cluster, of, gateway.viewer, resume_token=token)
        assert (await refused(stream.read())).told == REFUSED


async def test_a_token_proves_nothing(tmp_path: Path, eks: SimulatedEks) -> None:
    """Whoever brings it is authorised, now: it hides no refusal, and a refusal does not tell of it."""
    update_id = eks.rollback("prod-1")
    issuer = ThrowawayIssuer("test")
    async with running(tmp_path, eks, issuer=issuer) as gateway:
        token = await watched(gateway, update_id)
        for brought in (token, token[:-1], "A" * LENGTH):
            async with resumed(gateway, update_id, brought, gateway.outsider) as stream:
                assert (await refused(stream.read())).told == ("PERMISSION_DENIED", "POLICY_DENIED")
    nobody: dict[str, Any] = {"eksgateway": {"grants": [], "freezes": []}}
    async with (
        running(tmp_path, eks, issuer=issuer, data=nobody) as gateway,
        resumed(gateway, update_id, token) as stream,
    ):
        assert (await refused(stream.read())).told == ("PERMISSION_DENIED", "POLICY_DENIED")


async def test_what_eks_says_may_refuse_a_token_too(tmp_path: Path, eks: SimulatedEks) -> None:
    """The decision is made on the cluster's tags before the token is looked at."""
    update_id = eks.rollback("prod-1", tags={"environment": "staging"})
    grant = {"id": "g", "groups": ["test:viewers"], "actions": ["watch"], **WHERE, "clusters": ["prod-*"]}
    tagged = grant | {"tags": {"environment": ["production"]}}
    data = {"eksgateway": {"grants": [tagged], "freezes": []}}
    async with (
        running(tmp_path, eks, data=data) as gateway,
        resumed(gateway, update_id, "not a token") as stream,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stream.read()
        assert info(error.value).reason == "POLICY_DENIED"
