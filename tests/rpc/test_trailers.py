"""An error fits into what proxies take of trailers, and says what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from eksgateway import errors
from eksgateway.rpc.error_status import status_of
from eksgateway.rpc.trailers import MOST_BYTES, cut, cut_list, fitting, wire_size

IDS = (("eksgateway-request-id", "r" * 64), ("eksgateway-decision-id", "d" * 36))
LONG = {"ASCII": "word ", "escaped": "100 % ", "umlauts": "Störung ", "CJK": "障害", "emoji": "👩‍🚒"}


def told(error: errors.GatewayError, subject: str = "") -> status_pb2.Status:
    """The status as sent, after a look at its size."""
    status = fitting(partial(status_of, error, subject), IDS)
    assert wire_size(status, IDS) <= MOST_BYTES
    return status


def info(status: status_pb2.Status) -> dict[str, str]:
    found = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(found)
    return dict(found.metadata)


def denied(count: int, text: str) -> errors.PolicyDenied:
    reasons = [f"{number} {text}" for number in range(count)]
    rules = [f"rule-{number}" for number in range(count)]
    metadata = {"decision_id": "d" * 36, "reasons": "\n".join(reasons), "rule_ids": ",".join(rules)}
    return errors.PolicyDenied(metadata=metadata)


def test_an_error_that_fits_is_whole() -> None:
    """Nothing is left out of it, and nothing counted."""
    error = denied(3, "A ticket is required by grant oncall-production.")
    assert told(error) == status_of(error)
    assert info(told(error)) == error.metadata


@pytest.mark.parametrize("count", [1, 40, 300])
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_denial_tells_whole_reasons_and_how_many_it_leaves_out(text: str, count: int) -> None:
    """From the first on, as many as fit."""
    error = denied(count, (text * 60)[:60].strip())
    metadata = info(told(error))
    reasons = metadata["reasons"].split("\n")
    assert reasons == error.metadata["reasons"].split("\n")[: len(reasons)]
    assert len(reasons) + int(metadata.get("reasons_left_out", 0)) == count
    assert len(metadata["rule_ids"].split(",")) + int(metadata.get("rule_ids_left_out", 0)) == count
    assert metadata["decision_id"] == "d" * 36
    assert len(reasons) >= min(count, 3)


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize("kind", [errors.EksInvalidState, errors.EksInvalidParameter, errors.EksNoAnswer])
def test_a_text_of_eks_is_cut_between_characters(kind: type[errors.GatewayError], text: str) -> None:
    """500 characters of any script; the ids beside it stay whole."""
    whole = (text * 500)[:500]
    metadata = {"eks_code": "InvalidStateException", "cancellation_id": "c" * 36, "phase": "REJECTED"}
    status = told(kind(whole, metadata=metadata), "111122223333/us-east-1/" + "p" * 100 + "/" + "u" * 64)
    assert info(status) == metadata
    assert len(status.message) > 80
    assert whole.startswith(status.message.removesuffix("…"))


def test_violations_are_whole_and_those_left_out_are_counted() -> None:
    """A field's description is of use only as a whole."""
    violations = {f"field_{number}": "must match [0-9A-Za-z][A-Za-z0-9_-]{0,99}" for number in range(200)}
    status = told(errors.RequestInvalid(violations=violations))
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    found = {one.field: one.description for one in bad.field_violations}
    assert found.items() <= violations.items()
    assert len(found) > 10
    assert int(info(status)["violations_left_out"]) == 200 - len(found)


_TEXTS = st.text(max_size=6000)
_KINDS = st.sampled_from(sorted(errors.BY_REASON.values(), key=lambda kind: kind.reason))


@given(
    _KINDS,
    _TEXTS,
    st.dictionaries(st.sampled_from(["reasons", "rule_ids", "phase", "eks_code", "decision_id"]), _TEXTS),
    st.dictionaries(st.text(max_size=300), st.text(max_size=3000), max_size=40),
    _TEXTS,
)
def test_whatever_is_in_an_error_fits(
    kind: Callable[..., errors.GatewayError],
    message: str,
    metadata: dict[str, str],
    violations: dict[str, str],
    subject: str,
) -> None:
    """All texts at once, of any length."""
    told(kind(message, metadata=metadata, violations=violations, retry_after=1.5), subject)


@given(st.text(), st.integers(0, 200))
def test_cut_keeps_a_beginning(text: str, most: int) -> None:
    """It is never longer than allowed, and whole characters."""
    found = cut(text, most)
    assert len(found.encode()) <= most or found == text
    assert text.startswith(found.removesuffix("…"))


@given(st.lists(st.text()), st.integers(0, 200))
def test_cut_list_keeps_the_first_ones(texts: list[str], most: int) -> None:
    """Together, with their separators, they have at most so many bytes."""
    found = cut_list(texts, most)
    assert sum(len(text.encode()) for text in found) <= most
    assert found == texts[: len(found)] or (
        len(found) == 1 and texts[0].startswith(found[0].removesuffix("…"))
    )
