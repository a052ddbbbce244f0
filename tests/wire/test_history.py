"""CancellationService: a caller's own records always, those of others by the action history."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eksgateway import errors
from eksgateway.model import Decision, Obligation
from eksgateway.policy.question import Question
from eksgateway.v1 import cancellation_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import POLICY_DATA, WHERE, RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.wire import (
    PRODUCTION,
    add_hooks,
    always_raise,
    expect_refusal,
    get_cancellation,
    list_cancellations,
)

NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
async def history(gateway: RunningGateway) -> tuple[RunningGateway, list[str]]:
    """Five cancellations, oldest first: two callers' on prod-1 and prod-2, and one on staging-1."""
    second = gateway.credentials("second", "oncall")
    ids = []
    for who, cluster in (
        (gateway.oncall, "prod-1"),
        (second, "prod-1"),
        (gateway.oncall, "prod-2"),
        (second, "prod-2"),
        (gateway.oncall, "staging-1"),
    ):
        update_id = gateway.eks.rollback(cluster, tags=PRODUCTION)
        ids.append((await gateway.cancel(cluster, update_id, who)).cancellation_id)
    return gateway, ids


async def _list_ids(here: RunningGateway, who: Any = None, **fields: Any) -> list[str]:
    page = await list_cancellations(here, who, **fields)
    return [each.cancellation_id for each in page.cancellations]


async def test_list_is_newest_first_and_filtered(history: tuple[RunningGateway, list[str]]) -> None:
    """By cluster, by caller, and by both."""
    here, ids = history
    first = ClusterRef(name="prod-1")
    assert await _list_ids(here) == ids[::-1]
    assert await _list_ids(here, cluster=first) == [ids[1], ids[0]]
    assert await _list_ids(here, caller="jwt:test:second") == [ids[3], ids[1]]
    assert await _list_ids(here, cluster=first, caller="jwt:test:second") == [ids[1]]
    assert await _list_ids(here, caller="jwt:test:nobody") == []
    assert await _list_ids(here, cluster=ClusterRef(name="prod-1", region="eu-west-1")) == []


async def test_list_pages_return_each_cancellation_once(history: tuple[RunningGateway, list[str]]) -> None:
    """The last page has no token."""
    here, ids = history
    seen, token = [], ""
    for _ in range(3):
        page = await list_cancellations(here, page_size=2, page_token=token)
        seen += [each.cancellation_id for each in page.cancellations]
        token = page.next_page_token
    assert seen == ids[::-1]
    assert token == ""


FILTERS = {
    "all": {},
    "cluster": {"cluster": ClusterRef(name="prod-1")},
    "caller": {"caller": "jwt:test:oncall"},
    "both": {"cluster": ClusterRef(name="prod-1"), "caller": "jwt:test:oncall"},
    "a cluster without any": {"cluster": ClusterRef(name="prod-9")},
    "a caller without any": {"caller": "jwt:test:nobody"},
}


@pytest.mark.parametrize("which", FILTERS.values(), ids=FILTERS)
async def test_list_without_history_returns_an_empty_page(
    history: tuple[RunningGateway, list[str]], which: dict[str, Any]
) -> None:
    """Whether there are records or not."""
    here, _ = history
    for who in (here.outsider, here.viewer):
        page = await list_cancellations(here, who, page_size=1, **which)
        assert (list(page.cancellations), page.next_page_token) == ([], "")


async def test_list_fills_pages_with_the_callers_own_records(
    history: tuple[RunningGateway, list[str]],
) -> None:
    """Records of others do not show in page sizes or tokens."""
    here, _ = history
    third, able = here.credentials("third", "viewers"), here.credentials("third", "oncall")
    mine = []
    for name in ("staging-2", "staging-3"):
        mine.append((await here.cancel(name, here.eks.rollback(name), able)).cancellation_id)
        await here.cancel("staging-9", here.eks.rollback("staging-9"))
    page = await list_cancellations(here, third, page_size=1)
    assert [each.cancellation_id for each in page.cancellations] == mine[1:]
    last = await list_cancellations(here, third, page_size=1, page_token=page.next_page_token)
    assert [each.cancellation_id for each in last.cancellations] == mine[:1]
    assert last.next_page_token == ""
    assert await _list_ids(here, third, cluster=ClusterRef(name="staging-9")) == []


async def test_list_leaves_out_rows_by_recorded_tags(tmp_path: Path, eks: SimulatedEks) -> None:
    """A next page follows."""
    data = copy.deepcopy(POLICY_DATA)
    tagged = {"tags": {"team": ["a"]}, "actions": ["history"], "groups": ["test:auditors"]}
    data["eksgateway"]["grants"].append({"id": "auditors", "clusters": ["staging-*"], **WHERE, **tagged})
    async with run_gateway(tmp_path, eks, data=data) as here:
        names = {"staging-1": "a", "staging-2": "b", "staging-3": "a"}
        ids = [
            (await here.cancel(name, eks.rollback(name, tags={"team": team}))).cancellation_id
            for name, team in names.items()
        ]
        await here.cancel("prod-1", eks.rollback("prod-1", tags=PRODUCTION))
        auditor = here.credentials("auditor", "auditors")
        seen, token = [], ""
        for _ in range(3):
            page = await list_cancellations(here, auditor, page_size=1, page_token=token)
            seen.append([each.cancellation_id for each in page.cancellations])
            token = page.next_page_token
        assert (seen, token) == ([[ids[2]], [], [ids[0]]], "")


async def test_list_page_token_is_bound_to_caller_and_filter(
    history: tuple[RunningGateway, list[str]],
) -> None:
    here, _ = history
    token = (await list_cancellations(here, page_size=1)).next_page_token
    for fields in (
        {"who": here.viewer, "page_token": token},
        {"cluster": ClusterRef(name="prod-1"), "page_token": token},
        {"caller": "jwt:test:oncall", "page_token": token},
        {"page_token": token[:-4]},
        {"page_token": "e30="},
    ):
        refusal = await expect_refusal(list_cancellations(here, **fields))
        assert refusal.status_and_reason == ("INVALID_ARGUMENT", "REQUEST_INVALID")
        assert set(refusal.fields) == {"page_token"}


@pytest.mark.parametrize("size", [-1, 101])
async def test_list_refuses_page_sizes_over_100(gateway: RunningGateway, size: int) -> None:
    refusal = await expect_refusal(list_cancellations(gateway, page_size=size))
    assert set(refusal.fields) == {"page_size"}


async def test_get_requires_an_id(gateway: RunningGateway) -> None:
    call = gateway.history.GetCancellation(pb.GetCancellationRequest(), metadata=gateway.oncall)
    refusal = await expect_refusal(call)
    assert refusal.status_and_reason == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert set(refusal.fields) == {"key"}


async def test_get_answers_missing_and_forbidden_alike(history: tuple[RunningGateway, list[str]]) -> None:
    """Equal bytes except for ids."""
    here, ids = history
    answers = set()
    for key in (ids[0], NOBODY, "", "../" + "x" * 5000, "\x00"):
        refusal = await expect_refusal(get_cancellation(here, here.viewer, cancellation_id=key))
        assert refusal.status_and_reason == ("NOT_FOUND", "CANCELLATION_NOT_FOUND")
        answers.add(refusal.masked)
    assert len(answers) == 1


class ObligingPolicy:
    """A policy engine whose allows are all under an obligation."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def decide(self, question: Question) -> Decision:
        return Decision(question.decision_id, obligations=(Obligation("mfa"),))


UNAVAILABLE = always_raise(errors.PolicyUnavailable())
OUTAGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "unavailable": (add_hooks(decide=UNAVAILABLE, check=UNAVAILABLE), "POLICY_UNAVAILABLE"),
    "obligation": (ObligingPolicy, "CANCELLATION_NOT_FOUND"),
}


@pytest.mark.parametrize(("broken", "reason"), OUTAGES.values(), ids=OUTAGES)
async def test_get_answers_missing_and_forbidden_alike_during_an_outage(
    tmp_path: Path, eks: SimulatedEks, broken: Callable[[Any], Any], reason: str
) -> None:
    """Also for an allow under obligations; own records are returned."""
    async with run_gateway(tmp_path, eks) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        told = await gateway.cancel("prod-1", update_id, request_id="one")
        issuer = gateway.issuer
    async with run_gateway(tmp_path, eks, issuer=issuer, wrap_policy=broken) as gateway:
        keys = (told.cancellation_id, NOBODY)
        answers = [
            await expect_refusal(get_cancellation(gateway, gateway.viewer, cancellation_id=key))
            for key in keys
        ]
        assert [answer.reason for answer in answers] == [reason, reason]
        assert answers[0].masked == answers[1].masked
        assert (await get_cancellation(gateway, cancellation_id=told.cancellation_id)).request_id == "one"
        assert (await get_cancellation(gateway, request_id="one")).cancellation_id == told.cancellation_id
        own = {"caller": "jwt:test:oncall"}
        assert await _list_ids(gateway, **own) == [told.cancellation_id]
        if reason == "POLICY_UNAVAILABLE":
            for which in ({}, {"cluster": ClusterRef(name="prod-1")}, own, {"caller": "jwt:test:nobody"}):
                refusal = await expect_refusal(list_cancellations(gateway, gateway.viewer, **which))
                assert refusal.reason == reason
        missing = await expect_refusal(get_cancellation(gateway, request_id="another"))
        assert missing.reason == "CANCELLATION_NOT_FOUND"


async def test_history_makes_no_eks_call(history: tuple[RunningGateway, list[str]]) -> None:
    """Decided on the recorded facts."""
    here, ids = history
    other = here.credentials("third", "oncall")
    here.eks.fault("*", times=99, code="ServerException")
    assert await _list_ids(here, other) == ids[::-1]
    assert (await get_cancellation(here, other, cancellation_id=ids[0])).cancellation_id == ids[0]
