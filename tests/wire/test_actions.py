"""Each RPC needs its own action: every RPC is called with each action granted alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import EVERY_ACTION, WHERE, RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.wire import (
    PRODUCTION,
    check,
    expect_refusal,
    get_cancellation,
    get_update,
    list_cancellable,
    list_cancellations,
    list_updates,
)

Make = Callable[[RunningGateway, str, Any], Awaitable[Any]]


def _cancel(here: RunningGateway, update_id: str, who: Any) -> Awaitable[Any]:
    return here.cancel("prod-1", update_id, who)


async def _watch(here: RunningGateway, update_id: str, who: Any) -> Any:
    return await here.watch("prod-1", update_id, who).read()


async def _cancel_and_watch(here: RunningGateway, update_id: str, who: Any) -> Any:
    request = pb.CancelUpdateAndWatchRequest(
        cluster=ClusterRef(name="prod-1"), update_id=update_id, request_id="one"
    )
    return await here.updates.CancelUpdateAndWatch(request, metadata=who, timeout=30).read()


RPCS: dict[str, tuple[Make, set[str]]] = {
    "CancelUpdate": (_cancel, {"cancel"}),
    "CheckCancelUpdate": (lambda here, uid, who: check(here, "prod-1", uid, who), {"check"}),
    "GetUpdate": (lambda here, uid, who: get_update(here, "prod-1", uid, who), {"get"}),
    "ListUpdates": (lambda here, _, who: list_updates(here, "prod-1", who), {"list"}),
    "ListCancellableUpdates": (lambda here, _, who: list_cancellable(here, who), {"list"}),
    "WatchUpdate": (_watch, {"watch"}),
    "CancelUpdateAndWatch": (_cancel_and_watch, {"cancel", "watch"}),
}


def _grant(actions: list[str], **conditions: Any) -> dict[str, Any]:
    """A grant of these actions to the group that is named after them."""
    name = "-".join(actions)
    types = {"update_types": ["VersionRollback"]} if "cancel" in actions else {}
    return {
        "id": name, "groups": [f"test:{name}"], "actions": actions, **WHERE, "clusters": ["*"], **types
    } | conditions  # fmt: skip


ALONE = [[action] for action in EVERY_ACTION]
DATA = {
    "eksgateway": {"grants": [_grant(actions) for actions in [*ALONE, ["cancel", "watch"]]], "freezes": []}
}


@pytest.mark.parametrize("rpc", RPCS)
async def test_rpc_is_allowed_by_its_own_action_only(tmp_path: Path, eks: SimulatedEks, rpc: str) -> None:
    """Any other action is denied before any EKS call."""
    make, needed = RPCS[rpc]
    async with run_gateway(tmp_path, eks, data=DATA) as gateway:
        # Allowed calls come last, because a followed cancellation keeps calling EKS.
        for actions in sorted([*ALONE, ["cancel", "watch"]], key=needed.issubset):
            update_id = eks.rollback("prod-1", tags=PRODUCTION)
            eks.clear_calls()
            group = "-".join(actions)
            call = make(gateway, update_id, gateway.credentials(group, group))
            if needed.issubset(actions):
                await call
                assert eks.calls()
                continue
            denied = await expect_refusal(call)
            assert denied.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
            assert eks.calls() == ()


async def test_cancel_and_watch_without_the_watch_grant_sends_nothing(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """The caller may cancel, and may watch only clusters with a tag that this one lacks."""
    grants = [_grant(["cancel"]), _grant(["watch"], tags={"environment": ["test"]})]
    async with run_gateway(tmp_path, eks, data={"eksgateway": {"grants": grants, "freezes": []}}) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        who = gateway.credentials("both", "cancel", "watch")
        denied = await expect_refusal(_cancel_and_watch(gateway, update_id, who))
        assert denied.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
        assert eks.calls("CancelUpdate") == ()
        assert (
            await expect_refusal(get_cancellation(gateway, who, request_id="one"))
        ).reason == "CANCELLATION_NOT_FOUND"


async def test_history_of_other_callers_needs_the_action_history(tmp_path: Path, eks: SimulatedEks) -> None:
    async with run_gateway(tmp_path, eks, data=DATA) as gateway:
        owner = gateway.credentials("owner", "cancel")
        told = await gateway.cancel("prod-1", eks.rollback("prod-1", tags=PRODUCTION), owner)
        for action in EVERY_ACTION:
            who = gateway.credentials("other", action)
            listed = (await list_cancellations(gateway, who)).cancellations
            call = get_cancellation(gateway, who, cancellation_id=told.cancellation_id)
            if action == "history":
                assert [each.cancellation_id for each in listed] == [told.cancellation_id]
                assert await call == listed[0]
            else:
                assert not listed
                assert (await expect_refusal(call)).status_and_reason == (
                    "NOT_FOUND",
                    "CANCELLATION_NOT_FOUND",
                )
