"""The fleet as one replica sees it: what several gateways over one PostgreSQL share."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from eksgateway.clock import Clock
from eksgateway.errors import StartError
from eksgateway.fleet.budget_table import BudgetTable
from eksgateway.fleet.connections import Connection, FleetConnection, FleetUnavailable
from eksgateway.fleet.counts import FleetCounts
from eksgateway.fleet.look_table import LookTable
from eksgateway.fleet.looks import FleetLooks
from eksgateway.fleet.notices import ListenSettings, Notices
from eksgateway.fleet.repeated_tasks import RepeatedTasks
from eksgateway.fleet.replicas import Replica, Replicas
from eksgateway.fleet.tokens import FleetTokens
from eksgateway.settings import Settings

_DROP_S: Final = 600.0
_CLEAN_S: Final = 60.0
_DATABASE: Final = "SELECT current_database(), pg_postmaster_start_time()"  # over a pooler, the server's own


@dataclass(frozen=True, slots=True)
class Fleet:
    """Looks have a connection of their own. Tokens share the other one with the row of the replica."""

    looks: FleetLooks
    look_connection: FleetConnection
    token_connection: FleetConnection
    notices: Notices
    replicas: Replicas
    tokens: FleetTokens
    repeated: RepeatedTasks
    counts: FleetCounts

    def start(self) -> None:
        """Start the repeated tasks."""
        self.repeated.start()

    async def close(self) -> None:
        """Leave the fleet. The last of all parts: calls to EKS that end before this are still shared."""
        await self.repeated.close()
        await self.tokens.close()
        await self.replicas.close()
        await self.looks.close()
        await asyncio.gather(
            self.notices.close(), self.look_connection.close(), self.token_connection.close()
        )


async def open_fleet(settings: Settings, name: str, clock: Clock) -> Fleet:
    """Join the fleet over the ledger's database, which is migrated. ``name`` is this replica's in the ledger.

    Raises StartError.
    """
    ledger = settings.ledger
    if ledger.url is None:
        raise StartError("several gateways need `ledger.url`")
    if ledger.listen_url is not None:
        await _require_same_database(ledger.url, ledger.listen_url)
    own = Replica(uuid4(), name)
    look_connection, token_connection = FleetConnection(ledger.url), FleetConnection(ledger.url)
    replicas, counts = Replicas(own, ledger.schema_name, token_connection, clock), FleetCounts()
    budget = BudgetTable(token_connection, ledger.schema_name)
    listen = ListenSettings(ledger.listen_url or ledger.url, ledger.schema_name)
    notices = Notices(listen, token_connection, clock, random.Random())  # noqa: S311
    claim_s = settings.eks.connect_timeout_s + settings.eks.read_timeout_s + 1
    table = LookTable(look_connection, ledger.schema_name, own.id, claim_s, clock)
    fleet = Fleet(
        looks=FleetLooks(table, notices, clock, counts.looks),
        look_connection=look_connection,
        token_connection=token_connection,
        notices=notices,
        replicas=replicas,
        tokens=FleetTokens(budget, settings.eks.calls_per_s, lambda: replicas.alive, counts, clock),
        repeated=RepeatedTasks(clock),
        counts=counts,
    )
    fleet.repeated.add("drop old replicas", _DROP_S, fleet.replicas.drop_old)
    fleet.repeated.add("delete old looks", _CLEAN_S, fleet.looks.clean)
    try:
        await fleet.replicas.open()
        await fleet.tokens.open([each.target for each in settings.eks.targets])
        await fleet.notices.open()
    except BaseException:
        await fleet.close()
        raise
    return fleet


async def _require_same_database(url: str, listen_url: str) -> None:
    """Raises StartError, also if ``listen_url`` leads nowhere."""
    try:
        there, here = await _read_database(listen_url), await _read_database(url)
    except (StartError, FleetUnavailable) as exc:
        raise StartError(f"`ledger.listen_url` cannot be used ({exc}): correct it, or remove it") from exc
    if there != here:
        raise StartError(
            "`ledger.listen_url` leads to another database than `ledger.url`: let it lead to the same one,"
            " without a pooler"
        )


async def _read_database(url: str) -> tuple[Any, ...] | None:
    async def read(connection: Connection) -> tuple[Any, ...] | None:
        return await (await connection.execute(_DATABASE)).fetchone()

    connection = FleetConnection(url)
    try:
        return await connection.run(read)
    finally:
        await connection.close()
