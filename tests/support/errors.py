"""The details of errors, decoded."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from eksgateway.client import ErrorDetails

_TYPES: tuple[type[Message], ...] = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.RetryInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.PreconditionFailure,
)


def parse_error(raw: bytes) -> ErrorDetails:
    """The details in the trailer ``grpc-status-details-bin``."""
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", raw))
    return ErrorDetails.of(grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, grpc.aio.Metadata(), trailers))


def decode_details(error: grpc.aio.AioRpcError) -> dict[str, Message]:
    """Every detail of an error, by message name. Each name may occur once."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it reads
    types = {each.DESCRIPTOR.full_name: each for each in _TYPES}
    found: dict[str, Message] = {}
    for detail in status.details if status else ():
        message = types[detail.TypeName()]()
        detail.Unpack(message)
        assert message.DESCRIPTOR.name not in found
        found[message.DESCRIPTOR.name] = message
    return found
