"""grpc.aio's server, with two faults of its accept loop (1.85.1) mended.

The loop asks core for one call of each method at a time, and needs five to six turns of the event loop for
it. Meanwhile all calls of the method wait in core, in order of arrival, whoever sent them. Here more calls of
a method are asked for at once, so that they wait in ``admission``, where callers take turns.

The loop decodes the path of a call for no registered method, and ends the server when the path is not UTF-8.
Here such calls are handled apart from it.

Both need names that grpc does not publish, so this file looks for them first. Without them grpc.aio serves
alone.
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

# What the log and the interceptors get as the path of every call that is for no registered method.
UNKNOWN_PATH: Final = "unknown"
_MORE: Final = 16  # calls of each method that core may hand over at once, beside grpc.aio's own

_ARGUMENTS: Final = {
    "_handle_rpc": (
        "method_name",
        "method_resolver",
        "interceptors",
        "rpc_state",
        "loop",
        "concurrency_exceeded",
    ),
    "_schedule_rpc_coro": ("rpc_coro", "rpc_state", "loop", "method_name"),
}


def missing_names(module: Any) -> list[str]:
    """Which of the names that this file needs the module ``cygrpc`` lacks, or has with other arguments."""
    names = [
        name
        for name in ("_MethodResolver", "_RequestCallError", "InternalError")
        if not hasattr(module, name)
    ]
    server = getattr(module, "AioServer", None)
    methods = ("_request_call", "_request_registered_call", "add_registered_method_handlers", "is_running")
    names += [name for name in methods if not hasattr(server, name)]
    for name, arguments in _ARGUMENTS.items():
        code = getattr(getattr(module, name, None), "__code__", None)
        if code is None or code.co_varnames[: code.co_argcount] != arguments:
            names.append(name)
    return names


_missing = missing_names(cygrpc)


def make_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]
) -> Any:
    """A ``grpc.aio.Server`` whose methods all have to be registered: generic handlers are not asked."""
    if _missing:
        log.error("listener.unguarded", grpcio=grpc.__version__, missing=_missing)
        return grpc.aio.server(interceptors=interceptors, options=options)
    return _Server(interceptors, options)


if not _missing:

    class _AcceptingServer(cygrpc.AioServer):  # type: ignore[misc]  # it has no types
        """Its accept loop asks for calls by the two methods that are overridden here."""

        def __init__(self, loop: Any, interceptors: tuple[Any, ...], options: tuple[Any, ...]) -> None:
            super().__init__(loop, None, (), interceptors, options, None)
            self._event_loop = loop
            self._chain = interceptors
            self._handlers: dict[str, Any] = {}
            self._tasks: set[asyncio.Task[None]] = set()
            self._accepted: set[bytes] = set()  # methods of which more calls are asked for

        def add_registered_method_handlers(self, method_handlers: Mapping[str, Any]) -> None:
            super().add_registered_method_handlers(dict(method_handlers))
            self._handlers |= method_handlers

        async def _request_registered_call(self, method: bytes) -> Any:
            if method not in self._accepted:
                self._accepted.add(method)
                for _ in range(_MORE):
                    self._keep(self._accept(method))
            return await super()._request_registered_call(method)

        async def _accept(self, method: bytes) -> None:
            path = method.decode()
            while self.is_running():
                try:
                    state = await super()._request_registered_call(method)
                except cygrpc.InternalError:  # core refuses to be asked
                    return
                except cygrpc._RequestCallError:  # noqa: SLF001  the call ended before it came, or the server ends
                    continue
                self._handle(path, self._handlers, state)

        async def _request_call(self) -> Any:
            self._handle(UNKNOWN_PATH, {}, await super()._request_call())
            # The accept loop takes it for a call that failed, and asks for the next one.
            raise cygrpc._RequestCallError  # noqa: SLF001

        def _handle(self, path: str, handlers: dict[str, Any], state: Any) -> None:
            resolver = cygrpc._MethodResolver([], handlers)  # noqa: SLF001
            loop = self._event_loop
            call = cygrpc._handle_rpc(path, resolver, self._chain, state, loop, False)  # noqa: SLF001
            self._keep(cygrpc._schedule_rpc_coro(call, state, loop, path))  # noqa: SLF001

        def _keep(self, work: Coroutine[Any, Any, None]) -> None:
            """Run it as a task: the event loop holds tasks by weak references alone."""
            task = self._event_loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    class _Server(_server.Server):
        """grpc.aio's own, around the one above."""

        def __init__(self, interceptors: Sequence[Any], options: Sequence[tuple[str, int]]) -> None:
            self._loop = cygrpc.get_working_loop()
            self._server = _AcceptingServer(self._loop, tuple(interceptors), tuple(options))
