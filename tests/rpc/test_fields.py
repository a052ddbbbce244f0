"""What a caller may write in a field of text."""

from __future__ import annotations

import pytest

from eksgateway.rpc.fields import Fields

TAKEN = ["", "bad AMI", "Störung", "ノード　障害", "ten\u00a0nodes", "x" * 20]
REFUSED = ["line\nbreak", "\x1b[31m", "tab\t", "\u2028", "\u202e", "\x00", "x" * 21]


@pytest.mark.parametrize("text", TAKEN)
def test_text_in_any_language_is_taken(text: str) -> None:
    """Spaces of every kind too."""
    fields = Fields()
    fields.text("reason", text, 20)
    assert fields.faults == {}


@pytest.mark.parametrize("text", REFUSED, ids=repr)
def test_what_would_change_a_line_or_is_too_long_is_refused(text: str) -> None:
    """Control and direction characters never reach the ledger or a log."""
    fields = Fields()
    fields.text("reason", text, 20)
    assert set(fields.faults) == {"reason"}
