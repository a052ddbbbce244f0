"""`eksgateway cancel`: CancelUpdate, or CancelUpdateAndWatch with --watch."""

from __future__ import annotations

import math
import shlex
import sys
import uuid
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from eksgateway.cli.commands.watch import report_end
from eksgateway.cli.endings import cancellation_code
from eksgateway.cli.exit_codes import TIMED_OUT, UNREACHABLE
from eksgateway.cli.notes import note
from eksgateway.cli.output.printer import print_message, print_result
from eksgateway.cli.output.terminal import print_lines
from eksgateway.cli.output.views import cluster_path
from eksgateway.cli.output.watch_view import watch_view
from eksgateway.cli.refusals import exit_code
from eksgateway.cli.session import Session, cluster_ref, run_session
from eksgateway.cli.shared_options import CallOptions, ClusterOptions, Format, Wanted
from eksgateway.client import Knowledge, cancel, cancel_and_watch
from eksgateway.client.calls import CANCEL_S
from eksgateway.client.error_report import phase_name
from eksgateway.v1.cancellation_pb2 import Cancellation
from eksgateway.v1.update_service_pb2 import CancelUpdateAndWatchResponse, CancelUpdateResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOptions:
    """``request_id`` may be empty. ``watch`` follows the update to its end."""

    update_id: str
    reason: str
    ticket: str
    request_id: str
    watch: bool


def run(call: CallOptions, where: ClusterOptions, options: CancelOptions) -> None:
    command = ["eksgateway", *sys.argv[1:]]
    request_id = options.request_id or str(uuid.uuid4())
    if not options.request_id:
        command += ["--request-id", request_id]
    repeat = shlex.join(command)
    request: dict[str, Any] = {
        "cluster": cluster_ref(where),
        "update_id": options.update_id,
        "reason": options.reason,
        "ticket": options.ticket,
        "request_id": request_id,
    }

    async def body(session: Session) -> int:
        # Printed before the call, so that the outcome can be found out even if this process is killed.
        note(f"eksgateway: request {request_id}; to repeat it: {repeat}")
        unknown = f"The outcome of request {request_id} is not known here; to find out: {repeat}"
        run_cancel = _cancel_and_watch if options.watch else _cancel
        return await run_cancel(session, call, request, unknown)

    run_session(call, body)


@contextmanager
def _adding(unknown: str, session: Session) -> Iterator[None]:
    """Add the text to an error after which the outcome of the cancel is not known."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if exit_code(error, connected=session.channels.connected) in (UNREACHABLE, TIMED_OUT):
            error.add_note(unknown)
        raise


async def _cancel(session: Session, call: CallOptions, request: dict[str, Any], unknown: str) -> int:
    timeout, token = call.timeout or CANCEL_S, session.connection.token
    with _adding(unknown, session):
        done = await cancel(session.channels, **request, credentials=token, timeout=timeout)
    answer = CancelUpdateResponse(cancellation=done)
    print_result(call.output, answer, _line(done), [done.cancellation_id])
    return cancellation_code(done)


async def _cancel_and_watch(
    session: Session, call: CallOptions, request: dict[str, Any], unknown: str
) -> int:
    events = cancel_and_watch(
        session.channels,
        **request,
        credentials=session.connection.token,
        watch_timeout=call.timeout or math.inf,
        heartbeats=True,
    )
    last = Knowledge()
    title = f"{cluster_path(request['cluster'])} {request['update_id']}"
    async with aclosing(events):
        with _adding(unknown, session):
            first = await anext(events)
        _print_first(call.output, first)
        with watch_view(call.output, title, request["update_id"], wrapped=True) as show:
            try:
                async for known in events:
                    if isinstance(known, Knowledge):
                        last = known
                        show(known)
            except grpc.aio.AioRpcError as error:
                error.add_note("EKS accepted the cancel; `eksgateway watch` follows the update further.")
                raise
    return report_end(last, Wanted.CANCELLED)


def _print_first(form: Format, done: Cancellation | Knowledge) -> None:
    if not isinstance(done, Cancellation):
        return  # the client yields it first
    if form is Format.NAME:
        print_lines([done.cancellation_id])
    elif form is Format.TABLE:
        print_lines([_line(done)])
    else:
        print_message(form, CancelUpdateAndWatchResponse(cancellation=done))


def _line(done: Cancellation) -> str:
    return f"{phase_name(done.phase)}  cancellation {done.cancellation_id}, request {done.request_id}"
