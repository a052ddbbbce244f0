"""When a call has failed: whether to try again, after how long, and with which credentials."""

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

from eksgateway.client.addresses import Fault, hint_of
from eksgateway.client.errors import ErrorDetails

log = logging.getLogger("eksgateway.client")

Credentials = Callable[[], str | Awaitable[str]]

# The statuses that transport and proxies give a broken call. The gateway's own INTERNAL is another thing.
BROKEN: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)

_HOPELESS: Final = 3  # attempts at an address that looks wrong, where no gateway has ever answered
_BESIDE: Final = 3  # quick answers in a row that a proxy made, each with a gateway that serves just after it
_ANSWERS: Final = 7  # answers in a row that something else made, where no gateway has ever answered,
_ANSWERS_SINCE: Final = 40  # and where one has, so that it may be restarting behind the proxy
_QUICK_S: Final = 5.0
_LAST_ATTEMPT_S: Final = 1.0
_LONGEST_RETRY_S: Final = 600.0
_HEALTH: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"


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


FindFault = Callable[[], Awaitable[Fault]]


class Attempts:
    """The attempts at one thing: credentials for each, and whether and when another one follows.

    ``find_fault`` says what is wrong with the address, or nothing; ``timeout`` bounds them all together.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        credentials: Credentials | None,
        timing: Timing,
        *,
        find_fault: FindFault | None = None,
        timeout: float = math.inf,
    ) -> None:
        self.timing = timing
        self._channel = channel
        self._credentials = credentials or (lambda: "")  # without any, none are sent
        self._find_fault = find_fault
        self._deadline = timing.monotonic() + timeout
        self._failures = 0  # in a row
        self._answers = 0  # in a row, of something else than a gateway
        self._beside = 0  # those of them in a row that came while a gateway served
        self._reached = False  # whether a gateway has ever answered
        self._token = ""  # as sent last
        self._renewed: str | None = None  # to be sent next, after that one had expired
        self._asked_anew = False  # since the last success
        self._last = False  # whether the next attempt is the last
        self._begun = timing.monotonic()

    @property
    def left(self) -> float:
        """Seconds until the timeout."""
        return self._deadline - self.timing.monotonic()

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """The next attempt's metadata, with a token as fresh as the credentials have one."""
        self._token = await self._ask() if self._renewed is None else self._renewed
        self._renewed = None
        self._begun = self.timing.monotonic()
        return (("authorization", f"Bearer {self._token}"),) if self._token else ()

    def succeeded(self) -> None:
        self._failures = self._answers = self._beside = 0
        self._reached, self._asked_anew = True, False

    async def failed(self, error: grpc.aio.AioRpcError | None) -> None:
        """Rest before another attempt. Raises the error if none would mend it, with a note where the cause is
        known, or if none fits into the timeout. None stands for a stream that ended too early.
        """
        said = ErrorDetails.of(error) if error is not None else None
        if error is not None and said is not None and not await self._passes(error, said):
            raise error
        wait = self._wait(said.retry_s if said else None)
        if wait is None:
            raise error if error is not None else TimeoutError
        self._failures += 1
        reason = f"{error.code().name}: {error.details()}" if error else "the stream ended"
        log.info("%s; trying again in %.1f s", reason, wait)
        if error is not None and not self._reached and self._failures == _HOPELESS:
            log.warning("no gateway has answered so far: check the address, and whether one runs there")
        await self.timing.sleep(wait)

    def _wait(self, asked: float | None) -> float | None:
        """The time that the gateway asked for and a random one on top. Before the timeout that is cut once,
        so that a last attempt fits in; None when none does.
        """
        doubled = self.timing.first_backoff_s * 2.0 ** min(self._failures, 30)
        jitter = self.timing.random() * min(self.timing.longest_backoff_s, doubled)
        asked = min(asked or 0.0, _LONGEST_RETRY_S)
        room = self.left - _LAST_ATTEMPT_S
        if asked + jitter < room:
            return asked + jitter
        if self._last or asked > room:
            return None
        self._last = True
        return room

    async def _passes(self, error: grpc.aio.AioRpcError, said: ErrorDetails) -> bool:
        """Whether another attempt may succeed."""
        if said.reason:
            self._reached, self._answers, self._beside = True, 0, 0
            if said.reason == "CREDENTIALS_EXPIRED":
                return await self._renew()
            return may_pass(said)
        if said.code not in BROKEN:
            return False
        note = await self._lost(said.message)
        if note:
            error.add_note(note)
        return not note

    async def _lost(self, message: str) -> str:
        """Why it is useless to go on after an error that is not the gateway's; empty if it may be away."""
        if self._channel.get_state() is grpc.ChannelConnectivity.READY or "http2 header" in message:
            return await self._answered()
        if self._reached or self._failures + 1 < _HOPELESS:
            return ""
        if (hint := hint_of(message)) or self._find_fault is None or "refused" in message:
            return hint
        fault = await self._find_fault()
        return fault.text if fault.certain or self._failures + 1 >= _ANSWERS else ""

    async def _answered(self) -> str:
        """As ``_lost``, when something on the way has answered on a connection that stands.

        A proxy makes an error of its own of a refusal that it cannot pass on (too long for its buffer), and
        of a gateway that is away. In the first case the gateway still answers a health check; it has to do
        so again and again, because it may have come back just before the first one.
        """
        self._answers += 1
        if self._answers > 1:
            quick = self.timing.monotonic() - self._begun < _QUICK_S
            self._beside = self._beside + 1 if quick and await self._serves() else 0
        if self._beside >= _BESIDE:
            return "the gateway serves, and something on the way (a proxy) replaces its answer to this call"
        if self._answers >= (_ANSWERS_SINCE if self._reached else _ANSWERS):
            return f"something on the way (a proxy) has answered {self._answers} times, and no gateway"
        return ""

    async def _serves(self) -> bool:
        try:
            ask: Any = self._channel.unary_unary(_HEALTH)  # of bytes: grpc_health is not needed for this
            answer = await ask(b"", timeout=_QUICK_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer == _SERVING)

    async def _renew(self) -> bool:
        """Whether the credentials have another token than the one that has expired: once until a success."""
        if self._asked_anew:
            return False
        self._asked_anew, self._renewed = True, await self._ask()
        return self._renewed != self._token

    async def _ask(self) -> str:
        token = self._credentials()
        if inspect.isawaitable(token):
            token = await token
        token = token.strip()
        if not (token.isascii() and token.isprintable()):
            raise ValueError("the credentials gave something that is no bearer token")
        return token


def may_pass(said: ErrorDetails) -> bool:
    """Whether time may mend an error of the gateway. ABORTED: a decision was too old to act on."""
    if said.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return said.retry_s is not None or said.reason == "WATCHER_TOO_SLOW"
    return said.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)
