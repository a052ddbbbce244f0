"""The checks of entries that the schema cannot express. Entries need not fit the schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from eksgateway.policy.compiler.zones import zone_names
from eksgateway.policy.edges import is_utc_time, parse_time


@dataclass(frozen=True, slots=True)
class Entry:
    """A grant, denial or freeze. ``place`` is its path, after the file's name if there are several."""

    place: str
    kind: str  # grants, denials or freezes
    value: dict[str, Any]


def find_entry_faults(entries: Iterable[Entry]) -> Iterator[str]:
    """A line for each fault, with its path."""
    first: dict[str, str] = {}
    for entry in entries:
        place, value = entry.place, entry.value
        name = value.get("id")
        if isinstance(name, str) and first.setdefault(name, place) != place:
            yield f"{place}.id: {name!r:.80} is the id of {first[name]} already"
        if entry.kind != "freezes" and "subjects" not in value and "groups" not in value:
            yield f"{place}: names no caller; give it subjects or groups"
        actions = value.get("actions")
        if isinstance(actions, list) and "cancel" in actions and "update_types" not in value:
            yield f"{place}.update_types: is missing; list the update types that it lets cancel"
        if entry.kind == "freezes" and "windows" not in value:
            for key in ("from", "until"):
                if key not in value:
                    yield f"{place}.{key}: is missing; write from and until, or windows"
        yield from _time_faults(place, value)
        windows = value.get("windows")
        for index, window in enumerate(windows if isinstance(windows, list) else ()):
            if isinstance(window, dict):
                yield from _window_faults(f"{place}.windows[{index}]", window)


def _time_faults(place: str, value: dict[str, Any]) -> Iterator[str]:
    if "from" not in value and "until" not in value:
        return
    begins, ends = parse_time(value.get("from")), parse_time(value.get("until"))
    for key, time in (("from", begins), ("until", ends)):
        text = value.get(key)
        if time is None and isinstance(text, str) and is_utc_time(text):  # else the schema's pattern fails
            yield f"{place}.{key}: {text!r} is no time that exists"
    if begins and ends and begins >= ends:
        yield f"{place}.until: is not after from ({value['from']!r}), so it ends before it begins"


def _window_faults(place: str, window: dict[str, Any]) -> Iterator[str]:
    for key, other in (("from", "until"), ("until", "from")):
        if key in window and other not in window:
            yield f"{place}.{other}: is missing; write both times, or neither for the whole day"
    zone = window.get("zone")
    if isinstance(zone, str) and zone not in zone_names():
        yield f"{place}.zone: {zone!r:.80} is not a known time zone; write an IANA name, as in Europe/Berlin"
