"""The simulated EKS as an HTTP server, which unmodified AWS clients call through ``endpoint_url``."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from aiohttp import web
from botocore.model import OperationModel

from eksgateway.addresses import is_loopback, join_address
from eksgateway.model import Target
from eksgateway.signals import stop_event
from eksgateway.simulator import control
from eksgateway.simulator.call_log import CallRecord, FaultQueue
from eksgateway.simulator.clock import SimulatedClock
from eksgateway.simulator.cluster_store import ClusterStore, ServiceError
from eksgateway.simulator.faulty_answers import foreign_answer, send_faulty
from eksgateway.simulator.operations import BY_NAME
from eksgateway.simulator.rest_json import (
    BadRequest,
    HttpReply,
    build_answer,
    build_any_error,
    build_error,
    read_request,
    service_model,
)
from eksgateway.simulator.signatures import Accounts, SignatureError, Signer
from eksgateway.simulator.specs import DEFAULT_ACCOUNT, FaultSpec

_MOST_CALLS: Final = 100_000  # a sandbox may run for days: the oldest calls are dropped


class Simulator:
    """A simulated EKS, whose clock runs ``speed`` times as fast as real time.

    ``on_call`` is called when a call is received, before its effect and its answer.
    """

    def __init__(
        self,
        *,
        speed: float = 1.0,
        default_account: str = DEFAULT_ACCOUNT,
        on_call: Callable[[CallRecord], None] | None = None,
    ) -> None:
        self._on_call = on_call
        self._runner: web.AppRunner | None = None
        self.control = control.Control(
            store=ClusterStore(SimulatedClock(speed)),
            calls=deque(maxlen=_MOST_CALLS),
            faults=FaultQueue(),
            accounts=Accounts(default_account),
        )

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, and return the URL. Raises OSError if the address cannot be bound."""
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        return f"http://{join_address(host, runner.addresses[0][1])}"

    async def stop(self) -> None:
        """Answers that are ready within a second are still sent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def add_cluster(self, spec: dict[str, Any]) -> list[str]:
        """Returns the ids of its updates. Raises SpecError."""
        return self.control.add_cluster(spec)

    def calls(self, operation: str | None = None) -> tuple[CallRecord, ...]:
        """The calls received, oldest first."""
        return tuple(call for call in self.control.calls if operation in (None, call.operation))

    def _app(self) -> web.Application:
        app = web.Application()
        app.add_routes(control.routes(self.control))
        app.router.add_route("*", "/_simulator/{tail:.*}", _refuse_control_path)
        for name in BY_NAME:
            operation = service_model().operation_model(name)
            app.router.add_route(
                operation.http["method"], operation.http["requestUri"], self._handler(operation)
            )
        app.router.add_route("*", "/{tail:.*}", self._refuse_operation)
        return app

    def _handler(self, operation: OperationModel) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                signer = self.control.accounts.authenticate(request.headers.get("Authorization"))
            except SignatureError as exc:
                self._record(operation.name, None)
                return _respond(build_any_error(exc.code, str(exc), 403))
            try:
                params = read_request(operation, request.match_info, request.query, await request.read())
            except BadRequest as exc:
                self._record(operation.name, signer)
                return _respond(_bad_request(operation, str(exc)))
            self._record(operation.name, signer, params)
            fault = self.control.faults.take(operation.name)
            if fault is None:
                return _respond(self._reply(operation, signer.target, params))
            return await self._answer_with_fault(fault, request, operation, signer.target, params)

        return handle

    def _reply(self, operation: OperationModel, target: Target, params: dict[str, Any]) -> HttpReply:
        try:
            return build_answer(operation, BY_NAME[operation.name](self.control.store, target, params))
        except ServiceError as exc:
            return build_error(operation, exc.code, exc.members)

    async def _answer_with_fault(
        self,
        fault: FaultSpec,
        request: web.Request,
        operation: OperationModel,
        target: Target,
        params: dict[str, Any],
    ) -> web.StreamResponse:
        reply = None
        if fault.effect or not (fault.fails or fault.drop == "before"):
            reply = self._reply(operation, target, params)
        await asyncio.sleep(fault.delay_s)
        if fault.drop and request.transport is not None:
            request.transport.abort()
        if fault.body is not None:
            return await send_faulty(fault, request, foreign_answer(fault))
        if reply is None or fault.fails:
            reply = build_any_error(fault.code, fault.message, fault.status)
        return await send_faulty(fault, request, _respond(reply))

    async def _refuse_operation(self, request: web.Request) -> web.Response:
        self._record(f"{request.method} {request.path}", None)
        message = "The simulated EKS does not know this operation."
        return _respond(build_any_error("UnknownOperationException", message, 404))

    def _record(self, operation: str, signer: Signer | None, params: dict[str, Any] | None = None) -> None:
        known = params or {}
        call = CallRecord(
            operation=operation,
            account_id=signer.target.account_id if signer else "",
            region=signer.target.region if signer else "",
            cluster=known.get("name"),
            update_id=known.get("updateId"),
            token=known.get("clientRequestToken"),
            access_key=signer.access_key if signer else "",
            time=datetime.now(UTC),
        )
        self.control.calls.append(call)
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

    Prints its URL once it answers. Raises ValueError for a host that is not loopback unless
    ``allow_remote``, because every client may use the control API.
    """
    if not allow_remote and not is_loopback(host):
        raise ValueError(
            f"{host} is not loopback: the simulated EKS checks no signature and obeys every client"
        )
    simulator = Simulator(speed=speed)
    with stop_event(with_stdin=stop_on_stdin_eof) as ended:
        try:
            url = await simulator.start(host, port)
            sys.stdout.write(f"Simulated EKS (a simulation, not AWS) at {url}\n")
            sys.stdout.flush()
            await ended.wait()
        finally:
            await simulator.stop()


async def _refuse_control_path(request: web.Request) -> web.Response:
    return web.json_response({"error": f"there is no {request.method} {request.path}"}, status=404)


def _bad_request(operation: OperationModel, message: str) -> HttpReply:
    if any(shape.name == "InvalidParameterException" for shape in operation.error_shapes):
        return build_error(operation, "InvalidParameterException", {"message": message})
    return build_any_error("ValidationException", message, 400)


def _respond(reply: HttpReply) -> web.Response:
    headers = {"x-amzn-RequestId": str(uuid4())}
    if reply.error:
        headers["x-amzn-ErrorType"] = reply.error
    return web.json_response(reply.body, status=reply.status, headers=headers)
