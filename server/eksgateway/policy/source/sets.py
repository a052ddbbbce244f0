"""Sets: lists by name. `$name` as an item of another list stands for the items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from eksgateway.policy.source.content import KINDS
from eksgateway.policy.source.faults import Faults
from eksgateway.policy.source.schema import Check, compile_check, join, read_schema, resolve

MAX_ITEMS: Final = 5_000_000  # of all lists that name sets, together
_MAX_NAMES: Final = 20  # in a fault


@dataclass(frozen=True, slots=True)
class NamedSet:
    place: str  # for instance eksgateway.sets.leads
    items: list[Any]  # which need not fit the schema


class SetResolver:
    """Puts items in the place of names, and adds to the faults."""

    def __init__(self, sets: dict[str, NamedSet], faults: Faults) -> None:
        self._sets = sets
        self._faults = faults
        self._misfits: dict[tuple[str, str, str], str] = {}
        self._lists: dict[tuple[str, ...], list[str]] = {}  # equal lists are shared
        self._items = 0
        self._known = _describe_names([*sets])
        for named in sets.values():
            for index, item in enumerate(named.items):
                if _is_name(item):
                    text = f"{item!r:.80} names a set, and a set holds no set; write its items here"
                    faults.add(f"{named.place}[{index}]", text)

    def find_unused(self) -> Iterator[NamedSet]:
        """The sets that no list names, once all entries are resolved."""
        used = {text for texts in self._lists for text in texts if _is_name(text)}
        yield from (named for name, named in self._sets.items() if f"${name}" not in used)

    def resolve(self, place: str, kind: str, entry: dict[str, Any]) -> dict[str, Any]:
        """The entry, or a copy without names of sets. The entry need not fit the schema."""
        changed: dict[str, Any] = {}
        for key in _list_keys(kind):
            value = entry.get(key)
            if type(value) is list and _names_sets(value):
                changed[key] = self._resolve_list(f"{place}.{key}", kind, key, value)
            elif type(value) is dict:  # of lists
                lists = {
                    name: self._resolve_list(join(f"{place}.{key}", name), kind, key, values)
                    for name, values in value.items()
                    if type(values) is list and _names_sets(values)
                }
                if lists:
                    changed[key] = value | lists
        return entry | changed if changed else entry

    def _resolve_list(self, place: str, kind: str, key: str, values: list[Any]) -> list[str]:
        for index, value in enumerate(values):
            if _is_name(value):
                self._check_name(f"{place}[{index}]", kind, key, value)
        texts = tuple(value for value in values if type(value) is str)  # the schema refuses others
        if texts not in self._lists:
            self._lists[texts] = list(dict.fromkeys(item for text in texts for item in self._items_of(text)))
        items = self._lists[texts]
        if self._items <= MAX_ITEMS < self._items + len(items):
            self._faults.add(place, f"with this list, sets stand for more than {MAX_ITEMS:,} items")
        self._items += len(items)
        return items

    def _items_of(self, text: str) -> Iterator[str]:
        if not _is_name(text):
            yield text
        elif text[1:] in self._sets:
            yield from (item for item in self._sets[text[1:]].items if type(item) is str)

    def _check_name(self, place: str, kind: str, key: str, name: str) -> None:
        if name[1:] not in self._sets:
            self._faults.add(place, f"{name!r:.80} is not known; {self._known}")
            return
        if (name, kind, key) not in self._misfits:
            self._misfits[name, kind, key] = _find_misfit(self._sets[name[1:]], item_check(KINDS[kind], key))
        if misfit := self._misfits[name, kind, key]:
            self._faults.add(place, f"{name} does not fit here: {misfit}")


def _describe_names(names: list[str]) -> str:
    if not names:
        return "there are no sets"
    more = len(names) - _MAX_NAMES
    return f"the sets are {', '.join(names[:_MAX_NAMES])}{f' and {more:,} more' if more > 0 else ''}"


@cache
def item_check(kind: str, key: str) -> Check:
    """The check of an item of a list, for instance of ``accounts`` of a ``grant``."""
    part = _list_part(read_schema()["definitions"][kind]["properties"][key])
    return compile_check(part["items"]["anyOf"][0])


@cache
def _list_keys(kind: str) -> tuple[str, ...]:
    """The keys of an entry whose lists may name sets."""
    parts = read_schema()["definitions"][KINDS[kind]]["properties"]
    return tuple(key for key, part in parts.items() if "anyOf" in _list_part(part).get("items", {}))


def _list_part(schema: dict[str, Any]) -> dict[str, Any]:
    """The part of the schema for a list, or for each list in a mapping."""
    schema = resolve(schema)
    inner = schema.get("additionalProperties")
    return resolve(inner) if inner else schema


def _find_misfit(named: NamedSet, check: Check) -> str:
    """The first item that does not fit, and why, else empty."""
    faults = Faults()
    for index, item in enumerate(named.items):
        if type(item) is str and not _is_name(item):
            check(item, f"{named.place}[{index}]", faults)
    return next(iter(faults.lines()), "")


def _is_name(value: Any) -> bool:
    return type(value) is str and value.startswith("$")


def _names_sets(values: list[Any]) -> bool:
    return any(map(_is_name, values))
