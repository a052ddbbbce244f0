"""The limits of a policy, by which every decision stays cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from eksgateway.policy.engine import PolicyTooLarge

MAX_ENTRIES: Final = {"grants": 20_000, "denials": 2_000, "freezes": 5_000}
MAX_ITEMS: Final = 2_000  # of all lists of one entry, with sets resolved
MAX_TARGETS: Final = 500_000  # accounts × regions, of all distinct pairs of these lists
MAX_INDEX_BYTES: Final = 5 << 20  # as JSON: the Wasm module needs 10 to 25 times as much

MAX_DECISION_US: Final = 2_000  # CPU time in Wasm, as estimated from the index
CALLER_GROUPS: Final = 200  # of the caller for whom it is estimated

_ADVICE: Final = "let one entry name more groups, accounts or clusters, by lists, patterns or group_tags"


def check_entries(content: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Raises PolicyTooLarge."""
    for kind, most in MAX_ENTRIES.items():
        if len(content[kind]) > most:
            raise PolicyTooLarge(
                f"there are {len(content[kind])} {kind}, and at most {most} are possible: {_ADVICE}"
            )
        for entry in content[kind]:
            items = sum(_count_items(value) for value in entry.values())
            if items > MAX_ITEMS:
                raise PolicyTooLarge(
                    f"{entry['id']}: its lists have {items} items, and at most {MAX_ITEMS} are possible:"
                    " use patterns, or several entries"
                )


def check_targets(targets: int, entry_id: str) -> None:
    """Raises PolicyTooLarge."""
    if targets > MAX_TARGETS:
        raise PolicyTooLarge(
            f"with {entry_id}, accounts × regions of distinct lists are {targets:,}, and at most"
            f" {MAX_TARGETS:,} are possible: give entries the same lists, or write `*`"
        )


def check_size(index: bytes) -> None:
    """Raises PolicyTooLarge."""
    if len(index) > MAX_INDEX_BYTES:
        raise PolicyTooLarge(
            f"the compiled policy has {len(index) >> 10} KB, and at most {MAX_INDEX_BYTES >> 10} KB are"
            f" possible: {_ADVICE}"
        )


def _count_items(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_count_items, value.values()))
    return len(value) if isinstance(value, list) else 1
