"""The policy data once it is read, checked and merged."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

# {"grants": […], "denials": […], "freezes": […]}. Items of sets stand in the place of `$name`.
Content: TypeAlias = dict[str, list[dict[str, Any]]]

KINDS: Final = {"grants": "grant", "denials": "denial", "freezes": "freeze"}


def count_entries(content: Content) -> str:
    """As in ``4 grants, 1 freeze``; denials only if there are any."""
    counts = {noun: len(content[kind]) for kind, noun in KINDS.items() if content[kind] or kind != "denials"}
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
