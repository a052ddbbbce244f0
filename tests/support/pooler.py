"""PgBouncer in transaction mode, where it is installed (Debian's package pgbouncer)."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict

from eksgateway.sandbox.postgres_programs import ServerUser
from support.ports import find_free_port
from support.waiting import wait_until

PGBOUNCER: Final = os.environ.get("EKSGATEWAY_TEST_PGBOUNCER") or shutil.which("pgbouncer")


@asynccontextmanager
async def run_pooler(url: str) -> AsyncIterator[str]:
    """Pool the connections to a URL's server; yields the URL that leads through the pooler."""
    assert PGBOUNCER is not None
    server, port = conninfo_to_dict(url), find_free_port()
    with tempfile.TemporaryDirectory(prefix="eksgateway-pooler-") as folder:
        settings = _write_settings(Path(folder), server, port)
        user = ServerUser.choose()  # PgBouncer refuses to run as root, as PostgreSQL does
        os.chown(folder, user.uid, user.gid)
        process = await asyncio.create_subprocess_exec(
            *user.command(PGBOUNCER, "-q", settings), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await wait_until(lambda: _listens(port))
            yield url.replace(f":{server['port']}/", f":{port}/")
        finally:
            process.terminate()
            await process.wait()


def _write_settings(folder: Path, server: dict[str, Any], port: int) -> Path:
    users, settings = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{server["user"]}" "{server["password"]}"\n')
    settings.write_text(
        f"[databases]\n* = host={server['host']} port={server['port']}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"pool_mode = transaction\nauth_type = plain\nauth_file = {users}\n"
    )
    return settings


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
