"""Cancels an update and watches it to its end, over as many streams as that takes."""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc

from eksgateway.client.calls import (
    CANCEL_S,
    cluster_ref,
    open_stream,
    response_error,
    track,
    watch_channel,
    watch_messages,
)
from eksgateway.client.channels import Channels
from eksgateway.client.knowledge import Knowledge, KnowledgeTracker
from eksgateway.client.retries import DEFAULT_TIMING, Credentials, Retries, Timing
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1 import update_service_pb2_grpc
from eksgateway.v1.cancellation_pb2 import Cancellation
from eksgateway.v1.update_pb2 import ClusterRef


async def cancel_and_watch(  # noqa: PLR0913  all but three have defaults
    channel: grpc.aio.Channel | Channels,
    cluster: str | ClusterRef,
    update_id: str,
    *,
    reason: str = "",
    ticket: str = "",
    request_id: str = "",
    credentials: Credentials | None = None,
    max_age: float = 60.0,
    heartbeats: bool = False,
    timeout: float = CANCEL_S,  # noqa: ASYNC109  until EKS has accepted the cancel
    watch_timeout: float = math.inf,
    timing: Timing = DEFAULT_TIMING,
) -> AsyncGenerator[Cancellation | Knowledge, None]:
    """Yield the cancellation once EKS has accepted it, then each state of the update as ``watch`` does.

    The caller needs both rights, which are decided before the cancel. A call that breaks before the
    cancellation is repeated with the same ``request_id`` for up to ``timeout`` seconds: it has one effect. A
    stream that breaks later is resumed by WatchUpdate, without another cancel. ``watch_timeout`` (seconds)
    covers all of it.

    Raises AioRpcError. Before the cancellation it is as from ``cancel``: after UNAVAILABLE or
    DEADLINE_EXCEEDED call again with the same ``request_id``, so pass one that you keep. After it, it is as
    from ``watch``, and the cancellation goes on.
    """
    request = pb.CancelUpdateAndWatchRequest(
        cluster=cluster_ref(cluster),
        update_id=update_id,
        request_id=request_id or str(uuid.uuid4()),
        reason=reason,
        ticket=ticket,
    )
    with watch_channel(channel) as (one, find_fault):
        accepting, watching = (
            Retries(one, credentials, timing, find_fault=find_fault, timeout=each)
            for each in (min(timeout, watch_timeout), watch_timeout)
        )
        async with aclosing(_events(one, request, accepting, watching)) as events:
            first = await anext(events)
            assert isinstance(first, Cancellation)  # noqa: S101  _events begins with it
            yield first
            states = track(_only_messages(events), KnowledgeTracker(max_age, timing), timing)
            async with aclosing(states):
                async for is_new, known in states:
                    if is_new or heartbeats:
                        yield known


async def _events(
    channel: grpc.aio.Channel, request: pb.CancelUpdateAndWatchRequest, accepting: Retries, watching: Retries
) -> AsyncGenerator[Cancellation | pb.WatchUpdateResponse, None]:
    """The cancellation, and the messages of all streams."""
    stub = update_service_pb2_grpc.UpdateServiceStub(channel)
    watched = pb.WatchUpdateRequest(cluster=request.cluster, update_id=request.update_id)
    retries = accepting  # until the cancellation has come
    while retries is accepting:
        error = None
        opened = open_stream(
            stub.CancelUpdateAndWatch,
            request,
            accepting,
            pb.CancelUpdateAndWatchResponse,
            deadline_s=watching.left,
            first_s=min(CANCEL_S, accepting.left),
        )
        try:
            async with aclosing(opened) as stream:
                async for event in stream:
                    watching.record_success()
                    if event.HasField("cancellation"):
                        retries = watching
                        yield event.cancellation
                    elif retries is watching:
                        watched.resume_token = event.watch.resume_token
                        yield event.watch
                    else:
                        raise response_error("the stream does not begin with a cancellation")
        except grpc.aio.AioRpcError as exc:
            error = exc
        await retries.wait_for_retry(error)
    async with aclosing(watch_messages(channel, watched, watching)) as messages:
        async for message in messages:
            yield message


async def _only_messages(
    events: AsyncGenerator[Cancellation | pb.WatchUpdateResponse, None],
) -> AsyncGenerator[pb.WatchUpdateResponse, None]:
    async for event in events:
        if isinstance(event, pb.WatchUpdateResponse):
            yield event
