"""The one place where errors become statuses; what the caller is told and what the log is told part here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
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
from eksgateway.rpc.interceptors.stream_headers import send
from eksgateway.rpc.trailers import cut, cut_list, fitting

log = Log(__name__)

DOMAIN = "eksgateway"
# Metadata that holds a list, by what separates its items.
_LISTS = {"reasons": "\n", "rule_ids": ","}

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
    ids = call.trailing()
    try:
        # A named tuple, whatever its stub says.
        status: Any = rpc_status.to_status(fitting(partial(status_of, error, call.about), ids))
    except ValueError:  # a text that is not Unicode
        log.exception("rpc.untellable", reason=error.reason, decision_id=call.decision_id)
        error = errors.Internal()
        status = rpc_status.to_status(status_of(error))
    call.status, call.reason = status.code.name, error.reason
    if isinstance(error, errors.Unauthenticated):
        call.check, call.issuer = error.check, error.issuer
    # Without this, grpc drops the trailing metadata that was set before.
    trailing = (*ids, *status.trailing_metadata)
    await send(context.abort_with_status(status._replace(trailing_metadata=trailing)))
    raise AssertionError("grpc's abort returned")


def status_of(error: errors.GatewayError, subject: str = "", most: int | None = None) -> status_pb2.Status:
    """The google.rpc.Status of an error: ErrorInfo always, the others where they apply.

    ``subject`` is what a precondition failed for. Texts have at most ``most`` bytes each; how many items of
    a list are left out for that is in the metadata of ErrorInfo.
    """
    code = next(STATUS[branch] for branch in type(error).__mro__ if branch in STATUS)
    message = cut(error.message, most)
    metadata = _metadata(error.metadata, most)
    others: list[Message] = []
    if error.retry_after is not None:
        nanos = math.ceil(error.retry_after * 1e9)
        delay = Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
        others.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.violations and code is grpc.StatusCode.INVALID_ARGUMENT:
        found = _bad_request(error.violations, most)
        _count(metadata, "violations", len(error.violations) - len(found.field_violations))
        others.append(found)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        others.append(_precondition(error.reason, cut(subject, most), message if most is None else ""))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    packed = []
    for detail in (info, *others):
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


def _metadata(whole: Mapping[str, str], most: int | None) -> dict[str, str]:
    told = {}
    for key, value in whole.items():
        separator = _LISTS.get(key)
        if separator is None:
            told[key] = cut(value, most)
            continue
        items = value.split(separator)
        kept = cut_list(items, most)
        told[key] = separator.join(kept)
        _count(told, key, len(items) - len(kept))
    return told


def _count(metadata: dict[str, str], what: str, left_out: int) -> None:
    if left_out:
        metadata[f"{what}_left_out"] = str(left_out)


def _bad_request(violations: Mapping[str, str], most: int | None) -> error_details_pb2.BadRequest:
    violation = error_details_pb2.BadRequest.FieldViolation
    kept = len(cut_list([path + why for path, why in violations.items()], most))
    return error_details_pb2.BadRequest(
        field_violations=[
            violation(field=cut(path, most), description=cut(why, most))
            for path, why in list(violations.items())[:kept]
        ]
    )


def _precondition(reason: str, subject: str, description: str) -> error_details_pb2.PreconditionFailure:
    violation = error_details_pb2.PreconditionFailure.Violation
    return error_details_pb2.PreconditionFailure(
        violations=[violation(type=reason, subject=subject, description=description)]
    )
