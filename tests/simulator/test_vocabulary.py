"""Every word of EKS's vocabularies, and words that it may learn, reach boto3 as they are."""

from typing import Any

import pytest
from botocore.model import StringShape

from eksgateway.simulator import rest_json
from support.simulator import SimulatedEks


def words(shape: str) -> list[str]:
    """An enum of the model."""
    found = rest_json.service_model().shape_for(shape)
    assert isinstance(found, StringShape)
    return list(found.enum)


async def seen(eks: SimulatedEks, name: str, update_id: str) -> dict[str, Any]:
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
def test_the_model_lists_what_is_tested_here(shape: str, least: int) -> None:
    """The tests below go over the model's own lists, so that a newer botocore widens them."""
    assert len(words(shape)) >= least


async def test_every_type_and_status(eks: SimulatedEks) -> None:
    """All update types in all statuses, those that only the user guide knows or nobody yet included."""
    types = [*words("UpdateType"), "SomethingNew"]
    statuses = [*words("UpdateStatus"), "Cancelling", "Paused"]
    for status in statuses:
        for number, kind in enumerate(types):
            name = f"{status}-{number}"
            (update_id,) = eks.cluster(name, updates=[{"type": kind, "status": status}])
            update = await seen(eks, name, update_id)
            assert (update["type"], update["status"]) == (kind, status)


async def test_every_parameter(eks: SimulatedEks) -> None:
    """One update with a parameter of each type, in order."""
    params = [{"type": kind, "value": f"value of {kind}"} for kind in [*words("UpdateParamType"), "New"]]
    update_id = eks.rollback("c", params=params)
    assert (await seen(eks, "c", update_id))["params"] == params


async def test_every_error(eks: SimulatedEks) -> None:
    """One failed update with an error of each code, in order."""
    errors = [
        {"errorCode": code, "errorMessage": f"{code} happened", "resourceIds": ["subnet-1", "subnet-2"]}
        for code in [*words("ErrorCode"), "New"]
    ]
    update_id = eks.rollback("c", update_status="Failed", errors=errors)
    assert (await seen(eks, "c", update_id))["errors"] == errors


@pytest.mark.parametrize("status", [*words("CancellationStatus"), "New"])
async def test_every_cancellation_status(eks: SimulatedEks, status: str) -> None:
    """A cancellation of any status beside any status of the update."""
    cancellation = {"status": status, "reason": "why"}
    update_id = eks.rollback("c", cancellation=cancellation)
    update = await seen(eks, "c", update_id)
    assert (update["status"], update["cancellation"]) == ("InProgress", cancellation)


@pytest.mark.parametrize("status", [*words("ClusterStatus"), "New"])
async def test_every_cluster_status(eks: SimulatedEks, status: str) -> None:
    """A cluster may be said to be in any status, whatever its updates do."""
    eks.rollback("c", status=status)
    assert (await eks.call("describe_cluster", name="c"))["cluster"]["status"] == status
