"""CancelUpdate is sent once, never late, and never reported as unsent when it may have been sent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import boto3
import botocore.session
import pytest
from botocore import exceptions as aws
from botocore.awsrequest import AWSRequest
from botocore.credentials import CredentialResolver, RefreshableCredentials
from botocore.httpsession import URLLib3Session

from eksgateway.clock import Deadline
from eksgateway.eks.adapter import BotoEks
from eksgateway.eks.error_table import translate
from eksgateway.errors import (
    DecisionStale,
    EksClientError,
    EksError,
    EksInvalidParameter,
    EksInvalidRequest,
    EksInvalidState,
    EksNoAnswer,
    EksNotFound,
    EksNotReached,
    EksResourceInUse,
    EksThrottled,
    Overloaded,
    UpstreamCredentials,
)
from eksgateway.model import ClusterRef, UpdateRef
from support.boto_eks import ACCOUNT, CALLER, REGION, MakeEks, SkippingClock, session
from support.clock import NEVER
from support.simulator import SimulatedEks
from support.waiting import wait_until

TOKEN = "6f0b1a52-6d57-4a9e-9a4f-0d5d0a2f8b11"
DEADLINE = 60.0


async def test_cancel_update_sends_the_token_once_and_returns_the_update(
    simulated_eks: SimulatedEks, eks: BotoEks
) -> None:
    ref = rollback(simulated_eks)
    update = await eks.cancel_update(ref, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER)
    assert (update.id, update.status) == (ref.update_id, "Cancelling")
    (call,) = simulated_eks.calls()
    assert (call.operation, call.cluster, call.update_id) == ("CancelUpdate", "blue", ref.update_id)
    assert (call.account_id, call.region, call.token) == (ACCOUNT, REGION, TOKEN)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 400, "code": "InvalidParameterException"}, EksInvalidParameter),
        ({"status": 400, "code": "InvalidRequestException"}, EksInvalidRequest),
        ({"status": 400, "code": "InvalidStateException"}, EksInvalidState),
        ({"status": 409, "code": "ResourceInUseException"}, EksResourceInUse),
        ({"status": 404, "code": "ResourceNotFoundException"}, EksNotFound),
        ({"status": 400, "code": "ClientException"}, EksClientError),
        ({"status": 400, "code": "ExceptionOfTomorrow"}, EksClientError),
        ({"status": 429, "code": "ThrottlingException"}, EksThrottled),
        ({"status": 400, "code": "RequestLimitExceeded"}, EksThrottled),
        ({"status": 403, "code": "AccessDeniedException"}, UpstreamCredentials),
        ({"status": 403, "code": "UnrecognizedClientException"}, UpstreamCredentials),
        ({"status": 500, "code": "ServerException"}, EksNoAnswer),
        ({"status": 500, "code": "ServerException", "effect": True}, EksNoAnswer),
        ({"status": 503, "code": "ServiceUnavailableException"}, EksNoAnswer),
        ({"status": 504}, EksNoAnswer),
        ({"status": 403}, EksNoAnswer),
        ({"status": 429, "effect": True}, EksNoAnswer),
        ({"drop": "before"}, EksNoAnswer),
        ({"drop": "after"}, EksNoAnswer),
        ({"delay_s": 1.5}, EksNoAnswer),
    ],
    ids=lambda value: "-".join(str(item) for item in value.values()) if isinstance(value, dict) else None,
)
async def test_a_failed_cancel_raises_the_error_of_the_table_after_one_try(
    simulated_eks: SimulatedEks, make_eks: MakeEks, fault: dict[str, object], expected: type[EksError]
) -> None:
    ref = rollback(simulated_eks)
    simulated_eks.fault("CancelUpdate", **fault)
    with pytest.raises(EksError) as raised:
        await make_eks(cancel_read_timeout_s=0.3 if "delay_s" in fault else 30).cancel_update(
            ref, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER
        )
    assert type(raised.value) is expected
    assert len(simulated_eks.calls()) == 1


async def test_retry_settings_of_the_environment_do_not_apply_to_a_cancel(
    simulated_eks: SimulatedEks, make_eks: MakeEks
) -> None:
    core = botocore.session.Session()
    core.set_credentials(f"AKIA{ACCOUNT}", "simulated")
    core.set_config_variable("retry_mode", "legacy")
    core.set_config_variable("max_attempts", 5)
    ref = rollback(simulated_eks)
    simulated_eks.fault("CancelUpdate", status=500, code="ServerException", times=5)
    with pytest.raises(EksNoAnswer):
        await make_eks(boto3.Session(botocore_session=core)).cancel_update(
            ref, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER
        )
    assert len(simulated_eks.calls()) == 1


async def test_a_refused_connection_is_not_reached(make_eks: MakeEks, simulated_eks: SimulatedEks) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        eks = make_eks(endpoint_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(EksNotReached):
            await eks.cancel_update(
                rollback(simulated_eks), on_behalf_of=CALLER, token=TOKEN, send_before=NEVER
            )


async def test_a_stale_decision_is_not_sent(
    simulated_eks: SimulatedEks, eks: BotoEks, clock: SkippingClock
) -> None:
    """The next cancel in time is sent."""
    ref = rollback(simulated_eks)
    for send_before in (Deadline.after(clock, 0), Deadline.after(clock, -60)):
        with pytest.raises(DecisionStale):
            await eks.cancel_update(ref, on_behalf_of=CALLER, token=TOKEN, send_before=send_before)
    assert not simulated_eks.calls()
    await eks.cancel_update(ref, on_behalf_of=CALLER, token=TOKEN, send_before=Deadline.after(clock, 60))
    assert len(simulated_eks.calls()) == 1


@pytest.mark.parametrize(
    "case",
    [((0, 61), False), ((61, -61), False), ((61, -3600), False), ((0, -3600), True), ((50, 0), True)],
    ids=["suspended", "set-back-and-late", "set-back-far-and-late", "set-back-in-time", "in-time"],
)
async def test_a_cancel_is_sent_only_while_both_clocks_allow_it(
    simulated_eks: SimulatedEks,
    eks: BotoEks,
    clock: SkippingClock,
    case: tuple[tuple[float, float], bool],
) -> None:
    """A suspended machine stops the monotonic clock, and the wall clock may be set."""
    ref = rollback(simulated_eks)
    send_before = Deadline.after(clock, 60)
    (clock.ahead, clock.wall_ahead), sent = case
    call = eks.cancel_update(ref, on_behalf_of=CALLER, token=TOKEN, send_before=send_before)
    if sent:
        await call
    else:
        with pytest.raises(DecisionStale):
            await call
    assert len(simulated_eks.calls()) == sent


async def test_a_cancel_is_not_sent_late_after_slow_credentials(
    simulated_eks: SimulatedEks, make_eks: MakeEks, clock: SkippingClock
) -> None:
    """The clock is checked after credentials and signing."""

    def slow() -> dict[str, str]:
        clock.ahead += 11
        return {
            "access_key": f"AKIA{ACCOUNT}",
            "secret_key": "simulated",
            "token": "t",
            "expiry_time": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        }

    eks = make_eks(make_session(slow))
    with pytest.raises(DecisionStale):
        await eks.cancel_update(
            rollback(simulated_eks), on_behalf_of=CALLER, token=TOKEN, send_before=Deadline.after(clock, 10)
        )
    assert not simulated_eks.calls()


def fail_with_sts_error() -> dict[str, str]:
    raise aws.ClientError(
        {"Error": {"Code": "AccessDenied", "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 403}},  # type: ignore[typeddict-item] # as parsed
        "AssumeRole",
    )


def fail_to_connect_to_sts() -> dict[str, str]:
    raise aws.ReadTimeoutError(endpoint_url="https://sts")


@pytest.mark.parametrize(
    ("refresh", "expected"),
    [(fail_with_sts_error, UpstreamCredentials), (fail_to_connect_to_sts, UpstreamCredentials)],
)
async def test_a_cancel_without_credentials_is_not_sent(
    simulated_eks: SimulatedEks,
    make_eks: MakeEks,
    refresh: Callable[[], dict[str, str]],
    expected: type[EksError],
) -> None:
    """The error is not that of an unknown outcome."""
    with pytest.raises(EksError) as raised:
        await make_eks(make_session(refresh)).cancel_update(
            rollback(simulated_eks), on_behalf_of=CALLER, token=TOKEN, send_before=NEVER
        )
    assert type(raised.value) is expected
    assert not simulated_eks.calls()


async def test_a_gateway_without_credentials_raises_upstream_credentials(
    simulated_eks: SimulatedEks, make_eks: MakeEks
) -> None:
    core = botocore.session.Session()
    core.register_component("credential_provider", CredentialResolver([]))
    with pytest.raises(UpstreamCredentials):
        await make_eks(boto3.Session(botocore_session=core)).cancel_update(
            rollback(simulated_eks), on_behalf_of=CALLER, token=TOKEN, send_before=NEVER
        )
    assert not simulated_eks.calls()


async def test_a_cancel_on_its_thread_is_sent_after_its_caller_left(
    simulated_eks: SimulatedEks, eks: BotoEks
) -> None:
    ref = rollback(simulated_eks)
    simulated_eks.fault("CancelUpdate", delay_s=0.2)
    call = asyncio.create_task(eks.cancel_update(ref, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER))
    await wait_until(lambda: len(simulated_eks.calls()) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await eks.describe_update(ref)).status == "Cancelling"


async def test_a_cancel_is_sent_while_reads_hold_their_threads(
    simulated_eks: SimulatedEks, make_eks: MakeEks
) -> None:
    eks = make_eks(threads=4, waiting=8)
    ref = rollback(simulated_eks)
    simulated_eks.fault("DescribeUpdate", times=9, delay_s=2)
    reads = [asyncio.create_task(eks.describe_update(ref)) for _ in range(9)]
    await wait_until(lambda: len(simulated_eks.calls("DescribeUpdate")) == 3)
    await eks.cancel_update(ref, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER)
    assert not any(read.done() for read in reads)
    await asyncio.gather(*reads)


async def test_a_target_that_hangs_does_not_hold_threads_of_another(
    simulated_eks: SimulatedEks, make_eks: MakeEks
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # it accepts, and sends nothing
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        targets = [{}, {"region": "eu-west-1", "endpoint_url": url}]
        eks = make_eks(targets=targets, threads=4, waiting=8)
        abroad = simulated_eks.ref("blue", "u-1", region="eu-west-1")
        hung = [asyncio.create_task(eks.describe_update(abroad, on_behalf_of=CALLER)) for _ in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await eks.describe_update(abroad, on_behalf_of=CALLER)
        ref = rollback(simulated_eks)
        assert (await eks.describe_update(ref)).status == "InProgress"
        assert not any(each.done() for each in hung)
    await asyncio.gather(*hung, return_exceptions=True)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"update": {"id": "u', b'{"update": []}', b'{"update": {"id": "u", "createdAt": "x"}}'],
    ids=["empty", "nothing", "cut-short", "wrong-shape", "wrong-time"],
)
async def test_an_unreadable_answer_to_a_cancel_raises_no_answer(make_eks: MakeEks, body: bytes) -> None:
    """EKS may have acted when its 200 arrives broken."""
    ref = UpdateRef(ClusterRef(ACCOUNT, REGION, "blue"), "u-1")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    async with serve_bytes(answer) as url:
        eks = make_eks(endpoint_url=url)
        with pytest.raises(EksNoAnswer):
            await eks.cancel_update(ref, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER)


async def test_the_user_agent_names_the_gateway_and_the_sdk(make_eks: MakeEks) -> None:
    heads: list[bytes] = []
    async with serve_bytes(b"", heads) as url:
        with pytest.raises(EksNoAnswer):
            await make_eks(endpoint_url=url).cancel_update(
                UpdateRef(ClusterRef(ACCOUNT, REGION, "blue"), "u-1"),
                on_behalf_of=CALLER,
                token=TOKEN,
                send_before=NEVER,
            )
    (head,) = heads
    user_agent = f"User-Agent: eksgateway Boto3/{boto3.__version__} Botocore/{botocore.__version__}\r\n"
    assert user_agent.encode() in head


async def test_a_proxy_that_hangs_up_is_no_answer_and_one_out_of_reach_is_not_reached() -> None:
    """botocore raises ProxyConnectionError for both."""

    def send(proxy: str) -> EksError:
        request = AWSRequest("GET", "http://eks.invalid/").prepare()
        with pytest.raises(aws.ProxyConnectionError) as raised:
            URLLib3Session(proxies={"http": proxy}).send(request)
        return translate(raised.value, "CancelUpdate", EksNoAnswer)

    async with serve_bytes(b"") as url:
        assert type(await asyncio.to_thread(send, url)) is EksNoAnswer
    assert type(await asyncio.to_thread(send, url)) is EksNotReached


def rollback(simulated_eks: SimulatedEks) -> UpdateRef:
    """A cancellable update."""
    return simulated_eks.ref("blue", simulated_eks.rollback("blue"))


def make_session(refresh: Callable[[], dict[str, str]]) -> boto3.Session:
    """A session whose credentials come from ``refresh`` at their first use."""
    made = session()
    credentials = RefreshableCredentials("", "", "", datetime.now(UTC), refresh, "test")
    made._session._credentials = credentials  # type: ignore[attr-defined] # noqa: SLF001 - botocore's seam for this
    return made


@asynccontextmanager
async def serve_bytes(answer: bytes, heads: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server that sends these bytes for any request and hangs up; ``heads`` gets the requests."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head)
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                await reader.readexactly(int(line.split(b":")[1]))
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
