"""What the demo does as a client: calls with somebody's token, and what came back, in words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import grpc

from eksgateway.client import Knowledge, Timing, watch
from eksgateway.client.error_report import ErrorReport
from eksgateway.v1 import cancellation_pb2, cancellation_service_pb2_grpc, update_pb2, update_service_pb2_grpc
from eksgateway.v1 import cancellation_service_pb2 as history_pb
from eksgateway.v1 import update_service_pb2 as pb

_CALL_S = 20.0


class Client:
    """Calls a gateway. ``who`` is a name in ``tokens``; errors come as AioRpcError."""

    def __init__(self, channel: grpc.aio.Channel, tokens: Mapping[str, str]) -> None:
        self._channel = channel
        self._updates = update_service_pb2_grpc.UpdateServiceStub(channel)
        self._history = cancellation_service_pb2_grpc.CancellationServiceStub(channel)
        self._tokens = tokens

    async def refused_cancel(self, who: str, cluster: str, update_id: str, **why: str) -> ErrorReport | None:
        """CancelUpdate's refusal; None when it was accepted."""
        request = pb.CancelUpdateRequest(
            cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id, **why
        )
        try:
            await self._updates.CancelUpdate(request, **self._as(who))
        except grpc.aio.AioRpcError as exc:
            return ErrorReport.of(exc)
        return None

    async def cancel(self, who: str, cluster: str, update_id: str) -> cancellation_pb2.Cancellation:
        """CancelUpdate's record."""
        request = pb.CancelUpdateRequest(cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id)
        return (await self._updates.CancelUpdate(request, **self._as(who))).cancellation

    def follow(self, who: str, cluster: str, update_id: str) -> AsyncGenerator[Knowledge, None]:
        """What ``eksgateway.client`` tells a program, whatever happens to the gateway."""
        token, timing = self._tokens[who], Timing(longest_backoff_s=1)
        return watch(self._channel, cluster, update_id, credentials=lambda: token, timing=timing)

    async def look(self, who: str, cluster: str, update_id: str) -> pb.WatchUpdateResponse:
        """The first message of a WatchUpdate, which is ended after it."""
        request = pb.WatchUpdateRequest(cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id)
        stream: Any = self._updates.WatchUpdate(request, **self._as(who))
        try:
            message: pb.WatchUpdateResponse = await stream.read()
        finally:
            stream.cancel()
        return message

    async def cancel_and_watch(
        self, who: str, cluster: str, update_id: str, **why: str
    ) -> AsyncIterator[pb.CancelUpdateAndWatchResponse]:
        """CancelUpdateAndWatch's messages, until the update has ended."""
        request = pb.CancelUpdateAndWatchRequest(
            cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id, **why
        )
        stream: Any = self._updates.CancelUpdateAndWatch(request, **self._as(who))
        async for message in stream:
            yield message

    async def history(self, who: str) -> list[cancellation_pb2.Cancellation]:
        """The newest page of ListCancellations, oldest first."""
        page = await self._history.ListCancellations(history_pb.ListCancellationsRequest(), **self._as(who))
        return list(reversed(page.cancellations))

    def _as(self, who: str) -> dict[str, Any]:
        return {"metadata": (("authorization", f"Bearer {self._tokens[who]}"),), "timeout": _CALL_S}
