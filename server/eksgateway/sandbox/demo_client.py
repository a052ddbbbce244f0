"""The demo's gRPC client, which calls with the token of one of the sandbox's callers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final

import grpc

from eksgateway.client import Knowledge, Timing, watch
from eksgateway.v1 import cancellation_pb2, cancellation_service_pb2_grpc, update_pb2, update_service_pb2_grpc
from eksgateway.v1 import cancellation_service_pb2 as history_pb
from eksgateway.v1 import update_service_pb2 as pb

_TIMEOUT_S: Final = 20.0


class DemoClient:
    """``caller`` is a name in ``tokens``. The update is the cluster's rollback. Raises AioRpcError."""

    def __init__(self, channel: grpc.aio.Channel, tokens: Mapping[str, str]) -> None:
        self._channel = channel
        self._updates = update_service_pb2_grpc.UpdateServiceStub(channel)
        self._history = cancellation_service_pb2_grpc.CancellationServiceStub(channel)
        self._tokens = tokens

    async def cancel(self, caller: str, cluster: str, **fields: str) -> cancellation_pb2.Cancellation:
        request = pb.CancelUpdateRequest(**_rollback(cluster, **fields))
        return (await self._updates.CancelUpdate(request, **self._as(caller))).cancellation

    def watch(self, caller: str, cluster: str) -> AsyncGenerator[Knowledge, None]:
        """Watch with ``eksgateway.client``, which resumes after a restart of the gateway."""
        token, timing = self._tokens[caller], Timing(longest_backoff_s=1)
        return watch(self._channel, **_rollback(cluster), credentials=lambda: token, timing=timing)

    async def first_message(self, caller: str, cluster: str) -> pb.WatchUpdateResponse:
        """The first message of a WatchUpdate, which is then cancelled."""
        request = pb.WatchUpdateRequest(**_rollback(cluster))
        stream: Any = self._updates.WatchUpdate(request, **self._as(caller))
        try:
            message: pb.WatchUpdateResponse = await stream.read()
        finally:
            stream.cancel()
        return message

    def cancel_and_watch(
        self, caller: str, cluster: str, **fields: str
    ) -> AsyncIterator[pb.CancelUpdateAndWatchResponse]:
        request = pb.CancelUpdateAndWatchRequest(**_rollback(cluster, **fields))
        stream: Any = self._updates.CancelUpdateAndWatch(request, **self._as(caller))
        return aiter(stream)

    async def history(self, caller: str) -> list[cancellation_pb2.Cancellation]:
        """The newest page of ListCancellations, oldest first."""
        page = await self._history.ListCancellations(
            history_pb.ListCancellationsRequest(), **self._as(caller)
        )
        return list(reversed(page.cancellations))

    def _as(self, caller: str) -> dict[str, Any]:
        return {"metadata": (("authorization", f"Bearer {self._tokens[caller]}"),), "timeout": _TIMEOUT_S}


def _rollback(cluster: str, **fields: str) -> dict[str, Any]:
    return {"cluster": update_pb2.ClusterRef(name=cluster), "update_id": f"rollback-{cluster}", **fields}
