"""The event loop on which the synchronous client runs the asynchronous one."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

_T = TypeVar("_T")


class LoopThread:
    """One loop on a daemon thread, from the first use to the end of the process.

    Stopping it at exit would disturb calls of other daemon threads, which then print tracebacks.
    There is one for all callers, because grpc.aio's poller serves the loops of a process in turn.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """The coroutine's result. An exception in this thread, such as KeyboardInterrupt, cancels it.

        Raises RuntimeError in a process that was forked after the first use.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._start())
        except RuntimeError:
            coroutine.close()
            raise
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a clean-up, if the loop runs in this process."""
        if self._loop is None or self._pid != os.getpid():
            coroutine.close()
            return
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                self._loop.set_exception_handler(_report)
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="eksgateway-client", daemon=True
                )
                self._thread.start()
            if self._pid != os.getpid():
                raise RuntimeError(
                    "this process was forked after its parent used the client, and gRPC does not work in it:"
                    " use the client after the fork only, or start processes by `spawn`"
                )
            if self._thread is threading.current_thread():
                raise RuntimeError("the synchronous client cannot be used on its own event loop")
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


async def call_in_thread(function: Callable[[], _T], context: contextvars.Context) -> _T:
    """The function's result, from a daemon thread: one of an executor would hold up the process's end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def resolve(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        try:
            outcome: tuple[Any, BaseException | None] = (context.run(function), None)
        except BaseException as exc:  # noqa: BLE001 - the caller raises it
            # These two would end the loop, or never reach the caller.
            is_special = isinstance(exc, StopIteration) or not isinstance(exc, Exception)
            outcome = (None, RuntimeError(f"the credentials raised {exc!r}") if is_special else exc)
        loop.call_soon_threadsafe(resolve, *outcome)

    threading.Thread(target=run, name="eksgateway-credentials", daemon=True).start()
    return await done


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Leave out what grpc.aio causes where the process has a second loop with channels."""
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)


LOOP_THREAD: Final = LoopThread()
