"""Counts the calls to EKS, whoever makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eksgateway.eks.protocol import Eks
from eksgateway.errors import GatewayError
from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef


class MeasuredEks:
    """An Eks. ``count`` is told each call's operation, and its result: ok, or the error's reason."""

    def __init__(self, eks: Eks, count: Callable[[str, str], None]) -> None:
        self._eks = eks
        self._count = count

    def serves(self, cluster: ClusterRef) -> bool:
        return self._eks.serves(cluster)

    async def list_clusters(
        self, target: Target, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        with self._counted("ListClusters"):
            return await self._eks.list_clusters(target, page_size, page_token)

    async def describe_cluster(
        self, cluster: ClusterRef, *, on_behalf_of: Caller | None = None
    ) -> ClusterFacts:
        with self._counted("DescribeCluster"):
            return await self._eks.describe_cluster(cluster, on_behalf_of=on_behalf_of)

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        with self._counted("DescribeUpdate"):
            return await self._eks.describe_update(ref, on_behalf_of=on_behalf_of)

    async def list_updates(
        self, cluster: ClusterRef, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        with self._counted("ListUpdates"):
            return await self._eks.list_updates(cluster, page_size, page_token)

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: float
    ) -> Update:
        with self._counted("CancelUpdate"):
            return await self._eks.cancel_update(
                ref, on_behalf_of=on_behalf_of, token=token, send_before=send_before
            )

    async def close(self) -> None:
        await self._eks.close()

    @contextmanager
    def _counted(self, operation: str) -> Iterator[None]:
        result = "INTERNAL"
        try:
            yield
            result = "ok"
        except GatewayError as exc:
            result = exc.reason
            raise
        except asyncio.CancelledError:
            result = "abandoned"
            raise
        finally:
            self._count(operation, result)
