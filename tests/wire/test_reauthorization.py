"""Open streams are authorized again."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from eksgateway.clock import SystemClock
from eksgateway.policy.factory import open_policy_engine
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.settings import OpaPolicySettings, OpaSettings
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.changing_policy import Serve, run_opa_with_bundle, run_plain_opa, run_wasm, write_custom_rego
from support.clock import AdvancedClock
from support.gateway import POLICY_DATA, RunningGateway, run_gateway
from support.opa import POLICIES, run_opa, write_compiled
from support.simulator import SimulatedEks
from support.wire import PRODUCTION, Refusal, expect_refusal

DENIED = ("PERMISSION_DENIED", "POLICY_DENIED")
SOON_S = 25.0  # from a change to the end of a stream: 5 s, and more on a loaded machine


def without(grant: str) -> dict[str, Any]:
    """The policy data of wire tests without one grant."""
    data = copy.deepcopy(POLICY_DATA)
    data["eksgateway"]["grants"] = [one for one in data["eksgateway"]["grants"] if one["id"] != grant]
    return data


def watch(here: RunningGateway, update_id: str, who: Any) -> Any:
    return here.watch("prod-1", update_id, who)


def cancel_and_watch(here: RunningGateway, update_id: str, who: Any) -> Any:
    request = pb.CancelUpdateAndWatchRequest(
        cluster=ClusterRef(name="prod-1"),
        update_id=update_id,
        request_id="first",
        reason="bad AMI",
        ticket="OPS-1",
    )
    return here.updates.CancelUpdateAndWatch(request, metadata=who, timeout=60)


async def first_state(stream: Any) -> Any:
    """The first state of the stream."""
    message = await stream.read()
    if isinstance(message, pb.CancelUpdateAndWatchResponse):
        message = (await stream.read()).watch
    assert message.kind == pb.WATCH_KIND_SNAPSHOT
    return message


async def read_error(stream: Any) -> Refusal:
    """Read heartbeats until the stream fails; returns the error."""

    async def rest() -> None:
        while True:
            message = await stream.read()
            watched = message.watch if isinstance(message, pb.CancelUpdateAndWatchResponse) else message
            assert watched.kind == pb.WATCH_KIND_HEARTBEAT

    return await expect_refusal(rest())


@pytest.mark.parametrize("begin", [watch, cancel_and_watch])
@pytest.mark.parametrize("serve", [run_wasm, run_plain_opa, run_opa_with_bundle])
async def test_removed_grant_ends_its_streams_within_seconds(
    tmp_path: Path, eks: SimulatedEks, begin: Callable[..., Any], serve: Serve
) -> None:
    """With the call's own decision id; other streams go on."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=600, node_replacing_s=600)
    async with (
        serve(tmp_path, POLICIES / "eksgateway", POLICY_DATA) as policy,
        run_gateway(tmp_path, eks, policy=policy.engine) as gateway,
    ):
        await policy.engine.check()
        viewing = watch(gateway, update_id, gateway.viewer)
        await first_state(viewing)
        stream = begin(gateway, update_id, gateway.oncall)
        token = (await first_state(stream)).resume_token
        async with asyncio.timeout(SOON_S):
            await asyncio.to_thread(policy.change, without("oncall"))
            error = await read_error(stream)
        assert error.status_and_reason == DENIED
        assert error.metadata["decision_id"] == error.trailing["eksgateway-decision-id"]
        again = await expect_refusal(gateway.watch("prod-1", update_id, resume_token=token).read())
        assert again.status_and_reason == DENIED
        gateway.eks.set_update("prod-1", update_id, status="Successful")
        while (message := await viewing.read()).kind != pb.WATCH_KIND_FINAL:
            pass
        assert message.update.status == "Successful"


def with_a_freeze(begins: datetime) -> dict[str, Any]:
    data = copy.deepcopy(POLICY_DATA)
    times = [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (begins, begins + timedelta(hours=1))]
    freeze = {"id": "tonight", "clusters": ["prod-*"], "from": times[0], "until": times[1]}
    data["eksgateway"]["freezes"] = [freeze]
    return data


@pytest.mark.parametrize("serve", [run_wasm, run_plain_opa, run_opa_with_bundle])
async def test_beginning_freeze_ends_streams(tmp_path: Path, eks: SimulatedEks, serve: Serve) -> None:
    """By a custom policy in which freezes deny watches too."""
    held_back = ('unfrozen if input.action.name != "cancel"', 'unfrozen if input.action.name == "get"')
    clock = AdvancedClock()
    begins = (clock.now() + timedelta(minutes=10)).replace(microsecond=0)
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with (
        serve(tmp_path, write_custom_rego(tmp_path, *held_back), with_a_freeze(begins)) as policy,
        run_gateway(tmp_path, eks, policy=policy.engine, clock=clock) as gateway,
    ):
        await policy.engine.check()
        revision = policy.engine.revision
        stream = watch(gateway, update_id, gateway.viewer)
        await first_state(stream)
        clock.ahead += begins - clock.now() - timedelta(seconds=2)
        async with asyncio.timeout(2 + SOON_S):
            error = await read_error(stream)
        assert error.status_and_reason == DENIED
        assert clock.now() >= begins
        assert policy.engine.revision == revision


def with_an_edge(kind: str, edge: datetime) -> dict[str, Any]:
    """The policy data of wire tests, in which viewers may watch until ``edge``."""
    data = copy.deepcopy(POLICY_DATA)
    [viewers] = [grant for grant in data["eksgateway"]["grants"] if grant["id"] == "viewers"]
    time, local = f"{edge:%Y-%m-%dT%H:%M:%SZ}", edge.astimezone(ZoneInfo("Asia/Kathmandu"))
    if kind == "a grant ends":
        viewers["until"] = time
    if kind == "a denial begins":
        denial = {"id": "stop", "groups": ["test:viewers"], "reason": "INC-7", "from": time}
        data["eksgateway"]["denials"] = [denial]
    if kind == "a window ends":
        before = local - timedelta(hours=2)
        viewers["windows"] = [
            {"from": f"{before:%H:%M}", "until": f"{local:%H:%M}", "zone": "Asia/Kathmandu"}
        ]
    return data


@pytest.mark.parametrize("kind", ["a grant ends", "a denial begins", "a window ends"])
@pytest.mark.parametrize("serve", [run_wasm, run_plain_opa])
async def test_edge_of_the_policy_ends_streams_within_seconds(
    tmp_path: Path, eks: SimulatedEks, serve: Serve, kind: str
) -> None:
    """Under the same revision. Streams of other callers go on."""
    clock = AdvancedClock()
    edge = (clock.now() + timedelta(minutes=10)).replace(second=0, microsecond=0)
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with (
        serve(tmp_path, POLICIES / "eksgateway", with_an_edge(kind, edge)) as policy,
        run_gateway(tmp_path, eks, policy=policy.engine, clock=clock) as gateway,
    ):
        await policy.engine.check()
        revision = policy.engine.revision
        assert policy.engine.next_change(clock.now()) == edge
        lasting = watch(gateway, update_id, gateway.oncall)
        await first_state(lasting)
        stream = watch(gateway, update_id, gateway.viewer)
        await first_state(stream)
        clock.ahead += edge - clock.now() - timedelta(seconds=2)
        async with asyncio.timeout(2 + SOON_S):
            error = await read_error(stream)
        assert error.status_and_reason == DENIED
        assert clock.now() >= edge
        assert policy.engine.revision == revision
        gateway.eks.set_update("prod-1", update_id, status="Paused")
        while (message := await lasting.read()).kind == pb.WATCH_KIND_HEARTBEAT:
            pass
        assert message.update.status == "Paused"
        lasting.cancel()


async def test_stream_ends_when_its_token_expires(tmp_path: Path, eks: SimulatedEks) -> None:
    """The caller's stream with another token goes on."""
    update_id = eks.rollback("prod-1")
    issuer = ThrowawayIssuer("test")
    jwt = {"issuers": [issuer.settings(tmp_path / "jwks.json").model_dump()], "leeway_s": 0}
    async with run_gateway(tmp_path, eks, issuer=issuer, identity={"jwt": jwt}) as gateway:
        lasting = gateway.watch("prod-1", update_id, gateway.viewer)
        await first_state(lasting)
        brief = gateway.credentials("viewer", "viewers", lifetime=timedelta(seconds=10))
        stream = gateway.watch("prod-1", update_id, brief)
        await first_state(stream)
        error = await read_error(stream)
        assert error.status_and_reason == ("UNAUTHENTICATED", "CREDENTIALS_EXPIRED")
        assert issuer.token("viewer") not in str(error.raw)
        gateway.eks.set_update("prod-1", update_id, status="Paused")
        assert (await lasting.read()).update.status == "Paused"
        lasting.cancel()


async def test_outage_of_opa_ends_no_stream(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    data = write_compiled(POLICY_DATA, tmp_path / "data.json")
    with run_opa(POLICIES / "eksgateway", data, log=tmp_path / "opa.log") as opa:
        engine = await open_policy_engine(OpaPolicySettings(opa=OpaSettings(url=opa.url)), SystemClock())
        async with run_gateway(tmp_path, eks, policy=engine) as gateway:
            viewing = watch(gateway, update_id, gateway.viewer)
            await first_state(viewing)
            await asyncio.to_thread(opa.stop)
            gateway.eks.set_update("prod-1", update_id, status="Paused")
            assert (await viewing.read()).update.status == "Paused"
            viewing.cancel()
