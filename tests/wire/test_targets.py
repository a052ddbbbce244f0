"""Several accounts and regions on the wire."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eksgateway.eks.roles import OWN_SESSION, session_name
from eksgateway.model import Caller
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import ACCOUNT, POLICY_DATA, REGION, RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.sts import Sts
from support.waiting import wait_until
from support.wire import PRODUCTION, expect_refusal, get_cancellation, get_update, wait_for_phase

OTHER_ACCOUNT, OTHER_REGION, NOT_CONFIGURED = "444455556666", "eu-west-1", "777788889999"
HOME = {"account_id": ACCOUNT, "region": REGION}
REGIONAL = {"account_id": ACCOUNT, "region": OTHER_REGION}
FOREIGN = {"account_id": OTHER_ACCOUNT, "region": REGION}
TARGETS = (HOME, REGIONAL, FOREIGN)
WHY = {"reason": "bad AMI", "ticket": "OPS-1"}


def data(**where: list[str]) -> dict[str, Any]:
    """The usual grants, by default in all targets and one account that is not configured."""
    everywhere = {"accounts": [ACCOUNT, OTHER_ACCOUNT, NOT_CONFIGURED], "regions": [REGION, OTHER_REGION]}
    found = copy.deepcopy(POLICY_DATA)
    for grant in found["eksgateway"]["grants"]:
        grant.update(everywhere | where)
    return found


@pytest.fixture
async def sts(moto: str, eks: SimulatedEks) -> AsyncIterator[Sts]:
    async with Sts(moto, eks.simulator.control.accounts) as here:
        yield here


def settings(eks: SimulatedEks, sts: Sts) -> dict[str, Any]:
    """The section ``eks``: two regions of the home account, and another account through a role."""
    role = {
        "role_arn": f"arn:aws:iam::{OTHER_ACCOUNT}:role/eksgateway",
        "external_id": "corp-1",
        "sts_endpoint_url": sts.url,
    }
    urls = {"endpoint_url": eks.url}
    return {"targets": [HOME | urls, REGIONAL | urls, FOREIGN | urls | role]}


@pytest.fixture
async def gateway(tmp_path: Path, eks: SimulatedEks, sts: Sts) -> AsyncIterator[RunningGateway]:
    async with run_gateway(tmp_path, eks, data=data(), eks=settings(eks, sts)) as here:
        yield here


async def cancel(
    here: RunningGateway, target: dict[str, str], who: Any = None, name: str = "prod-1", **fields: Any
) -> cpb.Cancellation:
    request = pb.CancelUpdateRequest(
        cluster=ClusterRef(name=name, **target), update_id="u-1", **WHY, **fields
    )
    metadata = here.oncall if who is None else who
    return (await here.updates.CancelUpdate(request, metadata=metadata, timeout=40)).cancellation


def everywhere(eks: SimulatedEks) -> None:
    """Add the same cluster name and update id in every target."""
    for target in TARGETS:
        eks.rollback("prod-1", tags=PRODUCTION, update_id="u-1", **target)


def role_session_of(subject: str) -> str:
    return session_name(Caller("jwt", f"jwt:test:{subject}", ""))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: "-".join(target.values()))
async def test_cancel_reaches_the_named_target_only(gateway: RunningGateway, target: dict[str, str]) -> None:
    """Two targets have the same cluster name and update id."""
    everywhere(gateway.eks)
    told = await cancel(gateway, target)
    assert (told.cluster.account_id, told.cluster.region) == tuple(target.values())
    calls = gateway.eks.calls()
    assert {"DescribeCluster", "DescribeUpdate", "CancelUpdate"} <= {call.operation for call in calls}
    assert {(call.account_id, call.region) for call in calls} == {tuple(target.values())}
    for other in TARGETS:
        found = await get_update(gateway, "prod-1", "u-1", **other)
        assert (found.status == "InProgress") == (other != target)


async def test_request_without_a_target_means_the_home_target(gateway: RunningGateway) -> None:
    everywhere(gateway.eks)
    told = await gateway.cancel("prod-1", "u-1")
    assert (told.cluster.account_id, told.cluster.region) == tuple(HOME.values())


async def test_list_returns_updates_of_the_named_target(gateway: RunningGateway) -> None:
    for number, target in enumerate(TARGETS):
        gateway.eks.rollback("prod-1", tags=PRODUCTION, update_id=f"u-{number}", **target)
    for number, target in enumerate(TARGETS):
        request = pb.ListUpdatesRequest(cluster=ClusterRef(name="prod-1", **target))
        answer = await gateway.updates.ListUpdates(request, metadata=gateway.viewer, timeout=30)
        assert [update.id for update in answer.updates] == [f"u-{number}"]


async def test_cancel_is_made_in_the_callers_role_session(gateway: RunningGateway, sts: Sts) -> None:
    """All other calls are made in the gateway's session."""
    callers = {"prod-1": "first", "prod-2": "second"}
    for name, subject in callers.items():
        gateway.eks.rollback(name, tags=PRODUCTION, update_id="u-1", **FOREIGN)
        await cancel(gateway, FOREIGN, gateway.credentials(subject, "oncall"), name)
    for name, subject in callers.items():
        calls = [call for call in gateway.eks.calls() if call.cluster == name]
        assert {(call.operation, sts.session_name_of(call.access_key)) for call in calls[:3]} == {
            (operation, role_session_of(subject))
            for operation in ("DescribeCluster", "DescribeUpdate", "CancelUpdate")
        }
        assert {sts.session_name_of(call.access_key) for call in calls[3:]} <= {OWN_SESSION}
    await wait_until(
        lambda: any(sts.session_name_of(call.access_key) == OWN_SESSION for call in gateway.eks.calls())
    )
    assert {each["ExternalId"] for each in sts.requests} == {"corp-1"}
    used = next(each for each in sts.sessions if each.name == role_session_of("first"))
    assert (await sts.identity(used))["Arn"].endswith(f":assumed-role/eksgateway/{role_session_of('first')}")


async def test_many_cancels_assume_the_role_once_per_caller(gateway: RunningGateway, sts: Sts) -> None:
    names = [f"prod-{number}" for number in range(12)]
    for name in names:
        gateway.eks.rollback(name, tags=PRODUCTION, update_id="u-1", **FOREIGN)
    await asyncio.gather(*(cancel(gateway, FOREIGN, name=name) for name in names))
    assert len(gateway.eks.calls("CancelUpdate")) == 12
    await wait_until(lambda: len(sts.requests) == 2)
    assert {each["RoleSessionName"] for each in sts.requests} == {role_session_of("oncall"), OWN_SESSION}


async def test_role_of_another_account_sends_nothing(gateway: RunningGateway, sts: Sts) -> None:
    """Nothing of that account is shown."""
    sts.reaches = NOT_CONFIGURED
    here = FOREIGN | {"account_id": NOT_CONFIGURED}
    gateway.eks.rollback("prod-1", tags=PRODUCTION, update_id="u-1", **here)
    refusal = await expect_refusal(cancel(gateway, FOREIGN, request_id="first"))
    assert refusal.status_and_reason == ("INTERNAL", "TARGET_MISMATCH")
    assert NOT_CONFIGURED.encode() not in refusal.raw
    assert gateway.eks.calls("CancelUpdate") == ()
    assert (
        await expect_refusal(get_cancellation(gateway, request_id="first"))
    ).reason == "CANCELLATION_NOT_FOUND"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param((403, "AccessDenied"), ("INTERNAL", "UPSTREAM_CREDENTIALS"), id="refused"),
        pytest.param((503, "ServiceUnavailable"), ("INTERNAL", "UPSTREAM_CREDENTIALS"), id="down"),
    ],
)
async def test_unassumable_role_sends_nothing(
    gateway: RunningGateway, sts: Sts, fault: tuple[int, str], told: tuple[str, str]
) -> None:
    """The error does not blame the caller, and other targets work."""
    everywhere(gateway.eks)
    sts.fault = fault
    refusal = await expect_refusal(cancel(gateway, FOREIGN, request_id="first"))
    assert refusal.status_and_reason == told
    assert b"role/" not in refusal.raw
    assert gateway.eks.calls() == ()
    assert (
        await expect_refusal(get_cancellation(gateway, request_id="first"))
    ).reason == "CANCELLATION_NOT_FOUND"
    await cancel(gateway, REGIONAL)


async def test_watch_works_once_the_role_can_be_assumed(gateway: RunningGateway, sts: Sts) -> None:
    gateway.eks.rollback("prod-1", tags=PRODUCTION, update_id="u-1", node_phase_s=60, **FOREIGN)
    request = pb.WatchUpdateRequest(cluster=ClusterRef(name="prod-1", **FOREIGN), update_id="u-1")
    sts.fault = (403, "AccessDenied")
    watch = gateway.updates.WatchUpdate(request, metadata=gateway.viewer, timeout=30)
    assert (await expect_refusal(watch.read())).status_and_reason == ("INTERNAL", "UPSTREAM_CREDENTIALS")
    sts.fault = None
    told = await cancel(gateway, FOREIGN)
    gateway.eks.advance(3600)
    await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLED, cancellation_id=told.cancellation_id)


async def test_grant_for_one_target_denies_the_others(tmp_path: Path, eks: SimulatedEks, sts: Sts) -> None:
    """Denied calls assume no role."""
    everywhere(eks)
    grants = data(accounts=[OTHER_ACCOUNT], regions=[REGION])
    async with run_gateway(tmp_path, eks, data=grants, eks=settings(eks, sts)) as gateway:
        for target in (HOME, REGIONAL, FOREIGN | {"region": OTHER_REGION}):
            assert (await expect_refusal(cancel(gateway, target))).reason == "POLICY_DENIED"
        assert (sts.requests, eks.calls()) == ([], ())
        await cancel(gateway, FOREIGN)
        assert {call.account_id for call in eks.calls()} == {OTHER_ACCOUNT}


NOWHERE = (
    {"account_id": NOT_CONFIGURED, "region": REGION},
    {"account_id": OTHER_ACCOUNT, "region": OTHER_REGION},  # each of the two is in some target
)


@pytest.mark.parametrize("target", NOWHERE, ids=["account", "combination"])
async def test_unconfigured_target_is_hidden_from_denied_callers(
    gateway: RunningGateway, target: dict[str, str]
) -> None:
    everywhere(gateway.eks)
    told = await expect_refusal(cancel(gateway, target))
    assert told.status_and_reason == ("FAILED_PRECONDITION", "TARGET_NOT_CONFIGURED")
    outside = [await expect_refusal(cancel(gateway, each, gateway.outsider)) for each in (target, FOREIGN)]
    assert [each.status_and_reason for each in outside] == [("PERMISSION_DENIED", "POLICY_DENIED")] * 2
    assert outside[0].masked == outside[1].masked
    assert gateway.eks.calls() == ()
