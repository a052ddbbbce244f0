"""`verify` finds every change that was made in the file afterwards."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from eksgateway.clock import SystemClock
from eksgateway.ledger import store
from eksgateway.ledger.codec import encode
from eksgateway.ledger.database import LedgerError, LedgerLocation
from eksgateway.ledger.hash_chain import GENESIS, Checkpoint, EventKind, link
from eksgateway.ledger.inspection import read_events
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.ledger.sqlite.database import SqliteDatabase
from eksgateway.ledger.unit_of_work import ReadKeys, request_key
from eksgateway.ledger.verify import verify
from eksgateway.ledger.verify_projection import Defect
from eksgateway.model import OutcomeKind
from eksgateway.settings import LedgerSettings
from support.ledger import ON_SQLITE, execute, list_events, read_cancellations, tamper
from support.records import START, intent, observation, outcome, ref, update


@pytest.fixture
async def location(settings: LedgerSettings) -> LedgerLocation:
    """A ledger with seven events of three cancellations, closed."""
    ledger = await open_ledger(settings, SystemClock())
    for name in "123":
        await ledger.commit_intent(intent(name))
    await ledger.record_outcome("cancellation-1", outcome())
    await ledger.record_outcome("cancellation-2", outcome(OutcomeKind.NOT_FORWARDED))
    await ledger.record_observation(ref(), observation(update("Cancelled")))
    await ledger.close()
    return settings.location


def rewrite_as_an_earlier_version(location: LedgerLocation) -> Checkpoint:
    """Remove the later fields from a ledger, and chain its events anew. Returns the new head."""

    def earlier(text: str) -> str:
        document = json.loads(text)
        intent = document["cancellation"]["intent"] if "cancellation" in document else document
        for name in ("method", "decision_time"):
            intent.pop(name, None)
        document.pop("known_at", None)
        return encode(document)

    head, statements = GENESIS, []
    for each in list_events(location):
        event = link(head, each.time, EventKind(each.kind), each.cancellation_id, earlier(each.body))
        changed = f"body = {quote(event.body)}, prev_hash = '{event.prev_hash}', hash = '{event.hash}'"
        statements.append(f"UPDATE events SET {changed} WHERE seq = {each.seq}")
        head = event.checkpoint
    records = execute(location, "SELECT cancellation_id, record FROM cancellations")
    statements += [
        f"UPDATE cancellations SET record = {quote(earlier(record))} WHERE cancellation_id = '{key}'"
        for key, record in records
    ]
    tamper(location, *statements)
    return head


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def find_defect(location: LedgerLocation, checkpoint: Checkpoint | None = None) -> Defect:
    found = verify(location, checkpoint).broken
    assert found is not None
    return found


async def test_a_ledger_of_an_earlier_version_is_sound_and_usable(
    settings: LedgerSettings, location: LedgerLocation
) -> None:
    """Old intents keep lacking the later fields; new ones have them."""
    before = rewrite_as_an_earlier_version(location)
    assert '"method"' not in "".join(each.body for each in list_events(location))
    assert verify(location).broken is None
    ledger = await open_ledger(settings, SystemClock())
    kept = await ledger.find("jwt:corp:ann", "request-1")
    assert kept is not None
    assert (kept.intent.method, kept.intent.decision_time) == ("", None)
    await ledger.commit_intent(intent("4", method="/CancelUpdate", decision_time=START))
    await ledger.record_outcome("cancellation-3", outcome())
    await ledger.close()
    report = verify(location, before)
    assert (report.events, report.cancellations, report.broken) == (9, 4, None)


async def test_verify_counts_a_sound_ledger(location: LedgerLocation) -> None:
    """The report gives the head to keep."""
    report = verify(location)
    assert (report.events, report.cancellations, report.broken) == (7, 3, None)
    assert report.head == list_events(location)[-1].checkpoint
    assert verify(location, Checkpoint.parse(str(report.head))) == report


@pytest.mark.usefixtures("ledger")
async def test_verify_accepts_an_empty_ledger(settings: LedgerSettings) -> None:
    assert verify(settings.location).head == GENESIS


async def test_verify_while_a_gateway_writes(ledger: SqlLedger, settings: LedgerSettings) -> None:
    for n in range(5):
        await ledger.commit_intent(intent(str(n)))
        report = verify(settings.location)
        assert (report.broken, report.events) == (None, n + 1)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("time = replace(time, '20', '19')", id="time"),
        pytest.param("kind = 'closed'", id="kind"),
        pytest.param("cancellation_id = 'cancellation-3'", id="cancellation_id"),
        pytest.param("body = replace(body, 'accepted', 'refused')", id="body"),
        pytest.param("body = body || ' '", id="body, only its spelling"),
        pytest.param("prev_hash = replace(prev_hash, substr(prev_hash, 1, 1), 'g')", id="prev_hash"),
        pytest.param("hash = replace(hash, substr(hash, 1, 1), 'g')", id="hash"),
    ],
)
async def test_verify_finds_a_changed_column(location: LedgerLocation, change: str) -> None:
    """The defect is at the changed event."""
    tamper(location, f"UPDATE events SET {change} WHERE seq = 4")
    assert find_defect(location).seq == 4


@ON_SQLITE
@pytest.mark.parametrize(
    "change",
    [
        pytest.param("body = CAST(body AS BLOB)", id="body, only its type"),
        pytest.param("body = CAST(x'ff' AS TEXT)", id="body, no text any more"),
    ],
)
async def test_verify_finds_a_column_of_another_type(location: LedgerLocation, change: str) -> None:
    tamper(location, f"UPDATE events SET {change} WHERE seq = 4")
    assert find_defect(location).seq == 4


@pytest.mark.parametrize(
    ("statements", "seq", "what"),
    [
        pytest.param(["DELETE FROM events WHERE seq = 3"], 3, "event 3 is missing", id="drop a row"),
        pytest.param(["DELETE FROM events WHERE seq = 1"], 1, "event 1 is missing", id="drop the first row"),
        pytest.param(
            [
                "DELETE FROM events WHERE seq = 3",
                "UPDATE events SET seq = -seq WHERE seq > 3",
                "UPDATE events SET seq = -seq - 1 WHERE seq < 0",
            ],
            3,
            "does not follow",
            id="drop a row and close the gap",
        ),
        pytest.param(
            [
                "UPDATE events SET seq = 100 WHERE seq = 2",
                "UPDATE events SET seq = 2 WHERE seq = 3",
                "UPDATE events SET seq = 3 WHERE seq = 100",
            ],
            2,
            "does not follow",
            id="swap two rows",
        ),
        pytest.param(["UPDATE events SET seq = 9 WHERE seq = 7"], 7, "event 7 is missing", id="change seq"),
    ],
)
async def test_verify_finds_missing_and_moved_rows(
    location: LedgerLocation, statements: list[str], seq: int, what: str
) -> None:
    """The defect is at the first of them."""
    tamper(location, *statements)
    found = find_defect(location)
    assert found.seq == seq
    assert what in found.what


async def test_verify_finds_a_cut_tail_with_a_checkpoint(location: LedgerLocation) -> None:
    """The projection was made to fit, so without the checkpoint the ledger is sound."""
    checkpoint = verify(location).head
    rows = [
        f"UPDATE cancellations SET latest = {n} WHERE cancellation_id = 'cancellation-{n}'" for n in (1, 2, 3)
    ]
    tamper(location, "DELETE FROM events WHERE seq > 3", *rows)
    assert find_defect(location, checkpoint).what == "the checkpoint names event 7: the tail was cut off"
    assert find_defect(location, checkpoint).seq == 4


async def test_verify_finds_a_rewritten_chain_with_a_checkpoint(location: LedgerLocation) -> None:
    """Recomputed hashes differ from the checkpoint's."""
    checkpoint = verify(location).head
    head, statements = GENESIS, ["DELETE FROM events"]
    for old in list_events(location):
        new = link(head, "2020-01-01T00:00:00.000000Z", EventKind(old.kind), old.cancellation_id, old.body)
        body = new.body.replace("'", "''")
        values = f"{new.seq}, '{new.time}', '{new.kind}', '{new.cancellation_id}', '{body}'"
        statements.append(f"INSERT INTO events VALUES ({values}, '{new.prev_hash}', '{new.hash}')")
        head = new.checkpoint
    for key, record in execute(location, "SELECT cancellation_id, record FROM cancellations"):
        stored = json.loads(record)
        del stored["known_at"]
        changed = quote(encode(stored))
        statements.append(f"UPDATE cancellations SET record = {changed} WHERE cancellation_id = '{key}'")
    tamper(location, *statements)
    assert verify(location).broken is None
    assert find_defect(location, checkpoint) == Defect(
        7, "it is not the event that the checkpoint names: the chain was written anew"
    )


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        pytest.param("phase = 'CANCELLED'", "cancellation-2 differs from its events in phase", id="phase"),
        pytest.param("pending = true", "differs from its events in pending", id="pending"),
        pytest.param("caller_id = 'x'", "differs from its events in caller_id", id="caller"),
        pytest.param("record = replace(record, 'INC-1', 'INC-2')", "in record", id="record"),
        pytest.param("cancellation_id = 'a'", "cancellation a is in the projection without", id="id, before"),
        pytest.param("cancellation_id = 'x'", "cancellation-2 is missing", id="id, behind"),
    ],
)
async def test_verify_finds_an_edited_projection(location: LedgerLocation, statement: str, what: str) -> None:
    tamper(location, f"UPDATE cancellations SET {statement} WHERE cancellation_id = 'cancellation-2'")
    assert what in find_defect(location).what


@pytest.mark.parametrize("name", ["1", "3"])
async def test_verify_finds_a_missing_row_of_the_projection(location: LedgerLocation, name: str) -> None:
    """A cancellation cannot be removed from history."""
    tamper(location, f"DELETE FROM cancellations WHERE cancellation_id = 'cancellation-{name}'")
    assert f"cancellation-{name} is missing from the projection" in find_defect(location).what


@pytest.mark.parametrize("text", ["", "7", "x:y", "7:abc", "-1:" + "0" * 64, "7:" + "0" * 65])
def test_checkpoint_parse_refuses_other_texts(text: str) -> None:
    with pytest.raises(ValueError, match="seq:hash"):
        Checkpoint.parse(text)


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
def test_verify_refuses_a_file_that_is_no_ledger(tmp_path: Path, content: bytes | None) -> None:
    """The error names the file, which is left as it was."""
    path = tmp_path / "ledger.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        verify(path)
    assert path.exists() == (content is not None)


async def test_read_events_gives_all_in_order(location: LedgerLocation) -> None:
    """Events are oldest first, cancellations newest first."""
    assert [each.seq for each in read_events(location)] == [1, 2, 3, 4, 5, 6, 7]
    assert [each.kind for each in list_events(location, "cancellation-1")] == [
        "intent",
        "outcome",
        "observation",
    ]
    assert [each.id for each in read_cancellations(location)] == [
        *("cancellation-3", "cancellation-2", "cancellation-1")
    ]


def test_verify_takes_seconds_for_ten_thousand_events(tmp_path: Path) -> None:
    """The limit is 15 s of processor time."""
    path = tmp_path / "ledger.db"
    database = SqliteDatabase(LedgerSettings(path=path), SystemClock())
    intents = [intent(str(n)) for n in range(5000)]
    keys = ReadKeys([each.cancellation_id for each in intents], [request_key(each) for each in intents])
    with database.begin_batch(keys) as unit:
        for each in intents:
            store.add_intent(unit, each)
            store.add_outcome(unit, each.cancellation_id, outcome())
    database.close()
    before = time.process_time()
    report = verify(path)
    assert (report.events, report.broken) == (10_000, None)
    assert [each.seq for each in read_events(path)] == list(range(1, 10_001))
    assert time.process_time() - before < 15
