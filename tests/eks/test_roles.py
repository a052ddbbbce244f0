"""Roles of targets with moto's STS: one session per caller, cached, renewed, and never another's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksgateway.clock import Deadline
from eksgateway.eks.adapter import BotoEks
from eksgateway.eks.clients import Clients
from eksgateway.eks.roles import Role, session_name
from eksgateway.eks.send_gate import SendGate
from eksgateway.errors import (
    DecisionStale,
    EksError,
    UpstreamCredentials,
)
from eksgateway.model import Caller, UpdateRef
from eksgateway.settings import EksSettings, TargetSettings
from support.boto_eks import ACCOUNT, CALLER, REGION, MakeEks, SkippingClock, session
from support.clock import NEVER
from support.simulator import SimulatedEks
from support.sts import Sts
from support.waiting import wait_until

ELSEWHERE = "444455556666"
ROLE = f"arn:aws:iam::{ELSEWHERE}:role/teams/eksgateway"
TOKEN = "6f0b1a52-6d57-4a9e-9a4f-0d5d0a2f8b11"
OTHER = replace(CALLER, id="spiffe://corp.example/ns/payments/sa/deploy-bot")
MINUTE = 60.0


@pytest.fixture
async def sts(moto: str, simulated_eks: SimulatedEks) -> AsyncIterator[Sts]:
    async with Sts(moto, simulated_eks.simulator.control.accounts) as here:
        yield here


def with_role(sts: Sts, **target: str) -> dict[str, str]:
    """A target in another account with a role."""
    return {"account_id": ELSEWHERE, "role_arn": ROLE, "sts_endpoint_url": sts.url, **target}


@pytest.fixture
def eks(make_eks: MakeEks, sts: Sts) -> BotoEks:
    return make_eks(targets=[with_role(sts)])


def rollback(simulated_eks: SimulatedEks, region: str = REGION) -> UpdateRef:
    """A cancellable update in the other account."""
    update_id = simulated_eks.rollback("blue", account_id=ELSEWHERE, region=region)
    return simulated_eks.ref("blue", update_id, ELSEWHERE, region)


async def cancel(eks: BotoEks, ref: UpdateRef, send_before: Deadline = NEVER) -> None:
    await eks.cancel_update(ref, on_behalf_of=CALLER, token=TOKEN, send_before=send_before)


# -- Names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller_id", "readable"),
    [
        ("jwt:corp:deploy-bot", "jwt.corp.deploy-bot"),
        ("jwt:corp:ann@corp.example", "jwt.corp.ann@corp.example"),
        (OTHER.id, "spiffe.corp.example.ns.payments.sa.deploy-bot"),
        ("jwt:corp:" + "x" * 300, "jwt.corp." + "x" * 38),
        ("jwt:corp:Zoë Ü", "jwt.corp.Zo."),
        ("jwt:corp:\ud800", "jwt.corp."),
    ],
    ids=["jwt", "mail", "spiffe", "long", "not-ascii", "half-a-character"],
)
def test_session_name_keeps_the_readable_part_of_the_callers_id(caller_id: str, readable: str) -> None:
    name = session_name(replace(CALLER, id=caller_id))
    assert name.startswith(f"{readable}-")
    assert len(name) - len(readable) == 17
    assert len(name) <= 64


def test_session_name_of_the_gateway_is_no_callers() -> None:
    assert session_name(None) == "eksgateway"
    assert session_name(replace(CALLER, id="eksgateway")) != "eksgateway"


NAMED = st.builds(lambda text: replace(CALLER, id=text), st.text(min_size=1))


@given(one=NAMED, other=NAMED)
def test_session_name_is_valid_and_unique_per_caller(one: Caller, other: Caller) -> None:
    """It matches the pattern of RoleSessionName."""
    names = session_name(one), session_name(other)
    assert all(len(name) <= 64 and not set(name) - TAKEN for name in names)
    assert (names[0] == names[1]) == (one.id == other.id)


TAKEN = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=,.@-")


# -- Callers ---------------------------------------------------------------------------------------


async def test_a_call_assumes_the_role_in_the_session_of_its_caller(
    simulated_eks: SimulatedEks, eks: BotoEks, sts: Sts
) -> None:
    ref = rollback(simulated_eks)
    await cancel(eks, ref)
    (request,) = sts.requests
    assert request["Action"] == "AssumeRole"
    assert (request["RoleArn"], request["DurationSeconds"]) == (ROLE, "3600")
    assert "ExternalId" not in request
    (call,) = simulated_eks.calls()
    assert (call.operation, call.account_id) == ("CancelUpdate", ELSEWHERE)
    (used,) = sts.sessions
    assert call.access_key == used.access_key
    assert (await sts.identity(used))["Arn"] == (
        f"arn:aws:sts::{ELSEWHERE}:assumed-role/eksgateway/{session_name(CALLER)}"
    )


async def test_assume_role_sends_the_external_id(
    simulated_eks: SimulatedEks, make_eks: MakeEks, sts: Sts
) -> None:
    await make_eks(targets=[with_role(sts, external_id="corp:1/x")]).describe_update(rollback(simulated_eks))
    assert [each["ExternalId"] for each in sts.requests] == ["corp:1/x"]


async def test_each_call_is_signed_in_the_session_of_its_caller(
    simulated_eks: SimulatedEks, eks: BotoEks, sts: Sts
) -> None:
    """Calls for no caller use the gateway's session."""
    ref = rollback(simulated_eks)
    for caller in (CALLER, OTHER, None):
        await eks.describe_cluster(ref.cluster, on_behalf_of=caller)
        await eks.describe_update(ref, on_behalf_of=caller)
    await eks.list_updates(ref.cluster, 10, "")
    await cancel(eks, ref)
    names = [session_name(caller) for caller in (CALLER, OTHER, None)]
    assert [sts.session_name_of(call.access_key) for call in simulated_eks.calls()] == [
        *(name for name in names for _ in range(2)),
        names[2],
        names[0],
    ]
    assert [each["RoleSessionName"] for each in sts.requests] == names


async def test_concurrent_callers_keep_their_own_signatures(
    simulated_eks: SimulatedEks, eks: BotoEks, sts: Sts
) -> None:
    """They share clients and connections."""
    callers = [replace(CALLER, id=f"jwt:test:c{number}") for number in range(8)]
    ref = rollback(simulated_eks)
    refs = [replace(ref, update_id=f"{number}") for number in range(8)]

    async def look(number: int) -> None:
        with pytest.raises(EksError):  # there is no such update; its id names the caller
            await eks.describe_update(refs[number], on_behalf_of=callers[number])

    await asyncio.gather(*(look(number) for number in range(8) for _ in range(4)))
    calls = simulated_eks.calls()
    assert len(calls) == 32
    for call in calls:
        assert sts.session_name_of(call.access_key) == session_name(callers[int(call.update_id or "")])
    assert len(sts.requests) == 8


async def test_a_call_without_session_credentials_is_not_sent(
    simulated_eks: SimulatedEks, sts: Sts, clock: SkippingClock
) -> None:
    """The gateway's own credentials do not replace those of a role's session."""
    target = {"region": REGION, "endpoint_url": simulated_eks.url, **with_role(sts)}
    settings = EksSettings.model_validate({"targets": [target]})
    clients = Clients(settings, SendGate(clock), clock, session())
    pair = clients.of(settings.home)
    with pytest.raises(AttributeError):
        await asyncio.to_thread(lambda: pair.reads.describe_cluster(name="blue"))
    clients.close()
    assert simulated_eks.calls() == ()


async def test_each_target_is_called_in_its_account_and_region(
    simulated_eks: SimulatedEks, make_eks: MakeEks, sts: Sts
) -> None:
    """The home target without a role does not ask STS."""
    eks = make_eks(targets=[{}, with_role(sts), with_role(sts, region="eu-west-1")])
    home = simulated_eks.ref("blue", simulated_eks.rollback("blue"))
    for ref in (home, rollback(simulated_eks), rollback(simulated_eks, "eu-west-1")):
        await cancel(eks, ref)
    assert [(call.account_id, call.region) for call in simulated_eks.calls()] == [
        (ACCOUNT, REGION),
        (ELSEWHERE, REGION),
        (ELSEWHERE, "eu-west-1"),
    ]
    assert simulated_eks.calls()[0].access_key == f"AKIA{ACCOUNT}"
    assert [(each["RoleArn"], each["Region"]) for each in sts.requests] == [
        (ROLE, REGION),
        (ROLE, "eu-west-1"),
    ]


# -- Kept and renewed ------------------------------------------------------------------------------


async def test_concurrent_cancels_of_one_caller_ask_sts_once(
    simulated_eks: SimulatedEks, eks: BotoEks, sts: Sts
) -> None:
    ref = rollback(simulated_eks)
    sts.open.clear()
    first = [asyncio.create_task(eks.describe_update(ref, on_behalf_of=CALLER)) for _ in range(6)]
    await wait_until(lambda: sts.requests != [])
    sts.open.set()
    await asyncio.gather(*first)
    await asyncio.gather(*(cancel(eks, ref) for _ in range(20)))
    assert len(sts.requests) == 1
    assert len(simulated_eks.calls()) == 26


async def test_a_session_is_renewed_before_it_ends(
    simulated_eks: SimulatedEks, eks: BotoEks, sts: Sts, clock: SkippingClock
) -> None:
    """After three quarters of its hour. Other calls do not wait for the renewal."""
    ref = rollback(simulated_eks)
    await cancel(eks, ref)
    skip(clock, sts, 44 * MINUTE)
    await cancel(eks, ref)
    assert len(sts.requests) == 1
    skip(clock, sts, 2 * MINUTE)
    sts.open.clear()
    renewing = asyncio.create_task(eks.describe_update(ref, on_behalf_of=CALLER))
    await wait_until(lambda: len(sts.requests) == 2)
    await cancel(eks, ref)
    sts.open.set()
    await renewing
    await cancel(eks, ref)
    assert len(sts.requests) == 2
    old, new = sts.sessions
    keys = [call.access_key for call in simulated_eks.calls("CancelUpdate")]
    assert keys == [old.access_key, old.access_key, old.access_key, new.access_key]


async def test_a_session_is_used_while_its_renewal_fails(
    simulated_eks: SimulatedEks, eks: BotoEks, sts: Sts, clock: SkippingClock
) -> None:
    """Until shortly before its end."""
    ref = rollback(simulated_eks)
    await cancel(eks, ref)
    sts.fault = (403, "AccessDenied")
    skip(clock, sts, 46 * MINUTE)
    await cancel(eks, ref)
    skip(clock, sts, 5 * MINUTE)
    with pytest.raises(UpstreamCredentials):
        await cancel(eks, ref)
    assert len(sts.requests) == 3
    sts.fault = None
    skip(clock, sts, 2)
    await cancel(eks, ref)
    assert len(simulated_eks.calls()) == 3


def skip(clock: SkippingClock, sts: Sts, seconds: float) -> None:
    """Let time pass, for the gateway and for STS."""
    clock.ahead += seconds
    sts.ahead_s += seconds


class CountingSts:
    """Stands in for an STS client; records the session names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def assume_role(self, **params: Any) -> dict[str, Any]:
        self.names.append(params["RoleSessionName"])
        ends = datetime.now(UTC) + timedelta(hours=1)
        return {
            "Credentials": {
                "AccessKeyId": f"key of {params['RoleSessionName']}",
                "SecretAccessKey": "s",
                "SessionToken": "t",
                "Expiration": ends,
            }
        }


def test_the_least_recently_used_session_is_dropped(clock: SkippingClock) -> None:
    sts = CountingSts()
    target = TargetSettings(account_id=ELSEWHERE, region=REGION, role_arn=ROLE)
    role = Role(target, cast(Any, sts), clock, cache_size=2)
    callers = {name: replace(CALLER, id=name) for name in "abc"}
    for name in "abacab":  # c takes the place of b, and b then that of c
        role.keys(callers[name])
    assert [name[0] for name in sts.names] == ["a", "b", "c", "b"]


# -- Failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ((403, "AccessDenied"), UpstreamCredentials),
        ((400, "ValidationError"), UpstreamCredentials),
        ((403, "RegionDisabledException"), UpstreamCredentials),
        ((403, "ExpiredToken"), UpstreamCredentials),
        ((400, "Throttling"), UpstreamCredentials),
        ((503, "ServiceUnavailable"), UpstreamCredentials),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
async def test_a_cancel_without_a_session_is_not_sent(
    simulated_eks: SimulatedEks,
    eks: BotoEks,
    sts: Sts,
    *,
    clock: SkippingClock,
    fault: tuple[int, str],
    expected: type[EksError],
) -> None:
    ref = rollback(simulated_eks)
    sts.fault = fault
    for call in (cancel(eks, ref), eks.describe_update(ref, on_behalf_of=CALLER)):
        with pytest.raises(EksError) as raised:
            await call
        assert type(raised.value) is expected
        clock.ahead += 2
    assert simulated_eks.calls() == ()
    sts.fault = None
    await cancel(eks, ref)


async def test_a_silent_sts_times_out_without_sending_the_cancel(
    simulated_eks: SimulatedEks, make_eks: MakeEks, sts: Sts
) -> None:
    eks = make_eks(targets=[with_role(sts)], read_timeout_s=0.2)
    ref = rollback(simulated_eks)
    sts.open.clear()
    with pytest.raises(UpstreamCredentials):
        await cancel(eks, ref)
    with pytest.raises(UpstreamCredentials):
        await eks.describe_update(ref)
    assert simulated_eks.calls() == ()


async def test_a_refusal_of_sts_is_logged_and_not_returned(
    simulated_eks: SimulatedEks, eks: BotoEks, sts: Sts
) -> None:
    sts.fault = (403, "AccessDenied")
    with pytest.raises(UpstreamCredentials) as refused:
        await cancel(eks, rollback(simulated_eks))
    assert ROLE in refused.value.detail
    assert refused.value.detail.startswith("AssumeRole: ClientError AccessDenied")
    assert ROLE not in refused.value.message + str(refused.value.metadata)


async def test_an_sts_out_of_reach_sends_nothing(
    simulated_eks: SimulatedEks, make_eks: MakeEks, sts: Sts
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UpstreamCredentials):
            await cancel(make_eks(targets=[with_role(sts, sts_endpoint_url=url)]), rollback(simulated_eks))
    assert simulated_eks.calls() == ()


async def test_callers_that_wait_share_one_failure_of_sts(
    simulated_eks: SimulatedEks, eks: BotoEks, sts: Sts, clock: SkippingClock
) -> None:
    """STS is asked again after a pause."""
    ref = rollback(simulated_eks)
    sts.fault = (403, "AccessDenied")
    sts.open.clear()
    waiting = [asyncio.create_task(eks.describe_update(ref, on_behalf_of=CALLER)) for _ in range(8)]
    await wait_until(lambda: sts.requests != [])
    sts.open.set()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [UpstreamCredentials] * 8
    assert len(sts.requests) == 1
    sts.fault = None
    clock.ahead += 2
    await eks.describe_update(ref, on_behalf_of=CALLER)


async def test_a_cancel_is_not_sent_late_after_a_slow_sts(
    simulated_eks: SimulatedEks, eks: BotoEks, sts: Sts, clock: SkippingClock
) -> None:
    ref = rollback(simulated_eks)
    sts.open.clear()
    sending = asyncio.create_task(cancel(eks, ref, send_before=Deadline.after(clock, 10)))
    await wait_until(lambda: sts.requests != [])
    clock.ahead += 11
    sts.open.set()
    with pytest.raises(DecisionStale):
        await sending
    assert simulated_eks.calls() == ()


async def test_a_failing_sts_of_one_target_does_not_affect_another(
    simulated_eks: SimulatedEks, make_eks: MakeEks, sts: Sts
) -> None:
    eks = make_eks(targets=[{}, with_role(sts)])
    sts.fault = (403, "AccessDenied")
    with pytest.raises(UpstreamCredentials):
        await cancel(eks, rollback(simulated_eks))
    await cancel(eks, simulated_eks.ref("blue", simulated_eks.rollback("blue")))
