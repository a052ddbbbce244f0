"""``Eks`` over boto3: check the names, make the call on a worker thread, translate what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from eksgateway.clock import Clock
from eksgateway.eks.clients import Clients
from eksgateway.eks.convert import to_cluster, to_page, to_update
from eksgateway.eks.error_table import MISCONFIGURED, translate
from eksgateway.eks.gate import SendGate
from eksgateway.eks.threads import Threads
from eksgateway.errors import (
    EksError,
    EksInvalidParameter,
    EksNoAnswer,
    EksNotReached,
    EksUnavailable,
    GatewayError,
    TargetNotConfigured,
    UpstreamCredentials,
)
from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef
from eksgateway.settings import EksSettings

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_eks import EKSClient

T = TypeVar("T")


def lasting(error: UpstreamCredentials) -> bool:
    """Whether credentials are missing for a setting of the AWS SDK that cannot be used, and stays so."""
    return isinstance(error.__cause__, MISCONFIGURED)


# botocore sends an empty name as `/updates/` and `..` unescaped: neither may come as far as that.
_PATH_SEGMENT = re.compile(r"[0-9A-Za-z_-]{1,100}")


class BotoEks:
    """EKS in every target of the settings; ``session`` brings the gateway's own credentials, the default
    chain finds them otherwise.

    Implements ``protocol.Eks``. Belongs to one event loop.
    """

    def __init__(self, settings: EksSettings, clock: Clock, session: boto3.Session | None = None) -> None:
        self._home = settings.home
        self._gate = SendGate(clock)
        self._clients = Clients(settings, self._gate, clock, session)
        # One pool for each, so that an endpoint that hangs holds no other target's threads.
        self._threads = {
            each.target: Threads(settings.threads, settings.waiting) for each in settings.targets
        }
        self._renewals = Threads(1, 0)
        self._renewing: asyncio.Task[None] | None = None

    async def warm(self) -> None:
        """Load boto3, make the home target's clients, get the gateway's credentials: no call waits for it.

        Raises UpstreamCredentials when there are none; ``lasting`` tells whether that mends by itself.
        """

        def work() -> None:
            try:
                self._clients.renew(self._home)
            finally:
                self._clients.tell()

        await self._threads[self._home].read(lambda: _call("warm", work, lambda: EksNotReached))

    async def check(self) -> None:
        """Raise UpstreamCredentials while the gateway cannot get its own credentials for the home target.

        Waits for nothing: what is due is asked for on a thread of its own, and the last attempt counts.
        """
        if self._clients.due(self._home) and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew())
        fault = self._clients.fault(self._home)
        if fault is not None:
            raise fault

    async def _renew(self) -> None:
        with contextlib.suppress(GatewayError):  # which ``check`` raises
            await self._renewals.read(lambda: self._clients.renew(self._home))

    def serves(self, cluster: ClusterRef) -> bool:
        """Whether the cluster's account and region are configured."""
        return self._clients.serves(cluster.target)

    async def list_clusters(
        self, target: Target, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        """ListClusters: cluster names, and EKS's token of the next page (empty after the last)."""
        if not self._clients.serves(target):
            raise TargetNotConfigured

        def page(eks: EKSClient) -> tuple[tuple[str, ...], str]:
            if page_token:
                answer = eks.list_clusters(maxResults=page_size, nextToken=page_token)
            else:
                answer = eks.list_clusters(maxResults=page_size)
            return to_page(answer, "clusters")

        return await self._read("ListClusters", target, None, page)

    async def describe_cluster(
        self, cluster: ClusterRef, *, on_behalf_of: Caller | None = None
    ) -> ClusterFacts:
        """DescribeCluster."""
        name = self._checked(cluster)
        return await self._read(
            "DescribeCluster",
            cluster.target,
            on_behalf_of,
            lambda eks: to_cluster(eks.describe_cluster(name=name), name),
        )

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        """DescribeUpdate, for cluster updates."""
        name, update_id = self._checked(ref.cluster), _segment(ref.update_id)
        return await self._read(
            "DescribeUpdate",
            ref.cluster.target,
            on_behalf_of,
            lambda eks: to_update(eks.describe_update(name=name, updateId=update_id), update_id),
        )

    async def list_updates(
        self, cluster: ClusterRef, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        """ListUpdates: update ids, and EKS's token of the next page (empty after the last)."""
        name = self._checked(cluster)

        def page(eks: EKSClient) -> tuple[tuple[str, ...], str]:
            if page_token:
                answer = eks.list_updates(name=name, maxResults=page_size, nextToken=page_token)
            else:
                answer = eks.list_updates(name=name, maxResults=page_size)
            return to_page(answer, "updateIds")

        return await self._read("ListUpdates", cluster.target, None, page)

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: float
    ) -> Update:
        """CancelUpdate, once on the wire. A caller that is cancelled does not stop the thread's work."""
        target, name, update_id = ref.cluster.target, self._checked(ref.cluster), _segment(ref.update_id)

        def cancel() -> Update:
            with self._clients.acting_for(on_behalf_of, target) as eks:
                answer = eks.cancels.cancel_update(name=name, updateId=update_id, clientRequestToken=token)
                return to_update(answer, update_id)

        def send() -> Update:
            with self._gate.until(send_before) as sending:
                return _call("CancelUpdate", cancel, lambda: EksNoAnswer if sending.sent else EksNotReached)

        return await self._threads[target].cancel(send)

    async def close(self) -> None:
        """Wait a moment for calls on the wire, then leave them behind."""
        if self._renewing is not None:
            self._renewing.cancel()
        await asyncio.gather(*(threads.close() for threads in (*self._threads.values(), self._renewals)))
        self._clients.close()

    async def _read(
        self, operation: str, target: Target, caller: Caller | None, read: Callable[[EKSClient], T]
    ) -> T:
        def work() -> T:
            with self._clients.acting_for(caller, target) as eks:
                return read(eks.reads)

        threads = self._threads[target]
        run = threads.read if caller is None else threads.look
        return await run(lambda: _call(operation, work, lambda: EksUnavailable))

    def _checked(self, cluster: ClusterRef) -> str:
        if not self.serves(cluster):
            raise TargetNotConfigured
        return _segment(cluster.name)


def _segment(name: str) -> str:
    if not _PATH_SEGMENT.fullmatch(name):
        raise EksInvalidParameter("EKS has no such cluster name or update id; nothing was sent.")
    return name


def _call(operation: str, call: Callable[[], T], lost: Callable[[], type[EksError]]) -> T:
    """Make a blocking call; whatever botocore raises comes out as a leaf of EksError."""
    try:
        return call()
    except GatewayError:
        raise  # the gate's
    except Exception as exc:
        raise translate(exc, operation, lost()) from exc
