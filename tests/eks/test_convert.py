"""Conversion of botocore's answers to the model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksgateway.eks.convert import InvalidAnswer, to_cluster, to_page, to_update
from eksgateway.model import ClusterFacts, Update, UpdateCancellation, UpdateError, UpdateParam

text = st.text(max_size=20)
UPDATES = st.builds(
    Update,
    id=st.text(min_size=1, max_size=20),
    status=text,
    type=text,
    params=st.lists(st.builds(UpdateParam, text, text), max_size=3).map(tuple),
    created_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    errors=st.lists(
        st.builds(UpdateError, text, text, st.lists(text, max_size=2).map(tuple)), max_size=3
    ).map(tuple),
    cancellation=st.none() | st.builds(UpdateCancellation, text, text),
)


def to_botocore(update: Update) -> dict[str, Any]:
    """The answer that botocore would parse for an update."""
    raw: dict[str, Any] = {
        "id": update.id,
        "status": update.status,
        "type": update.type,
        "params": [{"type": p.type, "value": p.value} for p in update.params],
        "errors": [
            {
                "errorCode": e.error_code,
                "errorMessage": e.error_message,
                "resourceIds": list(e.resource_ids),
            }
            for e in update.errors
        ],
    }
    if update.created_at:
        raw["createdAt"] = update.created_at
    if update.cancellation:
        raw["cancellation"] = {
            "status": update.cancellation.status,
            "reason": update.cancellation.reason,
        }
    return {"update": raw}


@given(UPDATES)
def test_to_update_keeps_every_member(update: Update) -> None:
    """Values that no model lists pass unchanged."""
    assert to_update(to_botocore(update), update.id) == update


def test_every_member_of_the_service_model_is_converted() -> None:
    """Fails when botocore adds a member, so that it is not dropped unnoticed."""
    service: Any = botocore.session.get_session().get_service_model("eks")
    shapes = ("Update", "Cancellation", "ErrorDetail", "UpdateParam")
    assert {name: set(service.shape_for(name).members) for name in shapes} == {
        "Update": {"id", "status", "type", "params", "createdAt", "errors", "cancellation"},
        "Cancellation": {"status", "reason"},
        "ErrorDetail": {"errorCode", "errorMessage", "resourceIds"},
        "UpdateParam": {"type", "value"},
    }


def test_to_update_leaves_absent_members_empty() -> None:
    assert to_update({"update": {"id": "u"}}, "u") == Update(id="u", status="", type="")
    raw = {"id": "u", "errors": [{}], "params": [{}], "cancellation": {}}
    assert to_update({"update": raw}, "u") == Update(
        id="u",
        status="",
        type="",
        params=(UpdateParam("", ""),),
        errors=(UpdateError("", ""),),
        cancellation=UpdateCancellation("", ""),
    )
    assert to_cluster({"cluster": {"arn": "a"}}, "c") == ClusterFacts("a", "", "", "")
    assert to_page({"updateIds": []}, "updateIds") == ((), "")


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [
        (
            datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 1, 1, 10, tzinfo=UTC),
        ),
        (datetime(2026, 1, 1, 12), datetime(2026, 1, 1, 12, tzinfo=UTC)),  # noqa: DTZ001 - the case
    ],
    ids=["zoned", "naive"],
)
def test_to_update_converts_times_to_utc(given_time: datetime, expected: datetime) -> None:
    created = to_update({"update": {"id": "u", "createdAt": given_time}}, "u").created_at
    assert created == expected
    assert created.tzinfo is UTC


@pytest.mark.parametrize(
    "answer",
    [{}, {"update": None}, {"update": {}}, {"update": {"status": "Failed"}}, {"update": {"id": "other"}}],
)
def test_to_update_raises_without_the_requested_update(answer: dict[str, Any]) -> None:
    with pytest.raises(InvalidAnswer):
        to_update(answer, "u")


HALF = "half \ud800"
TEXTS: dict[str, dict[str, Any]] = {
    "status": {"status": HALF},
    "type": {"type": HALF},
    "param": {"params": [{"type": "Version", "value": HALF}]},
    "error": {"errors": [{"errorCode": "c", "errorMessage": HALF}]},
    "resource": {"errors": [{"errorCode": "c", "resourceIds": [HALF]}]},
    "cancellation": {"cancellation": {"status": "InProgress", "reason": HALF}},
}


@pytest.mark.parametrize("members", TEXTS.values(), ids=TEXTS)
def test_to_update_raises_for_text_that_is_not_unicode(members: dict[str, Any]) -> None:
    """Neither policy input nor protobuf can hold a lone surrogate."""
    with pytest.raises(InvalidAnswer):
        to_update({"update": {"id": "u", **members}}, "u")
    whole = to_update({"update": {"id": "u", "status": "\U0001f600\x00"}}, "u")
    assert whole.status == "\U0001f600\x00"


def test_to_cluster_and_to_page_raise_for_text_that_is_not_unicode() -> None:
    for cluster in ({"tags": {HALF: ""}}, {"tags": {"t": HALF}}, {"status": HALF}):
        with pytest.raises(InvalidAnswer):
            to_cluster({"cluster": {"arn": "a", "name": "c", **cluster}}, "c")
    for page in ({"updateIds": [HALF]}, {"updateIds": [], "nextToken": HALF}):
        with pytest.raises(InvalidAnswer):
            to_page(page, "updateIds")


def test_to_cluster_and_to_page_raise_without_their_member() -> None:
    with pytest.raises(InvalidAnswer):
        to_cluster({"cluster": {"name": "c"}}, "c")
    with pytest.raises(InvalidAnswer):
        to_cluster({"cluster": {"name": "other", "arn": "a"}}, "c")
    with pytest.raises(InvalidAnswer):
        to_page({"nextToken": "t"}, "updateIds")
