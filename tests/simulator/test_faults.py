"""Faults as boto3 sees them, and whether the call had its effect."""

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from support.simulator import SimulatedEks


async def cancel(eks: SimulatedEks, update_id: str, **params: Any) -> dict[str, Any]:
    return await eks.call("cancel_update", name="c", updateId=update_id, clientRequestToken="t", **params)


async def status(eks: SimulatedEks, update_id: str) -> str:
    return str((await eks.call("describe_update", name="c", updateId=update_id))["update"]["status"])


@pytest.mark.parametrize(
    ("fault", "code", "http_status"),
    [
        ({"code": "ThrottlingException"}, "ThrottlingException", 429),
        ({"code": "TooManyRequestsException", "status": 429}, "TooManyRequestsException", 429),
        ({"code": "InvalidRequestException"}, "InvalidRequestException", 400),
        ({"code": "ServerException"}, "ServerException", 500),
        ({"code": "AccessDeniedException"}, "AccessDeniedException", 403),
        ({"code": "SomethingNewException", "status": 418}, "SomethingNewException", 418),
        ({"status": 502}, "502", 502),
    ],
)
async def test_an_error_fault_has_no_effect_and_is_used_up(
    eks: SimulatedEks, fault: dict[str, Any], code: str, http_status: int
) -> None:
    update_id = eks.rollback("c")
    eks.fault("CancelUpdate", message="Request limit exceeded.", **fault)
    with pytest.raises(ClientError) as caught:
        await cancel(eks, update_id)
    response = caught.value.response
    assert response["Error"] == {"Code": code, "Message": "Request limit exceeded."}
    assert response["ResponseMetadata"]["HTTPStatusCode"] == http_status
    assert await status(eks, update_id) == "InProgress"
    assert (await cancel(eks, update_id))["update"]["status"] == "Cancelling"


@pytest.mark.parametrize(
    ("fault", "after"),
    [
        pytest.param({"drop": "before"}, "InProgress", id="dropped before"),
        pytest.param({"drop": "after"}, "Cancelling", id="dropped after"),
    ],
)
async def test_a_dropped_connection_has_its_effect_before_or_not_at_all(
    eks: SimulatedEks, fault: dict[str, Any], after: str
) -> None:
    update_id = eks.rollback("c")
    eks.fault("CancelUpdate", **fault)
    with pytest.raises(ConnectionClosedError):
        await cancel(eks, update_id)
    assert await status(eks, update_id) == after
    assert len(eks.calls("CancelUpdate")) == 1


async def test_a_5xx_can_follow_an_effect(eks: SimulatedEks) -> None:
    update_id = eks.rollback("c")
    eks.fault("CancelUpdate", code="ServerException", effect=True)
    with pytest.raises(ClientError):
        await cancel(eks, update_id)
    assert await status(eks, update_id) == "Cancelling"


@pytest.mark.parametrize(("fault", "code"), [({"status": 413}, "413"), ({}, "403")])
async def test_a_body_is_sent_without_headers_of_aws(
    eks: SimulatedEks, fault: dict[str, Any], code: str
) -> None:
    update_id = eks.rollback("c")
    eks.fault("CancelUpdate", body="<html>No.</html>", effect=True, **fault)
    with pytest.raises(ClientError) as caught:
        await cancel(eks, update_id)
    response = caught.value.response
    assert response["Error"] == {"Code": code, "Message": "<html>No.</html>"}
    assert "RequestId" not in response["ResponseMetadata"]
    assert "x-amzn-errortype" not in response["ResponseMetadata"]["HTTPHeaders"]
    assert await status(eks, update_id) == "Cancelling"


async def test_an_answer_in_pieces_with_padding_is_valid_json(eks: SimulatedEks) -> None:
    update_id = eks.rollback("c")
    eks.fault("CancelUpdate", drip_s=0.3, pad_bytes=200_000)
    started = time.monotonic()
    assert (await cancel(eks, update_id))["update"]["id"] == update_id
    assert time.monotonic() - started >= 0.3


async def test_a_delay_is_between_the_effect_and_the_answer(eks: SimulatedEks) -> None:
    update_id = eks.rollback("c")
    eks.fault("CancelUpdate", delay_s=0.3)
    started = time.monotonic()
    await cancel(eks, update_id)
    assert time.monotonic() - started >= 0.3
    other = eks.rollback("c")
    eks.fault("CancelUpdate", delay_s=30)
    client = eks.client(read_timeout=0.2)
    with pytest.raises(ReadTimeoutError):
        await eks.call("cancel_update", client=client, name="c", updateId=other)
    assert await status(eks, other) == "Cancelling"


@pytest.mark.parametrize("fault", [{"code": "ThrottlingException"}, {"status": 503}, {"drop": "before"}])
async def test_boto3_retries_until_a_fault_is_used_up(eks: SimulatedEks, fault: dict[str, Any]) -> None:
    eks.cluster("c")
    eks.fault("DescribeCluster", times=2, **fault)
    client = eks.client(retries={"mode": "standard", "total_max_attempts": 3})
    assert (await eks.call("describe_cluster", client=client, name="c"))["cluster"]["name"] == "c"
    assert len(eks.calls("DescribeCluster")) == 3


async def test_a_fault_is_used_by_its_operation_only(eks: SimulatedEks) -> None:
    eks.cluster("c")
    eks.fault("ListUpdates", code="ServerException")
    await eks.call("describe_cluster", name="c")
    with pytest.raises(ClientError):
        await eks.call("list_updates", name="c")
    eks.fault("*", code="ServerException", times=2)
    with pytest.raises(ClientError):
        await eks.call("describe_cluster", name="c")
    eks.clear_faults()
    await eks.call("describe_cluster", name="c")


async def test_faults_of_one_operation_are_used_in_order(eks: SimulatedEks) -> None:
    eks.cluster("c")
    eks.fault("DescribeCluster", code="ServerException")
    eks.fault("DescribeCluster", code="ClientException")
    codes = []
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            await eks.call("describe_cluster", name="c")
        codes.append(caught.value.response["Error"]["Code"])
    assert codes == ["ServerException", "ClientException"]
