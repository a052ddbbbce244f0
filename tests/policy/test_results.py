"""Reading a policy's result: only a boolean true without obligations allows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksgateway.errors import GatewayError, PolicyInvalid, PolicyObligationUnknown, PolicyUndefined
from eksgateway.model import Decision
from eksgateway.policy.results import (
    MAX_RESULT_BYTES,
    MAX_TEXT_BYTES,
    UNDEFINED,
    obligation_error,
    parse_response,
    read_decision,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "allow": st.just(True) | JSON,
        "rules": st.lists(st.text()) | JSON,
        "reasons": st.lists(st.text()) | JSON,
        "obligations": st.just([]) | JSON,
    },
)


def _read(result: Any) -> Decision:
    return read_decision(result, decision_id="d", revision="r")


def test_a_decision_has_rules_reasons_id_and_revision() -> None:
    result = {"allow": True, "rules": ["a"], "reasons": ["Because."], "obligations": []}
    assert _read(result) == Decision("d", True, ("a",), ("Because.",), "r")
    assert _read({"allow": False}) == Decision("d", False, (), (), "r")


@given(RESULTS | JSON)
def test_only_a_boolean_true_without_obligations_allows(result: Any) -> None:
    """All other results are a denial or an error."""
    try:
        allowed = _read(result).allowed
    except GatewayError:
        return
    assert allowed is (result["allow"] is True and not result.get("obligations"))


@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        "allow",
        True,
        {},
        {"allow": None},
        {"allow": "true"},
        {"allow": 1},
        {"allow": [True]},
        {"allow": True, "rules": "a"},
        {"allow": True, "rules": [1]},
        {"allow": False, "reasons": {"a": "b"}},
        {"allow": False, "reasons": None},
        {"allow": True, "obligations": None},
        {"allow": True, "obligations": {"mfa": True}},
        {"allow": True, "reasons": ["\ud800"]},
        {"allow": False, "rules": ["x" * (MAX_TEXT_BYTES + 1)]},
    ],
    ids=lambda result: repr(result)[:60].encode("ascii", "backslashreplace").decode(),
)
def test_a_wrong_type_makes_the_result_invalid(result: Any) -> None:
    with pytest.raises(PolicyInvalid):
        _read(result)


def test_no_result_is_undefined() -> None:
    """A null result is invalid instead."""
    with pytest.raises(PolicyUndefined):
        _read(UNDEFINED)


def test_an_allow_under_obligations_does_not_allow() -> None:
    """A denial has no obligations."""
    obliged = _read({"allow": True, "rules": ["a"], "obligations": [{"id": "mfa", "age": 5}, "sms", 7]})
    assert not obliged.allowed
    assert [each.id for each in obliged.obligations] == ["mfa", "sms", ""]
    assert obliged.obligations[0].parameters == {"age": 5}
    assert type(obligation_error(obliged)) is PolicyObligationUnknown
    denied = _read({"allow": False, "obligations": [{"id": "mfa"}]})
    assert not denied.allowed
    assert not denied.obligations


@pytest.mark.parametrize(
    "raw",
    [b"", b"<html>", b"\xff", b"{", b"[" * 100_000, b"9" * 10_000, b" " * (MAX_RESULT_BYTES + 1)],
    ids=["empty", "html", "not-utf-8", "cut-off", "deep", "huge-number", "huge"],
)
def test_bytes_that_are_not_json_are_invalid(raw: bytes) -> None:
    with pytest.raises(PolicyInvalid):
        parse_response(raw)
