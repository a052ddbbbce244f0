"""PgBouncer in transaction mode, where the machine has one: no package of an index ships it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from eksgateway.sandbox.postgres_programs import ServerUser
from support.postgres import LedgerDatabase
from support.processes import run_program
from support.waiting import wait_until

PGBOUNCER: Final = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@asynccontextmanager
async def run_pooler(database: LedgerDatabase, connections: int) -> AsyncIterator[str]:
    """The gateway role's URL through a pool of so many connections to PostgreSQL."""
    assert PGBOUNCER is not None
    server = conninfo_to_dict(database.url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user = ServerUser.choose()
    place = user.make_folder("eksgateway-pooler-")
    try:
        (place / "users").write_text(f'"{server["user"]}" "{server["password"]}"\n')
        (place / "ini").write_text(
            f"[databases]\n{database.name} = host={server['host']} port={server['port']}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = plain\nauth_file = {place}/users\n"
            f"pool_mode = transaction\ndefault_pool_size = {connections}\n"
        )
        url = database.url.replace(f":{server['port']}/", f":{port}/")
        async with run_program(*user.command(PGBOUNCER, place / "ini")) as running:
            await wait_until(lambda: _answers(url) or running.process.returncode is not None)
            assert running.process.returncode is None, running.err
            yield url
    finally:
        shutil.rmtree(place)


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False
