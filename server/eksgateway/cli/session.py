"""Runs one command's calls, and turns their errors into messages and exit codes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from eksgateway.cli.connection import Connection, connect
from eksgateway.cli.connection_settings import ConnectionSettings, split_command
from eksgateway.cli.exit_codes import USAGE, CommandError
from eksgateway.cli.notes import note, note_log_records
from eksgateway.cli.refusals import exit_code, note_error
from eksgateway.cli.shared_options import CallOptions, ClusterOptions, ConnectionOptions
from eksgateway.cli.signals import end_by_signals
from eksgateway.client import Channels
from eksgateway.client.calls import call_unary
from eksgateway.client.retries import DEFAULT_TIMING, Retries
from eksgateway.v1.cancellation_service_pb2_grpc import CancellationServiceStub
from eksgateway.v1.update_pb2 import ClusterRef
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub

READ_S = 35.0  # for all attempts of a read; the gateway answers within 30

_Answer = TypeVar("_Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection to the gateway. ``retries``: whether failed reads are repeated."""

    connection: Connection
    channels: Channels
    retries: bool = True

    async def call(self, method: Any, request: Message, answer: type[_Answer], timeout_s: float) -> _Answer:
        """A call without effects, by one of the stubs' methods, with retries. Raises AioRpcError."""
        retries = Retries(
            self.channels.calls,
            self.connection.token,
            DEFAULT_TIMING,
            find_fault=self.channels.find_fault,
            timeout=timeout_s,
        )
        return await call_unary(method, request, answer, retries, longest_s=READ_S, repeat=self.retries)

    @property
    def updates(self) -> Any:
        return UpdateServiceStub(self.channels.calls)

    @property
    def cancellations(self) -> Any:
        return CancellationServiceStub(self.channels.calls)


@asynccontextmanager
async def open_session(options: CallOptions, *, quiet: bool = False) -> AsyncIterator[Session]:
    """``quiet``: without retries, and without a token command's errors. Raises CommandError."""
    connection = find_connection(options, (lambda _: None) if quiet else note)
    async with Channels(connection.address, connection.credentials()) as channels:
        yield Session(connection, channels, retries=not quiet)


def find_connection(options: ConnectionOptions, report: Callable[[str], None] = note) -> Connection:
    """``report`` gets the standard error of a token command. Raises CommandError."""
    settings = ConnectionSettings(
        address=options.address,
        ca=options.ca,
        plaintext=options.plaintext,
        certificate=options.certificate,
        key=options.key,
    )
    if isinstance(options, CallOptions):
        command = split_command(options.token_command, "--token-command", USAGE)
        settings = replace(settings, token_file=options.token_file, token_command=command)
    return connect(settings, options.context, os.environ, report)


def run_session(options: CallOptions, body: Callable[[Session], Coroutine[Any, Any, int]]) -> NoReturn:
    """Exit with the code that ``body`` returns, or with that of the error that ends it."""
    note_log_records()
    sys.exit(asyncio.run(_run(options, body)))


async def _run(options: CallOptions, body: Callable[[Session], Coroutine[Any, Any, int]]) -> int:
    with end_by_signals():
        async with open_session(options) as session:
            try:
                return await body(session)
            except grpc.aio.AioRpcError as error:
                note_error(error)
                return exit_code(error, connected=session.channels.connected)


def cluster_ref(options: ClusterOptions) -> ClusterRef:
    """Raises CommandError for a cluster that names its target twice."""
    account, region, name = options.account, options.region, options.cluster
    if "/" in name:
        parts = name.split("/")
        if len(parts) != 3 or not all(parts):
            raise CommandError(f"{name}: is no cluster: write NAME or ACCOUNT/REGION/NAME", USAGE)
        if account or region:
            raise CommandError(
                f"{name} names its account and region: leave out --account and --region", USAGE
            )
        account, region, name = parts
    return ClusterRef(name=name, account_id=account, region=region)
