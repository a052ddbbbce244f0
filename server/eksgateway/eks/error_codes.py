"""AWS's error codes by their meaning for a call. A new code of EKS goes here."""

from __future__ import annotations

from typing import Final

from eksgateway.errors import (
    EksClientError,
    EksInvalidParameter,
    EksInvalidRequest,
    EksInvalidState,
    EksNotFound,
    EksRefused,
    EksResourceInUse,
)

# Modeled for CancelUpdate. No other service has these names.
_MODELED_REFUSALS: Final[dict[str, type[EksRefused]]] = {
    "InvalidParameterException": EksInvalidParameter,
    "InvalidRequestException": EksInvalidRequest,
    "InvalidStateException": EksInvalidState,
    "ResourceInUseException": EksResourceInUse,
    "ResourceNotFoundException": EksNotFound,
    "ClientException": EksClientError,
}
EKS_OWN: Final = _MODELED_REFUSALS.keys() | {"ThrottlingException"}

# Common to all AWS services: https://docs.aws.amazon.com/eks/latest/APIReference/CommonErrors.html
REFUSALS: Final = _MODELED_REFUSALS | {
    "MalformedHttpRequestException": EksClientError,
    "RequestEntityTooLargeException": EksClientError,
    "SerializationException": EksClientError,
    "UnknownOperationException": EksClientError,
    "ValidationError": EksClientError,
    "ValidationException": EksClientError,
}

THROTTLED: Final = frozenset(
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

ACCESS_DENIED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"}
)

CREDENTIALS: Final = ACCESS_DENIED | {
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

CLOCK: Final = frozenset({"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"})

# The call may or may not have taken effect. Some of these come with a 4xx.
UNFINISHED: Final = frozenset(
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
