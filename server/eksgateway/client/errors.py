"""Parses the details of the gateway's errors."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN: Final = "eksgateway"
_TRAILER: Final = "grpc-status-details-bin"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """The parsed details of an AioRpcError.

    ``reason`` is a name of ``ErrorReason``, or a newer gateway's; empty if the error is not the gateway's.
    ``code`` is the gateway's, even if a proxy has changed it. ``retry_s`` is the wait that it requests.
    """

    code: grpc.StatusCode
    message: str = ""
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[tuple[str, str], ...] = ()
    retry_s: float | None = None

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> ErrorDetails:
        """Never raises. Details that do not parse count as absent."""
        trailers = error.trailing_metadata() or ()
        statuses = [value for key, value in trailers if key == _TRAILER and isinstance(value, bytes)]
        return next(filter(None, map(_parse, statuses)), cls(error.code(), error.details() or ""))

    @property
    def reasons(self) -> tuple[str, ...]:
        """The policy's reasons if there are any, else the message."""
        return tuple((self.metadata.get("reasons") or self.message).split("\n"))


def _parse(raw: bytes) -> ErrorDetails | None:
    try:
        status = status_pb2.Status.FromString(raw)
    except DecodeError:
        return None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for message in (info, bad, retry):
        for detail in status.details:
            with suppress(DecodeError):
                detail.Unpack(message)
    if info.domain != DOMAIN or status.code not in _CODES:
        return None
    delay = retry.retry_delay
    return ErrorDetails(
        code=_CODES[status.code],
        message=status.message,
        reason=info.reason,
        metadata=dict(info.metadata),
        violations=tuple((each.field, each.description) for each in bad.field_violations),
        retry_s=max(0.0, delay.seconds + delay.nanos / 1e9) if retry.HasField("retry_delay") else None,
    )
