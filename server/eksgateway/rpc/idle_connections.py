"""Ends quiet connections when nearly all that a listener takes are held, so that new clients get in.

When all are held, core refuses the next connection, whoever it is from, until one has been idle for minutes.
Core has no name for a connection, so this looks at the process's own sockets, by their peers' addresses.
"""

from __future__ import annotations

import os
import socket
import stat
from collections import Counter
from collections.abc import Collection
from typing import Any

from eksgateway.blocking import run_blocking
from eksgateway.clock import Clock
from eksgateway.logs import Log
from eksgateway.rpc.call import Call
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.methods import Place

log = Log(__name__)

IDLE_S = 5.0  # a connection without a call for this long may be ended; longer than a call waits in core
_LEFT = 0.7  # of the connections that a listener takes, after some were ended


class IdleConnections(Interceptor):
    """Knows which peers have calls, and since when others have none. First of all interceptors.

    A health watch or reflection is no call here: strangers may hold one on each connection.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: Counter[str] = Counter()
        self._begun: dict[str, float] = {}  # when a peer's calls that are in flight began
        self._quiet: dict[str, float] = {}  # since when a connection has been seen without a call

    async def admit(self, call: Call, context: Any) -> None:  # noqa: ARG002
        if call.place is Place.OPEN:
            return
        self._begun.setdefault(call.peer, self._clock.monotonic())
        self._calls[call.peer] += 1
        self._quiet.pop(call.peer, None)

    def leave(self, call: Call) -> None:
        if call.place is Place.OPEN:
            return
        self._calls[call.peer] -= 1
        if not self._calls[call.peer]:
            del self._calls[call.peer], self._begun[call.peer]

    async def end_idle(self, ports: Collection[int], most: int) -> None:
        """End the longest quiet connections of each of these listeners that has nearly ``most``."""
        held = await run_blocking(_look, frozenset(ports), frozenset())
        now = self._clock.monotonic()
        names = {name for _, name in held}
        self._quiet = {name: self._quiet.get(name, now) for name in names if name not in self._calls}
        if any(begun <= now - IDLE_S and peer not in names for peer, begun in self._begun.items()):
            log.warning(
                "room.unreadable"
            )  # a peer's name that is not understood: its connection would look quiet
            return
        doomed = []
        for port in ports:
            mine = [name for its_port, name in held if its_port == port]
            quiet = [name for name in mine if self._quiet.get(name, now) <= now - IDLE_S]
            quiet.sort(key=self._quiet.__getitem__)
            doomed += quiet[: max(0, len(mine) - int(most * _LEFT))]
        if doomed:
            log.warning("room.made", ended=len(doomed), connections=len(held))
            await run_blocking(_look, frozenset(ports), frozenset(doomed))


def _look(ports: frozenset[int], doomed: frozenset[str]) -> list[tuple[int, str]]:
    """The connections of these local ports, by core's names of their peers; ends the doomed ones."""
    held = []
    for number in map(int, os.listdir("/dev/fd")):  # noqa: PTH208  names alone
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            # A duplicate is of one socket, although the number may be another's by now.
            with socket.socket(fileno=os.dup(number)) as one:
                port = one.getsockname()[1]
                if port not in ports or one.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                name = _name(one.getpeername())
                held.append((port, name))
                if name in doomed:
                    one.shutdown(socket.SHUT_RDWR)
        except (OSError, IndexError, TypeError):  # closed meanwhile, a listener's own, or no internet socket
            continue
    return held


def _name(peer: tuple[Any, ...]) -> str:
    host, port = str(peer[0]), peer[1]
    if host.startswith("::ffff:") and "." in host:
        host = host.removeprefix("::ffff:")
    return f"ipv6:%5B{host.replace('%', '%25')}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
