"""Helpers of wire tests: decoded errors, calls in one line, and hooks that delay a part."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from eksgateway.client import ErrorDetails
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import cancellation_service_pb2 as history_pb
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.errors import decode_details
from support.gateway import Client, RunningGateway

PRODUCTION = {"environment": "production"}
IDS = ("eksgateway-request-id", "eksgateway-decision-id")


@dataclass(frozen=True)
class Refusal:
    """An error as a client gets it.

    ``trailing`` is the trailing metadata without grpc's own, ``fields`` the description of each bad field,
    and ``subject`` that of PreconditionFailure.
    """

    status: str
    message: str
    parsed: ErrorDetails
    details: dict[str, Message]
    trailing: dict[str, str]
    raw: bytes

    @property
    def reason(self) -> str:
        return self.parsed.reason

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.parsed.metadata

    @property
    def retry_s(self) -> float | None:
        return self.parsed.retry_s

    @property
    def fields(self) -> dict[str, str]:
        return dict(self.parsed.violations)

    @property
    def status_and_reason(self) -> tuple[str, str]:
        return self.status, self.reason

    @property
    def subject(self) -> str:
        found = self.details["PreconditionFailure"]
        assert isinstance(found, error_details_pb2.PreconditionFailure)
        (violation,) = found.violations
        assert violation.type == self.reason
        return str(violation.subject)

    @property
    def masked(self) -> bytes:
        """Every byte that a client can see, with this call's ids replaced by their names."""
        seen = self.raw
        for name in IDS:
            seen = seen.replace(self.trailing[name].encode(), name.encode())
        return seen


async def expect_refusal(call: Awaitable[Any]) -> Refusal:
    """Await a call that fails. Checks that the error has one ErrorInfo, and both ids in the trailers."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    trailing = {str(key): value for key, value in error.trailing_metadata() or ()}
    raw = repr([error.code(), error.details(), sorted(trailing.items())]).encode()
    trailing.pop("grpc-status-details-bin")
    assert set(trailing) == set(IDS)
    assert all(trailing.values())
    parsed = ErrorDetails.of(error)
    assert parsed.reason
    return Refusal(
        error.code().name,
        error.details() or "",
        parsed,
        decode_details(error),
        {key: str(value) for key, value in trailing.items()},
        raw,
    )


async def get_cancellation(here: Client, who: Any = None, **key: str) -> cpb.Cancellation:
    """GetCancellation by ``cancellation_id`` or ``request_id``, by the on-call engineer by default."""
    request = history_pb.GetCancellationRequest(**key)
    answer = await here.history.GetCancellation(request, metadata=who or here.oncall, timeout=80)
    return answer.cancellation


async def wait_for_phase(
    here: Client, phase: cpb.CancellationPhase.ValueType, *, status: str = "", **key: str
) -> cpb.Cancellation:
    """Wait until the record has this phase and, if given, this status of the update."""
    deadline = time.monotonic() + 60
    while (found := await get_cancellation(here, **key)).phase != phase or status not in (
        "",
        found.update.status,
    ):
        assert time.monotonic() < deadline, f"it stays {cpb.CancellationPhase.Name(found.phase)}"
        await asyncio.sleep(0.02)
    return found


async def get_update(here: RunningGateway, cluster: str, update_id: str, who: Any = None, **ref: str) -> Any:
    """GetUpdate's update."""
    request = pb.GetUpdateRequest(cluster=ClusterRef(name=cluster, **ref), update_id=update_id)
    return (await here.updates.GetUpdate(request, metadata=who or here.oncall, timeout=80)).update


async def list_updates(here: RunningGateway, cluster: str, who: Any = None, **fields: Any) -> Any:
    """ListUpdates."""
    request = pb.ListUpdatesRequest(cluster=ClusterRef(name=cluster), **fields)
    return await here.updates.ListUpdates(request, metadata=who or here.oncall, timeout=80)


async def list_cancellable(here: RunningGateway, who: Any = None, **fields: Any) -> Any:
    """ListCancellableUpdates."""
    request = pb.ListCancellableUpdatesRequest(**fields)
    return await here.updates.ListCancellableUpdates(request, metadata=who or here.oncall, timeout=80)


async def check(here: RunningGateway, cluster: str, update_id: str, who: Any = None, **fields: Any) -> Any:
    """CheckCancelUpdate with a reason and a ticket by default."""
    fields = {"reason": "bad AMI", "ticket": "OPS-1"} | fields
    request = pb.CheckCancelUpdateRequest(cluster=ClusterRef(name=cluster), update_id=update_id, **fields)
    return await here.updates.CheckCancelUpdate(request, metadata=who or here.oncall, timeout=80)


async def list_cancellations(here: RunningGateway, who: Any = None, **fields: Any) -> Any:
    """ListCancellations."""
    request = history_pb.ListCancellationsRequest(**fields)
    return await here.history.ListCancellations(request, metadata=who or here.oncall, timeout=80)


Hook = Callable[..., Awaitable[None]]


class HookedPart:
    """A part (ledger, EKS, policy) whose methods first await the hook of their name.

    A hook may wait, to delay the call, or raise, to fail it.
    """

    def __init__(self, part: Any, **hooks: Hook) -> None:
        self._part = part
        self._hooks = hooks

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)
        if name not in self._hooks:
            return method

        async def call_with_hook(*args: Any, **kwargs: Any) -> Any:
            await self._hooks[name](*args, **kwargs)
            return await method(*args, **kwargs)

        return call_with_hook


def add_hooks(**hooks: Hook) -> Callable[[Any], HookedPart]:
    """For ``run_gateway(wrap_…=…)``."""
    return lambda part: HookedPart(part, **hooks)


class Gate:
    """A hook that holds calls until it is opened. Counts the calls that entered and left."""

    def __init__(self) -> None:
        self.entered = 0
        self.left = 0
        self._open = asyncio.Event()

    async def __call__(self, *_: Any, **__: Any) -> None:
        self.entered += 1
        try:
            await self._open.wait()
        finally:
            self.left += 1

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        """Hold later calls."""
        self._open.clear()


def always_raise(error: Exception) -> Hook:
    """A hook that fails every time."""

    async def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail
