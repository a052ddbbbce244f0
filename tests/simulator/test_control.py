"""The control API over HTTP: seeding, changing, calls, clock, access keys, and bad input."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import boto3
import pytest

from eksgateway.simulator import CallRecord, Simulator, SpecError
from support.simulator import SimulatedEks


class Http:
    """Sends JSON, and returns the status and the JSON answer."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def __call__(self, method: str, path: str, given: Any = None) -> tuple[int, dict[str, Any]]:
        async with self.session.request(method, f"/_simulator/{path}", json=given) as answer:
            body: dict[str, Any] = await answer.json()
            return answer.status, body


@pytest.fixture
async def http(eks: SimulatedEks) -> AsyncIterator[Http]:
    async with aiohttp.ClientSession(eks.url) as session:
        yield Http(session)


async def test_a_posted_cluster_exists_with_given_and_new_ids(eks: SimulatedEks, http: Http) -> None:
    updates = [{"id": "u-1", "status": "Successful", "type": "VersionUpdate"}, {"node_phase_s": 60}]
    status, answer = await http("POST", "clusters", {"name": "prod-1", "version": "1.34", "updates": updates})
    assert status == 200
    assert answer["update_ids"][0] == "u-1"
    assert (await eks.call("list_updates", name="prod-1"))["updateIds"] == answer["update_ids"]


async def test_a_posted_cluster_replaces_one_of_the_same_name(eks: SimulatedEks, http: Http) -> None:
    eks.rollback("c")
    assert await http("POST", "clusters", {"name": "c"}) == (200, {"update_ids": []})
    assert (await eks.call("list_updates", name="c"))["updateIds"] == []


async def test_status_type_cancellation_and_errors_can_be_set_and_reset(
    eks: SimulatedEks, http: Http
) -> None:
    update_id = eks.rollback("c", node_phase_s=10)
    where = {"cluster": "c", "update_id": update_id}
    changed = {"status": "Paused", "type": "New", "errors": [{"errorCode": "Odd"}]}
    assert await http("POST", "updates", {**where, **changed}) == (
        200,
        {"update_id": update_id, "status": "Paused"},
    )
    await http("POST", "updates", {**where, "cancellation": {"status": "Waiting", "reason": "r"}})
    update = (await eks.call("describe_update", name="c", updateId=update_id))["update"]
    assert (update["status"], update["type"], update["cancellation"]["status"]) == (
        "Paused",
        "New",
        "Waiting",
    )
    assert update["errors"][0]["errorCode"] == "Odd"
    eks.advance(10)
    await http("POST", "updates", {**where, "status": "InProgress"})
    assert (await eks.call("describe_cluster", name="c"))["cluster"]["status"] == "UPDATING"


async def test_calls_are_listed_in_order_until_cleared(eks: SimulatedEks, http: Http) -> None:
    update_id = eks.rollback("c")
    await eks.call("describe_cluster", name="c")
    await eks.call("cancel_update", name="c", updateId=update_id, clientRequestToken="t")
    _, answer = await http("GET", "calls")
    described, cancelled = answer["calls"]
    when = datetime.fromisoformat(cancelled.pop("time"))
    assert abs(when - datetime.now(UTC)) < timedelta(minutes=1)
    assert described["operation"] == "DescribeCluster"
    assert cancelled == {
        "operation": "CancelUpdate",
        "account_id": "111122223333",
        "region": "us-east-1",
        "cluster": "c",
        "update_id": update_id,
        "token": "t",
        "access_key": "AKIA111122223333",
    }
    assert await http("DELETE", "calls") == (200, {})
    assert await http("GET", "calls") == (200, {"calls": []})


async def test_faults_are_set_and_cleared(eks: SimulatedEks, http: Http) -> None:
    eks.cluster("c")
    assert await http("POST", "faults", {"operation": "DescribeCluster", "code": "ServerException"}) == (
        200,
        {},
    )
    assert await http("DELETE", "faults") == (200, {})
    await eks.call("describe_cluster", name="c")


async def test_clock_advances_and_returns_the_simulated_time(http: Http) -> None:
    status, answer = await http("POST", "clock", {"advance_s": 3600})
    assert status == 200
    assert 3600 <= answer["now_s"] < 3660


async def test_an_access_key_has_the_default_account_until_registered(eks: SimulatedEks, http: Http) -> None:
    eks.cluster("c", account_id="444455556666")
    client = boto3.Session().client(
        "eks",
        region_name="us-east-1",
        endpoint_url=eks.url,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="simulated",
    )
    try:
        assert (await eks.call("list_clusters", client=client))["clusters"] == []
        given = {"access_key": "AKIAIOSFODNN7EXAMPLE", "account_id": "444455556666"}
        assert await http("POST", "access-keys", given) == (200, {})
        assert (await eks.call("list_clusters", client=client))["clusters"] == ["c"]
    finally:
        client.close()


@pytest.mark.parametrize(
    ("path", "given", "wrong"),
    [
        ("clusters", [], "body"),
        ("clusters", None, "body"),
        ("clusters", {}, "name"),
        ("clusters", {"name": "-c"}, "name"),
        ("clusters", {"name": "c", "account_id": "1"}, "account_id"),
        ("clusters", {"name": "c", "region": "here"}, "region"),
        ("clusters", {"name": "c", "version": "latest"}, "version"),
        ("clusters", {"name": "c", "colour": "red"}, "colour"),
        ("clusters", {"name": "c", "tags": {"k": "v" * 257}}, "tags.k"),
        ("clusters", {"name": "c", "updates": [{"id": "a/b"}]}, "updates.0.id"),
        ("clusters", {"name": "c", "updates": [{"node_phase_s": -1}]}, "updates.0.node_phase_s"),
        ("clusters", {"name": "c", "updates": [{"timeout_minutes": 119}]}, "updates.0.timeout_minutes"),
        ("clusters", {"name": "c", "updates": [{"on_cancel": "explodes"}]}, "updates.0.on_cancel"),
        ("clusters", {"name": "c", "updates": [{"nodegroup": "n", "addon": "a"}]}, "one of nodegroup"),
        ("clusters", {"name": "c", "updates": [{"id": "u", "status": "Failed"}, {"id": "u"}]}, "same id"),
        ("clusters", {"name": "c", "updates": [{}, {}]}, "one update of a cluster at a time"),
        ("clusters", {"name": "c", "auto_mode": False, "updates": [{"node_phase_s": 9}]}, "node_phase_s"),
        ("updates", {"cluster": "c", "update_id": "u"}, "cluster"),
        ("updates", {"cluster": "there", "update_id": "u"}, "update_id"),
        ("faults", {}, "needs a code"),
        ("faults", {"operation": "DeleteCluster", "code": "x"}, "operation"),
        ("faults", {"code": "x", "times": 0}, "times"),
        ("faults", {"code": "x", "status": 200}, "status"),
        ("faults", {"status": 200}, "status"),
        ("faults", {"code": "x", "body": ""}, "not both"),
        ("faults", {"body": "x", "drop": "after"}, "not both"),
        ("faults", {"code": "x", "drop": "after"}, "not both"),
        ("faults", {"drop": "after", "effect": True}, "effect"),
        ("faults", {"delay_s": -1}, "delay_s"),
        ("clock", {"advance_s": -1}, "advance_s"),
        ("clock", {"advance_s": "soon"}, "advance_s"),
        ("access-keys", {"access_key": "", "account_id": "1"}, "account_id"),
    ],
)
async def test_invalid_input_is_a_400_with_its_path(
    eks: SimulatedEks, http: Http, path: str, given: Any, wrong: str
) -> None:
    """Nothing changes."""
    eks.cluster("there")
    status, answer = await http("POST", path, given)
    assert status == 400
    assert wrong in answer["error"]
    assert (await eks.call("list_clusters"))["clusters"] == ["there"]


async def test_a_body_that_is_not_json_is_a_400(eks: SimulatedEks) -> None:
    async with aiohttp.ClientSession() as http, http.post(f"{eks.url}/_simulator/clock", data=b"{") as answer:
        assert (answer.status, await answer.json()) == (400, {"error": "the body is not JSON"})


@pytest.mark.parametrize(("method", "path"), [("GET", "nothing"), ("DELETE", "clusters"), ("PUT", "calls")])
async def test_an_unknown_control_path_is_a_404_and_no_call_of_eks(
    eks: SimulatedEks, http: Http, method: str, path: str
) -> None:
    status, answer = await http(method, path)
    assert status == 404
    assert answer["error"] == f"there is no {method} /_simulator/{path}"
    assert eks.calls() == ()


def test_add_cluster_checks_like_the_http_api() -> None:
    with pytest.raises(SpecError, match=r"updates\.0\.node_phase_s"):
        Simulator().add_cluster({"name": "c", "updates": [{"node_phase_s": "long"}]})


async def test_on_call_runs_before_the_effect_of_a_call() -> None:
    told: list[tuple[CallRecord, str]] = []

    def look(call: CallRecord) -> None:
        simulator = eks.simulator.control.store
        update = simulator.get_update(eks.ref("c", update_id).cluster.target, "c", update_id)
        told.append((call, simulator.snapshot(update).status))

    async with SimulatedEks(on_call=look) as eks:
        update_id = eks.rollback("c")
        await eks.call("cancel_update", name="c", updateId=update_id, clientRequestToken="t")
        ((call, status),) = told
    assert (call.operation, call.token, status) == ("CancelUpdate", "t", "InProgress")
