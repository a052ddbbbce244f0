"""What every policy engine does, and the one reading of a policy's answer."""

from __future__ import annotations

from typing import Any, Protocol

from eksgateway.model import Decision
from eksgateway.policy.question import Question


class PolicyEngine(Protocol):
    """Decides questions. Could not decide is an error; it is never an allow."""

    @property
    def revision(self) -> str:
        """What is in force: for ``wasm`` a hash of module and data, for ``opa`` the bundle's revision."""

    async def decide(self, question: Question) -> Decision:
        """The decision, allowed or denied.

        Raises PolicyUnavailable (no answer in time), PolicyUndefined (no result),
        PolicyInvalid (not a decision) or PolicyObligationUnknown (allowed, under obligations).
        """

    async def check(self) -> None:
        """Return when the engine can answer; raises what ``decide`` would (for readiness)."""

    async def close(self) -> None:
        """Release connections and threads."""


def read_decision(result: Any, *, decision_id: str, revision: str) -> Decision:
    """The decision in a policy's result; only a boolean true allows. Raises as ``decide`` does."""
    raise NotImplementedError
