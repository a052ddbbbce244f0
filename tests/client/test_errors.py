"""Parsing errors, including ones changed on the way."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from eksgateway import errors
from eksgateway.client import ErrorDetails
from eksgateway.rpc.error_status import status_of

KEY = "grpc-status-details-bin"
DENIED = status_of(errors.PolicyDenied(metadata={"reasons": "one\ntwo", "decision_id": "d-1"}))


def error(*trailers: tuple[str, Any], code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> Any:
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details="grpc's text"
    )


def pack(*details: Message, code: int = 7) -> bytes:
    status = status_pb2.Status(code=code, message="no")
    for detail in details:
        status.details.add().Pack(detail)
    return bytes(status.SerializeToString())


def test_all_details_of_the_gateway_are_parsed() -> None:
    sent = rpc_status.to_status(status_of(errors.RequestInvalid(violations={"reason": "is empty"})))
    parsed = ErrorDetails.of(error(*sent.trailing_metadata, code=sent.code))
    assert (parsed.code, parsed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
    assert parsed.violations == (("reason", "is empty"),)
    assert parsed.retry_s is None
    assert ErrorDetails.of(error((KEY, status_of(errors.Overloaded()).SerializeToString()))).retry_s == 1
    assert ErrorDetails.of(error((KEY, DENIED.SerializeToString()))).reasons == ("one", "two")


def test_details_override_a_changed_status() -> None:
    """A refusal that a proxy turned into UNAVAILABLE is not worth a retry."""
    parsed = ErrorDetails.of(error((KEY, DENIED.SerializeToString())))
    assert (parsed.code, parsed.reason) == (grpc.StatusCode.PERMISSION_DENIED, "POLICY_DENIED")


OTHER = error_details_pb2.ErrorInfo(reason="RATE_LIMITED", domain="proxy.example")
OURS = error_details_pb2.ErrorInfo(reason="POLICY_DENIED", domain="eksgateway")


@pytest.mark.parametrize(
    "trailers",
    [
        pytest.param((), id="none"),
        pytest.param(((KEY, b""),), id="empty"),
        pytest.param(((KEY, b"\xff\xff\xff"),), id="no Status"),
        pytest.param(((KEY, pack()),), id="no details"),
        pytest.param(((KEY, pack(OTHER)),), id="of another domain"),
        pytest.param(((KEY, pack(OURS, code=99)),), id="of a code that is none"),
        pytest.param(
            ((KEY, status_pb2.Status(code=7, details=[any_pb2.Any(type_url="x")]).SerializeToString()),),
            id="of an unknown type",
        ),
        pytest.param(
            (
                (
                    KEY,
                    status_pb2.Status(
                        code=7,
                        details=[
                            any_pb2.Any(
                                type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff"
                            )
                        ],
                    ).SerializeToString(),
                ),
            ),
            id="that do not parse",
        ),
    ],
)
def test_foreign_or_malformed_details_count_as_absent(trailers: tuple[tuple[str, bytes], ...]) -> None:
    assert ErrorDetails.of(error(*trailers)) == ErrorDetails(grpc.StatusCode.UNAVAILABLE, "grpc's text")


def test_error_without_a_message() -> None:
    empty: Any = grpc.aio.Metadata()
    bare = grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, empty, empty)
    assert ErrorDetails.of(bare) == ErrorDetails(grpc.StatusCode.UNKNOWN)
