"""An error of the gateway, as commands and the demo tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True, slots=True)
class Refusal:
    """gRPC's status, the ErrorInfo's reason, and sentences for people."""

    status: str
    reason: str
    sentences: tuple[str, ...]
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> Refusal:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it reads
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in status.details if status else ():
            for kind in (info, bad):
                if detail.Is(kind.DESCRIPTOR):
                    detail.Unpack(kind)
        told = info.metadata.get("reasons") or error.details() or ""
        faults = (f"{each.field}: {each.description}" for each in bad.field_violations)
        return cls(error.code().name, info.reason, (*told.split("\n"), *faults), dict(info.metadata))

    def __str__(self) -> str:
        name = ", ".join(filter(None, (self.status, self.reason)))
        return f"{name}: {' '.join(self.sentences)}"
