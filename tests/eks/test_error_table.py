"""The gateway's errors for errors of AWS and botocore."""

from __future__ import annotations

import inspect
import re
import socket
import ssl
import string
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import botocore.session
import pytest
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from eksgateway.eks.error_table import to_credentials_error, to_one_line, translate
from eksgateway.errors import (
    EksClientError,
    EksError,
    EksInvalidParameter,
    EksInvalidRequest,
    EksInvalidState,
    EksNoAnswer,
    EksNotFound,
    EksNotReached,
    EksRefused,
    EksResourceInUse,
    EksThrottled,
    EksUnavailable,
    UpstreamCredentials,
)

OPERATIONS = ("ListClusters", "DescribeCluster", "DescribeUpdate", "ListUpdates", "CancelUpdate")
CANARY = "canary-8d1f"
LOST = EksNoAnswer  # stands for the error of an unknown result

MODELLED: dict[str, type[EksError]] = {
    "InvalidParameterException": EksInvalidParameter,
    "InvalidRequestException": EksInvalidRequest,
    "InvalidStateException": EksInvalidState,
    "ResourceInUseException": EksResourceInUse,
    "ResourceNotFoundException": EksNotFound,
    "ClientException": EksClientError,
    "ThrottlingException": EksThrottled,
    "ServerException": LOST,
    "ServiceUnavailableException": LOST,
}


def client_error(
    code: str, status: int, message: str = "EKS's word.", operation: str = "CancelUpdate"
) -> aws.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "r-1"},
    }
    return aws.ClientError(response, operation)


def eks_model() -> Any:
    return botocore.session.get_session().get_service_model("eks")


def list_modeled_errors() -> list[tuple[str, str, int]]:
    service = eks_model()
    return [
        (operation, shape.error_code, shape.metadata["error"]["httpStatusCode"])
        for operation in OPERATIONS
        for shape in service.operation_model(operation).error_shapes
    ]


@pytest.mark.parametrize(("operation", "code", "status"), list_modeled_errors())
def test_each_modeled_error_has_its_own_type_and_code(operation: str, code: str, status: int) -> None:
    error = translate(client_error(code, status, operation=operation), operation, LOST)
    assert type(error) is MODELLED[code]
    assert error.metadata == {"eks_code": code}


def test_modeled_errors_with_a_5xx_have_an_unknown_result() -> None:
    for shape in eks_model().error_shapes:
        status = shape.metadata["error"]["httpStatusCode"]
        error = translate(client_error(shape.error_code, status), "CancelUpdate", LOST)
        assert (type(error) is LOST) == (status >= 500), shape.error_code


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("TooManyRequestsException", 429, EksThrottled),
        ("RequestLimitExceeded", 400, EksThrottled),
        ("Throttling", 400, EksThrottled),
        ("ThrottlingException", 503, EksThrottled),
        ("NobodyKnowsThisOne", 429, EksThrottled),
        ("429", 429, LOST),
        ("AccessDenied", 403, UpstreamCredentials),
        ("AccessDeniedException", 403, UpstreamCredentials),
        ("UnrecognizedClientException", 403, UpstreamCredentials),
        ("InvalidClientTokenId", 403, UpstreamCredentials),
        ("InvalidSignatureException", 403, UpstreamCredentials),
        ("SignatureDoesNotMatch", 403, UpstreamCredentials),
        ("ExpiredToken", 400, UpstreamCredentials),
        ("ExpiredTokenException", 403, UpstreamCredentials),
        ("MissingAuthenticationToken", 403, UpstreamCredentials),
        ("IncompleteSignature", 400, UpstreamCredentials),
        ("OptInRequired", 403, UpstreamCredentials),
        ("RequestTimeTooSkewed", 403, UpstreamCredentials),
        ("NobodyKnowsThisOne", 400, EksClientError),
        ("NobodyKnowsThisOne", 404, EksClientError),
        ("403", 403, LOST),
        ("407", 407, LOST),
        ("413", 413, LOST),
        ("", 400, LOST),
        ("InvalidStateException", 502, LOST),
        ("AccessDenied", 503, LOST),
        ("ValidationException", 400, EksClientError),
        ("UnknownOperationException", 404, EksClientError),
        ("NobodyKnowsThisOne", 500, LOST),
        ("502", 502, LOST),
        ("InternalFailure", 500, LOST),
        ("RequestTimeout", 400, LOST),
        ("RequestAbortedException", 400, LOST),
        ("408", 408, LOST),
        ("301", 301, LOST),
    ],
)
def test_unmodeled_codes_are_translated_by_meaning_or_status_class(
    code: str, status: int, expected: type[EksError]
) -> None:
    error = translate(client_error(code, status), "CancelUpdate", LOST)
    assert type(error) is expected
    assert error.metadata == ({"eks_code": code} if code else {})


def test_a_rate_limit_in_an_invalid_request_is_throttling() -> None:
    """EKS sends `Request limit exceeded` as an InvalidRequestException too."""
    error = translate(
        client_error("InvalidRequestException", 400, "Request limit exceeded."), "CancelUpdate", LOST
    )
    assert type(error) is EksThrottled


def test_throttling_has_a_retry_time_and_a_refusal_has_none() -> None:
    assert translate(client_error("Throttling", 400), "CancelUpdate", LOST).retry_after
    assert translate(client_error("ClientException", 400), "CancelUpdate", LOST).retry_after is None


def test_a_refusal_has_the_message_of_eks() -> None:
    error = translate(client_error("InvalidStateException", 400, "Too late."), "CancelUpdate", LOST)
    assert isinstance(error, EksRefused)
    assert error.message == "Too late."


@pytest.mark.parametrize(
    ("code", "status"),
    [("AccessDenied", 403), ("SignatureDoesNotMatch", 403), ("Throttling", 400), ("InternalFailure", 500)],
)
def test_other_errors_have_a_fixed_message(code: str, status: int) -> None:
    error = translate(client_error(code, status, CANARY), "CancelUpdate", LOST)
    assert error.message == type(error).default
    assert CANARY not in str(error.metadata)


@pytest.mark.parametrize("lost", [EksUnavailable, EksNoAnswer])
@pytest.mark.parametrize(("code", "status"), [("403", 403), ("", 400), ("Forbidden", 403), ("429x", 413)])
def test_an_answer_without_code_and_request_id_has_an_unknown_result(
    code: str, status: int, lost: type[EksError]
) -> None:
    """It comes from a proxy, and so does its text."""
    exc = client_error(code, status, f"<html>{CANARY}</html>")
    metadata: Any = exc.response["ResponseMetadata"]
    del metadata["RequestId"]
    error = translate(exc, "CancelUpdate", lost)
    assert type(error) is lost
    assert error.message == lost.default


@pytest.mark.parametrize(
    "code", ["AccessDenied", "SlowDown", "ValidationError", "RequestExpired", "OptInRequired"]
)
def test_a_common_code_without_a_request_id_does_not_settle_a_cancel(code: str) -> None:
    """A proxy uses these codes too, after EKS may have acted."""
    exc = client_error(code, 403)
    assert type(translate(exc, "CancelUpdate", EksNoAnswer)) is not EksNoAnswer
    metadata: Any = exc.response["ResponseMetadata"]
    del metadata["RequestId"]
    assert type(translate(exc, "CancelUpdate", EksNoAnswer)) is EksNoAnswer
    declared = client_error("InvalidStateException", 400)
    metadata = declared.response["ResponseMetadata"]
    del metadata["RequestId"]
    assert type(translate(declared, "CancelUpdate", EksNoAnswer)) is EksInvalidState


def test_a_429_of_a_proxy_throttles_reads_and_leaves_a_cancel_unknown() -> None:
    assert type(translate(client_error("429", 429), "CancelUpdate", EksUnavailable)) is EksThrottled
    assert type(translate(client_error("429", 429), "CancelUpdate", EksNoAnswer)) is EksNoAnswer


CLOCKS = {
    "skewed": ("RequestTimeTooSkewed", "", 0),
    "expired": ("RequestExpired", "", 0),
    "signature-expired": ("InvalidSignatureException", "Signature expired: 1 is now earlier than 2", 0),
    "signature-not-yet": ("SignatureDoesNotMatch", "Signature not yet current: 1 is still later than 2", 0),
    "by-its-date": ("SignatureDoesNotMatch", "", 600),
    "by-its-date-early": ("InvalidSignatureException", "", -600),
}


@pytest.mark.parametrize(("code", "message", "ahead"), CLOCKS.values(), ids=CLOCKS)
def test_a_wrong_clock_is_distinguished_from_bad_keys(code: str, message: str, ahead: float) -> None:
    """AWS uses the codes of a bad signature for both. The log has the difference of the clocks."""
    exc = client_error(code, 403, message)
    date = format_datetime(datetime.now(UTC) - timedelta(seconds=ahead), usegmt=True)
    exc.response["ResponseMetadata"]["HTTPHeaders"] = {"date": date}
    error = translate(exc, "CancelUpdate", LOST)
    assert type(error) is UpstreamCredentials
    assert "clock is wrong" in error.message
    found = re.search(r"clock is wrong: ahead_s=(-?[0-9]+)", error.detail)
    assert found
    assert int(found[1]) == pytest.approx(ahead, abs=30)
    no_date = translate(client_error("SignatureDoesNotMatch", 403), "CancelUpdate", LOST)
    assert "clock" not in no_date.message + no_date.detail


GETTING: dict[str, tuple[Exception, str]] = {
    "file-missing": (FileNotFoundError(2, "No such file", "/var/token"), "file=/var/token"),
    "file-unreadable": (PermissionError(13, "Permission denied", "/var/token"), "file=/var/token"),
    "empty-token": (aws.ParamValidationError(report=CANARY), "ParamValidationError"),
    "endpoint": (aws.CredentialRetrievalError(provider=CANARY, error_msg=CANARY), "CredentialRetrievalError"),
    "sts-refuses": (
        client_error("AccessDenied", 403, "no", "AssumeRoleWithWebIdentity"),
        "AssumeRoleWithWebIdentity",
    ),
    "sts-down": (
        client_error("InternalFailure", 500, CANARY, "AssumeRole"),
        "AssumeRole: ClientError InternalFailure",
    ),
    "sts-not-reached": (aws.EndpointConnectionError(endpoint_url=CANARY), "EndpointConnectionError"),
    "still-expired": (RuntimeError(CANARY), "RuntimeError"),
    "garbage": (KeyError(CANARY), "KeyError"),
}


@pytest.mark.parametrize(("raised", "expected"), GETTING.values(), ids=GETTING)
def test_to_credentials_error_blames_neither_eks_nor_the_caller(raised: Exception, expected: str) -> None:
    """The log names the file and the type of the error."""
    error = to_credentials_error(raised)
    assert type(error) is UpstreamCredentials
    assert expected in error.detail
    assert CANARY not in error.message + error.detail
    assert "/var/token" not in error.message


def test_detail_has_the_text_of_a_denial_but_no_signed_request() -> None:
    denied = translate(client_error("AccessDenied", 403, "needs eks:CancelUpdate"), "CancelUpdate", LOST)
    assert "needs eks:CancelUpdate" in denied.detail
    signature = translate(client_error("SignatureDoesNotMatch", 403, CANARY), "CancelUpdate", LOST)
    assert CANARY not in signature.detail
    assert signature.detail == "CancelUpdate: ClientError SignatureDoesNotMatch status=403 request_id=r-1"


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("AccessDenied", 403, UpstreamCredentials),
        ("InvalidIdentityToken", 400, UpstreamCredentials),
        ("ResourceNotFoundException", 404, UpstreamCredentials),
        ("Throttling", 400, UpstreamCredentials),
        ("InternalFailure", 500, UpstreamCredentials),
    ],
)
def test_an_error_of_another_service_is_upstream_credentials(
    code: str, status: int, expected: type[EksError]
) -> None:
    """STS answers while credentials are fetched; EKS was not called."""
    error = translate(client_error(code, status, CANARY, operation="AssumeRole"), "CancelUpdate", LOST)
    assert type(error) is expected
    assert error.message == type(error).default


def wrap_in_proxy_error(original: BaseException) -> Exception:
    """An error of urllib3 that wraps another as its ProxyError does."""
    error = Exception("proxy")
    error.original_error = original  # type: ignore[attr-defined] # as urllib3 sets it
    return error


BOTOCORE: list[tuple[Exception, type[EksError]]] = [
    (aws.EndpointConnectionError(endpoint_url=CANARY), EksNotReached),
    (aws.ConnectTimeoutError(endpoint_url=CANARY), EksNotReached),
    (
        aws.ProxyConnectionError(proxy_url=CANARY, error=wrap_in_proxy_error(ConnectionRefusedError())),
        EksNotReached,
    ),
    (aws.ProxyConnectionError(proxy_url=CANARY, error=wrap_in_proxy_error(socket.gaierror())), EksNotReached),
    (aws.ProxyConnectionError(proxy_url=CANARY, error=wrap_in_proxy_error(ConnectionResetError())), LOST),
    (
        aws.SSLError(endpoint_url=CANARY, error=Exception(ssl.SSLCertVerificationError(1, CANARY))),
        EksNotReached,
    ),
    (aws.SSLError(endpoint_url=CANARY, error=Exception(ssl.SSLError(1, CANARY))), LOST),
    (aws.ReadTimeoutError(endpoint_url=CANARY), LOST),
    (aws.ConnectionClosedError(endpoint_url=CANARY, error=CANARY), LOST),
    (aws.HTTPClientError(error=CANARY), LOST),
    (aws.ResponseStreamingError(error=CANARY), LOST),
    (aws.IncompleteReadError(actual_bytes=1, expected_bytes=2), LOST),
    (ResponseParserError(CANARY), LOST),
    (ValueError(CANARY), LOST),
    (aws.ParamValidationError(report=CANARY), EksInvalidParameter),
    (aws.NoCredentialsError(), UpstreamCredentials),
    (aws.PartialCredentialsError(provider=CANARY, cred_var=CANARY), UpstreamCredentials),
    (aws.CredentialRetrievalError(provider=CANARY, error_msg=CANARY), UpstreamCredentials),
    (aws.TokenRetrievalError(provider=CANARY, error_msg=CANARY), UpstreamCredentials),
    (aws.SSOTokenLoadError(error_msg=CANARY), UpstreamCredentials),
    (aws.UnauthorizedSSOTokenError(), UpstreamCredentials),
    (aws.ProfileNotFound(profile=CANARY), UpstreamCredentials),
    (aws.ConfigParseError(path=CANARY), UpstreamCredentials),
    (aws.InfiniteLoopConfigError(source_profile=CANARY, visited_profiles=[]), UpstreamCredentials),
    (aws.RefreshWithMFAUnsupportedError(), UpstreamCredentials),
]


@pytest.mark.parametrize(
    ("raised", "expected"), BOTOCORE, ids=[f"{type(e).__name__}-{n}" for n, (e, _) in enumerate(BOTOCORE)]
)
def test_errors_of_botocore_are_translated_by_whether_a_request_was_sent(
    raised: Exception, expected: type[EksError]
) -> None:
    assert type(translate(raised, "CancelUpdate", LOST)) is expected


def test_an_unknown_result_has_the_type_that_the_call_passes() -> None:
    fault = aws.ReadTimeoutError(endpoint_url=CANARY)
    assert type(translate(fault, "DescribeUpdate", EksUnavailable)) is EksUnavailable
    assert type(translate(fault, "CancelUpdate", EksNoAnswer)) is EksNoAnswer


def list_botocore_errors() -> list[type[aws.BotoCoreError]]:
    return [
        found
        for _, found in inspect.getmembers(aws, inspect.isclass)
        if issubclass(found, aws.BotoCoreError) and found is not aws.WaiterError  # no waiter is used
    ]


@pytest.mark.parametrize("kind", list_botocore_errors(), ids=lambda kind: kind.__name__)
def test_no_error_of_botocore_passes_on_its_text(kind: type[aws.BotoCoreError]) -> None:
    """Neither message, metadata nor detail has an address, profile or parameter."""
    fields = {name for _, name, _, _ in string.Formatter().parse(kind.fmt) if name}
    error = translate(kind(**dict.fromkeys(fields, CANARY)), "CancelUpdate", LOST)
    assert isinstance(error, EksError)
    assert CANARY not in f"{error.message}{error.metadata}{error.detail}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as it is: ünïcödé", "as it is: ünïcödé"),
        ("a\r\nb\tc\x1b[31m\x00d", "a b c [31m d"),
        ("right\u202eleft\u200bnothing", "right left nothing"),
        ("x" * 1000, "x" * 50),
        ({"not": "text"}, "{'not': 'text'}"),
    ],
    ids=["plain", "control", "invisible", "long", "not-text"],
)
def test_to_one_line_bounds_and_cleans_foreign_text(text: object, expected: str) -> None:
    assert to_one_line(text, 50) == expected
