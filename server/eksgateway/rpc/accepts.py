"""Takes calls from core faster than grpc.aio does by itself.

grpc.aio asks core for one call of each method at a time, and needs five to six turns of the event loop for
it. Meanwhile all calls of the method wait in core, in order of arrival, whoever sent them. Here more calls of
a method are asked for at once, so that they wait in ``admission``, where callers take turns.

This uses names that grpc does not publish. Where one is missing or takes other arguments, grpc.aio goes on
alone: calls are answered as well as before, and a flood of one method holds up its other calls for longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import grpc
from grpc._cython import cygrpc

from eksgateway.logs import Log

log = Log("eksgateway.accepts")

_AT_ONCE = 16  # calls of each method that core may hand over together

_ARGUMENTS = {
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


class Accepts:
    """Accepts calls of a server's registered methods; ``handlers`` holds them by path."""

    def __init__(
        self,
        server: grpc.aio.Server,
        handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]],
        interceptor: grpc.aio.ServerInterceptor,
    ) -> None:
        self._core: Any = getattr(server, "_server", None)
        self._handlers = dict(handlers)
        self._interceptors = (interceptor,)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Ask core for calls, until the server stops. The server must have started."""
        missing = _missing(self._core)
        if missing:
            log.warning("accepts.unavailable", missing=missing, grpc=grpc.__version__)
            return
        resolver = cygrpc._MethodResolver([], self._handlers)  # noqa: SLF001
        for path in self._handlers:
            for _ in range(_AT_ONCE):
                self._keep(self._accept(path, resolver))

    async def _accept(self, path: str, resolver: Any) -> None:
        loop = asyncio.get_running_loop()
        while self._core.is_running():
            try:
                state = await self._core._request_registered_call(path.encode())  # noqa: SLF001
            except cygrpc.InternalError:  # core refuses to be asked
                return
            except Exception:  # noqa: BLE001, S112  of a call that ended before it came, or of the server's end
                continue
            call = cygrpc._handle_rpc(path, resolver, self._interceptors, state, loop, False)  # noqa: SLF001
            self._keep(cygrpc._schedule_rpc_coro(call, state, loop, path))  # noqa: SLF001

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it as a task: the event loop holds tasks by weak references alone."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _missing(core: Any) -> list[str]:
    names = [name for name in ("_MethodResolver", "InternalError") if not hasattr(cygrpc, name)]
    names += [name for name in ("_request_registered_call", "is_running") if not hasattr(core, name)]
    for name, arguments in _ARGUMENTS.items():
        code = getattr(getattr(cygrpc, name, None), "__code__", None)
        if code is None or code.co_varnames[: code.co_argcount] != arguments:
            names.append(name)
    return names
