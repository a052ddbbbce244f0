"""Makes grpc.aio's server, with two faults of its accept loop (1.85.1) fixed.

The loop requests one call of each method from core at a time, which takes five to six turns of the event
loop. Meanwhile further calls of the method wait in core in order of arrival. The server here requests several
at once, so that calls wait in ``admission`` instead, where callers take turns.

The loop also ends the server if the path of an unregistered method is not UTF-8. The server here handles such
calls outside the loop.

Both fixes use private names of grpc. If any is missing, grpc.aio's own server is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

from eksgateway.logs import Log

log = Log(__name__)

UNKNOWN_PATH: Final = "unknown"  # logged and passed on for every call of an unregistered method
_EXTRA_REQUESTS: Final = 16  # of each method, beside the one of grpc.aio's loop

_CLASSES: Final = ("_MethodResolver", "_RequestCallError", "InternalError")
_OVERRIDDEN: Final = ("_request_call", "_request_registered_call", "add_registered_method_handlers")
_FUNCTIONS: Final = {
    "_handle_rpc": "method_name method_resolver interceptors rpc_state loop concurrency_exceeded",
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


def make_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]
) -> Any:
    """A ``grpc.aio.Server`` for registered methods only."""
    if _missing:
        log.error("listener.grpc_names_missing", grpcio=grpc.__version__, missing=_missing)
        return grpc.aio.server(interceptors=interceptors, options=options)
    return _Server(interceptors, options)


if not _missing:

    class _CoreServer(cygrpc.AioServer):  # type: ignore[misc]  # it has no types
        def __init__(self, loop: Any, interceptors: tuple[Any, ...], options: tuple[Any, ...]) -> None:
            super().__init__(loop, None, (), interceptors, options, None)
            self._event_loop = loop
            self._chain = interceptors
            self._handlers: dict[str, Any] = {}
            self._tasks: set[asyncio.Task[None]] = set()
            self._accepted: set[bytes] = set()  # methods with extra requests

        def add_registered_method_handlers(self, method_handlers: Mapping[str, Any]) -> None:
            super().add_registered_method_handlers(dict(method_handlers))
            self._handlers |= method_handlers

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
                self._handle(path, self._handlers, state)

        async def _request_call(self) -> Any:
            self._handle(UNKNOWN_PATH, {}, await super()._request_call())
            # The accept loop treats this as a failed call and requests the next one.
            raise cygrpc._RequestCallError  # noqa: SLF001

        def _handle(self, path: str, handlers: dict[str, Any], state: Any) -> None:
            resolver = cygrpc._MethodResolver([], handlers)  # noqa: SLF001
            loop = self._event_loop
            call = cygrpc._handle_rpc(path, resolver, self._chain, state, loop, False)  # noqa: SLF001
            self._start(cygrpc._schedule_rpc_coro(call, state, loop, path))  # noqa: SLF001

        def _start(self, work: Coroutine[Any, Any, None]) -> None:
            # Kept: the event loop has only weak references to tasks.
            task = self._event_loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    class _Server(_server.Server):
        def __init__(self, interceptors: Sequence[Any], options: Sequence[tuple[str, int]]) -> None:
            self._loop = cygrpc.get_working_loop()
            self._server = _CoreServer(self._loop, tuple(interceptors), tuple(options))
