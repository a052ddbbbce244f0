"""What AWS and botocore say, and what the gateway makes of it."""

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
LOST = EksNoAnswer  # stands for whatever an unknown end means to the call

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


def answered(
    code: str, status: int, message: str = "EKS's word.", operation: str = "CancelUpdate"
) -> aws.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "r-1"},
    }
    return aws.ClientError(response, operation)


def model() -> Any:
    return botocore.session.get_session().get_service_model("eks")


def modelled_errors() -> list[tuple[str, str, int]]:
    service = model()
    return [
        (operation, shape.error_code, shape.metadata["error"]["httpStatusCode"])
        for operation in OPERATIONS
        for shape in service.operation_model(operation).error_shapes
    ]


@pytest.mark.parametrize(("operation", "code", "status"), modelled_errors())
def test_every_error_that_an_operation_declares_has_its_own(operation: str, code: str, status: int) -> None:
    """An error of the service model becomes the one of the API's table, with its code."""
    error = translate(answered(code, status, operation=operation), operation, LOST)
    assert type(error) is MODELLED[code]
    assert error.metadata == {"eks_code": code}


def test_every_error_of_the_service_is_translated() -> None:
    """Of all errors that EKS declares, those with a 5xx have an unknown end, and no others."""
    for shape in model().error_shapes:
        status = shape.metadata["error"]["httpStatusCode"]
        error = translate(answered(shape.error_code, status), "CancelUpdate", LOST)
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
def test_codes_that_the_model_does_not_declare(code: str, status: int, expected: type[EksError]) -> None:
    """A code of AWS at large, or an unknown one, goes by meaning; an unknown one by its status class."""
    error = translate(answered(code, status), "CancelUpdate", LOST)
    assert type(error) is expected
    assert error.metadata == ({"eks_code": code} if code else {})


def test_a_rate_limit_in_an_invalid_request_is_throttling() -> None:
    """EKS also says `Request limit exceeded` under InvalidRequestException."""
    error = translate(
        answered("InvalidRequestException", 400, "Request limit exceeded."), "CancelUpdate", LOST
    )
    assert type(error) is EksThrottled


def test_throttling_says_when_to_come_back() -> None:
    """A throttled call carries a time to wait; a refusal carries none."""
    assert translate(answered("Throttling", 400), "CancelUpdate", LOST).retry_after
    assert translate(answered("ClientException", 400), "CancelUpdate", LOST).retry_after is None


def test_a_refusal_is_told_in_the_words_of_eks() -> None:
    """EKS's own reason reaches the caller of a refused call."""
    error = translate(answered("InvalidStateException", 400, "Too late."), "CancelUpdate", LOST)
    assert isinstance(error, EksRefused)
    assert error.message == "Too late."


@pytest.mark.parametrize(
    ("code", "status"),
    [("AccessDenied", 403), ("SignatureDoesNotMatch", 403), ("Throttling", 400), ("InternalFailure", 500)],
)
def test_other_words_of_aws_are_not_told(code: str, status: int) -> None:
    """What is no refusal is told in fixed words."""
    error = translate(answered(code, status, CANARY), "CancelUpdate", LOST)
    assert error.message == type(error).default
    assert CANARY not in str(error.metadata)


@pytest.mark.parametrize("lost", [EksUnavailable, EksNoAnswer])
@pytest.mark.parametrize(("code", "status"), [("403", 403), ("", 400), ("Forbidden", 403), ("429x", 413)])
def test_an_answer_that_is_not_aws_own_is_no_answer(code: str, status: int, lost: type[EksError]) -> None:
    """No code of AWS, and no request id of AWS: it is a proxy's, and so is its text."""
    exc = answered(code, status, f"<html>{CANARY}</html>")
    metadata: Any = exc.response["ResponseMetadata"]
    del metadata["RequestId"]
    error = translate(exc, "CancelUpdate", lost)
    assert type(error) is lost
    assert error.message == lost.default


@pytest.mark.parametrize(
    "code", ["AccessDenied", "SlowDown", "ValidationError", "RequestExpired", "OptInRequired"]
)
def test_a_common_code_alone_settles_no_cancel(code: str) -> None:
    """AWS's common codes are words of others too: without AWS's request id EKS may have acted before them."""
    exc = answered(code, 403)
    assert type(translate(exc, "CancelUpdate", EksNoAnswer)) is not EksNoAnswer
    metadata: Any = exc.response["ResponseMetadata"]
    del metadata["RequestId"]
    assert type(translate(exc, "CancelUpdate", EksNoAnswer)) is EksNoAnswer
    declared = answered("InvalidStateException", 400)
    metadata = declared.response["ResponseMetadata"]
    del metadata["RequestId"]
    assert type(translate(declared, "CancelUpdate", EksNoAnswer)) is EksInvalidState


def test_a_proxys_429_slows_reads_and_says_nothing_about_a_cancel() -> None:
    """Whether EKS got the cancel first is not known."""
    assert type(translate(answered("429", 429), "CancelUpdate", EksUnavailable)) is EksThrottled
    assert type(translate(answered("429", 429), "CancelUpdate", EksNoAnswer)) is EksNoAnswer


CLOCKS = {
    "skewed": ("RequestTimeTooSkewed", "", 0),
    "expired": ("RequestExpired", "", 0),
    "signature-expired": ("InvalidSignatureException", "Signature expired: 1 is now earlier than 2", 0),
    "signature-not-yet": ("SignatureDoesNotMatch", "Signature not yet current: 1 is still later than 2", 0),
    "by-its-date": ("SignatureDoesNotMatch", "", 600),
    "by-its-date-early": ("InvalidSignatureException", "", -600),
}


@pytest.mark.parametrize(("code", "message", "ahead"), CLOCKS.values(), ids=CLOCKS)
def test_a_wrong_clock_is_told_from_bad_keys(code: str, message: str, ahead: float) -> None:
    """AWS answers both with the codes of a bad signature; the log has how far the clock is off."""
    exc = answered(code, 403, message)
    date = format_datetime(datetime.now(UTC) - timedelta(seconds=ahead), usegmt=True)
    exc.response["ResponseMetadata"]["HTTPHeaders"] = {"date": date}
    error = translate(exc, "CancelUpdate", LOST)
    assert type(error) is UpstreamCredentials
    assert "clock is wrong" in error.message
    found = re.search(r"clock is wrong: ahead_s=(-?[0-9]+)", error.detail)
    assert found
    assert int(found[1]) == pytest.approx(ahead, abs=30)
    no_date = translate(answered("SignatureDoesNotMatch", 403), "CancelUpdate", LOST)
    assert "clock" not in no_date.message + no_date.detail


GETTING: dict[str, tuple[Exception, str]] = {
    "file-missing": (FileNotFoundError(2, "No such file", "/var/token"), "file=/var/token"),
    "file-unreadable": (PermissionError(13, "Permission denied", "/var/token"), "file=/var/token"),
    "empty-token": (aws.ParamValidationError(report=CANARY), "ParamValidationError"),
    "endpoint": (aws.CredentialRetrievalError(provider=CANARY, error_msg=CANARY), "CredentialRetrievalError"),
    "sts-refuses": (
        answered("AccessDenied", 403, "no", "AssumeRoleWithWebIdentity"),
        "AssumeRoleWithWebIdentity",
    ),
    "sts-down": (
        answered("InternalFailure", 500, CANARY, "AssumeRole"),
        "AssumeRole: ClientError InternalFailure",
    ),
    "sts-not-reached": (aws.EndpointConnectionError(endpoint_url=CANARY), "EndpointConnectionError"),
    "still-expired": (RuntimeError(CANARY), "RuntimeError"),
    "garbage": (KeyError(CANARY), "KeyError"),
}


@pytest.mark.parametrize(("raised", "told"), GETTING.values(), ids=GETTING)
def test_no_credentials_is_never_eks_nor_the_callers_fault(raised: Exception, told: str) -> None:
    """Whatever keeps the gateway from its credentials has one reason, and the log names file and kind."""
    error = to_credentials_error(raised)
    assert type(error) is UpstreamCredentials
    assert told in error.detail
    assert CANARY not in error.message + error.detail
    assert "/var/token" not in error.message


def test_the_log_learns_what_is_missing_but_never_the_signed_request() -> None:
    """Detail for the log names operation, code and request id; only a denial's text goes with them."""
    denied = translate(answered("AccessDenied", 403, "needs eks:CancelUpdate"), "CancelUpdate", LOST)
    assert "needs eks:CancelUpdate" in denied.detail
    signature = translate(answered("SignatureDoesNotMatch", 403, CANARY), "CancelUpdate", LOST)
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
def test_an_error_of_another_service_is_never_taken_for_eks_word(
    code: str, status: int, expected: type[EksError]
) -> None:
    """STS answering the hunt for credentials refused the gateway, or gave it none."""
    error = translate(answered(code, status, CANARY, operation="AssumeRole"), "CancelUpdate", LOST)
    assert type(error) is expected
    assert error.message == type(error).default


def wrapped(original: BaseException) -> Exception:
    """An error of urllib3's ProxyError shape."""
    error = Exception("proxy")
    error.original_error = original  # type: ignore[attr-defined] # as urllib3 sets it
    return error


BOTOCORE: list[tuple[Exception, type[EksError]]] = [
    (aws.EndpointConnectionError(endpoint_url=CANARY), EksNotReached),
    (aws.ConnectTimeoutError(endpoint_url=CANARY), EksNotReached),
    (
        aws.ProxyConnectionError(proxy_url=CANARY, error=wrapped(ConnectionRefusedError())),
        EksNotReached,
    ),
    (aws.ProxyConnectionError(proxy_url=CANARY, error=wrapped(socket.gaierror())), EksNotReached),
    (aws.ProxyConnectionError(proxy_url=CANARY, error=wrapped(ConnectionResetError())), LOST),
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
def test_what_botocore_raises_by_itself(raised: Exception, expected: type[EksError]) -> None:
    """A connection that was never made is told from one that may have carried the call."""
    assert type(translate(raised, "CancelUpdate", LOST)) is expected


def test_what_an_unknown_end_means_is_the_calls_to_say() -> None:
    """The same fault is an outage to a read and no answer to a cancel."""
    fault = aws.ReadTimeoutError(endpoint_url=CANARY)
    assert type(translate(fault, "DescribeUpdate", EksUnavailable)) is EksUnavailable
    assert type(translate(fault, "CancelUpdate", EksNoAnswer)) is EksNoAnswer


def botocore_classes() -> list[type[aws.BotoCoreError]]:
    return [
        found
        for _, found in inspect.getmembers(aws, inspect.isclass)
        if issubclass(found, aws.BotoCoreError) and found is not aws.WaiterError  # no waiter is used
    ]


@pytest.mark.parametrize("kind", botocore_classes(), ids=lambda kind: kind.__name__)
def test_no_text_of_botocore_leaves(kind: type[aws.BotoCoreError]) -> None:
    """Whatever botocore can raise becomes an error with fixed words: no address, profile or parameter."""
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
def test_foreign_text_is_one_bounded_line(text: object, expected: str) -> None:
    """Control and invisible characters become spaces, and length is bounded."""
    assert to_one_line(text, 50) == expected
