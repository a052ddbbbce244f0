"""What every policy engine does, and the one reading of a policy's answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from eksgateway import strict_json
from eksgateway.errors import PolicyInvalid, PolicyObligationUnknown, PolicyUndefined, StartError
from eksgateway.model import Action, Caller, ClusterFacts, ClusterRef, Decision, Update
from eksgateway.policy.question import Question

MAX_ANSWER_BYTES: Final = 256 << 10  # read on the event loop, so that more would hold up everything else
MAX_TEXT_BYTES: Final = 2048  # of one reason or rule id, and of a revision
UNDEFINED: Final = object()  # the policy gave no result; JSON's null is a result, and not a decision


class PolicyLoadError(StartError):
    """A policy that cannot be put in force; the text says what is wrong with it."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Everything that is wrong, one line each."""
        return (str(self),)


@dataclass(slots=True)
class Reloads:
    """How keeping the policy up to date has gone since the start.

    ``last`` is when what is in force came into force. ``failing``: what lies there now does not
    load, so that something older is in force.
    """

    loaded: int = 0
    refused: int = 0
    failing: bool = False
    last: datetime | None = None


class PolicyEngine(Protocol):
    """Decides questions. Could not decide is an error; it is never an allow.

    The policy may change at any time, as a whole; a decision is made by one revision, which it names.
    """

    @property
    def revision(self) -> str:
        """What is in force: for ``wasm`` a hash of module and data, for ``opa`` the bundle's revision."""

    async def revision_after(self, revision: str) -> str:
        """The revision in force, as soon as it differs from the one given: whoever depends on past
        decisions asks again then. It may be missed that one was in force for a moment.
        """

    def next_freeze_change(self, now: datetime) -> datetime | None:
        """When a freeze begins or ends next, after ``now``: decisions differ from then on under the
        same revision. None when there is no such time, or the policy does not tell: ask again from time
        to time.
        """

    @property
    def reloads(self) -> Reloads:
        """How keeping it up to date has gone."""

    def reload(self) -> None:
        """Look for a change now, and not at the next time it would be looked for. Never waits."""

    async def decide(self, question: Question) -> Decision:
        """The decision, allowed or denied.

        Raises PolicyUnavailable (no answer in time), PolicyUndefined (no result), PolicyInvalid (not a
        decision), PolicyObligationUnknown (allowed, under obligations) or Overloaded (the caller has too
        many questions waiting).
        """

    async def check(self) -> None:
        """Return when the engine can answer; raises what ``decide`` would (for readiness)."""

    async def close(self) -> None:
        """Release connections and threads."""


def read_decision(result: Any, *, decision_id: str, revision: str) -> Decision:
    """The decision in a policy's result; only a boolean true allows. Raises as ``decide`` does."""
    if result is UNDEFINED:
        raise PolicyUndefined
    if not isinstance(result, dict):
        raise PolicyInvalid(detail=f"the policy's result is {_shape(result)}, not an object")
    allow = result.get("allow")
    if not isinstance(allow, bool):
        raise PolicyInvalid(detail=f"allow is {_shape(allow)}, not a boolean")
    obligations = result.get("obligations", [])
    if not isinstance(obligations, list):
        raise PolicyInvalid(detail=f"obligations is {_shape(obligations)}, not a list")
    rules, reasons = _texts(result, "rules"), _texts(result, "reasons")
    if allow and obligations:
        raise PolicyObligationUnknown(detail=f"{len(obligations)} obligations, by rules {', '.join(rules)}")
    return Decision(decision_id, allow, rules, reasons, revision)


def read_json(raw: bytes) -> Any:
    """An engine's answer as Python values; raises PolicyInvalid when it is not strict JSON, or too large."""
    if len(raw) > MAX_ANSWER_BYTES:
        raise PolicyInvalid(detail=f"the policy's answer is larger than {MAX_ANSWER_BYTES} bytes")
    try:
        return strict_json.loads(raw)
    except ValueError as exc:
        raise PolicyInvalid(detail=f"the policy's answer is not JSON: {exc!s:.200}") from exc


def read_result(raw: bytes) -> Any:
    """The one result in a result set, or UNDEFINED. Raises PolicyInvalid."""
    match read_json(raw):
        case []:
            return UNDEFINED
        case [{"result": result}]:
            return result
    raise PolicyInvalid(detail="the policy's answer is not a result set")


def checked_text(text: str, what: str) -> str:
    """A text of a policy that is stored and sent: Unicode, and bounded. Raises PolicyInvalid."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:  # half a surrogate pair
        raise PolicyInvalid(detail=f"{what} has text that is not Unicode") from exc
    if size > MAX_TEXT_BYTES:
        raise PolicyInvalid(detail=f"{what} has a text of over {MAX_TEXT_BYTES} bytes")
    return text


def _texts(result: dict[str, Any], key: str) -> tuple[str, ...]:
    values = result.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise PolicyInvalid(detail=f"{key} is not a list of strings")
    return tuple(checked_text(value, key) for value in values)


def _shape(value: Any) -> str:
    return "missing or null" if value is None else f"a {type(value).__name__}"


def _sample_questions() -> tuple[Question, ...]:
    nobody = Caller(type="jwt", id="jwt:sample:nobody", issuer="", groups=())
    cluster = ClusterRef("000000000000", "xx-sample-0", "sample")
    arn = "arn:aws:eks:xx-sample-0:000000000000:cluster/sample"
    common: dict[str, Any] = {
        "caller": nobody,
        "cluster": cluster,
        "method": "",
        "decision_id": "sample",
        "time": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return (
        Question(**common, action=Action.CANCEL),
        Question(
            **common,
            action=Action.CANCEL,
            facts=ClusterFacts(arn, "sample", "ACTIVE", "1.34"),
            update=Update("sample", "InProgress", "VersionUpdate"),
        ),
        Question(**common, action=Action.LIST, any_cluster=True),
    )


SAMPLES: Final = _sample_questions()
"""One question per stage, by a caller nobody knows: an engine that can answer them is ready."""
