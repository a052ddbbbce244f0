"""Two replicas in one process, over one PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from eksgateway.sandbox.issuer import ThrowawayIssuer
from support.gateway import RunningGateway, run_gateway
from support.postgres import LedgerDatabase
from support.simulator import SimulatedEks

# So short that a forward is in flight for 4 s.
HASTY = {"decision_max_age_s": 0.5, "connect_timeout_s": 0.25, "cancel_read_timeout_s": 0.25}


@asynccontextmanager
async def run_pair(
    path: Path,
    eks: SimulatedEks,
    database: LedgerDatabase,
    /,
    *,
    first: dict[str, Any] | None = None,
    second: dict[str, Any] | None = None,
    **both: Any,
) -> AsyncIterator[tuple[RunningGateway, RunningGateway]]:
    """Two gateways with the arguments of ``run_gateway`` for one of them, or for both."""
    issuer = ThrowawayIssuer("test")
    ledger = {"url": database.url} | both.pop("ledger", {})
    folders = path / "first", path / "second"
    for folder in folders:
        folder.mkdir()
    shared: dict[str, Any] = {"issuer": issuer, "ledger": ledger, **both}
    async with (
        run_gateway(folders[0], eks, **shared | (first or {})) as one,
        run_gateway(folders[1], eks, **shared | (second or {})) as other,
    ):
        yield one, other
