"""Applies one ordered list of interceptors alike to unary and to streaming methods.

An interceptor is one async context manager, ``around(call)``. Those in ``before`` run before the
message is deserialised, so that authentication comes before parsing; those in ``after`` see it.
grpc gives an interceptor no peer and no message, so the work is done inside the handler that it
returns, which takes raw bytes (see style/workshop.md for what grpc.aio does otherwise).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Protocol, cast

import grpc
from google.protobuf.message import DecodeError

from eksgateway.errors import MethodUnknown, RequestInvalid, RequestTooLarge, WatcherTooSlow
from eksgateway.rpc import fields
from eksgateway.rpc.call import Call
from eksgateway.rpc.interceptors.sending import sending
from eksgateway.rpc.methods import METHODS, Access


class Interceptor(Protocol):
    """One concern, around a call."""

    def around(self, call: Call, context: Any) -> AbstractAsyncContextManager[None]:
        """Enter before the call's work and leave after it; raise a GatewayError to refuse it.

        ``context`` is grpc.aio's ServicerContext.
        """


class Chain(grpc.aio.ServerInterceptor):
    """The interceptors, outermost first. ``read_timeout`` is how long a call's first message may take
    and ``write_timeout`` how long each message of a stream, in seconds; ``message_bytes`` bounds a message.

    Every method is registered as if its client streamed: grpc would read a single message before it
    calls the handler, so a client that sends none would hold a call that no interceptor sees.
    """

    def __init__(
        self,
        before: Sequence[Interceptor],
        after: Sequence[Interceptor],
        *,
        message_bytes: int,
        read_timeout: float,
        write_timeout: float,
    ) -> None:
        self._before = before
        self._after = after
        self._message_bytes = message_bytes
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The method's handler with the chain around it."""
        handler = await continuation(handler_call_details)
        path = str(handler_call_details.method)
        if handler is None:
            return grpc.stream_unary_rpc_method_handler(self._unary(path, _unknown, bytes))
        serialize = handler.response_serializer
        parse = handler.request_deserializer
        if handler.stream_stream:
            both = self._both_stream(path, handler.stream_stream, parse)
            return grpc.stream_stream_rpc_method_handler(both, None, serialize)
        if handler.unary_stream:
            stream = self._server_stream(path, handler.unary_stream, parse)
            return grpc.stream_stream_rpc_method_handler(stream, None, serialize)
        unary = self._unary(path, handler.unary_unary, parse)
        return grpc.stream_unary_rpc_method_handler(unary, None, serialize)

    def _unary(self, path: str, inner: Any, parse: Any) -> Any:
        async def handle(_: Any, context: Any) -> Any:
            async with self._around(path, parse, context) as call:
                return await inner(call.request, _for_handler(call, context))

        return handle

    def _server_stream(self, path: str, inner: Any, parse: Any) -> Any:
        # A coroutine that writes, not a generator: a client that leaves would end a generator
        # with GeneratorExit in another Context.
        async def handle(_: Any, context: Any) -> None:
            async with self._around(path, parse, context) as call:
                await self._answer(inner(call.request, _for_handler(call, context)), context)

        return handle

    def _both_stream(self, path: str, inner: Any, parse: Any) -> Any:
        async def handle(_: Any, context: Any) -> None:
            async with (
                self._around(path, parse, context) as call,
                aclosing(self._messages(call, parse, context)) as messages,
            ):
                await self._answer(inner(messages, context), context)

        return handle

    async def _messages(self, call: Call, parse: Any, context: Any) -> AsyncGenerator[Any]:
        yield call.request
        while (raw := await context.read()) is not grpc.aio.EOF:
            yield self._parse(parse, raw)

    async def _answer(self, answer: AsyncGenerator[Any], context: Any) -> None:
        async with aclosing(answer) as messages:
            async for message in messages:
                try:
                    async with sending(self._write_timeout):
                        await context.write(message)
                except TimeoutError:
                    raise WatcherTooSlow from None

    @asynccontextmanager
    async def _around(self, path: str, parse: Any, context: Any) -> AsyncIterator[Call]:
        call = Call(
            path=path,
            method=METHODS.get(path),
            peer=context.peer(),
            metadata=tuple(context.invocation_metadata() or ()),
            decision_id=str(uuid.uuid4()),
            request_id=str(uuid.uuid4()),
        )
        context.set_trailing_metadata(call.trailing())
        async with AsyncExitStack() as stack:
            for interceptor in self._before:
                await stack.enter_async_context(interceptor.around(call, context))
            call.metadata = ()  # identity has seen it; a stream would hold its token as long as it lasts
            call.request = self._parse(parse, await self._first(context))
            call.request_id = fields.request_id_of(call.request) or call.request_id
            context.set_trailing_metadata(call.trailing())
            for interceptor in self._after:
                await stack.enter_async_context(interceptor.around(call, context))
            yield call

    async def _first(self, context: Any) -> bytes:
        try:
            async with asyncio.timeout(self._read_timeout):
                raw = await context.read()
        except TimeoutError:
            raise RequestInvalid(f"No message came within {self._read_timeout:g} s.") from None
        if raw is grpc.aio.EOF:
            raise RequestInvalid("The call has no message.")
        return cast("bytes", raw)

    def _parse(self, parse: Any, raw: bytes) -> Any:
        if len(raw) > self._message_bytes:
            raise RequestTooLarge(f"The message is over {self._message_bytes} bytes.")
        try:
            return parse(raw)
        except (DecodeError, ValueError):
            raise RequestInvalid("The message is not a valid protobuf of this method's request.") from None


def _for_handler(call: Call, context: Any) -> Any:
    """This package's handlers get the Call; grpc's own (health) get grpc's context."""
    ours = call.method is not None and call.method.access in (Access.CALLER, Access.POLICY)
    return call if ours else context


async def _unknown(_request: Any, _context: Any) -> Any:
    raise MethodUnknown
