"""Watch an update to its end, or cancel one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from eksgateway.client.attempts import Attempts, Credentials, Said, Timing, log
from eksgateway.client.knowledge import Knowledge, View
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1 import update_service_pb2_grpc
from eksgateway.v1.cancellation_pb2 import Cancellation
from eksgateway.v1.update_pb2 import ClusterRef

_CALL_S = 45.0  # the gateway answers a cancel within 30
_ATTEMPTS = 5
_TIMING = Timing()


async def watch(  # noqa: PLR0913  what, as whom, and how
    channel: grpc.aio.Channel,
    cluster: str | ClusterRef,
    update_id: str,
    *,
    credentials: Credentials | None = None,
    max_age: float = 60.0,
    resume_token: str = "",
    timing: Timing = _TIMING,
) -> AsyncGenerator[Knowledge, None]:
    """An update's states, each once, until it has ended, over broken streams and restarts of the gateway.

    Yields also when EKS was not seen for ``max_age`` seconds (``stale``), and when it was again.
    Below the heartbeats' 15 s a healthy stream is called stale between them. How old a message is when
    it comes is told by two clocks, the gateway's in its ``observe_time`` and this machine's: by as much
    as this one is ahead all looks older; while it is behind, younger, though no younger than it has been
    here. To rely on ``max_age``, keep the clocks together (NTP) by much less than that.

    ``credentials`` gives the bearer token of each stream, and another one once when it is refused.
    Raises AioRpcError for what another attempt does not mend: PERMISSION_DENIED, NOT_FOUND,
    INVALID_ARGUMENT. Leave it through ``contextlib.aclosing``, so that its stream ends with it.
    """
    request = pb.WatchUpdateRequest(cluster=_cluster(cluster), update_id=update_id, resume_token=resume_token)
    view = View(max_age, timing)
    async with aclosing(_messages(channel, request, Attempts(credentials, timing))) as messages:
        coming = asyncio.ensure_future(anext(messages))
        try:
            while True:
                if not await timing.done(coming, view.fresh_for):
                    view.expire()
                    yield view.known
                    continue
                if view.take(coming.result()):
                    yield view.known
                if view.known.final:
                    return
                coming = asyncio.ensure_future(anext(messages))
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def cancel(  # noqa: PLR0913  what, why, as whom, and how
    channel: grpc.aio.Channel,
    cluster: str | ClusterRef,
    update_id: str,
    *,
    reason: str = "",
    ticket: str = "",
    request_id: str = "",
    credentials: Credentials | None = None,
    timing: Timing = _TIMING,
) -> Cancellation:
    """CancelUpdate, tried up to five times under one ``request_id``, so that it has one effect.

    OK means that EKS accepted it: watch it end. Raises the last AioRpcError; after UNAVAILABLE ask
    again with the same ``request_id`` what became of it.
    """
    request = pb.CancelUpdateRequest(
        cluster=_cluster(cluster),
        update_id=update_id,
        request_id=request_id or str(uuid.uuid4()),
        reason=reason,
        ticket=ticket,
    )
    stub = update_service_pb2_grpc.UpdateServiceStub(channel)
    attempts = Attempts(credentials, timing)
    while True:
        try:
            answer = await stub.CancelUpdate(request, metadata=await attempts.metadata(), timeout=_CALL_S)
        except grpc.aio.AioRpcError as error:
            if attempts.failures + 1 >= _ATTEMPTS:
                raise
            await attempts.failed(error)
        else:
            return answer.cancellation


async def _messages(
    channel: grpc.aio.Channel, request: pb.WatchUpdateRequest, attempts: Attempts
) -> AsyncGenerator[pb.WatchUpdateResponse, None]:
    """The messages of one line of streams, heartbeats included. Nothing ends it but an error."""
    stub = update_service_pb2_grpc.UpdateServiceStub(channel)
    while True:
        error = None
        async with aclosing(_stream(stub, request, attempts)) as stream:
            try:
                async for message in stream:
                    attempts.succeeded()
                    request.resume_token = message.resume_token
                    yield message
            except grpc.aio.AioRpcError as exc:
                error = exc
        if error is not None and request.resume_token and Said.by(error).reason == "RESUME_TOKEN_INVALID":
            log.warning("the resume token was refused; watching %s anew", request.update_id)
            request.resume_token = ""
        else:
            await attempts.failed(error)


async def _stream(
    stub: update_service_pb2_grpc.UpdateServiceStub, request: pb.WatchUpdateRequest, attempts: Attempts
) -> AsyncGenerator[pb.WatchUpdateResponse, None]:
    """One stream, until it ends, which before FINAL is a proxy's doing, or is silent for too long."""
    stream: Any = stub.WatchUpdate(request, metadata=await attempts.metadata())
    try:
        while True:
            reading = asyncio.ensure_future(stream.read())
            try:
                if not await attempts.timing.done(reading, attempts.timing.silence_s):
                    return
            finally:
                reading.cancel()
            if (message := reading.result()) is grpc.aio.EOF:
                return
            yield message
    finally:
        stream.cancel()


def _cluster(cluster: str | ClusterRef) -> ClusterRef:
    return ClusterRef(name=cluster) if isinstance(cluster, str) else cluster
