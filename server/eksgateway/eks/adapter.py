"""Calls EKS through boto3 on worker threads."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from eksgateway.clock import Clock, Deadline
from eksgateway.eks.clients import Clients
from eksgateway.eks.convert import to_cluster, to_page, to_update
from eksgateway.eks.error_table import MISCONFIGURED, translate
from eksgateway.eks.protocol import Page
from eksgateway.eks.send_gate import SendGate
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

# botocore sends an empty name as `/updates/`, and `..` unescaped.
_PATH_SEGMENT: Final = re.compile(r"[0-9A-Za-z_-]{1,100}")


def is_permanent(error: UpstreamCredentials) -> bool:
    """Whether a setting of the AWS SDK is the cause, which no retry mends."""
    return isinstance(error.__cause__, MISCONFIGURED)


@dataclass(eq=False)
class BotoEks:
    """Implements ``protocol.Eks``. Belongs to one event loop.

    Without ``session``, boto3's default chain finds the gateway's own credentials. ``count`` gets the
    operation and the result of each call: ``ok``, ``abandoned``, or the error's reason.
    """

    settings: EksSettings
    clock: Clock
    session: boto3.Session | None = None
    count: Callable[[str, str], None] = lambda _operation, _result: None

    def __post_init__(self) -> None:
        settings = self.settings
        self._gate = SendGate(self.clock)
        self._clients = Clients(settings, self._gate, self.clock, self.session)
        # Per target, so that an endpoint that hangs holds no other target's threads.
        self._threads = {
            each.target: Threads(settings.threads, settings.waiting) for each in settings.targets
        }
        self._renewals = Threads(1, 0)
        self._renewing: asyncio.Task[None] | None = None

    async def warm(self) -> None:
        """Load boto3, make the home target's clients and get the gateway's credentials.

        Raises UpstreamCredentials if there are none; see ``is_permanent``.
        """

        def work() -> None:
            try:
                self._clients.renew(self.settings.home)
            finally:
                self._clients.log_targets()

        await self._threads[self.settings.home].read(lambda: _call("warm", work, lambda: EksNotReached))

    async def check(self) -> None:
        """Raise UpstreamCredentials while the last attempt to get the home target's failed. Does not wait."""
        if self._clients.is_due(self.settings.home) and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew())
        error = self._clients.credentials_error(self.settings.home)
        if error is not None:
            raise error

    async def _renew(self) -> None:
        with contextlib.suppress(GatewayError):  # ``check`` raises it
            await self._renewals.read(lambda: self._clients.renew(self.settings.home))

    def serves(self, cluster: ClusterRef) -> bool:
        return cluster.target in self._threads

    async def list_clusters(self, target: Target, page_size: int, page_token: str) -> Page:
        page = _page_params(page_size, page_token)
        return await self._read(
            "ListClusters", target, None, lambda eks: to_page(eks.list_clusters(**page), "clusters")
        )

    async def describe_cluster(
        self, cluster: ClusterRef, *, on_behalf_of: Caller | None = None
    ) -> ClusterFacts:
        name = cluster.name
        return await self._read(
            "DescribeCluster",
            cluster.target,
            on_behalf_of,
            lambda eks: to_cluster(eks.describe_cluster(name=name), name),
            name,
        )

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        name, update_id = ref.cluster.name, ref.update_id
        return await self._read(
            "DescribeUpdate",
            ref.target,
            on_behalf_of,
            lambda eks: to_update(eks.describe_update(name=name, updateId=update_id), update_id),
            name,
            update_id,
        )

    async def list_updates(self, cluster: ClusterRef, page_size: int, page_token: str) -> Page:
        name, page = cluster.name, _page_params(page_size, page_token)
        return await self._read(
            "ListUpdates",
            cluster.target,
            None,
            lambda eks: to_page(eks.list_updates(name=name, **page), "updateIds"),
            name,
        )

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: Deadline
    ) -> Update:
        target, name, update_id = ref.target, ref.cluster.name, ref.update_id

        def cancel() -> Update:
            with self._clients.acting_for(on_behalf_of, target) as eks:
                answer = eks.cancels.cancel_update(name=name, updateId=update_id, clientRequestToken=token)
                return to_update(answer, update_id)

        def send() -> Update:
            with self._gate.open_until(send_before) as sending:
                return _call("CancelUpdate", cancel, lambda: EksNoAnswer if sending.sent else EksNotReached)

        with self._counting("CancelUpdate"):
            self._check(target, name, update_id)
            return await self._threads[target].cancel(send)

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        await asyncio.gather(*(threads.close() for threads in (*self._threads.values(), self._renewals)))
        self._clients.close()

    async def _read(
        self,
        operation: str,
        target: Target,
        caller: Caller | None,
        read: Callable[[EKSClient], T],
        *names: str,
    ) -> T:
        def work() -> T:
            with self._clients.acting_for(caller, target) as eks:
                return read(eks.reads)

        with self._counting(operation):
            self._check(target, *names)
            threads = self._threads[target]
            run = threads.read if caller is None else threads.read_for_cancel
            return await run(lambda: _call(operation, work, lambda: EksUnavailable))

    def _check(self, target: Target, *names: str) -> None:
        if target not in self._threads:
            raise TargetNotConfigured
        if not all(_PATH_SEGMENT.fullmatch(name) for name in names):
            raise EksInvalidParameter("EKS has no such cluster name or update id; nothing was sent.")

    @contextlib.contextmanager
    def _counting(self, operation: str) -> Iterator[None]:
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
            self.count(operation, result)


def _page_params(page_size: int, page_token: str) -> Any:
    return {"maxResults": page_size} | ({"nextToken": page_token} if page_token else {})


def _call(operation: str, call: Callable[[], T], lost: Callable[[], type[EksError]]) -> T:
    try:
        return call()
    except GatewayError:
        raise  # from the gate or the credentials
    except Exception as exc:
        raise translate(exc, operation, lost()) from exc
