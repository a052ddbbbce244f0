"""A real PostgreSQL for tests: one server for each test process, and a database for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from eksgateway.sandbox.postgres_server import PostgresServer

OWNER = "eksgateway_owner"
GATEWAY = "eksgateway"


@contextmanager
def run_postgres(version: int = 18, **settings: str) -> Iterator[str]:
    """The superuser's URL: of EKSGATEWAY_TEST_POSTGRES, or of a server of its own. Both roles exist."""
    given = os.environ.get("EKSGATEWAY_TEST_POSTGRES")
    if given and version == 18 and not settings:
        create_roles(given)
        yield given
        return
    server = PostgresServer(version, settings=settings)
    try:
        create_roles(server.start().url())
        yield server.url()
    finally:
        server.close()


def create_roles(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for role in (OWNER, GATEWAY):
            exists = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            if not exists:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))


@contextmanager
def create_database(superuser_url: str) -> Iterator[str]:
    """The name of an empty database that the role OWNER owns."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        quoted = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(quoted, sql.Identifier(OWNER)))
        try:
            yield name
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))


def as_role(superuser_url: str, database: str, role: str) -> str:
    """The URL of a database for a role."""
    parts = psycopg.conninfo.conninfo_to_dict(superuser_url)
    host, port = parts["host"], parts.get("port", 5432)
    return f"postgresql://{role}@{host}:{port}/{database}"
