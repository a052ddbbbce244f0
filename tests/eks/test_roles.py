"""Roles of targets, with moto's STS: a session per caller, kept, renewed in time, and never another's."""

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

from eksgateway.eks.adapter import BotoEks
from eksgateway.eks.clients import Clients
from eksgateway.eks.gate import SendGate
from eksgateway.eks.roles import Role, session_name
from eksgateway.errors import (
    DecisionStale,
    EksError,
    UpstreamCredentials,
)
from eksgateway.model import Caller, UpdateRef
from eksgateway.settings import EksSettings, TargetSettings
from support.boto_eks import ACCOUNT, CALLER, REGION, MakeEks, SkippingClock, session
from support.gateway import until
from support.simulator import SimulatedEks
from support.sts import Sts

ELSEWHERE = "444455556666"
ROLE = f"arn:aws:iam::{ELSEWHERE}:role/teams/eksgateway"
TOKEN = "6f0b1a52-6d57-4a9e-9a4f-0d5d0a2f8b11"
NEVER = float("inf")
OTHER = replace(CALLER, id="spiffe://corp.example/ns/payments/sa/deploy-bot")
MINUTE = 60.0


@pytest.fixture
async def sts(moto: str, simulated: SimulatedEks) -> AsyncIterator[Sts]:
    async with Sts(moto, simulated.simulator.control.accounts) as here:
        yield here


def through(sts: Sts, **target: str) -> dict[str, str]:
    """A target in another account, reached through a role."""
    return {"account_id": ELSEWHERE, "role_arn": ROLE, "sts_endpoint_url": sts.url, **target}


@pytest.fixture
def eks(make_eks: MakeEks, sts: Sts) -> BotoEks:
    return make_eks(targets=[through(sts)])


def rollback(simulated: SimulatedEks, region: str = REGION) -> UpdateRef:
    """An update that can be cancelled, in the other account."""
    update_id = simulated.rollback("blue", account_id=ELSEWHERE, region=region)
    return simulated.ref("blue", update_id, ELSEWHERE, region)


async def cancel(eks: BotoEks, ref: UpdateRef, send_before: float = NEVER) -> None:
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
def test_a_session_is_named_readably(caller_id: str, readable: str) -> None:
    """Whoever reads CloudTrail sees who it was, as far as AWS takes the name."""
    name = session_name(replace(CALLER, id=caller_id))
    assert name.startswith(f"{readable}-")
    assert len(name) - len(readable) == 17
    assert len(name) <= 64


def test_the_gateways_own_session_has_its_name() -> None:
    """And no caller's is like it."""
    assert session_name(None) == "eksgateway"
    assert session_name(replace(CALLER, id="eksgateway")) != "eksgateway"


NAMED = st.builds(lambda text: replace(CALLER, id=text), st.text(min_size=1))


@given(one=NAMED, other=NAMED)
def test_names_are_what_aws_takes_and_keep_callers_apart(one: Caller, other: Caller) -> None:
    """The pattern of RoleSessionName, in ASCII; the same caller has the same name, and no other has it."""
    names = session_name(one), session_name(other)
    assert all(len(name) <= 64 and not set(name) - TAKEN for name in names)
    assert (names[0] == names[1]) == (one.id == other.id)


TAKEN = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=,.@-")


# -- Who asks for what -----------------------------------------------------------------------------


async def test_the_role_is_assumed_with_the_caller_in_its_session(
    simulated: SimulatedEks, eks: BotoEks, sts: Sts
) -> None:
    """Role, name and duration reach STS, which says of the credentials used what CloudTrail shows."""
    ref = rollback(simulated)
    await cancel(eks, ref)
    (asked,) = sts.asked
    assert asked["Action"] == "AssumeRole"
    assert (asked["RoleArn"], asked["DurationSeconds"]) == (ROLE, "3600")
    assert "ExternalId" not in asked
    (call,) = simulated.calls()
    assert (call.operation, call.account_id) == ("CancelUpdate", ELSEWHERE)
    (used,) = sts.sessions
    assert call.access_key == used.access_key
    assert (await sts.identity(used))["Arn"] == (
        f"arn:aws:sts::{ELSEWHERE}:assumed-role/eksgateway/{session_name(CALLER)}"
    )


async def test_the_external_id_is_sent(simulated: SimulatedEks, make_eks: MakeEks, sts: Sts) -> None:
    """As the target's settings have it."""
    await make_eks(targets=[through(sts, external_id="corp:1/x")]).describe_update(rollback(simulated))
    assert [each["ExternalId"] for each in sts.asked] == ["corp:1/x"]


async def test_each_caller_has_a_session_and_the_gateway_its_own(
    simulated: SimulatedEks, eks: BotoEks, sts: Sts
) -> None:
    """Every operation is signed for whom it is made; without a caller it is the gateway's."""
    ref = rollback(simulated)
    for caller in (CALLER, OTHER, None):
        await eks.describe_cluster(ref.cluster, on_behalf_of=caller)
        await eks.describe_update(ref, on_behalf_of=caller)
    await eks.list_updates(ref.cluster, 10, "")
    await cancel(eks, ref)
    names = [session_name(caller) for caller in (CALLER, OTHER, None)]
    assert [sts.who(call.access_key) for call in simulated.calls()] == [
        *(name for name in names for _ in range(2)),
        names[2],
        names[0],
    ]
    assert [each["RoleSessionName"] for each in sts.asked] == names


async def test_many_callers_at_once_are_never_taken_for_each_other(
    simulated: SimulatedEks, eks: BotoEks, sts: Sts
) -> None:
    """They share clients and connections, and each call still has its caller's signature."""
    callers = [replace(CALLER, id=f"jwt:test:c{number}") for number in range(8)]
    ref = rollback(simulated)
    refs = [replace(ref, update_id=f"{number}") for number in range(8)]

    async def look(number: int) -> None:
        with pytest.raises(EksError):  # there is no such update; its id says for whom it was asked
            await eks.describe_update(refs[number], on_behalf_of=callers[number])

    await asyncio.gather(*(look(number) for number in range(8) for _ in range(4)))
    calls = simulated.calls()
    assert len(calls) == 32
    for call in calls:
        assert sts.who(call.access_key) == session_name(callers[int(call.update_id or "")])
    assert len(sts.asked) == 8


async def test_a_call_that_says_nobody_is_not_made(
    simulated: SimulatedEks, sts: Sts, clock: SkippingClock
) -> None:
    """The gateway's own credentials never stand in for a role's session."""
    target = {"region": REGION, "endpoint_url": simulated.url, **through(sts)}
    settings = EksSettings.model_validate({"targets": [target]})
    clients = Clients(settings, SendGate(clock), clock, session())
    pair = clients.of(settings.home)
    with pytest.raises(AttributeError):
        await asyncio.to_thread(lambda: pair.reads.describe_cluster(name="blue"))
    clients.close()
    assert simulated.calls() == ()


async def test_targets_are_kept_apart_on_the_wire(
    simulated: SimulatedEks, make_eks: MakeEks, sts: Sts
) -> None:
    """Each in its account and region, with its own sessions; the home target without a role asks no STS."""
    eks = make_eks(targets=[{}, through(sts), through(sts, region="eu-west-1")])
    home = simulated.ref("blue", simulated.rollback("blue"))
    for ref in (home, rollback(simulated), rollback(simulated, "eu-west-1")):
        await cancel(eks, ref)
    assert [(call.account_id, call.region) for call in simulated.calls()] == [
        (ACCOUNT, REGION),
        (ELSEWHERE, REGION),
        (ELSEWHERE, "eu-west-1"),
    ]
    assert simulated.calls()[0].access_key == f"AKIA{ACCOUNT}"
    assert [(each["RoleArn"], each["Region"]) for each in sts.asked] == [(ROLE, REGION), (ROLE, "eu-west-1")]


# -- Kept and renewed ------------------------------------------------------------------------------


async def test_many_cancels_ask_sts_once(simulated: SimulatedEks, eks: BotoEks, sts: Sts) -> None:
    """Those that come while it is asked wait for its answer."""
    ref = rollback(simulated)
    sts.open.clear()
    first = [asyncio.create_task(eks.describe_update(ref, on_behalf_of=CALLER)) for _ in range(6)]
    await until(lambda: sts.asked != [])
    sts.open.set()
    await asyncio.gather(*first)
    await asyncio.gather(*(cancel(eks, ref) for _ in range(20)))
    assert len(sts.asked) == 1
    assert len(simulated.calls()) == 26


async def test_a_session_is_renewed_before_it_ends(
    simulated: SimulatedEks, eks: BotoEks, sts: Sts, clock: SkippingClock
) -> None:
    """Kept for three quarters of its hour, then renewed; meanwhile nobody else waits for that."""
    ref = rollback(simulated)
    await cancel(eks, ref)
    skip(clock, sts, 44 * MINUTE)
    await cancel(eks, ref)
    assert len(sts.asked) == 1
    skip(clock, sts, 2 * MINUTE)
    sts.open.clear()
    renewing = asyncio.create_task(eks.describe_update(ref, on_behalf_of=CALLER))
    await until(lambda: len(sts.asked) == 2)
    await cancel(eks, ref)
    sts.open.set()
    await renewing
    await cancel(eks, ref)
    assert len(sts.asked) == 2
    old, new = sts.sessions
    keys = [call.access_key for call in simulated.calls("CancelUpdate")]
    assert keys == [old.access_key, old.access_key, old.access_key, new.access_key]


async def test_while_a_session_is_good_sts_may_be_gone(
    simulated: SimulatedEks, eks: BotoEks, sts: Sts, clock: SkippingClock
) -> None:
    """A renewal that fails early is tried again and disturbs nobody; near the end there is no going on."""
    ref = rollback(simulated)
    await cancel(eks, ref)
    sts.fault = (403, "AccessDenied")
    skip(clock, sts, 46 * MINUTE)
    await cancel(eks, ref)
    skip(clock, sts, 5 * MINUTE)
    with pytest.raises(UpstreamCredentials):
        await cancel(eks, ref)
    assert len(sts.asked) == 3
    sts.fault = None
    skip(clock, sts, 2)
    await cancel(eks, ref)
    assert len(simulated.calls()) == 3


def skip(clock: SkippingClock, sts: Sts, seconds: float) -> None:
    """Let time pass, for the gateway and for STS."""
    clock.ahead += seconds
    sts.ahead_s += seconds


class CountingSts:
    """Stands in for an STS client; knows for which names it was asked."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def assume_role(self, **asked: Any) -> dict[str, Any]:
        self.names.append(asked["RoleSessionName"])
        ends = datetime.now(UTC) + timedelta(hours=1)
        return {
            "Credentials": {
                "AccessKeyId": f"key of {asked['RoleSessionName']}",
                "SecretAccessKey": "s",
                "SessionToken": "t",
                "Expiration": ends,
            }
        }


def test_sessions_are_bounded(clock: SkippingClock) -> None:
    """The one used least recently is let go, and asked for again when its caller comes back."""
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
async def test_without_a_session_nothing_is_sent(
    simulated: SimulatedEks,
    eks: BotoEks,
    sts: Sts,
    *,
    clock: SkippingClock,
    fault: tuple[int, str],
    expected: type[EksError],
) -> None:
    """A cancel then certainly was not sent, and may be sent later; who refuses is told from who is away."""
    ref = rollback(simulated)
    sts.fault = fault
    for call in (cancel(eks, ref), eks.describe_update(ref, on_behalf_of=CALLER)):
        with pytest.raises(EksError) as raised:
            await call
        assert type(raised.value) is expected
        clock.ahead += 2
    assert simulated.calls() == ()
    sts.fault = None
    await cancel(eks, ref)


async def test_a_silent_sts(simulated: SimulatedEks, make_eks: MakeEks, sts: Sts) -> None:
    """Waited for no longer than EKS would be: nothing was sent, and the caller is told that it is STS."""
    eks = make_eks(targets=[through(sts)], read_timeout_s=0.2)
    ref = rollback(simulated)
    sts.open.clear()
    with pytest.raises(UpstreamCredentials):
        await cancel(eks, ref)
    with pytest.raises(UpstreamCredentials):
        await eks.describe_update(ref)
    assert simulated.calls() == ()


async def test_a_refusal_names_the_role_for_the_operator_only(
    simulated: SimulatedEks, eks: BotoEks, sts: Sts
) -> None:
    """AWS's sentence goes to the log; the caller is told that it did nothing wrong."""
    sts.fault = (403, "AccessDenied")
    with pytest.raises(UpstreamCredentials) as refused:
        await cancel(eks, rollback(simulated))
    assert ROLE in refused.value.detail
    assert refused.value.detail.startswith("AssumeRole: ClientError AccessDenied")
    assert ROLE not in refused.value.message + str(refused.value.metadata)


async def test_nobody_listens_where_sts_should_be(
    simulated: SimulatedEks, make_eks: MakeEks, sts: Sts
) -> None:
    """A connection that is never made: certainly nothing was sent."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UpstreamCredentials):
            await cancel(make_eks(targets=[through(sts, sts_endpoint_url=url)]), rollback(simulated))
    assert simulated.calls() == ()


async def test_who_waited_for_a_failure_does_not_wait_for_another(
    simulated: SimulatedEks, eks: BotoEks, sts: Sts, clock: SkippingClock
) -> None:
    """One question to STS is enough for all who need its answer; a moment later it is asked again."""
    ref = rollback(simulated)
    sts.fault = (403, "AccessDenied")
    sts.open.clear()
    waiting = [asyncio.create_task(eks.describe_update(ref, on_behalf_of=CALLER)) for _ in range(8)]
    await until(lambda: sts.asked != [])
    sts.open.set()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [UpstreamCredentials] * 8
    assert len(sts.asked) == 1
    sts.fault = None
    clock.ahead += 2
    await eks.describe_update(ref, on_behalf_of=CALLER)


async def test_a_slow_sts_does_not_carry_a_cancel_past_its_time(
    simulated: SimulatedEks, eks: BotoEks, sts: Sts, clock: SkippingClock
) -> None:
    """The look at the clock comes after the role was assumed."""
    ref = rollback(simulated)
    sts.open.clear()
    sending = asyncio.create_task(cancel(eks, ref, send_before=clock.monotonic() + 10))
    await until(lambda: sts.asked != [])
    clock.ahead += 11
    sts.open.set()
    with pytest.raises(DecisionStale):
        await sending
    assert simulated.calls() == ()


async def test_another_targets_sts_is_of_no_matter(
    simulated: SimulatedEks, make_eks: MakeEks, sts: Sts
) -> None:
    """While one account's role cannot be assumed, others are served."""
    eks = make_eks(targets=[{}, through(sts)])
    sts.fault = (403, "AccessDenied")
    with pytest.raises(UpstreamCredentials):
        await cancel(eks, rollback(simulated))
    await cancel(eks, simulated.ref("blue", simulated.rollback("blue")))
