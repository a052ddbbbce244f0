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

# The policy of this project writes "A ticket is required by grant …"; the pattern fits others' words too.
_REQUIRED: Final = re.compile(r"\b(ticket|reason)\b.*\b(required|needed|missing)\b", re.IGNORECASE)
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


def note_error(error: grpc.aio.AioRpcError) -> None:
    report = ErrorReport.of(error)
    note(str(report))
    for help_text in find_help(report.reason, report.sentences):
        note(help_text)


def find_help(reason: str, sentences: tuple[str, ...]) -> list[str]:
    """What the user can do about a refusal."""
    if reason in _HELP:
        return [_HELP[reason]]
    matches = (_REQUIRED.search(each) for each in sentences)
    names = dict.fromkeys(match[1].lower() for match in matches if match)
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
