"""Applies one ordered list of interceptors alike to unary and to streaming methods.

Those in ``before`` run before the message is deserialised, so that authentication comes before
parsing; those in ``after`` see it. grpc gives an interceptor no peer and no message, so the work is
done inside the handler that it returns, which takes raw bytes (see style/workshop.md for what
grpc.aio does otherwise). Thousands of watches wait inside it at once: what one call holds is kept small.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from eksgateway.errors import EksUnavailable, MethodUnknown, RequestInvalid, RequestTooLarge, WatcherTooSlow
from eksgateway.rpc import error_status, request_fields
from eksgateway.rpc.call import Call
from eksgateway.rpc.interceptors.deadline import Deadline
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.interceptors.stream_headers import Headers, send
from eksgateway.rpc.methods import METHODS, Access, Place

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Route(NamedTuple):
    """Where a path leads: to a handler, and how its messages are parsed."""

    path: str
    handler: Any
    parse: Any


class Chain(grpc.aio.ServerInterceptor):
    """The interceptors, outermost first. Times are in seconds: ``call_timeout`` is how long a call that is
    no watch may take, ``read_timeout`` its first message, ``write_timeout`` each message of a stream, or
    its status. ``message_bytes`` bounds a message.

    Every method is registered as if its client streamed: grpc would read a single message before it
    calls the handler, so a client that sends none would hold a call that no interceptor sees.
    """

    def __init__(  # noqa: PLR0913  the chain's parts and bounds
        self,
        before: Sequence[Interceptor],
        after: Sequence[Interceptor],
        *,
        message_bytes: int,
        call_timeout: float,
        read_timeout: float,
        write_timeout: float,
    ) -> None:
        self._before = before
        self._after = after
        self._all = (*before, *after)
        self._message_bytes = message_bytes
        self._call_timeout = call_timeout
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout
        self._handlers: dict[str, Handler] = {}  # of known paths alone: others are as many as clients like

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The method's handler with the chain around it."""
        path = str(handler_call_details.method)
        known = self._handlers.get(path)
        if known is None:
            known = self._handler(path, await continuation(handler_call_details))
            if path in METHODS:
                self._handlers[path] = known
        return known

    def _handler(self, path: str, handler: Handler | None) -> Handler:
        if handler is None:
            unknown = partial(self._serve, Route(path, _unknown, bytes), self._answer)
            return grpc.stream_unary_rpc_method_handler(unknown)
        parse, serialize = handler.request_deserializer, handler.response_serializer
        if handler.stream_stream:
            both = partial(self._serve, Route(path, handler.stream_stream, parse), self._converse)
            return grpc.stream_stream_rpc_method_handler(both, None, serialize)
        if handler.unary_stream:
            stream = partial(self._serve, Route(path, handler.unary_stream, parse), self._stream)
            return grpc.stream_stream_rpc_method_handler(stream, None, serialize)
        unary = partial(self._serve, Route(path, handler.unary_unary, parse), self._answer)
        return grpc.stream_unary_rpc_method_handler(unary, None, serialize)

    # -- One call -------------------------------------------------------------------------------

    async def _serve(self, route: Route, answer: Any, _messages: Any, context: Any) -> Any:
        # A coroutine that writes, not a generator: a client that leaves would end a generator
        # with GeneratorExit in another Context.
        call = _call(route.path, context)
        deadline = Deadline()
        try:
            await self._admit(route, call, context, deadline)
            return await answer(route, call, context, deadline)
        except asyncio.CancelledError:
            late = deadline.error()
            if late is None:
                call.status = "CANCELLED"
                raise
            await self._end(call, context, deadline, late)
        except Exception as exc:  # noqa: BLE001  every failure is told, here and nowhere else
            await self._end(call, context, deadline, exc)
        finally:
            deadline.close()
            for interceptor in reversed(self._all[: call.admitted]):
                interceptor.leave(call)

    async def _admit(self, route: Route, call: Call, context: Any, deadline: Deadline) -> None:
        limited = call.method is not None and call.place is Place.CALL and not call.method.own_deadline
        ends = deadline.now + self._call_timeout if limited else math.inf
        deadline.set(ends, _unanswered)
        for interceptor in self._before:
            await interceptor.admit(call, context)
            call.admitted += 1
        call.metadata = ()  # identity has seen it; a stream would hold its token as long as it lasts
        deadline.set(min(ends, deadline.now + self._read_timeout), self._silent)
        raw = await context.read()
        if raw is grpc.aio.EOF:
            await send(context.send_initial_metadata(()))  # fails where the client has left altogether
            raise RequestInvalid("The call has no message.")
        deadline.set(ends, _unanswered)
        call.request = self._parse(route, raw)
        call.request_id = request_fields.request_id_of(call.request) or call.request_id
        for interceptor in self._after:
            await interceptor.admit(call, context)
            call.admitted += 1

    async def _end(self, call: Call, context: Any, deadline: Deadline, error: Exception) -> NoReturn:
        # The status of a stream that is not read waits behind its messages: core delivers it if the client
        # ever reads, and the call's places are free at once.
        wait = 0.0 if isinstance(error, WatcherTooSlow) else self._write_timeout
        deadline.set(deadline.now + wait)
        await error_status.end(call, context, error)

    # -- Its answer -----------------------------------------------------------------------------

    async def _answer(self, route: Route, call: Call, context: Any, _: Deadline) -> Any:
        context.set_trailing_metadata(call.trailing())
        return await route.handler(call.request, _for_handler(call, context))

    def _stream(self, route: Route, call: Call, context: Any, deadline: Deadline) -> Awaitable[None]:
        request, call.request = call.request, None  # a stream would hold it as long as it lasts
        return self._write(route.handler(request, _for_handler(call, context)), call, context, deadline)

    async def _converse(self, route: Route, call: Call, context: Any, deadline: Deadline) -> None:
        async with aclosing(self._read(route, call, context)) as messages:
            await self._write(route.handler(messages, context), call, context, deadline)

    async def _read(self, route: Route, call: Call, context: Any) -> AsyncGenerator[Any]:
        yield call.request
        while (raw := await context.read()) is not grpc.aio.EOF:
            yield self._parse(route, raw)

    async def _write(self, answer: AsyncGenerator[Any], call: Call, context: Any, deadline: Deadline) -> None:
        headers: Headers | None = Headers(context)
        try:
            async with aclosing(answer) as messages:
                async for message in messages:
                    if headers is not None:
                        for interceptor in self._all:
                            interceptor.begin_stream(call)
                        # Apart from the message, or the error of one that is held up could not be sent.
                        await self._send(headers.sent(), deadline)
                        headers = None  # thousands of streams go on from here
                    await self._send(context.write(message), deadline)
                    del message  # it would be held until the next one
        finally:
            if headers is not None:
                await headers.close()
        context.set_trailing_metadata(call.trailing())

    async def _send(self, sending: Awaitable[None], deadline: Deadline) -> None:
        deadline.set(deadline.now + self._write_timeout, WatcherTooSlow)
        await send(sending)
        deadline.set(math.inf)

    # -- Its messages ---------------------------------------------------------------------------

    def _silent(self) -> RequestInvalid:
        return RequestInvalid(f"No message came within {self._read_timeout:g} s.")

    def _parse(self, route: Route, raw: bytes) -> Any:
        if len(raw) > self._message_bytes:
            raise RequestTooLarge(f"The message is over {self._message_bytes} bytes.")
        try:
            return route.parse(raw)
        except (DecodeError, ValueError):
            raise RequestInvalid("The message is not a valid protobuf of this method's request.") from None


def _unanswered() -> EksUnavailable:
    return EksUnavailable("EKS did not answer in the time a call has.")


def _call(path: str, context: Any) -> Call:
    return Call(
        path=path,
        method=METHODS.get(path),
        peer=context.peer(),
        metadata=tuple(context.invocation_metadata() or ()),
        decision_id=str(uuid.uuid4()),
        request_id=str(uuid.uuid4()),
    )


def _for_handler(call: Call, context: Any) -> Any:
    """This package's handlers get the Call; grpc's own (health) get grpc's context."""
    ours = call.method is not None and call.method.access in (Access.CALLER, Access.POLICY)
    return call if ours else context


async def _unknown(_request: Any, _context: Any) -> Any:
    raise MethodUnknown
