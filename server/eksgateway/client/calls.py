"""Watch an update to its end, or cancel one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc

from eksgateway.client.channels import Channels
from eksgateway.client.errors import ErrorDetails
from eksgateway.client.knowledge import Knowledge, View
from eksgateway.client.retries import Attempts, Credentials, FindFault, Timing, log
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1 import update_service_pb2_grpc
from eksgateway.v1.cancellation_pb2 import Cancellation
from eksgateway.v1.update_pb2 import ClusterRef

_CALL_S = 45.0  # the gateway answers a cancel within 30
_TIMING = Timing()


async def watch(  # noqa: PLR0913  what, as whom, and how
    channel: grpc.aio.Channel | Channels,
    cluster: str | ClusterRef,
    update_id: str,
    *,
    credentials: Credentials | None = None,
    max_age: float = 60.0,
    resume_token: str = "",
    timing: Timing = _TIMING,
) -> AsyncGenerator[Knowledge, None]:
    """An update's states, each once, until it has ended, over broken streams and restarts of the gateway.

    One channel carries up to 100 watches at a time, and further ones wait without an error: pass
    ``Channels`` for more than a few. Yields also when EKS was not seen for ``max_age`` seconds
    (``stale``), and when it was again. Below the heartbeats' 15 s a healthy stream is called stale
    between them.

    ``credentials`` gives the bearer token of each stream; when one has expired and there is another,
    the stream is opened once more. Raises AioRpcError for what another attempt does not mend:
    PERMISSION_DENIED, NOT_FOUND, INVALID_ARGUMENT, an address that cannot be right, or a proxy that
    answers in the gateway's place. Leave it through ``contextlib.aclosing``, so that its stream ends
    with it.
    """
    request = pb.WatchUpdateRequest(cluster=_cluster(cluster), update_id=update_id, resume_token=resume_token)
    view = View(max_age, timing)
    with _for_watch(channel) as (one, find_fault):
        attempts = Attempts(one, credentials, timing, find_fault=find_fault)
        async with aclosing(_messages(one, request, attempts)) as messages:
            async for known in _knowledge(messages, view, timing):
                yield known


async def _knowledge(
    messages: AsyncGenerator[pb.WatchUpdateResponse, None], view: View, timing: Timing
) -> AsyncGenerator[Knowledge, None]:
    """Each news of the view, until it is final."""
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
    channel: grpc.aio.Channel | Channels,
    cluster: str | ClusterRef,
    update_id: str,
    *,
    reason: str = "",
    ticket: str = "",
    request_id: str = "",
    credentials: Credentials | None = None,
    timeout: float = 45.0,  # noqa: ASYNC109  of several attempts and the rests between them
    timing: Timing = _TIMING,
) -> Cancellation:
    """CancelUpdate, tried again for up to ``timeout`` seconds under one ``request_id``: it has one effect.

    OK means that EKS accepted it: watch it end. Raises the last AioRpcError; after UNAVAILABLE or
    DEADLINE_EXCEEDED call again with the same ``request_id`` to learn what became of it.
    """
    request = pb.CancelUpdateRequest(
        cluster=_cluster(cluster),
        update_id=update_id,
        request_id=request_id or str(uuid.uuid4()),
        reason=reason,
        ticket=ticket,
    )
    one, find_fault = (
        (channel.calls, channel.find_fault) if isinstance(channel, Channels) else (channel, None)
    )
    stub = update_service_pb2_grpc.UpdateServiceStub(one)
    attempts = Attempts(one, credentials, timing, find_fault=find_fault, timeout=timeout)
    while True:
        try:
            metadata = await attempts.metadata()
            call: Any = stub.CancelUpdate(request, metadata=metadata, timeout=min(_CALL_S, attempts.left))
            answer = await call
            if not isinstance(answer, pb.CancelUpdateResponse):
                raise _not_of_the_gateway("the answer is no CancelUpdateResponse")
        except grpc.aio.AioRpcError as error:
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
        if error is not None and request.resume_token and _refuses_token(error):
            log.warning("the resume token was refused; watching %s anew", request.update_id)
            request.resume_token = ""
        else:
            await attempts.failed(error)


async def _stream(
    stub: update_service_pb2_grpc.UpdateServiceStub, request: pb.WatchUpdateRequest, attempts: Attempts
) -> AsyncGenerator[pb.WatchUpdateResponse, None]:
    """One stream, until it ends, which before FINAL is a proxy's doing, or is silent for too long."""
    stream: Any = stub.WatchUpdate(request, metadata=await attempts.metadata())
    heard = False
    try:
        while True:
            reading = asyncio.ensure_future(stream.read())
            try:
                if not await attempts.timing.done(reading, attempts.timing.silence_s):
                    return
            finally:
                reading.cancel()
            message = reading.result()
            if message is grpc.aio.EOF and heard:
                return
            if not isinstance(message, pb.WatchUpdateResponse):
                raise _not_of_the_gateway("the stream has no WatchUpdateResponse")
            heard = True
            yield message
    finally:
        stream.cancel()


@contextmanager
def _for_watch(channel: grpc.aio.Channel | Channels) -> Iterator[tuple[grpc.aio.Channel, FindFault | None]]:
    if isinstance(channel, Channels):
        with channel.watching() as one:
            yield one, channel.find_fault
    else:
        yield channel, None


def _not_of_the_gateway(details: str) -> grpc.aio.AioRpcError:
    """For an OK without a message, or with one that does not parse, which grpc hands out as None."""
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, empty, empty, details=details)


def _refuses_token(error: grpc.aio.AioRpcError) -> bool:
    return ErrorDetails.of(error).reason == "RESUME_TOKEN_INVALID"


def _cluster(cluster: str | ClusterRef) -> ClusterRef:
    return ClusterRef(name=cluster) if isinstance(cluster, str) else cluster
