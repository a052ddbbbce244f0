"""Documents that two readers could understand differently are refused."""

from __future__ import annotations

import pytest

from eksgateway import strict_json

REFUSED = {
    "twice": b'{"allow": false, "allow": true}',
    "twice-the-same": b'{"a": 1, "a": 1}',
    "twice-below": b'{"a": [{"b": {"c": 1, "c": 2}}]}',
    "twice-by-escape": b'{"allow": false, "\\u0061llow": true}',
    "nan": b'{"a": NaN}',
    "infinity": b"[Infinity]",
    "minus-infinity": b"[-Infinity]",
    "too-large-a-number": b"[1e999]",
    "too-many-digits": b"[" + b"9" * 10_000 + b"]",
    "utf-8-with-a-mark": b'\xef\xbb\xbf{"a": 1}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "utf-16-without-a-mark": '{"a": 1}'.encode("utf-16-le"),
    "utf-32": '{"a": 1}'.encode("utf-32"),
    "latin-1": b'{"a": "\xe9"}',
    "deep-lists": b"[" * 200_000 + b"]" * 200_000,
    "deep-objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "two-documents": b"{} {}",
    "comment": b"{} // yes",
    "trailing-comma": b"[1,]",
    "single-quotes": b"{'a': 1}",
    "control-character": b'["\n"]',
    "empty": b"",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_ambiguous_or_malformed_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text differs, and JSONDecodeError is one
        strict_json.loads(raw)


def test_unambiguous_json_is_read() -> None:
    """Equal keys in different objects, and all kinds of values."""
    raw = '{"a": [1, -2.5, true, null, "é\\n"], "b": {"a": {}}}'
    expected = {"a": [1, -2.5, True, None, "é\n"], "b": {"a": {}}}
    assert strict_json.loads(raw) == strict_json.loads(raw.encode()) == expected


def test_the_error_names_the_duplicate_key() -> None:
    with pytest.raises(ValueError, match="the key 'b' stands twice in one object"):
        strict_json.loads('{"a": 1, "b": {"b": 1, "c": 2, "b": 3}}')
