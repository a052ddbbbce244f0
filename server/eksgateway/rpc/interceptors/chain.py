"""Runs one ordered list of interceptors around unary and streaming methods alike.

grpc shows an interceptor neither peer nor message, so the work is done inside the handler that
``Chain.wrap`` returns. docs/architecture.md lists what grpc.aio does otherwise.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from eksgateway.errors import (
    CALL_TIMED_OUT,
    EksUnavailable,
    MethodUnknown,
    RequestInvalid,
    RequestTooLarge,
    WatcherTooSlow,
)
from eksgateway.rpc import error_status, request_fields
from eksgateway.rpc.call import Call
from eksgateway.rpc.call_ids import new_id
from eksgateway.rpc.context import RpcContext, send
from eksgateway.rpc.interceptors.deadline import Deadline
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.interceptors.stream_headers import StreamHeaders
from eksgateway.rpc.methods import METHODS, Quota
from eksgateway.rpc.peers import ReadPeer, read_connection
from eksgateway.settings import LimitSettings

GrpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Parse: TypeAlias = Callable[[bytes], Any]
Unary: TypeAlias = Callable[[Any, Call], Awaitable[Message]]
Stream: TypeAlias = Callable[[Any, Call], AsyncGenerator[Message]]
Respond: TypeAlias = Callable[[Call, RpcContext, Deadline], Awaitable[Message | None]]


@dataclass(eq=False)
class Chain(grpc.aio.ServerInterceptor):
    """The interceptors, outermost first: those in ``before`` run before the message is parsed.

    ``write_timeout`` is for each message of a stream and for a status, in seconds.

    Every method is registered as if its client streamed: for other methods grpc reads the message before it
    calls the handler, so a client that sends none would hold a call that no interceptor sees.

    Thousands of watches are open at once, so a call keeps little.
    """

    before: Sequence[Interceptor]
    after: Sequence[Interceptor]
    limits: LimitSettings
    write_timeout: float
    read_peer: ReadPeer = read_connection

    def __post_init__(self) -> None:
        self._all = (*self.before, *self.after)
        self._handlers: dict[str, GrpcHandler] = {}  # only of known paths, whose number is bounded

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[GrpcHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> GrpcHandler:
        path = str(handler_call_details.method)
        handler = self._handlers.get(path)
        if handler is None:
            handler = self.wrap(path, await continuation(handler_call_details))
            if path in METHODS:
                self._handlers[path] = handler
        return handler

    def wrap(self, path: str, found: GrpcHandler | None) -> GrpcHandler:
        """The handler of a method that runs the interceptors; None is found for an unknown one."""
        # grpc's stubs have the types of synchronous handlers.
        handler: Any = found or grpc.unary_unary_rpc_method_handler(_refuse_unknown, bytes)
        parse, wrap = handler.request_deserializer, grpc.stream_stream_rpc_method_handler
        respond: Respond
        if handler.unary_unary:
            wrap = grpc.stream_unary_rpc_method_handler
            respond = partial(self._respond_once, handler.unary_unary)
        elif handler.unary_stream:
            respond = partial(self._stream, handler.unary_stream)
        else:
            respond = partial(self._converse, handler.stream_stream, parse)
        return wrap(partial(self._serve, path, parse, respond), None, handler.response_serializer)

    # -- One call -------------------------------------------------------------------------------

    async def _serve(
        self, path: str, parse: Parse, respond: Respond, _messages: object, context: RpcContext
    ) -> Message | None:
        # Not a generator: when a client leaves, it would be closed in another contextvars.Context.
        # No variable for the metadata: a stream would keep its token in memory.
        call = Call(path, METHODS.get(path), *self.read_peer(context), new_id(), new_id())
        deadline = Deadline()
        try:
            await self._enter(parse, call, context, deadline)
            return await respond(call, context, deadline)
        except asyncio.CancelledError:
            late = deadline.error()
            if late is None:
                call.status = "CANCELLED"
                raise
            await self._abort(call, context, deadline, late)
        except Exception as exc:  # noqa: BLE001  every exception becomes a status here
            await self._abort(call, context, deadline, exc)
        finally:
            deadline.close()
            for interceptor in reversed(self._all[: call.entered]):
                interceptor.leave(call)

    async def _enter(self, parse: Parse, call: Call, context: RpcContext, deadline: Deadline) -> None:
        limited = call.method is not None and call.quota is Quota.CALL and not call.method.own_deadline
        due = deadline.now + self.limits.call_timeout_s if limited else math.inf
        deadline.set(due, _no_answer)
        for interceptor in self.before:
            await interceptor.enter(call, context)
            call.entered += 1
        call.metadata = ()  # a stream would keep its token in memory
        deadline.set(min(due, deadline.now + self.limits.message_timeout_s), self._no_message)
        raw = await context.read()
        if not isinstance(raw, bytes):  # grpc.aio.EOF
            await send(context.send_initial_metadata(()))  # raises if the client has left altogether
            raise RequestInvalid("The call has no message.")
        deadline.set(due, _no_answer)
        call.request = self._parse(parse, raw)
        call.request_id = request_fields.request_id_of(call.request) or call.request_id
        for interceptor in self.after:
            await interceptor.enter(call, context)
            call.entered += 1

    async def _abort(self, call: Call, context: RpcContext, deadline: Deadline, error: Exception) -> NoReturn:
        # The status of a stream that is not read waits in core, behind its messages. The call ends now.
        timeout = 0.0 if isinstance(error, WatcherTooSlow) else self.write_timeout
        deadline.set(deadline.now + timeout)
        for interceptor in self._all:
            interceptor.begin_answer(call)
        await error_status.abort(call, context, error)

    def _parse(self, parse: Parse, raw: bytes) -> Any:
        limit = self.limits.message_bytes
        if len(raw) > limit:
            raise RequestTooLarge(f"The message is over {limit} bytes.")
        try:
            return parse(raw)
        except (DecodeError, ValueError):
            raise RequestInvalid("The message is not a valid protobuf of this method's request.") from None

    def _no_message(self) -> RequestInvalid:
        return RequestInvalid(f"No message came within {self.limits.message_timeout_s:g} s.")

    # -- Its answer -----------------------------------------------------------------------------

    async def _respond_once(self, handler: Unary, call: Call, context: RpcContext, _: Deadline) -> Message:
        context.set_trailing_metadata(call.trailing_metadata())
        return await handler(call.request, call)

    def _stream(
        self, handler: Stream, call: Call, context: RpcContext, deadline: Deadline
    ) -> Awaitable[None]:
        request, call.request = call.request, None  # a stream would keep it in memory
        return self._write(handler(request, call), call, context, deadline)

    async def _converse(
        self, handler: Stream, parse: Parse, call: Call, context: RpcContext, deadline: Deadline
    ) -> None:
        async with aclosing(self._read(parse, call, context)) as requests:
            await self._write(handler(requests, call), call, context, deadline)

    async def _read(self, parse: Parse, call: Call, context: RpcContext) -> AsyncGenerator[Any]:
        yield call.request
        while isinstance(raw := await context.read(), bytes):
            yield self._parse(parse, raw)

    async def _write(
        self, answer: AsyncGenerator[Message], call: Call, context: RpcContext, deadline: Deadline
    ) -> None:
        headers: StreamHeaders | None = StreamHeaders(context)
        try:
            async with aclosing(answer) as messages:
                async for message in messages:
                    if headers is not None:
                        for interceptor in self._all:
                            interceptor.begin_answer(call)
                        # Before the message: in one batch, a blocked message would hold back the status.
                        await self._send(headers.send(), deadline)
                        headers = None  # not needed for the rest of the stream
                    await self._send(context.write(message), deadline)
                    del message  # or it stays in memory until the next one
        finally:
            if headers is not None:
                await headers.close()
        context.set_trailing_metadata(call.trailing_metadata())

    async def _send(self, sending: Awaitable[None], deadline: Deadline) -> None:
        deadline.set(deadline.now + self.write_timeout, WatcherTooSlow)
        await send(sending)
        deadline.set(math.inf)


def _no_answer() -> EksUnavailable:
    return EksUnavailable(CALL_TIMED_OUT)


async def _refuse_unknown(_request: object, _context: object) -> Message:
    raise MethodUnknown
