"""Reads YAML strictly: what two readers could understand differently is refused.

Values are made from the parser's events, which takes a fifth of the time of PyYAML's constructors. Anchors,
aliases and merge keys (``<<``) are read as OPA reads them (sigs.k8s.io/yaml).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import yaml

MAX_DEPTH: Final = 100
MIN_ALIASED: Final = 200_000  # values that aliases may stand for; as many as the text's characters, if more

PARSER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may be built without libyaml
_KINDS: Final = {"int": "a number", "float": "a number", "bool": "a boolean", "timestamp": "a date"}
_TAGS: Final = {
    yaml.ScalarEvent: "tag:yaml.org,2002:str",
    yaml.SequenceStartEvent: "tag:yaml.org,2002:seq",
    yaml.MappingStartEvent: "tag:yaml.org,2002:map",
}
# Numbers to OPA, once `_` is removed.
_NUMBER: Final = re.compile(
    r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)"
)
_MERGE: Final = object()  # the key `<<`
_resolver: Final[Any] = yaml.resolver.Resolver()  # untyped in its stubs


@dataclass(frozen=True, slots=True)
class Unquoted:
    """A scalar that YAML does not read as text: 0123 would become 83. ``place`` is its line, if known."""

    text: str
    kind: str
    place: str = ""

    def explain(self) -> str:
        """Why it is no text, and how to write it as text."""
        return f'{self.text} without quotes is {self.kind}; write it as text: "{self.text}"'


def read_yaml(text: str, parser: Any = PARSER) -> Any:
    """Numbers, booleans and dates become Unquoted. Values of aliases are shared.

    Raises ValueError with line and column for what is not YAML, several documents, keys that are not text or
    occur twice, tags, nesting beyond ``MAX_DEPTH``, and aliases that contain themselves or too much.
    """
    reader = _Reader(max(MIN_ALIASED, len(text)))
    try:
        for event in yaml.parse(text, parser):
            reader.take(event)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        hint = _hint(text, exc)
        raise ValueError(f"{_position(mark)}is not YAML: {exc.problem or exc.context}{hint}") from exc
    except yaml.YAMLError as exc:
        raise ValueError(f"is not YAML: {getattr(exc, 'reason', 'it cannot be read')}") from exc
    return reader.value


class _Collection:
    """A mapping or list whose end is not read yet."""

    def __init__(self, value: Any, anchor: str | None) -> None:
        self.value = value  # a dict or a list
        self.anchor = anchor
        self.size = 1  # of all values in it, aliases expanded
        self.key: Any = None  # waits for its value
        self.merged: list[dict[str, Any]] | None = None

    def close(self) -> Any:
        if self.merged is None:
            return self.value
        merged: dict[str, Any] = {}
        for mapping in reversed(self.merged):  # the first one wins
            merged |= mapping
        merged |= self.value
        return merged


class _Reader:
    def __init__(self, max_aliased: int) -> None:
        self.value: Any = None
        self._max_aliased = max_aliased
        self._open: list[_Collection] = []
        self._anchors: dict[str, tuple[Any, int]] = {}  # values and sizes; a _Collection until its end
        self._aliased = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._place(event, self._read_scalar(event), 1)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._begin(event, {} if kind is yaml.MappingStartEvent else [])
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            closed = self._open.pop()
            value = closed.close()
            if closed.anchor and self._anchors[closed.anchor][0] is closed:  # not set again within
                self._anchors[closed.anchor] = (value, closed.size)
            self._place(event, value, closed.size)
        elif kind is yaml.AliasEvent:
            self._place(event, *self._follow(event))
        elif kind is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                raise _error(event, "a second document begins; write each into a file of its own")

    def _begin(self, event: Any, value: Any) -> None:
        self._check_tag(event)
        if len(self._open) == MAX_DEPTH:
            raise _error(event, f"is nested deeper than {MAX_DEPTH} levels")
        if self._expects_key():
            raise _error(event, "a key must be text")
        opened = _Collection(value, event.anchor)
        if event.anchor:
            self._anchors[event.anchor] = (opened, 0)
        self._open.append(opened)

    def _place(self, event: Any, value: Any, size: int) -> None:
        """Put a value into the collection around it, as a key or a value."""
        if not self._open:
            self.value = value
            return
        around = self._open[-1]
        around.size += size
        if type(around.value) is list:
            around.value.append(value)
        elif around.key is None:
            around.key = _check_key(event, value, around)
        elif around.key is _MERGE:
            around.merged, around.key = _to_mappings(event, value), None
        else:
            around.value[around.key], around.key = value, None

    def _read_scalar(self, event: Any) -> Any:
        value = text = event.value
        if event.tag:
            self._check_tag(event)
        elif event.implicit[0] and (kind := _kind_of(text)) != "text":  # not in quotes and no block
            value = None if kind == "null" else Unquoted(text, kind, f"line {event.start_mark.line + 1}")
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        if text == "<<" and event.implicit[0] and self._expects_key():
            return _MERGE
        return value

    def _expects_key(self) -> bool:
        return bool(self._open) and type(self._open[-1].value) is dict and self._open[-1].key is None

    def _follow(self, event: Any) -> tuple[Any, int]:
        value, size = self._anchors.get(event.anchor, (None, -1))
        if size < 0:
            raise _error(event, f"the alias *{event.anchor} has no anchor before it; quote it, if it is text")
        if isinstance(value, _Collection):
            raise _error(event, f"the alias *{event.anchor} stands inside its own anchor")
        self._aliased += size
        if self._aliased > self._max_aliased:
            raise _error(event, f"aliases stand for more than {self._max_aliased:,} values")
        return value, size

    def _check_tag(self, event: Any) -> None:
        if event.tag and event.tag != _TAGS[type(event)]:
            raise _error(event, f"the tag {event.tag!r:.80} is not supported; leave it out")


def _check_key(event: Any, key: Any, mapping: _Collection) -> Any:
    if key is _MERGE:
        if mapping.merged is not None:
            raise _error(event, "the key << stands twice in one mapping; give it a list of both")
        return key
    if isinstance(key, Unquoted):
        raise _error(event, f"the key {key.explain()}")
    if type(key) is not str:
        raise _error(event, "a key must be text")
    if key in mapping.value:
        raise _error(event, f"the key {key!r} stands twice in one mapping")
    return key


def _to_mappings(event: Any, value: Any) -> list[dict[str, Any]]:
    """An alias of a list is refused, as OPA does."""
    mappings = value if type(value) is list and type(event) is not yaml.AliasEvent else [value]
    if not all(type(each) is dict for each in mappings):
        raise _error(event, "the value of << must be a mapping or a list of mappings")
    return mappings


@lru_cache(maxsize=10_000)
def _kind_of(text: str) -> str:
    """``text`` or ``null``, or what PyYAML or OPA take it for."""
    tag: str = _resolver.resolve(yaml.ScalarNode, text, (True, False)).rpartition(":")[2]
    if tag == "null":
        return tag
    if tag not in _KINDS and text[0] in "+-.0123456789" and _NUMBER.fullmatch(text.replace("_", "")):
        return "a number"
    return _KINDS.get(tag, "text")


def _error(event: Any, problem: str) -> ValueError:
    return ValueError(f"{_position(event.start_mark)}{problem}")


def _hint(text: str, exc: yaml.MarkedYAMLError) -> str:
    """How to mend the mistakes that libyaml describes without their cause, else empty."""
    found = text[exc.problem_mark.index :][:1] if exc.problem_mark else ""
    if found == "\t" or "tab character" in (exc.problem or ""):
        return "; indent with spaces, not with tabs"
    if exc.context in {"while scanning an alias", "while scanning an anchor"}:
        return f"; quote text that begins with {'*' if 'alias' in exc.context else '&'}"
    if "cannot start any token" in (exc.problem or ""):
        return f"; quote text that begins with {found}"
    return ""


def _position(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
