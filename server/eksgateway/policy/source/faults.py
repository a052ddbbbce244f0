"""The error of policy data that cannot be used, with each fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eksgateway.policy.engine import PolicyLoadError

MAX_FAULTS: Final = 100  # in one error


class PolicyDataError(PolicyLoadError):
    """``faults`` has a line for each of the first 100, and one for the number of the rest."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        more = len(faults) - MAX_FAULTS
        lines = [*faults[:MAX_FAULTS], *([f"and {more} more"] if more > 0 else [])]
        super().__init__("\n".join([f"{source}:", *(f"  - {line}" for line in lines)]), tuple(lines))
