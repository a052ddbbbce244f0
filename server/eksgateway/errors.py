"""The errors that the gateway answers a call with. No grpc in here.

GatewayError
 ├ Unauthenticated      CredentialsMissing CredentialsInvalid CredentialsExpired
 ├ Denied               PolicyDenied PolicyObligationUnknown
 ├ InvalidArgument      RequestInvalid ResumeTokenInvalid EksInvalidParameter
 ├ FailedPrecondition   TargetNotConfigured UpdateFinished EksInvalidRequest EksInvalidState
 │                      EksResourceInUse EksClientError
 ├ NotFound             EksNotFound CancellationNotFound ServiceUnknown
 ├ AlreadyExists        RequestIdReused
 ├ Aborted              DecisionStale
 ├ Exhausted            Overloaded RequestTooLarge WatcherTooSlow EksThrottled
 ├ Unavailable          IdentityUnavailable PolicyUndefined PolicyUnavailable LedgerUnavailable
 │                      OutcomeUnrecorded OutcomeUnknown EksUnavailable EksNotReached Draining
 ├ Unimplemented        MethodUnknown
 └ Fault                PolicyInvalid TargetMismatch UpstreamCredentials Internal

Each branch has one gRPC status, which ``rpc.error_status`` picks. Each leaf has one ``reason``, that of
ErrorInfo. ``EksRefused`` marks the leaves for calls that EKS evaluated and refused. ``StartError`` is
not answered to a call: it stops the process.
"""

from __future__ import annotations

from copy import copy
from typing import ClassVar, Final, TypeVar

from eksgateway.model import ErrorRecord


class StartError(Exception):
    """The gateway cannot start. The text describes the fault and how to correct it."""


class SettingsError(StartError):
    """A setting or an option cannot be used. The text names the fault and how to correct it."""


class GatewayError(Exception):
    """An error for a caller.

    ``message`` is sent to the caller, so it never holds the text of an unexpected exception. ``metadata``
    holds every dynamic value. ``retry_after`` is in seconds. ``violations`` maps a field's path to its
    fault. ``detail`` is only logged. A leaf's ``default`` and ``retry_s`` apply where no message or
    ``retry_after`` is given.
    """

    reason: ClassVar[str] = ""
    default: ClassVar[str] = ""
    retry_s: ClassVar[float | None] = None

    def __init__(
        self,
        message: str = "",
        *,
        metadata: dict[str, str] | None = None,
        retry_after: float | None = None,
        violations: dict[str, str] | None = None,
        detail: str = "",
    ) -> None:
        self.message = message or self.default
        super().__init__(self.message)
        self.metadata = metadata or {}
        self.retry_after = self.retry_s if retry_after is None else retry_after
        self.violations = violations or {}
        self.detail = detail


class Unauthenticated(GatewayError):
    """The caller's identity was not proved.

    ``check`` names the check that failed. ``issuer`` is the credentials' issuer (its short name) or trust
    domain, once known. Both are only logged.
    """

    check: str = ""
    issuer: str = ""


class CredentialsMissing(Unauthenticated):
    reason = "CREDENTIALS_MISSING"
    default = "No credentials: send `authorization: Bearer <JWT>` in the metadata."


class CredentialsInvalid(Unauthenticated):
    reason = "CREDENTIALS_INVALID"
    default = "The credentials are not valid here."


class CredentialsExpired(Unauthenticated):
    reason = "CREDENTIALS_EXPIRED"
    default = "The credentials have expired: get new ones and call again."
    check = "exp"


class Denied(GatewayError):
    """The policy denied the request."""


class PolicyDenied(Denied):
    reason = "POLICY_DENIED"
    default = "The policy does not allow this."


class PolicyObligationUnknown(Denied):
    reason = "POLICY_OBLIGATION_UNKNOWN"
    default = "The policy allows this under an obligation that this gateway does not know."


class InvalidArgument(GatewayError):
    """The request must change before it can succeed."""


class RequestInvalid(InvalidArgument):
    reason = "REQUEST_INVALID"
    default = "The request has invalid fields; see the field violations."


class ResumeTokenInvalid(InvalidArgument):
    reason = "RESUME_TOKEN_INVALID"
    default = "The resume token cannot be used here: watch again without one."


class FailedPrecondition(GatewayError):
    """The state of the update, the cluster or the gateway does not permit the request."""


class TargetNotConfigured(FailedPrecondition):
    reason = "TARGET_NOT_CONFIGURED"
    default = "This gateway is not configured for that account and region."


class UpdateFinished(FailedPrecondition):
    reason = "UPDATE_FINISHED"
    default = "The update has ended already; nothing was sent to EKS."


class NotFound(GatewayError):
    """It does not exist, or the caller may not see it."""


class CancellationNotFound(NotFound):
    reason = "CANCELLATION_NOT_FOUND"
    default = "There is no such cancellation, or you may not see it."


class ServiceUnknown(NotFound):
    reason = "SERVICE_UNKNOWN"
    default = "This gateway has no health service of that name."


class AlreadyExists(GatewayError):
    """The request_id is in use."""


class RequestIdReused(AlreadyExists):
    reason = "REQUEST_ID_REUSED"
    default = "This request_id was used with other parameters: choose a new one."


class Aborted(GatewayError):
    """Nothing was sent. The same call may be made again."""


class DecisionStale(Aborted):
    reason = "DECISION_STALE"
    default = "The decision became too old to act on; nothing was sent to EKS. Call again."


class Exhausted(GatewayError):
    """A limit was reached."""


class Overloaded(Exhausted):
    reason = "OVERLOADED"
    default = "Too many calls or watches at once: try again later."
    retry_s = 1.0


class RequestTooLarge(Exhausted):
    reason = "REQUEST_TOO_LARGE"
    default = "The message or its metadata is larger than this gateway accepts."


class WatcherTooSlow(Exhausted):
    reason = "WATCHER_TOO_SLOW"
    default = "The stream was not read for too long and was closed: watch again."


class Unavailable(GatewayError):
    """A part that the gateway depends on failed."""


class IdentityUnavailable(Unavailable):
    reason = "IDENTITY_UNAVAILABLE"
    default = "The keys that verify credentials are not available right now."


class PolicyUndefined(Unavailable):
    reason = "POLICY_UNDEFINED"
    default = "The policy has no answer: it is not loaded."


class PolicyUnavailable(Unavailable):
    reason = "POLICY_UNAVAILABLE"
    default = "The policy could not be evaluated; nothing was sent to EKS."


class LedgerUnavailable(Unavailable):
    reason = "LEDGER_UNAVAILABLE"
    default = "The ledger could not be reached; nothing was sent to EKS."


class OutcomeUnrecorded(Unavailable):
    reason = "OUTCOME_UNRECORDED"
    default = "The outcome of the call to EKS could not be recorded yet."


class OutcomeUnknown(Unavailable):
    reason = "OUTCOME_UNKNOWN"
    default = (
        "EKS gave no answer, so it is not known whether EKS received this cancel. The gateway is finding out."
        " Repeat the call with the same request_id to learn the outcome; a new request_id sends again."
    )


class Draining(Unavailable):
    reason = "DRAINING"
    default = "This gateway is shutting down: call again to reach another one."
    retry_s = 1.0


class Unimplemented(GatewayError):
    """The gateway does not implement it."""


class MethodUnknown(Unimplemented):
    reason = "METHOD_UNKNOWN"
    default = "There is no such method."


class Fault(GatewayError):
    """The gateway or its configuration is at fault, not the caller."""


class PolicyInvalid(Fault):
    reason = "POLICY_INVALID"
    default = "The policy's answer is not a decision; nothing was sent to EKS."


class TargetMismatch(Fault):
    reason = "TARGET_MISMATCH"
    default = "The gateway's AWS credentials reach another cluster than the one decided; nothing was sent."


class Internal(Fault):
    reason = "INTERNAL"
    default = "Something went wrong inside the gateway."


class EksError(GatewayError):
    """EKS, or the connection to it, failed a call. ``metadata["eks_code"]`` is AWS's code, if any."""


class EksRefused(EksError):
    """EKS evaluated the call and refused it, so it did not act."""


class EksInvalidParameter(EksRefused, InvalidArgument):
    reason = "EKS_INVALID_PARAMETER"
    default = "EKS refused a parameter as invalid."


class EksInvalidRequest(EksRefused, FailedPrecondition):
    reason = "EKS_INVALID_REQUEST"
    default = "EKS refused the request as invalid given the state of the cluster."


class EksInvalidState(EksRefused, FailedPrecondition):
    reason = "EKS_INVALID_STATE"
    default = "EKS refused the call: the update's state does not permit it."


class EksResourceInUse(EksRefused, FailedPrecondition):
    reason = "EKS_RESOURCE_IN_USE"
    default = "EKS refused the call: the resource is in use."


class EksClientError(EksRefused, FailedPrecondition):
    reason = "EKS_CLIENT_ERROR"
    default = "EKS refused the call."


class EksNotFound(EksRefused, NotFound):
    reason = "EKS_NOT_FOUND"
    default = "EKS has no such cluster or update."


class EksThrottled(EksError, Exhausted):
    reason = "EKS_THROTTLED"
    default = "EKS is throttling this account: try again later."
    retry_s = 2.0


class EksUnavailable(EksError, Unavailable):
    reason = "EKS_UNAVAILABLE"
    default = "EKS could not be reached or had an error of its own."


CALL_TIMED_OUT: Final = "EKS did not answer within the call timeout."  # the message of an EksUnavailable


class EksNotReached(EksUnavailable):
    """No connection was made, so nothing was sent."""


class EksNoAnswer(EksError, OutcomeUnknown):
    """A cancel may have been sent, and EKS answered with a 5xx or not at all: it may have acted."""


class UpstreamCredentials(EksError, Fault):
    """AWS refuses the gateway's credentials, or it has none. EKS did not evaluate the call."""

    reason = "UPSTREAM_CREDENTIALS"
    default = "AWS refuses the gateway's own credentials; the caller did nothing wrong."


def _by_reason(branch: type[GatewayError]) -> dict[str, type[GatewayError]]:
    leaves = {branch.reason: branch} if branch.reason else {}
    for child in branch.__subclasses__():
        leaves = _by_reason(child) | leaves  # a subclass with its parent's reason is replayed as the parent
    return leaves


BY_REASON: Final = _by_reason(GatewayError)

_Error = TypeVar("_Error", bound=GatewayError)


def copy_error(error: _Error) -> _Error:
    """A copy for one of several callers, with its own traceback and metadata."""
    mine = copy(error)
    mine.metadata = dict(error.metadata)
    return mine


def record(error: GatewayError) -> ErrorRecord:
    """The part of an error that the ledger stores."""
    return ErrorRecord(error.reason, error.message, dict(error.metadata))


def replay(stored: ErrorRecord) -> GatewayError:
    """The recorded error. A reason that is unknown here (from another version) becomes Internal."""
    return BY_REASON.get(stored.reason, Internal)(stored.message, metadata=dict(stored.metadata))
