"""Ends idle connections when a listener has nearly as many as it accepts, so that new clients get in.

At the limit core refuses every new connection until one has been idle for minutes. Core does not identify
connections, so this module looks at the process's own sockets.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Collection
from typing import Any, Final

from eksgateway.blocking import run_blocking
from eksgateway.clock import Clock
from eksgateway.logs import Log
from eksgateway.rpc.call import Call
from eksgateway.rpc.context import RpcContext
from eksgateway.rpc.counts import count_down, count_up
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.methods import Quota

log = Log(__name__)

IDLE_S: Final = 5.0  # without a call; calls wait less in core
_KEPT: Final = 0.7  # of the connections that a listener accepts


class IdleConnections(Interceptor):
    """The first interceptor: counts each peer's calls, except health watches and reflection streams, which
    every stranger may hold.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: dict[str, int] = {}
        self._busy_since: dict[str, float] = {}  # by peer
        self._idle_since: dict[str, float] = {}  # by peer: when it was first found without a call

    async def enter(self, call: Call, context: RpcContext) -> None:  # noqa: ARG002
        if call.quota is Quota.OPEN:
            return
        self._busy_since.setdefault(call.peer, self._clock.monotonic())
        count_up(self._calls, call.peer)
        self._idle_since.pop(call.peer, None)

    def leave(self, call: Call) -> None:
        if call.quota is Quota.OPEN:
            return
        count_down(self._calls, call.peer)
        if call.peer not in self._calls:
            del self._busy_since[call.peer]

    async def end_idle(self, ports: Collection[int], max_connections: int) -> None:
        """End the longest idle connections of each listener that has nearly ``max_connections``."""
        connections = await run_blocking(_scan_sockets, frozenset(ports), frozenset())
        now = self._clock.monotonic()
        peers = {peer for _, peer in connections}
        self._idle_since = {
            peer: self._idle_since.get(peer, now) for peer in peers if peer not in self._calls
        }
        if any(since <= now - IDLE_S and peer not in peers for peer, since in self._busy_since.items()):
            # No socket has the name that core gives this peer, so busy connections would look idle.
            log.warning("connections.peers_unknown")
            return
        ending: list[str] = []
        for port in ports:
            of_port = [peer for its_port, peer in connections if its_port == port]
            idle = [peer for peer in of_port if self._idle_since.get(peer, now) <= now - IDLE_S]
            idle.sort(key=self._idle_since.__getitem__)
            ending += idle[: max(0, len(of_port) - int(max_connections * _KEPT))]
        if ending:
            log.warning("connections.idle_ended", ended=len(ending), connections=len(connections))
            await run_blocking(_scan_sockets, frozenset(ports), frozenset(ending))


def _scan_sockets(ports: frozenset[int], ending: frozenset[str]) -> list[tuple[int, str]]:
    """The local port and peer of each connection to ``ports``. Ends those with a peer in ``ending``."""
    connections = []
    for number in map(int, os.listdir("/dev/fd")):  # noqa: PTH208  names are enough
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            # The number may soon be another file's; the duplicate stays this socket's.
            with socket.socket(fileno=os.dup(number)) as connection:
                port = connection.getsockname()[1]
                if port not in ports or connection.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                peer = _name_like_core(connection.getpeername())
                connections.append((port, peer))
                if peer in ending:
                    connection.shutdown(socket.SHUT_RDWR)
        except (OSError, IndexError, TypeError):  # closed meanwhile, a listening socket, or not TCP
            continue
    return connections


def _name_like_core(address: tuple[Any, ...]) -> str:
    host, port = str(address[0]), address[1]
    if host.startswith("::ffff:") and "." in host:
        host = host.removeprefix("::ffff:")
    return f"ipv6:%5B{host.replace('%', '%25')}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
