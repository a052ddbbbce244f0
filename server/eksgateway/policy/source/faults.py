"""The faults of policy data, and the error that has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from eksgateway.policy.engine import PolicyLoadError

MAX_FAULTS: Final = 100  # kept; the rest is counted
_MAX_CHARACTERS: Final = 600  # of a line


class Faults:
    """Lines, each of a path and what is wrong there."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[str] = []

    def add(self, path: str, text: str) -> None:
        """``path`` is empty for the document as a whole."""
        self.add_line(f"{path or 'the document'}: {text}")

    def add_line(self, line: str) -> None:
        self.count += 1
        if len(self._kept) < MAX_FAULTS:
            self._kept.append(line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}…")

    def merge(self, other: Faults, prefix: str) -> None:
        """Add the faults of one of several files."""
        for line in other._kept:
            self.add_line(f"{prefix}{line}")
        self.count += other.count - len(other._kept)

    def lines(self) -> Iterable[str]:
        more = self.count - len(self._kept)
        return [*self._kept, *([f"and {more} more"] if more else [])]


class PolicyDataError(PolicyLoadError):
    """``faults`` has a line for each of the first 100, and one for the number of the rest."""

    def __init__(self, source: str, faults: Iterable[str]) -> None:
        lines = tuple(faults)
        super().__init__("\n".join([f"{source}:", *(f"  - {line}" for line in lines)]), lines)
