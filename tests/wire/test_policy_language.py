"""The conditions of grants and denials, with real tokens, live tags and open streams."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from eksgateway.ledger.codec import decode
from eksgateway.ledger.inspection import read_denials, read_events
from eksgateway.model import Claim, Intent
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.v1 import update_service_pb2 as pb
from support.changing_policy import Serve, run_opa_with_bundle, run_wasm
from support.gateway import EVERY_ACTION, POLICY_DATA, WHERE, RunningGateway, run_gateway
from support.opa import POLICIES
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import expect_refusal, get_cancellation

Data = dict[str, Any]
DENIED = ("PERMISSION_DENIED", "POLICY_DENIED")
SOON_S = 25.0  # from a change to the end of a stream: 5 s, and more on a loaded machine
CANCEL = {**WHERE, "actions": EVERY_ACTION, "clusters": ["*"], "update_types": ["VersionRollback"]}


def with_grants(*grants: Data) -> Data:
    return {"eksgateway": {"grants": list(grants)}}


def replace_data(gateway: RunningGateway, data: Data) -> None:
    """As an operator replaces the file."""
    beside = gateway.path / "data.new"
    beside.write_text(yaml.safe_dump(data))
    beside.replace(gateway.path / "data.yaml")


async def read_to_error(stream: Any) -> Any:
    async def rest() -> None:
        while True:
            assert (await stream.read()).kind == pb.WATCH_KIND_HEARTBEAT

    return await expect_refusal(rest())


@pytest.mark.parametrize("serve", [run_wasm, run_opa_with_bundle])
async def test_an_added_denial_ends_its_streams_with_its_reason(
    tmp_path: Path, eks: SimulatedEks, serve: Serve
) -> None:
    """It beats the grants at once; other callers' streams go on."""
    update_id = eks.rollback("staging-1")
    data = copy.deepcopy(POLICY_DATA)
    reason = "The key of this robot has leaked, see INC-7."
    data["eksgateway"]["denials"] = [{"id": "stop", "subjects": ["jwt:test:oncall"], "reason": reason}]
    sentence = f"Denial stop forbids this: {reason}"
    async with (
        serve(tmp_path, POLICIES / "eksgateway", POLICY_DATA) as policy,
        run_gateway(tmp_path, eks, policy=policy.engine) as gateway,
    ):
        await policy.engine.check()
        viewing = gateway.watch("staging-1", update_id, gateway.viewer)
        stopped = gateway.watch("staging-1", update_id)
        for stream in (viewing, stopped):
            assert (await stream.read()).kind == pb.WATCH_KIND_SNAPSHOT
        async with asyncio.timeout(SOON_S):
            await asyncio.to_thread(policy.change, data)
            error = await read_to_error(stopped)
        assert (error.status_and_reason, error.metadata["reasons"]) == (DENIED, sentence)
        assert error.metadata["rule_ids"] == "stop"
        again = await expect_refusal(gateway.cancel("staging-1", update_id))
        assert again.metadata["reasons"] == sentence
        gateway.eks.set_update("staging-1", update_id, status="Paused")
        while (message := await viewing.read()).kind == pb.WATCH_KIND_HEARTBEAT:
            pass
        assert message.update.status == "Paused"
        viewing.cancel()
    assert not eks.calls("CancelUpdate")


CI = {
    **CANCEL,
    "id": "ci",
    "groups": ["test:ci"],
    "claims": {"repository": ["corp/infra", "corp/app-*"], "environment": ["production"]},
}


@asynccontextmanager
async def run_with_claims(path: Path, eks: SimulatedEks, data: Data) -> AsyncIterator[RunningGateway]:
    """The issuer's tokens have two claims for the policy, one of them nested."""
    issuer = ThrowawayIssuer("test")
    claims = {"repository": "repository", "environment": ["run", "environment"]}
    settings = issuer.settings(path / "jwks.json").model_dump() | {"claims": claims}
    identity = {"jwt": {"issuers": [settings]}}
    async with run_gateway(path, eks, data=data, issuer=issuer, identity=identity) as gateway:
        yield gateway


REFUSED_CLAIMS: dict[str, tuple[Data, str]] = {
    "another repository": (
        {"repository": "corp/web", "run": {"environment": "production"}},
        "Grant ci asks for the token's claim repository to be corp/infra or corp/app-*.",
    ),
    "a pattern over a slash": (
        {"repository": "corp/app-/x", "run": {"environment": "production"}},
        "Grant ci asks for the token's claim repository to be corp/infra or corp/app-*.",
    ),
    "no environment": (
        {"repository": "corp/infra"},
        "Grant ci asks for the token's claim environment to be production.",
    ),
    "an object": (
        {"repository": "corp/infra", "run": {"environment": {"production": True}}},
        "Grant ci asks for the token's claim environment to be production.",
    ),
    "a claim of another place": (
        {"repository": "corp/infra", "environment": "production"},
        "Grant ci asks for the token's claim environment to be production.",
    ),
}


async def test_claims_of_a_signed_token_allow_and_deny(tmp_path: Path, eks: SimulatedEks) -> None:
    """One caller with several tokens gets what each token has."""
    update_id = eks.rollback("prod-1")
    good = {"repository": "corp/app-7", "run": {"environment": ["staging", "production"]}}
    async with run_with_claims(tmp_path, eks, with_grants(CI)) as gateway:
        for claims, reason in REFUSED_CLAIMS.values():
            who = gateway.credentials("robot", "ci", **claims)
            for _ in range(2):  # the second time from the cache of verified tokens
                error = await expect_refusal(gateway.cancel("prod-1", update_id, who))
                assert (error.status_and_reason, error.metadata["reasons"]) == (DENIED, reason)
        assert not eks.calls()
        who = gateway.credentials("robot", "ci", **good)
        told = await gateway.cancel("prod-1", update_id, who)
        assert list(told.decision.rule_ids) == ["ci"]
        assert "app-7" not in str(await get_cancellation(gateway, who, cancellation_id=told.cancellation_id))
        ledger = gateway.path / "ledger.db"
        await wait_until(lambda: len(list(read_denials(ledger))) == 2 * len(REFUSED_CLAIMS))
    (intent,) = [decode(Intent, each.body) for each in read_events(ledger) if each.kind == "intent"]
    assert intent.caller.claims == (
        Claim("environment", ("staging", "production")),
        Claim("repository", ("corp/app-7",)),
    )
    first = next(iter(read_denials(ledger)))
    assert first.policy_input["subject"]["properties"]["claims"]["repository"] == ["corp/web"]


async def test_a_stream_follows_the_claims_of_its_own_token(tmp_path: Path, eks: SimulatedEks) -> None:
    """Two streams of one caller, of which a new policy allows one."""
    update_id = eks.rollback("prod-1")
    wide = CI | {"claims": {"repository": ["corp/*"]}}
    narrow = CI | {"claims": {"repository": ["corp/infra"]}}
    async with run_with_claims(tmp_path, eks, with_grants(wide)) as gateway:
        streams = {
            name: gateway.watch(
                "prod-1", update_id, gateway.credentials("robot", "ci", repository=f"corp/{name}")
            )
            for name in ("infra", "web")
        }
        for stream in streams.values():
            assert (await stream.read()).kind == pb.WATCH_KIND_SNAPSHOT
        async with asyncio.timeout(SOON_S):
            replace_data(gateway, with_grants(narrow))
            error = await read_to_error(streams["web"])
        assert error.metadata["reasons"] == "Grant ci asks for the token's claim repository to be corp/infra."
        gateway.eks.set_update("prod-1", update_id, status="Paused")
        while (message := await streams["infra"].read()).kind == pb.WATCH_KIND_HEARTBEAT:
            pass
        assert message.update.status == "Paused"
        streams["infra"].cancel()


async def test_dropped_values_of_claims_are_counted(tmp_path: Path, eks: SimulatedEks) -> None:
    """By issuer and claim, once for each token."""
    async with run_with_claims(tmp_path, eks, with_grants(CI)) as gateway:
        who = gateway.credentials("robot", "ci", repository=["corp/infra", {}, "a\u00a0b"])
        for _ in range(2):
            await expect_refusal(gateway.cancel("prod-1", "u-1", who))
        registry, labels = gateway.gateway.metrics.registry, {"issuer": "test", "claim": "repository"}
        assert registry.get_sample_value("eksgateway_identity_claims_dropped_total", labels) == 2


async def test_a_ticket_must_fit_a_pattern(tmp_path: Path, eks: SimulatedEks) -> None:
    """Nothing is sent for other tickets."""
    update_id = eks.rollback("prod-1")
    patterns = ["OPS-#", "https://tickets.corp.example/browse/*"]
    grant = CANCEL | {"id": "oncall", "groups": ["test:oncall"], "ticket_patterns": patterns}
    reason = f"Grant oncall asks for a ticket like {' or '.join(patterns)}."
    async with run_gateway(tmp_path, eks, data=with_grants(grant)) as gateway:
        for ticket in (
            "",
            "OPS-",
            "OPS-1x",
            "XOPS-1",
            "ops-1",
            "OPS-\u0661",
            "https://tickets.corp.example/browse/a/b",
        ):
            error = await expect_refusal(gateway.cancel("prod-1", update_id, ticket=ticket))
            assert (error.status_and_reason, error.metadata["reasons"]) == (DENIED, reason), ticket
        assert not eks.calls()
        assert (await gateway.cancel("prod-1", update_id, ticket="OPS-123")).ticket == "OPS-123"


TEAM = CANCEL | {"id": "team", "groups": ["test:*"], "group_tags": {"team": "test:*"}}


@pytest.mark.parametrize(
    "tags",
    [{}, {"team": ""}, {"team": "search"}, {"Team": "payments"}, {"team": "payments-eu"}, {"team": "*"}],
)
async def test_live_tags_must_name_a_group_of_the_caller(
    tmp_path: Path, eks: SimulatedEks, tags: dict[str, str]
) -> None:
    """The tags are those that EKS describes."""
    own, other = eks.rollback("c-1", tags={"team": "payments"}), eks.rollback("c-2", tags=tags)
    async with run_gateway(tmp_path, eks, data=with_grants(TEAM)) as gateway:
        who = gateway.credentials("pia", "payments", "berlin")
        error = await expect_refusal(gateway.cancel("c-2", other, who))
        assert error.status_and_reason == DENIED
        assert (
            error.metadata["reasons"]
            == "Grant team asks for the cluster's tag team to name one of your groups."
        )
        assert not eks.calls("CancelUpdate")
        assert list((await gateway.cancel("c-1", own, who)).decision.rule_ids) == ["team"]
