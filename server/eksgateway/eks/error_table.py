"""The one table from what AWS and botocore say to the gateway's errors: by AWS's error code, not by status.

Decides nothing about retries. What a caller is told is fixed text or, for a refusal, EKS's own
message; botocore's exception texts (they name endpoints and signed requests) are told to nobody.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

from botocore import exceptions as aws

from eksgateway.errors import (
    EksClientError,
    EksError,
    EksInvalidParameter,
    EksInvalidRequest,
    EksInvalidState,
    EksNotFound,
    EksNotReached,
    EksRefused,
    EksResourceInUse,
    EksThrottled,
    UpstreamCredentials,
)

_MESSAGE_LIMIT = 500
_CODE_LIMIT = 100

_REFUSALS: dict[str, type[EksRefused]] = {
    "InvalidParameterException": EksInvalidParameter,
    "InvalidRequestException": EksInvalidRequest,
    "InvalidStateException": EksInvalidState,
    "ResourceInUseException": EksResourceInUse,
    "ResourceNotFoundException": EksNotFound,
    "ClientException": EksClientError,
}

_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)

_ACCESS_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"}
)

_CREDENTIALS = _ACCESS_DENIED | {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignature",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "OptInRequired",
    "RequestExpired",  # this and the next: the gateway's own clock is wrong
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClient",
    "UnrecognizedClientException",
}

# AWS's words for "it did not finish"; some of them come with a 4xx.
_UNFINISHED = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "RequestAbortedException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServerException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)

_NO_CREDENTIALS = (
    aws.ConfigNotFound,
    aws.ConfigParseError,
    aws.CredentialRetrievalError,
    aws.InvalidConfigError,
    aws.LoginError,
    aws.MetadataRetrievalError,
    aws.MissingDependencyException,
    aws.NoAuthTokenError,
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.ProfileNotFound,
    aws.RefreshWithMFAUnsupportedError,
    aws.SSOError,
    aws.TokenRetrievalError,
    aws.UnknownCredentialError,
    aws.UnknownTokenProviderError,
)

# Where one of these is the cause, the request's bytes never left.
_UNCONNECTED = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)


def translate(exc: Exception, operation: str, lost: type[EksError]) -> EksError:
    """The gateway's error for what botocore raised in ``operation``.

    ``lost`` is what it means for this call that nobody knows the answer: EksUnavailable for a
    read, EksNoAnswer for a cancel that was sent, EksNotReached for one that certainly was not.
    """
    detail = f"{operation}: {type(exc).__name__}"
    if isinstance(exc, aws.ClientError):
        return _answered(exc, operation, lost, detail)
    if isinstance(exc, _NO_CREDENTIALS):
        return UpstreamCredentials(detail=detail)
    if isinstance(exc, aws.ParamValidationError):
        return EksInvalidParameter("A parameter is not one that EKS takes; nothing was sent.", detail=detail)
    if _never_connected(exc):
        return EksNotReached(detail=detail)
    return lost(detail=detail)


def _answered(exc: aws.ClientError, operation: str, lost: type[EksError], detail: str) -> EksError:
    response: Any = exc.response
    error = response.get("Error", {})
    meta = response.get("ResponseMetadata", {})
    code = printable(error.get("Code", ""), _CODE_LIMIT)
    message = printable(error.get("Message", ""), _MESSAGE_LIMIT)
    status = meta.get("HTTPStatusCode", 0)
    metadata = {"eks_code": code} if code else {}
    detail += f" {code} status={status} request_id={printable(meta.get('RequestId', ''), _CODE_LIMIT)}"
    if code in _ACCESS_DENIED:
        # Names the role and the missing permission. Texts about signatures hold the signed request.
        detail += f" {message}"
    if exc.operation_name != operation:
        # Another service was asked first, for credentials: nothing went to EKS.
        refused = 400 <= status < 500 and code not in _THROTTLED | _UNFINISHED
        source: type[EksError] = UpstreamCredentials if refused else EksNotReached
        return source(metadata=metadata, detail=f"{detail} from={exc.operation_name}")
    kind = _kind(code, message, status, lost)
    if issubclass(kind, EksRefused) and not code.isdecimal():
        # A number is botocore's stand-in for a missing code: then the text is a proxy's, not EKS's.
        return kind(message, metadata=metadata, detail=detail)
    return kind(metadata=metadata, detail=detail)


def _kind(code: str, message: str, status: int, lost: type[EksError]) -> type[EksError]:
    if code in _THROTTLED or status == 429:
        return EksThrottled
    if code == "InvalidRequestException" and "request limit exceeded" in message.lower():
        return EksThrottled
    if code in _CREDENTIALS:
        return UpstreamCredentials
    if code in _REFUSALS:
        return _REFUSALS[code]
    if code in _UNFINISHED or status == 408 or not 400 <= status < 500:
        return lost
    return EksClientError


def _never_connected(exc: Exception) -> bool:
    """Whether the connection certainly was never made.

    botocore's ProxyConnectionError and SSLError also wrap faults after sending (urllib3 forgets,
    when a peer hangs up, that it had reached its proxy), so those two count by their cause alone.
    """
    if isinstance(exc, (aws.EndpointConnectionError, aws.ConnectTimeoutError)):
        return True
    if isinstance(exc, (aws.ProxyConnectionError, aws.SSLError)):
        return any(isinstance(cause, _UNCONNECTED) for cause in _causes(exc.kwargs.get("error")))
    return False


def _causes(exc: object) -> Iterator[BaseException]:
    """What an error of urllib3 wraps: it keeps causes in several places."""
    if isinstance(exc, BaseException):
        yield exc
        for cause in (getattr(exc, "original_error", None), exc.__cause__, *exc.args):
            yield from _causes(cause)


def printable(text: object, limit: int) -> str:
    """Foreign text on one line: bounded, and without control or invisible characters."""
    words = "".join(char if char.isprintable() else " " for char in str(text)[: limit * 4]).split()
    return " ".join(words)[:limit]
