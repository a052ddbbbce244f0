"""`eksgateway sandbox`: a simulated EKS and a gateway on loopback, each in its own process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.addresses import split_address
from eksgateway.sandbox.children import Child, ChildFailed
from eksgateway.sandbox.clusters import CLUSTERS, HOME
from eksgateway.sandbox.folder import (
    CALLERS,
    SandboxFolder,
    gateway_environment,
    replace_file,
    write_config,
    write_policy,
    write_variables,
)
from eksgateway.sandbox.guide import opa_instructions, usage
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.sandbox.options import DEFAULT_PORT, SandboxOptions, is_free
from eksgateway.signals import run_until, stop_event

# A proxy of the environment does not reach this machine.
LOOPBACK_OPTIONS: Final = (("grpc.enable_http_proxy", 0),)

_READY_TIMEOUT_S: Final = 60.0
_GATEWAY_STOP_S: Final = 35.0  # its own 25 s for calls in flight, and time to end
_SIMULATOR_STOP_S: Final = 10.0
_RESTART_PAUSE_S: Final = 2.0  # between attempts to start a gateway again


async def run(options: SandboxOptions) -> None:
    """Run until SIGTERM or SIGINT. Raises StartError."""
    with stop_event() as stop:
        async with open_sandbox(options, print_now) as sandbox:
            await run_until(stop, _stay_up(sandbox))
            print_now("Stopping the gateway and the simulated EKS.")


async def _stay_up(sandbox: Sandbox) -> None:
    await sandbox.start()
    print_now(usage(sandbox.info(), sandbox.folder, sandbox.options.speed))
    await sandbox.keep_up()


def print_now(text: str) -> None:
    """Print without buffering. A closed pipe is ignored: the sandbox is still useful."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Or the flush at exit would fail once more: see "Note on SIGPIPE" in docs.python.org.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@asynccontextmanager
async def open_sandbox(options: SandboxOptions, report: Callable[[str], None]) -> AsyncIterator[Sandbox]:
    """A sandbox, not yet started. At the end no process or file of it is left."""
    with tempfile.TemporaryDirectory(prefix="eksgateway-") as path:
        sandbox = Sandbox(options, SandboxFolder(Path(path)), report)
        try:
            yield sandbox
        finally:
            await sandbox.stop()


@dataclass(slots=True)
class Sandbox:
    """Two processes and their folder, for the demo too. ``report`` gets messages for the user."""

    options: SandboxOptions
    folder: SandboxFolder
    report: Callable[[str], None]
    issuer: ThrowawayIssuer = field(default_factory=ThrowawayIssuer)
    tokens: dict[str, str] = field(init=False)
    _port: int = field(init=False)
    _simulator: Child = field(init=False)
    _gateway: Child = field(init=False)
    _children: list[Child] = field(default_factory=list)

    async def start(self) -> None:
        """Wait until both processes answer. Raises SettingsError or ChildFailed."""
        self._remove_info()
        self._port = self._choose_port()
        opa = self.options.opa
        write_policy(self.folder, with_rego=opa is not None)
        self.issuer.write_jwks(self.folder.jwks)
        self.tokens = {name: self.issuer.token(name, groups) for name, groups in CALLERS.items()}
        self._simulator = await Child.start(
            "The simulated EKS",
            *("simulate", "--port", "0", "--speed", repr(self.options.speed)),
            address_pattern=r"at (http://\S+)$",
            env=os.environ,
            log=self.folder.log("simulator"),
        )
        self._children.append(self._simulator)
        for cluster in CLUSTERS:
            await self._command_simulator("clusters", cluster.to_spec())
        if opa is not None:
            self.report(opa_instructions(opa, self.folder))
        await self._start_gateway()
        write_variables(self.folder, self._address, self._simulator.address, self.tokens)

    async def keep_up(self) -> None:
        """Restart the gateway whenever it ends. Raises ChildFailed when the simulated EKS ends."""
        simulated = asyncio.create_task(self._simulator.wait())
        try:
            while True:
                served = asyncio.create_task(self._gateway.wait())
                await asyncio.wait({simulated, served}, return_when=asyncio.FIRST_COMPLETED)
                if simulated.done():
                    served.cancel()
                    raise self._simulator.failure(f"ended ({simulated.result()})")
                self.report(f"The gateway ended ({served.result()}).")
                await self._restart()
                self.report(
                    f"It runs again with the same port, ledger, keys and grants: pid {self._gateway.pid}."
                )
        finally:
            simulated.cancel()

    async def replace_gateway(self) -> None:
        await self._gateway.kill()
        await self._restart()

    async def stop(self) -> None:
        """Stop the gateway first, which drains."""
        self._remove_info()
        for child in reversed(self._children):
            await child.stop(_SIMULATOR_STOP_S if child is self._simulator else _GATEWAY_STOP_S)

    def info(self) -> dict[str, Any]:
        """The content of the info file."""
        return {
            "grpc": self._address,
            "simulator": self._simulator.address,
            "tokens": self.tokens,
            "clusters": [
                {**asdict(HOME), "name": each.name, "update_id": each.update_id, "about": each.about}
                for each in CLUSTERS
            ],
            "ledger": str(self.folder.ledger),
            "policy_data": str(self.folder.policy_data),
            "pids": {"gateway": self._gateway.pid, "simulator": self._simulator.pid},
        }

    @property
    def _address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def _restart(self) -> None:
        """Retry until it starts: faulty grants may be corrected meanwhile."""
        reported = ""
        while True:
            try:
                return await self._start_gateway()
            except ChildFailed as exc:
                if str(exc) != reported:
                    reported = str(exc)
                    self.report(f"{reported}\nRetrying every {_RESTART_PAUSE_S:.0f} s.")
                await asyncio.sleep(_RESTART_PAUSE_S)

    async def _start_gateway(self) -> None:
        """Raises ChildFailed."""
        write_config(
            self.folder,
            port=self._port,
            simulator=self._simulator.address,
            issuer=self.issuer.settings(self.folder.jwks),
            opa_url=self.options.opa,
        )
        self._gateway = await Child.start(
            "The gateway",
            *("serve", "--config", str(self.folder.config)),
            address_pattern=r"Serving gRPC on (\S+)$",
            env=gateway_environment(),
            log=self.folder.log("gateway"),
        )
        self._children = [self._simulator, self._gateway]
        self._port = split_address(self._gateway.address)[1]
        await self._wait_until_ready()
        await self._command_simulator("clock", {"advance_s": 0})  # raises unless it still answers
        if self.options.info is not None:
            replace_file(self.options.info, json.dumps(self.info(), indent=2).encode())

    async def _wait_until_ready(self) -> None:
        """Without a time limit if the user's OPA has to answer first."""
        ended = asyncio.create_task(self._gateway.wait())
        ready = asyncio.create_task(_wait_until_serving(self._address))
        limit = None if self.options.opa else _READY_TIMEOUT_S
        try:
            await asyncio.wait({ended, ready}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and ready.exception() is None:
                return
            await self._gateway.stop(_GATEWAY_STOP_S)
            raise self._gateway.failure("ended, or did not become ready:")
        finally:
            for task in (ended, ready):
                task.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)

    async def _command_simulator(self, what: str, body: dict[str, Any]) -> None:
        async with aiohttp.ClientSession(self._simulator.address, raise_for_status=True) as http:
            await http.post(f"/_simulator/{what}", json=body)

    def _choose_port(self) -> int:
        if self.options.port is not None or is_free(DEFAULT_PORT):
            return DEFAULT_PORT if self.options.port is None else self.options.port
        self.report(f"Port {DEFAULT_PORT} is in use, so the gateway listens on another one.")
        return 0

    def _remove_info(self) -> None:
        if self.options.info is not None:
            self.options.info.unlink(missing_ok=True)


async def _wait_until_serving(address: str) -> None:
    async with grpc.aio.insecure_channel(address, options=LOOPBACK_OPTIONS) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs lack Watch
        async for answer in health.Watch(health_pb2.HealthCheckRequest()):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
