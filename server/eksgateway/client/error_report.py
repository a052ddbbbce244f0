"""How commands and the demo show errors and phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from eksgateway.client.errors import ErrorDetails
from eksgateway.v1.cancellation_pb2 import CancellationPhase


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
    if phase not in CancellationPhase.values():
        return f"phase {phase}"
    return CancellationPhase.Name(phase).removeprefix("CANCELLATION_PHASE_")


def printable(text: str) -> str:
    """Replace characters that a terminal would interpret by spaces."""
    return "".join(each if each.isprintable() else " " for each in text)
