"""From botocore's parsed answers to the model: every modelled member, any value, absent ones empty."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from eksgateway.model import ClusterFacts, Update, UpdateCancellation, UpdateError, UpdateParam


class Unusable(ValueError):
    """An answer without what was asked for, as a body cut short looks once it is parsed."""


def to_update(answer: Mapping[str, Any]) -> Update:
    """The ``update`` of a DescribeUpdate or CancelUpdate answer."""
    raw = answer.get("update") or {}
    if not raw.get("id"):
        raise Unusable
    cancellation = raw.get("cancellation")
    return Update(
        id=_text(raw, "id"),
        status=_text(raw, "status"),
        type=_text(raw, "type"),
        params=tuple(UpdateParam(_text(p, "type"), _text(p, "value")) for p in raw.get("params") or ()),
        created_at=_utc(raw.get("createdAt")),
        errors=tuple(
            UpdateError(
                _text(error, "errorCode"),
                _text(error, "errorMessage"),
                tuple(str(resource) for resource in error.get("resourceIds") or ()),
            )
            for error in raw.get("errors") or ()
        ),
        cancellation=None
        if cancellation is None
        else UpdateCancellation(_text(cancellation, "status"), _text(cancellation, "reason")),
    )


def to_cluster(answer: Mapping[str, Any]) -> ClusterFacts:
    """The ``cluster`` of a DescribeCluster answer."""
    raw = answer.get("cluster") or {}
    if not raw.get("arn"):
        raise Unusable
    return ClusterFacts(
        arn=_text(raw, "arn"),
        name=_text(raw, "name"),
        status=_text(raw, "status"),
        version=_text(raw, "version"),
        tags={str(key): str(value) for key, value in (raw.get("tags") or {}).items()},
    )


def to_page(answer: Mapping[str, Any], member: str) -> tuple[tuple[str, ...], str]:
    """The names or ids that a listing answer has in a member, and the token of the next page."""
    if not isinstance(answer.get(member), list):
        raise Unusable
    return tuple(str(each) for each in answer[member]), _text(answer, "nextToken")


def _text(raw: Mapping[str, Any], member: str) -> str:
    value = raw.get(member)
    return "" if value is None else str(value)


def _utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
