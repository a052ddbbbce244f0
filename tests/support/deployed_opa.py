"""An OPA as docs/opa.md runs it, with the files of deploy/opa."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from support.ports import find_free_port
from support.waiting import wait_until

START = Path(__file__).resolve().parents[2] / "deploy" / "opa" / "start.sh"


class DeployedOpa:
    """``kill`` and ``start`` may be called in turn."""

    def __init__(self, bundles_url: str, key: Path, folder: Path, options: tuple[str, ...]) -> None:
        self._command = (str(START), *options)
        self.address = f"127.0.0.1:{find_free_port()}"
        self.url = f"http://{self.address}"
        self._log = folder / "opa.log"
        state = folder / "opa-state"
        state.mkdir(mode=0o700)
        self._environment = {
            **os.environ,
            "BUNDLES_URL": bundles_url,
            "POLICY_KEY": str(key),
            "OPA_STATE": str(state),
            "OPA_ADDR": self.address,
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  it returns at once
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        await wait_until(self._answers)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    @property
    def logged_decisions(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("type") == "openpolicyagent.org/decision_logs"]

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """The status and the body of a response."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self.url}{path}", json=body) as response,
        ):
            return response.status, await response.text()

    async def _end(self, with_signal: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(with_signal)
            await asyncio.to_thread(self._process.wait, 60)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        host, port = self.address.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True


@asynccontextmanager
async def run_deployed_opa(
    bundles_url: str, key: Path, folder: Path, *options: str
) -> AsyncIterator[DeployedOpa]:
    """``key`` is the public key that verifies the bundle; ``options`` are of OPA."""
    opa = DeployedOpa(bundles_url, key, folder, options)
    await opa.start()
    try:
        yield opa
    finally:
        await opa.stop()
