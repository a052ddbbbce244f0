"""The gateway's value types: frozen, without I/O, shared by every part.

EKS's types, statuses and codes stay strings in EKS's spelling, so that values that AWS adds later pass
through. Field shapes follow botocore's eks/2017-11-01 model.
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

OMIT_EMPTY: Final = {"omit_empty": True}
"""Metadata of a field that the ledger stores only if it is not empty. Gateways without this field read such
records, and texts of records without values stay those of earlier versions.
"""

ACCOUNT_ID_PATTERN: Final = r"[0-9]{12}"
REGION_PATTERN: Final = r"[a-z]{2,4}(-[a-z]+)+-[0-9]"
CLUSTER_NAME_PATTERN: Final = r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}"


class Action(StrEnum):
    """An action that the policy decides about. Grants use these words."""

    CANCEL = "cancel"
    CHECK = "check"
    GET = "get"
    LIST = "list"
    WATCH = "watch"
    HISTORY = "history"


class Phase(StrEnum):
    """The progress of a cancellation. Only ``phases.phase_of`` derives one."""

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


MAX_CLAIM_VALUES: Final = 20


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a verified token, under the name that the issuer's settings give it.

    It has at most MAX_CLAIM_VALUES values.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller, from verified credentials only.

    ``id`` is ``jwt:<issuer's short name>:<sub>`` or a SPIFFE ID. ``groups`` are ``<short name>:<group>``.
    ``via`` is the SPIFFE ID of the connection, if it has one. ``claims`` are those that the issuer's
    settings choose, ordered by name; none is without values.
    """

    type: str
    id: str
    issuer: str
    groups: tuple[str, ...] = ()
    via: str | None = None
    expires_at: datetime | None = None
    claims: tuple[Claim, ...] = field(default=(), metadata=OMIT_EMPTY)


@dataclass(frozen=True, slots=True)
class Target:
    """An AWS account (12 digits) and region."""

    account_id: str
    region: str


@dataclass(frozen=True, slots=True)
class ClusterRef:
    """A cluster by name in a target. Not validated here: see ``rpc.request_fields``."""

    account_id: str
    region: str
    name: str

    @property
    def target(self) -> Target:
        return Target(self.account_id, self.region)

    def __str__(self) -> str:
        return f"{self.account_id}/{self.region}/{self.name}"


NO_CLUSTER: Final = ClusterRef("", "", "")


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
    """The part of DescribeCluster's answer that decisions need."""

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
    """The cancellation inside an update (EKS ``Cancellation``)."""

    status: str
    reason: str


FINAL_STATUSES: Final = frozenset({"Cancelled", "Successful", "Failed"})


@dataclass(frozen=True, slots=True)
class Update:
    """An EKS update as last described. Members that EKS leaves out are empty."""

    id: str
    status: str
    type: str
    params: tuple[UpdateParam, ...] = ()
    created_at: datetime | None = None
    errors: tuple[UpdateError, ...] = ()
    cancellation: UpdateCancellation | None = None

    @property
    def final(self) -> bool:
        """Whether EKS will no longer change it. An unknown status is not final."""
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
    """Why a caller cancels. The policy may require each of these texts.

    A new member needs a field of the same name in the protos, a length in ``rpc.request_fields`` and a
    property in policies/schemas/input.json.
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
    """Committed before anything is sent. ``token`` goes to EKS as clientRequestToken.

    ``method`` and ``decision_time`` are from the policy's input. The earliest ledgers lack them.
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
    """The result of a forward."""

    ACCEPTED = "accepted"  # EKS answered OK
    ALREADY_CANCELLING = "already_cancelling"  # by another cancel: nothing was sent, or EKS refused
    REFUSED = "refused"  # EKS evaluated the call and refused it
    NOT_FORWARDED = "not_forwarded"  # EKS did not evaluate the call
    UNKNOWN = "unknown"  # the call may have been sent, but was not answered


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error that a caller got, stored so that a repeat gets it too. Built by ``errors.record``."""

    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Committed after the forward. ``cluster_status`` is from DescribeCluster, after a refusal."""

    kind: OutcomeKind
    time: datetime
    update: Update | None = None
    error: ErrorRecord | None = None
    cluster_status: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """The update as EKS described it after the forward. ``note`` explains it.

    Without ``update``, the update is no longer followed. With it, ``note`` is what the update shows about a
    cancel that EKS did not answer.
    """

    time: datetime
    update: Update | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The record of one cancellation: a projection of its events in the ledger.

    ``update`` is the latest known. A ``settled`` cancellation is no longer followed: the update is final,
    the forward was refused or never made, or EKS has lost the update.
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

    @property
    def is_as_answered(self) -> bool:
        """Whether ``update`` is the one with which EKS answered CancelUpdate."""
        outcome = self.outcome
        return outcome is not None and outcome.kind is OutcomeKind.ACCEPTED and outcome.update == self.update


@dataclass(frozen=True, slots=True)
class Denial:
    """One denied cancel, for the ledger's denial log. ``policy_input`` is the policy's input."""

    time: datetime
    request_id: str
    caller: Caller
    request: CancelRequest
    decision: Decision
    stage: str
    policy_input: dict[str, Any] = field(default_factory=dict)
