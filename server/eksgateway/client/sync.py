"""The client for programs without asyncio: the names of ``eksgateway.client``, which block.

    from eksgateway.client.sync import Channels, watch

    with Channels("gateway.example:50051", credentials) as channels:
        for known in watch(channels, "prod-1", update_id, credentials=read_token):
            print(known.update.status)

The asynchronous client runs on one background thread, so retries, resuming and staleness are the same. Any
thread may call, also several at once. KeyboardInterrupt ends a call at once. Do not fork after the first use:
gRPC's fork handlers may crash the child, unless GRPC_ENABLE_FORK_SUPPORT is 0 in the environment.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, Generic, Self, TypeVar

import grpc

from eksgateway import client as asynchronous
from eksgateway.client.calls import CANCEL_S
from eksgateway.client.channels import CHANNEL_OPTIONS
from eksgateway.client.errors import ErrorDetails
from eksgateway.client.knowledge import Knowledge
from eksgateway.client.loop_thread import LOOP_THREAD, call_in_thread
from eksgateway.client.retries import DEFAULT_TIMING, Timing
from eksgateway.client.retries import Credentials as AsyncCredentials
from eksgateway.v1.cancellation_pb2 import Cancellation
from eksgateway.v1.update_pb2 import ClusterRef

__all__ = [
    "CHANNEL_OPTIONS",
    "Cancellation",
    "Channels",
    "Credentials",
    "ErrorDetails",
    "Knowledge",
    "States",
    "Timing",
    "cancel",
    "cancel_and_watch",
    "watch",
]

Credentials = Callable[[], str]
_T = TypeVar("_T")


class Channels:
    """Channels to a gateway: one for calls, and one more for every 80 watches. Its context closes them.

    ``address`` is host:port or a gRPC target with a scheme (``dns:///host:port``). Without ``credentials``
    (from grpc.ssl_channel_credentials) it connects in plaintext. Raises ValueError for a malformed address.
    """

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.address = address
        self._channels = asynchronous.Channels(address, credentials, options)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, which ends open calls with an error. A later call raises ValueError."""
        self._closed = True
        LOOP_THREAD.finish(self._channels.__aexit__())

    @property
    def inner(self) -> asynchronous.Channels:
        """The asynchronous ones. Raises ValueError once these are closed."""
        if self._closed:
            raise ValueError("these channels are closed: open others")
        return self._channels


class States(Iterator[_T], Generic[_T]):
    """An iterator over what a watch yields. ``close``, its context or its last reference ends the call.

    One thread reads it. Any other may close it; then the reader's loop ends.
    """

    def __init__(self, states: AsyncGenerator[_T, None]) -> None:
        self._states = states
        self._reading: asyncio.Task[Any] | None = None
        self._closed = False

    def __next__(self) -> _T:
        if self._closed:
            raise StopIteration
        try:
            item = LOOP_THREAD.run(self._read())
        except CancelledError:  # closed meanwhile
            raise StopIteration from None
        except BaseException:
            self.close()
            raise
        if item is None:
            self.close()
            raise StopIteration
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the call; returns once it has ended. May be repeated."""
        if not self._closed:
            self._closed = True
            LOOP_THREAD.finish(self._close())

    async def _read(self) -> _T | None:
        self._reading = asyncio.current_task()
        return await anext(self._states, None)

    async def _close(self) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait({self._reading})
        await self._states.aclose()


def watch(  # noqa: PLR0913  all but three have defaults
    channels: Channels,
    cluster: str | ClusterRef,
    update_id: str,
    *,
    credentials: Credentials | None = None,
    max_age: float = 60.0,
    resume_token: str = "",
    heartbeats: bool = False,
    timeout: float = math.inf,
    timing: Timing = DEFAULT_TIMING,
) -> States[Knowledge]:
    """Iterate over the states of an update until it has ended: see ``eksgateway.client.watch``.

    ``credentials`` returns the bearer token of each stream, on a thread of its own. The iterator raises
    AioRpcError where a retry is useless. Close it, or use it as a context, to end the stream early.
    """
    return States(
        asynchronous.watch(
            channels.inner,
            cluster,
            update_id,
            credentials=_in_thread(credentials),
            max_age=max_age,
            resume_token=resume_token,
            heartbeats=heartbeats,
            timeout=timeout,
            timing=timing,
        )
    )


def cancel(  # noqa: PLR0913  all but three have defaults
    channels: Channels,
    cluster: str | ClusterRef,
    update_id: str,
    *,
    reason: str = "",
    ticket: str = "",
    request_id: str = "",
    credentials: Credentials | None = None,
    timeout: float = CANCEL_S,
    timing: Timing = DEFAULT_TIMING,
) -> Cancellation:
    """Call CancelUpdate with retries for up to ``timeout`` seconds: see ``eksgateway.client.cancel``.

    Returns once EKS has accepted the cancel. Raises the last AioRpcError. After UNAVAILABLE,
    DEADLINE_EXCEEDED or KeyboardInterrupt call again with the same ``request_id`` to learn the outcome.
    """
    return LOOP_THREAD.run(
        asynchronous.cancel(
            channels.inner,
            cluster,
            update_id,
            reason=reason,
            ticket=ticket,
            request_id=request_id,
            credentials=_in_thread(credentials),
            timeout=timeout,
            timing=timing,
        )
    )


def cancel_and_watch(  # noqa: PLR0913  all but three have defaults
    channels: Channels,
    cluster: str | ClusterRef,
    update_id: str,
    *,
    reason: str = "",
    ticket: str = "",
    request_id: str = "",
    credentials: Credentials | None = None,
    max_age: float = 60.0,
    heartbeats: bool = False,
    timeout: float = CANCEL_S,
    watch_timeout: float = math.inf,
    timing: Timing = DEFAULT_TIMING,
) -> States[Cancellation | Knowledge]:
    """Cancel an update, then watch it: see ``eksgateway.client.cancel_and_watch``.

    Iterates over the cancellation, once EKS has accepted it, then over the states until the update has ended.
    The cancel is sent by the first step of the iterator. Its errors are those of ``cancel``, later ones those
    of ``watch``.
    """
    return States(
        asynchronous.cancel_and_watch(
            channels.inner,
            cluster,
            update_id,
            reason=reason,
            ticket=ticket,
            request_id=request_id,
            credentials=_in_thread(credentials),
            max_age=max_age,
            heartbeats=heartbeats,
            timeout=timeout,
            watch_timeout=watch_timeout,
            timing=timing,
        )
    )


class _ThreadedCredentials:
    """Credentials for the asynchronous client that may block."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._context = contextvars.copy_context()

    def __call__(self) -> Awaitable[str]:
        return call_in_thread(self._credentials, self._context.copy())

    def renew(self) -> Awaitable[str]:
        renew = getattr(self._credentials, "renew", self._credentials)
        return call_in_thread(renew, self._context.copy())


def _in_thread(credentials: Credentials | None) -> AsyncCredentials | None:
    return None if credentials is None else _ThreadedCredentials(credentials)
