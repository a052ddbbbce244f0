"""The checks of entries that the schema cannot express. Entries need not fit the schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eksgateway.policy.compiler.zones import zone_names
from eksgateway.policy.edges import is_utc_time, parse_time
from eksgateway.policy.source.faults import Faults


@dataclass(frozen=True, slots=True)
class PlacedEntry:
    """A grant, denial or freeze. ``place`` is its path, after the file's name if there are several."""

    place: str
    kind: str  # grants, denials or freezes
    value: dict[str, Any]


def check_entries(entries: Iterable[PlacedEntry], faults: Faults) -> None:
    first: dict[str, str] = {}
    for entry in entries:
        place, value = entry.place, entry.value
        name = value.get("id")
        if isinstance(name, str) and first.setdefault(name, place) != place:
            faults.add(f"{place}.id", f"{name!r:.80} is the id of {first[name]} already")
        if entry.kind == "freezes":
            _check_duration(place, value, faults)
        elif "subjects" not in value and "groups" not in value:
            faults.add(place, "names no caller; give it subjects or groups")
        if entry.kind == "grants" and "update_types" not in value:
            _check_cancel(place, value, faults)
        if "from" in value or "until" in value:
            _check_times(place, value, faults)
        windows = value.get("windows")
        for index, window in enumerate(windows if isinstance(windows, list) else ()):
            if isinstance(window, dict):
                _check_window(f"{place}.windows[{index}]", window, faults)


def _check_cancel(place: str, grant: dict[str, Any], faults: Faults) -> None:
    actions = grant.get("actions")
    if isinstance(actions, list) and "cancel" in actions:
        faults.add(f"{place}.update_types", "is missing; list the update types that it lets cancel")


def _check_duration(place: str, freeze: dict[str, Any], faults: Faults) -> None:
    if "windows" in freeze:
        return
    for key in ("from", "until"):
        if key not in freeze:
            faults.add(f"{place}.{key}", "is missing; write from and until, or windows")


def _check_times(place: str, entry: dict[str, Any], faults: Faults) -> None:
    begins, ends = parse_time(entry.get("from")), parse_time(entry.get("until"))
    for key, time in (("from", begins), ("until", ends)):
        text = entry.get(key)
        if time is None and isinstance(text, str) and is_utc_time(text):  # else the schema's pattern fails
            faults.add(f"{place}.{key}", f"{text!r} is no time that exists")
    if begins and ends and begins >= ends:
        text = f"is not after from ({entry['from']!r}), so it ends before it begins"
        faults.add(f"{place}.until", text)


def _check_window(place: str, window: dict[str, Any], faults: Faults) -> None:
    for key, other in (("from", "until"), ("until", "from")):
        if key in window and other not in window:
            faults.add(f"{place}.{other}", "is missing; write both times, or neither for the whole day")
    zone = window.get("zone")
    if isinstance(zone, str) and zone and zone not in zone_names():
        text = f"{zone!r:.80} is not a known time zone; write an IANA name, for example Europe/Berlin"
        faults.add(f"{place}.zone", text)
