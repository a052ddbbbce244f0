"""Regular expressions that match only canonical JSON of the model: texts that ``codec`` decodes without an
error, and encodes to the same text again.

They do not match every such text: not one with a rare escape or of 29 February. ``verify`` decodes those.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import is_dataclass
from datetime import datetime
from enum import Enum
from types import UnionType
from typing import Any, Final, get_args, get_origin

from eksgateway.ledger.codec import list_members

_PLAIN: Final = r"[ !#-\[\]-~]"  # is not escaped
_ESCAPE: Final = r'\\(?:["\\bfnrt]|u(?:00[89a-f][0-9a-f]|0[1-9a-f][0-9a-f]{2}|[1-9a-f][0-9a-f]{3}))'
_STRING: Final = f'"{_PLAIN}*+(?:{_ESCAPE}{_PLAIN}*+)*+"'
_DAY: Final = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
TIME: Final = rf"[12][0-9]{{3}}-{_DAY}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{{6}}Z"
_SIMPLE: Final = {str: _STRING, bool: "(?:true|false)", datetime: f'"{TIME}"'}


def pattern_of(kind: type, groups: Collection[str]) -> re.Pattern[str]:
    """For ``fullmatch``. ``groups`` are the paths of members, as ``update.status``, that become groups: their
    JSON texts, under their names with ``_`` for the dots.

    A dictionary's keys may be in the wrong order or there twice, so the caller compares those.
    """
    return re.compile(_pattern(kind, "", frozenset(groups)))


def _pattern(hint: Any, path: str, groups: frozenset[str]) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:  # X | None; the model has no other unions
        inner = next(each for each in arguments if each is not type(None))
        pattern = f"(?:null|{_pattern(inner, path, groups - {path})})"
    elif origin is tuple:
        pattern = rf"\[(?:{_items(arguments[0])})?+\]"
    elif origin is dict:
        pattern = rf"\{{(?:{_STRING}:{_STRING}(?:,{_STRING}:{_STRING})*+)?+\}}"
    elif is_dataclass(hint):
        pattern = rf"\{{{_members(hint, path, groups)}\}}"
    elif issubclass(hint, Enum):
        pattern = f'"(?:{"|".join(re.escape(each.value) for each in hint)})"'
    else:
        pattern = _SIMPLE[hint]
    return f"(?P<{path.replace('.', '_')}>{pattern})" if path in groups else pattern


def _items(hint: Any) -> str:
    item = _pattern(hint, "", frozenset())
    return f"{item}(?:,{item})*+"


def _members(kind: Any, path: str, groups: frozenset[str]) -> str:
    """The members by name. The last one is never one that may be missing."""
    members = []
    for name, _, hint, omitted in sorted(list_members(kind)):
        pattern = _pattern(hint, f"{path}.{name}".lstrip("."), groups)
        if omitted:
            pattern = rf"\[{_items(get_args(hint)[0])}\]"
        members.append(f'(?:"{name}":{pattern},)?+' if omitted else f'"{name}":{pattern},')
    return "".join(members).removesuffix(",")
