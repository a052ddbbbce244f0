"""The interface of policy engines; `opa.py` and `wasm.py` implement it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from eksgateway.errors import StartError
from eksgateway.model import Action, Caller, ClusterFacts, ClusterRef, Decision, Update
from eksgateway.policy.question import Question


class PolicyLoadError(StartError):
    """A policy that cannot be put in force. ``faults`` has one line each, by default the text."""

    def __init__(self, text: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.faults = faults or (text,)


class PolicyTooLarge(PolicyLoadError):
    """Data beyond a limit of the compiled policy. The text has the limit, the place and what to change."""


@dataclass(slots=True)
class Reloads:
    """Counts since the start. ``failing``: an older policy is in force than the files have."""

    loaded: int = 0
    refused: int = 0
    failing: bool = False
    last: datetime | None = None  # when the policy in force was loaded


class PolicyEngine(Protocol):
    """Decides questions, or raises. Each decision is made by one revision of the policy and names it."""

    @property
    def revision(self) -> str:
        """The revision in force: a hash of module and data for ``wasm``, the bundle's for ``opa``."""

    async def revision_after(self, revision: str) -> str:
        """Wait until the revision in force differs from this one, and return it; may miss a brief one."""

    def next_change(self, now: datetime) -> datetime | None:
        """The first time after ``now`` at which decisions change under the same revision: a grant, a denial,
        a freeze or one of their windows begins or ends.

        None if there is none, or if the policy does not publish it.
        """

    def validity_of(self, question: Question) -> object | None:
        """Equal for two questions, whatever their clusters, if the decisions about each cluster are the same.

        None if that is not known.
        """

    @property
    def reloads(self) -> Reloads: ...

    def reload(self) -> None:
        """Look for a change now. Returns at once."""

    async def decide(self, question: Question) -> Decision:
        """Raises PolicyUnavailable (no answer in time), PolicyUndefined (no result), PolicyInvalid (not a
        decision) or Overloaded (too many of the caller's questions are waiting).
        """

    async def check(self) -> None:
        """Return if the engine can decide, for readiness. Raises what ``decide`` raises."""

    async def close(self) -> None: ...


def _sample_questions() -> tuple[Question, ...]:
    caller = Caller(type="jwt", id="jwt:sample:nobody", issuer="", groups=())
    cluster = ClusterRef("000000000000", "xx-sample-0", "sample")
    arn = "arn:aws:eks:xx-sample-0:000000000000:cluster/sample"
    facts = ClusterFacts(arn, "sample", "ACTIVE", "1.34")
    update = Update("sample", "InProgress", "VersionUpdate")
    at_request = Question(caller, Action.CANCEL, cluster, "", "sample", datetime(2026, 1, 1, tzinfo=UTC))
    at_update = replace(at_request, facts=facts, update=update)
    at_target = replace(at_request, action=Action.LIST, any_cluster=True)
    return at_request, at_update, at_target


# One question per stage, by an unknown caller: an engine that decides them is ready.
SAMPLES: Final = _sample_questions()
