"""Makes grpc.aio's server (1.85.1), with two faults of its accept loop fixed and two detours left out.

The loop requests one call of each method from core at a time, which takes five to six turns of the event
loop. Meanwhile further calls of the method wait in core in order of arrival. The server here requests several
at once, so that calls wait in ``admission`` instead, where callers take turns.

The loop also ends the server if the path of an unregistered method is not UTF-8. The server here handles such
calls outside the loop.

The detours: grpc.aio resolves the method's handler for each call, through coroutines of its interceptors and
with a copy of the metadata. And it wakes the event loop for each event, even if one turn has handled many.

All this uses private names of grpc. If any is missing, grpc.aio's own server is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

from eksgateway.logs import Log
from eksgateway.rpc.interceptors.chain import Chain

log = Log(__name__)

UNKNOWN_PATH: Final = "unknown"  # logged and passed on for every call of an unregistered method
_EXTRA_REQUESTS: Final = 16  # of each method, beside the one of grpc.aio's loop

_CLASSES: Final = ("_RequestCallError", "InternalError")
_OVERRIDDEN: Final = ("_request_call", "_request_registered_call", "add_registered_method_handlers")
_FUNCTIONS: Final = {
    "_handle_stream_unary_rpc": "method_handler rpc_state loop",
    "_handle_stream_stream_rpc": "method_handler rpc_state loop",
    "_schedule_rpc_coro": "rpc_coro rpc_state loop method_name",
}


def missing_names(module: Any) -> list[str]:
    """The names used here that ``cygrpc`` lacks, or has with other arguments."""
    names = [name for name in _CLASSES if not hasattr(module, name)]
    server = getattr(module, "AioServer", None)
    names += [name for name in (*_OVERRIDDEN, "is_running") if not hasattr(server, name)]
    for name, arguments in _FUNCTIONS.items():
        code = getattr(getattr(module, name, None), "__code__", None)
        if code is None or code.co_varnames[: code.co_argcount] != tuple(arguments.split()):
            names.append(name)
    return names


_missing = missing_names(cygrpc)


def make_server(chain: Chain, options: Sequence[tuple[str, int]]) -> Any:
    """A ``grpc.aio.Server`` for registered methods only."""
    if _missing:
        log.error("listener.grpc_names_missing", grpcio=grpc.__version__, missing=_missing)
        return grpc.aio.server(interceptors=(chain,), options=options)
    return _Server(chain, options)


if not _missing:

    class _CoreServer(cygrpc.AioServer):  # type: ignore[misc]  # it has no types
        def __init__(self, loop: Any, chain: Chain, options: tuple[Any, ...]) -> None:
            super().__init__(loop, None, (), (), options, None)
            read_all_wake_ups(loop)
            self._event_loop = loop
            self._chain = chain
            self._handlers: dict[str, Any] = {}
            self._unknown = chain.wrap(UNKNOWN_PATH, None)
            self._tasks: set[asyncio.Task[None]] = set()
            self._accepted: set[bytes] = set()  # methods with extra requests

        def add_registered_method_handlers(self, method_handlers: Mapping[str, Any]) -> None:
            wrapped = {path: self._chain.wrap(path, found) for path, found in method_handlers.items()}
            super().add_registered_method_handlers(wrapped)
            self._handlers |= wrapped

        async def _request_registered_call(self, method: bytes) -> Any:
            if method not in self._accepted:
                self._accepted.add(method)
                for _ in range(_EXTRA_REQUESTS):
                    self._start(self._accept(method))
            return await super()._request_registered_call(method)

        async def _accept(self, method: bytes) -> None:
            path = method.decode()
            while self.is_running():
                try:
                    state = await super()._request_registered_call(method)
                except cygrpc.InternalError:  # core accepts no more requests
                    return
                except cygrpc._RequestCallError:  # noqa: SLF001  the call ended first, or the server is ending
                    continue
                self._handle(path, self._handlers[path], state)

        async def _request_call(self) -> Any:
            self._handle(UNKNOWN_PATH, self._unknown, await super()._request_call())
            # The accept loop treats this as a failed call and requests the next one.
            raise cygrpc._RequestCallError  # noqa: SLF001

        def _handle(self, path: str, handler: Any, state: Any) -> None:
            loop, streams = self._event_loop, handler.response_streaming
            # Not by ``_handle_rpc``, which resolves the handler: 40 µs less.
            serve = cygrpc._handle_stream_stream_rpc if streams else cygrpc._handle_stream_unary_rpc  # noqa: SLF001
            self._start(cygrpc._schedule_rpc_coro(serve(handler, state, loop), state, loop, path))  # noqa: SLF001

        def _start(self, work: Coroutine[Any, Any, None]) -> None:
            # Kept: the event loop has only weak references to tasks.
            task = self._event_loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    class _Server(_server.Server):
        def __init__(self, chain: Chain, options: Sequence[tuple[str, int]]) -> None:
            self._loop = cygrpc.get_working_loop()
            self._server = _CoreServer(self._loop, chain, tuple(options))


def read_all_wake_ups(loop: Any) -> int:
    """For each event, grpc's thread writes a byte to a socket, whose reader handles all events but reads one
    byte. To read all bytes first saves the empty turns: 9 % of the CPU of a denied call under load.

    Returns the number of readers that were replaced.
    """
    replaced = 0
    for key in tuple(loop._selector.get_map().values()):  # noqa: SLF001
        handle_events: Any = getattr(key.data[0], "_callback", None)
        if getattr(getattr(handle_events, "func", None), "__name__", "") == "_handle_events":
            loop.add_reader(key.fileobj, partial(_read_all, key.fileobj, handle_events))
            replaced += 1
    return replaced


def _read_all(wake_ups: socket.socket, handle_events: Callable[[], None]) -> None:
    with contextlib.suppress(BlockingIOError):
        wake_ups.recv(4096)
    handle_events()
