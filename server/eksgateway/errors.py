"""Everything the gateway can tell a caller, or who starts it, has gone wrong; knows no grpc.

Each leaf has one ``reason``, the one in ``ErrorInfo``; each branch says whose move it is:

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

``EksRefused`` marks the leaves in which EKS judged a call and said no. Only the ``errors``
interceptor turns a branch into a status. ``StartError`` is for whoever starts the gateway.
"""

from __future__ import annotations

from typing import ClassVar

from eksgateway.model import ErrorRecord


class StartError(Exception):
    """What keeps the gateway from starting; the text says what is wrong and how to mend it."""


class GatewayError(Exception):
    """An error meant for a caller.

    ``message`` is told to the caller and never comes from an unexpected exception;
    ``metadata`` holds every dynamic value; ``retry_after`` is in seconds; ``violations`` maps a
    field's path to what is wrong with it; ``detail`` is for the log alone. ``default`` and
    ``retry_s`` are a leaf's message and its ``retry_after`` where nobody knows better.
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
    """Who calls could not be proved. ``check`` is the one that failed, and ``issuer`` the short name of the
    issuer (or the trust domain) whose credentials they are, once that is known. Both are for the log.
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
    """The policy answered, and the answer is no."""


class PolicyDenied(Denied):
    reason = "POLICY_DENIED"
    default = "The policy does not allow this."


class PolicyObligationUnknown(Denied):
    reason = "POLICY_OBLIGATION_UNKNOWN"
    default = "The policy allows this under an obligation that this gateway does not know."


class InvalidArgument(GatewayError):
    """The request has to change before it can succeed."""


class RequestInvalid(InvalidArgument):
    reason = "REQUEST_INVALID"
    default = "The request has invalid fields; see the field violations."


class ResumeTokenInvalid(InvalidArgument):
    reason = "RESUME_TOKEN_INVALID"
    default = "The resume token cannot be used here: watch again without one."


class FailedPrecondition(GatewayError):
    """The state of the update, the cluster or the gateway does not permit it."""


class TargetNotConfigured(FailedPrecondition):
    reason = "TARGET_NOT_CONFIGURED"
    default = "This gateway is not configured for that account and region."


class UpdateFinished(FailedPrecondition):
    reason = "UPDATE_FINISHED"
    default = "The update has ended already; nothing was sent to EKS."


class NotFound(GatewayError):
    """What was asked about does not exist, or is not the caller's to see."""


class CancellationNotFound(NotFound):
    reason = "CANCELLATION_NOT_FOUND"
    default = "There is no such cancellation that you may see."


class ServiceUnknown(NotFound):
    reason = "SERVICE_UNKNOWN"
    default = "This gateway has no health service of that name."


class AlreadyExists(GatewayError):
    """The name is taken."""


class RequestIdReused(AlreadyExists):
    reason = "REQUEST_ID_REUSED"
    default = "This request_id was used with other parameters: choose a new one."


class Aborted(GatewayError):
    """Nothing happened; the whole call may be made again."""


class DecisionStale(Aborted):
    reason = "DECISION_STALE"
    default = "The decision became too old to act on; nothing was sent to EKS. Call again."


class Exhausted(GatewayError):
    """A bound was reached."""


class Overloaded(Exhausted):
    reason = "OVERLOADED"
    default = "Too many calls or watches at once: try again later."
    retry_s = 1.0


class RequestTooLarge(Exhausted):
    reason = "REQUEST_TOO_LARGE"
    default = "The message or its metadata is larger than this gateway takes."


class WatcherTooSlow(Exhausted):
    reason = "WATCHER_TOO_SLOW"
    default = "The stream was not read for too long and was closed: watch again."


class Unavailable(GatewayError):
    """Something the gateway depends on could not do its part."""


class IdentityUnavailable(Unavailable):
    reason = "IDENTITY_UNAVAILABLE"
    default = "The keys to verify credentials with cannot be had right now."


class PolicyUndefined(Unavailable):
    reason = "POLICY_UNDEFINED"
    default = "The policy has no answer: it is not loaded."


class PolicyUnavailable(Unavailable):
    reason = "POLICY_UNAVAILABLE"
    default = "The policy could not be asked; nothing was sent to EKS."


class LedgerUnavailable(Unavailable):
    reason = "LEDGER_UNAVAILABLE"
    default = "The ledger could not be reached; nothing was sent to EKS."


class OutcomeUnrecorded(Unavailable):
    reason = "OUTCOME_UNRECORDED"
    default = "The outcome of the call to EKS could not be recorded yet."


class OutcomeUnknown(Unavailable):
    reason = "OUTCOME_UNKNOWN"
    default = (
        "Whether EKS got this cancel is not known: EKS gave no answer, and"
        " what became of it is being looked at. The same request_id tells that; a new request_id sends again."
    )


class Draining(Unavailable):
    reason = "DRAINING"
    default = "This gateway is shutting down: call again, another one will answer."
    retry_s = 1.0


class Unimplemented(GatewayError):
    """No such thing here."""


class MethodUnknown(Unimplemented):
    reason = "METHOD_UNKNOWN"
    default = "There is no such method."


class Fault(GatewayError):
    """The gateway or its configuration is at fault; the caller did nothing wrong."""


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
    """Something EKS, or the way to it, said. ``metadata["eks_code"]`` holds AWS's code where there is one."""


class EksRefused(EksError):
    """EKS judged the call and said no."""


class EksInvalidParameter(EksRefused, InvalidArgument):
    reason = "EKS_INVALID_PARAMETER"
    default = "EKS says that a parameter is invalid."


class EksInvalidRequest(EksRefused, FailedPrecondition):
    reason = "EKS_INVALID_REQUEST"
    default = "EKS says that the request is invalid given the state of the cluster."


class EksInvalidState(EksRefused, FailedPrecondition):
    reason = "EKS_INVALID_STATE"
    default = "EKS says that the update's state does not permit this."


class EksResourceInUse(EksRefused, FailedPrecondition):
    reason = "EKS_RESOURCE_IN_USE"
    default = "EKS says that the resource is in use."


class EksClientError(EksRefused, FailedPrecondition):
    reason = "EKS_CLIENT_ERROR"
    default = "EKS refused the call."


class EksNotFound(EksRefused, NotFound):
    reason = "EKS_NOT_FOUND"
    default = "EKS knows no such cluster or update."


class EksThrottled(EksError, Exhausted):
    reason = "EKS_THROTTLED"
    default = "EKS throttles this account: try again later."
    retry_s = 2.0


class EksUnavailable(EksError, Unavailable):
    reason = "EKS_UNAVAILABLE"
    default = "EKS could not be reached or had an error of its own."


class EksNotReached(EksUnavailable):
    """The connection was never made, so certainly nothing was sent."""


class EksNoAnswer(EksError, OutcomeUnknown):
    """A cancel may have left, and no answer of EKS's own came back, or a 5xx: EKS may have acted or not."""


class UpstreamCredentials(EksError, Fault):
    """AWS refuses the gateway, or the gateway has no credentials: EKS did not judge the call."""

    reason = "UPSTREAM_CREDENTIALS"
    default = "AWS refuses the gateway's own credentials; the caller did nothing wrong."


def _leaves(branch: type[GatewayError]) -> dict[str, type[GatewayError]]:
    found = {branch.reason: branch} if branch.reason else {}
    for child in branch.__subclasses__():
        found = _leaves(child) | found  # a parent that has the reason itself stands for it
    return found


BY_REASON = _leaves(GatewayError)


def record(error: GatewayError) -> ErrorRecord:
    """The part of an error that the ledger keeps."""
    return ErrorRecord(error.reason, error.message, dict(error.metadata))


def replay(kept: ErrorRecord) -> GatewayError:
    """The error again, as it was recorded; an unknown reason (an older ledger) becomes Internal."""
    return BY_REASON.get(kept.reason, Internal)(kept.message, metadata=dict(kept.metadata))
