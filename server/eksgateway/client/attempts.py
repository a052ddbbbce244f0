"""When a call has failed: whether to try again, after how long, and with which credentials."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

log = logging.getLogger("eksgateway.client")

Credentials = Callable[[], str | Awaitable[str]]

# For the channel: notice a connection that is dead, and do not wait for minutes before a new one.
CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

# What transport and proxies say of a broken call. The gateway's own INTERNAL is another thing.
BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, and where time and chance come from.

    Between attempts: a random part of ``first_backoff_s``, doubled each time up to
    ``longest_backoff_s``, on top of what the gateway asks for. A stream without a message for
    ``silence_s``, heartbeats included (every 15 s by default), is taken for dead.
    """

    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    silence_s: float = 60.0
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random

    async def done(self, task: asyncio.Future[Any], seconds: float) -> bool:
        """Wait until a task is done (True) or the time has passed (False)."""
        sleeping = asyncio.ensure_future(self.sleep(seconds))
        try:
            await asyncio.wait((task, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
        return task.done()


class Attempts:
    """Credentials for each attempt at one thing, and the rest after one that failed."""

    def __init__(self, credentials: Credentials | None, timing: Timing) -> None:
        self.timing = timing
        self.failures = 0  # in a row
        self._credentials = credentials
        self._refused = False

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """The call's metadata, with a token as fresh as the credentials have one."""
        if self._credentials is None:
            return ()
        token = self._credentials()
        if inspect.isawaitable(token):
            token = await token
        return (("authorization", f"Bearer {token.strip()}"),)

    def succeeded(self) -> None:
        self.failures, self._refused = 0, False

    async def failed(self, error: grpc.aio.AioRpcError | None) -> None:
        """Rest before another attempt. Raises the error if none would mend it; None always passes."""
        said = Said.by(error) if error is not None else None
        if error is not None and said is not None and not said.passes:
            expired = said.code is grpc.StatusCode.UNAUTHENTICATED and self._credentials is not None
            if self._refused or not expired:
                raise error
            self._refused = True
        doubled = self.timing.first_backoff_s * 2.0 ** min(self.failures, 30)
        wait = self.timing.random() * min(self.timing.longest_backoff_s, doubled)
        wait += said.retry_s or 0.0 if said else 0.0
        self.failures += 1
        told = f"{error.code().name}: {error.details()}" if error else "the stream ended"
        log.info("%s; trying again in %.1f s", told, wait)
        await self.timing.sleep(wait)


@dataclass(frozen=True, slots=True)
class Said:
    """What an error says: the gateway's reason, if it comes from there, and when to come back."""

    code: grpc.StatusCode
    reason: str = ""
    retry_s: float | None = None

    @classmethod
    def by(cls, error: grpc.aio.AioRpcError) -> Said:
        try:
            status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it reads
        except ValueError:  # the gateway's details beside a proxy's own status
            status = None
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in status.details if status else ():
            for kind in (info, retry):
                if detail.Is(kind.DESCRIPTOR):
                    detail.Unpack(kind)
        asked = retry.HasField("retry_delay")
        delay = retry.retry_delay.ToTimedelta().total_seconds() if asked else None
        return cls(error.code(), info.reason, delay)

    @property
    def passes(self) -> bool:
        """Whether another attempt may succeed as it is. ABORTED: a decision was too old to act on."""
        if not self.reason:
            return self.code in BROKEN
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self.retry_s is not None or self.reason == "WATCHER_TOO_SLOW"
        return self.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)
