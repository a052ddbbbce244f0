"""`eksgateway watch` and `eksgateway cancel`, which use eksgateway.client."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import uuid
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc

from eksgateway.cli.connection import GatewayConnection
from eksgateway.client import Credentials, Knowledge, cancel, watch
from eksgateway.client.error_report import (
    TIMED_OUT,
    UNREACHABLE,
    ErrorReport,
    exit_code,
    phase_name,
    printable,
)
from eksgateway.errors import SettingsError
from eksgateway.v1.update_pb2 import ClusterRef
from eksgateway.v1.update_service_pb2 import CancelUpdateRequest

TOKEN: Final = "EKSGATEWAY_TOKEN"  # noqa: S105  a variable's name


async def run_watch(
    connection: GatewayConnection,
    cluster: ClusterRef,
    update_id: str,
    token_file: Path | None,
    max_age: float,
) -> int:
    """Return the exit code: 0 once the update has ended. Raises SettingsError."""
    credentials = _read_credentials(token_file)
    _log_to_stderr()
    async with connection.channels() as channels:
        states = watch(channels, cluster, update_id, credentials=credentials, max_age=max_age)
        try:
            async with aclosing(states):
                async for known in states:
                    print(_format(known), flush=True)
        except grpc.aio.AioRpcError as error:
            _print_error(error)
            return exit_code(error)
    return 0


async def run_cancel(
    connection: GatewayConnection, request: CancelUpdateRequest, token_file: Path | None, timeout_s: float
) -> int:
    """Return the exit code: 0 when EKS accepted it. Raises SettingsError.

    ``timeout_s`` covers all retries. A request without a ``request_id`` gets one.
    """
    credentials = _read_credentials(token_file)
    _log_to_stderr()
    command = ["eksgateway", *sys.argv[1:]]
    if not request.request_id:
        request.request_id = str(uuid.uuid4())
        command += ["--request-id", request.request_id]
    repeat = shlex.join(command)
    # Printed before the call, so that the outcome can be found out even if this process is killed.
    _print_err(f"eksgateway: request {request.request_id}; to repeat it: {repeat}")
    async with connection.channels() as channels:
        try:
            done = await cancel(
                channels,
                request.cluster,
                request.update_id,
                reason=request.reason,
                ticket=request.ticket,
                request_id=request.request_id,
                credentials=credentials,
                timeout=timeout_s,
            )
        except grpc.aio.AioRpcError as error:
            _print_error(error)
            if exit_code(error) in (UNREACHABLE, TIMED_OUT):
                _print_err(
                    f"The outcome of request {request.request_id} is not known here; to find out: {repeat}"
                )
            return exit_code(error)
    phase = phase_name(done.phase)
    print(printable(f"{phase}  cancellation {done.cancellation_id}, request {done.request_id}"))
    return 0


def _log_to_stderr() -> None:
    logging.basicConfig(format="eksgateway: %(message)s")
    logging.getLogger("eksgateway.client").setLevel(logging.INFO)  # retries and their causes
    # It logs a traceback for a message that does not parse.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)


def _print_error(error: grpc.aio.AioRpcError) -> None:
    report = ErrorReport.of(error)
    _print_err(str(report))
    if report.reason == "CREDENTIALS_MISSING":
        _print_err(f"set {TOKEN} to a bearer token, or name a file that holds one with --token-file")


def _print_err(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _read_credentials(file: Path | None) -> Credentials | None:
    """The bearer token in the file, read again for each connection, or in the environment, or none."""
    if file is not None:
        _read_token(file)
        return lambda: _read_token(file)
    token = os.environ.get(TOKEN)
    return (lambda: _check_token(token, TOKEN)) if token else None


def _read_token(file: Path) -> str:
    try:
        return _check_token(file.read_text(), f"--token-file {file}")
    except OSError as exc:
        raise SettingsError(f"--token-file {file}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"--token-file {file}: is not text: name a file with the token alone") from exc


def _check_token(text: str, source: str) -> str:
    token = text.strip()
    if not (token.isascii() and token.isprintable()):
        raise SettingsError(f"{source}: is not a token: it has characters that cannot be sent")
    return token


def _format(known: Knowledge) -> str:
    time = f"{datetime.now():%H:%M:%S}"  # noqa: DTZ005  local, for people
    if not known.sequence:
        return f"{time}    0  no state yet"
    phase = phase_name(known.phase).replace("UNSPECIFIED", "")
    state = f"{known.update.status:<12}  {known.update.cancellation.status:<10}  {phase:<12}".rstrip()
    age = f"  (EKS was last seen {known.age_s:.0f} s ago)" if known.stale else ""
    return printable(f"{time}  {known.sequence:>3}  {state}{age}")
