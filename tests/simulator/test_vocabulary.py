"""Every value of EKS's vocabularies, and unknown values, reach boto3 unchanged."""

from typing import Any

import pytest
from botocore.model import StringShape

from eksgateway.simulator import rest_json
from support.simulator import SimulatedEks


def list_values(shape: str) -> list[str]:
    """The values of an enum of the model."""
    found = rest_json.service_model().shape_for(shape)
    assert isinstance(found, StringShape)
    return list(found.enum)


async def describe(eks: SimulatedEks, name: str, update_id: str) -> dict[str, Any]:
    answer = await eks.call("describe_update", name=name, updateId=update_id)
    found: dict[str, Any] = answer["update"]
    return found


@pytest.mark.parametrize(
    ("shape", "least"),
    [
        ("UpdateType", 22),
        ("UpdateParamType", 60),
        ("ErrorCode", 17),
        ("UpdateStatus", 4),
        ("CancellationStatus", 3),
    ],
)
def test_the_model_has_the_enums_of_these_tests(shape: str, least: int) -> None:
    assert len(list_values(shape)) >= least


async def test_every_type_and_status_passes_unchanged(eks: SimulatedEks) -> None:
    types = [*list_values("UpdateType"), "SomethingNew"]
    statuses = [*list_values("UpdateStatus"), "Cancelling", "Paused"]
    for status in statuses:
        for number, kind in enumerate(types):
            name = f"{status}-{number}"
            (update_id,) = eks.cluster(name, updates=[{"type": kind, "status": status}])
            update = await describe(eks, name, update_id)
            assert (update["type"], update["status"]) == (kind, status)


async def test_every_parameter_type_passes_unchanged(eks: SimulatedEks) -> None:
    params = [
        {"type": kind, "value": f"value of {kind}"} for kind in [*list_values("UpdateParamType"), "New"]
    ]
    update_id = eks.rollback("c", params=params)
    assert (await describe(eks, "c", update_id))["params"] == params


async def test_every_error_code_passes_unchanged(eks: SimulatedEks) -> None:
    errors = [
        {"errorCode": code, "errorMessage": f"{code} happened", "resourceIds": ["subnet-1", "subnet-2"]}
        for code in [*list_values("ErrorCode"), "New"]
    ]
    update_id = eks.rollback("c", update_status="Failed", errors=errors)
    assert (await describe(eks, "c", update_id))["errors"] == errors


@pytest.mark.parametrize("status", [*list_values("CancellationStatus"), "New"])
async def test_every_cancellation_status_passes_unchanged(eks: SimulatedEks, status: str) -> None:
    cancellation = {"status": status, "reason": "why"}
    update_id = eks.rollback("c", cancellation=cancellation)
    update = await describe(eks, "c", update_id)
    assert (update["status"], update["cancellation"]) == ("InProgress", cancellation)


@pytest.mark.parametrize("status", [*list_values("ClusterStatus"), "New"])
async def test_every_cluster_status_can_be_set(eks: SimulatedEks, status: str) -> None:
    eks.rollback("c", status=status)
    assert (await eks.call("describe_cluster", name="c"))["cluster"]["status"] == status
