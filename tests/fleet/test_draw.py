"""The function ``draw`` of the schema takes tokens by the same rule as the bucket of a single gateway."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from eksgateway.eks.token_bucket import TokenBucket
from support.postgres import LedgerDatabase

STEPS = 200


@dataclass
class BudgetRow:
    """A row of ``budget``. ``now`` is the time of the last draw, in seconds since the row was made.

    The time between two draws is the real one plus ``pass_time``, which sets the row's times back.
    """

    connection: psycopg.Connection[DictRow]
    rate: float
    now: float = field(default=0, init=False)

    def __post_init__(self) -> None:
        reserve = max(3, self.rate)
        size = reserve + max(1, self.rate)
        self.connection.execute(
            "INSERT INTO eksgateway.budget (target, whole, rate, size, reserve, tokens, at)"
            " VALUES ('t', %s, %s, %s, %s, %s, clock_timestamp())",
            [self.rate, self.rate, size, reserve, size],
        )

    def read(self) -> DictRow:
        row = self.connection.execute("SELECT * FROM eksgateway.budget").fetchone()
        assert row is not None
        return row

    def pass_time(self, seconds: float) -> None:
        self.connection.execute(
            "UPDATE eksgateway.budget SET at = at - %(by)s, halved_at = halved_at - %(by)s",
            {"by": timedelta(seconds=seconds)},
        )

    def draw(
        self, urgent: int = 0, other: int = 0, *, back: float = 0, throttled: float | None = None
    ) -> DictRow:
        """``throttled``: EKS throttled a call that began so many seconds after the last draw."""
        before = self.read()["at"]
        began = None if throttled is None else before + timedelta(seconds=throttled)
        row = self.connection.execute(
            "SELECT * FROM eksgateway.draw('t', %s, %s, %s, %s)", [urgent, other, back, began]
        ).fetchone()
        assert row is not None
        self.now += (row["drawn_at"] - before).total_seconds()
        return row


@pytest.fixture
def connection(ledger_database: LedgerDatabase) -> Iterator[psycopg.Connection[DictRow]]:
    with psycopg.connect(ledger_database.url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.mark.parametrize("seed", range(12))
def test_random_draws_grant_what_the_bucket_grants(
    connection: psycopg.Connection[DictRow], seed: int
) -> None:
    """Grants, waits, rates, give-backs and throttling, at random times."""
    chance = random.Random(seed)
    rate = chance.choice([0.1, 0.5, 1, 3, 5, 7.3, 40])
    row, bucket = BudgetRow(connection, rate), TokenBucket(rate, 0)
    for _ in range(STEPS):
        last = row.now
        passed = chance.choice([0, chance.random() / rate, chance.expovariate(rate), chance.random() * 70])
        row.pass_time(passed)
        throttled = chance.choice([None, None, None, 0, -chance.random(), chance.random() * passed])
        urgent, other = chance.choice([0, 0, 1, 4, 9]), chance.choice([0, 1, 2, 6])
        back = chance.choice([0, 0, 1, 2])
        drawn = row.draw(urgent, other, back=back, throttled=throttled)

        bucket.wait(row.now, urgent=False)  # fill up, before tokens come back
        for _ in range(back):
            bucket.give_back()
        halved = throttled is not None and bucket.throttle(row.now, last + throttled)
        granted = [
            sum(bucket.take(row.now, urgent=kind) for _ in range(wanted))
            for kind, wanted in ((True, urgent), (False, other))
        ]
        refused = granted != [urgent, other]
        wait = bucket.wait(row.now, urgent=granted[0] < urgent) if refused else 0
        assert [drawn["granted_urgent"], drawn["granted_other"]] == granted
        assert drawn["wait_s"] == pytest.approx(wait, abs=1e-5)
        assert (drawn["halved"], drawn["rate_now"]) == (halved, pytest.approx(bucket.rate))


def test_a_draw_changes_the_row_in_place(connection: psycopg.Connection[DictRow]) -> None:
    """Every update is HOT: PostgreSQL writes no index."""
    row = BudgetRow(connection, 5)
    for _ in range(300):
        row.draw(1, 1)
    connection.execute("SELECT pg_stat_force_next_flush()")
    counted = connection.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'budget'"
    ).fetchone()
    assert counted == {"n_tup_upd": 300, "n_tup_hot_upd": 300}


def test_a_clock_that_is_set_back_costs_no_tokens_and_adds_none(
    connection: psycopg.Connection[DictRow],
) -> None:
    row = BudgetRow(connection, 5)
    row.pass_time(-3600)  # the row is from the future
    assert row.draw(other=9)["granted_other"] == 5
    row.pass_time(0.2)
    assert row.draw(other=9)["granted_other"] == 1


def test_throttling_goes_on_after_a_clock_is_set_back(connection: psycopg.Connection[DictRow]) -> None:
    row = BudgetRow(connection, 8)
    assert row.draw(throttled=0)["halved"]
    connection.execute("UPDATE eksgateway.budget SET halved_at = halved_at + interval '1 hour'")
    assert row.draw(throttled=0)["halved"]


def test_tokens_are_returned_and_paid(connection: psycopg.Connection[DictRow]) -> None:
    row = BudgetRow(connection, 5)
    row.draw(back=-4)
    assert row.read()["tokens"] == pytest.approx(6, abs=0.1)
    assert row.draw(1, back=-8)["wait_s"] == pytest.approx(3 / 5, abs=0.1)
    row.draw(back=-40)
    assert row.read()["tokens"] == -10
    row.draw(back=40)
    assert row.read()["tokens"] == 10


def test_a_draw_waits_one_second_for_a_lock(
    connection: psycopg.Connection[DictRow], ledger_database: LedgerDatabase
) -> None:
    """Otherwise its backend would outlive the replica's wait."""
    row = BudgetRow(connection, 5)
    with psycopg.connect(ledger_database.owner_url) as other:
        other.execute("LOCK TABLE eksgateway.budget")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            connection.execute("SELECT * FROM eksgateway.draw('t', 1, 1)")
    assert row.draw(1)["granted_urgent"] == 1


def test_a_target_without_a_row_has_no_answer(connection: psycopg.Connection[DictRow]) -> None:
    assert connection.execute("SELECT * FROM eksgateway.draw('t', 1, 1)").fetchone() is None


def test_draws_of_several_targets_go_in_one_statement(connection: psycopg.Connection[DictRow]) -> None:
    """A target may be drawn from twice in it."""
    row = BudgetRow(connection, 5)
    drawn = connection.execute(
        "SELECT granted_other FROM unnest(%s::text[], %s::int[]) WITH ORDINALITY AS asked (target, other, n),"
        " LATERAL eksgateway.draw(asked.target, 0, asked.other) ORDER BY n",
        [["t", "none", "t"], [3, 3, 3]],
    ).fetchall()
    assert [each["granted_other"] for each in drawn] == [3, 2]
    assert row.read()["tokens"] == pytest.approx(5, abs=0.1)
