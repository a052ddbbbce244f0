"""Puts the items of sets in the place of `$name`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from eksgateway.policy.source.content import KINDS
from eksgateway.policy.source.schema import item_check, list_keys, step


@dataclass(frozen=True, slots=True)
class NamedSet:
    place: str  # for instance eksgateway.sets.leads
    items: list[Any]


class SetResolver:
    """Collects in ``faults`` what it cannot resolve."""

    def __init__(self, sets: dict[str, NamedSet]) -> None:
        self.faults = [line for named in sets.values() for line in _nested_sets(named)]
        self._sets = sets
        self._misfits: dict[tuple[str, str, str], str] = {}

    def resolve(self, place: str, kind: str, entry: dict[str, Any]) -> dict[str, Any]:
        """The entry, or a copy with the items of the sets that it names. The entry need not be valid."""
        changed: dict[str, Any] = {}
        for key, mapping in _list_keys(kind):
            value = entry.get(key)
            if type(value) is list and _names_sets(value):
                changed[key] = self._resolve_list(f"{place}.{key}", kind, key, value)
            elif mapping and type(value) is dict:
                lists = {
                    name: self._resolve_list(f"{place}.{key}{step(name)}", kind, key, values)
                    for name, values in value.items()
                    if type(values) is list and _names_sets(values)
                }
                if lists:
                    changed[key] = value | lists
        return entry | changed if changed else entry

    def _resolve_list(self, place: str, kind: str, key: str, values: list[Any]) -> list[Any]:
        items: dict[str, None] = {}
        for index, value in enumerate(values):
            if type(value) is not str:
                continue  # the schema has refused it
            if not _is_name(value):
                items[value] = None
            elif named := self._sets.get(value[1:]):
                if misfit := self._find_misfit(value[1:], kind, key):
                    self.faults.append(f"{place}[{index}]: {value} {misfit}")
                items |= dict.fromkeys(item for item in named.items if type(item) is str)
            else:
                known = f"the sets are {', '.join(self._sets)}" if self._sets else "there are no sets"
                self.faults.append(f"{place}[{index}]: {value} is not known; {known:.400}")
        return list(items)

    def _find_misfit(self, name: str, kind: str, key: str) -> str:
        """The first item that the list may not have, if any."""
        if (name, kind, key) not in self._misfits:
            named, check = self._sets[name], item_check(KINDS[kind], key)
            texts = ((index, item) for index, item in enumerate(named.items) if type(item) is str)
            found = ((index, faults[0]) for index, item in texts if (faults := check(item)))
            index, fault = next(found, (0, None))
            text = f"does not fit here: {named.place}[{index}]: {fault[1]}" if fault else ""
            self._misfits[name, kind, key] = text
        return self._misfits[name, kind, key]


def _is_name(value: Any) -> bool:
    return type(value) is str and value.startswith("$")


def _names_sets(values: list[Any]) -> bool:
    return any(map(_is_name, values))


def _nested_sets(named: NamedSet) -> Iterator[str]:
    for index, item in enumerate(named.items):
        if _is_name(item):
            yield f"{named.place}[{index}]: {item} names a set, and a set holds no set; write its items here"


@cache
def _list_keys(kind: str) -> tuple[tuple[str, bool], ...]:
    return tuple(list_keys(KINDS[kind]))
