"""Ratios of watching: EKS calls, age of knowledge, stalled readers, memory, a storm of opens."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench.place import ACCOUNT, CHANNELS, REGION, Place, place, program, resident_bytes
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub

STREAMS_A_CHANNEL = 80  # a connection takes 100


class Watchers:
    """Many watches of one update over a few connections."""

    def __init__(self, here: Place, cluster: str, update_id: str) -> None:
        self._metadata = here.credentials("oncall", "oncall")
        self._request = pb.WatchUpdateRequest(
            cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id
        )
        self._here = here
        self._channels: list[grpc.aio.Channel] = []
        self.streams: list[Any] = []

    def open(self, count: int) -> list[Any]:
        """Open so many more, without waiting for them."""
        opened = []
        for _ in range(count):
            if len(self.streams) % STREAMS_A_CHANNEL == 0:
                self._channels.append(self._here.channel())
            stub = UpdateServiceStub(self._channels[-1])
            stream = stub.WatchUpdate(self._request, metadata=self._metadata)
            self.streams.append(stream)
            opened.append(stream)
        return opened

    async def close(self) -> None:
        for stream in self.streams:
            stream.cancel()
        await asyncio.gather(*(channel.close() for channel in self._channels))


@asynccontextmanager
async def watchers(here: Place, cluster: str, update_id: str) -> AsyncIterator[Watchers]:
    many = Watchers(here, cluster, update_id)
    try:
        yield many
    finally:
        await many.close()


# -- EKS calls with 5,000 watchers ÷ with 1 ---------------------------------------------------------


async def eks_calls() -> float:
    """Both for 20 s from the first watch on; the 5,000 join and leave all along."""
    counted = []
    for most in (1, 5000):
        async with place(watch={"poll_s": 0.5, "poll_min_s": 0.5, "poll_max_s": 0.5}) as here:
            update_id = await here.rollback("prod-1")
            async with watchers(here, "prod-1", update_id) as many:
                await many.open(1)[0].read()
                ends = time.monotonic() + 20
                while time.monotonic() < ends and len(many.streams) < most:
                    opened = many.open(250)
                    await asyncio.gather(*(stream.read() for stream in opened))
                    for stream in opened[::5]:
                        stream.cancel()
                await asyncio.sleep(max(0.0, ends - time.monotonic()))
                if len(many.streams) < most:
                    raise RuntimeError(f"only {len(many.streams)} watches could be opened in 20 s")
                counted.append(await here.calls())
    return counted[1] / counted[0]


# -- Age of knowledge: 1,000 independent pollers ÷ gateway, at 10 EKS calls/s for both --------------

CLIENTS, CALLS_A_SECOND, CHANGES = 1000, 10, 8


async def age_of_knowledge() -> float:
    """The time from a change at EKS until a client knows of it, averaged over clients and changes."""
    async with place(
        eks={"calls_per_s": CALLS_A_SECOND}, watch={"poll_s": 0.1, "poll_min_s": 0.1, "poll_max_s": 0.1}
    ) as here:
        update_id = await here.rollback("prod-1")
        gateway = await _age_with_gateway(here, update_id)
        pollers = await _age_of_pollers(here, update_id)
    return pollers / gateway


async def _age_with_gateway(here: Place, update_id: str) -> float:
    ages: list[float] = []
    changed: dict[str, float] = {}

    async def follow(stream: Any) -> None:
        while (message := await stream.read()) is not grpc.aio.EOF:
            since = changed.get(message.update.status)
            if since is not None:
                ages.append(time.monotonic() - since)

    async with watchers(here, "prod-1", update_id) as many:
        streams = many.open(CLIENTS)
        await asyncio.gather(*(stream.read() for stream in streams))
        tasks = [asyncio.create_task(follow(stream)) for stream in streams]
        for number in range(CHANGES):
            await asyncio.sleep(1 + random.random())
            changed[f"Status{number}"] = time.monotonic()
            await here.control(
                "POST", "updates", cluster="prod-1", update_id=update_id, status=f"Status{number}"
            )
        async with asyncio.timeout(30):
            while len(ages) < CLIENTS * CHANGES:
                await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return statistics.fmean(ages)


async def _age_of_pollers(here: Place, update_id: str) -> float:
    """Each of 1,000 calls in its turn, ten a second: each once in 100 s, at a phase of its own."""
    ages: list[float] = []
    changed_at = time.monotonic()
    await here.control("POST", "updates", cluster="prod-1", update_id=update_id, status="Changed")
    url = f"{here.simulator}/clusters/prod-1/updates/{update_id}"
    order = random.sample(range(CLIENTS), CLIENTS)
    pending: set[asyncio.Task[None]] = set()

    async def poll() -> None:
        async with here.http.get(url, headers=_signed(url)) as answer:
            status = (await answer.json())["update"]["status"]
        if status != "Changed":
            raise RuntimeError(f"a poller saw {status}")
        ages.append(time.monotonic() - changed_at)

    for number, _ in enumerate(order):
        await asyncio.sleep(max(0.0, changed_at + number / CALLS_A_SECOND - time.monotonic()))
        task = asyncio.create_task(poll())
        pending.add(task)
        task.add_done_callback(pending.discard)
    await asyncio.gather(*pending)
    return statistics.fmean(ages)


def _signed(url: str) -> dict[str, str]:
    request = AWSRequest("GET", url)
    SigV4Auth(Credentials(f"AKIA{ACCOUNT}", "simulated"), "eks", REGION).add_auth(request)
    return dict(request.headers)


# -- Healthy watchers' p99 with 10 % stalled ÷ none stalled -----------------------------------------


async def stalled() -> float:
    """From EKS's answer to a change (its observe time) to the client, over 900 who read all along."""
    large = [{"type": "Version", "value": "x" * 2000}] * 20
    async with place(
        watch={"poll_s": 0.1, "poll_min_s": 0.1, "poll_max_s": 0.1, "write_timeout_s": 600}
    ) as here:
        update_id = await here.rollback("prod-1", params=large)
        async with watchers(here, "prod-1", update_id) as many:
            healthy = many.open(900)
            idle = many.open(100)
            for stream in (*healthy, *idle):
                await stream.read()
            none = await _p99(here, update_id, healthy, idle)
            some = await _p99(here, update_id, healthy, [])
    return some / none


async def _p99(here: Place, update_id: str, measured: list[Any], others: list[Any]) -> float:
    """p99 over ten changes; the ``others`` read too, and any stream in neither list does not."""
    delays: list[float] = []
    changes = 10

    async def follow(stream: Any, *, count: bool) -> None:
        seen = 0
        while seen < changes:
            message = await stream.read()
            seen += 1
            if count:
                delays.append(time.time() - message.observe_time.ToNanoseconds() / 1e9)

    tasks = [asyncio.create_task(follow(stream, count=True)) for stream in measured]
    tasks += [asyncio.create_task(follow(stream, count=False)) for stream in others]
    mark = random.randrange(10**6)
    for number in range(changes):
        await here.control(
            "POST", "updates", cluster="prod-1", update_id=update_id, status=f"Status{mark}-{number}"
        )
        await asyncio.sleep(2)
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    return statistics.quantiles(delays, n=100)[98]


# -- Memory ------------------------------------------------------------------------------------------

WATCHERS = 2000


async def memory_per_watcher() -> float:
    """Resident memory that 2,000 open streams cost, ÷ what they cost a bare stream handler."""
    async with place() as here:
        update_id = await here.rollback("prod-1")
        async with watchers(here, "prod-1", update_id) as many:
            await asyncio.gather(*(stream.read() for stream in many.open(100)))
            before = resident_bytes(here.gateway.pid)
            opened = many.open(WATCHERS)
            message = (await asyncio.gather(*(stream.read() for stream in opened)))[0]
            ours = resident_bytes(here.gateway.pid) - before
    return ours / await _bare_memory(message.SerializeToString(), here.credentials("oncall", "oncall"))


async def _bare_memory(message: bytes, metadata: Any) -> float:
    async with program("bench.bare") as (server, address), AsyncExitStack() as stack:
        streams: list[Any] = []
        channels: list[grpc.aio.Channel] = []

        async def open_streams(count: int) -> None:
            opened = []
            for _ in range(count):
                if len(streams) % STREAMS_A_CHANNEL == 0:
                    channel = grpc.aio.insecure_channel(address, options=CHANNELS)
                    channels.append(await stack.enter_async_context(channel))
                call: Any = channels[-1].unary_stream("/bench.Bare/Stream")
                streams.append(call(message, metadata=metadata))
                opened.append(streams[-1])
            await asyncio.gather(*(stream.read() for stream in opened))

        await open_streams(100)
        before = resident_bytes(server.pid)
        await open_streams(WATCHERS)
        grown = resident_bytes(server.pid) - before
        for stream in streams:
            stream.cancel()
        return grown


async def memory_after_many() -> float:
    """Resident memory after 60,000 watches were opened and cancelled ÷ after the first 1,000."""
    async with place() as here:
        update_id = await here.rollback("prod-1")
        first = await _churn(here, update_id, 1000)
        return await _churn(here, update_id, 59_000) / first


async def _churn(here: Place, update_id: str, count: int) -> float:
    for _ in range(0, count, STREAMS_A_CHANNEL):
        async with watchers(here, "prod-1", update_id) as many:
            opened = many.open(STREAMS_A_CHANNEL)
            await asyncio.gather(*(stream.read() for stream in opened))
    await asyncio.sleep(2)  # what the last ones held is given back
    return resident_bytes(here.gateway.pid)


# -- 5,000 watches opened at once ------------------------------------------------------------------


async def storm_lost() -> float:
    """How many of 5,000 watches opened at once never got their first message."""
    async with place() as here:
        update_id = await here.rollback("prod-1")
        async with watchers(here, "prod-1", update_id) as many:
            async with asyncio.timeout(120):
                told = await asyncio.gather(
                    *(stream.read() for stream in many.open(5000)), return_exceptions=True
                )
    return sum(not isinstance(each, pb.WatchUpdateResponse) for each in told)
