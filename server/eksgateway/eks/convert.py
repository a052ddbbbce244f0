"""Converts botocore's parsed answers to the model. Absent members are empty."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from eksgateway.eks.protocol import Page
from eksgateway.model import ClusterFacts, Update, UpdateCancellation, UpdateError, UpdateParam


class InvalidAnswer(ValueError):
    """The answer lacks the requested resource, as a truncated body does, or has text that is not Unicode."""


def to_update(answer: Mapping[str, Any], expected: str) -> Update:
    """Raises InvalidAnswer for another id."""
    raw = answer.get("update") or {}
    if raw.get("id") != expected:
        raise InvalidAnswer
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
                tuple(_unicode(resource) for resource in error.get("resourceIds") or ()),
            )
            for error in raw.get("errors") or ()
        ),
        cancellation=None
        if cancellation is None
        else UpdateCancellation(_text(cancellation, "status"), _text(cancellation, "reason")),
    )


def to_cluster(answer: Mapping[str, Any], expected: str) -> ClusterFacts:
    """Raises InvalidAnswer for another name. Account and region are in the ARN; see ``arn``."""
    raw = answer.get("cluster") or {}
    if not raw.get("arn") or raw.get("name", expected) != expected:
        raise InvalidAnswer
    return ClusterFacts(
        arn=_text(raw, "arn"),
        name=_text(raw, "name"),
        status=_text(raw, "status"),
        version=_text(raw, "version"),
        tags={_unicode(key): _unicode(value) for key, value in (raw.get("tags") or {}).items()},
    )


def to_page(answer: Mapping[str, Any], member: str) -> Page:
    if not isinstance(answer.get(member), list):
        raise InvalidAnswer
    return tuple(_unicode(each) for each in answer[member]), _text(answer, "nextToken")


def _text(raw: Mapping[str, Any], member: str) -> str:
    value = raw.get(member)
    return "" if value is None else _unicode(value)


def _unicode(value: Any) -> str:
    # JSON allows a lone surrogate (\ud800), which policy, logs and protobuf do not.
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidAnswer from exc
    return text


def _utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
