"""`eksgateway sandbox`: a simulated EKS and a gateway on loopback, each in its own process.

With ``replicas`` there are several gateways over one PostgreSQL.
"""

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
from typing import Any, Final, NoReturn

import aiohttp

from eksgateway.blocking import run_blocking
from eksgateway.errors import StartError
from eksgateway.file_writer import replace_file
from eksgateway.sandbox.children import Child
from eksgateway.sandbox.clusters import CLUSTERS, HOME
from eksgateway.sandbox.fleet_database import FleetDatabase
from eksgateway.sandbox.folder import (
    CALLERS,
    SandboxFolder,
    gateway_settings,
    write_policy,
    write_variables,
)
from eksgateway.sandbox.gateway_process import GatewayProcess
from eksgateway.sandbox.guide import opa_instructions, usage
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.sandbox.options import DEFAULT_HTTP_PORT, DEFAULT_PORT, SandboxOptions, is_free
from eksgateway.sandbox.restarts import Restarts
from eksgateway.signals import run_until, stop_event

_SIMULATOR_STOP_S: Final = 10.0
_DATABASE_STOP_S: Final = 60.0


async def run(options: SandboxOptions) -> None:
    """Run until SIGTERM or SIGINT. Raises StartError."""
    with stop_event() as stop:
        async with open_sandbox(options, print_now) as sandbox:
            await run_until(stop, _stay_up(sandbox))
            print_now(f"Stopping {sandbox.parts}.")


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
    """Its processes and their folder, for the demos too. ``report`` gets messages for the user."""

    options: SandboxOptions
    folder: SandboxFolder
    report: Callable[[str], None]
    issuer: ThrowawayIssuer = field(default_factory=ThrowawayIssuer)
    tokens: dict[str, str] = field(init=False)
    gateways: list[GatewayProcess] = field(default_factory=list)
    database: FleetDatabase | None = None
    _simulator: Child | None = None

    @property
    def parts(self) -> str:
        if self.options.replicas is None:
            return "the gateway and the simulated EKS"
        return "the gateways, the simulated EKS and the database"

    @property
    def simulator(self) -> Child:
        assert self._simulator is not None  # noqa: S101 - started
        return self._simulator

    async def start(self) -> None:
        """Wait until all processes answer. Raises StartError."""
        self._remove_info()
        port = self._choose_port()
        opa = self.options.opa
        write_policy(self.folder, for_opa=opa is not None)
        self.issuer.write_jwks(self.folder.jwks)
        self.tokens = {name: self.issuer.token(name, groups) for name, groups in CALLERS.items()}
        if self.options.replicas is not None:
            await self._open_database()
        self._simulator = await Child.start(
            "The simulated EKS",
            *("simulate", "--port", "0", "--speed", repr(self.options.speed)),
            address_pattern=r"at (http://\S+)$",
            env=os.environ,
            log=self.folder.log("simulator"),
        )
        for cluster in CLUSTERS:
            await self.command_simulator("clusters", cluster.to_spec())
        if opa is not None:
            self.report(opa_instructions(opa, self.folder))
        await self._start_gateways(port)
        await self.command_simulator("clock", {"advance_s": 0})  # raises unless it still answers
        variables = {"EDGE": self.gateways[0].http, "SIMULATOR": self.simulator.address}
        if self.database is not None:
            variables["DATABASE"] = self.database.url_without_password
            variables["DATABASE_PASSWORD"] = self.database.password
        write_variables(self.folder, [each.address for each in self.gateways], variables, self.tokens)
        self._write_info()

    async def keep_up(self) -> None:
        """Restart a gateway, or the PostgreSQL of its own, whenever it ends.

        Raises ChildFailed when the simulated EKS ends, and StartError when PostgreSQL cannot be restarted.
        """
        restarts = Restarts(self.report, self._write_info)
        keeping = [asyncio.create_task(restarts.keep_gateway(gateway)) for gateway in self.gateways]
        keeping.append(asyncio.create_task(self._watch_simulator()))
        if self.database is not None and self.database.server is not None:
            keeping.append(asyncio.create_task(restarts.keep_server(self.database.server)))
        try:
            ended, _ = await asyncio.wait(keeping, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def stop(self) -> None:
        """Stop the gateways first, which drain."""
        self._remove_info()
        await asyncio.gather(*(gateway.stop() for gateway in self.gateways))
        if self._simulator is not None:
            await self._simulator.stop(_SIMULATOR_STOP_S)
        if self.database is not None:
            try:
                async with asyncio.timeout(_DATABASE_STOP_S):
                    await run_blocking(self.database.close)
            except (TimeoutError, StartError) as exc:
                self.report(
                    str(exc) or f"Not dropped: {self.database.describe()}: the server does not answer."
                )

    def info(self) -> dict[str, Any]:
        """The content of the info file."""
        gateway = self.gateways[0]
        pids = {"gateway": gateway.pid, "simulator": self.simulator.pid}
        info: dict[str, Any] = {
            "grpc": gateway.address,
            "http": gateway.http,
            "simulator": self.simulator.address,
            "tokens": self.tokens,
            "clusters": [
                {**asdict(HOME), "name": each.name, "update_id": each.update_id, "about": each.about}
                for each in CLUSTERS
            ],
            "policy_data": str(self.folder.policy_data),
            "pids": pids,
        }
        if self.database is None:
            return info | {"ledger": str(self.folder.ledger)}
        if self.database.server is not None:
            pids["postgres"] = self.database.server.pid
        gateways = [{"grpc": each.address, "http": each.http, "pid": each.pid} for each in self.gateways]
        return info | {"gateways": gateways, "database": self.database.url}

    async def command_simulator(self, what: str, body: dict[str, Any]) -> None:
        async with aiohttp.ClientSession(self.simulator.address, raise_for_status=True) as http:
            await http.post(f"/_simulator/{what}", json=body)

    async def eks_calls(self) -> list[dict[str, Any]]:
        """All calls that the simulated EKS has received, oldest first: the fields of CallRecord."""
        async with aiohttp.ClientSession(self.simulator.address, raise_for_status=True) as http:
            answer = await http.get("/_simulator/calls")
            calls: list[dict[str, Any]] = (await answer.json())["calls"]
            return calls

    async def _open_database(self) -> None:
        """Raises StartError."""
        self.database = FleetDatabase(self.options.database)
        if self.options.database is not None:
            self.report(f"Creating {self.database.describe()}; all are dropped at the end.")
        await run_blocking(self.database.open)

    async def _start_gateways(self, port: int) -> None:
        ledger = {"path": str(self.folder.ledger)} if self.database is None else {"url": self.database.url}
        settings = gateway_settings(
            self.folder,
            simulator=self.simulator.address,
            issuer=self.issuer.settings(self.folder.jwks),
            opa_url=self.options.opa,
            ledger=ledger,
        )
        for number in range(1, 1 + (self.options.replicas or 1)):
            file = "gateway" if self.database is None else f"gateway-{number}"
            gateway = GatewayProcess(
                "The gateway" if self.database is None else f"Gateway {number}",
                settings,
                config=self.folder.config(file),
                log=self.folder.log(file),
                port=port if number == 1 else 0,
                http_port=self._choose_http_port() if number == 1 else 0,
                waits_for_opa=self.options.opa is not None,
            )
            self.gateways.append(gateway)
        starting = [asyncio.create_task(gateway.start()) for gateway in self.gateways]
        try:
            await asyncio.gather(*starting)
        finally:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)

    async def _watch_simulator(self) -> NoReturn:
        ended = await self.simulator.wait()
        raise self.simulator.failure(f"ended ({ended})")

    def _choose_port(self) -> int:
        if self.options.port is not None or is_free(DEFAULT_PORT):
            return DEFAULT_PORT if self.options.port is None else self.options.port
        self.report(f"Port {DEFAULT_PORT} is in use, so the gateway listens on another one.")
        return 0

    def _choose_http_port(self) -> int:
        return DEFAULT_HTTP_PORT if self.options.port is None and is_free(DEFAULT_HTTP_PORT) else 0

    def _write_info(self) -> None:
        if self.options.info is not None:
            replace_file(self.options.info, json.dumps(self.info(), indent=2).encode())

    def _remove_info(self) -> None:
        if self.options.info is not None:
            self.options.info.unlink(missing_ok=True)
