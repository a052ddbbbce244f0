"""Model objects to canonical JSON and back: sorted keys, no spaces, UTC times, and ASCII, which keeps even
strings that UTF-8 cannot hold.

A field that a stored object lacks gets its default, so fields can be added to the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from json.encoder import encode_basestring_ascii
from types import UnionType
from typing import Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

from eksgateway.model import INLINE, NOT_STORED, OMIT_EMPTY

T = TypeVar("T")


class CodecError(ValueError):
    """A text does not encode the expected object."""


def encode(value: Any) -> str:
    """Raises TypeError or ValueError for a value that is not of its annotated type, or has no JSON form."""
    try:
        encoder = _encoder(cast("Hashable", type(value)))
    except KeyError as exc:
        raise TypeError(f"{type(value).__name__} has no JSON form") from exc
    return encoder(value)


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
    return moment.astimezone(UTC).isoformat("T", "microseconds")[:-6] + "Z"


@cache
def _encoder(hint: Hashable) -> Callable[[Any], str]:
    """A function from the annotated type to JSON. (A record takes 20 µs, and 120 without types.)"""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:  # X | None; the model has no other unions
        inner = _encoder(next(each for each in arguments if each is not type(None)))
        return lambda value: "null" if value is None else inner(value)
    if origin is tuple:
        item = _encoder(arguments[0])
        return lambda value: f"[{','.join(map(item, value))}]"
    if is_dataclass(hint):
        return _dataclass_encoder(hint)
    if isinstance(hint, type) and issubclass(hint, str):  # also a StrEnum; the model has no other enums
        return encode_basestring_ascii
    return _PLAIN[origin or hint]


_PLAIN: Final[dict[Any, Callable[[Any], str]]] = {
    type(None): lambda _: "null",
    bool: {False: "false", True: "true"}.__getitem__,
    int: int.__repr__,
    float: json.dumps,
    datetime: lambda value: f'"{format_time(value)}"',
    list: lambda value: f"[{','.join(map(encode, value))}]",
    tuple: lambda value: f"[{','.join(map(encode, value))}]",
    dict: lambda value: (
        f"{{{','.join(f'{encode_basestring_ascii(name)}:{encode(value[name])}' for name in sorted(value))}}}"
    ),
    Any: encode,
}


def _dataclass_encoder(hint: Any) -> Callable[[Any], str]:
    """Compiled, as ``dataclasses`` does: a loop over the members takes twice as long, 40 µs for a record."""
    encoders, parts = dict[str, Any](), list[str]()
    for name, path, inner, omitted in sorted(list_members(hint, "value.")):
        encoders[f"encode_{name}"] = _encoder(inner)
        prefix, suffix, part = repr(f'"{name}":'), "','", f"encode_{name}({path})"
        parts += [f"{prefix} + {part} + {suffix} if {path} else ''"] if omitted else [prefix, part, suffix]
    # The last comma goes: a member that may be omitted is never the last one.
    source = f"lambda value: ''.join(('{{', {', '.join(parts[:-1])}, '}}'))"
    encode_members: Callable[[Any], str] = eval(source, encoders)  # noqa: S307 - our own names
    return encode_members


def list_members(kind: Any, path: str = "") -> Iterator[tuple[str, str, Hashable, bool]]:
    """The stored members' names, paths, types, and whether each is omitted when it is empty."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        if each.metadata == INLINE:
            yield from list_members(hints[each.name], f"{path}{each.name}.")
        elif each.metadata != NOT_STORED:
            yield each.name, path + each.name, hints[each.name], each.metadata == OMIT_EMPTY


@cache
def _members(kind: Any) -> tuple[tuple[str, bool], ...]:
    """The stored fields' names, and whether each is inline."""
    return tuple((each.name, each.metadata == INLINE) for each in fields(kind) if each.metadata != NOT_STORED)


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
