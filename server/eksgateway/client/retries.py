"""Decides whether and when a failed call is retried."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc

from eksgateway.client.addresses import AddressFault, find_hint
from eksgateway.client.errors import ErrorDetails

log = logging.getLogger("eksgateway.client")

# Called before each attempt. Those that keep a token may have a method ``renew``, which is called in their
# place when the gateway has refused the token as expired.
Credentials = Callable[[], str | Awaitable[str]]

# Of a broken connection, from gRPC or proxies. An INTERNAL from the gateway is not retried.
TRANSPORT_STATUSES: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)

# Attempts in a row:
_UNREACHED_ATTEMPTS: Final = 3  # at an address that looks wrong, if no gateway has answered so far
_REPLACED_ANSWERS: Final = 3  # when a proxy answers quickly and a health check after it succeeds
_FOREIGN_ANSWERS: Final = 7  # when a proxy answers and no gateway has answered so far
_FOREIGN_ANSWERS_SINCE: Final = 40  # when one has: it may be restarting behind the proxy
_QUICK_S: Final = 5.0
_LAST_ATTEMPT_S: Final = 1.0
_MAX_RETRY_DELAY_S: Final = 600.0
_HEALTH: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations in seconds, and the sources of time and randomness.

    A retry waits as long as the gateway requests, plus a random part of a backoff that doubles each time. A
    stream without a message for ``silence_s`` counts as broken.
    """

    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    silence_s: float = 60.0
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random

    async def done(self, task: asyncio.Future[Any], seconds: float) -> bool:
        """Wait at most ``seconds``. Returns whether the task is done."""
        sleeping = asyncio.ensure_future(self.sleep(seconds))
        try:
            await asyncio.wait((task, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
        return task.done()


DEFAULT_TIMING: Final = Timing()

FindFault = Callable[[], Awaitable[AddressFault]]


@dataclass(eq=False)
class Retries:
    """The attempts of one call or watch; ``timeout`` bounds them together."""

    channel: grpc.aio.Channel
    credentials: Credentials | None
    timing: Timing
    find_fault: FindFault | None = None
    timeout: float = math.inf

    def __post_init__(self) -> None:
        self._deadline = self.timing.monotonic() + self.timeout
        self._failures = 0  # in a row
        self._foreign_answers = 0  # in a row, not from a gateway
        self._replaced_answers = 0  # of those, in a row, while a gateway was serving
        self._reached = False  # whether a gateway has ever answered
        self._token = ""  # of the last attempt
        self._next_token: str | None = None  # obtained after the last one expired
        self._token_renewed = False  # since the last success
        self._last = False  # the next attempt
        self._attempt_time = self.timing.monotonic()

    @property
    def left(self) -> float:
        return self._deadline - self.timing.monotonic()

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """The next attempt's, with a new token from the credentials."""
        self._token = (
            await self._get_token(self.credentials) if self._next_token is None else self._next_token
        )
        self._next_token = None
        self._attempt_time = self.timing.monotonic()
        return (("authorization", f"Bearer {self._token}"),) if self._token else ()

    def record_success(self) -> None:
        self._failures = self._foreign_answers = self._replaced_answers = 0
        self._reached, self._token_renewed = True, False

    async def wait_for_retry(self, error: grpc.aio.AioRpcError | None) -> None:
        """Wait before the next attempt. None means that a stream ended too early.

        Raises the error if it is not retryable or no attempt fits into the timeout; a note has the cause.
        """
        details = ErrorDetails.of(error) if error is not None else None
        if error is not None and details is not None and not await self._may_retry(error, details):
            raise error
        delay = self._delay(details.retry_s if details else None)
        if delay is None:
            raise error if error is not None else _timeout_error()
        self._failures += 1
        reason = f"{error.code().name}: {error.details()}" if error else "the stream ended"
        log.info("%s; trying again in %.1f s", reason, delay)
        if error is not None and not self._reached and self._failures == _UNREACHED_ATTEMPTS:
            log.warning("no gateway has answered so far: check the address, and whether one runs there")
        await self.timing.sleep(delay)

    def _delay(self, requested: float | None) -> float | None:
        """Cut once, so that a last attempt fits into the timeout; None when none fits."""
        doubled = self.timing.first_backoff_s * 2.0 ** min(self._failures, 30)
        jitter = self.timing.random() * min(self.timing.longest_backoff_s, doubled)
        requested = min(requested or 0.0, _MAX_RETRY_DELAY_S)
        longest = self.left - _LAST_ATTEMPT_S
        if requested + jitter < longest:
            return requested + jitter
        if self._last or requested > longest:
            return None
        self._last = True
        return longest

    async def _may_retry(self, error: grpc.aio.AioRpcError, details: ErrorDetails) -> bool:
        if details.reason:
            self._reached, self._foreign_answers, self._replaced_answers = True, 0, 0
            if details.reason == "CREDENTIALS_EXPIRED":
                return await self._renew_token()
            return is_retryable(details)
        if details.code not in TRANSPORT_STATUSES:
            return False
        note = await self._explain_transport_error(details.message)
        if note:
            error.add_note(note)
        return not note

    async def _explain_transport_error(self, message: str) -> str:
        """Why retries are useless; empty if the gateway may just be unavailable."""
        if self.channel.get_state() is grpc.ChannelConnectivity.READY or "http2 header" in message:
            return await self._explain_foreign_answer()
        if self._reached or self._failures + 1 < _UNREACHED_ATTEMPTS:
            return ""
        if (hint := find_hint(message)) or self.find_fault is None or "refused" in message:
            return hint
        fault = await self.find_fault()
        return fault.text if fault.certain or self._failures + 1 >= _FOREIGN_ANSWERS else ""

    async def _explain_foreign_answer(self) -> str:
        """The same when a proxy has answered.

        It does so for an unavailable gateway, and in place of an answer too long for its buffer. Then health
        checks succeed: several, because a gateway may just have restarted.
        """
        self._foreign_answers += 1
        if self._foreign_answers > 1:
            quick = self.timing.monotonic() - self._attempt_time < _QUICK_S
            self._replaced_answers = self._replaced_answers + 1 if quick and await self._is_serving() else 0
        if self._replaced_answers >= _REPLACED_ANSWERS:
            return "the gateway serves, and something on the way (a proxy) replaces its answer to this call"
        if self._foreign_answers >= (_FOREIGN_ANSWERS_SINCE if self._reached else _FOREIGN_ANSWERS):
            return (
                f"something on the way (a proxy) has answered {self._foreign_answers} times, and no gateway"
            )
        return ""

    async def _is_serving(self) -> bool:
        try:
            check: Any = self.channel.unary_unary(_HEALTH)  # with bytes, so grpc_health is not needed
            answer = await check(b"", timeout=_QUICK_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer == _SERVING)

    async def _renew_token(self) -> bool:
        """Whether the credentials have a newer token; once until the next success."""
        if self._token_renewed:
            return False
        get = getattr(self.credentials, "renew", self.credentials)
        self._token_renewed, self._next_token = True, await self._get_token(get)
        return self._next_token != self._token

    async def _get_token(self, get: Credentials | None) -> str:
        token = get() if get is not None else ""
        if inspect.isawaitable(token):
            token = await token
        token = token.strip()
        if not (token.isascii() and token.isprintable()):
            raise ValueError("the credentials returned no bearer token")
        return token


def _timeout_error() -> grpc.aio.AioRpcError:
    empty = grpc.aio.Metadata()
    details = "the stream ended or was silent, and no time is left for another attempt"
    return grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, empty, empty, details=details)


def is_retryable(details: ErrorDetails) -> bool:
    """Whether the same call may succeed later. ABORTED means that a decision was too old to act on."""
    if details.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return details.retry_s is not None or details.reason == "WATCHER_TOO_SLOW"
    return details.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)
