"""A denied caller learns nothing: equal bytes except for ids, and no EKS call at stage request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import ACCOUNT, REGION, RunningGateway, run_gateway
from support.ledger import list_denials
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import PRODUCTION, expect_refusal, get_cancellation

EXISTING, UPDATE = "prod-1", "11111111-2222-3333-4444-555555555555"

# Requests of a caller: each variant differs from the existing update in one way.
VARIANTS: dict[str, dict[str, Any]] = {
    "existing": {},
    "update-missing": {"update_id": "99999999-2222-3333-4444-555555555555"},
    "update-empty": {"update_id": ""},
    "update-malformed": {"update_id": "../\x00\n"},
    "update-over-long": {"update_id": "u" * 5000},
}
CLUSTERS: dict[str, dict[str, str]] = {
    "missing": {"name": "prod-none"},
    "over-long": {"name": "prod-" + "x" * 500},
    "control-characters": {"name": "prod-\x1b[2J\r\n\x00"},
    "malformed": {"name": "prod-..%2e"},
}
FOREIGN: dict[str, dict[str, str]] = {
    "empty": {"name": ""},
    "climbing": {"name": "../../prod-1"},
    "unknown-account": {"name": EXISTING, "account_id": "999999999999"},
    "malformed-account": {"name": EXISTING, "account_id": "1; DROP TABLE"},
    "unknown-region": {"name": EXISTING, "region": "eu-west-9"},
    "malformed-region": {"name": EXISTING, "region": "\n"},
}
TEXTS: dict[str, dict[str, Any]] = {
    "request-id-malformed": {"request_id": "no/such\nid"},
    "request-id-over-long": {"request_id": "r" * 1000},
    "ticket-malformed": {"ticket": "\x00" * 500},
}

DENIED = ("PERMISSION_DENIED", "POLICY_DENIED")
METHODS = {
    "CancelUpdate": (pb.CancelUpdateRequest, TEXTS),
    "CheckCancelUpdate": (pb.CheckCancelUpdateRequest, {}),
    "GetUpdate": (pb.GetUpdateRequest, {}),
    "WatchUpdate": (pb.WatchUpdateRequest, {"token": {"resume_token": "made up"}}),
    "CancelUpdateAndWatch": (pb.CancelUpdateAndWatchRequest, TEXTS),
}


async def _answer(gateway: RunningGateway, method: str, who: Any, **fields: Any) -> bytes:
    """Every byte of a denial except for its ids."""
    kind: Any = METHODS[method][0]
    request = kind(**{"cluster": ClusterRef(name=EXISTING), "update_id": UPDATE} | fields)
    call = getattr(gateway.updates, method)(request, metadata=who)
    refusal = await expect_refusal(_drain(call) if "Watch" in method else call)
    assert refusal.status_and_reason == DENIED
    assert refusal.metadata["decision_id"] == refusal.trailing["eksgateway-decision-id"]
    return refusal.masked


async def _drain(stream: Any) -> None:
    async for _ in stream:
        raise AssertionError("a denied caller was told something")


def _requests(method: str, *clusters: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    own: Any = METHODS[method][1]
    named = [{"cluster": ClusterRef(**where)} for group in clusters for where in group.values()]
    return [*VARIANTS.values(), *named, *own.values()]


@pytest.mark.parametrize("method", METHODS)
async def test_denials_without_a_grant_are_equal(gateway: RunningGateway, method: str) -> None:
    """Existing, missing, malformed, over-long and foreign names."""
    gateway.eks.rollback(EXISTING, tags=PRODUCTION, update_id=UPDATE)
    requests = _requests(method, CLUSTERS, FOREIGN)
    answers = {await _answer(gateway, method, gateway.outsider, **request) for request in requests}
    assert len(answers) == 1
    assert gateway.eks.calls() == ()


@pytest.mark.parametrize("method", ["CancelUpdate", "CancelUpdateAndWatch"])
@pytest.mark.parametrize("who", ["oncall-without-a-ticket", "viewer"])
async def test_denials_of_a_granted_name_are_equal(gateway: RunningGateway, method: str, who: str) -> None:
    gateway.eks.rollback(EXISTING, tags=PRODUCTION, update_id=UPDATE)
    metadata = gateway.viewer if who == "viewer" else gateway.oncall
    requests = [request for request in _requests(method, CLUSTERS) if not request.get("ticket")]
    answers = {await _answer(gateway, method, metadata, **request) for request in requests}
    assert len(answers) == 1
    assert gateway.eks.calls() == ()


async def test_denials_of_a_list_are_equal(gateway: RunningGateway) -> None:
    """Page sizes and tokens are not read before the policy."""
    gateway.eks.rollback(EXISTING, tags=PRODUCTION, update_id=UPDATE)
    page: list[dict[str, Any]] = [{"page_size": -1}, {"page_token": "made up"}, {"page_size": 10**6}]
    clusters = [{"name": EXISTING}, *CLUSTERS.values(), *FOREIGN.values()]
    requests = [pb.ListUpdatesRequest(cluster=ClusterRef(**where)) for where in clusters]
    requests += [pb.ListUpdatesRequest(cluster=ClusterRef(name=EXISTING), **fields) for fields in page]
    answers = set()
    for request in requests:
        refusal = await expect_refusal(gateway.updates.ListUpdates(request, metadata=gateway.outsider))
        answers.add(refusal.masked)
    assert len(answers) == 1
    assert gateway.eks.calls() == ()


@pytest.mark.parametrize("status", ["InProgress", "Cancelling", "Cancelled", "Successful", "Failed"])
async def test_denials_at_stage_update_are_equal(gateway: RunningGateway, status: str) -> None:
    """For an update in progress and for an ended one."""
    first = gateway.eks.rollback("prod-1", tags={"environment": "test"})
    running = await expect_refusal(gateway.cancel("prod-1", first, request_id="running"))
    other = gateway.eks.rollback("prod-2", tags={"environment": "test"}, update_status=status)
    denied = await expect_refusal(gateway.cancel("prod-2", other, request_id="other"))
    assert denied.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert denied.masked == running.masked
    assert gateway.eks.calls("CancelUpdate") == ()
    assert (
        await expect_refusal(get_cancellation(gateway, request_id="other"))
    ).reason == "CANCELLATION_NOT_FOUND"


async def test_denied_request_id_stays_free(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    assert (await expect_refusal(gateway.cancel("prod-1", update_id, request_id="id", ticket=""))).metadata[
        "reasons"
    ] == "A ticket is required by grant oncall."
    assert (await gateway.cancel("prod-1", update_id, request_id="id")).request_id == "id"


async def test_text_of_a_denied_caller_is_clipped(gateway: RunningGateway) -> None:
    request = pb.CancelUpdateRequest(
        cluster=ClusterRef(name="n" * 9000, account_id="1" * 9000, region="r" * 9000),
        update_id="u" * 9000,
        request_id="i" * 9000,
        reason="\x01" * 9000,
        ticket="t" * 9000,
    )
    assert (
        await expect_refusal(gateway.updates.CancelUpdate(request, metadata=gateway.outsider))
    ).status_and_reason == DENIED
    await wait_until(lambda: bool(list_denials(gateway.path / "ledger.db")))
    (denial,) = list_denials(gateway.path / "ledger.db")
    asked, cluster = denial.request, denial.request.ref.cluster
    why = asked.justification
    assert len(denial.policy_input["action"]["properties"]["reason"]) == 501
    assert [len(why.reason), len(why.ticket), len(asked.ref.update_id), len(denial.request_id)] == [
        *(501, 101, 65, 65)
    ]
    assert [len(cluster.account_id), len(cluster.region), len(cluster.name)] == [13, 65, 101]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("cluster.name", "staging-" + "n" * 93, id="name"),
        pytest.param("cluster.region", "us-" + "r" * 60 + "-1", id="region"),
        pytest.param("reason", "r" * 501, id="reason"),
        pytest.param("ticket", "t" * 101, id="ticket"),
        pytest.param("update_id", "u" * 65, id="update"),
        pytest.param("request_id", "i" * 65, id="request"),
    ],
)
async def test_text_over_its_limit_is_refused_for_an_allowed_caller(
    tmp_path: Path, eks: SimulatedEks, field: str, value: str
) -> None:
    """Clipping for the policy does not make it valid."""
    grant = {"clusters": ["*"], "regions": [REGION, ("us-" + "r" * 60 + "-1")[:65]], "accounts": [ACCOUNT]}
    everything = {"id": "all", "groups": ["test:oncall"], "actions": ["cancel"], "update_types": ["x"]}
    data = {"eksgateway": {"grants": [everything | grant]}}
    cluster = {"name": "staging-1"}
    request: dict[str, Any] = {"update_id": UPDATE}
    name, _, inner = field.partition(".")
    if inner:
        cluster[inner] = value
    else:
        request[name] = value
    async with run_gateway(tmp_path, eks, data=data) as gateway:
        made = pb.CancelUpdateRequest(cluster=ClusterRef(**cluster), **request)
        refusal = await expect_refusal(gateway.updates.CancelUpdate(made, metadata=gateway.oncall))
        assert (refusal.status_and_reason, set(refusal.fields)) == (
            ("INVALID_ARGUMENT", "REQUEST_INVALID"),
            {field},
        )
