"""Damages a compiled index at one place: a part is lost, empty, of another type, renamed or added."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

Index = dict[str, Any]
Path = tuple[str | int, ...]

_LOST: Final = object()
_OTHERS: Final[list[Any]] = [None, True, 7, "x", [], {}, ["x"], {"x": "x"}]


@dataclass(frozen=True)
class Damage:
    """``path`` leads to the part."""

    path: Path
    name: str
    index: Index


def damage_parts(index: Index, chosen: Callable[[Path], bool]) -> Iterator[Damage]:
    """All damages of the chosen parts, from the index's keys down to each text."""
    for path, value in _parts(index, ()):
        if not chosen(path):
            continue
        if path:
            yield Damage(path, "lost", _replace(index, path, _LOST))
            yield from (Damage(path, f"is {each!r}", _replace(index, path, each)) for each in _others(value))
            if isinstance(path[-1], str):
                renamed = _replace(_replace(index, path, _LOST), (*path[:-1], f"{path[-1]}x"), value)
                yield Damage(path, "renamed", renamed)
        if isinstance(value, dict):
            yield Damage(
                path, "has a key more", _replace(index, (*path, "x"), next(iter(value.values()), "x"))
            )
        if isinstance(value, list):
            yield Damage(path, "has an item more", _replace(index, path, [*value, "x"]))


def _others(value: Any) -> Iterator[Any]:
    yield from (each for each in _OTHERS if each != value)


def _parts(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if isinstance(value, dict | list):
        steps: Sequence[Any] = list(value) if isinstance(value, dict) else range(len(value))
        for step in steps:
            yield from _parts(value[step], (*path, step))


def _replace(value: Any, path: Path, new: Any) -> Any:
    """A copy of the value in which the part at ``path`` is ``new``, or is not there."""
    if not path:
        return new
    step, *rest = path
    changed = value.copy()
    if not rest and new is _LOST:
        del changed[step]
    elif isinstance(value, dict):
        changed[step] = _replace(value.get(step), tuple(rest), new)
    else:
        changed[step] = _replace(value[step], tuple(rest), new)
    return changed
