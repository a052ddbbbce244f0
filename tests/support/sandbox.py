"""A sandbox process, its info file, and calls with its tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import cancellation_service_pb2 as history_pb
from eksgateway.v1 import cancellation_service_pb2_grpc, update_pb2, update_service_pb2_grpc
from eksgateway.v1 import update_service_pb2 as pb
from support.processes import RunningProgram, eksgateway_command, run_program
from support.waiting import wait_until

WHY = {"reason": "bad AMI", "ticket": "OPS-1"}


class Sandbox:
    """A running sandbox. ``info`` is the content of its info file."""

    def __init__(self, process: RunningProgram, path: Path) -> None:
        self.process = process
        self.path = path

    @property
    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found

    @property
    def pid(self) -> int:
        return self.process.process.pid

    @property
    def pids(self) -> dict[str, int]:
        found: dict[str, int] = self.info["pids"]
        return found

    async def wait_until_started(self) -> None:
        """Wait for the info file. Fails if the sandbox ends."""

        def look() -> bool:
            ended = self.process.process.returncode
            assert ended is None, f"it ended with {ended}: {self.process.out}{self.process.err}"
            return self.path.exists()

        await wait_until(look)

    async def wait_for_restart(self, before: int) -> int:
        """Wait for another gateway than the one with this pid; returns the new pid."""
        await wait_until(lambda: self.pids["gateway"] != before)
        return self.pids["gateway"]

    async def cancel(self, who: str, cluster: str, *, address: str = "", **fields: str) -> cpb.Cancellation:
        """CancelUpdate by one of its callers, at the gateway of this address; by default at the first."""
        update_id = {each["name"]: each["update_id"] for each in self.info["clusters"]}[cluster]
        request = pb.CancelUpdateRequest(
            cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id, **fields
        )
        async with self._channel(address) as channel:
            stub = update_service_pb2_grpc.UpdateServiceStub(channel)
            return (await stub.CancelUpdate(request, metadata=self._metadata(who), timeout=30)).cancellation

    async def history(self, who: str = "oncall", address: str = "") -> list[cpb.Cancellation]:
        """The answer of ListCancellations, newest first."""
        async with self._channel(address) as channel:
            stub = cancellation_service_pb2_grpc.CancellationServiceStub(channel)
            request = history_pb.ListCancellationsRequest()
            answer = await stub.ListCancellations(request, metadata=self._metadata(who), timeout=30)
            return list(answer.cancellations)

    def _channel(self, address: str) -> grpc.aio.Channel:
        options = (("grpc.enable_http_proxy", 0),)
        return grpc.aio.insecure_channel(address or self.info["grpc"], options=options)

    def _metadata(self, who: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.info['tokens'][who]}"),)


@asynccontextmanager
async def run_sandbox(
    folder: Path, *options: str, env: Mapping[str, str] | None = None, wait: bool = True
) -> AsyncIterator[Sandbox]:
    """Run a sandbox on a free port. All its files are in ``folder``."""
    info = folder / "info.json"
    command = eksgateway_command("sandbox", "--port", "0", "--info", str(info), *options)
    async with run_program(*command, env={"TMPDIR": str(folder), **(env or {})}) as process:
        here = Sandbox(process, info)
        if wait:
            await here.wait_until_started()
        yield here
