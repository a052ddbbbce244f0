"""Streams are authorised again: who may no longer watch is told so soon, and nobody else notices."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from eksgateway.cli.issuer import ThrowawayIssuer
from eksgateway.clock import SystemClock
from eksgateway.policy.load import open_engine
from eksgateway.settings import OpaSettings, PolicySettings
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import POLICY_DATA, Running, running, until
from support.opa import POLICIES, running_opa
from support.simulator import SimulatedEks
from support.wire import PRODUCTION, Refusal, refused

DENIED = ("PERMISSION_DENIED", "POLICY_DENIED")
SOON_S = 5.0  # once the change is in force


def without(grant: str) -> dict[str, Any]:
    """The policy data of wire tests, less one grant."""
    data = copy.deepcopy(POLICY_DATA)
    data["eksgateway"]["grants"] = [one for one in data["eksgateway"]["grants"] if one["id"] != grant]
    return data


def watch(here: Running, update_id: str, who: Any) -> Any:
    return here.watch("prod-1", update_id, who)


def cancel_and_watch(here: Running, update_id: str, who: Any) -> Any:
    request = pb.CancelUpdateAndWatchRequest(
        cluster=ClusterRef(name="prod-1"),
        update_id=update_id,
        request_id="first",
        reason="bad AMI",
        ticket="OPS-1",
    )
    return here.updates.CancelUpdateAndWatch(request, metadata=who, timeout=60)


async def first_state(stream: Any) -> Any:
    """What the stream tells of the update first."""
    message = await stream.read()
    if isinstance(message, pb.CancelUpdateAndWatchResponse):
        message = (await stream.read()).watch
    assert message.kind == pb.WATCH_KIND_SNAPSHOT
    return message


async def ended(stream: Any) -> Refusal:
    """The stream's error, and nothing but heartbeats before it."""

    async def rest() -> None:
        while True:
            message = await stream.read()
            watched = message.watch if isinstance(message, pb.CancelUpdateAndWatchResponse) else message
            assert watched.kind == pb.WATCH_KIND_HEARTBEAT

    return await refused(rest())


async def in_force(here: Running, change: Callable[[], object]) -> None:
    """Make a change, and wait until the policy decides by it."""
    before = here.gateway.policy.revision
    change()
    await until(lambda: here.gateway.policy.revision != before)


@pytest.mark.parametrize("begin", [watch, cancel_and_watch])
async def test_a_change_of_the_data_ends_the_streams_of_who_lost_the_grant(
    tmp_path: Path, eks: SimulatedEks, begin: Callable[..., Any]
) -> None:
    """Within seconds, with the call's own decision id; its token is of no use then, and others go on."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=600, node_replacing_s=600)
    async with running(tmp_path, eks) as gateway:
        viewing = watch(gateway, update_id, gateway.viewer)
        await first_state(viewing)
        stream = begin(gateway, update_id, gateway.oncall)
        token = (await first_state(stream)).resume_token
        file = tmp_path / "data.yaml"
        await in_force(gateway, lambda: file.write_text(yaml.safe_dump(without("oncall"))))
        async with asyncio.timeout(SOON_S):
            error = await ended(stream)
        assert error.told == DENIED
        assert error.metadata["decision_id"] == error.trailing["eksgateway-decision-id"]
        again = await refused(gateway.watch("prod-1", update_id, resume_token=token).read())
        assert again.told == DENIED
        gateway.eks.set_update("prod-1", update_id, status="Successful")
        while (message := await viewing.read()).kind != pb.WATCH_KIND_FINAL:
            pass
        assert message.update.status == "Successful"


async def test_a_stream_ends_with_its_callers_token(tmp_path: Path, eks: SimulatedEks) -> None:
    """And with no other's, though both are the same caller's."""
    update_id = eks.rollback("prod-1")
    issuer = ThrowawayIssuer("test")
    jwt = {"issuers": [issuer.settings(tmp_path / "jwks.json").model_dump()], "leeway_s": 0}
    async with running(tmp_path, eks, issuer=issuer, identity={"jwt": jwt}) as gateway:
        lasting = gateway.watch("prod-1", update_id, gateway.viewer)
        await first_state(lasting)
        brief = gateway.credentials("viewer", "viewers", lifetime=timedelta(seconds=3))
        stream = gateway.watch("prod-1", update_id, brief)
        await first_state(stream)
        error = await ended(stream)
        assert error.told == ("UNAUTHENTICATED", "CREDENTIALS_EXPIRED")
        assert issuer.token("viewer") not in str(error.raw)
        gateway.eks.set_update("prod-1", update_id, status="Paused")
        assert (await lasting.read()).update.status == "Paused"
        lasting.cancel()


async def test_a_change_in_opa_ends_streams_and_its_outage_does_not(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """The real OPA server, whose data changes under the gateway, and which goes away then."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    data = tmp_path / "data.json"
    data.write_text(json.dumps(POLICY_DATA))
    with running_opa(POLICIES / "eksgateway", data, log=tmp_path / "opa.log") as opa:
        engine = await open_engine(PolicySettings(engine="opa", opa=OpaSettings(url=opa.url)), SystemClock())
        async with running(tmp_path, eks, policy=engine) as gateway:
            viewing = watch(gateway, update_id, gateway.viewer)
            stream = watch(gateway, update_id, gateway.oncall)
            await first_state(viewing)
            await first_state(stream)
            grants = without("oncall")["eksgateway"]["grants"]
            await asyncio.to_thread(opa.put, "eksgateway/grants", grants)
            async with asyncio.timeout(SOON_S):  # from when OPA has it
                error = await ended(stream)
            assert error.told == DENIED
            opa.stop()
            gateway.eks.set_update("prod-1", update_id, status="Paused")
            assert (await viewing.read()).update.status == "Paused"
            viewing.cancel()
