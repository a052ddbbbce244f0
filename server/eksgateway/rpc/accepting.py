"""grpc.aio's server, less a fault of it: one request ends it.

grpc.aio (1.85.1) decodes the path of a call that is for no registered method inside its accept loop. A path
that is not UTF-8 makes that loop raise, and the server shuts down: anybody who reaches the port could end
it. Only names that grpc keeps to itself lead there, so this file looks for them first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

from eksgateway.logs import Log

log = Log(__name__)

# What the log and the interceptors get as the path of every call that is for no registered method.
UNKNOWN_PATH = "unknown"

_NEEDED = ("AioServer", "_MethodResolver", "_RequestCallError", "_handle_rpc", "_schedule_rpc_coro")
_guarded = all(hasattr(cygrpc, name) for name in _NEEDED) and hasattr(cygrpc.AioServer, "_request_call")


def make_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]
) -> Any:
    """A ``grpc.aio.Server`` whose methods all have to be registered: generic handlers are not asked."""
    if not _guarded:
        log.error("listener.unguarded", grpcio=grpc.__version__)
        return grpc.aio.server(interceptors=interceptors, options=options)
    return _Server(interceptors, options)


if _guarded:

    class _AcceptingServer(cygrpc.AioServer):  # type: ignore[misc]  # it has no types
        """Handles calls for no registered method itself, and lets the accept loop go on to the next."""

        def __init__(self, loop: Any, interceptors: tuple[Any, ...], options: tuple[Any, ...]) -> None:
            super().__init__(loop, None, (), interceptors, options, None)
            self._chain = interceptors
            self._nothing = cygrpc._MethodResolver([], {})  # noqa: SLF001
            self._calls: set[asyncio.Task[None]] = set()

        async def _request_call(self) -> Any:
            state = await super()._request_call()
            loop = asyncio.get_running_loop()
            call = cygrpc._handle_rpc(UNKNOWN_PATH, self._nothing, self._chain, state, loop, False)  # noqa: SLF001
            task = loop.create_task(cygrpc._schedule_rpc_coro(call, state, loop, UNKNOWN_PATH))  # noqa: SLF001
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            # The accept loop takes it for a call that failed, and asks for the next one.
            raise cygrpc._RequestCallError  # noqa: SLF001

    class _Server(_server.Server):
        """grpc.aio's own, around the one above."""

        def __init__(self, interceptors: Sequence[Any], options: Sequence[tuple[str, int]]) -> None:
            self._loop = cygrpc.get_working_loop()
            self._server = _AcceptingServer(self._loop, tuple(interceptors), tuple(options))
