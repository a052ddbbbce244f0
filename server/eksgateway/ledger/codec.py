"""Model objects to canonical JSON and back: sorted keys, no spaces, UTC times, and ASCII, which keeps even
strings that UTF-8 cannot hold.

A field that a stored object lacks gets its default, so fields can be added to the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from eksgateway.model import INLINE, NOT_STORED, OMIT_EMPTY

T = TypeVar("T")


class CodecError(ValueError):
    """A text does not encode the expected object."""


def encode(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def decode(kind: type[T], text: str) -> T:
    """Raises CodecError."""
    try:
        value: T = _decoder(cast("Hashable", kind))(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        raise CodecError(f"not a valid {kind.__name__}: {type(exc).__name__}") from exc
    return value


def format_time(moment: datetime) -> str:
    """As 2026-01-31T12:00:00.000000Z, which sorts."""
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, (tuple, list)):
        return [_plain(member) for member in value]
    if isinstance(value, dict):
        return {_key(name): _plain(member) for name, member in value.items()}
    if is_dataclass(value):
        return _plain_members(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _plain_members(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    omitted = _optional_members(cast("Hashable", type(value)))
    for name, inline in _members(cast("Hashable", type(value))):
        member = _plain(getattr(value, name))
        if member or name not in omitted:
            plain |= member if inline else {name: member}
    return plain


@cache
def _optional_members(kind: Any) -> frozenset[str]:
    return frozenset(each.name for each in fields(kind) if each.metadata == OMIT_EMPTY)


@cache
def _members(kind: Any) -> tuple[tuple[str, bool], ...]:
    """The stored fields' names, and whether each is inline."""
    return tuple((each.name, each.metadata == INLINE) for each in fields(kind) if each.metadata != NOT_STORED)


def _key(name: Any) -> str:
    if not isinstance(name, str):  # json.dumps would convert it silently
        raise TypeError("a JSON object's keys are strings")
    return name


@cache
def _decoder(hint: Hashable) -> Callable[[Any], Any]:
    """A function from JSON to the annotated type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:  # X | None; the model has no other unions
        inner = _decoder(next(each for each in arguments if each is not type(None)))
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        item = _decoder(arguments[0])
        return lambda data: tuple(item(each) for each in data)
    if origin is None and isinstance(hint, type):
        return _type_decoder(hint)
    return lambda data: data  # dict[str, …], Any


def _type_decoder(hint: type) -> Callable[[Any], Any]:
    if is_dataclass(hint):
        return _dataclass_decoder(hint)
    if hint is datetime:
        return datetime.fromisoformat
    if issubclass(hint, Enum):
        return hint
    return lambda data: _same(hint, data)


def _dataclass_decoder(hint: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(hint)
    own = {name: _decoder(hints[name]) for name, inline in _members(hint) if not inline}
    inlined = [
        (name, _members(hints[name]), _decoder(hints[name])) for name, inline in _members(hint) if inline
    ]

    def decode_members(data: Any) -> Any:
        left = data.copy()
        made = {
            name: decoder({part: left.pop(part) for part, _ in parts if part in left})
            for name, parts, decoder in inlined
        }
        return hint(**made, **{name: own[name](value) for name, value in left.items()})

    return decode_members


def _same(kind: type, data: Any) -> Any:
    if type(data) is not kind:
        raise TypeError(f"{kind.__name__} expected")
    return data
