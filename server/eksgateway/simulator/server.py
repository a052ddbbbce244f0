"""The simulated EKS as an HTTP server that unmodified AWS clients reach through ``endpoint_url``.

Not AWS, not a mock inside a client: what it says is in ``state``, how it says it in ``wire``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import web
from botocore.model import OperationModel

from eksgateway.addresses import is_loopback
from eksgateway.model import Target
from eksgateway.signals import stop_event
from eksgateway.simulator import control, wire
from eksgateway.simulator.calls import CallRecord, Calls, Faults
from eksgateway.simulator.clock import SimulatedClock
from eksgateway.simulator.credentials import Accounts, Credentials, NotSigned
from eksgateway.simulator.operations import BY_NAME
from eksgateway.simulator.specs import DEFAULT_ACCOUNT, FaultSpec
from eksgateway.simulator.spoilt import foreign, spoil
from eksgateway.simulator.state import Refusal, State


class Simulator:
    """A simulated EKS. ``speed``: how much faster than real time its clock runs.

    ``on_call`` is called when a call is received, before its effect and its answer.
    """

    def __init__(
        self,
        *,
        speed: float = 1.0,
        default_account: str = DEFAULT_ACCOUNT,
        on_call: Callable[[CallRecord], None] | None = None,
    ) -> None:
        self._state = State(SimulatedClock(speed), _now, lambda: str(uuid4()))
        self._calls = Calls()
        self._faults = Faults()
        self._accounts = Accounts(default_account)
        self._on_call = on_call
        self._runner: web.AppRunner | None = None
        self.control = control.Control(self._state, self._calls, self._faults, self._accounts)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; the URL. Raises OSError where that cannot be."""
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Close every connection; what is answered within a second is still sent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def add_cluster(self, spec: dict[str, Any]) -> list[str]:
        """As POST /_simulator/clusters: the ids of its updates. Raises SpecError."""
        return self.control.add_cluster(spec)

    def calls(self, operation: str | None = None) -> tuple[CallRecord, ...]:
        """Every call received, in order, or every call of one operation."""
        return tuple(call for call in self._calls.all() if operation in (None, call.operation))

    def _app(self) -> web.Application:
        app = web.Application()
        app.add_routes(control.routes(self.control))
        app.router.add_route("*", "/_simulator/{tail:.*}", _no_control)
        for name in BY_NAME:
            operation = wire.service().operation_model(name)
            app.router.add_route(
                operation.http["method"], operation.http["requestUri"], self._handler(operation)
            )
        app.router.add_route("*", "/{tail:.*}", self._unknown)
        return app

    def _handler(self, operation: OperationModel) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                credentials = self._accounts.authenticate(request.headers.get("Authorization"))
            except NotSigned as exc:
                self._record(operation.name, None)
                return _respond(wire.any_error(exc.code, str(exc), 403))
            try:
                params = wire.read_request(operation, request.match_info, request.query, await request.read())
            except wire.BadRequest as exc:
                self._record(operation.name, credentials)
                return _respond(_bad_request(operation, str(exc)))
            self._record(operation.name, credentials, params)
            fault = self._faults.take(operation.name)
            if fault is None:
                return _respond(self._reply(operation, credentials.target, params))
            return await self._faulty(fault, request, operation, credentials.target, params)

        return handle

    def _reply(self, operation: OperationModel, target: Target, params: dict[str, Any]) -> wire.Reply:
        """The effect of a call, and what EKS answers."""
        try:
            return wire.answer(operation, BY_NAME[operation.name](self._state, target, params))
        except Refusal as exc:
            return wire.error(operation, exc.code, exc.members)

    async def _faulty(
        self,
        fault: FaultSpec,
        request: web.Request,
        operation: OperationModel,
        target: Target,
        params: dict[str, Any],
    ) -> web.StreamResponse:
        """Effect, if there is one; then the delay; then the answer, an error, or a closed connection."""
        reply = None
        if fault.effect or not (fault.fails or fault.drop == "before"):
            reply = self._reply(operation, target, params)
        await asyncio.sleep(fault.delay_s)
        if fault.drop and request.transport is not None:
            request.transport.abort()
        if fault.body is not None:
            return await spoil(fault, request, foreign(fault))
        if reply is None or fault.fails:
            reply = wire.any_error(fault.code, fault.message, fault.status)
        return await spoil(fault, request, _respond(reply))

    async def _unknown(self, request: web.Request) -> web.Response:
        self._record(f"{request.method} {request.path}", None)
        message = "The simulated EKS does not know this operation."
        return _respond(wire.any_error("UnknownOperationException", message, 404))

    def _record(
        self, operation: str, credentials: Credentials | None, params: dict[str, Any] | None = None
    ) -> None:
        known = params or {}
        call = CallRecord(
            operation=operation,
            account_id=credentials.target.account_id if credentials else "",
            region=credentials.target.region if credentials else "",
            cluster=known.get("name"),
            update_id=known.get("updateId"),
            token=known.get("clientRequestToken"),
            access_key=credentials.access_key if credentials else "",
            time=_now(),
        )
        self._calls.add(call)
        if self._on_call is not None:
            self._on_call(call)


async def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    speed: float = 1.0,
    *,
    allow_remote: bool = False,
    stop_on_stdin_eof: bool = False,
) -> None:
    """Run a simulated EKS until SIGTERM, SIGINT or, if asked for, the end of standard input.

    Prints one line with its URL once it answers. Raises ValueError for a host that is not loopback,
    unless ``allow_remote``: anybody who reaches it may command it.
    """
    if not allow_remote and not is_loopback(host):
        raise ValueError(f"{host} is not loopback: the simulated EKS checks no signature and obeys everybody")
    simulator = Simulator(speed=speed)
    with stop_event(with_stdin=stop_on_stdin_eof) as ended:
        try:
            url = await simulator.start(host, port)
            sys.stdout.write(f"Simulated EKS (a simulation, not AWS) at {url}\n")
            sys.stdout.flush()
            await ended.wait()
        finally:
            await simulator.stop()


async def _no_control(request: web.Request) -> web.Response:
    return web.json_response({"error": f"there is no {request.method} {request.path}"}, status=404)


def _bad_request(operation: OperationModel, message: str) -> wire.Reply:
    """InvalidParameterException where the operation models it; else what AWS's front says."""
    if any(shape.name == "InvalidParameterException" for shape in operation.error_shapes):
        return wire.error(operation, "InvalidParameterException", {"message": message})
    return wire.any_error("ValidationException", message, 400)


def _respond(reply: wire.Reply) -> web.Response:
    headers = {"x-amzn-RequestId": str(uuid4())}
    if reply.error:
        headers["x-amzn-ErrorType"] = reply.error
    return web.json_response(reply.body, status=reply.status, headers=headers)


def _now() -> datetime:
    return datetime.now(UTC)
