"""Writers in processes of their own take turns on one chain, also when one of them dies or freezes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from eksgateway.ledger import store
from eksgateway.ledger.postgres.database import PostgresDatabase
from eksgateway.ledger.unit_of_work import ReadKeys, request_key
from eksgateway.ledger.verify import verify
from eksgateway.settings import LedgerSettings
from support.ledger import execute, hold_write_lock, list_events
from support.postgres import LedgerDatabase, create_ledger, run_postgres
from support.records import intent

HERE = Path(__file__).parent


@pytest.fixture(scope="module", params=[18, 16])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A PostgreSQL that has transaction_timeout, and one that lacks it."""
    with run_postgres(request.param) as url:
        yield url


@pytest.fixture
def database(server: str) -> Iterator[LedgerDatabase]:
    with create_ledger(server) as database:
        yield database


@contextmanager
def run_process(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One of this folder. Killed at the end."""
    with subprocess.Popen(
        [sys.executable, str(HERE / script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def write(database: LedgerDatabase, name: str) -> float:
    """Commit an intent; returns how long that took, in seconds."""
    mine = intent(name)
    opened = PostgresDatabase(LedgerSettings(url=database.url, commit_timeout_s=20))
    began = time.monotonic()
    with opened.begin_batch(ReadKeys([mine.cancellation_id], [request_key(mine)])) as unit:
        store.add_intent(unit, mine)
    took = time.monotonic() - began
    opened.close()
    return took


def test_two_writers_take_turns_and_one_may_be_killed(database: LedgerDatabase) -> None:
    """The chain is sound, and whatever was acknowledged is in it."""
    place = LedgerSettings(url=database.url).location
    with (
        run_process("writing_process.py", database.url, "a-") as one,
        run_process("writing_process.py", database.url, "b-") as two,
    ):
        acknowledged = read_lines(one, 60) + read_lines(two, 60)
        one.kill()
        acknowledged += read_lines(two, 60)
    events = list_events(place)
    assert verify(place).broken is None
    assert set(acknowledged) <= {each.cancellation_id for each in events if each.kind == "intent"}
    writers = [each.cancellation_id.split("-")[1] for each in events]
    assert sum(one != two for one, two in pairwise(writers)) > 5


def test_a_killed_holder_of_the_lock_delays_nobody(database: LedgerDatabase) -> None:
    """PostgreSQL sees that its connection is closed."""
    with run_process("holding_process.py", database.url) as holder:
        assert read_lines(holder, 1) == ["held"]
        holder.kill()
        assert write(database, "1") < 5
    assert [each.kind for each in list_events(LedgerSettings(url=database.url).location)] == ["intent"]


def test_a_frozen_holder_loses_the_lock_and_commits_nothing(database: LedgerDatabase) -> None:
    """After 2 s. Another writer waits that long."""
    with run_process("holding_process.py", database.url) as holder:
        assert read_lines(holder, 1) == ["held"]
        holder.send_signal(signal.SIGSTOP)
        assert write(database, "1") < 10
        holder.send_signal(signal.SIGCONT)
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert read_lines(holder, 1) == ["CommitUnknown"]
    (event,) = list_events(LedgerSettings(url=database.url).location)
    assert event.cancellation_id == "cancellation-1"


def test_a_writer_frozen_in_the_queue_does_not_keep_the_lock(database: LedgerDatabase) -> None:
    """It gets the lock while it is frozen, and loses it as well."""
    place = LedgerSettings(url=database.url).location
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    settings = LedgerSettings(url=database.url)
    with ExitStack() as stack:
        with hold_write_lock(settings):
            frozen = stack.enter_context(run_process("holding_process.py", database.url))
            while execute(place, waiting) != [(1,)]:
                time.sleep(0.02)
            frozen.send_signal(signal.SIGSTOP)
        assert write(database, "1") < 10
    assert [each.cancellation_id for each in list_events(place)] == ["cancellation-1"]
