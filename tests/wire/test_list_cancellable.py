"""ListCancellableUpdates: cancellable updates of all targets that the caller may see."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eksgateway.errors import EksThrottled, Overloaded, PolicyUnavailable
from eksgateway.policy.question import Question
from eksgateway.rpc import page_tokens
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.error_reason_pb2 import ErrorReason
from support.gateway import ACCOUNT, REGION, RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.sts import Sts
from support.wire import (
    PRODUCTION,
    add_hooks,
    always_raise,
    expect_refusal,
    get_update,
    list_cancellable,
    list_updates,
)

OTHER_ACCOUNT = "444455556666"
HOME = {"account_id": ACCOUNT, "region": REGION}  # listed first
FOREIGN = {"account_id": OTHER_ACCOUNT, "region": REGION}
BOTH = (HOME, FOREIGN)
Start = Callable[..., AbstractAsyncContextManager[RunningGateway]]


def grant(group: str, *actions: str, **where: Any) -> dict[str, Any]:
    everywhere = {"accounts": [ACCOUNT, OTHER_ACCOUNT], "regions": [REGION], "clusters": ["*"]}
    return {"id": group, "groups": [f"test:{group}"], "actions": [*actions], **everywhere, **where}


DATA: dict[str, Any] = {
    "eksgateway": {
        "grants": [
            grant("oncall", "list", "get", clusters=["prod-*"], tags={"environment": ["production"]}),
            grant("viewers", "list", "get"),
            grant("listers", "list"),
            grant("getters", "get", "watch", "check", "history"),
            grant("at-home", "list", "get", accounts=[ACCOUNT]),
            grant("elsewhere", "list", "get", clusters=["elsewhere-*"]),
        ],
        "freezes": [],
    }
}


@pytest.fixture
async def sts(moto: str, eks: SimulatedEks) -> AsyncIterator[Sts]:
    async with Sts(moto, eks.simulator.control.accounts) as here:
        yield here


@pytest.fixture
def start(tmp_path: Path, eks: SimulatedEks, sts: Sts) -> Start:
    """Starts a gateway with the home target and one in another account, through a role."""
    url = {"endpoint_url": eks.url}
    role = {"role_arn": f"arn:aws:iam::{OTHER_ACCOUNT}:role/eksgateway", "sts_endpoint_url": sts.url}
    targets = {"targets": [HOME | url, FOREIGN | url | role], "calls_per_s": 10_000}
    return partial(run_gateway, tmp_path, eks, data=DATA, eks=targets)


@pytest.fixture
async def gateway(start: Start) -> AsyncIterator[RunningGateway]:
    async with start() as here:
        yield here


def ids(answer: pb.ListCancellableUpdatesResponse) -> list[str]:
    return [found.update.id for found in answer.updates]


def list_unreachable(answer: pb.ListCancellableUpdatesResponse) -> list[tuple[str, str, str]]:
    return [
        (each.account_id, each.region, ErrorReason.Name(each.reason).removeprefix("ERROR_REASON_"))
        for each in answer.unreachable
    ]


async def read_pages(
    here: RunningGateway, who: Any, size: int = 0
) -> list[pb.ListCancellableUpdatesResponse]:
    """Every page."""
    found = [await list_cancellable(here, who, page_size=size)]
    while token := found[-1].next_page_token:
        assert len(found) < 50, "the pages do not come to an end"
        found.append(await list_cancellable(here, who, page_size=size, page_token=token))
    return found


def seed(eks: SimulatedEks, count: int = 3) -> list[str]:
    """Add clusters with a running rollback and an ended update to each target; returns the rollbacks."""
    expected = []
    for target in BOTH:
        for number in range(count):
            kinds: list[dict[str, Any]] = [{"type": "VersionRollback"}, {"status": "Successful"}]
            updates = eks.cluster(f"prod-{number}", auto_mode=True, tags=PRODUCTION, updates=kinds, **target)
            expected.append(updates[0])
    return expected


async def test_list_returns_location_update_and_explanation(gateway: RunningGateway) -> None:
    for target in BOTH:
        gateway.eks.rollback("prod-1", tags=PRODUCTION, update_id=f"u-{target['account_id']}", **target)
    answer = await list_cancellable(gateway, gateway.oncall)
    assert [(f.cluster.account_id, f.cluster.region, f.cluster.name) for f in answer.updates] == [
        (ACCOUNT, REGION, "prod-1"),
        (OTHER_ACCOUNT, REGION, "prod-1"),
    ]
    assert ids(answer) == [f"u-{ACCOUNT}", f"u-{OTHER_ACCOUNT}"]
    for found, target in zip(answer.updates, BOTH, strict=True):
        whole = await get_update(gateway, "prod-1", found.update.id, **target)
        assert found.update == whole
        assert "nodes are rolling back" in found.explanation
    assert (list(answer.unreachable), answer.next_page_token) == ([], "")


async def test_list_leaves_out_what_cannot_be_cancelled(gateway: RunningGateway) -> None:
    """Ended, cancelling, of another type, or on a cluster that is not ACTIVE."""
    eks = gateway.eks
    shown = eks.rollback("prod-1")
    for number, status in enumerate(("Successful", "Failed", "Cancelled", "Cancelling")):
        eks.rollback(f"prod-ended-{number}", update_status=status)
    eks.rollback("prod-other", update_type="VersionUpdate", status="ACTIVE")
    eks.rollback("prod-begun", node_phase_s=0)
    for status in ("CREATING", "DELETING", "FAILED"):
        eks.rollback(f"prod-{status}", status=status)
    assert ids(await list_cancellable(gateway, gateway.viewer)) == [shown]
    looked_at = {call.cluster for call in eks.calls("ListUpdates")}
    assert looked_at == {"prod-1", "prod-other", *(f"prod-ended-{number}" for number in range(4))}


async def test_list_decides_clusters_by_list_and_updates_by_get(gateway: RunningGateway) -> None:
    """A cluster without the action list causes no EKS call."""
    shown = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    hidden = gateway.eks.rollback("prod-2", tags={"environment": "test"})
    foreign = gateway.eks.rollback("other-1", tags=PRODUCTION)
    assert ids(await list_cancellable(gateway, gateway.oncall)) == [shown]
    assert "other-1" not in {call.cluster for call in gateway.eks.calls()}
    assert sorted(ids(await list_cancellable(gateway, gateway.viewer))) == sorted([shown, hidden, foreign])
    lister = gateway.credentials("lister", "listers")
    assert await list_cancellable(gateway, lister) == pb.ListCancellableUpdatesResponse()


@pytest.mark.parametrize("size", [1, 2, 4, 50, 0])
async def test_pages_return_each_update_once_in_order(gateway: RunningGateway, size: int) -> None:
    """0 means 50 a page."""
    expected = seed(gateway.eks)
    pages = await read_pages(gateway, gateway.oncall, size)
    assert [update_id for page in pages for update_id in ids(page)] == expected
    assert all(len(page.updates) <= (size or 50) for page in pages)
    assert len(pages) in (-(-len(expected) // (size or 50)), len(expected) // (size or 50) + 1)


async def test_page_may_end_between_updates_of_a_cluster(gateway: RunningGateway) -> None:
    kinds = [{"type": "VersionRollback", "status": "Successful"} for _ in range(5)]
    expected = gateway.eks.cluster("prod-1", auto_mode=True, tags=PRODUCTION, updates=kinds)
    for update_id in expected:  # set by hand: EKS runs one at a time
        gateway.eks.set_update("prod-1", update_id, status="InProgress")
    pages = await read_pages(gateway, gateway.oncall, 2)
    assert sorted(update_id for page in pages for update_id in ids(page)) == sorted(expected)


async def test_page_token_reveals_no_hidden_name(gateway: RunningGateway) -> None:
    for number in range(210):  # more than a page reads
        gateway.eks.cluster(f"hidden-{number:03}")
    kinds = [{"type": "VersionRollback", "status": "Successful"} for _ in range(3)]
    there = gateway.eks.cluster("prod-1", auto_mode=True, tags=PRODUCTION, updates=kinds)
    for update_id in there:  # set by hand: EKS runs one at a time
        gateway.eks.set_update("prod-1", update_id, status="InProgress")
    pages = await read_pages(gateway, gateway.oncall, 1)
    assert [len(page.updates) for page in pages][:3] == [1, 1, 1]
    for page in pages:
        told = base64.b64decode(page.next_page_token, altchars=b"-_")
        assert not any(name.encode() in told for name in ("hidden", *there))


async def test_pages_are_stable_while_clusters_come_and_go(start: Start, eks: SimulatedEks) -> None:
    """Each update that exists throughout is returned once."""
    async with start(watch={"facts_max_age_s": 0.001}) as gateway:
        expected = seed(eks, 2)
        first = await list_cancellable(gateway, gateway.oncall, page_size=1)
        eks.rollback("prod-", tags=PRODUCTION)
        later = eks.rollback("prod-9", tags=PRODUCTION)
        eks.fault("DescribeCluster", status=404, code="ResourceNotFoundException")  # as if prod-0 had gone
        rest = await list_cancellable(gateway, gateway.oncall, page_token=first.next_page_token)
    assert ids(first) + ids(rest) == [*expected[:2], later, *expected[2:]]
    assert not rest.unreachable


async def test_second_caller_causes_no_eks_call(start: Start, eks: SimulatedEks) -> None:
    """Ended updates are never read again."""
    async with start() as gateway:
        seed(eks)
        await list_cancellable(gateway, gateway.oncall)
        whole = {"ListClusters": 2, "DescribeCluster": 6, "ListUpdates": 6, "DescribeUpdate": 12}
        assert Counter(call.operation for call in eks.calls()) == whole
        await list_cancellable(gateway, gateway.viewer)
        assert len(eks.calls()) == 26
    async with start(watch={"facts_max_age_s": 0.001}) as gateway:
        await list_cancellable(gateway, gateway.oncall)
        eks.clear_calls()
        await list_cancellable(gateway, gateway.oncall)
        assert Counter(call.operation for call in eks.calls()) == whole | {"DescribeUpdate": 6}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param((403, "AccessDenied"), "UPSTREAM_CREDENTIALS", id="role refused"),
        pytest.param((503, "ServiceUnavailable"), "UPSTREAM_CREDENTIALS", id="sts down"),
    ],
)
async def test_unassumable_role_is_reported_as_unreachable(
    gateway: RunningGateway, sts: Sts, fault: tuple[int, str], reason: str
) -> None:
    """Once, with the reason; the other target is listed."""
    expected = seed(gateway.eks, 2)
    sts.fault = fault
    pages = await read_pages(gateway, gateway.oncall, 1)
    assert [update_id for page in pages for update_id in ids(page)] == expected[:2]
    assert [each for page in pages for each in list_unreachable(page)] == [(*FOREIGN.values(), reason)]
    told = next(page for page in pages if page.unreachable).unreachable[0]
    assert told.message
    assert "role/" not in told.message


@pytest.mark.parametrize("operation", ["ListClusters", "DescribeCluster", "ListUpdates", "DescribeUpdate"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param((403, "AccessDeniedException", 1), "UPSTREAM_CREDENTIALS", id="denied"),
        pytest.param((429, "ThrottlingException", 2), "EKS_THROTTLED", id="throttled"),
        pytest.param((503, "ServiceUnavailableException", 2), "EKS_UNAVAILABLE", id="down"),
    ],
)
async def test_failing_target_is_reported_and_the_next_one_listed(
    gateway: RunningGateway, operation: str, fault: tuple[int, str, int], reason: str
) -> None:
    expected = seed(gateway.eks, 2)
    status, code, tries = fault
    gateway.eks.fault(operation, status=status, code=code, times=tries)
    answer = await list_cancellable(gateway, gateway.oncall)
    assert list_unreachable(answer) == [(*HOME.values(), reason)]
    assert ids(answer)[-2:] == expected[2:]
    assert answer.next_page_token == ""


@pytest.mark.parametrize("operation", ["DescribeCluster", "ListUpdates"])
async def test_refused_cluster_is_reported_and_its_target_goes_on(
    gateway: RunningGateway, operation: str
) -> None:
    expected = seed(gateway.eks)
    gateway.eks.fault(operation, status=400, code="ClientException")
    answer = await list_cancellable(gateway, gateway.oncall)
    assert list_unreachable(answer) == [(*HOME.values(), "EKS_CLIENT_ERROR")]
    assert ids(answer) == expected[1:]


@pytest.mark.parametrize("operation", ["DescribeCluster", "ListUpdates", "DescribeUpdate"])
async def test_list_leaves_out_what_was_deleted_meanwhile(gateway: RunningGateway, operation: str) -> None:
    expected = seed(gateway.eks)
    gateway.eks.fault(operation, status=404, code="ResourceNotFoundException")
    answer = await list_cancellable(gateway, gateway.oncall)
    assert not answer.unreachable
    assert ids(answer)[-5:] == expected[1:]


async def test_role_that_reaches_another_account_is_reported(gateway: RunningGateway, sts: Sts) -> None:
    """Nothing of that account is shown."""
    sts.reaches = "777788889999"
    gateway.eks.rollback("prod-1", tags=PRODUCTION, account_id=sts.reaches)
    answer = await list_cancellable(gateway, gateway.oncall)
    assert list_unreachable(answer) == [(*FOREIGN.values(), "TARGET_MISMATCH")]
    assert ids(answer) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Overloaded(), "OVERLOADED"), (EksThrottled(), "EKS_THROTTLED")],
    ids=["budget", "throttled"],
)
async def test_used_up_budget_is_reported_for_each_target(
    start: Start, eks: SimulatedEks, error: Exception, reason: str
) -> None:
    """The call itself succeeds."""
    seed(eks, 1)
    async with start(wrap_eks=add_hooks(describe_cluster=always_raise(error))) as gateway:
        answer = await list_cancellable(gateway, gateway.oncall)
    assert list_unreachable(answer) == [(*target.values(), reason) for target in BOTH]


async def test_hanging_target_leaves_time_for_the_answer(start: Start, eks: SimulatedEks) -> None:
    """The next page begins with the next target."""
    expected = seed(eks, 1)
    eks.fault("ListClusters", delay_s=30)
    async with start(limits={"call_timeout_s": 4}) as gateway:
        first, *rest = await read_pages(gateway, gateway.oncall)
    assert (list_unreachable(first), ids(first)) == ([(*HOME.values(), "EKS_UNAVAILABLE")], [])
    assert not any(list_unreachable(page) for page in rest)
    assert [update_id for page in rest for update_id in ids(page)] == expected[1:]


async def test_slow_reads_make_short_pages(start: Start, eks: SimulatedEks) -> None:
    expected = seed(eks, 2)
    eks.fault("DescribeUpdate", delay_s=0.4, times=100)
    async with start(limits={"call_timeout_s": 6}) as gateway:
        pages = await read_pages(gateway, gateway.oncall)
    assert len(pages) > 1
    assert [update_id for page in pages for update_id in ids(page)] == expected
    assert not any(page.unreachable for page in pages)


async def test_failing_policy_fails_the_list(start: Start, eks: SimulatedEks) -> None:
    """A partial answer would look complete."""
    seed(eks, 1)

    async def decide(question: Question) -> None:
        if question.stage == "request":
            raise PolicyUnavailable

    async with start(wrap_policy=add_hooks(decide=decide)) as gateway:
        refusal = await expect_refusal(list_cancellable(gateway, gateway.oncall))
    assert refusal.status_and_reason == ("UNAVAILABLE", "POLICY_UNAVAILABLE")


async def test_denied_list_reveals_nothing(gateway: RunningGateway, sts: Sts) -> None:
    """Equal bytes whatever exists; no call to EKS or STS."""
    answers = set()
    for prepare in (lambda: None, lambda: seed(gateway.eks), lambda: setattr(sts, "fault", (403, "No"))):
        prepare()
        for fields in ({}, {"page_size": -1}, {"page_token": "made up"}):
            for who in (gateway.outsider, gateway.credentials("outsider", "strangers")):
                refusal = await expect_refusal(list_cancellable(gateway, who, **fields))
                assert refusal.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
                answers.add(refusal.masked)
    assert len(answers) == 1
    getter = await expect_refusal(list_cancellable(gateway, gateway.credentials("getter", "getters")))
    assert getter.metadata["reasons"] == "Grant getters does not allow list."
    assert (gateway.eks.calls(), sts.requests) == ((), [])


async def test_target_without_a_grant_is_not_mentioned(gateway: RunningGateway, sts: Sts) -> None:
    expected = seed(gateway.eks)
    sts.fault = (403, "AccessDenied")
    answer = await list_cancellable(gateway, gateway.credentials("home", "at-home"))
    assert (ids(answer), list_unreachable(answer)) == (expected[:3], [])
    assert ({call.account_id for call in gateway.eks.calls()}, sts.requests) == ({ACCOUNT}, [])


async def test_ungranted_names_cost_one_call_per_target(gateway: RunningGateway) -> None:
    seed(gateway.eks)
    who = gateway.credentials("elsewhere", "elsewhere")
    assert await list_cancellable(gateway, who) == pb.ListCancellableUpdatesResponse()
    assert [call.operation for call in gateway.eks.calls()] == ["ListClusters", "ListClusters"]


@pytest.mark.parametrize("size", [-1, 51])
async def test_list_refuses_page_sizes_over_50(gateway: RunningGateway, size: int) -> None:
    refusal = await expect_refusal(list_cancellable(gateway, gateway.oncall, page_size=size))
    assert refusal.fields == {"page_size": "must be between 0 and 50"}


async def test_page_token_is_bound_to_caller_and_method(gateway: RunningGateway) -> None:
    seed(gateway.eks)
    token = (await list_cancellable(gateway, gateway.oncall, page_size=1)).next_page_token
    others = (await list_updates(gateway, "prod-1", gateway.viewer, page_size=1)).next_page_token
    for who, bad in (
        (gateway.viewer, token),
        (gateway.viewer, others),
        (gateway.oncall, token[:-4]),
        (gateway.oncall, "é"),
    ):
        refusal = await expect_refusal(list_cancellable(gateway, who, page_token=bad))
        assert refusal.status_and_reason == ("INVALID_ARGUMENT", "REQUEST_INVALID")
        assert set(refusal.fields) == {"page_token"}


@pytest.mark.parametrize("place", ["x", "/", "////////", f"{ACCOUNT}/{REGION}/../..", "\ud800/\x00//"])
async def test_forged_page_token_shows_nothing_more(gateway: RunningGateway, place: str) -> None:
    """Each cluster and update is decided."""
    seed(gateway.eks)
    lister = gateway.credentials("lister", "listers")
    token = page_tokens.encode(place, "cancellable", "jwt:test:lister")
    answer = await list_cancellable(gateway, lister, page_token=token)
    assert answer == pb.ListCancellableUpdatesResponse()
