"""How commands and the demo show errors, phases and reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from eksgateway.client.errors import ErrorDetails
from eksgateway.v1.cancellation_pb2 import CancellationPhase
from eksgateway.v1.error_reason_pb2 import ErrorReason


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """``sentences`` are for people; ``hints`` are the client's own."""

    status: str
    reason: str
    sentences: tuple[str, ...]
    metadata: Mapping[str, str]
    hints: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> ErrorReport:
        details = ErrorDetails.of(error)
        violations = (f"{field}: {description}" for field, description in details.violations)
        hints = tuple(getattr(error, "__notes__", ()))
        sentences = (*details.reasons, *violations)
        return cls(details.code.name, details.reason, sentences, details.metadata, hints)

    def __str__(self) -> str:
        name = ", ".join(filter(None, (self.status, self.reason)))
        lines = [f"{name}: {' '.join(filter(None, self.sentences))}"]
        if decision := self.metadata.get("decision_id"):
            rules = self.metadata.get("rule_ids", "").replace(",", ", ")
            lines.append(f"decision {decision}" + (f", rules {rules}" if rules else ""))
        return "\n".join(map(printable, [*lines, *self.hints]))


def phase_name(phase: CancellationPhase.ValueType) -> str:
    """For example CANCELLED, or ``phase 9`` for a newer gateway's."""
    known = phase in CancellationPhase.values()
    return CancellationPhase.Name(phase).removeprefix("CANCELLATION_PHASE_") if known else f"phase {phase}"


def reason_name(reason: ErrorReason.ValueType) -> str:
    """For example POLICY_DENIED, or ``reason 99`` for a newer gateway's."""
    known = reason in ErrorReason.values()
    return ErrorReason.Name(reason).removeprefix("ERROR_REASON_") if known else f"reason {reason}"


def printable(text: str) -> str:
    """Replace characters that a terminal would interpret by spaces."""
    return "".join(each if each.isprintable() else " " for each in text)
