"""Starts the processes under test on loopback: a simulated EKS, a gateway, and bare servers."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import yaml

from eksgateway.sandbox.issuer import ThrowawayIssuer

ACCOUNT, REGION = "111122223333", "us-east-1"
ACTIONS: Final = ["cancel", "check", "get", "list", "watch", "history"]
POLICY: Final = {
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
# Limits that no measurement reaches. A ratio about limits overrides them.
UNLIMITED: Final = {
    "calls": 100_000,
    "calls_per_caller": 100_000,
    "watches": 100_000,
    "watches_per_caller": 100_000,
}
CHANNEL_OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)


@asynccontextmanager
async def run_program(*arguments: str, log: Path | None = None) -> AsyncIterator[tuple[Process, str]]:
    """Run a program that prints its address first and ends when its standard input closes."""
    env = os.environ | {
        "AWS_ACCESS_KEY_ID": f"AKIA{ACCOUNT}",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONDONTWRITEBYTECODE": "",  # with bytecode, as in an installed package
    }
    errors = log.open("ab") if log else DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdin=PIPE, stdout=PIPE, stderr=errors, env=env
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        match = re.search(r"(\S+:\d+)\s*$", line)
        if match is None:
            raise RuntimeError(f"{arguments} did not start: {line!r}; see {log}")
        yield process, match[1]
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@dataclass
class GatewayProcess:
    """A running gateway and its simulated EKS."""

    process: Process
    address: str
    simulator: str
    issuer: ThrowawayIssuer
    http: aiohttp.ClientSession

    def credentials(self, subject: str = "oncall", *groups: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.issuer.token(subject, groups)}"),)

    def channel(self) -> grpc.aio.Channel:
        """A channel with its own connection."""
        return grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)

    async def control(self, method: str, path: str, **body: Any) -> Any:
        """Call the simulator's control API."""
        async with self.http.request(
            method, f"{self.simulator}/_simulator/{path}", json=body or None
        ) as response:
            response.raise_for_status()
            return await response.json()

    async def rollback(self, name: str, **update: Any) -> str:
        """Create a cluster with a rollback that can be cancelled. Returns the update's id."""
        update = {"node_phase_s": 600_000, "cancel_delay_s": 0} | update
        created = await self.control("POST", "clusters", name=name, updates=[update])
        return str(created["update_ids"][0])

    async def calls(self, operation: str = "") -> int:
        """The number of calls to EKS since the last ``DELETE calls``, of one operation or of all."""
        calls = (await self.control("GET", "calls"))["calls"]
        return sum(operation in ("", call["operation"]) for call in calls)


def poll_every(seconds: float) -> dict[str, float]:
    """Watch settings with a fixed poll interval."""
    return dict.fromkeys(("poll_s", "poll_min_s", "poll_max_s"), seconds)


# Follow-ups after a cancel would read each update every 30 s.
RARE_POLLS: Final = poll_every(600) | {"follow_s": 600}


@asynccontextmanager
async def run_gateway(**sections: Any) -> AsyncIterator[GatewayProcess]:
    """Run a gateway and a simulated EKS. ``sections`` override settings."""
    async with run_replicas(1, **sections) as (gateway,):
        yield gateway


@asynccontextmanager
async def run_replicas(count: int, **sections: Any) -> AsyncIterator[list[GatewayProcess]]:
    """Run equal gateways and a simulated EKS. More than one need ``ledger={"url": …}``."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eksgateway-bench-")))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        _, simulator = await stack.enter_async_context(
            run_program("eksgateway", "simulate", "--stop-on-stdin-eof", log=folder / "simulator.log")
        )
        issuer = ThrowawayIssuer("bench")
        config = configure(folder, simulator, issuer, **sections)
        serve = ("eksgateway", "serve", "--config", str(config), "--stop-on-stdin-eof")
        gateways = []
        for number in range(count):
            process, address = await stack.enter_async_context(
                run_program(*serve, log=folder / f"{number}.log")
            )
            gateways.append(GatewayProcess(process, address, simulator, issuer, http))
        yield gateways


def configure(folder: Path, simulator: str, issuer: ThrowawayIssuer, **sections: Any) -> Path:
    """Write settings, policy data and keys. Returns the settings' path."""
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
        "limits": UNLIMITED,
    }
    for name, values in sections.items():
        settings[name] = settings.get(name, {}) | values
    if "url" in settings["ledger"]:
        del settings["ledger"]["path"]
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


def cpu_s(pid: int) -> float:
    """CPU time of a process with all its threads, in seconds. Its clock is finer than the 10 ms of /proc."""
    return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3), which Python lacks


def ended_children_cpu_s(pid: int) -> float:
    """CPU time of a process's children that have ended, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """A process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")
