"""One RPC on its way through the interceptors."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from google.protobuf.message import Message

from eksgateway.errors import CredentialsMissing
from eksgateway.model import NO_JUSTIFICATION, Action, Caller, ClusterRef, Justification
from eksgateway.policy.question import Question
from eksgateway.rpc.context import Metadata
from eksgateway.rpc.methods import Access, Method, Quota
from eksgateway.rpc.queues import Seat
from eksgateway.rpc.quotas import HeldQuota


@dataclass(slots=True)
class Call:
    """``decision_id`` is the id of all policy decisions made for the call. ``request_id`` is the caller's, or
    generated. ``request`` is the first message. ``resource`` is account/region/cluster, and /update if the
    request names one. ``check`` and ``issuer`` are those of refused credentials. ``entered`` counts the
    interceptors that let the call in.
    """

    path: str
    method: Method | None  # None for an unknown path
    peer: str
    metadata: Metadata
    decision_id: str
    request_id: str
    verified_caller: Caller | None = None
    request: Message | None = None
    resource: str = ""
    status: str = "OK"
    reason: str = ""
    check: str = ""
    issuer: str = ""
    quota: Quota = Quota.CALL
    started: float = 0.0  # monotonic
    entered: int = 0
    held_quotas: list[HeldQuota] = field(default_factory=list)
    seat: Seat | None = None

    def __post_init__(self) -> None:
        if self.method is not None:
            self.quota = self.method.quota

    @property
    def access(self) -> Access | None:
        return self.method.access if self.method else None

    @property
    def caller(self) -> Caller:
        """Every call that reaches a handler of the gateway's services has one."""
        if self.verified_caller is None:
            raise CredentialsMissing
        return self.verified_caller

    def question(
        self,
        action: Action,
        cluster: ClusterRef,
        time: datetime,
        justification: Justification = NO_JUSTIFICATION,
    ) -> Question:
        """At stage request, until facts are added."""
        return Question(
            caller=self.caller,
            action=action,
            cluster=cluster,
            method=self.path,
            decision_id=self.decision_id,
            time=time,
            justification=justification,
        )

    def become_watch(self) -> None:
        """Raises Overloaded when all watches are held."""
        for held in self.held_quotas:
            held.move(Quota.WATCH)
        self.quota = Quota.WATCH

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        """Of every answer, errors included."""
        return (("eksgateway-request-id", self.request_id), ("eksgateway-decision-id", self.decision_id))
