"""Starts what has ended again: gateways, and a PostgreSQL of the sandbox's own. Each end is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from eksgateway.blocking import run_blocking
from eksgateway.sandbox.children import ChildFailed
from eksgateway.sandbox.gateway_process import GatewayProcess
from eksgateway.sandbox.postgres_server import PostgresServer

SERVER_PAUSE_S: Final = 5.0  # time to see what gateways do without PostgreSQL
_PAUSE_S: Final = 2.0  # between attempts to start a gateway


@dataclass(frozen=True, slots=True)
class Restarts:
    """``report`` gets messages for the user. ``note_change`` is called when process ids have changed."""

    report: Callable[[str], None]
    note_change: Callable[[], None]

    async def keep_gateway(self, gateway: GatewayProcess) -> NoReturn:
        while True:
            self.report(f"{gateway.name} ended ({await gateway.wait()}).")
            await self._restart(gateway)
            self.note_change()
            self.report(
                f"{gateway.name} runs again with the same port, ledger, keys and grants: pid {gateway.pid}."
            )

    async def keep_server(self, server: PostgresServer) -> NoReturn:
        """Raises StartError when it does not start."""
        while True:
            ended = await run_blocking(server.wait)
            self.report(f"PostgreSQL ended ({ended}). It is started again in {SERVER_PAUSE_S:.0f} s.")
            await asyncio.sleep(SERVER_PAUSE_S)
            await run_blocking(server.start)
            self.note_change()
            self.report(f"PostgreSQL runs again with the same port and data: pid {server.pid}.")

    async def _restart(self, gateway: GatewayProcess) -> None:
        """Retry until it starts: faulty grants may be corrected meanwhile, and PostgreSQL be restarted."""
        reported = ""
        while True:
            try:
                return await gateway.start()
            except ChildFailed as exc:
                if str(exc) != reported:
                    reported = str(exc)
                    self.report(f"{reported}\nRetrying every {_PAUSE_S:.0f} s.")
                await asyncio.sleep(_PAUSE_S)
