"""Errors of the Connect protocol: their codes, JSON and HTTP statuses.

See https://connectrpc.com/docs/protocol#error-codes. Debug is the JSON of a detail.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, descriptor_pool, json_format
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2

from eksgateway.errors import GatewayError
from eksgateway.rpc.context import Metadata
from eksgateway.rpc.error_status import status_of

_STATUS_KEY: Final = "grpc-status-details-bin"
_NAMES: Final = {code.value[0]: code.name.lower() for code in grpc.StatusCode} | {1: "canceled"}
_HTTP: Final = {
    "canceled": 499,
    "unknown": 500,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "data_loss": 500,
    "unauthenticated": 401,
}


class ConnectError(Exception):
    """Ends a call. ``trailing`` and ``initial`` are its metadata; ``headers`` are further ones of an HTTP
    error.
    """

    def __init__(
        self,
        status: status_pb2.Status,
        trailing: Metadata = (),
        initial: Metadata = (),
        *,
        http_status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status.message)
        self.code = _NAMES.get(status.code, "unknown")
        self.http_status = http_status or _HTTP[self.code]
        self.trailing = trailing
        self.initial = initial
        self.headers = headers or {}
        self._status = status

    def to_json(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code}
        if self._status.message:
            error["message"] = self._status.message
        if self._status.details:
            error["details"] = [_describe(detail) for detail in self._status.details]
        return error


def refuse(
    error: GatewayError,
    *,
    code: grpc.StatusCode | None = None,
    http_status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> ConnectError:
    """For a call that the edge does not pass on. ``code`` replaces that of the error's branch."""
    status = status_of(error)
    if code is not None:
        status.code = code.value[0]
    return ConnectError(status, http_status=http_status, headers=headers)


def from_grpc(error: grpc.aio.AioRpcError) -> ConnectError:
    """The gateway's own error, whole."""
    trailing = tuple(error.trailing_metadata() or ())
    status = status_pb2.Status()
    for key, value in trailing:
        if key == _STATUS_KEY and isinstance(value, bytes):
            with suppress(DecodeError):
                status.ParseFromString(value)
    status.code = error.code().value[0]
    status.message = error.details() or ""
    initial = tuple(error.initial_metadata() or ())
    return ConnectError(status, tuple(each for each in trailing if each[0] != _STATUS_KEY), initial)


def _describe(detail: any_pb2.Any) -> dict[str, Any]:
    name = detail.type_url.rpartition("/")[2]
    described: dict[str, Any] = {"type": name, "value": base64.b64encode(detail.value).decode().rstrip("=")}
    with suppress(KeyError, DecodeError, json_format.SerializeToJsonError):
        message = GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))()
        message.ParseFromString(detail.value)
        described["debug"] = json_format.MessageToDict(message)
    return described
