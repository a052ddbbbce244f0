"""GetUpdate and ListUpdates."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from support.gateway import POLICY_DATA, WHERE, RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.wire import PRODUCTION, HookedPart, expect_refusal, get_update, list_updates


async def test_get_returns_every_member(gateway: RunningGateway) -> None:
    """Also values that are newer than the gateway, in EKS's spelling."""
    errors = [{"errorCode": "BrandNew", "errorMessage": "What?", "resourceIds": ["i-1", "i-2"]}]
    update_id = gateway.eks.rollback(
        "prod-1",
        tags=PRODUCTION,
        update_type="BrandNewUpdate",
        update_status="Pausing",
        params=[{"type": "BrandNewParam", "value": "ü"}],
        errors=errors,
        cancellation={"status": "Thinking", "reason": "why not"},
        created_at="2026-01-02T03:04:05Z",
    )
    update = await get_update(gateway, "prod-1", update_id)
    assert (update.id, update.type, update.status) == (update_id, "BrandNewUpdate", "Pausing")
    assert [(each.type, each.value) for each in update.params] == [("BrandNewParam", "ü")]
    ((code, message, ids),) = [(e.error_code, e.error_message, list(e.resource_ids)) for e in update.errors]
    assert (code, message, ids) == ("BrandNew", "What?", ["i-1", "i-2"])
    assert (update.cancellation.status, update.cancellation.reason) == ("Thinking", "why not")
    assert update.created_at.ToJsonString() == "2026-01-02T03:04:05Z"


async def test_get_is_decided_on_live_tags(tmp_path: Path, eks: SimulatedEks) -> None:
    async with run_gateway(tmp_path, eks, data=_make_data(["get", "list"])) as gateway:
        update_id = eks.rollback("prod-1", tags={"environment": "test"})
        denied = await expect_refusal(get_update(gateway, "prod-1", update_id))
        assert denied.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")


def _make_data(actions: list[str]) -> dict[str, Any]:
    data = copy.deepcopy(POLICY_DATA)
    tagged = {"id": "tagged", "groups": ["test:oncall"], "actions": actions, **WHERE, "clusters": ["*"]}
    data["eksgateway"]["grants"] = [tagged | {"tags": {"environment": ["production"]}}]
    return data


async def test_list_leaves_out_updates_without_the_action_get(tmp_path: Path, eks: SimulatedEks) -> None:
    """The list is decided at stage request, each item on live facts."""
    async with run_gateway(tmp_path, eks, data=_make_data(["get", "list"])) as gateway:
        shown = eks.rollback("prod-1", tags=PRODUCTION)
        eks.rollback("prod-2", tags={"environment": "test"})
        assert [each.id for each in (await list_updates(gateway, "prod-1")).updates] == [shown]
        hidden = await list_updates(gateway, "prod-2")
        assert list(hidden.updates) == []


def _add_updates(eks: SimulatedEks, name: str, count: int) -> set[str]:
    updates = [{"status": "Successful"} for _ in range(count)]
    return set(eks.cluster(name, tags=PRODUCTION, updates=updates))


async def test_list_pages_return_each_update_once(gateway: RunningGateway) -> None:
    """0 means 10 a page."""
    ids = _add_updates(gateway.eks, "prod-1", 12)
    for size, pages in ((0, 2), (10, 2), (5, 3), (1, 12)):
        seen, token, count = [], "", 0
        while count == 0 or token:
            page = await list_updates(gateway, "prod-1", page_size=size, page_token=token)
            assert len(page.updates) <= (size or 10)
            seen += [each.id for each in page.updates]
            token, count = page.next_page_token, count + 1
        assert (count, len(seen), set(seen)) == (pages, 12, ids)


@pytest.mark.parametrize("size", [-1, 11])
async def test_list_refuses_page_sizes_over_10(gateway: RunningGateway, size: int) -> None:
    refusal = await expect_refusal(list_updates(gateway, "prod-1", page_size=size))
    assert refusal.fields == {"page_size": "must be between 0 and 10"}


async def test_list_page_token_is_bound_to_caller_cluster_and_method(gateway: RunningGateway) -> None:
    _add_updates(gateway.eks, "prod-1", 3)
    _add_updates(gateway.eks, "prod-2", 3)
    token = (await list_updates(gateway, "prod-1", page_size=1)).next_page_token
    tampered = token[:-6] + ("A" if token[-6] != "A" else "B") + token[-5:]
    for call in (
        list_updates(gateway, "prod-1", gateway.viewer, page_token=token),
        list_updates(gateway, "prod-2", page_token=token),
        list_updates(gateway, "prod-1", page_token=token[:-4]),
        list_updates(gateway, "prod-1", page_token=tampered[:20] + "x" + tampered[21:]),
        list_updates(gateway, "prod-1", page_token="é"),
        list_updates(gateway, "prod-1", page_token="W" * 5000),
    ):
        refusal = await expect_refusal(call)
        assert refusal.status_and_reason == ("INVALID_ARGUMENT", "REQUEST_INVALID")
        assert set(refusal.fields) == {"page_token"}
    assert (await list_updates(gateway, "prod-1", page_token=token)).updates


async def test_list_leaves_out_an_update_that_eks_has_deleted(gateway: RunningGateway) -> None:
    ids = _add_updates(gateway.eks, "prod-1", 3)
    gateway.eks.fault("DescribeUpdate", times=1, code="ResourceNotFoundException", status=404)
    page = await list_updates(gateway, "prod-1")
    assert len(page.updates) == 2
    assert {each.id for each in page.updates} < ids


async def test_list_passes_long_tokens_of_eks_back(tmp_path: Path, eks: SimulatedEks) -> None:
    asked, long = [], "é" + "t" * 30_000

    class Wordy(HookedPart):
        async def list_updates(self, _: Any, __: Any, token: str, **___: Any) -> tuple[tuple[str, ...], str]:
            asked.append(token)
            return (), long

    async with run_gateway(tmp_path, eks, wrap_eks=Wordy) as gateway:
        eks.rollback("prod-1", tags=PRODUCTION)
        token = (await list_updates(gateway, "prod-1")).next_page_token
        await list_updates(gateway, "prod-1", page_token=token)
    assert asked == ["", long]
