"""One RPC on its way through the interceptors, each of which adds what it learns."""

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
    """One RPC.

    ``decision_id`` is the id of all policy decisions made for it. ``request_id`` is the caller's, or
    generated. ``request`` is the first message, once it is parsed. ``resource`` is account/region/cluster,
    and /update if the request names one; it is set before the policy is asked. ``status`` and ``reason`` are
    those of the answer, ``check`` and ``issuer`` those of refused credentials. ``entered`` counts the
    interceptors that let the call in. ``seat`` is held while the call is served, but not as a watch.
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
        """The method's access; None for an unknown path."""
        return self.method.access if self.method else None

    @property
    def caller(self) -> Caller:
        """The verified caller, which every call has that reaches a handler of the gateway's services."""
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
        """May this call's caller do ``action``? At stage request, until facts are added."""
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
        """Count as a watch from here on. Raises Overloaded when all watches are held."""
        for held in self.held_quotas:
            held.move(Quota.WATCH)
        self.quota = Quota.WATCH

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        """The trailing metadata of every answer, errors included."""
        return (
            ("eksgateway-request-id", self.request_id),
            ("eksgateway-decision-id", self.decision_id),
        )
