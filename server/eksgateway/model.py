"""The gateway's nouns: frozen, without I/O, known to every part.

Values in EKS's own vocabulary (types, statuses, codes) stay strings in EKS's spelling, so that
a value AWS adds later passes through. Field shapes follow botocore's eks/2017-11-01 model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

INLINE: Final = {"inline": True}
"""Metadata of a field whose members the ledger stores as members of the object that holds it."""

NOT_STORED: Final = {"stored": False}
"""Metadata of a field that the ledger does not store."""

ACCOUNT_ID_PATTERN: Final = r"[0-9]{12}"
REGION_PATTERN: Final = r"[a-z]{2,4}(-[a-z]+)+-[0-9]"


class Action(StrEnum):
    """What a caller asks to do; the words that grants use."""

    CANCEL = "cancel"
    CHECK = "check"
    GET = "get"
    LIST = "list"
    WATCH = "watch"
    HISTORY = "history"


class Phase(StrEnum):
    """How far a cancellation has come; ``phases.phase_of`` is the only place that derives one."""

    NOT_FORWARDED = "NOT_FORWARDED"
    TOO_LATE = "TOO_LATE"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    COMPLETED_ANYWAY = "COMPLETED_ANYWAY"
    UPDATE_FAILED = "UPDATE_FAILED"
    CANCELLING = "CANCELLING"
    CANCELLATION_FAILED = "CANCELLATION_FAILED"
    REQUESTED = "REQUESTED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, from verified credentials only.

    ``id`` is ``jwt:<issuer's short name>:<sub>`` or a SPIFFE ID; ``groups`` are
    ``<short name>:<group>``; ``via`` is the SPIFFE ID of the connection, if there is one.
    """

    type: str
    id: str
    issuer: str
    groups: tuple[str, ...] = ()
    via: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """An account (12 digits) and region in which clusters are reached."""

    account_id: str
    region: str


@dataclass(frozen=True, slots=True)
class ClusterRef:
    """A cluster by name in a target. Nothing is checked here: see ``rpc.request_fields``."""

    account_id: str
    region: str
    name: str

    @property
    def target(self) -> Target:
        return Target(self.account_id, self.region)

    def __str__(self) -> str:
        return f"{self.account_id}/{self.region}/{self.name}"


@dataclass(frozen=True, slots=True)
class UpdateRef:
    """A cluster update by id."""

    cluster: ClusterRef
    update_id: str

    @property
    def target(self) -> Target:
        return self.cluster.target

    def __str__(self) -> str:
        return f"{self.cluster}/{self.update_id}"


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What DescribeCluster says, as far as decisions need it."""

    arn: str
    name: str
    status: str
    version: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateParam:
    """One parameter of an update (EKS ``UpdateParam``)."""

    type: str
    value: str


@dataclass(frozen=True, slots=True)
class UpdateError:
    """One error of an update (EKS ``ErrorDetail``)."""

    error_code: str
    error_message: str
    resource_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateCancellation:
    """EKS's own block about a cancellation inside an update (EKS ``Cancellation``)."""

    status: str
    reason: str


FINAL_STATUSES = frozenset({"Cancelled", "Successful", "Failed"})


@dataclass(frozen=True, slots=True)
class Update:
    """An EKS update as last described. Absent members are empty, never guessed."""

    id: str
    status: str
    type: str
    params: tuple[UpdateParam, ...] = ()
    created_at: datetime | None = None
    errors: tuple[UpdateError, ...] = ()
    cancellation: UpdateCancellation | None = None

    @property
    def final(self) -> bool:
        """Whether EKS will not change it any more; a status nobody knows yet is not final."""
        return self.status in FINAL_STATUSES


@dataclass(frozen=True, slots=True)
class Obligation:
    """A condition on an allow. Without an ``id`` its kind is unknown."""

    id: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """The policy's answer to one question; deny is the default.

    With ``obligations`` the policy allows once they are met, and ``allowed`` is False. They are not stored.
    """

    decision_id: str
    allowed: bool = False
    rule_ids: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    policy_revision: str = ""
    obligations: tuple[Obligation, ...] = field(default=(), metadata=NOT_STORED)

    def __post_init__(self) -> None:
        if self.allowed and self.obligations:
            raise ValueError("an allow with unmet obligations")


@dataclass(frozen=True, slots=True)
class Justification:
    """Why a caller cancels, in the caller's own words. The policy may require any of these texts.

    A new member needs a field of the same name in the protos, a length in ``rpc.fields`` and a property
    in policies/schemas/input.json.
    """

    reason: str = ""
    ticket: str = ""


NO_JUSTIFICATION: Final = Justification()


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A cancel's parameters. Two calls with one request_id must have equal ones."""

    ref: UpdateRef
    justification: Justification = field(default=NO_JUSTIFICATION, metadata=INLINE)


@dataclass(frozen=True, slots=True)
class Intent:
    """What is committed before anything is sent. ``token`` goes to EKS as clientRequestToken.

    ``method`` and ``decision_time`` are what the policy was told; the earliest ledgers lack them.
    """

    cancellation_id: str
    request_id: str
    caller: Caller
    request: CancelRequest
    update: Update
    cluster: ClusterFacts
    decision: Decision
    token: str
    time: datetime
    method: str = ""
    decision_time: datetime | None = None


class OutcomeKind(StrEnum):
    """What became of a forward."""

    ACCEPTED = "accepted"  # EKS answered OK
    ALREADY_CANCELLING = "already_cancelling"  # EKS was at it: nothing was sent, or it was refused for that
    REFUSED = "refused"  # EKS judged the call and said no
    NOT_FORWARDED = "not_forwarded"  # the call never came to EKS's judgement
    UNKNOWN = "unknown"  # it may have been sent, and there was no answer


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error told to a caller, kept so that a repeat is told the same. Built by ``errors.record``."""

    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is committed after the forward. ``cluster_status`` is DescribeCluster's after a refusal."""

    kind: OutcomeKind
    time: datetime
    update: Update | None = None
    error: ErrorRecord | None = None
    cluster_status: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What DescribeUpdate said later. Without ``update``: following ended, and ``note`` says why. With one,
    ``note`` says what it means for a cancel that was not answered.
    """

    time: datetime
    update: Update | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The gateway's record of one cancellation: a projection of its events in the ledger.

    ``update`` is the latest seen. ``settled`` means that nothing more is followed: the update
    is final, the forward was refused or never made, or EKS lost the update.
    """

    intent: Intent
    phase: Phase
    phase_reason: str
    update: Update
    outcome: Outcome | None
    settled: bool
    forward_time: datetime | None
    update_time: datetime

    @property
    def id(self) -> str:
        return self.intent.cancellation_id

    @property
    def ref(self) -> UpdateRef:
        return self.intent.request.ref


@dataclass(frozen=True, slots=True)
class Denial:
    """One denied cancel, for the ledger's decision log. ``policy_input`` is what the policy was asked."""

    time: datetime
    request_id: str
    caller: Caller
    request: CancelRequest
    decision: Decision
    stage: str
    policy_input: dict[str, Any] = field(default_factory=dict)
