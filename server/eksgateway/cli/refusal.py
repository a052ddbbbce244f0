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
        info = error_details_pb2.ErrorInfo()
        for detail in status.details if status else ():
            if detail.Is(info.DESCRIPTOR):
                detail.Unpack(info)
        told = info.metadata.get("reasons") or error.details() or ""
        return cls(error.code().name, info.reason, tuple(told.split("\n")), dict(info.metadata))

    def __str__(self) -> str:
        name = ", ".join(filter(None, (self.status, self.reason)))
        return f"{name}: {' '.join(self.sentences)}"
