"""`eksgateway.client` behind a proxy that answers in the gateway's place."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from eksgateway import client
from eksgateway.client import Channels, Timing
from support.gateway import RunningGateway
from support.http_proxy import REPLIES, HttpProxy, Reply, html
from support.waiting import wait_until

QUICK = Timing(first_backoff_s=0.01, longest_backoff_s=0.05)
WATCH, CANCEL, HEALTH = (
    "/eksgateway.v1.UpdateService/WatchUpdate",
    "/eksgateway.v1.UpdateService/CancelUpdate",
    "/grpc.health.v1.Health/Check",
)


async def collect_watch(address: str, token: str = "token", update_id: str = "u-1") -> list[client.Knowledge]:
    """The states of a watch until the update has ended."""
    async with Channels(address) as channels:
        states = client.watch(channels, "prod-1", update_id, credentials=lambda: token, timing=QUICK)
        async with aclosing(states):
            return [known async for known in states]


async def cancel_update(address: str, token: str = "token", update_id: str = "u-1") -> Any:
    async with Channels(address) as channels:
        return await client.cancel(channels, "prod-1", update_id, credentials=lambda: token, timing=QUICK)


CALLS = pytest.mark.parametrize(
    ("call", "path"), [(collect_watch, WATCH), (cancel_update, CANCEL)], ids=["watch", "cancel"]
)


@CALLS
@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
async def test_answers_of_a_proxy_alone_end_the_attempts(call: Any, path: str, reply: Reply) -> None:
    """After seven attempts, with grpc's error and a note."""
    async with HttpProxy(always=reply) as proxy:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(proxy.address)
        assert proxy.paths.count(path) == 7
    assert raised.value.__notes__ == [
        "something on the way (a proxy) has answered 7 times, and no gateway",
    ]


@CALLS
@pytest.mark.parametrize("status", [403, 404, 401], ids=["403", "404", "401"])
async def test_refusal_by_a_proxy_ends_the_attempts(call: Any, path: str, status: int) -> None:
    """grpc may read the end of the page first, and report UNKNOWN."""
    async with HttpProxy(always=html(status)) as proxy:
        with pytest.raises(grpc.aio.AioRpcError, match=f"status: {status}"):
            await call(proxy.address)
        assert 1 <= proxy.paths.count(path) <= 7


# After a status that is no number core misreads the rest of the connection, and health gets no answer.
READ_ON = {name: reply for name, reply in REPLIES.items() if name != "a status that is no number"}


@CALLS
@pytest.mark.parametrize("reply", READ_ON.values(), ids=READ_ON)
async def test_refusal_replaced_by_a_proxy_ends_the_attempts(
    gateway: RunningGateway, call: Any, path: str, reply: Reply
) -> None:
    """A health check through the same proxy shows that the gateway is up."""
    outsider = gateway.issuer.token("outsider", ())
    await gateway.wait_for_readiness()
    async with HttpProxy(gateway.address) as proxy:
        proxy.refused = reply
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(proxy.address, outsider, gateway.eks.rollback("prod-1"))
        assert proxy.paths.count(path) >= 4  # more on a loaded machine, where health is late
        assert proxy.paths[-1] == HEALTH
    assert "the gateway serves" in raised.value.__notes__[0]


async def test_watch_outlasts_a_proxy_during_a_gateway_restart(gateway: RunningGateway) -> None:
    """A gateway has answered before."""
    update_id = gateway.eks.rollback("prod-1")
    token = gateway.issuer.token("viewer", ("viewers",))
    async with HttpProxy(gateway.address) as proxy, Channels(proxy.address) as channels:
        watch = client.watch(channels, "prod-1", update_id, credentials=lambda: token, timing=QUICK)
        async with aclosing(watch):
            states = [await anext(watch)]
            proxy.always = html(502)
            proxy.cut()
            gateway.eks.set_update("prod-1", update_id, status="Successful")
            coming = asyncio.ensure_future(anext(watch))
            await wait_until(lambda: proxy.paths.count(WATCH) > 20)
            proxy.always = None
            states.append(await coming)
    assert [known.update.status for known in states] == ["InProgress", "Successful"]
    assert [known.sequence for known in states] == [1, 2]


async def test_watch_and_cancel_work_through_the_proxy(gateway: RunningGateway) -> None:
    """The proxy of these tests forwards calls correctly."""
    update_id = gateway.eks.rollback("staging-1")
    token = gateway.issuer.token("oncall", ("oncall",))
    async with HttpProxy(gateway.address) as proxy, Channels(proxy.address) as channels:
        done = await client.cancel(channels, "staging-1", update_id, credentials=lambda: token)
        assert done.update_id == update_id
