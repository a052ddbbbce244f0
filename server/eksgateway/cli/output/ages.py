"""Times as people read them: an age in one unit, or a local time."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def age_text(seconds: float) -> str:
    """For example 5s, 3m, 2h or 4d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size or (unit == "d" and seconds >= size):
            return f"{int(seconds // size)}{unit}"
    return f"{int(max(0.0, seconds))}s"


def age_of(time: Timestamp, now: datetime | None = None) -> str:
    """Empty for an absent time."""
    if not time.seconds:
        return ""
    return age_text(((now or datetime.now(UTC)) - time.ToDatetime(UTC)).total_seconds())


def time_text(time: Timestamp) -> str:
    """Local, with the age; empty for an absent time."""
    if not time.seconds:
        return ""
    return f"{time.ToDatetime(UTC).astimezone():%Y-%m-%d %H:%M:%S %z} ({age_of(time)} ago)"
