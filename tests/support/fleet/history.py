"""The history of a run of several replicas: the input of ``support.fleet.validator``. Plain values.

Times are seconds since the epoch, of one machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from eksgateway.ledger.hash_chain import Event
from eksgateway.model import CancelRequest, Target, Update, UpdateRef

OK: Final = "OK"
NO_ANSWER: Final = "NO_ANSWER"  # the connection broke, or the client's deadline passed
FOREVER: Final = float("inf")

State = tuple[str, str]  # the update's status, and that of its cancellation or ""


def state_of(update: Update) -> State:
    return update.status, update.cancellation.status if update.cancellation else ""


@dataclass(frozen=True, slots=True)
class Stay:
    """EKS shows ``state`` from ``since`` until ``until``."""

    state: State
    since: float
    until: float = FOREVER


@dataclass(frozen=True, slots=True)
class CommittedEvent:
    """``committed`` is the time of the COMMIT that wrote it."""

    event: Event
    committed: float


@dataclass(frozen=True, slots=True)
class EksCall:
    """``acted`` is False where EKS certainly did not evaluate the call: it throttled it."""

    operation: str
    replica: str
    target: Target
    began: float
    ended: float
    ref: UpdateRef | None = None
    token: str = ""
    acted: bool = True


@dataclass(frozen=True, slots=True)
class Attempt:
    """One CancelUpdate of a client. ``result`` is OK, NO_ANSWER or an ErrorReason."""

    replica: str
    caller: str
    request_id: str
    request: CancelRequest
    began: float
    ended: float
    result: str
    cancellation_id: str = ""
    phase: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.caller, self.request_id


@dataclass(frozen=True, slots=True)
class Read:
    """Another call about one update (check, get) that makes the replica read EKS by itself."""

    replica: str
    ref: UpdateRef
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a watch."""

    replica: str
    received: float
    kind: str
    state: State
    phase: str
    sequence: int
    observed: float


@dataclass(frozen=True, slots=True)
class Line:
    """All messages of one watcher, over as many streams as its resume token went through."""

    ref: UpdateRef
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """``replicas`` are those it hits; ``database`` if it hits PostgreSQL or the way there.

    ``ends`` if a process was ended, so that what it had in memory is lost.
    """

    what: str
    began: float
    ended: float
    replicas: frozenset[str] = frozenset()
    database: bool = False
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """Settings of the replicas, in seconds and calls. ``slack`` is for the load of the machine, ``late`` is
    the longest way of a call from its token to EKS.
    """

    rate: float
    size: float
    claim: float
    look: float  # from a state at EKS to its place in the ledger, at the most
    decision_max_age: float
    slack: float = 1.0
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class History:
    """``attempts``, ``reads``, ``lines`` are of all clients; ``stays`` is what EKS showed of each update.

    ``ended`` is when everything had come to rest.
    """

    bounds: Bounds
    events: tuple[CommittedEvent, ...] = ()
    calls: tuple[EksCall, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    reads: tuple[Read, ...] = ()
    lines: tuple[Line, ...] = ()
    faults: tuple[Fault, ...] = ()
    stays: dict[UpdateRef, tuple[Stay, ...]] = field(default_factory=dict)
    ended: float = FOREVER
