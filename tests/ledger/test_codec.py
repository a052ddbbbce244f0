"""The encoding is lossless, canonical and stable."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eksgateway.ledger.codec import CodecError, decode, encode, format_time
from eksgateway.ledger.projection import CancellationRecord, DenialsLost
from eksgateway.model import (
    INLINE,
    NOT_STORED,
    OMIT_EMPTY,
    Caller,
    CancelRequest,
    Claim,
    ClusterRef,
    Decision,
    Denial,
    Intent,
    Justification,
    Observation,
    Outcome,
    Update,
    UpdateRef,
)
from support.records import intent

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_TIMES = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001 (hypothesis adds the zone)
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(hours=5, minutes=30))]),
)
# Any string at all, also one that UTF-8 cannot hold: AWS's JSON may spell such a one.
_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)


def _any(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that the annotation admits."""
    arguments = get_args(hint)
    if get_origin(hint) is UnionType:
        return st.none() | _any(arguments[0])
    if get_origin(hint) is tuple:
        return st.lists(_any(arguments[0]), max_size=3).map(tuple)
    if get_origin(hint) is dict:
        return st.dictionaries(_TEXT, _JSON if arguments[1] is Any else _any(arguments[1]), max_size=3)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        stored = [each.name for each in fields(hint) if each.metadata != NOT_STORED]
        return st.builds(cast("Any", hint), **{name: _any(hints[name]) for name in stored})
    simple = {datetime: _TIMES, str: _TEXT, bool: st.booleans(), int: st.integers()}
    return simple[hint] if hint in simple else st.sampled_from(hint)


@pytest.mark.parametrize("kind", [Intent, Outcome, Observation, Denial, Update, Decision])
def test_decode_inverts_encode(kind: type[Any]) -> None:
    """Every value of the model comes back equal, and its text is canonical."""

    @settings(max_examples=60, deadline=None)
    @given(_any(kind))
    def round_trip(value: Any) -> None:
        text = encode(value)
        assert text.isascii()
        assert decode(kind, text) == value
        assert encode(decode(kind, text)) == text

    round_trip()


def plain(value: Any) -> Any:
    """What ``json.dumps`` is given for a value, found by looking at it instead of at its type."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if not is_dataclass(value):
        return value
    members = dict[str, Any]()
    for each in fields(value):
        member = plain(getattr(value, each.name))
        if each.metadata != NOT_STORED and (member or each.metadata != OMIT_EMPTY):
            members |= member if each.metadata == INLINE else {each.name: member}
    return members


@pytest.mark.parametrize(
    "kind", [CancellationRecord, DenialsLost, Intent, Outcome, Observation, Denial, Update, Decision, Caller]
)
def test_texts_are_those_of_a_plain_encoder(kind: type[Any]) -> None:
    """Existing chains have its bytes."""

    @settings(max_examples=60, deadline=None)
    @given(_any(kind))
    def compare(value: Any) -> None:
        assert encode(value) == json.dumps(plain(value), sort_keys=True, separators=(",", ":"))

    compare()


@settings(deadline=None)
@given(_JSON | st.lists(_any(Update) | _TIMES | st.none()))
def test_texts_of_untyped_values_are_those_of_a_plain_encoder(value: Any) -> None:
    """Such as the policy's input, and the content of a watch's digest."""
    assert encode(value) == json.dumps(plain(value), sort_keys=True, separators=(",", ":"))


@settings(deadline=None)
@given(_TEXT)
def test_any_string_survives(text: str) -> None:
    """NUL, escapes and lone surrogates come back as they were."""
    assert decode(Intent, encode(intent(token=text))).token == text


def test_times_are_utc_with_microseconds() -> None:
    """One moment has one spelling, in every time zone."""
    east = timezone(timedelta(hours=2))
    assert format_time(datetime(2026, 1, 31, 14, 0, tzinfo=east)) == "2026-01-31T12:00:00.000000Z"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(datetime(2026, 1, 1), id="a time without a zone"),  # noqa: DTZ001 (that is the test)
        pytest.param({1: "one"}, id="a key that is no string"),
        pytest.param({"raw": b"bytes"}, id="bytes"),
    ],
)
def test_encode_refuses_values_without_a_json_form(value: Any) -> None:
    """Nothing is converted silently."""
    with pytest.raises((TypeError, ValueError)):
        encode(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        "null",
        "{}",
        '{"kind":"accepted"}',
        '{"kind":"odd","time":"2026-01-01T00:00:00Z"}',
        '{"x":1}',
    ],
)
def test_decode_refuses_other_texts(text: str) -> None:
    """Every error is a CodecError."""
    with pytest.raises(CodecError):
        decode(Outcome, text)


def test_a_field_added_later_gets_its_default() -> None:
    """Records of an older gateway stay readable."""
    assert decode(Decision, '{"decision_id":"d"}') == Decision("d")


def test_claims_are_stored_only_where_there_are_some() -> None:
    """A gateway of an earlier version reads the records of callers without claims."""
    who = intent().caller
    assert "claims" not in encode(who)
    with_claims = replace(who, claims=(Claim("ref", ("refs/heads/main",)),))
    assert '"claims":[{"name":"ref","values":["refs/heads/main"]}]' in encode(with_claims)
    assert decode(Caller, encode(with_claims)) == with_claims


def test_an_inline_member_is_stored_flat() -> None:
    """A justification's texts stand beside the request's other members, and nowhere else."""
    where = '{"cluster":{"account_id":"1","name":"c","region":"r"},"update_id":"u"}'
    text = f'{{"reason":"r","ref":{where},"ticket":"t"}}'
    request = CancelRequest(UpdateRef(ClusterRef("1", "r", "c"), "u"), Justification("r", "t"))
    assert encode(request) == text
    assert decode(CancelRequest, text) == request
    with pytest.raises(CodecError):
        decode(CancelRequest, text.replace('"reason":"r"', '"justification":{"reason":"r"}'))
