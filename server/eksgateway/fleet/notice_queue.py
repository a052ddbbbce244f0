"""Notices that were received and are not delivered yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from eksgateway.logs import Log

log = Log(__name__)

_TURN: Final = 100  # notices, before the event loop does other work
_MOST: Final = 10_000  # distinct notices; more are dropped, and everything is read again


class NoticeQueue:
    """Delivers each notice once, however often it comes before that. Belongs to one event loop."""

    def __init__(self, deliver: Callable[[str, str], None], catch_up: Callable[[], None]) -> None:
        """``deliver`` gets a channel and a payload. ``catch_up`` is called after notices were dropped."""
        self._deliver = deliver
        self._catch_up = catch_up
        self._waiting: dict[tuple[str, str], None] = {}  # in the order of their arrival
        self._dropped = False
        self._timer: asyncio.Handle | None = None

    def add(self, channel: str, payload: str) -> None:
        self._waiting[channel, payload] = None
        if len(self._waiting) > _MOST:
            self._waiting.clear()
            self._dropped = True
        self._set_timer()

    def close(self) -> None:
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._timer = None
        if self._dropped:
            self._dropped = False
            log.warning("fleet.notices_dropped", more_than=_MOST)
            self._catch_up()
        for notice in list(self._waiting)[:_TURN]:
            del self._waiting[notice]
            try:
                self._deliver(*notice)
            except Exception:  # a bug in one part must not keep notices from others
                log.exception("fleet.notice_failed", channel=notice[0])
        if self._waiting:
            self._set_timer()
