"""Folding texts gives what folding decoded events gives, or nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from eksgateway.ledger.codec import CodecError, encode
from eksgateway.ledger.hash_chain import Event, EventKind
from eksgateway.ledger.projection import CancellationRecord, fold
from eksgateway.ledger.queries import COLUMNS, to_row
from eksgateway.ledger.text_projection import fold_texts
from support.histories import HISTORIES, chain

_EVENTS: Final = {name: chain({name: each})[1:] for name, each in HISTORIES.items()}
_TIMES: Final = (
    *("2026-02-28T23:59:59.999999Z", "2026-02-29T00:00:00.000000Z", "2028-02-29T00:00:00.000000Z"),
    *("2026-04-31T00:00:00.000000Z", "2026-12-31T00:00:00.000000Z", "2026-13-01T00:00:00.000000Z"),
    *("2026-00-10T00:00:00.000000Z", "2026-01-00T00:00:00.000000Z", "2026-01-01T24:00:00.000000Z"),
    *("2026-01-01T00:60:00.000000Z", "2026-01-01T00:00:60.000000Z", "2026-01-01T00:00:00Z"),
    *("2026-01-01T00:00:00.000000+00:00", "2026-01-01 00:00:00.000000Z", "0000-01-01T00:00:00.000000Z"),
    *("2026-01-01T00:00:00.000000Z\n", " 2026-01-01T00:00:00.000000Z", "20260101T000000.000000Z", ""),
)


def fold_decoded(events: Sequence[Event]) -> tuple[Any, ...] | None:
    """None for events that cannot be folded."""
    record: CancellationRecord | None = None
    try:
        for event in events:
            record = fold(record, event)
        assert record is not None
        return tuple(to_row(record)[name] for name in COLUMNS)
    except (CodecError, TypeError):
        return None


def require_agreement(events: Sequence[Event]) -> bool:
    """Whether the texts were folded, and then as the decoded events are."""
    found = fold_texts([(each.seq, each.time, each.kind, each.body) for each in events])
    if found is not None:
        expected = fold_decoded(events)
        assert found == expected
        assert expected is not None
        assert list(map(str, found)) == list(map(str, expected))
    return found is not None


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield path, document
    members: Any = document.items() if isinstance(document, dict) else ()
    for name, value in enumerate(document) if isinstance(document, list) else members:
        yield from leaves(value, (*path, name))


def others(value: Any) -> Iterator[Any]:
    """Values in the place of this one, of its type and of others."""
    yield from (None, 1, 1.5, True, "x", "", [], {}, ["x"], {"x": "y"}, {"x": 1})
    if isinstance(value, str):
        yield from (f"{value}x", f"{value}\u00fc\ud800\x7f", "Cancelled", "Cancelling", "refused")
        if value.endswith("Z"):
            yield from _TIMES
    if isinstance(value, list):
        yield value + value
    if isinstance(value, dict):
        yield value | {"more": 1}
        yield from ({name: value[name] for name in value if name != left} for left in value)


def replace_at(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = replace_at(document[path[0]], path[1:], value)
    return copy


def spellings(body: str) -> Iterator[str]:
    """Not canonical, or no JSON."""
    document = json.loads(body)
    yield json.dumps(document, sort_keys=True)
    yield json.dumps(dict(reversed(document.items())), separators=(",", ":"))
    yield from (f"{body} ", f" {body}", f"{body}\n", body[:-1], body[:-1] + ',"x":1}', body + body)
    for found, other in (
        ("e", "\\u0065"),
        ('"', "'"),
        ("\\u00fc", "\u00fc"),
        ("\\u00fc", "\\u00FC"),
        ("/", "\\/"),
    ):
        yield body.replace(found, other)
    yield body.replace('{"a":"1","b":"2"}', '{"b":"2","a":"1"}')
    yield body.replace('{"a":"1","b":"2"}', '{"a":"1","a":"2"}')
    yield body.replace('{"env":"prod",', '{"env":"dev","env":"prod",')


def test_all_histories_but_renewed_ones_are_folded_as_texts() -> None:
    assert [name for name, events in _EVENTS.items() if not require_agreement(events)] == ["renewed"]


@pytest.mark.parametrize("name", [name for name in HISTORIES if name != "renewed"])
def test_every_other_value_in_a_body_gives_the_same_row_or_none(name: str) -> None:
    events, folded = _EVENTS[name], 0
    for number, event in enumerate(events):
        document = json.loads(event.body)
        for path, value in leaves(document):
            for other in others(value):
                body = encode(replace_at(document, path, other))
                folded += require_agreement(
                    [*events[:number], replace(event, body=body), *events[number + 1 :]]
                )
    assert folded > 0


@pytest.mark.parametrize("name", [name for name in HISTORIES if name != "renewed"])
def test_other_spellings_are_decoded(name: str) -> None:
    events = _EVENTS[name]
    for number, event in enumerate(events):
        for body in spellings(event.body):
            require = require_agreement([*events[:number], replace(event, body=body), *events[number + 1 :]])
            assert require == (body == event.body)


def test_times_of_events_are_as_the_ledger_writes_them() -> None:
    for events in _EVENTS.values():
        for number, event in enumerate(events):
            for time in _TIMES:
                require_agreement([*events[:number], replace(event, time=time), *events[number + 1 :]])


def test_any_order_of_events_gives_the_same_row_or_none() -> None:
    """Also orders that no gateway writes."""
    source = random.Random(13)
    intents = [events[0] for events in _EVENTS.values()]
    later = [event for events in _EVENTS.values() for event in events[1:]]
    folded = 0
    for _ in range(1000):
        picked = [source.choice(intents), *source.choices(later, k=source.randrange(6))]
        if source.random() < 0.05:
            source.shuffle(picked)
        times = source.choices((_TIMES[0], _TIMES[4], "2026-01-01T12:00:00.000000Z"), k=len(picked))
        events = [
            replace(
                event,
                seq=seq,
                time=time,
                kind=source.choice(list(EventKind)) if source.random() < 0.05 else event.kind,
            )
            for seq, (event, time) in enumerate(zip(picked, times, strict=True), 7)
        ]
        folded += require_agreement(events)
    assert folded > 300
