"""Replicas as processes over one PostgreSQL, each on a way of its own to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from time import time
from typing import Any, Final

import psycopg
import yaml

from eksgateway.ledger.hash_chain import Event
from eksgateway.ledger.postgres.migration import migrate_database
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.sandbox.postgres_server import PostgresServer
from eksgateway.settings import PostgresLocation
from support.fleet.eks import FleetEks
from support.fleet.history import Bounds, CommittedEvent, Fault
from support.fleet.network import Network
from support.gateway import ACCOUNT, POLICY_DATA, Client, settings_for
from support.gateway_process import AWS
from support.postgres import GATEWAY, OWNER, SCHEMA, LedgerDatabase, create_roles
from support.processes import RunningProgram, clean_environment, eksgateway_command, list_descendants
from support.waiting import wait_until

NAMES: Final = ("a", "b", "c", "d", "e")

# Quick, as most tests wait for a deadline. A decision is young for 3 s, and a claim runs for 4 s.
QUICK: Final[dict[str, dict[str, Any]]] = {
    "ledger": {"commit_timeout_s": 2},
    "eks": {
        "connect_timeout_s": 1,
        "read_timeout_s": 2,
        "cancel_read_timeout_s": 3,
        "decision_max_age_s": 3,
        "calls_per_s": 8,
    },
    "watch": {"poll_s": 0.5, "poll_min_s": 0.3, "follow_s": 1, "heartbeat_s": 1},
    "limits": {"call_timeout_s": 15},
}
QUICK_BOUNDS: Final = Bounds(rate=8, size=16, claim=4, look=20, decision_max_age=3.5, slack=2, late=1)


class Replica:
    """One gateway over the fleet's PostgreSQL, which may be started again and again."""

    def __init__(self, name: str, config: Path, issuer: ThrowawayIssuer, network: Network) -> None:
        self.name = name
        self.network = network
        self.log = ""  # of earlier processes
        self._config = config
        self._issuer = issuer
        self._env = AWS
        self._program: RunningProgram | None = None
        self._clients: list[Client] = []  # of each process: closing a channel cancels its calls' tasks

    def set_access_key(self, key: str) -> None:
        self._env = {**AWS, "AWS_ACCESS_KEY_ID": key}

    @property
    def client(self) -> Client:
        """Calls the process that runs now, or the last one."""
        return self._clients[-1]

    @property
    def program(self) -> RunningProgram:
        assert self._program is not None
        return self._program

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log events of all its processes, without the texts of failed starts."""
        err = self.log + (self._program.err if self._program else "")
        return [json.loads(line) for line in err.splitlines() if not line.startswith("eksgateway: ")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    async def start(self) -> None:
        """Return once it is ready."""
        assert await self.try_to_start(), self.log
        await self.client.wait_for_readiness()

    async def try_to_start(self) -> bool:
        """Whether it serves; it ends where PostgreSQL cannot be read."""
        process = await asyncio.create_subprocess_exec(
            *eksgateway_command("serve", "--config", str(self._config)),
            stdout=PIPE,
            stderr=PIPE,
            env=clean_environment(self._env),
        )
        self._program = running = RunningProgram(process)
        await wait_until(lambda: running.out.endswith("\n") or process.returncode is not None)
        if not running.out:
            await self._note_end()
            return False
        self._clients.append(Client(running.out.split()[-1], self._issuer))
        return True

    @property
    def runs(self) -> bool:
        return self._program is not None and self._program.process.returncode is None

    async def kill(self) -> None:
        """SIGKILL."""
        self.program.process.kill()
        await self._note_end()

    async def end(self) -> int:
        """SIGTERM; returns the exit code."""
        self.program.process.terminate()
        return await self._note_end()

    def freeze(self) -> None:
        self.program.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.program.process.send_signal(signal.SIGCONT)

    async def close(self) -> None:
        if self.runs:
            self.wake()
            await self.kill()
        for client in self._clients:
            await client.channel.close()

    async def _note_end(self) -> int:
        code = await self.program.end()
        self.log += self.program.err
        self._program = None
        return code


class Fleet:
    """Replicas, their PostgreSQL and their EKS. ``faults`` are those made so far."""

    def __init__(self, server: PostgresServer, database: LedgerDatabase, eks: FleetEks) -> None:
        self.server = server
        self.database = database
        self.eks = eks
        self.replicas: list[Replica] = []
        self.faults: list[Fault] = []

    def __getitem__(self, index: int) -> Replica:
        return self.replicas[index]

    @property
    def running(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.runs]

    @contextmanager
    def fault(
        self, what: str, *replicas: Replica, database: bool = False, ends: bool = False
    ) -> Iterator[None]:
        """Note that a fault lasts as long as the block."""
        began, names = time(), frozenset(replica.name for replica in replicas)
        index = len(self.faults)
        self.faults.append(Fault(what, began, float("inf"), names, database, ends))
        try:
            yield
        finally:
            self.faults[index] = Fault(what, began, time(), names, database, ends)

    async def stop_postgres(self, mode: signal.Signals = signal.SIGINT) -> None:
        await asyncio.to_thread(self.server.stop, mode)

    async def start_postgres(self) -> None:
        await asyncio.to_thread(self.server.start)

    def freeze_postgres(self) -> None:
        self._signal_postgres(signal.SIGSTOP)

    def wake_postgres(self) -> None:
        self._signal_postgres(signal.SIGCONT)

    def _signal_postgres(self, number: signal.Signals) -> None:
        """To every process; the first one again, as it may have started one meanwhile."""
        first = self.server.pid
        os.kill(first, number)
        for pid in list_descendants(first):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def read_events(self) -> tuple[CommittedEvent, ...]:
        """The chain, with the time of each COMMIT."""
        statement = (
            "SELECT seq, time, kind, cancellation_id, body, prev_hash, hash,"
            " extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM eksgateway.events ORDER BY seq"
        )
        with psycopg.connect(self.database.superuser_url) as connection:
            rows = connection.execute(statement).fetchall()
        return tuple(CommittedEvent(Event(*row[:-1]), row[-1]) for row in rows)


@asynccontextmanager
async def run_fleet(path: Path, count: int = 3, **sections: Any) -> AsyncIterator[Fleet]:
    """Run replicas. ``sections`` are settings beside QUICK, as in ``support.gateway.settings_for``."""
    issuer = ThrowawayIssuer("test")
    sections = {name: QUICK.get(name, {}) | sections.get(name, {}) for name in QUICK.keys() | sections.keys()}
    (path / "data.yaml").write_text(yaml.safe_dump(POLICY_DATA))
    async with AsyncExitStack() as stack:
        # A crash of PostgreSQL must not lose what it wrote, so fsync stays on.
        server = await asyncio.to_thread(PostgresServer, settings={"track_commit_timestamp": "on"})
        stack.push_async_callback(asyncio.to_thread, server.close)
        await asyncio.to_thread(server.start)
        database = await asyncio.to_thread(_create_database, server.url())
        eks = await stack.enter_async_context(FleetEks())
        fleet = Fleet(server, database, eks)
        for name in NAMES[:count]:
            network = await stack.enter_async_context(Network(server.port))
            config = path / f"{name}.yaml"
            url = database.url.replace(f":{server.port}/", f":{network.port}/")
            _write_settings(config, settings_for(path, eks.url, issuer, **sections), url)
            replica = Replica(name, config, issuer, network)
            replica.set_access_key(eks.add_replica(name, ACCOUNT))
            fleet.replicas.append(replica)
            stack.push_async_callback(replica.close)
        await asyncio.gather(*(replica.start() for replica in fleet.replicas))
        yield fleet


def _create_database(superuser_url: str) -> LedgerDatabase:
    create_roles(superuser_url)
    database = LedgerDatabase(superuser_url, "fleet")
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE fleet OWNER {OWNER}")
    migrate_database(PostgresLocation(database.owner_url, SCHEMA), GATEWAY)
    return database


def _write_settings(config: Path, settings: Any, url: str) -> None:
    raw = settings.model_dump(mode="json", exclude_unset=True)
    ledger = {key: value for key, value in raw["ledger"].items() if key != "path"}
    config.write_text(yaml.safe_dump(raw | {"ledger": ledger | {"url": url}}))
