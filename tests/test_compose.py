"""compose.yaml, without containers: its commands, its secrets, and its roles on a real PostgreSQL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer.main
import yaml

from eksgateway.cli.main import app
from eksgateway.sandbox.postgres_programs import find_installation
from eksgateway.sandbox.postgres_server import PostgresServer
from eksgateway.settings.postgres_url import check_postgres_url
from support.processes import eksgateway_command, run_program

FILE = Path(__file__).parent.parent / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
GATEWAYS = [name for name in SERVICES if name.startswith("gateway-")]


def test_ports_are_open_on_loopback_only() -> None:
    """Each gateway has one, and the database none."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == [f"127.0.0.1:{50050 + number}:50051" for number in (1, 2, 3)]
    assert [name for name, service in SERVICES.items() if "ports" in service] == GATEWAYS


def test_passwords_come_from_the_environment() -> None:
    """Without one, `docker compose` names it and starts nothing."""
    variables = {
        name: value
        for service in SERVICES.values()
        for name, value in service["environment"].items()
        if "PASSWORD" in name
    }
    assert len(variables) == 4
    assert all(re.fullmatch(r"\$\{\w+_PASSWORD:\?[^}]+}", value) for value in variables.values())
    assert "password@" not in FILE.read_text().lower()


@pytest.mark.parametrize("name", ["migrate", *GATEWAYS])
def test_services_of_the_image_are_confined_and_run_its_commands(name: str) -> None:
    """A read-only root, no capabilities; in their order: database, migration, gateways."""
    service = SERVICES[name]
    assert (service["build"], service["read_only"], service["cap_drop"]) == (".", True, ["ALL"])
    after, condition = {
        "migrate": ("postgres", "service_healthy"),
        **dict.fromkeys(GATEWAYS, ("migrate", "service_completed_successfully")),
    }[name]
    assert service["depends_on"] == {after: {"condition": condition}}
    if "command" in service:
        group, command, *arguments = service["command"]
        commands = typer.main.get_command(app).commands[group].commands  # type: ignore[attr-defined]  # groups
        context = commands[command].make_context(command, arguments)
        assert check_postgres_url(context.params["url"])


def test_the_settings_that_its_comment_gives_are_valid() -> None:
    """The gateways' URL, whose host is not loopback."""
    (url,) = re.findall(r'ledger: \{url: "([^"]+)"}', FILE.read_text())
    assert check_postgres_url(url) == url


async def test_its_roles_and_its_migration_give_a_ledger() -> None:
    """The script for an empty volume, and the command of `migrate`, on a PostgreSQL from the wheel."""
    script = COMPOSE["configs"]["roles"]["content"].replace("$$", "$")
    passwords = {"OWNER_PASSWORD": "it's the owner's", "GATEWAY_PASSWORD": "gateway"}
    with PostgresServer() as server:
        server.start()
        programs = find_installation(18) / "bin"
        environment = {
            **passwords,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGPASSWORD": server.password,
        }
        async with run_program("sh", "-ec", script, env=environment) as roles:
            assert await roles.end() == 0, roles.err
        command = [
            word.replace("@postgres/", f"@127.0.0.1:{server.port}/")
            for word in SERVICES["migrate"]["command"]
        ]
        env = {"PGPASSWORD": passwords["OWNER_PASSWORD"]}
        async with run_program(*eksgateway_command(*command), env=env) as migrate:
            assert await migrate.end() == 0, migrate.err
        gateway = f"postgresql://eksgateway:gateway@127.0.0.1:{server.port}/eksgateway"
        with psycopg.connect(gateway) as connection:
            assert connection.execute("SELECT count(*) FROM eksgateway.events").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("DELETE FROM eksgateway.events")
