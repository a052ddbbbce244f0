"""An error of a call, as commands and the demo show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from eksgateway.client import ErrorDetails
from eksgateway.client.retries import BROKEN, may_pass
from eksgateway.v1.cancellation_pb2 import CancellationPhase

# Exit codes of `watch` and `cancel`, beside 0; 2 is click's for arguments that do not fit.
REFUSED, CREDENTIALS, UNREACHABLE, TIMED_OUT, INTERRUPTED = 1, 4, 5, 124, 130


@dataclass(frozen=True, slots=True)
class Refusal:
    """gRPC's status, the ErrorInfo's reason, and sentences for people; ``hints`` are the client's own."""

    status: str
    reason: str
    sentences: tuple[str, ...]
    metadata: Mapping[str, str]
    hints: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> Refusal:
        said = ErrorDetails.of(error)
        faults = (f"{field}: {description}" for field, description in said.violations)
        hints = tuple(getattr(error, "__notes__", ()))
        return cls(said.code.name, said.reason, (*said.reasons, *faults), said.metadata, hints)

    def __str__(self) -> str:
        """A line with what was refused and why, and one each for the decision and for hints."""
        name = ", ".join(filter(None, (self.status, self.reason)))
        lines = [f"{name}: {' '.join(filter(None, self.sentences))}"]
        if decision := self.metadata.get("decision_id"):
            rules = self.metadata.get("rule_ids", "").replace(",", ", ")
            lines.append(f"decision {decision}" + (f", rules {rules}" if rules else ""))
        return "\n".join(map(printable, [*lines, *self.hints]))


def exit_code(error: grpc.aio.AioRpcError) -> int:
    """The one of a command that ends with this error."""
    said = ErrorDetails.of(error)
    if said.code is grpc.StatusCode.UNAUTHENTICATED:
        return CREDENTIALS
    if said.reason:
        return TIMED_OUT if may_pass(said) else REFUSED
    if said.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TIMED_OUT
    return UNREACHABLE if said.code in BROKEN else REFUSED


def phase_name(phase: CancellationPhase.ValueType) -> str:
    """CANCELLED for CANCELLATION_PHASE_CANCELLED; a number for a phase of a newer gateway."""
    if phase not in CancellationPhase.values():
        return f"phase {phase}"
    return CancellationPhase.Name(phase).removeprefix("CANCELLATION_PHASE_")


def printable(text: str) -> str:
    """Text of others on one line, without what a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in text)
