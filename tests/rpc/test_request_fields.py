"""Validation of text fields."""

from __future__ import annotations

import pytest

from eksgateway.rpc.request_fields import FieldViolations

ACCEPTED = {
    "empty": "",
    "ASCII": "bad AMI",
    "umlaut": "Störung",
    "ideographic space": "ノード　障害",
    "no-break space": "ten\u00a0nodes",
    "at the bound": "x" * 20,
    "joined emoji": "\U0001f469\u200d\U0001f692 on call",
    "emoji with a variation selector": "\u2764\ufe0f\u200d\U0001f525 fire",
    "skin tone": "\U0001f44d\U0001f3fd",
    "keycap": "1\ufe0f\u20e3",
    "national flag": "\U0001f1e9\U0001f1ea",
    "regional flag": "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "newer than Unicode 14": "\U0001fae8 \U0001fac8",
    "Persian non-joiner": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Sinhala conjunct": "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
    "Hebrew with marks": "\u200f\u05d1\u05d3\u05d9\u05e7\u05d4 v1\u200e",
    "Arabic number sign": "\u0600\u0661\u0662",
    "soft hyphen": "up\u00addate",
    "zero width space": "\u0e04\u200b\u0e19",
    "byte order mark": "\ufeffpasted",
    "ideographic variation": "\u8fbb\U000e0100",
    "private use": "\uf8ff",
    "spaces": "  ",
}
REFUSED = {
    "line feed": "line\nbreak",
    "carriage return": "a\rb",
    "next line": "a\x85b",
    "escape": "\x1b[31m",
    "C1 control sequence introducer": "\x9b31m",
    "tab": "tab\t",
    "line separator": "\u2028",
    "paragraph separator": "a\u2029b",
    "override": "\u202e",
    "embedding": "a\u202ab",
    "isolate": "\u2066a\u2069",
    "deprecated format": "a\u206eb",
    "annotation": "a\ufff9b",
    "NUL": "\x00",
    "delete": "a\x7f",
    "noncharacter": "a\uffff",
    "noncharacter of plane 16": "a\U0010fffe",
    "hidden tags": "a\U000e0068\U000e0069",
    "hidden tags after a flag": "\U0001f3f4\U000e0067\U000e0062\U000e007f\U000e0068",
    "nothing visible": "\u200d",
    "nothing visible but spaces": " \u200b \ufe0f",
    "too long": "x" * 21,
    "too long with joiners": "a\u200d" * 11,
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_text_accepts_every_script(text: str) -> None:
    """Also spaces of every kind, and the format characters that ordinary writing needs."""
    violations = FieldViolations()
    violations.text("reason", text, 20)
    assert violations.by_field == {}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_text_refuses_characters_that_change_a_line(text: str) -> None:
    """Control and direction characters never reach the ledger or a log."""
    violations = FieldViolations()
    violations.text("reason", text, 20)
    assert set(violations.by_field) == {"reason"}


def test_text_names_the_refused_character() -> None:
    """The character may be invisible."""
    violations = FieldViolations()
    violations.text("reason", "safe\u202etxt", 20)
    assert "U+202E" in violations.by_field["reason"]
