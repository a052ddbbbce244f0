"""One RPC on its way through the interceptors: each fills in what it finds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from eksgateway.errors import CredentialsMissing
from eksgateway.model import Caller
from eksgateway.rpc.methods import Method

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(slots=True)
class Call:
    """What is known of one RPC. ``decision_id`` is the one id of every decision made for it.

    ``request`` is set once identity was proved, to a client's first message; ``status`` and ``reason``
    are what the caller was told.
    """

    path: str
    method: Method | None
    peer: str
    metadata: Metadata
    decision_id: str
    request_id: str
    identified: Caller | None = None
    request: Message | None = None
    status: str = "OK"
    reason: str = ""
    log: dict[str, str] = field(default_factory=dict)

    @property
    def caller(self) -> Caller:
        """The verified caller; handlers are only reached with one."""
        if self.identified is None:
            raise CredentialsMissing
        return self.identified

    def trailing(self) -> tuple[tuple[str, str], ...]:
        """The trailing metadata of every answer, errors included."""
        return (
            ("eksgateway-request-id", self.request_id),
            ("eksgateway-decision-id", self.decision_id),
        )
