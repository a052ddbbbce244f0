"""The denials and freezes that are in force at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from eksgateway.policy.review.cases import Restriction
from eksgateway.policy.review.times import why_not_in_force


def find_restrictions_in_force(content: dict[str, Any], at: datetime, action: str) -> Iterator[Restriction]:
    """Freezes hold back cancels only."""
    for denial in content["denials"]:
        if not why_not_in_force(denial, at):
            yield Restriction(denial, is_freeze=False)
    for freeze in content["freezes"] if action == "cancel" else ():
        if not why_not_in_force(freeze, at, either=True):
            yield Restriction(freeze, is_freeze=True)
