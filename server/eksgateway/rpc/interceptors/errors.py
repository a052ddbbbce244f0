"""The one place where errors become statuses; what the caller is told and what the log is told part here."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from eksgateway import errors
from eksgateway.logs import Log
from eksgateway.rpc.call import Call
from eksgateway.rpc.interceptors.sending import send

log = Log("eksgateway.rpc")

DOMAIN = "eksgateway"

STATUS: dict[type[errors.GatewayError], grpc.StatusCode] = {
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Denied: grpc.StatusCode.PERMISSION_DENIED,
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.Fault: grpc.StatusCode.INTERNAL,
}


async def end(call: Call, context: Any, exc: Exception) -> NoReturn:
    """Tell the caller what ended the call; always raises, as grpc's ``abort`` does. An unexpected exception
    tells nothing.
    """
    if not isinstance(exc, errors.GatewayError):
        log.error("rpc.unexpected", method=call.path, decision_id=call.decision_id, exc_info=exc)
        exc = errors.Internal()
    elif isinstance(exc, errors.Fault) or exc.detail:
        log.warning("rpc.error", reason=exc.reason, detail=exc.detail, decision_id=call.decision_id)
    await _abort(call, context, exc)


async def _abort(call: Call, context: Any, error: errors.GatewayError) -> NoReturn:
    try:
        # A named tuple, whatever its stub says.
        status: Any = rpc_status.to_status(status_of(error, call.about))
    except ValueError:  # a text that is not Unicode
        log.exception("rpc.untellable", reason=error.reason, decision_id=call.decision_id)
        error = errors.Internal()
        status = rpc_status.to_status(status_of(error))
    call.status, call.reason = status.code.name, error.reason
    # Without this, grpc drops the trailing metadata that was set before.
    trailing = (*call.trailing(), *status.trailing_metadata)
    await send(context.abort_with_status(status._replace(trailing_metadata=trailing)))
    raise AssertionError("grpc's abort returned")


def status_of(error: errors.GatewayError, subject: str = "") -> status_pb2.Status:
    """The google.rpc.Status of an error: ErrorInfo always, the others where they apply. ``subject`` is what
    a precondition failed for.
    """
    code = next(STATUS[branch] for branch in type(error).__mro__ if branch in STATUS)
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    if error.retry_after is not None:
        nanos = math.ceil(error.retry_after * 1e9)
        delay = Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.violations and code is grpc.StatusCode.INVALID_ARGUMENT:
        details.append(_bad_request(error))
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        details.append(_precondition(error, subject))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=error.message, details=packed)


def _bad_request(error: errors.GatewayError) -> error_details_pb2.BadRequest:
    violation = error_details_pb2.BadRequest.FieldViolation
    return error_details_pb2.BadRequest(
        field_violations=[violation(field=k, description=v) for k, v in error.violations.items()]
    )


def _precondition(error: errors.GatewayError, subject: str) -> error_details_pb2.PreconditionFailure:
    violation = error_details_pb2.PreconditionFailure.Violation
    return error_details_pb2.PreconditionFailure(
        violations=[violation(type=error.reason, subject=subject, description=error.message)]
    )
