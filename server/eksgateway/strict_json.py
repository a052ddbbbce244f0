"""Reads JSON strictly: a document that two readers could understand differently is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import Any, Final

from eksgateway.strict_yaml import Unquoted

_UNQUOTED: Final = partial(Unquoted, kind="a number")


def loads(
    raw: bytes | str,
    *,
    parse_int: Callable[[str], Any] | None = None,
    parse_float: Callable[[str], Any] | None = None,
) -> Any:
    """Read by RFC 8259 and RFC 7493 (I-JSON). Bytes must be UTF-8.

    Raises ValueError for a key that occurs twice in an object, NaN, Infinity, a number beyond a float's
    range, a byte order mark, and nesting beyond Python's recursion limit.
    """
    text = raw if isinstance(raw, str) else raw.decode("utf-8")
    try:
        return json.loads(
            text,
            object_pairs_hook=_make_object,
            parse_constant=_refuse_constant,
            parse_int=parse_int,
            parse_float=parse_float or _parse_float,
        )
    except RecursionError as exc:
        raise ValueError("is nested too deep") from exc


def read_json(text: str) -> Any:
    """Numbers become Unquoted. Raises ValueError with line and column."""
    try:
        return loads(text, parse_int=_UNQUOTED, parse_float=_UNQUOTED)
    except json.JSONDecodeError as exc:
        raise ValueError(f"line {exc.lineno}, column {exc.colno}: is not JSON: {exc.msg}") from exc


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ValueError(f"the key {name!r} stands twice in one object")
        seen.add(name)
    return value


def _parse_float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text:.20} is too large a number")
    return value


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
