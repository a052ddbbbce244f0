"""Builds a sound ledger of a million cancellations, once, under build/.

The histories of a few shapes are folded and encoded by the gateway's own code. Their copies have other ids,
names, times and numbers. ``eksgateway ledger verify`` accepts the whole.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, Final

from bench.processes import ACCOUNT, REGION
from eksgateway import errors
from eksgateway.ledger.codec import encode, format_time
from eksgateway.ledger.hash_chain import GENESIS, Event, EventKind
from eksgateway.ledger.projection import CancellationRecord, fold
from eksgateway.ledger.queries import to_row
from eksgateway.ledger.sqlite.create import create_ledger
from eksgateway.model import (
    Caller,
    CancelRequest,
    ClusterFacts,
    ClusterRef,
    Decision,
    Intent,
    Justification,
    Observation,
    Outcome,
    OutcomeKind,
    Update,
    UpdateCancellation,
    UpdateRef,
)

CANCELLATIONS: Final = 1_000_000
RARE: Final = 3  # callers and clusters with one cancellation each, among the oldest
_CLUSTERS: Final = 5_000  # in 40 targets, a tenth of them in the home target
_CALLERS: Final = 500
_PENDING: Final = 20  # the newest ones
_FOLDER: Final = Path("build/large-ledger")
_VERSION: Final = "1"  # of what is built
_GROUP: Final = 8  # histories that alternate, as under load
_BATCH: Final = 20_000  # rows in memory
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_NEVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
_NUMBERS: Final = 9_000_000  # sequence numbers of the shapes begin here


def large_ledger() -> Path:
    """The closed ledger. Building it takes some minutes and 8 GB."""
    path, built = _FOLDER / "ledger.db", _FOLDER / f"version-{_VERSION}"
    if not built.exists():
        shutil.rmtree(_FOLDER, ignore_errors=True)
        _FOLDER.mkdir(parents=True)
        began = time.monotonic()
        build(path, CANCELLATIONS)
        print(f"{path}: built in {time.monotonic() - began:.0f} s", flush=True)
        built.touch()
    return path


def build(path: Path, cancellations: int) -> None:
    create_ledger(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql <> ''"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute("BEGIN")
        _fill(connection, cancellations)
        for _, statement in indexes:  # one sort is faster than a place for each row
            connection.execute(statement)
        connection.execute("COMMIT")


def _fill(connection: sqlite3.Connection, cancellations: int) -> None:
    source = random.Random(13)
    settled, pending = [_Shape.make(each) for each in _SETTLED], [_Shape.make(each) for each in _OPEN]
    copies: list[_Copy] = []
    events: list[tuple[Any, ...]] = []
    head = (0, GENESIS.hash)
    for first in range(0, cancellations, _GROUP):
        group = [
            _Copy(source.choice(pending if number >= cancellations - _PENDING else settled), number, source)
            for number in range(first, min(first + _GROUP, cancellations))
        ]
        for step in range(max(len(each.shape.events) for each in group)):
            for each in group:
                if step < len(each.shape.events):
                    events.append(each.link(head, step))
                    head = events[-1][0], events[-1][-1]
        copies += group
        if len(copies) >= _BATCH or group[-1].number == cancellations - 1:
            connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", events)
            rows = [each.row() for each in copies]
            columns, values = ", ".join(rows[0]), ", ".join(f":{name}" for name in rows[0])
            connection.executemany(f"INSERT INTO cancellations ({columns}) VALUES ({values})", rows)
            copies, events = [], []


# -- Shapes of histories -----------------------------------------------------------------------------


def _at(number: int) -> datetime:
    return _NEVER + timedelta(seconds=number)


def _update(status: str, cancellation: str = "") -> Update:
    block = UpdateCancellation(cancellation, "Cancellation was requested.") if cancellation else None
    return Update("(update)", status, "VersionRollback", created_at=_at(0), cancellation=block)


_REFUSED: Final = errors.record(errors.EksInvalidState("The update cannot be cancelled in its state."))
_ACCEPTED: Final = Outcome(OutcomeKind.ACCEPTED, _at(4), _update("InProgress", "InProgress"))
_CANCELLING: Final = Observation(_at(6), _update("Cancelling", "InProgress"))
_CANCELLED: Final = Observation(_at(8), _update("Cancelled", "Completed"))
_SETTLED: Final[list[list[Any]]] = [
    [_ACCEPTED, _CANCELLED],
    [_ACCEPTED, _CANCELLED],
    [_ACCEPTED, _CANCELLING, _CANCELLED],
    [_ACCEPTED, _CANCELLING, _CANCELLED],
    [_ACCEPTED, _CANCELLING, Observation(_at(8), _update("Successful", "Failed"))],
    [Outcome(OutcomeKind.UNKNOWN, _at(4)), Observation(_at(6), _update("Failed"))],
    [Outcome(OutcomeKind.REFUSED, _at(4), error=_REFUSED, cluster_status="ACTIVE")],
    [Outcome(OutcomeKind.NOT_FORWARDED, _at(4), error=errors.record(errors.DecisionStale()))],
]
_OPEN: Final[list[list[Any]]] = [[_ACCEPTED], [_ACCEPTED, _CANCELLING]]
_INTENT: Final = Intent(
    cancellation_id="(cancellation)",
    request_id="(request)",
    caller=Caller(
        "jwt",
        "jwt:bench:(caller)",
        "https://sandbox.invalid",
        ("bench:oncall", "bench:payments"),
        expires_at=_at(1),
    ),
    request=CancelRequest(
        UpdateRef(ClusterRef("(account)", "(region)", "(cluster)"), "(update)"),
        Justification("The new nodes fail their checks", "INC-(number)"),
    ),
    update=_update("InProgress"),
    cluster=ClusterFacts(
        "arn:aws:eks:(region):(account):cluster/(cluster)",
        "(cluster)",
        "UPDATING",
        "1.34",
        {"env": "prod", "team": "payments"},
    ),
    decision=Decision("(decision)", True, ("oncall",), ("Grant oncall allows this.",), "sha256:" + "0f" * 32),
    token="(token)",
    time=_at(2),
    method="/eksgateway.v1.UpdateService/CancelUpdate",
    decision_time=_at(1),
)
_KINDS: Final = {Outcome: EventKind.OUTCOME, Observation: EventKind.OBSERVATION}
_NAMES: Final = (
    *("cancellation", "request", "caller", "account", "region", "cluster", "update", "number", "decision"),
    "token",
)
_VARIABLES: Final = re.compile(
    rf"\(({'|'.join(_NAMES)})\)|(2000-01-01T00:00:0[0-9])\.0{{6}}Z|({_NUMBERS // 10}[0-9])"
)


def _template(text: str) -> str:
    """For the operator ``%`` and a dictionary."""
    return _VARIABLES.sub(lambda match: f"%({match[1] or match[2] or match[3]})s", text.replace("%", "%%"))


@dataclass(frozen=True)
class _Shape:
    """A history as templates: its events' kinds and bodies, and its row."""

    events: list[tuple[str, str]]
    row: dict[str, Any]

    @classmethod
    def make(cls, later: list[Any]) -> _Shape:
        record: CancellationRecord | None = None
        events = []
        for number, body in enumerate([_INTENT, *later]):
            kind, text = _KINDS.get(type(body), EventKind.INTENT), encode(body)
            event = Event(_NUMBERS + number, format_time(_at(3 + 2 * number)), kind, "", text, "", "")
            record = fold(record, event)
            events.append((kind.value, _template(text)))
        assert record is not None
        row = to_row(record)
        return cls(events, {name: _template(v) if isinstance(v, str) else v for name, v in row.items()})


class _Copy:
    """One history of a shape."""

    def __init__(self, shape: _Shape, number: int, source: random.Random) -> None:
        self.shape = shape
        self.number = number
        began = _START + timedelta(seconds=17 * number, microseconds=source.randrange(1_000_000))
        cluster = source.randrange(_CLUSTERS)
        place = cluster % 39
        self._values: dict[str, Any] = {
            "cluster": f"cluster-{cluster}",
            "account": f"{222200000000 + place // 3}" if cluster % 10 else ACCOUNT,
            "region": f"eu-west-{place % 3 + 1}" if cluster % 10 else REGION,
            "caller": f"user-{source.randrange(_CALLERS)}",
            "number": str(number),
        }
        if 10 <= number < 10 + RARE:
            self._values |= {"cluster": f"rare-{number - 10}", "account": ACCOUNT, "region": REGION}
            self._values["caller"] = f"rare-{number - 10}"
        for name in ("cancellation", "request", "update", "decision", "token"):
            self._values[name] = _uuid(source)
        for each in range(10):
            self._values[f"2000-01-01T00:00:0{each}"] = format_time(began + timedelta(seconds=each * 1.37))

    def link(self, head: tuple[int, str], step: int) -> tuple[Any, ...]:
        kind, template = self.shape.events[step]
        seq, written = head[0] + 1, self._values[f"2000-01-01T00:00:0{3 + 2 * step}"]
        key, body = self._values["cancellation"], template % self._values
        self._values[str(_NUMBERS + step)] = seq
        text = f'[{seq},"{written}","{kind}","{key}",{encode_basestring_ascii(body)},"{head[1]}"]'
        return seq, written, kind, key, body, head[1], hashlib.sha256(text.encode()).hexdigest()

    def row(self) -> dict[str, Any]:
        values = self._values
        row = {name: v % values if isinstance(v, str) else v for name, v in self.shape.row.items()}
        last = _NUMBERS + len(self.shape.events) - 1
        return row | {"created": values[str(_NUMBERS)], "latest": values[str(last)]}


def _uuid(source: random.Random) -> str:
    digits = f"{source.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


if __name__ == "__main__":
    large_ledger()
