"""The status of an error fits into proxies' limits for trailers and counts what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from eksgateway import errors
from eksgateway.client import ErrorDetails
from eksgateway.rpc.error_status import status_of
from eksgateway.rpc.trailers import MAX_BYTES, fit_status, truncate, truncate_list, wire_size
from support.errors import parse_error

IDS = (("eksgateway-request-id", "r" * 64), ("eksgateway-decision-id", "d" * 36))
LONG = {"ASCII": "word ", "escaped": "100 % ", "umlauts": "Störung ", "CJK": "障害", "emoji": "👩‍🚒"}


def fit(error: errors.GatewayError, resource: str = "") -> status_pb2.Status:
    """The status as sent; it must fit."""
    status = fit_status(partial(status_of, error, resource), IDS)
    assert wire_size(status, IDS) <= MAX_BYTES
    return status


def parse(status: status_pb2.Status) -> ErrorDetails:
    return parse_error(status.SerializeToString())


def make_denial(count: int, text: str) -> errors.PolicyDenied:
    reasons = [f"{number} {text}" for number in range(count)]
    rules = [f"rule-{number}" for number in range(count)]
    metadata = {"decision_id": "d" * 36, "reasons": "\n".join(reasons), "rule_ids": ",".join(rules)}
    return errors.PolicyDenied(metadata=metadata)


def test_an_error_that_fits_is_sent_whole() -> None:
    """No count of left-out items is added."""
    error = make_denial(3, "A ticket is required by grant oncall-production.")
    assert fit(error) == status_of(error)
    assert parse(fit(error)).metadata == error.metadata


@pytest.mark.parametrize("count", [1, 40, 300])
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_denial_keeps_whole_reasons_and_counts_the_others(text: str, count: int) -> None:
    """The first reasons that fit are kept."""
    error = make_denial(count, (text * 60)[:60].strip())
    metadata = parse(fit(error)).metadata
    reasons = metadata["reasons"].split("\n")
    assert reasons == error.metadata["reasons"].split("\n")[: len(reasons)]
    assert len(reasons) + int(metadata.get("reasons_left_out", 0)) == count
    assert len(metadata["rule_ids"].split(",")) + int(metadata.get("rule_ids_left_out", 0)) == count
    assert metadata["decision_id"] == "d" * 36
    assert len(reasons) >= min(count, 3)


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize("kind", [errors.EksInvalidState, errors.EksInvalidParameter, errors.EksNoAnswer])
def test_a_long_eks_message_is_cut_between_characters(kind: type[errors.GatewayError], text: str) -> None:
    """The metadata beside it stays whole."""
    whole = (text * 500)[:500]
    metadata = {"eks_code": "InvalidStateException", "cancellation_id": "c" * 36, "phase": "REJECTED"}
    status = fit(kind(whole, metadata=metadata), "111122223333/us-east-1/" + "p" * 100 + "/" + "u" * 64)
    assert parse(status).metadata == metadata
    assert len(status.message) > 80
    assert whole.startswith(status.message.removesuffix("…"))


def test_violations_are_kept_whole_and_left_out_ones_counted() -> None:
    """A description that is cut would be of no use."""
    violations = {f"field_{number}": "must match [0-9A-Za-z][A-Za-z0-9_-]{0,99}" for number in range(200)}
    status = fit(errors.RequestInvalid(violations=violations))
    found = dict(parse(status).violations)
    assert found.items() <= violations.items()
    assert len(found) > 10
    assert int(parse(status).metadata["violations_left_out"]) == 200 - len(found)


_TEXTS = st.text(max_size=6000)
_KINDS = st.sampled_from(sorted(errors.BY_REASON.values(), key=lambda kind: kind.reason))


@given(
    _KINDS,
    _TEXTS,
    st.dictionaries(st.sampled_from(["reasons", "rule_ids", "phase", "eks_code", "decision_id"]), _TEXTS),
    st.dictionaries(st.text(max_size=300), st.text(max_size=3000), max_size=40),
    _TEXTS,
)
def test_every_error_fits(
    kind: Callable[..., errors.GatewayError],
    message: str,
    metadata: dict[str, str],
    violations: dict[str, str],
    subject: str,
) -> None:
    """All its texts may be long at once."""
    fit(kind(message, metadata=metadata, violations=violations, retry_after=1.5), subject)


@given(st.text(), st.integers(0, 200))
def test_truncate_keeps_the_beginning(text: str, max_bytes: int) -> None:
    """The result has whole characters and is not too long."""
    kept = truncate(text, max_bytes)
    assert len(kept.encode()) <= max_bytes or kept == text
    assert text.startswith(kept.removesuffix("…"))


@given(st.lists(st.text()), st.integers(0, 200))
def test_truncate_list_keeps_the_first_texts(texts: list[str], max_bytes: int) -> None:
    """Together they have at most the given number of bytes."""
    kept = truncate_list(texts, max_bytes)
    assert sum(len(text.encode()) for text in kept) <= max_bytes
    assert kept == texts[: len(kept)] or (len(kept) == 1 and texts[0].startswith(kept[0].removesuffix("…")))
