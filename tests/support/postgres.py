"""A real PostgreSQL for tests: one server for each test process, and a database for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from eksgateway.ledger.postgres.migration import migrate_database
from eksgateway.sandbox.postgres_server import PostgresServer
from eksgateway.settings import PostgresLocation

OWNER = "eksgateway_owner"
GATEWAY = "eksgateway"
SCHEMA = "eksgateway"

_templates: dict[str, str] = {}  # a migrated database of each server


@contextmanager
def run_postgres(version: int = 18, **settings: str) -> Iterator[str]:
    """The superuser's URL: of EKSGATEWAY_TEST_POSTGRES, or of a server of its own. Both roles exist."""
    given = os.environ.get("EKSGATEWAY_TEST_POSTGRES")
    if given and version == 18 and not settings:
        create_roles(given)
        yield given
        if given in _templates:
            drop_database(given, _templates.pop(given))
        return
    with PostgresServer(version, settings=settings) as server:
        create_roles(server.start().url())
        yield server.url()


def create_roles(url: str) -> None:
    """Both roles get the superuser's password. They may exist: another test process shares a given server."""
    password = psycopg.conninfo.conninfo_to_dict(url).get("password")
    with psycopg.connect(url, autocommit=True) as connection:
        for role in (OWNER, GATEWAY):
            create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                connection.execute(create.format(sql.Identifier(role), sql.Literal(password)))


@contextmanager
def create_database(superuser_url: str, template: str = "template1") -> Iterator[str]:
    """The name of a database that the role OWNER owns. It is empty, or a copy of another one."""
    name = _create(superuser_url, template)
    try:
        yield name
    finally:
        drop_database(superuser_url, name)


def _create(superuser_url: str, template: str) -> str:
    name = f"test_{uuid.uuid4().hex[:12]}"
    statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(statement.format(*map(sql.Identifier, (name, OWNER, template))))
    return name


def drop_database(superuser_url: str, name: str) -> None:
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass(frozen=True)
class LedgerDatabase:
    """A migrated database for one test. ``url`` is for a gateway."""

    server_url: str
    name: str

    @property
    def url(self) -> str:
        return as_role(self.server_url, self.name, GATEWAY)

    @property
    def owner_url(self) -> str:
        return as_role(self.server_url, self.name, OWNER)

    @property
    def superuser_url(self) -> str:
        user = psycopg.conninfo.conninfo_to_dict(self.server_url)["user"]
        return as_role(self.server_url, self.name, str(user))

    def refuse_connections(self, *, refuse: bool = True) -> None:
        """End every connection, and let none be made."""
        alter = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(alter.format(sql.Identifier(self.name), sql.Literal(not refuse)))
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self.name]
            )


@contextmanager
def create_ledger(superuser_url: str) -> Iterator[LedgerDatabase]:
    """A copy of a database that is migrated once for each server."""
    if superuser_url not in _templates:
        template = _create(superuser_url, "template1")
        migrate_database(PostgresLocation(as_role(superuser_url, template, OWNER), SCHEMA), GATEWAY)
        _templates[superuser_url] = template
    with create_database(superuser_url, _templates[superuser_url]) as name:
        yield LedgerDatabase(superuser_url, name)


def as_role(superuser_url: str, database: str, role: str) -> str:
    """The URL of a database for a role."""
    parts = psycopg.conninfo.conninfo_to_dict(superuser_url)
    host, port, password = parts["host"], parts.get("port", 5432), parts.get("password", "")
    return f"postgresql://{role}:{password}@{host}:{port}/{database}"


def superuser_url(url: str) -> str:
    """The superuser's URL of a database in a test's server, from any role's."""
    given = os.environ.get("EKSGATEWAY_TEST_POSTGRES", "postgresql://postgres@127.0.0.1")
    parts = psycopg.conninfo.conninfo_to_dict(url)
    return as_role(url, str(parts["dbname"]), str(psycopg.conninfo.conninfo_to_dict(given)["user"]))
