"""The -wal file stays bounded, also while other programs read the ledger."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from eksgateway.ledger.sql_ledger import SqlLedger
from eksgateway.ledger.sqlite.connecting import WAL_LIMIT
from eksgateway.settings import LedgerSettings
from support.ledger import file_of
from support.logs import capture_logs
from support.records import denial
from support.waiting import wait_until

_DENIAL = 60_000  # bytes
_MANY = 3 * WAL_LIMIT // _DENIAL


@pytest.fixture
def settings(sqlite_settings: LedgerSettings) -> LedgerSettings:
    return sqlite_settings


def wal(settings: LedgerSettings) -> int:
    return file_of(settings).with_name("ledger.db-wal").stat().st_size


async def write(ledger: SqlLedger, settings: LedgerSettings, count: int) -> None:
    """As many large denials, in small batches."""
    with closing(sqlite3.connect(file_of(settings))) as other:
        for first in range(0, count, 50):
            (before,) = other.execute("SELECT count(*) FROM decisions").fetchone()
            for n in range(first, first + 50):
                ledger.record_denial(denial(str(n), policy_input={"reason": "x" * _DENIAL}))
            await wait_until(
                lambda: other.execute("SELECT count(*) FROM decisions").fetchone()[0] >= before + 50  # noqa: B023
            )


@contextmanager
def overlapping_readers(path: Path) -> Iterator[None]:
    """Two readers, one of which is in a transaction at any time."""
    ended, begun = threading.Event(), [threading.Event(), threading.Event()]

    def read(mine: int) -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            while not ended.is_set():
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM events").fetchall()
                begun[mine].set()
                while not begun[1 - mine].wait(0.1) and not ended.is_set():
                    pass
                begun[1 - mine].clear()
                connection.execute("COMMIT")

    readers = [threading.Thread(target=read, args=(n,)) for n in (0, 1)]
    for each in readers:
        each.start()
    try:
        yield
    finally:
        ended.set()
        for each in readers:
            each.join()


async def test_readers_that_overlap_do_not_let_the_wal_file_grow(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """One of them is always in a transaction, so SQLite's own checkpoints never complete."""
    with overlapping_readers(file_of(settings)):
        await write(ledger, settings, _MANY)
        assert wal(settings) < 1.5 * WAL_LIMIT


async def test_the_wal_file_shrinks_after_a_long_reader(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """While the reader needs it, it grows, which is logged once."""
    with capture_logs() as logs:
        with closing(sqlite3.connect(file_of(settings), isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchall()
            await write(ledger, settings, _MANY)
            assert wal(settings) > 2 * WAL_LIMIT
            await ledger.check()
        async with asyncio.timeout(20):
            while wal(settings) > WAL_LIMIT:
                await ledger.check()
    (grows,) = [each for each in logs if each["event"] == "ledger.wal_grows"]
    assert grows["bytes"] > WAL_LIMIT
