"""AWS's error codes, by what they mean for a call."""

from __future__ import annotations

from eksgateway.errors import (
    EksClientError,
    EksInvalidParameter,
    EksInvalidRequest,
    EksInvalidState,
    EksNotFound,
    EksRefused,
    EksResourceInUse,
)

REFUSALS: dict[str, type[EksRefused]] = {
    "InvalidParameterException": EksInvalidParameter,
    "InvalidRequestException": EksInvalidRequest,
    "InvalidStateException": EksInvalidState,
    "ResourceInUseException": EksResourceInUse,
    "ResourceNotFoundException": EksNotFound,
    "ClientException": EksClientError,
    # Of any AWS service: https://docs.aws.amazon.com/eks/latest/APIReference/CommonErrors.html
    "MalformedHttpRequestException": EksClientError,
    "RequestEntityTooLargeException": EksClientError,
    "SerializationException": EksClientError,
    "UnknownOperationException": EksClientError,
    "ValidationError": EksClientError,
    "ValidationException": EksClientError,
}

# Of the model of CancelUpdate: names that no other service has, unlike AWS's common ones.
EKS_OWN = frozenset(
    {
        "ClientException",
        "InvalidParameterException",
        "InvalidRequestException",
        "InvalidStateException",
        "ResourceInUseException",
        "ResourceNotFoundException",
        "ThrottlingException",
    }
)

THROTTLED = frozenset(
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

ACCESS_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"})

CREDENTIALS = ACCESS_DENIED | {
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
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClient",
    "UnrecognizedClientException",
}

CLOCK = frozenset({"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"})

# AWS's words for "it did not finish"; some of them come with a 4xx.
UNFINISHED = frozenset(
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
