"""The sandbox with replicas: its info file, faults and end, and the databases of its users."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from eksgateway.client import ErrorDetails
from eksgateway.sandbox.postgres_server import PostgresServer
from support.processes import eksgateway_command, is_alive, list_descendants, list_names, run_program
from support.sandbox import Sandbox, run_sandbox
from support.waiting import wait_until


def addresses(here: Sandbox) -> list[str]:
    return [each["grpc"] for each in here.info["gateways"]]


def pids(here: Sandbox) -> list[int]:
    return [each["pid"] for each in here.info["gateways"]]


def data_folder(here: Sandbox) -> Path:
    """PostgreSQL's, where it works."""
    return Path(f"/proc/{here.pids['postgres']}/cwd").readlink()


async def ids(here: Sandbox, address: str) -> list[str]:
    """Of all cancellations, newest first."""
    return [each.cancellation_id for each in await here.history(address=address)]


async def test_replicas_share_a_ledger_and_end_without_leftovers(tmp_path: Path) -> None:
    """A cancel at one is known to all. Processes, info file and folders are gone after SIGTERM."""
    async with run_sandbox(tmp_path, "--replicas", "3") as here:
        info = here.info
        assert "ledger" not in info
        assert info["gateways"][0] == {
            "grpc": info["grpc"],
            "http": info["http"],
            "pid": info["pids"]["gateway"],
        }
        assert len(set(addresses(here))) == len(set(pids(here))) == 3
        family = list_descendants(here.pid)
        assert {*pids(here), info["pids"]["simulator"], info["pids"]["postgres"]} <= family
        data = data_folder(here)
        first, second, third = addresses(here)
        made = [
            (await here.cancel("oncall", cluster, address=address)).cancellation_id
            for cluster, address in (("staging-1", second), ("staging-2", third))
        ]
        for address in (first, second, third):
            assert await ids(here, address) == made[::-1]
        with psycopg.connect(info["database"]) as connection:
            rows = connection.execute("SELECT cancellation_id FROM eksgateway.cancellations").fetchall()
            assert {each for (each,) in rows} == set(made)
        variables, verify = re.findall(
            r"^  (\. \S+|.*eksgateway ledger verify.*)$", here.process.out, re.MULTILINE
        )
        # `ps` shows the arguments of the command.
        async with run_program("sh", "-c", f"{variables}\n{verify} && echo $DATABASE") as shell:
            assert await shell.end() == 0
            assert "Sound: " in shell.out
            assert info["database"].split(":")[2].partition("@")[0] not in shell.out
        here.process.process.terminate()
        assert await here.process.end() == 0
        assert here.process.err == ""
        assert not any(is_alive(pid) for pid in family)
        assert list_names(tmp_path) == []
        assert not data.parent.exists()


async def test_a_killed_replica_is_reported_and_started_again(tmp_path: Path) -> None:
    """On its port. The other one serves meanwhile."""
    async with run_sandbox(tmp_path, "--replicas", "2") as here:
        before = here.info
        os.kill(pids(here)[1], signal.SIGKILL)
        made = await here.cancel("oncall", "staging-1")
        await wait_until(lambda: pids(here)[1] != before["gateways"][1]["pid"])
        assert addresses(here) == [each["grpc"] for each in before["gateways"]]
        assert pids(here)[0] == before["gateways"][0]["pid"]
        assert await ids(here, addresses(here)[1]) == [made.cancellation_id]
        assert "Gateway 2 ended (SIGKILL)." in here.process.out
        await wait_until(lambda: "Gateway 2 runs again with the same port" in here.process.out)
        assert f"pid {pids(here)[1]}" in here.process.out


async def test_postgresql_that_ends_is_started_again(tmp_path: Path) -> None:
    """Cancels fail before anything is sent until it runs again, with the same data."""
    async with run_sandbox(tmp_path, "--replicas", "1") as here:
        made = await here.cancel("oncall", "staging-1")
        before = here.pids["postgres"]
        os.kill(before, signal.SIGINT)
        await wait_until(lambda: "PostgreSQL ended (exit code 0)." in here.process.out)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await here.cancel("oncall", "staging-2")
        assert ErrorDetails.of(caught.value).reason == "LEDGER_UNAVAILABLE"
        await wait_until(lambda: here.pids["postgres"] != before)
        assert await ids(here, here.info["grpc"]) == [made.cancellation_id]


async def test_processes_end_when_it_is_killed(tmp_path: Path) -> None:
    """PostgreSQL too, and its folder is gone."""
    async with run_sandbox(tmp_path, "--replicas", "1") as here:
        family = list_descendants(here.pid)
        data = data_folder(here)
        here.process.process.kill()
        await wait_until(lambda: not any(is_alive(pid) for pid in family))
        assert not data.parent.exists()


def read(url: str, query: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        return [value for (value,) in cursor.fetchall()] if cursor.description else []


NAMES = "SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%'"


async def test_a_database_of_the_user_is_left_as_it_was(tmp_path: Path) -> None:
    """By a role that may create roles and databases: what is created is printed, and dropped at the end."""
    with PostgresServer() as server:
        server.start()
        read(
            server.url(),
            f"CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD '{server.password}'",
        )
        before = sorted(read(server.url(), NAMES))
        url = server.url(user="admin")
        async with run_sandbox(tmp_path, "--replicas", "2", "--database", url) as here:
            name = here.info["database"].rpartition("/")[2]
            assert "postgres" not in here.pids
            created = {name, f"{name}_owner"}
            assert set(read(server.url(), NAMES)) - set(before) == created
            assert all(each in here.process.out for each in created)
            assert server.password not in here.process.out
            await here.cancel("oncall", "staging-1", address=addresses(here)[1])
            here.process.process.terminate()
            assert await here.process.end() == 0
            assert here.process.err == ""
        assert sorted(read(server.url(), NAMES)) == before


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        pytest.param(["--replicas", "0"], "--replicas 0: must be between 1 and 20", id="none"),
        pytest.param(["--replicas", "21"], "--replicas 21: must be between 1 and 20", id="too many"),
        pytest.param(["--database", "postgresql://a@127.0.0.1/b"], "--database needs --replicas", id="alone"),
        pytest.param(
            ["--replicas", "1", "--database", "mysql://a:secret@127.0.0.1/b"],
            "--database: write it as postgresql://user@host/database",
            id="not PostgreSQL's",
        ),
        pytest.param(
            ["--replicas", "1", "--database", "postgresql://a:secret@db.example/b"],
            "--database: db.example is not loopback, and the URL demands no TLS",
            id="without TLS",
        ),
        *(
            pytest.param(["--port", "0", "--replicas", "1", "--database", url], fault, id=fault)
            for url, fault in (
                ("postgresql://a:secret@[::1/b", "--database postgresql://a@[::1/b: this is no URL of"),
                ("postgresql://a:se%cret@localhost/b", "write % in the user's name and password as %25"),
                ("postgresql://a:secret@a..b/b?sslmode=require", "could not resolve host: not a name of"),
            )
        ),
        pytest.param(
            ["--port", "0", "--replicas", "1", "--database", "postgresql://a:secret@127.0.0.1:1/b"],
            "--database postgresql://a@127.0.0.1:1/b: connection failed",
            id="not reachable",
        ),
    ],
)
async def test_unusable_options_are_refused(options: list[str], fault: str) -> None:
    """In one line, without the password."""
    async with run_program(*eksgateway_command("sandbox", *options)) as process:
        assert await process.end() == 1
        assert fault in " ".join(process.err.split())
        assert "secret" not in process.err + process.out
        assert "Traceback" not in process.err


@pytest.mark.parametrize("right", ["CREATEROLE", "CREATEDB"])
async def test_a_role_with_too_few_rights_is_refused(tmp_path: Path, right: str) -> None:
    """The error names the rights, and nothing is left on the server."""
    with PostgresServer() as server:
        server.start()
        read(server.url(), f"CREATE ROLE weak LOGIN {right} PASSWORD '{server.password}'")
        before = sorted(read(server.url(), NAMES))
        command = eksgateway_command(
            "sandbox", "--port", "0", "--replicas", "1", "--database", server.url(user="weak")
        )
        async with run_program(*command, env={"TMPDIR": str(tmp_path)}) as process:
            assert await process.end() == 1
            assert "CREATEROLE, CREATEDB" in process.err
            assert "Not dropped" not in process.out
        assert sorted(read(server.url(), NAMES)) == before
        assert list_names(tmp_path) == []
