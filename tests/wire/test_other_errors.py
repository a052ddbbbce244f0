"""Errors besides those of EKS, policy and ledger: fields, targets, stale decisions, bugs."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eksgateway.eks.adapter import BotoEks
from eksgateway.model import ClusterFacts, ClusterRef, Update, UpdateRef
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef as ClusterRefProto
from support.fake_opa import run_fake_opa
from support.gateway import ACCOUNT, POLICY_DATA, REGION, RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.wire import (
    PRODUCTION,
    HookedPart,
    add_hooks,
    always_raise,
    check,
    expect_refusal,
    get_cancellation,
    get_update,
    list_cancellations,
    list_updates,
    wait_for_phase,
)

ELSEWHERE = "444455556666"
SECRET = "AKIA-not-for-callers"


def _anywhere() -> dict[str, Any]:
    """The usual grants for any cluster name, also in a second account and region."""
    data = copy.deepcopy(POLICY_DATA)
    for grant in data["eksgateway"]["grants"]:
        grant |= {"accounts": [ACCOUNT, ELSEWHERE], "regions": [REGION, "eu-west-1"]}
        grant["clusters"] = ["*"]
    return data


def _cluster(name: str = "prod-1", account_id: str = "", region: str = "") -> ClusterRefProto:
    return ClusterRefProto(name=name, account_id=account_id, region=region)


async def test_bad_request_names_every_bad_field(tmp_path: Path, eks: SimulatedEks) -> None:
    """For an allowed caller, and without EKS calls."""
    bad = _cluster("/../x", "x", "X")
    ref = {"cluster.name", "cluster.account_id", "cluster.region"}
    texts: Any = {"reason": "r" * 501, "ticket": "OPS\x1b[1m"}
    update: Any = {"cluster": bad, "update_id": ".."}
    cancel = pb.CancelUpdateRequest(**update, request_id="a b", **texts)
    page = pb.ListUpdatesRequest(cluster=bad, page_size=11, page_token="made up")
    async with run_fake_opa() as (_, engine), run_gateway(tmp_path, eks, policy=engine) as gateway:
        stub, who = gateway.updates, gateway.oncall
        calls: list[tuple[Any, set[str]]] = [
            (stub.CancelUpdate(cancel, metadata=who), ref | {"update_id", "request_id", *texts}),
            (check(gateway, "", "..", **texts), {"cluster.name", "update_id", *texts}),
            (stub.GetUpdate(pb.GetUpdateRequest(**update), metadata=who), ref | {"update_id"}),
            (stub.ListUpdates(page, metadata=who), ref | {"page_size", "page_token"}),
            (
                list_cancellations(gateway, cluster=bad, caller="\n", page_size=101, page_token="?"),
                ref | {"caller", "page_size", "page_token"},
            ),
        ]
        for call, fields in calls:
            refusal = await expect_refusal(call)
            assert refusal.status_and_reason == ("INVALID_ARGUMENT", "REQUEST_INVALID")
            assert set(refusal.fields) == fields
            assert all(refusal.fields.values())
        assert eks.calls() == ()


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "cluster-missing": ({"cluster": _cluster("")}, "cluster.name"),
    "cluster-too-long": ({"cluster": _cluster("p" * 101)}, "cluster.name"),
    "cluster-with-a-newline": ({"cluster": _cluster("prod-1\n")}, "cluster.name"),
    "cluster-that-climbs": ({"cluster": _cluster("..")}, "cluster.name"),
    "update-missing": ({"update_id": ""}, "update_id"),
    "update-too-long": ({"update_id": "u" * 65}, "update_id"),
    "update-that-climbs": ({"update_id": "../updates"}, "update_id"),
    "update-with-a-newline": ({"update_id": "u\n"}, "update_id"),
    "request-id-too-long": ({"request_id": "r" * 65}, "request_id"),
    "request-id-with-a-newline": ({"request_id": "r\n"}, "request_id"),
    "reason-too-long": ({"reason": "ü" * 501}, "reason"),
    "reason-of-two-lines": ({"reason": "a\nb"}, "reason"),
    "ticket-too-long": ({"ticket": "t" * 101}, "ticket"),
}


@pytest.fixture
async def anywhere(tmp_path: Path, eks: SimulatedEks) -> Any:
    async with run_gateway(tmp_path, eks, data=_anywhere()) as here:
        yield here


async def test_cancel_with_one_bad_field_names_it(anywhere: RunningGateway) -> None:
    """A value at its limit is accepted."""
    for name, (change, field) in FIELDS.items():
        request: Any = {"cluster": _cluster(), "update_id": "u", "reason": "why", "ticket": "T-1"} | change
        call = anywhere.updates.CancelUpdate(pb.CancelUpdateRequest(**request), metadata=anywhere.oncall)
        refusal = await expect_refusal(call)
        assert set(refusal.fields) == {field}, name
    assert anywhere.eks.calls() == ()
    update_id = anywhere.eks.rollback("p" * 100, tags=PRODUCTION, update_id="u" * 64)
    texts = {"reason": "ü" * 500, "ticket": "t" * 100, "request_id": "r" * 64}
    assert (await anywhere.cancel("p" * 100, update_id, **texts)).request_id == "r" * 64


async def test_reason_with_format_characters_is_recorded_as_written(gateway: RunningGateway) -> None:
    """A joined emoji and a Persian word."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    reason = "\U0001f469\u200d\U0001f692 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    cancellation = await gateway.cancel("prod-1", update_id, reason=reason)
    assert (await get_cancellation(gateway, cancellation_id=cancellation.cancellation_id)).reason == reason


@pytest.mark.parametrize(
    "where",
    [
        pytest.param({"account_id": ELSEWHERE}, id="account"),
        pytest.param({"region": "eu-west-1"}, id="region"),
    ],
)
async def test_unconfigured_target_is_refused(anywhere: RunningGateway, where: dict[str, str]) -> None:
    """For an allowed caller, and without EKS calls."""
    anywhere.eks.rollback("prod-1", tags=PRODUCTION, update_id="u")
    cluster, who, stub = _cluster(**where), anywhere.oncall, anywhere.updates
    texts = {"reason": "why", "ticket": "T-1"}
    subjects = []
    for call in (
        stub.CancelUpdate(pb.CancelUpdateRequest(cluster=cluster, update_id="u", **texts), metadata=who),
        stub.CheckCancelUpdate(pb.CheckCancelUpdateRequest(cluster=cluster, update_id="u"), metadata=who),
        stub.GetUpdate(pb.GetUpdateRequest(cluster=cluster, update_id="u"), metadata=who),
        stub.WatchUpdate(pb.WatchUpdateRequest(cluster=cluster, update_id="u"), metadata=who).read(),
        stub.ListUpdates(pb.ListUpdatesRequest(cluster=cluster), metadata=who),
    ):
        refusal = await expect_refusal(call)
        assert refusal.status_and_reason == ("FAILED_PRECONDITION", "TARGET_NOT_CONFIGURED")
        subjects.append(refusal.subject)
    named = "/".join([where.get("account_id", ACCOUNT), where.get("region", "us-east-1"), "prod-1"])
    assert subjects == [f"{named}/u"] * 4 + [named]
    assert anywhere.eks.calls() == ()


async def test_credentials_of_another_account_cancel_nothing(gateway: RunningGateway) -> None:
    eks = gateway.eks
    eks.simulator.control.register({"access_key": f"AKIA{ACCOUNT}", "account_id": ELSEWHERE})
    update_id = eks.rollback("prod-1", tags=PRODUCTION, account_id=ELSEWHERE)
    for call in (
        gateway.cancel("prod-1", update_id, request_id="first"),
        check(gateway, "prod-1", update_id),
        get_update(gateway, "prod-1", update_id),
        list_updates(gateway, "prod-1"),
    ):
        refusal = await expect_refusal(call)
        assert refusal.status_and_reason == ("INTERNAL", "TARGET_MISMATCH")
        assert ELSEWHERE.encode() not in refusal.raw
    assert eks.calls("CancelUpdate") == ()
    assert (
        await expect_refusal(get_cancellation(gateway, request_id="first"))
    ).reason == "CANCELLATION_NOT_FOUND"


class ElsewhereEks:
    """An ``Eks`` that answers with another cluster or update than requested."""

    def __init__(self, real: BotoEks, *, arn: str = "", update_id: str = "") -> None:
        self._real = real
        self._arn = arn
        self._update_id = update_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def describe_cluster(self, cluster: ClusterRef, **whose: Any) -> ClusterFacts:
        facts = await self._real.describe_cluster(cluster, **whose)
        return replace(facts, arn=self._arn or facts.arn)

    async def describe_update(self, ref: UpdateRef, **whose: Any) -> Update:
        update = await self._real.describe_update(ref, **whose)
        return replace(update, id=self._update_id or update.id)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"arn": f"arn:aws:eks:{REGION}:{ELSEWHERE}:cluster/prod-1"}, id="account"),
        pytest.param({"arn": f"arn:aws:eks:eu-west-1:{ACCOUNT}:cluster/prod-1"}, id="region"),
        pytest.param({"arn": f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/prod-10"}, id="cluster"),
        pytest.param({"arn": f"arn:aws:eks:{REGION}:{ACCOUNT}:nodegroup/prod-1"}, id="other-kind"),
        pytest.param({"arn": "prod-1"}, id="no-arn"),
        pytest.param({"update_id": "another"}, id="update"),
    ],
)
async def test_answer_about_another_resource_sends_nothing(
    tmp_path: Path, eks: SimulatedEks, answer: dict[str, str]
) -> None:
    async with run_gateway(tmp_path, eks, wrap_eks=lambda real: ElsewhereEks(real, **answer)) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        refusal = await expect_refusal(gateway.cancel("prod-1", update_id))
        assert refusal.status_and_reason == ("INTERNAL", "TARGET_MISMATCH")
        assert eks.calls("CancelUpdate") == ()


async def _slow(*_: Any) -> None:
    await asyncio.sleep(0.3)  # longer than the decision may age


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param({"wrap_policy": add_hooks(decide=_slow)}, id="policy"),
        pytest.param({"wrap_ledger": add_hooks(commit_intent=_slow)}, id="ledger"),
    ],
)
async def test_stale_decision_is_not_forwarded(
    tmp_path: Path, eks: SimulatedEks, wrap: dict[str, Any]
) -> None:
    """ABORTED; the age counts from the reading of the facts."""
    async with run_gateway(tmp_path, eks, eks={"decision_max_age_s": 0.2}, **wrap) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        assert refusal.status_and_reason == ("ABORTED", "DECISION_STALE")
        assert refusal.metadata["phase"] == "NOT_FORWARDED"
        found = await get_cancellation(gateway, cancellation_id=refusal.metadata["cancellation_id"])
        assert found.phase == cpb.CANCELLATION_PHASE_NOT_FORWARDED
        assert eks.calls("CancelUpdate") == ()


async def test_unexpected_exception_is_internal(tmp_path: Path, eks: SimulatedEks) -> None:
    """With a fixed text on every call."""
    broken = add_hooks(
        **dict.fromkeys(("describe_cluster", "list_updates"), always_raise(ValueError(SECRET)))
    )
    async with run_gateway(tmp_path, eks, wrap_eks=broken) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        for call in (
            gateway.cancel("prod-1", update_id),
            check(gateway, "prod-1", update_id),
            get_update(gateway, "prod-1", update_id),
            list_updates(gateway, "prod-1"),
        ):
            refusal = await expect_refusal(call)
            assert refusal.status_and_reason == ("INTERNAL", "INTERNAL")
            assert refusal.message == "Something went wrong inside the gateway."
            assert refusal.metadata == {}
            assert SECRET.encode() not in refusal.raw
        assert eks.calls("CancelUpdate") == ()


async def test_unexpected_exception_after_the_intent_is_unknown(tmp_path: Path, eks: SimulatedEks) -> None:
    """Recorded, and settled by polling."""

    def broken(real: BotoEks) -> HookedPart:
        return HookedPart(real, cancel_update=always_raise(ValueError(SECRET)))

    async with run_gateway(tmp_path, eks, wrap_eks=broken) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        assert refusal.status_and_reason == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        assert SECRET.encode() not in refusal.raw
        eks.set_update("prod-1", update_id, status="Successful")
        await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_COMPLETED_ANYWAY, request_id="first")
