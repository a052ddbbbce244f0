"""`eksgateway sandbox`: a simulated EKS and a gateway on loopback, each a process of its own.

``Sandbox`` is also what the demo runs on. A gateway that dies is started again as it was.
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
from typing import Any

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.sandbox import guide as sandbox_guide
from eksgateway.sandbox.children import Child, ChildFailed
from eksgateway.sandbox.clusters import CLUSTERS, HOME
from eksgateway.sandbox.files import replace_file
from eksgateway.sandbox.folder import (
    Folder,
    gateway_environment,
    write_config,
    write_policy,
    write_tokens,
    write_variables,
)
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.sandbox.options import DEFAULT_PORT, SandboxOptions, is_free
from eksgateway.signals import run_until, stop_event

CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0),)  # no proxy of the environment leads to this machine

_READY_WITHIN_S = 60.0
_GATEWAY_ENDS_S = 35.0  # its own 25 s for calls in flight, and time to end
_SIMULATOR_ENDS_S = 10.0
_PAUSE_S = 2.0  # between attempts to start a gateway again


async def run(options: SandboxOptions) -> None:
    """Stay up until SIGTERM or SIGINT. Raises StartError when a part cannot be started or go on."""
    with stop_event() as ended:
        async with open_sandbox(options, say) as sandbox:
            await run_until(ended, _stay_up(sandbox))
            say("Ending the gateway and the simulated EKS.")


async def _stay_up(sandbox: Sandbox) -> None:
    await sandbox.start()
    say(sandbox_guide.usage(sandbox.info(), sandbox.folder, sandbox.options.speed))
    await sandbox.keep_up()


def say(text: str) -> None:
    """Told at once, also into a pipe; where nobody reads any more, the sandbox is still of use."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # As docs.python.org has it in "Note on SIGPIPE": else the flush at exit would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@asynccontextmanager
async def open_sandbox(options: SandboxOptions, tell: Callable[[str], None]) -> AsyncIterator[Sandbox]:
    """A sandbox with a folder of its own, to be started; nothing of it is left in the end."""
    options.check()
    with tempfile.TemporaryDirectory(prefix="eksgateway-") as path:
        sandbox = Sandbox(options, Folder(Path(path)), tell)
        try:
            yield sandbox
        finally:
            await sandbox.stop()


@dataclass(slots=True)
class Sandbox:
    """Two processes and their folder. ``tell`` is for what the user has to know while it runs."""

    options: SandboxOptions
    folder: Folder
    tell: Callable[[str], None]
    issuer: ThrowawayIssuer = field(default_factory=ThrowawayIssuer)
    tokens: dict[str, str] = field(init=False)
    _port: int = field(init=False)
    _simulator: Child = field(init=False)
    _gateway: Child = field(init=False)
    _children: list[Child] = field(default_factory=list)

    async def start(self) -> None:
        """Return when both answer. Raises SettingsError or ChildFailed, with the reason."""
        self._forget_info()
        self._port = self._choose_port()
        opa = self.options.opa
        write_policy(self.folder, with_rego=opa is not None)
        self.tokens = write_tokens(self.folder, self.issuer)
        self._simulator = await Child.start(
            "The simulated EKS",
            *("simulate", "--port", "0", "--speed", repr(self.options.speed)),
            announces=r"at (http://\S+)$",
            env=os.environ,
            log=self.folder.log("simulator"),
        )
        self._children.append(self._simulator)
        for cluster in CLUSTERS:
            await self._command_simulator("clusters", cluster.to_spec())
        if opa is not None:
            self.tell(sandbox_guide.about_opa(opa, self.folder))
        await self._start_gateway()
        url = self._simulator.announced
        write_variables(self.folder, f"127.0.0.1:{self._port}", url, self.tokens)

    async def keep_up(self) -> None:
        """Start the gateway again whenever it ends. Raises ChildFailed when the simulated EKS ends."""
        simulated = asyncio.create_task(self._simulator.wait())
        try:
            while True:
                served = asyncio.create_task(self._gateway.wait())
                await asyncio.wait({simulated, served}, return_when=asyncio.FIRST_COMPLETED)
                if simulated.done():
                    served.cancel()
                    raise self._simulator.failed(f"ended ({simulated.result()})")
                self.tell(f"The gateway ended ({served.result()}).")
                await self._restart()
                self.tell(f"It runs again: same port, ledger, keys and grants; pid {self._gateway.pid}.")
        finally:
            simulated.cancel()

    async def replace_gateway(self) -> None:
        """Kill the gateway, and start one as it was; what ``keep_up`` does for one that dies by itself."""
        await self._gateway.kill()
        await self._restart()

    async def stop(self) -> None:
        """End what runs, the gateway first, which drains."""
        self._forget_info()
        for child in reversed(self._children):
            await child.stop(_SIMULATOR_ENDS_S if child is self._simulator else _GATEWAY_ENDS_S)

    def info(self) -> dict[str, Any]:
        """What a program needs to use this sandbox."""
        return {
            "grpc": f"127.0.0.1:{self._port}",
            "simulator": self._simulator.announced,
            "tokens": self.tokens,
            "clusters": [
                {**asdict(HOME), "name": each.name, "update_id": each.update_id, "about": each.about}
                for each in CLUSTERS
            ],
            "ledger": str(self.folder.ledger),
            "policy_data": str(self.folder.policy_data),
            "pids": {"gateway": self._gateway.pid, "simulator": self._simulator.pid},
        }

    async def _restart(self) -> None:
        """Try until it serves: grants with a fault in them may be mended meanwhile."""
        told = ""
        while True:
            try:
                return await self._start_gateway()
            except ChildFailed as exc:
                if str(exc) != told:
                    told = str(exc)
                    self.tell(f"{told}\nTrying again every {_PAUSE_S:.0f} s.")
                await asyncio.sleep(_PAUSE_S)

    async def _start_gateway(self) -> None:
        """A gateway that serves, and the info file that says so. Raises ChildFailed."""
        url = self._simulator.announced
        write_config(
            self.folder, port=self._port, simulator=url, issuer=self.issuer, opa_url=self.options.opa
        )
        self._gateway = await Child.start(
            "The gateway",
            *("serve", "--config", str(self.folder.config)),
            announces=r"Serving gRPC on \S+:([0-9]+)$",
            env=gateway_environment(),
            log=self.folder.log("gateway"),
        )
        self._children = [self._simulator, self._gateway]
        self._port = int(self._gateway.announced)
        await self._until_ready()
        await self._command_simulator("clock", {"advance_s": 0})  # it still answers
        if self.options.info is not None:
            replace_file(self.options.info, json.dumps(self.info(), indent=2).encode())

    async def _until_ready(self) -> None:
        """Without a time limit where the user's OPA has to answer first."""
        ended = asyncio.create_task(self._gateway.wait())
        ready = asyncio.create_task(_serving(f"127.0.0.1:{self._port}"))
        limit = None if self.options.opa else _READY_WITHIN_S
        try:
            await asyncio.wait({ended, ready}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and ready.exception() is None:
                return
            await self._gateway.stop(_GATEWAY_ENDS_S)
            raise self._gateway.failed("ended, or did not get ready:")
        finally:
            for task in (ended, ready):
                task.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)

    async def _command_simulator(self, what: str, body: dict[str, Any]) -> None:
        async with aiohttp.ClientSession(self._simulator.announced, raise_for_status=True) as http:
            await http.post(f"/_simulator/{what}", json=body)

    def _choose_port(self) -> int:
        if self.options.port is not None or is_free(DEFAULT_PORT):
            return DEFAULT_PORT if self.options.port is None else self.options.port
        self.tell(f"Port {DEFAULT_PORT} is taken, so the gateway listens on another one.")
        return 0

    def _forget_info(self) -> None:
        if self.options.info is not None:
            self.options.info.unlink(missing_ok=True)


async def _serving(address: str) -> None:
    """Return when the gateway says that it is ready. Raises RpcError when it cannot be asked."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its types leave Watch out
        async for answer in health.Watch(health_pb2.HealthCheckRequest()):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
