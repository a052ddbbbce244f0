"""The one table from what AWS and botocore say to the gateway's errors: by AWS's error code, not by status.

Decides nothing about retries. What a caller is told is fixed text or, for a refusal, EKS's own
message; botocore's exception texts (they name endpoints and signed requests) are told to nobody.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as aws

from eksgateway.eks import codes
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

CANNOT_GET = "The gateway cannot get its own AWS credentials right now; the caller did nothing wrong."
_CLOCK_WRONG = (
    "AWS refuses the gateway's calls because the gateway's clock is wrong; the caller did nothing wrong."
)

_MESSAGE_LIMIT = 500
_RATE_LIMIT = "request limit exceeded"
_CODE_LIMIT = 100

# A signature's time is judged before its keys, under the codes of a bad signature.
_CLOCK_IN_WORDS = re.compile(r"signature (?:has )?expired|signature not yet current", re.IGNORECASE)
_SKEW_S = 240  # AWS takes five minutes

# Settings of the AWS SDK that cannot be used, and stay so: with one of these a gateway does not start.
MISCONFIGURED = (
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

_NO_CREDENTIALS = (
    *MISCONFIGURED,
    aws.CredentialRetrievalError,
    aws.LoginError,
    aws.MetadataRetrievalError,
    aws.NoAuthTokenError,
    aws.SSOError,
    aws.TokenRetrievalError,
)

# Where one of these is the cause, the request's bytes never left. The files are those of a CA bundle.
_UNCONNECTED = (
    ConnectionRefusedError,
    FileNotFoundError,
    IsADirectoryError,
    PermissionError,
    socket.gaierror,
    ssl.SSLCertVerificationError,
)
_UNUSABLE_BUNDLE = frozenset({"NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE", "PEM_LIB"})


def translate(exc: Exception, operation: str, lost: type[EksError]) -> EksError:
    """The gateway's error for what botocore raised in ``operation``.

    ``lost`` is what it means for this call that nobody knows the answer: EksUnavailable for a
    read, EksNoAnswer for a cancel that was sent, EksNotReached for one that certainly was not.
    """
    detail = _detail(exc, operation)
    if isinstance(exc, aws.ClientError):
        return _answered(exc, operation, lost, detail)
    if isinstance(exc, _NO_CREDENTIALS):
        return UpstreamCredentials(detail=detail)
    if isinstance(exc, aws.ParamValidationError):
        return EksInvalidParameter("A parameter is not one that EKS takes; nothing was sent.", detail=detail)
    if _never_connected(exc):
        return EksNotReached(detail=detail)
    return lost(detail=detail)


def no_credentials(exc: Exception) -> UpstreamCredentials:
    """The error for any failure to get credentials: never the caller's fault, nor EKS's."""
    if not isinstance(exc, aws.ClientError):
        return UpstreamCredentials(CANNOT_GET, detail=_detail(exc, "credentials"))
    operation = exc.operation_name
    found = _answered(exc, operation, EksUnavailable, _detail(exc, operation))
    if isinstance(found, UpstreamCredentials):
        return UpstreamCredentials(found.message, detail=found.detail)
    refused = isinstance(found, EksRefused)
    return UpstreamCredentials("" if refused else CANNOT_GET, detail=found.detail)


def _detail(exc: Exception, operation: str) -> str:
    """For the log: what kind of error, which file, and what ``wire`` noted; no text of botocore."""
    told = [f"{operation}: {type(exc).__name__}"]
    if isinstance(exc, OSError) and exc.filename is not None:
        told.append(f"file={printable(exc.filename, _MESSAGE_LIMIT)}")
    return " ".join([*told, *getattr(exc, "__notes__", ())])


def _answered(exc: aws.ClientError, operation: str, lost: type[EksError], detail: str) -> EksError:
    response: Any = exc.response
    error = response.get("Error", {})
    meta = response.get("ResponseMetadata", {})
    code = printable(error.get("Code") or "", _CODE_LIMIT)
    message = printable(error.get("Message") or "", _MESSAGE_LIMIT)
    metadata = {"eks_code": code} if code else {}
    detail += (
        f" {code} status={meta.get('HTTPStatusCode', 0)}"
        f" request_id={printable(meta.get('RequestId', ''), _CODE_LIMIT)}"
    )
    if code in codes.ACCESS_DENIED:
        # Names the role and the missing permission. Texts about signatures hold the signed request.
        detail += f" {message}"
    if exc.operation_name != operation:  # another service's, asked for credentials: nothing went to EKS
        return UpstreamCredentials(metadata=metadata, detail=f"{detail} from={exc.operation_name}")
    if issubclass(lost, EksNoAnswer) and not meta.get("RequestId") and code not in codes.EKS_OWN:
        return lost(metadata=metadata, detail=detail)  # any proxy can say AccessDenied, after EKS has acted
    if _wrong_clock(code, message, meta):
        return UpstreamCredentials(_CLOCK_WRONG, metadata=metadata, detail=f"{detail} {_skew(meta)}")
    kind = _kind(code, message, meta, lost)
    if issubclass(kind, EksRefused):
        return kind(message, metadata=metadata, detail=detail)
    return kind(metadata=metadata, detail=detail)


def _kind(code: str, message: str, meta: Mapping[str, Any], lost: type[EksError]) -> type[EksError]:
    status = meta.get("HTTPStatusCode", 0)
    if code in codes.THROTTLED or (code == "InvalidRequestException" and _RATE_LIMIT in message.lower()):
        return EksThrottled
    if code in codes.UNFINISHED or status == 408 or not 400 <= status < 500:
        return lost
    if code in codes.CREDENTIALS:
        return UpstreamCredentials
    if code in codes.REFUSALS:
        return codes.REFUSALS[code]
    return _unknown(code, meta, lost)


def _unknown(code: str, meta: Mapping[str, Any], lost: type[EksError]) -> type[EksError]:
    """A 4xx whose code is in no list. AWS's own front gives each answer a request id and a code: an answer
    without is a proxy's or a firewall's, and says nothing about what EKS did with the call.
    """
    named = bool(code) and not code.isdecimal()  # a number is botocore's stand-in for a missing code
    ours = named and bool(meta.get("RequestId"))
    if meta.get("HTTPStatusCode") == 429 and (ours or not issubclass(lost, EksNoAnswer)):
        return EksThrottled
    return EksClientError if ours else lost


def _wrong_clock(code: str, message: str, meta: Mapping[str, Any]) -> bool:
    """Whether AWS refused the time of the call, and no key. The codes are of a bad signature too."""
    if code in codes.CLOCK:
        return True
    signature = code == "AuthFailure" or (code in codes.CREDENTIALS and "Signature" in code)
    late = _CLOCK_IN_WORDS.search(message) is not None or abs(_ahead(meta) or 0) > _SKEW_S
    return signature and late


def _skew(meta: Mapping[str, Any]) -> str:
    ahead = _ahead(meta)
    return "clock is wrong" if ahead is None else f"clock is wrong: ahead_s={ahead:.0f}"


def _ahead(meta: Mapping[str, Any]) -> float | None:
    """How many seconds the gateway's clock is ahead of AWS's, by the answer's Date, if that can be told."""
    try:
        theirs = parsedate_to_datetime(meta["HTTPHeaders"]["date"])
        return (datetime.now(UTC) - theirs).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _never_connected(exc: Exception) -> bool:
    """Whether the connection certainly was never made.

    botocore's ProxyConnectionError and SSLError also wrap faults after sending (urllib3 forgets,
    when a peer hangs up, that it had reached its proxy), so those two count by their cause alone.
    """
    if isinstance(exc, (aws.EndpointConnectionError, aws.ConnectTimeoutError)):
        return True
    if isinstance(exc, (aws.ProxyConnectionError, aws.SSLError)):
        return any(
            isinstance(cause, _UNCONNECTED) or getattr(cause, "reason", None) in _UNUSABLE_BUNDLE
            for cause in causes(exc.kwargs.get("error"))
        )
    return False


def causes(exc: object) -> Iterator[BaseException]:
    """What an error of urllib3 wraps: it keeps causes in several places."""
    if isinstance(exc, BaseException):
        yield exc
        for cause in (getattr(exc, "original_error", None), exc.__cause__, *exc.args):
            yield from causes(cause)


def printable(text: object, limit: int) -> str:
    """Foreign text on one line: bounded, and without control or invisible characters."""
    words = "".join(char if char.isprintable() else " " for char in str(text)[: limit * 4]).split()
    return " ".join(words)[:limit]
