"""Which errors are retried, and after how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from grpc_status import rpc_status

from eksgateway import errors
from eksgateway.client.addresses import AddressFault
from eksgateway.client.errors import ErrorDetails
from eksgateway.client.retries import Credentials, Retries, Timing, is_retryable
from eksgateway.rpc.error_status import status_of
from support.clock import FakeClock

LEAVES = sorted(errors.BY_REASON.items())
RETRIED = {
    *("DECISION_STALE", "DRAINING", "EKS_THROTTLED", "EKS_UNAVAILABLE", "IDENTITY_UNAVAILABLE"),
    *("LEDGER_UNAVAILABLE", "OUTCOME_UNKNOWN", "OUTCOME_UNRECORDED", "OVERLOADED", "POLICY_UNAVAILABLE"),
    *("POLICY_UNDEFINED", "WATCHER_TOO_SLOW"),
}


def error_of(error: errors.GatewayError) -> grpc.aio.AioRpcError:
    """The error as a client receives it."""
    status = rpc_status.to_status(status_of(error))
    return grpc.aio.AioRpcError(
        status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing_metadata), details=status.details
    )


def transport_error(code: grpc.StatusCode, details: str = "from a proxy") -> grpc.aio.AioRpcError:
    """An error without the gateway's details."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


class Delays:
    """Records the delays, which take no time; jitter is ``chance`` of its maximum."""

    def __init__(self, chance: float = 1.0) -> None:
        self.slept: list[float] = []
        self.clock = FakeClock()
        self.timing = Timing(sleep=self._sleep, random=lambda: chance, monotonic=self.clock.monotonic)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.clock.advance(seconds)


Make = Callable[..., Retries]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes Retries for a channel that has not connected."""
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        yield lambda timing, credentials=None, **more: Retries(channel, credentials, timing, **more)


@pytest.mark.parametrize(("reason", "kind"), LEAVES, ids=[reason for reason, _ in LEAVES])
async def test_gateway_errors_that_may_pass_are_retried(
    make: Make, reason: str, kind: type[errors.GatewayError]
) -> None:
    retry = 1.0 if reason == "EKS_THROTTLED" else None  # the adapter always sets one
    error = error_of(kind(retry_after=retry))
    assert ErrorDetails.of(error).reason == reason
    assert is_retryable(ErrorDetails.of(error)) is (reason in RETRIED)
    retries = make(Delays().timing)
    if reason in RETRIED:
        await retries.wait_for_retry(error)
    else:
        with pytest.raises(grpc.aio.AioRpcError):
            await retries.wait_for_retry(error)


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
async def test_transport_errors_are_retried_and_refusals_of_proxies_are_not(
    make: Make, code: grpc.StatusCode
) -> None:
    retries = make(Delays().timing)
    if code.name in ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"):
        await retries.wait_for_retry(transport_error(code))
    else:
        with pytest.raises(grpc.aio.AioRpcError):
            await retries.wait_for_retry(transport_error(code))


async def test_unknown_reason_is_retried_by_its_status(make: Make) -> None:
    class TooNew(errors.Unavailable):
        reason = "TOO_NEW"

    class TooNewToo(errors.FailedPrecondition):
        reason = "TOO_NEW_TOO"

    retries = make(Delays().timing)
    await retries.wait_for_retry(error_of(TooNew("one")))
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.wait_for_retry(error_of(TooNewToo("two")))


async def test_delays_double_up_to_the_longest_and_restart_after_a_success(make: Make) -> None:
    delays = Delays()
    retries = make(delays.timing)
    for _ in range(8):
        await retries.wait_for_retry(transport_error(grpc.StatusCode.UNAVAILABLE))
    assert delays.slept == [0.5, 1, 2, 4, 8, 16, 30, 30]
    retries.record_success()
    await retries.wait_for_retry(None)
    assert delays.slept[-1] == 0.5


async def test_jitter_may_be_zero(make: Make) -> None:
    """Clients that lost one gateway together should not reconnect together."""
    delays = Delays(chance=0)
    await make(delays.timing).wait_for_retry(None)
    assert delays.slept == [0]


async def test_many_failures_do_not_overflow_the_delay(make: Make) -> None:
    delays = Delays(chance=0.5)
    retries = make(delays.timing)
    for _ in range(2000):
        await retries.wait_for_retry(transport_error(grpc.StatusCode.UNAVAILABLE))
    assert delays.slept[-1] == 15


async def test_jitter_is_added_to_the_requested_delay(make: Make) -> None:
    delays = Delays()
    await make(delays.timing).wait_for_retry(error_of(errors.Draining(retry_after=7.5)))
    assert delays.slept == [8.0]


async def test_last_delay_is_cut_to_fit_an_attempt_into_the_timeout(make: Make) -> None:
    """After the last attempt, of a second, its error is raised."""
    delays = Delays()
    retries = make(delays.timing, timeout=20)
    for _ in range(6):
        await retries.wait_for_retry(transport_error(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.wait_for_retry(transport_error(grpc.StatusCode.UNAVAILABLE))
    assert delays.slept == [0.5, 1, 2, 4, 8, pytest.approx(3.5)]


async def test_requested_delay_beyond_the_timeout_raises_at_once(make: Make) -> None:
    delays = Delays()
    with pytest.raises(grpc.aio.AioRpcError):
        await make(delays.timing, timeout=20).wait_for_retry(error_of(errors.Overloaded(retry_after=19.5)))
    assert delays.slept == []


async def test_expired_token_is_renewed_once_per_success(make: Make) -> None:
    delays, refusal = Delays(), error_of(errors.CredentialsExpired())
    tokens = iter(["first", "second", "third", "fourth", "fifth"])
    retries = make(delays.timing, lambda: next(tokens))
    assert await retries.metadata() == (("authorization", "Bearer first"),)
    await retries.wait_for_retry(refusal)
    assert await retries.metadata() == (("authorization", "Bearer second"),)
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.wait_for_retry(refusal)
    retries.record_success()
    assert await retries.metadata() == (("authorization", "Bearer third"),)
    await retries.wait_for_retry(refusal)
    assert len(delays.slept) == 2


@pytest.mark.parametrize("kind", [errors.CredentialsExpired, errors.CredentialsInvalid])
async def test_unchanged_credentials_are_not_retried(make: Make, kind: type[errors.GatewayError]) -> None:
    retries = make(Delays().timing, lambda: "always this")
    await retries.metadata()
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.wait_for_retry(error_of(kind()))


async def test_missing_credentials_are_not_retried(make: Make) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await make(Delays().timing).wait_for_retry(error_of(errors.CredentialsMissing()))


FAULTS = {
    "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED": "no CA in this",
    "errors resolving nowhere.invalid:1: [hostname lookup error]": "name is not known",
    "failed to connect; last error: Socket closed": "found by probing",
}


@pytest.mark.parametrize("details", FAULTS, ids=["tls", "name", "probing"])
async def test_wrong_address_raises_with_a_hint_after_three_attempts(make: Make, details: str) -> None:
    delays = Delays()
    retries = make(delays.timing, find_fault=_certain_fault)
    error = transport_error(grpc.StatusCode.UNAVAILABLE, details)
    await retries.wait_for_retry(error)
    await retries.wait_for_retry(error)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await retries.wait_for_retry(error)
    assert FAULTS[details] in raised.value.__notes__[0]


@pytest.mark.parametrize("details", FAULTS, ids=["tls", "name", "probing"])
async def test_address_that_worked_before_is_retried(make: Make, details: str) -> None:
    """Its name or certificate may be missing for a while, as in a restart."""
    retries = make(Delays().timing, find_fault=_certain_fault)
    retries.record_success()
    for _ in range(100):
        await retries.wait_for_retry(transport_error(grpc.StatusCode.UNAVAILABLE, details))


async def _certain_fault() -> AddressFault:
    return AddressFault("found by probing", certain=True)


async def test_uncertain_fault_raises_after_seven_attempts(make: Make) -> None:
    async def guess() -> AddressFault:
        return AddressFault("may be it", certain=False)

    retries = make(Delays().timing, find_fault=guess)
    for _ in range(6):
        await retries.wait_for_retry(transport_error(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.wait_for_retry(transport_error(grpc.StatusCode.UNAVAILABLE, "Socket closed"))


async def test_refused_connections_are_retried_without_end(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A hint is logged once if no gateway has answered so far."""
    for reached, hints in ((False, 1), (True, 0)):
        caplog.clear()
        retries = make(Delays().timing, find_fault=_certain_fault)
        if reached:
            retries.record_success()
        for _ in range(100):
            await retries.wait_for_retry(
                transport_error(grpc.StatusCode.UNAVAILABLE, "Failed to connect: Connection refused")
            )
        assert [each.levelname for each in caplog.records].count("WARNING") == hints


@pytest.mark.parametrize("token", ["t\u00f6ken", "two\nlines", "nul\0"])
async def test_token_that_cannot_be_sent_is_an_error(make: Make, token: str) -> None:
    """grpc's own error would not name the token."""
    with pytest.raises(ValueError, match="no bearer token"):
        await make(Timing(), lambda: token).metadata()


def _later(token: str) -> Awaitable[str]:
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    done.set_result(token)
    return done


@pytest.mark.parametrize(
    ("credentials", "metadata"),
    [
        pytest.param(None, (), id="none"),
        pytest.param(lambda: "abc", (("authorization", "Bearer abc"),), id="a function"),
        pytest.param(lambda: _later("abc"), (("authorization", "Bearer abc"),), id="one that delays"),
        pytest.param(lambda: "abc\n", (("authorization", "Bearer abc"),), id="the line of a file"),
    ],
)
async def test_metadata_has_the_token_of_the_credentials(
    make: Make, credentials: Credentials | None, metadata: tuple[tuple[str, str], ...]
) -> None:
    assert await make(Timing(), credentials).metadata() == metadata
