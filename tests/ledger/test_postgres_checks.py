"""A gateway's start on PostgreSQL: each fault is named with its remedy, and nothing is changed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from eksgateway.clock import SystemClock
from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.postgres.checks import check_database
from eksgateway.ledger.postgres.connecting import connect
from eksgateway.ledger.postgres.connection_errors import find_remedy
from eksgateway.ledger.postgres.migration import migrate_database
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.ledger.verify import verify
from eksgateway.sandbox.postgres_server import PostgresServer
from eksgateway.settings import LedgerSettings, PostgresLocation
from support.logs import capture_logs
from support.postgres import GATEWAY, OWNER, LedgerDatabase, as_role, create_ledger, create_roles
from support.records import intent
from support.waiting import wait_until

MIGRATE = re.escape("run `eksgateway ledger migrate --url OWNER_URL")


def check(url: str) -> list[dict[str, Any]]:
    """The warnings."""
    with connect(PostgresLocation(url)) as connection, capture_logs() as events:
        check_database(connection, LedgerSettings(url=url))
    return events


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def in_database(statement: str) -> str:
    """The statement with the name of the database in it."""
    quoted = statement.replace("'", "''")
    return f"DO $$ BEGIN EXECUTE format('{quoted}', current_database()); END $$"


def dump(url: str) -> list[tuple[Any, ...]]:
    """All that a start could change."""
    with psycopg.connect(url) as connection:
        return [
            *connection.execute("SELECT oid, relname, relacl::text FROM pg_class ORDER BY oid"),
            *connection.execute("SELECT nspname, nspacl::text FROM pg_namespace ORDER BY oid"),
            *connection.execute("SELECT tgname, tgenabled::text FROM pg_trigger ORDER BY oid"),
        ]


def test_a_migrated_database_passes(ledger_database: LedgerDatabase) -> None:
    """Without a warning."""
    assert check(ledger_database.url) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param(
            "DROP SCHEMA eksgateway CASCADE",
            f"there is no ledger in the schema eksgateway: {MIGRATE}`",
            id="schema missing",
        ),
        pytest.param(
            "DROP SCHEMA eksgateway CASCADE; CREATE SCHEMA eksgateway AUTHORIZATION eksgateway_owner",
            f"there is no ledger in the schema eksgateway: {MIGRATE}`",
            id="schema empty",
        ),
        pytest.param(
            "DROP TABLE eksgateway.alembic_version",
            "the schema eksgateway has tables that are no ledger: name another schema",
            id="foreign",
        ),
        pytest.param(
            "ALTER TABLE eksgateway.events RENAME TO happenings",
            "the schema eksgateway has tables that are no ledger: name another schema",
            id="alembic's, of another program",
        ),
        pytest.param(
            "UPDATE eksgateway.alembic_version SET version_num = '0001'",
            rf"an older version made this ledger \(schema 0001, and this version's is 0002\): {MIGRATE}`",
            id="older",
        ),
        pytest.param(
            "UPDATE eksgateway.alembic_version SET version_num = '0004'",
            r"by a newer version \(schema 0004, and this version knows up to 0003\): use that version",
            id="two revisions newer",
        ),
        pytest.param(
            "UPDATE eksgateway.alembic_version SET version_num = 'ae1027a6acf'",
            "does not know the schema 'ae1027a6acf'",
            id="unknown",
        ),
        pytest.param(
            "DROP TABLE eksgateway.looks",
            "the schema eksgateway lacks looks: restore the database from a backup",
            id="table missing",
        ),
        pytest.param(
            "REVOKE USAGE ON SCHEMA eksgateway FROM eksgateway",
            f"the role eksgateway lacks USAGE on the schema eksgateway: {MIGRATE} --role eksgateway`",
            id="no right on the schema",
        ),
        pytest.param(
            "REVOKE SELECT ON eksgateway.alembic_version FROM eksgateway",
            "the role eksgateway lacks SELECT on alembic_version: ",
            id="no right to read the revision",
        ),
        pytest.param(
            "REVOKE INSERT ON eksgateway.events FROM eksgateway;"
            " REVOKE UPDATE ON eksgateway.cancellations FROM eksgateway;"
            " REVOKE EXECUTE ON FUNCTION eksgateway.draw FROM eksgateway",
            "the role eksgateway lacks INSERT on events, UPDATE on cancellations, EXECUTE on draw: ",
            id="rights missing",
        ),
        pytest.param(
            in_database("ALTER DATABASE %I CONNECTION LIMIT 7"),
            r"a gateway needs 8 connections \(`ledger.connections`\), and this role may have 7 here: raise",
            id="connections",
        ),
        pytest.param(
            in_database("ALTER DATABASE %I SET DateStyle = 'German'"),
            "DateStyle is German, DMY: ALTER ROLE eksgateway SET DateStyle = 'ISO'",
            id="style of dates",
        ),
        pytest.param(
            in_database("ALTER DATABASE %I SET default_transaction_isolation = 'repeatable read'"),
            "default_transaction_isolation is repeatable read: ALTER ROLE eksgateway SET",
            id="isolation",
        ),
    ],
)
def test_a_start_refuses(ledger_database: LedgerDatabase, change: str, error: str) -> None:
    run(ledger_database.superuser_url, change)
    before = dump(ledger_database.superuser_url)
    with pytest.raises(LedgerError, match=error) as raised:
        check(ledger_database.url)
    assert str(raised.value).startswith(f"{PostgresLocation(ledger_database.url)}: ")
    assert dump(ledger_database.superuser_url) == before


async def test_commands_read_a_database_with_another_style_of_dates(ledger_database: LedgerDatabase) -> None:
    """As the owner has it, where the gateway's role has another one."""
    ledger = await open_ledger(LedgerSettings(url=ledger_database.url), SystemClock())
    await ledger.commit_intent(intent(), 5)
    await ledger.close()
    run(ledger_database.superuser_url, in_database("ALTER DATABASE %I SET DateStyle = 'SQL, DMY'"))
    assert verify(PostgresLocation(ledger_database.owner_url)).broken is None


def test_the_next_revision_passes(ledger_database: LedgerDatabase) -> None:
    """Gateways are replaced one by one after their successor has migrated."""
    run(ledger_database.superuser_url, "UPDATE eksgateway.alembic_version SET version_num = '0003'")
    assert check(ledger_database.url) == []


@pytest.mark.parametrize(
    ("change", "may"),
    [
        ("GRANT UPDATE, TRUNCATE ON eksgateway.events TO eksgateway", "UPDATE on events, TRUNCATE on events"),
        ("GRANT DELETE ON eksgateway.cancellations TO PUBLIC", "DELETE on cancellations"),
        ("GRANT REFERENCES ON eksgateway.decisions TO eksgateway", "REFERENCES on decisions"),
        ("GRANT MAINTAIN ON eksgateway.budget TO eksgateway", "MAINTAIN on budget"),
        ("GRANT CREATE ON SCHEMA eksgateway TO eksgateway", "CREATE in the schema"),
        ("ALTER TABLE eksgateway.looks OWNER TO eksgateway", "everything in the schema, as its owner"),
        ("ALTER SCHEMA eksgateway OWNER TO eksgateway", "everything in the schema, as its owner"),
    ],
)
def test_a_role_with_more_rights_is_reported(ledger_database: LedgerDatabase, change: str, may: str) -> None:
    """The gateway starts all the same."""
    run(ledger_database.superuser_url, change)
    (warning,) = check(ledger_database.url)
    assert (warning["event"], warning["role"], warning["may"]) == ("ledger.role_may_too_much", GATEWAY, may)


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("owner_url", "everything in the schema, as its owner"),
        ("superuser_url", "everything, as a superuser"),
    ],
)
def test_an_owner_or_superuser_is_reported(ledger_database: LedgerDatabase, role: str, may: str) -> None:
    (warning,) = check(getattr(ledger_database, role))
    assert (warning["event"], warning["may"]) == ("ledger.role_may_too_much", may)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DROP TRIGGER events_refuse_changes ON eksgateway.events", "is missing"),
        ("ALTER TABLE eksgateway.events DISABLE TRIGGER events_refuse_changes", "is not enabled ALWAYS"),
        # As `pg_restore --disable-triggers` leaves it.
        ("ALTER TABLE eksgateway.events ENABLE TRIGGER events_refuse_changes", "is not enabled ALWAYS"),
    ],
)
def test_a_weak_trigger_is_reported_and_migrate_restores_it(
    ledger_database: LedgerDatabase, change: str, reason: str
) -> None:
    run(ledger_database.owner_url, change)
    (warning,) = check(ledger_database.url)
    assert warning["event"] == "ledger.events_can_be_changed"
    assert warning["reason"] == f"the trigger events_refuse_changes {reason}"
    migrate_database(PostgresLocation(ledger_database.owner_url), GATEWAY)
    assert check(ledger_database.url) == []


def test_a_missing_function_is_named_and_migrate_restores_it(ledger_database: LedgerDatabase) -> None:
    run(ledger_database.owner_url, "DROP FUNCTION eksgateway.draw")
    with pytest.raises(LedgerError, match=f"lacks the function draw: {MIGRATE} --role eksgateway`"):
        check(ledger_database.url)
    migrate_database(PostgresLocation(ledger_database.owner_url), GATEWAY)
    assert check(ledger_database.url) == []


def test_few_connections_are_reported(ledger_database: LedgerDatabase) -> None:
    """For the gateways that are alive, and this one."""
    run(
        ledger_database.superuser_url,
        "INSERT INTO eksgateway.replicas"
        " SELECT gen_random_uuid(), 'r', 'v', clock_timestamp(), clock_timestamp() - age * interval '1 s'"
        " FROM unnest(array[0, 5, 15]) AS age",
        in_database("ALTER DATABASE %I CONNECTION LIMIT 23"),
    )
    (warning,) = check(ledger_database.url)
    assert warning["event"] == "ledger.few_connections"
    assert (warning["possible"], warning["needed"], warning["gateways"]) == (23, 24, 3)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that tests may set up wrongly."""
    with PostgresServer() as server:
        create_roles(server.start().url())
        yield server


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_loses_commits_is_refused(server: PostgresServer, setting: str) -> None:
    """Except Aurora, whose storage needs neither setting."""
    with create_ledger(server.url()) as database:
        run(server.url(), f"ALTER SYSTEM SET {setting} = off", "SELECT pg_reload_conf()")

        def is_off() -> bool:
            with psycopg.connect(database.url) as connection:
                return connection.execute(f"SHOW {setting}").fetchone() == ("off",)

        await wait_until(is_off)
        with pytest.raises(LedgerError, match=f"{setting} is off, .*: set {setting} = on in postgresql.conf"):
            check(database.url)
        run(
            database.superuser_url,
            "CREATE FUNCTION aurora_version() RETURNS text LANGUAGE sql AS $$ SELECT '17.5.0' $$",
        )
        assert check(database.url) == []
        run(server.url(), f"ALTER SYSTEM RESET {setting}", "SELECT pg_reload_conf()")
        await wait_until(lambda: not is_off())


def test_an_encoding_other_than_utf_8_is_refused(postgres: str) -> None:
    name = f"test_{uuid.uuid4().hex[:12]}"
    create = f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
    run(postgres, create)
    try:
        with pytest.raises(LedgerError, match="the database's encoding is LATIN1: create it with ENCODING"):
            check(as_role(postgres, name, GATEWAY))
    finally:
        run(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(
    ("change", "url", "error"),
    [
        ("", "postgresql://nobody:x@{place}", "or correct the user in the URL"),
        ("", "postgresql://eksgateway:wrong@{place}", "give the role's password by PGPASSFILE"),
        ("", "postgresql://eksgateway@{place}", "give the role's password by PGPASSFILE"),
        ("", "{url}_no", "create the database, or correct its name in the URL"),
        (
            "",
            "postgresql://u:secret@127.0.0.1:1/x",
            "see that PostgreSQL runs, and that this host reaches it",
        ),
        ("", "postgresql://u:secret@no.invalid/x?sslmode=require", "see that PostgreSQL runs"),
        ("", "postgresql://u:secret@a..b/x?sslmode=require", "not a name of a host"),
        (
            "",
            "postgresql://u:secret@/x?host=127.0.0.1,127.0.0.1&port=1,2,3",
            "(correct this option of the URL)",
        ),
        ("", "postgresql://u:secret%ff@127.0.0.1/x", "this is no URL of PostgreSQL: write it as"),
        ("", "postgresql://u:sec%ret@127.0.0.1/x", "write % in the user's name and password as %25"),
        ("", "{url}?pasword=secret", "URLs have no option pasword: remove it, or correct its spelling"),
        ("", "{url}?sslmode=no", 'invalid sslmode value: "no" (correct this option of the URL)'),
        ("", "{url}?options=-cno%3D1", "correct this option of the URL"),
        ("", "{url}?sslmode=require", "switch TLS on in PostgreSQL, or set the sslmode that this network"),
        ("ALTER ROLE eksgateway NOLOGIN", "{url}", "let the role log in (ALTER ROLE … LOGIN)"),
        ("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC", "{url}", "let the role connect (GRANT CONNECT ON"),
        (
            "ALTER DATABASE {name} CONNECTION LIMIT 0",
            "{url}",
            "raise max_connections or the CONNECTION LIMIT",
        ),
        ("ALTER DATABASE {name} SET default_transaction_read_only = on", "{url}", "this is a standby"),
    ],
)
async def test_a_connection_that_fails_is_explained(
    server: PostgresServer, change: str, url: str, error: str
) -> None:
    """The start ends, and its error has the remedy, and no password."""
    with create_ledger(server.url()) as database:
        url = url.format(url=database.url, place=database.url.partition("@")[2])
        if change:
            run(server.url(), change.format(name=database.name))
        try:
            with pytest.raises(LedgerError, match=re.escape(error)) as raised:
                await open_ledger(LedgerSettings(url=url), SystemClock())
        finally:
            run(server.url(), "ALTER ROLE eksgateway LOGIN")
    assert server.password not in str(raised.value)
    assert "sec" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ('server certificate for "a" does not match host name "b"', "connect by a name in its certificate"),
        ("SSL error: certificate verify failed", "set sslrootcert to the file of the server's CA"),
        ('root certificate file "/root/.postgresql/root.crt" does not exist', "set sslrootcert to the file"),
        ('no pg_hba.conf entry for host "10.1.1.1", user "u", database "d", no encryption', "with the TLS"),
        ("die Datenbank existiert nicht", ""),
    ],
)
def test_remedies_of_tls_errors(text: str, remedy: str) -> None:
    """As libpq 18 writes them: the PostgreSQL of the tests has no TLS."""
    assert remedy in find_remedy(text)
    assert bool(remedy) == bool(find_remedy(text))


async def test_a_standby_is_refused_and_may_be_read() -> None:
    """By a start; `verify` needs no primary."""
    with PostgresServer() as server:
        create_roles(server.start().url())
        with create_ledger(server.url()) as database:
            server.stop()
            assert server.folder is not None
            (server.folder / "data" / "standby.signal").touch()
            server.start()
            for url in (database.url, f"{database.url}?target_session_attrs=any"):
                with pytest.raises(LedgerError, match=r"this is a standby.*: let .* lead to the primary"):
                    await open_ledger(LedgerSettings(url=url), SystemClock())
            assert verify(PostgresLocation(database.url)).broken is None
            server.stop()
            (server.folder / "data" / "standby.signal").unlink()
            server.start()
