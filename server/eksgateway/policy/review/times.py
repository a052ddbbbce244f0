"""Whether entries are in force at a time, by the rules of the engines."""

from __future__ import annotations

import math
from datetime import datetime

from eksgateway.policy.compiler.edges import is_in_force
from eksgateway.policy.compiler.windows import Window, merge_windows
from eksgateway.policy.coverage import Entry
from eksgateway.policy.question import utc_seconds


def why_not_in_force(entry: Entry, at: datetime, *, either: bool = False) -> str:
    """A reason, or "" for an entry in force. ``either`` is for freezes, as in ``is_inside_windows``."""
    now = utc_seconds(at)
    if now < entry.get("from", now):
        return f"begins at {entry['from']}"
    if is_over(entry, at):
        return f"ended at {entry['until']}"
    if "windows" in entry and not is_inside_windows(entry, at, either=either):
        return "is outside its windows"
    return ""


def is_over(entry: Entry, at: datetime) -> bool:
    return "until" in entry and str(entry["until"]) <= utc_seconds(at)


def is_inside_windows(entry: Entry, at: datetime, *, either: bool) -> bool:
    """Close to a clock change: under either offset, as for freezes, or under both, as for grants."""
    second = math.floor(at.timestamp())
    return any(is_in_force(week, second, either=either) for week in merge_windows(entry["windows"]))


def text_of_window(window: Window) -> str:
    times = f" {window['from']}–{window['until']}" if "from" in window else ""
    return f"{','.join(window.get('days', ['daily']))}{times} {window['zone']}"
