"""Measures watches: EKS calls, age of knowledge, stalled readers, memory, and many watches opened at once."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench.processes import (
    ACCOUNT,
    CHANNEL_OPTIONS,
    REGION,
    GatewayProcess,
    poll_every,
    resident_bytes,
    run_gateway,
    run_program,
)
from bench.report import Ratio
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub

STREAMS_PER_CHANNEL: Final = 80  # of the 100 that a connection carries


class Streams:
    """Many equal streams over as few connections as needed."""

    def __init__(
        self, open_channel: Callable[[], grpc.aio.Channel], open_stream: Callable[[grpc.aio.Channel], Any]
    ) -> None:
        self._open_channel = open_channel
        self._open_stream = open_stream
        self._channels: list[grpc.aio.Channel] = []
        self.all: list[Any] = []

    def open(self, count: int) -> list[Any]:
        """Open ``count`` more, without waiting for their first message."""
        opened = []
        for _ in range(count):
            if len(self.all) % STREAMS_PER_CHANNEL == 0:
                self._channels.append(self._open_channel())
            opened.append(self._open_stream(self._channels[-1]))
            self.all.append(opened[-1])
        return opened

    async def open_and_read(self, count: int) -> list[Any]:
        """Open ``count`` more and read the first message of each."""
        return await asyncio.gather(*(stream.read() for stream in self.open(count)))

    async def close(self) -> None:
        for stream in self.all:
            stream.cancel()
        await asyncio.gather(*(channel.close() for channel in self._channels))


@asynccontextmanager
async def run_watches(gateway: GatewayProcess, cluster: str, update_id: str) -> AsyncIterator[Streams]:
    """Watches of one update."""
    metadata = gateway.credentials("oncall", "oncall")
    request = pb.WatchUpdateRequest(cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id)

    def open_watch(channel: grpc.aio.Channel) -> Any:
        return UpdateServiceStub(channel).WatchUpdate(request, metadata=metadata)

    watches = Streams(gateway.channel, open_watch)
    try:
        yield watches
    finally:
        await watches.close()


# -- EKS calls with 5,000 watchers ÷ with 1 ---------------------------------------------------------


async def measure_eks_calls() -> float:
    """Calls in 20 s from the first watch on. A fifth of the 5,000 watchers leave meanwhile."""
    counts = []
    for watchers in (1, 5000):
        async with run_gateway(watch=poll_every(0.5)) as gateway:
            update_id = await gateway.rollback("prod-1")
            async with run_watches(gateway, "prod-1", update_id) as watches:
                await watches.open_and_read(1)
                end = time.monotonic() + 20
                while time.monotonic() < end and len(watches.all) < watchers:
                    opened = watches.open(250)
                    await asyncio.gather(*(stream.read() for stream in opened))
                    for stream in opened[::5]:
                        stream.cancel()
                await asyncio.sleep(max(0.0, end - time.monotonic()))
                if len(watches.all) < watchers:
                    raise RuntimeError(f"only {len(watches.all)} watches could be opened in 20 s")
                counts.append(await gateway.calls())
    return counts[1] / counts[0]


# -- Age of knowledge: 1,000 independent pollers ÷ gateway, at 10 EKS calls/s for both --------------

CLIENTS, CALLS_PER_SECOND, CHANGES = 1000, 10, 8


async def measure_age() -> float:
    """The time from a change in EKS until a client knows of it, averaged over clients and changes."""
    async with run_gateway(eks={"calls_per_s": CALLS_PER_SECOND}, watch=poll_every(0.1)) as gateway:
        update_id = await gateway.rollback("prod-1")
        with_gateway = await _age_with_gateway(gateway, update_id)
        with_pollers = await _age_with_pollers(gateway, update_id)
    return with_pollers / with_gateway


async def _age_with_gateway(gateway: GatewayProcess, update_id: str) -> float:
    ages: list[float] = []
    change_times: dict[str, float] = {}

    async def follow(stream: Any) -> None:
        while (message := await stream.read()) is not grpc.aio.EOF:
            change_time = change_times.get(message.update.status)
            if change_time is not None:
                ages.append(time.monotonic() - change_time)

    async with run_watches(gateway, "prod-1", update_id) as watches:
        await watches.open_and_read(CLIENTS)
        tasks = [asyncio.create_task(follow(stream)) for stream in watches.all]
        for number in range(CHANGES):
            await asyncio.sleep(1 + random.random())
            change_times[f"Status{number}"] = time.monotonic()
            await _change_status(gateway, update_id, f"Status{number}")
        async with asyncio.timeout(30):
            while len(ages) < CLIENTS * CHANGES:
                await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return statistics.fmean(ages)


async def _change_status(gateway: GatewayProcess, update_id: str, status: str) -> None:
    await gateway.control("POST", "updates", cluster="prod-1", update_id=update_id, status=status)


async def _age_with_pollers(gateway: GatewayProcess, update_id: str) -> float:
    """Each of 1,000 clients polls once in 100 s, at its own time."""
    ages: list[float] = []
    change_time = time.monotonic()
    await _change_status(gateway, update_id, "Changed")
    url = f"{gateway.simulator}/clusters/prod-1/updates/{update_id}"
    pending: set[asyncio.Task[None]] = set()

    async def poll() -> None:
        async with gateway.http.get(url, headers=_sign(url)) as response:
            status = (await response.json())["update"]["status"]
        if status != "Changed":
            raise RuntimeError(f"a poller saw {status}")
        ages.append(time.monotonic() - change_time)

    for number in range(CLIENTS):
        await asyncio.sleep(max(0.0, change_time + number / CALLS_PER_SECOND - time.monotonic()))
        task = asyncio.create_task(poll())
        pending.add(task)
        task.add_done_callback(pending.discard)
    await asyncio.gather(*pending)
    return statistics.fmean(ages)


def _sign(url: str) -> dict[str, str]:
    request = AWSRequest("GET", url)
    SigV4Auth(Credentials(f"AKIA{ACCOUNT}", "simulated"), "eks", REGION).add_auth(request)
    return dict(request.headers)


# -- p99 of 900 watchers while 100 others are stalled ÷ while all read ------------------------------


async def measure_stalled() -> float:
    """p99 from EKS's answer to a change (its observe time) to the client."""
    large = [{"type": "Version", "value": "x" * 2000}] * 20
    async with run_gateway(watch=poll_every(0.1) | {"write_timeout_s": 600}) as gateway:
        update_id = await gateway.rollback("prod-1", params=large)
        async with run_watches(gateway, "prod-1", update_id) as watches:
            measured = watches.open(900)
            others = watches.open(100)
            for stream in (*measured, *others):
                await stream.read()
            none_stalled = await _p99(gateway, update_id, measured, others)
            some_stalled = await _p99(gateway, update_id, measured, [])
    return some_stalled / none_stalled


async def _p99(gateway: GatewayProcess, update_id: str, measured: list[Any], others: list[Any]) -> float:
    """p99 over ten changes. The ``others`` read without being measured; all further streams stall."""
    delays: list[float] = []
    changes = 10

    async def follow(stream: Any, *, is_measured: bool) -> None:
        for _ in range(changes):
            message = await stream.read()
            if is_measured:
                delays.append(time.time() - message.observe_time.ToNanoseconds() / 1e9)

    tasks = [asyncio.create_task(follow(stream, is_measured=True)) for stream in measured]
    tasks += [asyncio.create_task(follow(stream, is_measured=False)) for stream in others]
    prefix = random.randrange(10**6)
    for number in range(changes):
        await _change_status(gateway, update_id, f"Status{prefix}-{number}")
        await asyncio.sleep(2)
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    return statistics.quantiles(delays, n=100)[98]


# -- Memory ------------------------------------------------------------------------------------------

WATCHERS: Final = 2000


async def measure_memory() -> float:
    """Resident memory of 2,000 open watches, ÷ that of as many streams of a bare server."""
    async with run_gateway() as gateway:
        update_id = await gateway.rollback("prod-1")
        async with run_watches(gateway, "prod-1", update_id) as watches:
            ours, message = await _memory_of(watches, gateway.process.pid)
    metadata: Any = gateway.credentials("oncall", "oncall")
    async with run_program("bench.bare_server") as (server, address):

        def open_channel() -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)

        def open_stream(channel: grpc.aio.Channel) -> Any:
            call: Any = channel.unary_stream("/bench.Bare/Stream")
            return call(message.SerializeToString(), metadata=metadata)

        streams = Streams(open_channel, open_stream)
        bare, _ = await _memory_of(streams, server.pid)
        await streams.close()
    return ours / bare


async def _memory_of(streams: Streams, pid: int) -> tuple[int, Any]:
    """Bytes by which the process grows with WATCHERS streams, and a first message."""
    await streams.open_and_read(100)
    before = resident_bytes(pid)
    messages = await streams.open_and_read(WATCHERS)
    return resident_bytes(pid) - before, messages[0]


async def measure_leak() -> float:
    """Resident memory after 60,000 watches were opened and cancelled ÷ after the first 1,000."""
    async with run_gateway() as gateway:
        update_id = await gateway.rollback("prod-1")
        first = await _memory_after(gateway, update_id, 1000)
        return await _memory_after(gateway, update_id, 59_000) / first


async def _memory_after(gateway: GatewayProcess, update_id: str, watches: int) -> float:
    for _ in range(0, watches, STREAMS_PER_CHANNEL):
        async with run_watches(gateway, "prod-1", update_id) as many:
            await many.open_and_read(STREAMS_PER_CHANNEL)
    await asyncio.sleep(2)  # until the last ones are released
    return resident_bytes(gateway.process.pid)


# -- 5,000 watches opened at once ------------------------------------------------------------------


async def measure_lost() -> float:
    """The number of 5,000 watches opened at once that never get their first message."""
    async with run_gateway() as gateway:
        update_id = await gateway.rollback("prod-1")
        async with run_watches(gateway, "prod-1", update_id) as watches, asyncio.timeout(120):
            reads = (stream.read() for stream in watches.open(5000))
            messages = await asyncio.gather(*reads, return_exceptions=True)
    return sum(not isinstance(message, pb.WatchUpdateResponse) for message in messages)


RATIOS: Final = (
    Ratio("eks_calls", "EKS calls with 5,000 watchers ÷ with 1", "at most", 1.00, 3, measure_eks_calls),
    Ratio("age", "age of knowledge, 1,000 pollers ÷ gateway", "at least", 300, 3, measure_age),
    Ratio("stalled", "p99 with 10 % stalled ÷ none, 1,000 watchers", "at most", 1.05, 5, measure_stalled),
    Ratio("memory", "memory per watcher ÷ bare stream handler", "at most", 1.10, 3, measure_memory),
    Ratio("leak", "memory after 60,000 watches ÷ after 1,000", "at most", 1.02, 1, measure_leak),
    Ratio("lost", "5,000 watches opened at once: lost", "at most", 0, 3, measure_lost),
)
