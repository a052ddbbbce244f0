"""One RPC on its way through the interceptors: each fills in what it finds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from google.protobuf.message import Message

from eksgateway.errors import CredentialsMissing
from eksgateway.model import NO_JUSTIFICATION, Action, Caller, ClusterRef, Justification
from eksgateway.policy.question import Question
from eksgateway.rpc.methods import Method, Place
from eksgateway.rpc.queues import Seat

Metadata = Sequence[tuple[str, str | bytes]]


class Hold(Protocol):
    """A place that a call holds in a budget."""

    def move(self, place: Place) -> None:
        """Hold one of another kind instead; raises Overloaded, and nothing has changed then."""

    def give(self) -> None:
        """Hold it no more."""


@dataclass(slots=True)
class Call:
    """What is known of one RPC. ``decision_id`` is the one id of every decision made for it.

    ``request`` is set once identity was proved, to a client's first message, and ``about`` when the policy
    is asked: the account/region/cluster that it names, and /update if it names one; ``status`` and
    ``reason`` are what the caller was told. ``check`` and ``issuer`` are those of refused credentials.
    ``admitted`` counts the interceptors that let it through, and ``holds`` are the places that it has in
    budgets, in the order they were taken. ``seat`` is held while the call is worked on.
    """

    path: str
    method: Method | None
    peer: str
    metadata: Metadata
    decision_id: str
    request_id: str
    identified: Caller | None = None
    request: Message | None = None
    about: str = ""
    status: str = "OK"
    reason: str = ""
    check: str = ""
    issuer: str = ""
    place: Place = Place.CALL
    started: float = 0.0  # monotonic
    admitted: int = 0
    holds: list[Hold] = field(default_factory=list)
    seat: Seat | None = None

    def __post_init__(self) -> None:
        if self.method is not None:
            self.place = self.method.place

    @property
    def caller(self) -> Caller:
        """The verified caller; handlers are only reached with one."""
        if self.identified is None:
            raise CredentialsMissing
        return self.identified

    def question(
        self, action: Action, cluster: ClusterRef, time: datetime, why: Justification = NO_JUSTIFICATION
    ) -> Question:
        """May this call's caller do ``action``? At stage request, until facts are added."""
        return Question(
            caller=self.caller,
            action=action,
            cluster=cluster,
            method=self.path,
            decision_id=self.decision_id,
            time=time,
            justification=why,
        )

    def become_watch(self) -> None:
        """From here on it counts as a watch and no more as a call; raises Overloaded when all are held."""
        for hold in self.holds:
            hold.move(Place.WATCH)
        self.place = Place.WATCH

    def trailing(self) -> tuple[tuple[str, str], ...]:
        """The trailing metadata of every answer, errors included."""
        return (
            ("eksgateway-request-id", self.request_id),
            ("eksgateway-decision-id", self.decision_id),
        )
