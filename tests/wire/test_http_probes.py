"""Kubernetes' probes over HTTP, beside the metrics."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eksgateway.errors import LedgerUnavailable
from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import PRODUCTION, Gate, add_hooks

ON: dict[str, Any] = {"metrics": {"listen": "127.0.0.1:0"}}
READY, ALIVE = (200, "ready\n"), (200, "ok\n")


async def ask(gateway: RunningGateway, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body."""
    url = f"http://{gateway.gateway.metrics.address}{path}"
    async with aiohttp.ClientSession() as http, http.request(method, url) as answer:
        assert answer.content_type == "text/plain"
        return answer.status, await answer.text()


async def wait_for_readyz(gateway: RunningGateway, expected: tuple[int, str]) -> None:
    """Wait for an answer of /readyz."""
    async with asyncio.timeout(20):
        while await ask(gateway, "/readyz") != expected:  # noqa: ASYNC110  it is polled, as the kubelet does
            await asyncio.sleep(0.02)


@asynccontextmanager
async def run_with_failing_checks(
    path: Path, eks: SimulatedEks
) -> AsyncIterator[tuple[RunningGateway, set[str]]]:
    """Run a gateway. Parts in the yielded set fail their checks."""
    failing: set[str] = set()

    def fails(name: str) -> Any:
        async def check() -> None:
            if name in failing:
                raise LedgerUnavailable(detail="a secret of the log's")

        return check

    async with run_gateway(path, eks, ready=False, **copy.deepcopy(ON)) as gateway:
        gateway.gateway.checks |= {name: fails(name) for name in ("ledger", "keys of corp")}
        yield gateway, failing


async def test_readyz_names_unready_parts_only(tmp_path: Path, eks: SimulatedEks) -> None:
    """From start to end; liveness does not change."""
    async with run_with_failing_checks(tmp_path, eks) as (gateway, failing):
        assert await ask(gateway, "/readyz") == (503, "not ready\nstarting\n")
        assert await ask(gateway, "/healthz") == ALIVE
        failing |= {"ledger", "keys of corp"}
        await gateway.gateway.become_ready()
        both = "not ready\nledger: LEDGER_UNAVAILABLE\nkeys of corp: LEDGER_UNAVAILABLE\n"
        await wait_for_readyz(gateway, (503, both))
        failing.remove("ledger")
        await wait_for_readyz(gateway, (503, "not ready\nkeys of corp: LEDGER_UNAVAILABLE\n"))
        assert await ask(gateway, "/healthz") == ALIVE
        failing.clear()
        await wait_for_readyz(gateway, READY)


async def test_readyz_reports_draining_while_calls_end(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id, gate = eks.rollback("prod-1", tags=PRODUCTION), Gate()
    async with run_gateway(tmp_path, eks, wrap_eks=add_hooks(describe_cluster=gate), **ON) as gateway:
        await wait_for_readyz(gateway, READY)
        cancel = asyncio.create_task(gateway.cancel("prod-1", update_id))
        await wait_until(lambda: gate.entered > 0)
        stopping = asyncio.create_task(gateway.gateway.stop())
        await wait_for_readyz(gateway, (503, "not ready\ndraining\n"))
        assert await ask(gateway, "/healthz") == ALIVE
        gate.open()
        await cancel
        await stopping


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_head_is_answered_like_get(tmp_path: Path, eks: SimulatedEks, path: str) -> None:
    """Some load balancers send it."""
    async with run_gateway(tmp_path, eks, **ON) as gateway:
        await wait_for_readyz(gateway, READY)
        assert await ask(gateway, path, "HEAD") == (200, "")
        assert (await ask(gateway, path))[0] == 200
        url = f"http://{gateway.gateway.metrics.address}{path}"
        async with aiohttp.ClientSession() as http, http.post(url) as answer:
            assert answer.status == 405


async def test_metrics_connections_are_bounded(tmp_path: Path, eks: SimulatedEks) -> None:
    """The oldest ends, so that silent clients do not block probes."""
    async with run_gateway(tmp_path, eks, **ON) as gateway:
        await wait_for_readyz(gateway, READY)
        host, _, port = gateway.gateway.metrics.address.rpartition(":")
        async with AsyncExitStack() as stack:
            opened = [await asyncio.open_connection(host, int(port)) for _ in range(110)]
            for _, writer in opened:
                stack.callback(writer.transport.abort)
            async with asyncio.timeout(20):
                for reader, _ in opened[:10]:
                    with suppress(ConnectionResetError):
                        assert await reader.read() == b""
            assert sum(reader.at_eof() for reader, _ in opened[10:]) == 0
            await wait_for_readyz(gateway, READY)
