"""A gateway of the sandbox: its settings file, its process, and the wait until it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.addresses import split_address
from eksgateway.file_writer import replace_file
from eksgateway.sandbox.children import Child
from eksgateway.sandbox.folder import gateway_environment

# A proxy of the environment does not reach this machine.
LOOPBACK_OPTIONS: Final = (("grpc.enable_http_proxy", 0),)

_READY_TIMEOUT_S: Final = 60.0
_STOP_S: Final = 35.0  # its own 25 s for calls in flight, and time to end


@dataclass(eq=False, slots=True)
class GatewayProcess:
    """``start`` again starts another process with the same port and settings, and so the same ledger.

    ``name`` begins a sentence. ``port`` and ``http_port`` 0 become the ports that the first process gets.
    With ``waits_for_opa`` readiness has no time limit: the user's OPA has to answer first.
    """

    name: str
    settings: Mapping[str, Any]
    config: Path
    log: Path
    port: int
    http_port: int = 0
    waits_for_opa: bool = False
    _child: Child | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def http(self) -> str:
        """The URL of its HTTP edge."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def pid(self) -> int:
        """Of the process that runs, or of the last one."""
        assert self._child is not None  # noqa: S101 - started
        return self._child.pid

    async def start(self) -> None:
        """Return when it is ready. Raises ChildFailed."""
        addresses: dict[str, Any] = {
            "listeners": [{"address": self.address}],
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
        }
        settings = addresses | dict(self.settings)
        replace_file(self.config, yaml.safe_dump(settings, sort_keys=False).encode())
        self._child = await Child.start(
            self.name,
            *("serve", "--config", str(self.config)),
            address_pattern=r"Serving gRPC on (\S+)$",
            env=gateway_environment(),
            log=self.log,
        )
        self.port = split_address(self._child.address)[1]
        http = await self._child.read_address(r"Serving HTTP on http://(\S+)$")
        self.http_port = split_address(http)[1]
        await self._wait_until_ready(self._child)

    async def wait(self) -> str:
        """Return the exit code or signal, as text."""
        assert self._child is not None  # noqa: S101 - started
        return await self._child.wait()

    async def stop(self) -> None:
        """Drain and end it, if it was started."""
        if self._child is not None:
            await self._child.stop(_STOP_S)

    async def kill(self) -> None:
        assert self._child is not None  # noqa: S101 - started
        await self._child.kill()

    async def _wait_until_ready(self, child: Child) -> None:
        ended = asyncio.create_task(child.wait())
        ready = asyncio.create_task(_wait_until_serving(self.address))
        limit = None if self.waits_for_opa else _READY_TIMEOUT_S
        try:
            await asyncio.wait({ended, ready}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and ready.exception() is None:
                return
            await child.stop(_STOP_S)
            raise child.failure("ended, or did not become ready:")
        finally:
            for task in (ended, ready):
                task.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)


async def _wait_until_serving(address: str) -> None:
    async with grpc.aio.insecure_channel(address, options=LOOPBACK_OPTIONS) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs lack Watch
        async for answer in health.Watch(health_pb2.HealthCheckRequest()):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
