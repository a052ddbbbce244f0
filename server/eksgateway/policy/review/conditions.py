"""The conditions of a grant for one action, as data and as texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from eksgateway.policy.coverage import Entry
from eksgateway.policy.review.times import text_of_window

_MAX_SHOWN: Final = 5  # items of a list, in texts
_ALWAYS: Final = ("via", "claims", "windows")
OF_FACTS: Final = ("tags", "group_tags", "versions", "older_than")
OF_CANCELS: Final = ("update_types", "require", "ticket_patterns")


def conditions_of(grant: Entry, actions: Iterable[str]) -> dict[str, Any]:
    """The keys that are judged for one of the actions, as they are written."""
    judged = [*_ALWAYS]
    judged += OF_FACTS if {*actions} - {"list"} else ()  # `list` is decided before EKS is read
    judged += OF_CANCELS if "cancel" in {*actions} else ()
    return {key: grant[key] for key in judged if key in grant}


def describe_conditions(grant: Entry, actions: Iterable[str]) -> list[str]:
    return describe_keys(grant, conditions_of(grant, actions))


def describe_keys(entry: Entry, keys: Iterable[str]) -> list[str]:
    """Texts about those of the keys that the entry has."""
    return [text for key in keys if key in entry for text in _TEXTS[key](entry[key])]


def _each_is(noun: str, values: Mapping[str, list[str]]) -> Iterator[str]:
    for name, texts in values.items():
        yield f"{noun} {name} is {_any_of(texts)}"


def shorten(texts: Sequence[str]) -> list[str]:
    """The first few, and the number of the rest."""
    more = len(texts) - _MAX_SHOWN
    return [*texts] if more <= 1 else [*texts[:_MAX_SHOWN], f"{more} more"]


def _any_of(texts: Sequence[str]) -> str:
    return " or ".join(shorten(texts))


_TEXTS: Final[Mapping[str, Callable[[Any], Iterable[str]]]] = {
    "via": lambda value: [f"over {_any_of(value)}"],
    "claims": lambda value: _each_is("claim", value),
    "windows": lambda value: [f"within {' or '.join(map(text_of_window, value))}"],
    "tags": lambda value: _each_is("tag", value),
    "group_tags": lambda value: [
        f"tag {name} is a group of the caller, as {pattern}" for name, pattern in value.items()
    ],
    "versions": lambda value: [f"version is {_any_of(value)}"],
    "older_than": lambda value: [f"update is older than {value}"],
    "update_types": lambda value: [f"type is {_any_of(value)}"],
    "require": lambda value: [f"with {' and '.join(value)}"],
    "ticket_patterns": lambda value: [f"ticket is like {_any_of(value)}"],
}
