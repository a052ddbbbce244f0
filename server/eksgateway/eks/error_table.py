"""Translates errors of AWS and botocore to the gateway's errors, by AWS's error code rather than the status.

A message is fixed text or, for a refusal, EKS's own. botocore's texts name endpoints and signed requests, so
they reach neither callers nor the log.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore import exceptions as aws

from eksgateway.eks import error_codes
from eksgateway.errors import (
    EksClientError,
    EksError,
    EksInvalidParameter,
    EksNoAnswer,
    EksNotReached,
    EksRefused,
    EksThrottled,
    EksUnavailable,
    UpstreamCredentials,
)

CANNOT_GET: Final = "The gateway cannot get its own AWS credentials right now; the caller did nothing wrong."
_CLOCK_WRONG: Final = (
    "AWS refuses the gateway's calls because the gateway's clock is wrong; the caller did nothing wrong."
)

_MESSAGE_LIMIT: Final = 500
_RATE_LIMIT: Final = "request limit exceeded"
_CODE_LIMIT: Final = 100

# AWS checks a signature's time before its keys, and answers with the codes of a bad signature.
_CLOCK_MESSAGE: Final = re.compile(r"signature (?:has )?expired|signature not yet current", re.IGNORECASE)
_MAX_SKEW_S: Final = 240  # AWS allows five minutes

# Unusable settings of the AWS SDK, which no retry mends.
MISCONFIGURED: Final = (
    aws.ConfigNotFound,
    aws.ConfigParseError,
    aws.InvalidConfigError,
    aws.MissingDependencyException,
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.ProfileNotFound,
    aws.RefreshWithMFAUnsupportedError,
    aws.UnknownCredentialError,
    aws.UnknownTokenProviderError,
)

_NO_CREDENTIALS: Final = (
    *MISCONFIGURED,
    aws.CredentialRetrievalError,
    aws.LoginError,
    aws.MetadataRetrievalError,
    aws.NoAuthTokenError,
    aws.SSOError,
    aws.TokenRetrievalError,
)

# With one of these as the cause, no byte of the request was sent. The files are those of a CA bundle.
_NOT_CONNECTED: Final = (
    ConnectionRefusedError,
    FileNotFoundError,
    IsADirectoryError,
    PermissionError,
    socket.gaierror,
    ssl.SSLCertVerificationError,
)
_BAD_BUNDLE: Final = frozenset({"NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE", "PEM_LIB"})


def translate(exc: Exception, operation: str, lost: type[EksError]) -> EksError:
    """The gateway's error for one that botocore raised in ``operation``.

    ``lost`` is the error for an unknown result: EksUnavailable for a read, EksNoAnswer for a cancel that may
    have been sent, else EksNotReached.
    """
    detail = _detail(exc, operation)
    if isinstance(exc, aws.ClientError):
        return _translate_answer(exc, operation, lost, detail)
    if isinstance(exc, _NO_CREDENTIALS):
        return UpstreamCredentials(detail=detail)
    if isinstance(exc, aws.ParamValidationError):
        return EksInvalidParameter("EKS does not accept a parameter; nothing was sent.", detail=detail)
    if _never_connected(exc):
        return EksNotReached(detail=detail)
    return lost(detail=detail)


def to_credentials_error(exc: Exception) -> UpstreamCredentials:
    if not isinstance(exc, aws.ClientError):
        return UpstreamCredentials(CANNOT_GET, detail=_detail(exc, "credentials"))
    operation = exc.operation_name
    error = _translate_answer(exc, operation, EksUnavailable, _detail(exc, operation))
    if isinstance(error, UpstreamCredentials):
        return UpstreamCredentials(error.message, detail=error.detail)
    refused = isinstance(error, EksRefused)
    return UpstreamCredentials("" if refused else CANNOT_GET, detail=error.detail)


def _detail(exc: Exception, operation: str) -> str:
    """For the log: no text of botocore, but the notes of ``http_sender`` and ``connections``."""
    parts = [f"{operation}: {type(exc).__name__}"]
    if isinstance(exc, OSError) and exc.filename is not None:
        parts.append(f"file={to_one_line(exc.filename, _MESSAGE_LIMIT)}")
    return " ".join([*parts, *getattr(exc, "__notes__", ())])


def _translate_answer(exc: aws.ClientError, operation: str, lost: type[EksError], detail: str) -> EksError:
    response: Any = exc.response
    error = response.get("Error", {})
    meta = response.get("ResponseMetadata", {})
    code = to_one_line(error.get("Code") or "", _CODE_LIMIT)
    message = to_one_line(error.get("Message") or "", _MESSAGE_LIMIT)
    metadata = {"eks_code": code} if code else {}
    detail += (
        f" {code} status={meta.get('HTTPStatusCode', 0)}"
        f" request_id={to_one_line(meta.get('RequestId', ''), _CODE_LIMIT)}"
    )
    if code in error_codes.ACCESS_DENIED:
        # It names the role and the permission. Messages about signatures hold the signed request.
        detail += f" {message}"
    if exc.operation_name != operation:  # of STS or another source of credentials: EKS was not called
        return UpstreamCredentials(metadata=metadata, detail=f"{detail} from={exc.operation_name}")
    if issubclass(lost, EksNoAnswer) and not meta.get("RequestId") and code not in error_codes.EKS_OWN:
        return lost(metadata=metadata, detail=detail)  # a proxy can answer AccessDenied after EKS has acted
    if _is_clock_wrong(code, message, meta):
        return UpstreamCredentials(_CLOCK_WRONG, metadata=metadata, detail=f"{detail} {_skew(meta)}")
    error_type = _error_type(code, message, meta, lost)
    if issubclass(error_type, EksRefused):
        return error_type(message, metadata=metadata, detail=detail)
    return error_type(metadata=metadata, detail=detail)


def _error_type(code: str, message: str, meta: Mapping[str, Any], lost: type[EksError]) -> type[EksError]:
    status = meta.get("HTTPStatusCode", 0)
    if code in error_codes.THROTTLED or (
        code == "InvalidRequestException" and _RATE_LIMIT in message.lower()
    ):
        return EksThrottled
    if code in error_codes.UNFINISHED or status == 408 or not 400 <= status < 500:
        return lost
    if code in error_codes.CREDENTIALS:
        return UpstreamCredentials
    if code in error_codes.REFUSALS:
        return error_codes.REFUSALS[code]
    return _error_type_of_unlisted(code, meta, lost)


def _error_type_of_unlisted(code: str, meta: Mapping[str, Any], lost: type[EksError]) -> type[EksError]:
    """For a 4xx. AWS's answers have a request id and a code. One without them is from a proxy or a firewall,
    so the result of the call is unknown.
    """
    has_code = bool(code) and not code.isdecimal()  # botocore puts the status where the code is missing
    from_aws = has_code and bool(meta.get("RequestId"))
    if meta.get("HTTPStatusCode") == 429 and (from_aws or not issubclass(lost, EksNoAnswer)):
        return EksThrottled
    return EksClientError if from_aws else lost


def _is_clock_wrong(code: str, message: str, meta: Mapping[str, Any]) -> bool:
    if code in error_codes.CLOCK:
        return True
    signature = code == "AuthFailure" or (code in error_codes.CREDENTIALS and "Signature" in code)
    late = _CLOCK_MESSAGE.search(message) is not None or abs(_ahead(meta) or 0) > _MAX_SKEW_S
    return signature and late


def _skew(meta: Mapping[str, Any]) -> str:
    ahead = _ahead(meta)
    return "clock is wrong" if ahead is None else f"clock is wrong: ahead_s={ahead:.0f}"


def _ahead(meta: Mapping[str, Any]) -> float | None:
    """Seconds that the gateway's clock is ahead of AWS's, by the answer's Date header."""
    try:
        theirs = parsedate_to_datetime(meta["HTTPHeaders"]["date"])
        return (datetime.now(UTC) - theirs).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _never_connected(exc: Exception) -> bool:
    if isinstance(exc, (aws.EndpointConnectionError, aws.ConnectTimeoutError)):
        return True
    # These two also wrap errors after sending: when a peer hangs up, urllib3 forgets that it had reached its
    # proxy.
    if isinstance(exc, (aws.ProxyConnectionError, aws.SSLError)):
        return any(
            isinstance(cause, _NOT_CONNECTED) or getattr(cause, "reason", None) in _BAD_BUNDLE
            for cause in causes(exc.kwargs.get("error"))
        )
    return False


def causes(exc: object) -> Iterator[BaseException]:
    if isinstance(exc, BaseException):
        yield exc
        for cause in (getattr(exc, "original_error", None), exc.__cause__, *exc.args):
            yield from causes(cause)


def to_one_line(text: object, limit: int) -> str:
    """Foreign text, at most ``limit`` characters, without control or invisible characters."""
    words = "".join(char if char.isprintable() else " " for char in str(text)[: limit * 4]).split()
    return " ".join(words)[:limit]
