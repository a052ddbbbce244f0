"""Two versions of the schema side by side, as while gateways are replaced one by one."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from eksgateway.clock import SystemClock
from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.postgres.migration import migrate_database
from eksgateway.ledger.postgres.owner import begin_change
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.ledger.verify import verify
from eksgateway.settings import LedgerSettings, PostgresLocation
from support.postgres import GATEWAY, LedgerDatabase
from support.records import intent
from support.waiting import wait_until


def migrate_to(database: LedgerDatabase, revision: str) -> None:
    """As a later version's migration, which adds columns that may be empty."""
    with begin_change(PostgresLocation(database.owner_url)) as connection:
        for table in ("events", "cancellations", "decisions"):
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN of_{revision} text")
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


@pytest.fixture
def settings(ledger_database: LedgerDatabase) -> LedgerSettings:
    return LedgerSettings(url=ledger_database.url, commit_timeout_s=10)


async def test_a_gateway_works_on_while_its_successor_migrates(
    ledger_database: LedgerDatabase, settings: LedgerSettings
) -> None:
    """No write fails, and another gateway of the older version starts afterwards."""
    ledger = await open_ledger(settings, SystemClock())
    ended, written = asyncio.Event(), list[str]()

    async def write() -> None:
        for n in itertools.count():
            if ended.is_set():
                return
            written.append((await ledger.commit_intent(intent(str(n)))).id)

    writing = asyncio.create_task(write())
    await wait_until(lambda: len(written) > 5)
    await asyncio.to_thread(migrate_to, ledger_database, "0003")
    before = len(written)
    await wait_until(lambda: len(written) > before + 5)
    ended.set()
    await writing
    again = await open_ledger(settings, SystemClock())
    assert await again.get(written[-1]) is not None
    await again.commit_intent(intent("last"))
    await again.close()
    await ledger.close()
    report = verify(PostgresLocation(ledger_database.url))
    assert (report.events, report.broken) == (len(written) + 1, None)


async def test_a_start_two_revisions_behind_is_refused(
    ledger_database: LedgerDatabase, settings: LedgerSettings
) -> None:
    """`migrate` of the older version refuses both, as it has nothing to do there."""
    for revision in ("0003", "0004"):
        migrate_to(ledger_database, revision)
        with pytest.raises(LedgerError, match=f"by a newer version \\(schema {revision}"):
            migrate_database(PostgresLocation(ledger_database.owner_url), GATEWAY)
    with pytest.raises(LedgerError, match=r"by a newer version \(schema 0004, .* knows up to 0003"):
        await open_ledger(settings, SystemClock())
    with pytest.raises(LedgerError, match="by a newer version"):
        verify(PostgresLocation(ledger_database.url))
