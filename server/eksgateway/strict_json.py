"""One reading of JSON from outside: what two readers could take for different documents is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isfinite
from typing import Any


def loads(
    raw: bytes | str,
    *,
    parse_int: Callable[[str], Any] | None = None,
    parse_float: Callable[[str], Any] | None = None,
) -> Any:
    """The document in ``raw``, as RFC 8259 and RFC 7493 (I-JSON) have it; bytes are UTF-8 and nothing else.

    Raises ValueError for a name that an object has twice, NaN, Infinity, a number beyond what a float holds,
    a byte order mark, and nesting that is too deep to read.
    """
    text = raw if isinstance(raw, str) else raw.decode("utf-8")
    try:
        return json.loads(
            text,
            object_pairs_hook=_distinct,
            parse_constant=_refuse,
            parse_int=parse_int,
            parse_float=parse_float or _finite,
        )
    except RecursionError as exc:
        raise ValueError("is nested too deep") from exc


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ValueError(f"the key {name!r} stands twice in one object")
        seen.add(name)
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text:.20} is too large a number")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
