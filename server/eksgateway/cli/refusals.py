"""Prints errors of calls with their decision and with what would help, and picks exit codes."""

from __future__ import annotations

import re
from typing import Final

import grpc

from eksgateway.cli.exit_codes import CREDENTIALS, REFUSED, TIMED_OUT, UNREACHABLE
from eksgateway.cli.notes import note
from eksgateway.client import ErrorDetails
from eksgateway.client.error_report import ErrorReport
from eksgateway.client.retries import TRANSPORT_STATUSES, is_retryable

# The policy of this project writes "A ticket is required by grant …" and "Grant … asks for a ticket like …";
# the pattern fits others' words too. A denial's reason may hold any words.
_REQUIRED: Final = re.compile(
    r"^(?!Denial )(?:.*\b(ticket|reason)\b.*\b(?:required|needed|missing)\b|.*\basks for a (ticket) like )",
    re.IGNORECASE,
)
_VALUES: Final = {"ticket": "--ticket TICKET", "reason": "--reason TEXT"}
_HELP: Final = {
    "CREDENTIALS_MISSING": "set EKSGATEWAY_TOKEN to a bearer token, or give --token-file or --token-command",
    "CREDENTIALS_INVALID": "get a token of an issuer and for an audience that this gateway accepts",
    "CREDENTIALS_EXPIRED": "get a new token",
    "TARGET_NOT_CONFIGURED": "correct the account and the region; `eksgateway cancellable` lists clusters",
    "REQUEST_ID_REUSED": "give another --request-id, or none",
    "REQUEST_TOO_LARGE": "shorten the arguments",
    "UPDATE_FINISHED": "there is nothing to cancel; `eksgateway get` shows how it ended",
    "EKS_INVALID_STATE": "it may be too late; `eksgateway watch` shows how it ends",
    "EKS_NOT_FOUND": "correct the names; `eksgateway cancellable` lists what can be cancelled",
    "CANCELLATION_NOT_FOUND": "`eksgateway history` lists those that you may see",
}
# The client's hints know no options.
_OPTIONS_FOR: Final = {
    "no TLS is spoken there": "call it with --plaintext, or set `plaintext: true` in its context",
    "TLS is spoken there, and this connects in plaintext": "give the gateway's CA bundle with --ca FILE",
    "is from no CA": "give the gateway's CA bundle with --ca FILE",
    "demands a client certificate": "give it with --certificate FILE --key FILE",
}


def note_error(error: grpc.aio.AioRpcError) -> None:
    report = ErrorReport.of(error)
    note(str(report))
    for help_text in find_help(report.reason, report.sentences):
        note(help_text)
    for part, option in _OPTIONS_FOR.items():
        if any(part in hint for hint in report.hints):
            note(option)


def find_help(reason: str, sentences: tuple[str, ...]) -> list[str]:
    """Sentences on how the user can get what was refused."""
    if reason in _HELP:
        return [_HELP[reason]]
    matches = (_REQUIRED.search(each) for each in sentences)
    names = dict.fromkeys((match[1] or match[2]).lower() for match in matches if match)
    return [f"needs a {name}: {_VALUES[name]}" for name in names]


def exit_code(error: grpc.aio.AioRpcError, *, connected: bool = True) -> int:
    """``connected``: whether the connection stood when the call failed."""
    details = ErrorDetails.of(error)
    if details.code is grpc.StatusCode.UNAUTHENTICATED:
        return CREDENTIALS
    if details.reason:
        return TIMED_OUT if is_retryable(details) else REFUSED
    if details.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TIMED_OUT if connected else UNREACHABLE
    return UNREACHABLE if details.code in TRANSPORT_STATUSES else REFUSED
