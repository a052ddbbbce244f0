"""A request_id that cannot be in the ledger is not looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import LedgerUnavailable
from eksgateway.ledger.database import StorageError
from eksgateway.ledger.known_requests import KnownRequests
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.ledger.sqlite.database import SqliteDatabase
from eksgateway.settings import LedgerSettings
from support.ledger import ON_SQLITE
from support.records import intent
from support.waiting import wait_until

CALLER = intent().caller.id


class CountingDatabase(SqliteDatabase):
    reads = 0
    fails = False

    def read(self, query: Callable[[Any], Any]) -> Any:
        self.reads += 1
        if self.fails:
            raise StorageError("disk I/O error")
        return super().read(query)


def test_few_new_ids_seem_known_beside_many() -> None:
    """And all that were added do."""
    known = KnownRequests()
    assert known.may_contain(("ann", "any"))
    known.complete = True
    ids = [("ann", f"request-{number}") for number in range(20_000)]
    assert not known.may_contain(ids[0])
    for each in ids:
        known.add(each)
    assert all(map(known.may_contain, ids))
    assert sum(known.may_contain(("bob", name)) for _, name in ids) < 20


@ON_SQLITE
async def test_recorded_ids_are_found_after_a_start_and_new_ones_are_not_read(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """Learning them takes several reads."""
    names = [str(number) for number in range(450)]
    await asyncio.gather(*(ledger.commit_intent(intent(name)) for name in names))
    await ledger.close()
    database = CountingDatabase(settings, SystemClock())
    later = SqlLedger(settings, SystemClock(), database)
    later.learn_requests()
    await wait_until(lambda: later.known_requests.complete)
    assert database.reads == 3
    for name in names:
        assert await later.look_up(CALLER, f"request-{name}") is not None
    assert database.reads == 3 + len(names)
    assert await later.look_up(CALLER, "new") is None
    assert database.reads == 3 + len(names)
    await later.commit_intent(intent("new", request_id="new"))
    found = await later.look_up(CALLER, "new")
    assert found is not None
    assert found.cancellation.id == "cancellation-new"
    await later.close()


@ON_SQLITE
async def test_new_id_is_looked_up_after_a_failed_read(settings: LedgerSettings) -> None:
    """So that the caller gets LEDGER_UNAVAILABLE before EKS is asked."""
    database = CountingDatabase(settings, SystemClock())
    ledger = SqlLedger(settings, SystemClock(), database)
    ledger.learn_requests()
    await wait_until(lambda: ledger.known_requests.complete)
    database.fails = True
    for read in (ledger.get("any"), ledger.look_up(CALLER, "new"), ledger.look_up(CALLER, "new")):
        with pytest.raises(LedgerUnavailable):
            await read
    database.fails = False
    reads = database.reads
    for _ in range(2):
        assert await ledger.look_up(CALLER, "new") is None
    assert database.reads == reads + 1
    await ledger.close()


@pytest.mark.parametrize("settings", ["postgres"], indirect=True)
async def test_with_postgresql_another_gateways_id_is_found(settings: LedgerSettings) -> None:
    """Each look-up reads."""
    first, second = [await open_ledger(settings, SystemClock()) for _ in range(2)]
    await second.look_up(CALLER, "request-1")
    await first.commit_intent(intent("1"))
    assert await second.look_up(CALLER, "request-1") is not None
    await first.close()
    await second.close()
