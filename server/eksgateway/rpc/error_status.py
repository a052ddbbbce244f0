"""Turns exceptions into gRPC statuses. No other module picks a status or logs a call's error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Final, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from eksgateway import errors
from eksgateway.logs import Log
from eksgateway.rpc.call import Call
from eksgateway.rpc.context import RpcContext, send
from eksgateway.rpc.trailers import DETAILS, fit_status, truncate, truncate_list

log = Log(__name__)

_DOMAIN: Final = "eksgateway"
_LIST_SEPARATORS: Final = {"reasons": "\n", "rule_ids": ","}  # of the metadata that holds lists

STATUS: Final[dict[type[errors.GatewayError], grpc.StatusCode]] = {
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


async def abort(call: Call, context: RpcContext, exc: Exception) -> NoReturn:
    """End the call with the status of ``exc``: INTERNAL with a fixed text, and a log line, if it is no
    GatewayError. Always raises, as grpc's ``abort`` does.
    """
    if not isinstance(exc, errors.GatewayError):
        log.error("rpc.unexpected", method=call.path, decision_id=call.decision_id, exc_info=exc)
        exc = errors.Internal()
    elif isinstance(exc, errors.Fault) or exc.detail:
        log.warning("rpc.error", reason=exc.reason, detail=exc.detail, decision_id=call.decision_id)
    ids = call.trailing_metadata()
    try:
        status = fit_status(partial(status_of, exc, call.resource), ids)
    except ValueError:  # a text that is not Unicode
        log.exception("rpc.error_not_encodable", reason=exc.reason, decision_id=call.decision_id)
        exc = errors.Internal()
        status = status_of(exc)
    code = code_of(exc)
    call.status, call.reason = code.name, exc.reason
    if isinstance(exc, errors.Unauthenticated):
        call.check, call.issuer = exc.check, exc.issuer
    # grpc drops the trailing metadata that was set before.
    trailing = (*ids, (DETAILS, status.SerializeToString()))
    await send(context.abort(code, status.message, trailing))
    raise AssertionError("grpc's abort returned")


def code_of(error: errors.GatewayError) -> grpc.StatusCode:
    return next(STATUS[branch] for branch in type(error).__mro__ if branch in STATUS)


def status_of(
    error: errors.GatewayError, resource: str = "", max_bytes: int | None = None
) -> status_pb2.Status:
    """Each text is cut to ``max_bytes``; ErrorInfo's metadata counts what is left out of each list.

    ``resource`` is the subject of a PreconditionFailure.
    """
    code = code_of(error)
    message = truncate(error.message, max_bytes)
    metadata = _metadata(error.metadata, max_bytes)
    details: list[Message] = []
    if error.retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(math.ceil(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.violations and code is grpc.StatusCode.INVALID_ARGUMENT:
        bad_request = _bad_request(error.violations, max_bytes)
        _count_left_out(metadata, "violations", len(error.violations) - len(bad_request.field_violations))
        details.append(bad_request)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=error.reason,
            subject=truncate(resource, max_bytes),
            description=message if max_bytes is None else "",
        )
        details.append(error_details_pb2.PreconditionFailure(violations=[violation]))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=_DOMAIN, metadata=metadata)
    return status_pb2.Status(code=code.value[0], message=message, details=map(_pack, (info, *details)))


def _pack(detail: Message) -> any_pb2.Any:
    # ``Any.Pack`` takes 2 µs more.
    url = f"type.googleapis.com/{detail.DESCRIPTOR.full_name}"
    return any_pb2.Any(type_url=url, value=detail.SerializeToString())


def _metadata(whole: Mapping[str, str], max_bytes: int | None) -> dict[str, str]:
    if max_bytes is None:
        return dict(whole)
    metadata: dict[str, str] = {}
    for key, value in whole.items():
        separator = _LIST_SEPARATORS.get(key)
        if separator is None:
            metadata[key] = truncate(value, max_bytes)
            continue
        items = value.split(separator)
        kept = truncate_list(items, max_bytes)
        metadata[key] = separator.join(kept)
        _count_left_out(metadata, key, len(items) - len(kept))
    return metadata


def _count_left_out(metadata: dict[str, str], name: str, count: int) -> None:
    if count:
        metadata[f"{name}_left_out"] = str(count)


def _bad_request(violations: Mapping[str, str], max_bytes: int | None) -> error_details_pb2.BadRequest:
    violation = error_details_pb2.BadRequest.FieldViolation
    kept = len(truncate_list([path + fault for path, fault in violations.items()], max_bytes))
    return error_details_pb2.BadRequest(
        field_violations=[
            violation(field=truncate(path, max_bytes), description=truncate(fault, max_bytes))
            for path, fault in list(violations.items())[:kept]
        ]
    )
