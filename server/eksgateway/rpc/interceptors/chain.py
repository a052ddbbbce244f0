"""Applies one ordered list of interceptors alike to unary and to streaming methods.

An interceptor is one async context manager, ``around(call)``. Those in ``before`` run before the
message is deserialised, so that authentication comes before parsing; those in ``after`` see it.
grpc gives an interceptor no peer and no message, so the work is done inside the handler that it
returns, which takes raw bytes (see style/workshop.md for what grpc.aio does otherwise).
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from eksgateway.errors import MethodUnknown, RequestInvalid, WatcherTooSlow
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
    """The interceptors, outermost first; ``write_timeout`` is in seconds, per message of a stream."""

    def __init__(
        self, before: Sequence[Interceptor], after: Sequence[Interceptor], *, write_timeout: float
    ) -> None:
        self._before = before
        self._after = after
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
            return grpc.unary_unary_rpc_method_handler(self._unary(path, _unknown, None))
        serialize = handler.response_serializer
        parse = handler.request_deserializer
        if handler.stream_unary or handler.stream_stream:
            both = self._client_stream(path, handler.stream_stream, parse)
            return grpc.stream_stream_rpc_method_handler(both, None, serialize)
        if handler.unary_stream:
            stream = self._server_stream(path, handler.unary_stream, parse)
            return grpc.unary_stream_rpc_method_handler(stream, None, serialize)
        unary = self._unary(path, handler.unary_unary, parse)
        return grpc.unary_unary_rpc_method_handler(unary, None, serialize)

    def _unary(self, path: str, inner: Any, parse: Any) -> Any:
        async def handle(raw: bytes, context: Any) -> Any:
            async with self._around(path, raw, parse, context) as call:
                return await inner(call.request, _for_handler(call, context))

        return handle

    def _server_stream(self, path: str, inner: Any, parse: Any) -> Any:
        # A coroutine that writes, not a generator: a client that leaves would end a generator
        # with GeneratorExit in another Context.
        async def handle(raw: bytes, context: Any) -> None:
            async with self._around(path, raw, parse, context) as call:
                answer = inner(call.request, _for_handler(call, context))
                if hasattr(answer, "__await__"):  # grpc's writer style: the health servicer's Watch
                    await answer
                    return
                async with aclosing(answer) as messages:
                    async for message in messages:
                        await self._write(context, message)

        return handle

    def _client_stream(self, path: str, inner: Any, parse: Any) -> Any:
        async def handle(raws: AsyncIterator[bytes], context: Any) -> None:
            async with self._around(path, None, None, context):
                parsed = (parse(raw) async for raw in raws)
                async with aclosing(inner(parsed, context)) as messages:
                    async for message in messages:
                        await self._write(context, message)

        return handle

    async def _write(self, context: Any, message: Any) -> None:
        try:
            async with sending(self._write_timeout):
                await context.write(message)
        except TimeoutError:
            raise WatcherTooSlow from None

    @asynccontextmanager
    async def _around(self, path: str, raw: bytes | None, parse: Any, context: Any) -> AsyncIterator[Call]:
        call = Call(
            path=path,
            method=METHODS.get(path),
            peer=context.peer(),
            metadata=tuple(context.invocation_metadata() or ()),
            decision_id=str(uuid.uuid4()),
            request_id=str(uuid.uuid4()),
            size=len(raw or b""),
        )
        context.set_trailing_metadata(call.trailing())
        async with AsyncExitStack() as stack:
            for interceptor in self._before:
                await stack.enter_async_context(interceptor.around(call, context))
            if raw is not None and parse is not None:
                call.request = _parse(parse, raw)
                call.request_id = fields.request_id_of(call.request) or call.request_id
                context.set_trailing_metadata(call.trailing())
            for interceptor in self._after:
                await stack.enter_async_context(interceptor.around(call, context))
            yield call


def _parse(parse: Any, raw: bytes) -> Any:
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
