"""Watches an update until it ends, or cancels one, with retries."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from eksgateway.client.channels import Channels
from eksgateway.client.errors import ErrorDetails
from eksgateway.client.knowledge import Knowledge, KnowledgeTracker
from eksgateway.client.retries import DEFAULT_TIMING, Credentials, FindFault, Retries, Timing, log
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1 import update_service_pb2_grpc
from eksgateway.v1.cancellation_pb2 import Cancellation
from eksgateway.v1.update_pb2 import ClusterRef

CANCEL_S: Final = 45.0  # the gateway answers a cancel within 30
_LONGEST_S: Final = 10.0**8  # a deadline much farther away is past for gRPC
_Message = TypeVar("_Message", bound=Message)


async def watch(  # noqa: PLR0913  all but three have defaults
    channel: grpc.aio.Channel | Channels,
    cluster: str | ClusterRef,
    update_id: str,
    *,
    credentials: Credentials | None = None,
    max_age: float = 60.0,
    resume_token: str = "",
    heartbeats: bool = False,
    timeout: float = math.inf,  # noqa: ASYNC109  of all streams and the delays between them
    timing: Timing = DEFAULT_TIMING,
) -> AsyncGenerator[Knowledge, None]:
    """Yield each state of an update once, until it has ended.

    Yields also when EKS was not read for ``max_age`` seconds (``stale``), and when it is read again. Below
    15 s, the heartbeat interval, a healthy stream becomes stale between heartbeats. With ``heartbeats`` yield
    also when only the age has changed. After ``timeout`` seconds raise the last error, or DEADLINE_EXCEEDED.

    A channel queues watches beyond 100 without an error: pass ``Channels`` for more than a few.
    ``credentials`` returns the bearer token of each stream; an expired token is replaced once. Raises
    AioRpcError where a retry is useless. Use ``contextlib.aclosing`` to end the stream with the loop.
    """
    request = pb.WatchUpdateRequest(
        cluster=cluster_ref(cluster), update_id=update_id, resume_token=resume_token
    )
    with watch_channel(channel) as (one, find_fault):
        retries = Retries(one, credentials, timing, find_fault=find_fault, timeout=timeout)
        tracker = KnowledgeTracker(max_age, timing)
        async with aclosing(track(watch_messages(one, request, retries), tracker, timing)) as states:
            async for is_new, known in states:
                if is_new or heartbeats:
                    yield known


async def track(
    messages: AsyncGenerator[pb.WatchUpdateResponse, None], tracker: KnowledgeTracker, timing: Timing
) -> AsyncGenerator[tuple[bool, Knowledge], None]:
    """Yield the knowledge after each message and when it becomes stale; the flag is true if it is new."""
    async with aclosing(messages):
        next_message = asyncio.ensure_future(anext(messages))
        try:
            while True:
                if not await timing.done(next_message, tracker.fresh_for):
                    tracker.mark_stale()
                    yield True, tracker.knowledge
                    continue
                is_new = tracker.apply(next_message.result())
                yield is_new, tracker.knowledge
                if tracker.knowledge.final:
                    return
                next_message = asyncio.ensure_future(anext(messages))
        finally:
            next_message.cancel()
            await asyncio.gather(next_message, return_exceptions=True)


async def cancel(  # noqa: PLR0913  all but three have defaults
    channel: grpc.aio.Channel | Channels,
    cluster: str | ClusterRef,
    update_id: str,
    *,
    reason: str = "",
    ticket: str = "",
    request_id: str = "",
    credentials: Credentials | None = None,
    timeout: float = CANCEL_S,  # noqa: ASYNC109  of all attempts and the delays between them
    timing: Timing = DEFAULT_TIMING,
) -> Cancellation:
    """Call CancelUpdate, with retries for up to ``timeout`` seconds, all with the same ``request_id``.

    Returns once EKS has accepted the cancel; watch the update to see it end. Raises the last AioRpcError.
    After UNAVAILABLE or DEADLINE_EXCEEDED call again with the same ``request_id`` to learn the outcome.
    """
    request = pb.CancelUpdateRequest(
        cluster=cluster_ref(cluster),
        update_id=update_id,
        request_id=request_id or str(uuid.uuid4()),
        reason=reason,
        ticket=ticket,
    )
    one, find_fault = (
        (channel.calls, channel.find_fault) if isinstance(channel, Channels) else (channel, None)
    )
    method = update_service_pb2_grpc.UpdateServiceStub(one).CancelUpdate
    retries = Retries(one, credentials, timing, find_fault=find_fault, timeout=timeout)
    answer = await call_unary(method, request, pb.CancelUpdateResponse, retries, longest_s=CANCEL_S)
    return answer.cancellation


async def call_unary(  # noqa: PLR0913  a call, its time, and whether it is repeated
    method: Any,
    request: Message,
    kind: type[_Message],
    retries: Retries,
    *,
    longest_s: float,
    repeat: bool = True,
) -> _Message:
    """The answer of one of a stub's methods. Each attempt takes at most ``longest_s``. Raises AioRpcError."""
    while True:
        try:
            metadata = await retries.metadata()
            answer = await method(request, metadata=metadata, timeout=min(longest_s, retries.left))
            if not isinstance(answer, kind):
                raise response_error(f"the response is not a {kind.__name__}")
        except grpc.aio.AioRpcError as error:
            if not repeat:
                raise
            await retries.wait_for_retry(error)
        else:
            return answer


async def watch_messages(
    channel: grpc.aio.Channel, request: pb.WatchUpdateRequest, retries: Retries
) -> AsyncGenerator[pb.WatchUpdateResponse, None]:
    """The messages of as many streams as needed, including heartbeats."""
    stub = update_service_pb2_grpc.UpdateServiceStub(channel)
    while True:
        error = None
        kind = pb.WatchUpdateResponse
        opened = open_stream(stub.WatchUpdate, request, retries, kind, deadline_s=retries.left)
        async with aclosing(opened) as stream:
            try:
                async for message in stream:
                    retries.record_success()
                    request.resume_token = message.resume_token
                    yield message
            except grpc.aio.AioRpcError as exc:
                error = exc
        reason = ErrorDetails.of(error).reason if error is not None else ""
        if reason == "RESUME_TOKEN_INVALID" and request.resume_token:
            log.warning("the resume token was refused; watching %s without it", request.update_id)
            request.resume_token = ""
        else:
            await retries.wait_for_retry(error)


async def open_stream(  # noqa: PLR0913  a call, and two times
    method: Any,
    request: Message,
    retries: Retries,
    kind: type[_Message],
    *,
    deadline_s: float,
    first_s: float | None = None,
) -> AsyncGenerator[_Message, None]:
    """The messages of one stream until it ends, as by a proxy, or is silent for too long.

    ``deadline_s`` bounds the stream, and ``first_s`` the wait for its first message.
    """
    metadata = await retries.metadata()
    deadline = None if deadline_s > _LONGEST_S else max(0.0, deadline_s)
    stream: Any = method(request, metadata=metadata, timeout=deadline)
    received, silence_s = False, retries.timing.silence_s if first_s is None else first_s
    try:
        while True:
            reading = asyncio.ensure_future(stream.read())
            try:
                if not await retries.timing.done(reading, silence_s):
                    return
            finally:
                reading.cancel()
            message = reading.result()
            if message is grpc.aio.EOF and received:
                return
            if not isinstance(message, kind):
                raise response_error(f"the stream has no {kind.__name__}")
            received, silence_s = True, retries.timing.silence_s
            yield message
    finally:
        stream.cancel()


@contextmanager
def watch_channel(
    channel: grpc.aio.Channel | Channels,
) -> Iterator[tuple[grpc.aio.Channel, FindFault | None]]:
    if isinstance(channel, Channels):
        with channel.watching() as one:
            yield one, channel.find_fault
    else:
        yield channel, None


def response_error(details: str) -> grpc.aio.AioRpcError:
    """For an OK without a message or with a malformed one, which grpc returns as None."""
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, empty, empty, details=details)


def cluster_ref(cluster: str | ClusterRef) -> ClusterRef:
    return ClusterRef(name=cluster) if isinstance(cluster, str) else cluster
