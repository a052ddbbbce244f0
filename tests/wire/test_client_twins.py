"""The five steps and the breaks of a connection, in the asynchronous and the synchronous client."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest

from eksgateway.client import ErrorDetails, Timing
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.v1 import cancellation_pb2 as cpb
from support.client_twins import QUICK, TWINS, Reader, Twin, cancel, reading
from support.gateway import RunningGateway, run_gateway
from support.gateway_process import GatewayFolder, run_gateway_process
from support.nginx import run_nginx
from support.simulator import SimulatedEks
from support.tcp_proxy import TcpProxy
from support.waiting import wait_until
from support.wire import Gate, add_hooks

pytestmark = pytest.mark.parametrize("twin", TWINS)


def options_of(issuer: ThrowawayIssuer, **more: Any) -> dict[str, Any]:
    token = issuer.token("oncall", ("oncall",))
    return {"credentials": lambda: token, **more}


async def read_refusal(task: Awaitable[Any]) -> ErrorDetails:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await asyncio.wait_for(task, 60)
    return ErrorDetails.of(error.value)


async def test_denial_has_its_reason(gateway: RunningGateway, twin: Twin) -> None:
    """By each of the three calls; nothing is sent."""
    update_id = gateway.eks.rollback("prod-1")
    options = options_of(gateway.issuer)
    refusal = await read_refusal(cancel(twin, gateway.address, "prod-1", update_id, **options))
    assert (refusal.code.name, refusal.reason) == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert set(refusal.reasons) == {f"A {each} is required by grant oncall." for each in ("reason", "ticket")}
    assert refusal.metadata["decision_id"]
    outsider = gateway.issuer.token("outsider", ())
    for method in ("watch", "cancel_and_watch"):
        async with reading(
            twin, gateway.address, method, "prod-1", update_id, credentials=lambda: outsider
        ) as reader:
            assert (await read_refusal(reader.task)).reason == "POLICY_DENIED"
    assert not gateway.eks.calls("CancelUpdate")


async def test_cancel_is_watched_to_the_final_state(gateway: RunningGateway, twin: Twin) -> None:
    update_id = gateway.eks.rollback("staging-1", node_replacing_s=60)
    options = options_of(gateway.issuer)
    done = await cancel(
        twin,
        gateway.address,
        "staging-1",
        update_id,
        reason="bad AMI",
        ticket="OPS-1",
        request_id="a",
        **options,
    )
    assert (done.request_id, done.phase) == ("a", cpb.CANCELLATION_PHASE_CANCELLING)
    async with reading(twin, gateway.address, "watch", "staging-1", update_id, **options) as reader:
        await reader.wait_for_status("Cancelling")
        gateway.eks.advance(61)
        await asyncio.wait_for(reader.task, 60)
    assert [(each.sequence, each.final) for each in reader.states] == [(1, False), (2, True)]
    assert reader.states[-1].phase == cpb.CANCELLATION_PHASE_CANCELLED
    await wait_until(lambda: not gateway.gateway.watches.watchers)


async def test_cancel_and_watch_yields_the_cancellation_then_the_states(
    gateway: RunningGateway, twin: Twin
) -> None:
    update_id = gateway.eks.rollback("staging-1", node_replacing_s=60)
    options = options_of(gateway.issuer, request_id="mine")
    async with reading(
        twin, gateway.address, "cancel_and_watch", "staging-1", update_id, **options
    ) as reader:
        await reader.wait_for_status("Cancelling")
        gateway.eks.advance(61)
        await asyncio.wait_for(reader.task, 60)
    first = reader.received[0]
    assert isinstance(first, cpb.Cancellation)
    assert (first.request_id, first.phase) == ("mine", cpb.CANCELLATION_PHASE_CANCELLING)
    assert reader.received[1:] == reader.states
    assert [each.update.status for each in reader.states] == ["Cancelling", "Cancelled"]
    assert [each.final for each in reader.states] == [False, True]
    await wait_until(lambda: not gateway.gateway.watches.watchers)


async def test_timeout_ends_a_cancel_and_a_repeat_learns_its_outcome(
    tmp_path: Path, eks: SimulatedEks, twin: Twin
) -> None:
    """With the same request id it has one effect, whichever call began it."""
    update_id, gate = eks.rollback("staging-1"), Gate()
    async with run_gateway(tmp_path, eks, wrap_eks=add_hooks(cancel_update=gate)) as gateway:
        options = options_of(gateway.issuer, request_id="mine", timeout=1.5)
        where = (twin, gateway.address)
        assert (await read_refusal(cancel(*where, "staging-1", update_id, **options))).code.name == (
            "DEADLINE_EXCEEDED"
        )
        async with reading(*where, "cancel_and_watch", "staging-1", update_id, **options) as reader:
            assert (await read_refusal(reader.task)).code.name == "DEADLINE_EXCEEDED"
            assert reader.received == []
        gate.open()
        options["timeout"] = 60
        async with reading(*where, "cancel_and_watch", "staging-1", update_id, **options) as reader:
            await reader.wait_for_status("Cancelling")
            (cancellation,) = set(map(type, reader.received)) - {type(reader.states[0])}
        assert cancellation is cpb.Cancellation
    assert len(eks.calls("CancelUpdate")) == 1


async def test_broken_call_before_the_cancellation_has_one_effect(
    tmp_path: Path, eks: SimulatedEks, twin: Twin
) -> None:
    update_id, gate = eks.rollback("staging-1"), Gate()
    async with (
        run_gateway(tmp_path, eks, wrap_eks=add_hooks(cancel_update=gate)) as gateway,
        TcpProxy(gateway.address) as proxy,
    ):
        options = options_of(gateway.issuer)
        async with reading(
            twin, proxy.address, "cancel_and_watch", "staging-1", update_id, **options
        ) as reader:
            await wait_until(lambda: gate.entered == 1)
            before = proxy.connections
            proxy.cut()
            await wait_until(lambda: proxy.connections > before)
            gate.open()
            await reader.wait_for_status("Cancelling")
            eks.advance(86_400)
            await asyncio.wait_for(reader.task, 60)
    assert [type(each) is cpb.Cancellation for each in reader.received] == [
        True,
        *(False for _ in reader.states),
    ]
    assert reader.states[-1].final
    assert len(eks.calls("CancelUpdate")) == 1


async def test_states_become_stale_while_eks_cannot_be_read(
    tmp_path: Path, eks: SimulatedEks, twin: Twin
) -> None:
    update_id = eks.rollback("staging-1")
    async with run_gateway(tmp_path, eks, watch={"heartbeat_s": 0.1}) as gateway:
        options = options_of(gateway.issuer, max_age=2.0)
        async with reading(
            twin, gateway.address, "cancel_and_watch", "staging-1", update_id, **options
        ) as reader:
            await reader.wait_for_status("Cancelling")
            eks.fault("DescribeUpdate", code="ServerException", status=500, times=100_000)
            await wait_until(lambda: reader.states[-1].stale)
            assert reader.states[-1].age_s >= 2.0
            eks.clear_faults()
            await wait_until(lambda: not reader.states[-1].stale)


@asynccontextmanager
async def drained(path: Path, eks: SimulatedEks) -> AsyncIterator[tuple[str, ThrowawayIssuer, Any]]:
    """A gateway that drains and starts again at the same address."""
    issuer = ThrowawayIssuer("test")
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(run_gateway(path, eks, issuer=issuer))
        address = first.address

        async def restart() -> None:
            await stack.aclose()
            await stack.enter_async_context(
                run_gateway(path, eks, issuer=issuer, listeners=[{"address": address}])
            )

        yield address, issuer, restart


@asynccontextmanager
async def killed(path: Path, eks: SimulatedEks) -> AsyncIterator[tuple[str, ThrowawayIssuer, Any]]:
    """A gateway process that is killed and started again at the same address."""
    place = GatewayFolder(path, eks.url)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(run_gateway_process(place))

        async def restart() -> None:
            first.process.kill()
            await stack.aclose()
            text = place.config.read_text().replace("127.0.0.1:0", first.address)
            place.config.write_text(text)
            await stack.enter_async_context(run_gateway_process(place))

        await first.wait_for_readiness()
        yield first.address, place.issuer, restart


@asynccontextmanager
async def silent(path: Path, eks: SimulatedEks) -> AsyncIterator[tuple[str, ThrowawayIssuer, Any]]:
    """A proxy that forwards nothing more on its open connections."""
    async with (
        run_gateway(path, eks, watch={"heartbeat_s": 0.1}) as gateway,
        TcpProxy(gateway.address) as proxy,
    ):

        async def silence() -> None:
            proxy.silence()

        yield proxy.address, gateway.issuer, silence


@asynccontextmanager
async def cut_by_a_proxy(path: Path, eks: SimulatedEks) -> AsyncIterator[tuple[str, ThrowawayIssuer, Any]]:
    """A real nginx that ends a call after a second without a message."""
    with tempfile.TemporaryDirectory(prefix="nginx-") as short:
        async with (
            run_gateway(path, eks) as gateway,
            run_nginx(Path(short), gateway.address, read_timeout_s=1) as address,
        ):
            streams = gateway.gateway.watches

            async def wait_for_cut() -> None:
                await wait_until(lambda: not streams.watchers)

            yield address, gateway.issuer, wait_for_cut


Breaking: TypeAlias = Callable[..., Any]
BREAKS = pytest.mark.parametrize(
    "breaking", [killed, drained, silent, cut_by_a_proxy], ids=lambda it: it.__name__
)


@BREAKS
@pytest.mark.parametrize("method", ["watch", "cancel_and_watch"])
async def test_broken_stream_is_resumed_to_the_final_state(
    tmp_path: Path, eks: SimulatedEks, twin: Twin, method: str, breaking: Breaking
) -> None:
    """Each state once, in order, and one cancel."""
    update_id = eks.rollback("staging-1")
    timing = Timing(QUICK.first_backoff_s, QUICK.longest_backoff_s, 1.0 if breaking is silent else 60.0)
    async with breaking(tmp_path, eks) as (address, issuer, break_it):
        options = options_of(issuer, timing=timing)
        async with reading(twin, address, method, "staging-1", update_id, **options) as reader:
            await wait_until(lambda: reader.task.done() or bool(reader.states))
            begun = "Cancelling" if method == "cancel_and_watch" else "InProgress"
            await reader.wait_for_status(begun)
            await break_it()
            eks.set_update("staging-1", update_id, status="Paused")
            await reader.wait_for_status("Paused")
            eks.set_update("staging-1", update_id, status="Cancelled")
            await asyncio.wait_for(reader.task, 60)
    assert_each_state_once(reader, [begun, "Paused", "Cancelled"])
    assert len(eks.calls("CancelUpdate")) == (method == "cancel_and_watch")


def assert_each_state_once(reader: Reader, statuses: list[str]) -> None:
    seen = [each.update.status for each in reader.states]
    assert list(dict.fromkeys(seen)) == statuses
    assert [each.sequence for each in reader.states] == list(range(1, len(seen) + 1))
    assert [each.final for each in reader.states] == [*(False for _ in seen[1:]), True]
    assert len(reader.received) - len(seen) == (seen[0] == "Cancelling")
