"""Clients of several replicas, which keep what they asked and got."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time
from typing import Any, Final

import grpc

from eksgateway.client import ErrorDetails
from eksgateway.model import CancelRequest, ClusterRef, Justification, UpdateRef
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from support.fleet.history import NO_ANSWER, OK, Attempt, Line, Message, Read
from support.fleet.replicas import Replica
from support.gateway import ACCOUNT, REGION

SILENCE_S: Final = 5.0  # a stream without a message for this long is left
_PAUSE_S: Final = 0.1


def update_ref(cluster: str, update_id: str) -> UpdateRef:
    return UpdateRef(ClusterRef(ACCOUNT, REGION, cluster), update_id)


@dataclass
class Watcher:
    """One line: a watch that goes on at another replica whenever its stream breaks."""

    ref: UpdateRef
    who: Any = None  # call metadata; by default of the on-call engineer
    messages: list[Message] = field(default_factory=list)
    token: str = ""
    streams: int = 0
    reasons: list[str] = field(default_factory=list)  # why streams ended
    moved: asyncio.Event = field(default_factory=asyncio.Event)  # set: leave the stream

    @property
    def ended(self) -> bool:
        return bool(self.messages) and self.messages[-1].kind == "FINAL"

    @property
    def statuses(self) -> list[str]:
        """Without heartbeats."""
        return [message.state[0] for message in self.messages if message.kind != "HEARTBEAT"]

    async def run(self, choose: Callable[[], Replica]) -> None:
        """Watch until FINAL. Raises AioRpcError where no other replica would help."""
        while not self.ended:
            await self._read_stream(choose())
            if not self.ended:
                await asyncio.sleep(_PAUSE_S)

    async def _read_stream(self, replica: Replica) -> None:
        call = replica.client.watch(
            self.ref.cluster.name, self.ref.update_id, self.who, resume_token=self.token
        )
        self.streams += 1
        self.moved.clear()
        leaving = asyncio.ensure_future(self.moved.wait())
        try:
            while not self.ended:
                reading = asyncio.ensure_future(call.read())
                await asyncio.wait((reading, leaving), timeout=SILENCE_S, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    self.reasons.append("left" if leaving.done() else "silent")
                    reading.cancel()
                    return
                message = reading.result()
                if message is grpc.aio.EOF:
                    self.reasons.append("EOF")
                    return
                self._add(replica, message)
        except grpc.aio.AioRpcError as error:
            self.reasons.append(ErrorDetails.of(error).reason or error.code().name)
            if error.code() not in _BROKEN:
                raise
        finally:
            leaving.cancel()
            call.cancel()

    def _add(self, replica: Replica, message: Any) -> None:
        cancellation = message.update.cancellation.status if message.update.HasField("cancellation") else ""
        self.token = message.resume_token
        self.messages.append(
            Message(
                replica.name,
                time(),
                pb.WatchKind.Name(message.kind).removeprefix("WATCH_KIND_"),
                (message.update.status, cancellation),
                cpb.CancellationPhase.Name(message.phase).removeprefix("CANCELLATION_PHASE_"),
                message.sequence,
                message.observe_time.ToNanoseconds() / 1e9,
            )
        )


# UNKNOWN and CANCELLED are what a client sees of a connection that broke in the middle of an answer.
_BROKEN: Final = frozenset(
    {
        *(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED),
        *(grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED),
    }
)


@dataclass
class Clients:
    """All clients of a run."""

    attempts: list[Attempt] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)

    async def cancel(  # noqa: PLR0917
        self,
        replica: Replica,
        ref: UpdateRef,
        request_id: str,
        reason: str = "bad AMI",
        subject: str = "oncall",
        timeout_s: float = 30,
    ) -> Attempt:
        """CancelUpdate by ``subject``, a member of the group oncall."""
        client = replica.client
        request = pb.CancelUpdateRequest(
            cluster=update_pb2.ClusterRef(name=ref.cluster.name),
            update_id=ref.update_id,
            request_id=request_id,
            reason=reason,
            ticket="OPS-1",
        )
        began, result, cancellation_id, phase = time(), OK, "", ""
        try:
            answer = await client.updates.CancelUpdate(
                request, metadata=client.credentials(subject, "oncall"), timeout=timeout_s
            )
            cancellation_id = answer.cancellation.cancellation_id
            phase = cpb.CancellationPhase.Name(answer.cancellation.phase)
        except grpc.aio.AioRpcError as error:
            details = ErrorDetails.of(error)
            result = details.reason or NO_ANSWER
            cancellation_id = details.metadata.get("cancellation_id", "")
            phase = details.metadata.get("phase", "")
        attempt = Attempt(
            replica.name,
            f"jwt:test:{subject}",
            request_id,
            CancelRequest(ref, Justification(reason, "OPS-1")),
            began,
            time(),
            result,
            cancellation_id,
            phase.removeprefix("CANCELLATION_PHASE_"),
        )
        self.attempts.append(attempt)
        return attempt

    async def check(self, replica: Replica, ref: UpdateRef) -> str:
        """CheckCancelUpdate; returns OK, NO_ANSWER or an ErrorReason."""
        client, began, result = replica.client, time(), OK
        request = pb.CheckCancelUpdateRequest(
            cluster=update_pb2.ClusterRef(name=ref.cluster.name),
            update_id=ref.update_id,
            reason="why",
            ticket="OPS-1",
        )
        try:
            await client.updates.CheckCancelUpdate(request, metadata=client.oncall, timeout=30)
        except grpc.aio.AioRpcError as error:
            result = ErrorDetails.of(error).reason or NO_ANSWER
        self.reads.append(Read(replica.name, ref, began, time()))
        return result

    def watcher(self, ref: UpdateRef, **fields: Any) -> Watcher:
        watcher = Watcher(ref, **fields)
        self.watchers.append(watcher)
        return watcher

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(Line(watcher.ref, tuple(watcher.messages)) for watcher in self.watchers)
