"""A process that begins a batch in PostgreSQL, prints "held", and commits it when it may read a line."""

from __future__ import annotations

import sys

from eksgateway.ledger import store
from eksgateway.ledger.postgres.database import PostgresDatabase
from eksgateway.ledger.unit_of_work import ReadKeys, request_key
from eksgateway.settings import LedgerSettings
from support.records import intent


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


held = intent("held")
database = PostgresDatabase(LedgerSettings(url=sys.argv[1], commit_timeout_s=60))
try:
    with database.begin_batch(ReadKeys([held.cancellation_id], [request_key(held)])) as unit:
        store.add_intent(unit, held)
        say("held")
        sys.stdin.readline()
except Exception as exc:  # noqa: BLE001 (the test reads it)
    say(type(exc).__name__)
else:
    say("committed")
