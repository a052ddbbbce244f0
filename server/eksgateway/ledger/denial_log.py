"""The log of denied cancels: a bounded queue, written in batches.

A denied call never waits for its record. Denials that do not fit are counted, and the count is recorded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final

from eksgateway.clock import Clock
from eksgateway.ledger.backlog import RETRY_S
from eksgateway.ledger.codec import encode
from eksgateway.ledger.database import OperationRejected, StorageError
from eksgateway.logs import Log
from eksgateway.model import Denial

log = Log(__name__)

_BATCH: Final = 500
_AVERAGE_BYTES: Final = 4096  # bounds the memory: one denial may hold a message of the largest size


@dataclass(eq=False)
class DenialLog:
    """A batch that the database rejects is halved. A single denial that it rejects is counted as lost.

    One that fails otherwise may be written all the same. It is repeated as it is, and ``write`` gets True.
    ``failing``: the last batch could not be written.
    """

    write: Callable[[Sequence[str], int, bool], Awaitable[None]]
    limit: int
    clock: Clock

    def __post_init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._bytes = 0
        self._lost = 0
        self._batch_size = _BATCH
        self._unsure: tuple[list[str], int] | None = None  # the batch that failed
        self._sleeping = False
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.failing = False

    def add(self, denial: Denial) -> None:
        try:
            body = encode(denial)
        except (TypeError, ValueError):
            log.exception("ledger.denial_without_json", request_id=denial.request_id)
            self._lost += 1
        else:
            self._queue(body)
        if not self._closing and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._flush())

    def _queue(self, body: str) -> None:
        full = len(self._waiting) >= self.limit
        if full or self._bytes + len(body) > self.limit * _AVERAGE_BYTES:
            self._lost += 1
            return
        self._waiting.append(body)
        self._bytes += len(body)

    async def close(self, timeout_s: float) -> None:
        """Write the queue within ``timeout_s``, and log the number that is lost."""
        self._closing = True
        if self._task is not None and self._sleeping:
            self._task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                if self._task is not None:
                    await asyncio.wait({self._task})
                while self._waiting or self._lost:
                    if not await self._write_batch():
                        break
        if self._waiting or self._lost:
            log.error("ledger.denials_lost", count=len(self._waiting) + self._lost)

    async def _flush(self) -> None:
        while self._waiting or self._lost:
            if await self._write_batch():
                continue
            if self._closing:
                return
            self._sleeping = True
            await self.clock.sleep(RETRY_S)
            self._sleeping = False

    async def _write_batch(self) -> bool:
        repeated, self._unsure = self._unsure, None
        bodies, lost = repeated or (list(islice(self._waiting, self._batch_size)), self._lost)
        try:
            await self.write(bodies, lost, repeated is not None)
        except OperationRejected as exc:
            if len(bodies) != 1:
                self._batch_size = max(1, len(bodies) // 2)
                self.failing = not bodies
                return bool(bodies)
            log.warning("ledger.denial_refused", detail=str(exc))
            lost = -1
        except StorageError:
            self.failing, self._unsure = True, (bodies, lost)
            return False
        for body in bodies:
            self._waiting.popleft()
            self._bytes -= len(body)
        self._lost -= lost
        self._batch_size = min(_BATCH, 2 * self._batch_size)
        self.failing = False
        return True
