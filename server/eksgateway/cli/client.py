"""`eksgateway watch` and `cancel`: eksgateway.client from a shell."""

from __future__ import annotations

import logging
import os
import uuid
from contextlib import aclosing
from datetime import datetime
from pathlib import Path

import grpc

from eksgateway.cli.connection import Connection
from eksgateway.cli.refusal import Refusal
from eksgateway.client import CHANNEL_OPTIONS, Credentials, Knowledge, cancel, watch
from eksgateway.client.attempts import BROKEN
from eksgateway.settings import SettingsError
from eksgateway.v1.cancellation_pb2 import CancellationPhase
from eksgateway.v1.update_pb2 import ClusterRef

TOKEN = "EKSGATEWAY_TOKEN"  # noqa: S105  a variable's name


async def run_watch(
    connection: Connection, cluster: ClusterRef, update_id: str, token_file: Path | None, max_age: float
) -> int:
    """Print a line per state; 0 once the update has ended, 1 after a refusal. Raises SettingsError."""
    credentials = _token(token_file)
    async with _channel(connection) as channel:
        states = watch(channel, cluster, update_id, credentials=credentials, max_age=max_age)
        try:
            async with aclosing(states):
                async for known in states:
                    print(_line(known), flush=True)
        except grpc.aio.AioRpcError as error:
            print(Refusal.of(error))
            return 1
    return 0


async def run_cancel(  # noqa: PLR0913  as the client's, and from where
    connection: Connection,
    cluster: ClusterRef,
    update_id: str,
    token_file: Path | None,
    *,
    reason: str,
    ticket: str,
    request_id: str,
) -> int:
    """Print what became of it; 0 when EKS accepted it, else 1. Raises SettingsError."""
    credentials = _token(token_file)
    request_id = request_id or str(uuid.uuid4())
    async with _channel(connection) as channel:
        try:
            done = await cancel(
                channel,
                cluster,
                update_id,
                reason=reason,
                ticket=ticket,
                request_id=request_id,
                credentials=credentials,
            )
        except grpc.aio.AioRpcError as error:
            print(Refusal.of(error))
            if error.code() in BROKEN:
                print(f"To ask again what became of it: --request-id {request_id}")
            return 1
    print(f"{_phase(done.phase)}  cancellation {done.cancellation_id}, request {done.request_id}")
    return 0


def _channel(connection: Connection) -> grpc.aio.Channel:
    """A channel; what is tried again on it, and why, is told on standard error."""
    logging.basicConfig(format="eksgateway: %(message)s")
    logging.getLogger("eksgateway.client").setLevel(logging.INFO)
    credentials = connection.credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(connection.address, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(connection.address, credentials, options=CHANNEL_OPTIONS)


def _token(file: Path | None) -> Credentials | None:
    """The bearer token of the file, read again for each connection, or of the environment; else none."""
    if file is not None:
        try:
            file.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingsError(f"--token-file {file}: cannot be read") from exc
        return file.read_text
    token = os.environ.get(TOKEN)
    return (lambda: token) if token else None


def _line(known: Knowledge) -> str:
    time = f"{datetime.now():%H:%M:%S}"  # noqa: DTZ005  local, for whoever looks
    if known.stale:
        age = f"EKS was last seen {known.age_s:.0f} s ago" if known.sequence else "nothing is known yet"
        return f"{time}  {known.sequence:>3}  {age}"
    cancellation = known.update.cancellation.status
    told = f"{known.update.status:<12}  {cancellation:<10}  {_phase(known.phase)}"
    return f"{time}  {known.sequence:>3}  {told}".rstrip()


def _phase(phase: CancellationPhase.ValueType) -> str:
    name = CancellationPhase.Name(phase).removeprefix("CANCELLATION_PHASE_")
    return "" if name == "UNSPECIFIED" else name
