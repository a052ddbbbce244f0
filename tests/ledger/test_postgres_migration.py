"""`migrate` on PostgreSQL: the schema, the gateway's rights, and the events that no role may change."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.migrate import REVISION
from eksgateway.ledger.postgres.migration import migrate_database
from eksgateway.ledger.postgres.owner import begin_change
from eksgateway.settings import PostgresLocation
from support.postgres import GATEWAY, OWNER, LedgerDatabase, as_role, create_database

ADD_EVENT = "INSERT INTO eksgateway.events VALUES (1, 't', 'intent', 'c', '{}', 'p', 'h')"


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


async def test_several_first_starts_at_once_create_one_schema(postgres: str) -> None:
    """One creates it, and the others find it."""
    with create_database(postgres) as name:
        url = as_role(postgres, name, OWNER)
        found = await asyncio.gather(
            *(asyncio.to_thread(migrate_database, PostgresLocation(url), GATEWAY) for _ in range(4))
        )
        assert sorted(each.before for each in found) == ["", REVISION, REVISION, REVISION]
        assert run(url, "SELECT version_num FROM eksgateway.alembic_version") == [(REVISION,)]


def test_text_columns_sort_as_python_does(ledger_database: LedgerDatabase) -> None:
    columns = run(
        ledger_database.owner_url,
        "SELECT DISTINCT collation_name FROM information_schema.columns"
        " WHERE table_schema = 'eksgateway' AND data_type = 'text'",
    )
    assert columns == [("C",)]


@pytest.mark.parametrize("role", ["owner", "gateway", "superuser"])
@pytest.mark.parametrize("replication", ["origin", "replica"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE eksgateway.events SET kind = 'x'",
        "DELETE FROM eksgateway.events",
        "TRUNCATE eksgateway.events",
    ],
)
def test_events_are_not_changed(
    ledger_database: LedgerDatabase, role: str, replication: str, statement: str
) -> None:
    """The trigger stops the owner and the superuser, also as a replica; the gateway's role has no right."""
    run(ledger_database.url, ADD_EVENT)
    url = {
        "owner": ledger_database.owner_url,
        "gateway": ledger_database.url,
        "superuser": ledger_database.superuser_url,
    }[role]
    error: type[psycopg.Error] = psycopg.errors.RaiseException
    if role == "gateway":
        error = psycopg.errors.InsufficientPrivilege
    with psycopg.connect(url, autocommit=True) as connection:
        if role == "superuser":
            connection.execute(f"SET session_replication_role = {replication}")
        with pytest.raises(error):
            connection.execute(statement)
    assert run(ledger_database.url, "SELECT seq FROM eksgateway.events") == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER events_refuse_changes ON eksgateway.events",
        "ALTER TABLE eksgateway.events DISABLE TRIGGER ALL",
        "ALTER TABLE eksgateway.events DISABLE TRIGGER events_refuse_changes",
        "CREATE OR REPLACE FUNCTION eksgateway.refuse_change() RETURNS trigger LANGUAGE plpgsql AS ''",
        "SET session_replication_role = replica",
        "DROP TABLE eksgateway.events",
        "DROP SCHEMA eksgateway CASCADE",
        "CREATE TABLE eksgateway.other (id int)",
        "DELETE FROM eksgateway.cancellations",
        "UPDATE eksgateway.decisions SET body = ''",
        "UPDATE eksgateway.alembic_version SET version_num = '9999'",
    ],
)
def test_the_gateways_role_cannot_change_the_schema(ledger_database: LedgerDatabase, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(ledger_database.url, statement)


def test_migrate_needs_the_owner(ledger_database: LedgerDatabase, postgres: str) -> None:
    """The gateways' role can neither migrate nor create a ledger."""
    with pytest.raises(LedgerError, match="this role does not own the schema eksgateway: use a URL of its"):
        migrate_database(PostgresLocation(ledger_database.url), GATEWAY)
    with create_database(postgres) as name:
        url = as_role(postgres, name, GATEWAY)
        with pytest.raises(
            LedgerError, match=r"permission denied for database .*: use a URL of the ledger's"
        ):
            migrate_database(PostgresLocation(url), GATEWAY)


def test_migrate_takes_other_rights_back(ledger_database: LedgerDatabase) -> None:
    """Also those that the gateways' role has through PUBLIC."""
    owner = ledger_database.owner_url
    run(owner, "GRANT ALL ON ALL TABLES IN SCHEMA eksgateway TO PUBLIC")
    migrate_database(PostgresLocation(owner), GATEWAY)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(ledger_database.url, "DELETE FROM eksgateway.cancellations")


def test_migrate_fails_behind_a_program_that_holds_a_table(ledger_database: LedgerDatabase) -> None:
    """The gateways would wait behind it. Once that program has ended, it goes through."""
    location = PostgresLocation(ledger_database.owner_url)
    run(ledger_database.owner_url, "DROP TRIGGER events_refuse_changes ON eksgateway.events")
    with psycopg.connect(ledger_database.url) as other:
        other.execute(ADD_EVENT)
        with pytest.raises(LedgerError, match=r"lock timeout .*or a program, holds the lock"):
            migrate_database(location, GATEWAY)
    migrate_database(location, GATEWAY)
    with pytest.raises(psycopg.errors.RaiseException):
        run(ledger_database.owner_url, "TRUNCATE eksgateway.events")


def test_changes_of_the_owner_wait_for_the_disk(ledger_database: LedgerDatabase) -> None:
    """Also where the role has it otherwise in this database."""
    name = ledger_database.name
    off = f"ALTER ROLE {OWNER} IN DATABASE {name} SET synchronous_commit = off"
    run(ledger_database.superuser_url, off)
    assert run(ledger_database.owner_url, "SHOW synchronous_commit") == [("off",)]
    with begin_change(PostgresLocation(ledger_database.owner_url)) as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


def test_migrate_refuses_a_missing_role(postgres: str) -> None:
    """Nothing is created."""
    with create_database(postgres) as name:
        url = as_role(postgres, name, OWNER)
        with pytest.raises(LedgerError, match="there is no role nobody_here for the gateways: create it"):
            migrate_database(PostgresLocation(url), "nobody_here")
        assert run(url, "SELECT FROM pg_namespace WHERE nspname = 'eksgateway'") == []
