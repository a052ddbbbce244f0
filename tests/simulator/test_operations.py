"""The operations, called by an unmodified boto3 over HTTP."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError

from support.simulator import SimulatedEks

ANOTHER = "444455556666"


async def expect_error(eks: SimulatedEks, operation: str, **params: Any) -> tuple[str, int]:
    """The error code and HTTP status of a call."""
    with pytest.raises(ClientError) as caught:
        await eks.call(operation, **params)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


async def update(eks: SimulatedEks, name: str, update_id: str) -> dict[str, Any]:
    answer = await eks.call("describe_update", name=name, updateId=update_id)
    found: dict[str, Any] = answer["update"]
    return found


async def cluster_status(eks: SimulatedEks, name: str) -> str:
    return str((await eks.call("describe_cluster", name=name))["cluster"]["status"])


async def test_describe_cluster_returns_the_members_of_decisions(eks: SimulatedEks) -> None:
    eks.cluster("prod-1", version="1.34", tags={"environment": "production"})
    cluster = (await eks.call("describe_cluster", name="prod-1"))["cluster"]
    assert cluster.pop("createdAt").tzinfo is not None
    assert cluster == {
        "name": "prod-1",
        "arn": "arn:aws:eks:us-east-1:111122223333:cluster/prod-1",
        "version": "1.34",
        "status": "ACTIVE",
        "tags": {"environment": "production"},
        "computeConfig": {"enabled": True},
    }


async def test_describe_update_has_no_cancellation_before_a_cancel(eks: SimulatedEks) -> None:
    created = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    update_id = eks.rollback("prod-1", created_at=created)
    assert await update(eks, "prod-1", update_id) == {
        "id": update_id,
        "status": "InProgress",
        "type": "VersionRollback",
        "params": [{"type": "Version", "value": "1.33"}],
        "createdAt": created,
        "errors": [],
    }


async def test_a_rollback_goes_through_its_stages(eks: SimulatedEks) -> None:
    """The cluster is ACTIVE while nodes roll back, then UPDATING, and has its old version in the end."""
    update_id = eks.rollback("c", version="1.34", node_phase_s=100, control_plane_phase_s=50)
    assert await cluster_status(eks, "c") == "ACTIVE"
    eks.advance(100)
    assert await cluster_status(eks, "c") == "UPDATING"
    eks.advance(50)
    assert (await update(eks, "c", update_id))["status"] == "Successful"
    cluster = (await eks.call("describe_cluster", name="c"))["cluster"]
    assert (cluster["status"], cluster["version"]) == ("ACTIVE", "1.33")


async def test_a_cancel_goes_through_cancelling_to_cancelled(eks: SimulatedEks) -> None:
    """The version stays."""
    update_id = eks.rollback("c", node_replacing_s=60, cancel_delay_s=5)
    answer = await eks.call("cancel_update", name="c", updateId=update_id, clientRequestToken="t")
    assert answer["update"]["status"] == "InProgress"
    assert answer["update"]["cancellation"]["status"] == "InProgress"
    eks.advance(6)
    assert (await update(eks, "c", update_id))["status"] == "Cancelling"
    eks.advance(60)
    ended = await update(eks, "c", update_id)
    assert (ended["status"], ended["cancellation"]["status"]) == ("Cancelled", "Successful")
    cluster = (await eks.call("describe_cluster", name="c"))["cluster"]
    assert (cluster["status"], cluster["version"]) == ("ACTIVE", "1.34")


@pytest.mark.parametrize("on_cancel", ["fails", "completes"])
async def test_a_failed_cancellation_leaves_the_update_to_succeed(eks: SimulatedEks, on_cancel: str) -> None:
    update_id = eks.rollback("c", on_cancel=on_cancel, cancel_reason="Too late.", node_phase_s=600)
    await eks.call("cancel_update", name="c", updateId=update_id)
    eks.advance(601)
    going_on = await update(eks, "c", update_id)
    assert going_on["status"] == "InProgress"
    assert going_on["cancellation"] == {"status": "Failed", "reason": "Too late."}
    eks.advance(600)
    ended = await update(eks, "c", update_id)
    assert (ended["status"], ended["cancellation"]["status"]) == ("Successful", "Failed")


async def test_a_cancel_after_a_failed_cancellation_is_accepted(eks: SimulatedEks) -> None:
    update_id = eks.rollback("c", on_cancel="fails", node_replacing_s=10)
    await eks.call("cancel_update", name="c", updateId=update_id, clientRequestToken="first")
    eks.advance(10)
    answer = await eks.call("cancel_update", name="c", updateId=update_id, clientRequestToken="second")
    assert answer["update"]["cancellation"]["status"] == "InProgress"


@pytest.mark.parametrize("on_timeout", ["Failed", "Cancelled"])
async def test_nodes_that_take_too_long_end_the_update(eks: SimulatedEks, on_timeout: str) -> None:
    """In either way that AWS documents."""
    update_id = eks.rollback("c", node_phase_s=10_000, timeout_minutes=120, on_timeout=on_timeout)
    eks.advance(7199)
    assert (await update(eks, "c", update_id))["status"] == "InProgress"
    eks.advance(200)
    assert (await update(eks, "c", update_id))["status"] == on_timeout


@pytest.mark.parametrize(
    ("overrides", "passed", "code"),
    [
        pytest.param({"node_phase_s": 10}, 10, "InvalidStateException", id="control plane"),
        pytest.param(
            {"node_phase_s": 10, "refusal": "InvalidRequestException"},
            10,
            "InvalidRequestException",
            id="or so",
        ),
        pytest.param({"node_phase_s": 10}, 9999, "InvalidStateException", id="ended"),
        pytest.param({"update_status": "Cancelled"}, 0, "InvalidStateException", id="cancelled"),
        pytest.param({"update_status": "Paused"}, 0, "InvalidStateException", id="unknown status"),
        pytest.param({"auto_mode": False}, 0, "InvalidRequestException", id="not Auto Mode"),
        pytest.param({"update_type": "VersionUpdate"}, 0, "InvalidRequestException", id="not a rollback"),
    ],
)
async def test_only_a_rollback_in_its_node_phase_can_be_cancelled(
    eks: SimulatedEks, overrides: dict[str, Any], passed: float, code: str
) -> None:
    update_id = eks.rollback("c", **overrides)
    eks.advance(passed)
    before = await update(eks, "c", update_id)
    assert await expect_error(eks, "cancel_update", name="c", updateId=update_id) == (code, 400)
    assert await update(eks, "c", update_id) == before


@pytest.mark.parametrize("cancel_delay_s", [0, 60], ids=["Cancelling", "accepted, not begun"])
async def test_a_second_cancel_with_another_token_is_an_invalid_state(
    eks: SimulatedEks, cancel_delay_s: float
) -> None:
    update_id = eks.rollback("c", cancel_delay_s=cancel_delay_s)
    await eks.call("cancel_update", name="c", updateId=update_id, clientRequestToken="one")
    code = await expect_error(eks, "cancel_update", name="c", updateId=update_id, clientRequestToken="two")
    assert code == ("InvalidStateException", 400)


async def test_the_same_token_returns_the_first_answer(eks: SimulatedEks) -> None:
    """It has no second effect, even after the update has moved on."""
    update_id = eks.rollback("c", node_replacing_s=60)
    params = {"name": "c", "updateId": update_id, "clientRequestToken": "t"}
    first = (await eks.call("cancel_update", **params))["update"]
    eks.advance(59)
    assert (await eks.call("cancel_update", **params))["update"] == first
    eks.advance(1)
    assert (await update(eks, "c", update_id))["status"] == "Cancelled"
    assert (await eks.call("cancel_update", **params))["update"] == first


async def test_the_same_token_with_other_parameters_is_refused(eks: SimulatedEks) -> None:
    mine, other = eks.rollback("a"), eks.rollback("b")
    await eks.call("cancel_update", name="a", updateId=mine, clientRequestToken="t")
    code = await expect_error(eks, "cancel_update", name="b", updateId=other, clientRequestToken="t")
    assert code == ("InvalidParameterException", 400)
    assert (await update(eks, "b", other))["status"] == "InProgress"


async def test_a_refused_token_may_be_used_again(eks: SimulatedEks) -> None:
    update_id = eks.rollback("c", update_status="Paused")
    params = {"name": "c", "updateId": update_id, "clientRequestToken": "t"}
    await expect_error(eks, "cancel_update", **params)
    eks.set_update("c", update_id, status="InProgress")
    assert (await eks.call("cancel_update", **params))["update"]["status"] == "Cancelling"


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("describe_cluster", {"name": "missing"}),
        ("list_updates", {"name": "missing"}),
        ("describe_update", {"name": "missing", "updateId": "u"}),
        ("describe_update", {"name": "c", "updateId": "u"}),
        ("cancel_update", {"name": "missing", "updateId": "u"}),
        ("cancel_update", {"name": "c", "updateId": "u"}),
        ("update_cluster_version", {"name": "missing", "version": "1.33"}),
    ],
)
async def test_a_missing_cluster_or_update_is_not_found(
    eks: SimulatedEks, operation: str, params: dict[str, str]
) -> None:
    eks.cluster("c")
    assert await expect_error(eks, operation, **params) == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize("kind", ["nodegroup", "addon", "capability"])
async def test_updates_of_other_resources_need_the_name_of_the_resource(eks: SimulatedEks, kind: str) -> None:
    """CancelUpdate does not find them."""
    own, other = eks.cluster("c", updates=[{"type": "VersionRollback"}, {"type": "AddonUpdate", kind: "x"}])
    named = {f"{kind}Name": "x"}
    assert (await eks.call("list_updates", name="c"))["updateIds"] == [own]
    assert (await eks.call("list_updates", name="c", **named))["updateIds"] == [other]
    found = await eks.call("describe_update", name="c", updateId=other, **named)
    assert found["update"]["id"] == other
    for operation in ("describe_update", "cancel_update"):
        code = await expect_error(eks, operation, name="c", updateId=other)
        assert code == ("ResourceNotFoundException", 404)
    assert await cluster_status(eks, "c") == "ACTIVE"


async def test_paginators_return_every_item_once(eks: SimulatedEks) -> None:
    for number in range(5):
        eks.cluster(f"c-{number}")
    ids = eks.cluster("many", updates=[{"status": "Successful"} for _ in range(250)])
    clusters = eks.client().get_paginator("list_clusters").paginate(PaginationConfig={"PageSize": 2})
    pages = await asyncio.to_thread(lambda: [page["clusters"] for page in clusters])
    assert pages == [["c-0", "c-1"], ["c-2", "c-3"], ["c-4", "many"]]
    updates = eks.client().get_paginator("list_updates").paginate(name="many")
    found = await asyncio.to_thread(lambda: [page["updateIds"] for page in updates])
    assert [len(page) for page in found] == [100, 100, 50]
    assert [update_id for page in found for update_id in page] == ids


@pytest.mark.parametrize("token", ["garbage", "e30=", "", "WyJ1cGRhdGVJZHMiLCAiYyIsIC0xXQ=="])
async def test_an_invalid_page_token_is_refused(eks: SimulatedEks, token: str) -> None:
    eks.cluster("c")
    code = await expect_error(eks, "list_updates", name="c", nextToken=token)
    assert code == ("InvalidParameterException", 400)


async def test_a_page_token_of_another_list_is_refused(eks: SimulatedEks) -> None:
    eks.cluster("a", updates=[{"status": "Successful"}] * 2)
    eks.cluster("b", updates=[{"status": "Successful"}] * 2)
    token = (await eks.call("list_updates", name="a", maxResults=1))["nextToken"]
    code = await expect_error(eks, "list_updates", name="b", nextToken=token)
    assert code == ("InvalidParameterException", 400)


async def test_each_account_and_region_has_its_own_clusters(eks: SimulatedEks) -> None:
    here = eks.rollback("c")
    eks.cluster("c", account_id=ANOTHER, region="eu-central-1")
    eks.cluster("d", region="eu-central-1")
    seen = {}
    for account in ("111122223333", ANOTHER):
        for region in ("us-east-1", "eu-central-1"):
            client = eks.client(account, region)
            seen[account, region] = (await eks.call("list_clusters", client=client))["clusters"]
    assert list(seen.values()) == [["c"], ["d"], [], ["c"]]
    client = eks.client(ANOTHER, "eu-central-1")
    cluster = (await eks.call("describe_cluster", client=client, name="c"))["cluster"]
    assert cluster["arn"] == f"arn:aws:eks:eu-central-1:{ANOTHER}:cluster/c"
    code = await expect_error(eks, "cancel_update", client=client, name="c", updateId=here)
    assert code == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize(
    ("region", "partition"),
    [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("eusc-de-east-1", "aws-eusc")],
)
async def test_an_arn_has_the_partition_of_its_region(eks: SimulatedEks, region: str, partition: str) -> None:
    eks.cluster("c", region=region)
    cluster = await eks.call("describe_cluster", client=eks.client(region=region), name="c")
    assert cluster["cluster"]["arn"] == f"arn:{partition}:eks:{region}:111122223333:cluster/c"


async def test_update_cluster_version_starts_a_cancellable_rollback(eks: SimulatedEks) -> None:
    eks.cluster("c", version="1.34")
    begun = await eks.call(
        "update_cluster_version", name="c", version="1.33", rollbackConfig={"timeoutMinutes": 120}
    )
    assert begun["update"]["type"] == "VersionRollback"
    update_id = begun["update"]["id"]
    assert (await eks.call("list_updates", name="c"))["updateIds"] == [update_id]
    cancelled = await eks.call("cancel_update", name="c", updateId=update_id)
    assert cancelled["update"]["status"] == "Cancelling"


async def test_a_second_update_of_a_cluster_is_refused_until_the_first_ends(eks: SimulatedEks) -> None:
    update_id = eks.rollback("c", version="1.34", node_replacing_s=60)
    blocked = ("ResourceInUseException", 409)
    assert await expect_error(eks, "update_cluster_version", name="c", version="1.35") == blocked
    await eks.call("cancel_update", name="c", updateId=update_id)
    assert await expect_error(eks, "update_cluster_version", name="c", version="1.35") == blocked
    eks.advance(60)
    begun = await eks.call("update_cluster_version", name="c", version="1.35")
    assert begun["update"]["type"] == "VersionUpdate"
    assert await cluster_status(eks, "c") == "UPDATING"


@pytest.mark.parametrize(
    "params",
    [
        {"version": "1.34"},
        {"version": "1.32"},
        {"version": "latest"},
        {"version": "1.33", "rollbackConfig": {"timeoutMinutes": 119}},
        {"version": "1.33", "rollbackConfig": {"timeoutMinutes": 10081}},
    ],
)
async def test_update_cluster_version_checks_the_version_and_the_timeout(
    eks: SimulatedEks, params: dict[str, Any]
) -> None:
    eks.cluster("c", version="1.34")
    code = await expect_error(eks, "update_cluster_version", name="c", **params)
    assert code == ("InvalidParameterException", 400)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "MissingAuthenticationTokenException"),
        ("Bearer x", "IncompleteSignatureException"),
        (
            "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/s3/aws4_request, "
            "SignedHeaders=host, Signature=" + "0" * 64,
            "InvalidSignatureException",
        ),
    ],
)
async def test_an_unsigned_call_is_a_403_and_recorded(
    eks: SimulatedEks, authorization: str | None, code: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    async with aiohttp.ClientSession() as http, http.get(f"{eks.url}/clusters", headers=headers) as answer:
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, code)
    (call,) = eks.calls()
    assert (call.operation, call.access_key) == ("ListClusters", "")


async def test_an_unknown_operation_is_a_404_and_recorded(eks: SimulatedEks) -> None:
    assert await expect_error(eks, "list_addons", clusterName="c") == ("UnknownOperationException", 404)
    assert [call.operation for call in eks.calls()] == ["GET /clusters/c/addons"]


async def test_values_outside_the_model_are_refused_with_a_modeled_code(eks: SimulatedEks) -> None:
    """boto3's own checks pass them."""
    eks.cluster("c")
    client = eks.client(parameter_validation=False)
    code = await expect_error(eks, "list_updates", client=client, name="c", maxResults=101)
    assert code == ("InvalidParameterException", 400)
