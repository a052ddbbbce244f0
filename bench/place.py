"""Processes on loopback: a simulated EKS, a gateway in front of it, and bare servers."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import yaml

from eksgateway.sandbox.issuer import ThrowawayIssuer

ACCOUNT, REGION = "111122223333", "us-east-1"
ACTIONS = ["cancel", "check", "get", "list", "watch", "history"]
POLICY = {
    "eksgateway": {
        "grants": [
            {
                "id": "bench",
                "groups": ["bench:oncall"],
                "actions": ACTIONS,
                "accounts": [ACCOUNT],
                "regions": [REGION],
                "clusters": ["*"],
                "update_types": ["VersionRollback"],
            }
        ],
        "freezes": [],
    }
}
# So that nothing but what is measured bounds it; a ratio that measures a bound sets it back.
UNBOUND = {
    "calls": 100_000,
    "calls_per_caller": 100_000,
    "watches": 100_000,
    "watches_per_caller": 100_000,
}
CHANNELS = (("grpc.use_local_subchannel_pool", 1),)


@asynccontextmanager
async def program(*arguments: str, log: Path | None = None) -> AsyncIterator[tuple[Process, str]]:
    """A program that ends when its standard input closes, and the address it prints first."""
    env = os.environ | {
        "AWS_ACCESS_KEY_ID": f"AKIA{ACCOUNT}",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONDONTWRITEBYTECODE": "",  # what is installed has its bytecode: so shall what is measured
    }
    errors = log.open("ab") if log else DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdin=PIPE, stdout=PIPE, stderr=errors, env=env
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        found = re.search(r"(\S+:\d+)\s*$", line)
        if found is None:
            raise RuntimeError(f"{arguments} did not come up: {line!r}; see {log}")
        yield process, found[1]
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@dataclass
class Place:
    """A running gateway and its simulated EKS."""

    gateway: Process
    address: str
    simulator: str
    issuer: ThrowawayIssuer
    http: aiohttp.ClientSession

    def credentials(self, subject: str = "oncall", *groups: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.issuer.token(subject, groups)}"),)

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own."""
        return grpc.aio.insecure_channel(self.address, options=CHANNELS)

    async def control(self, method: str, path: str, **body: Any) -> Any:
        """One call of the simulator's control API."""
        async with self.http.request(
            method, f"{self.simulator}/_simulator/{path}", json=body or None
        ) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def rollback(self, name: str, **update: Any) -> str:
        """A cluster whose rollback can be cancelled; its update's id."""
        update = {"node_phase_s": 600_000, "cancel_delay_s": 0} | update
        answer = await self.control("POST", "clusters", name=name, updates=[update])
        return str(answer["update_ids"][0])

    async def calls(self, operation: str = "") -> int:
        """How many calls EKS has got since the last ``DELETE calls``, of one operation or of all."""
        calls = (await self.control("GET", "calls"))["calls"]
        return sum(operation in ("", call["operation"]) for call in calls)


@asynccontextmanager
async def place(**sections: Any) -> AsyncIterator[Place]:
    """A gateway process over a simulated EKS process; ``sections`` override settings."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eksgateway-bench-")))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        _, simulator = await stack.enter_async_context(
            program("eksgateway", "simulate", "--stop-on-stdin-eof", log=folder / "simulator.log")
        )
        issuer = ThrowawayIssuer("bench")
        config = configure(folder, simulator, issuer, **sections)
        gateway, address = await stack.enter_async_context(
            program("eksgateway", "serve", "--config", str(config), "--stop-on-stdin-eof", log=folder / "log")
        )
        yield Place(gateway, address, simulator, issuer, http)


def configure(folder: Path, simulator: str, issuer: ThrowawayIssuer, **sections: Any) -> Path:
    """Write settings, policy data and keys; the settings' path."""
    jwks = folder / "jwks.json"
    issuer.write_jwks(jwks)
    (folder / "data.yaml").write_text(yaml.safe_dump(POLICY))
    settings: dict[str, Any] = {
        "listeners": [{"address": "127.0.0.1:0"}],
        "identity": {"jwt": {"issuers": [issuer.settings(jwks).model_dump(mode="json")]}},
        "policy": {"data": str(folder / "data.yaml")},
        "ledger": {"path": str(folder / "ledger.db")},
        "eks": {
            "targets": [{"account_id": ACCOUNT, "region": REGION, "endpoint_url": simulator}],
            "calls_per_s": 100_000,
        },
        "limits": UNBOUND,
    }
    for name, values in sections.items():
        settings[name] = settings.get(name, {}) | values
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


def resident_bytes(pid: int) -> int:
    """A process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} tells no memory")
